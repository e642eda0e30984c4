/* SPDX-License-Identifier: MIT */
/*
 * Drivers from outside of the tree: one that comes in a module, which tables are taken, and what is
 * filled in.
 */
/* Shows INV-REG-1. */
#include "dummy-driver.h"
#include "open-opts.h"

#include "block/backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

static const BlockDriver *dummy; /* the module's table */

static BlockDriver named(const char *name)
{
    BlockDriver d = *dummy;

    d.format_name = name;
    d.protocol_name = NULL;
    return d;
}

static void expect_byte(BlockBackend *blk, int64_t offset, uint8_t want)
{
    uint8_t b = 0;

    g_assert_cmpint(blk_pread(blk, offset, 1, &b, 0), ==, 0);
    g_assert_cmphex(b, ==, want);
}

/* ---- What is taken ---- */

static void expect_refused(const BlockDriver *d, const char *text)
{
    GError *err = NULL;

    g_assert_false(block_register_driver(d, &err));
    g_assert_nonnull(err);
    g_assert_cmpstr(err->message, ==, text);
    g_error_free(err);
}

static void test_refused(void)
{
    BlockDriver d = named("x");

    d.version = BLOCK_DRIVER_VERSION + 1;
    expect_refused(&d,
                   "The block driver was built for version 4 of the driver interface, not for 3");
    d = named("x");
    d.table_size = sizeof(d) + 8;
    expect_refused(&d, "The block driver was built for a later release");
    d.table_size = offsetof(BlockDriver, format_name);
    expect_refused(&d, "The block driver's table is too short");
    d = named("");
    expect_refused(&d, "A block driver needs a name");
    d = named("qcow2");
    expect_refused(&d, "There is a block driver 'qcow2' already");
    d = named("x");
    d.protocol_name = "file";
    expect_refused(&d, "There is a block driver 'x' already");
    d = named("x");
    d.co_open = NULL;
    expect_refused(&d, "Block driver 'x' cannot open anything");
    d = named("x");
    d.co_preadv = NULL;
    expect_refused(&d, "Block driver 'x' cannot read");
    d = named("x");
    d.co_pwritev = NULL;
    expect_refused(&d, "Block driver 'x' cannot write and does not say that it is read-only");
    d = named("x");
    d.read_only = true;
    expect_refused(&d, "Block driver 'x' says that it is read-only, and can write");
    g_assert_null(bdrv_find_format("x"));
}

static void expect_complete(const char *name)
{
    const BlockDriver *d = bdrv_find_format(name);

    g_assert_nonnull(d);
    for (size_t at = offsetof(BlockDriver, probe); at < sizeof(*d); at += sizeof(void *)) {
        void *p;

        memcpy(&p, (const char *)d + at, sizeof(p));
        if (!p) {
            g_test_message("driver '%s', byte %zu of its table", name, at);
        }
        g_assert_nonnull(p);
    }
}

static void test_no_callback_is_null(void)
{
    BlockDriver filter = named("bare-filter"), format = named("bare-format");
    BlockDriver protocol = named("bare-protocol"), reader = named("bare-reader");
    g_auto(GStrv) names = NULL;

    filter.is_filter = true;
    filter.co_preadv = NULL;
    filter.co_pwritev = NULL;
    filter.co_getlength = NULL;
    format.is_format = true;
    format.co_getlength = NULL;
    protocol.protocol_name = "bare-protocol";
    reader.co_pwritev = NULL;
    reader.read_only = true;
    g_assert_true(block_register_driver(&filter, NULL));
    g_assert_true(block_register_driver(&format, NULL));
    g_assert_true(block_register_driver(&protocol, NULL));
    g_assert_true(block_register_driver(&reader, NULL));
    names = blk_format_names();
    g_assert_cmpuint(g_strv_length(names), >=, 12);
    for (char **n = names; *n; n++) {
        expect_complete(*n);
    }
}

/* One that was built when the table was shorter. */
static void test_short_table(void)
{
    BlockDriver d = named("short");
    g_autoptr(BlockBackend) blk = NULL;

    d.table_size = offsetof(BlockDriver, co_pdiscard);
    d.co_getlength = NULL; /* beyond: not there */
    memset((char *)&d + d.table_size, 0xff, sizeof(d) - d.table_size);
    g_assert_true(block_register_driver(&d, NULL));
    expect_complete("short");
    blk = open_opts("driver=short", 0);
    g_assert_cmpint(blk_getlength(blk), ==, 0);
}

/* ---- What is filled in ---- */

static void test_read_only(void)
{
    BlockDriver d = named("reader");
    g_autoptr(BlockBackend) blk = NULL;
    Options *o = opts_new();
    GError *err = NULL;

    d.co_pwritev = NULL;
    d.read_only = true;
    g_assert_true(block_register_driver(&d, NULL));
    opts_set(o, "driver", "reader");
    g_assert_null(blk_open(NULL, o, BLK_O_RDWR, &err));
    g_assert_nonnull(err);
    g_assert_cmpstr(err->message, ==, "Driver 'reader' can only be used for read-only devices");
    g_error_free(err);
    blk = open_opts("driver=reader", 0);
    expect_byte(blk, 0, 0xd5);
    g_assert_cmpint(blk_pwrite(blk, 0, 1, "x", 0), ==, -EPERM);
    g_assert_cmpint(blk_pdiscard(blk, 0, 4096), ==, -EPERM);
}

static void test_protocol(void)
{
    g_autoptr(BlockBackend) blk = open_opts("driver=dummy", BLK_O_RDWR | BLK_O_UNMAP);
    BlockCheckResult res = { 0 };
    BlockDriverInfo info;
    GError *err = NULL;
    int64_t n;

    g_assert_cmpint(blk_pwrite_zeroes(blk, 512, 1024, 0), ==, 0); /* written */
    expect_byte(blk, 511, 0xd5);
    expect_byte(blk, 512, 0);
    expect_byte(blk, 1536, 0xd5);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 512, BLK_REQ_NO_FALLBACK), ==, -ENOTSUP);
    g_assert_cmpint(blk_pdiscard(blk, 4096, 4096), ==, 0); /* left as it is */
    expect_byte(blk, 4096, 0xd5);
    g_assert_cmpint(blk_block_status_above(blk, NULL, NULL, 0, 65536, &n, NULL, NULL, NULL), ==,
                    BLK_DATA | BLK_ALLOCATED | BLK_OFFSET_VALID | BLK_EOF);
    g_assert_cmpint(n, ==, 65536);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, -ENOTSUP);
    g_assert_cmpint(blk_get_info(blk_bs(blk), &info), ==, -ENOTSUP);
    g_assert_cmpint(blk_allocated_size(blk_bs(blk)), ==, -ENOTSUP);
    g_assert_cmpint(blk_debug_resume(blk, "x"), ==, -ENOTSUP);
    g_assert_false(blk_debug_is_suspended(blk, "x"));
    g_assert_false(blk_unwritten_reads_zero(blk_bs(blk)));
    g_assert_cmpint(blk_truncate(blk, 4096, true, BLK_PREALLOC_OFF, 0, &err), ==, -ENOTSUP);
    g_assert_cmpstr(err->message, ==, "Image format driver does not support resize");
    g_error_free(err);
}

static int coroutine_fn filter_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, true, errp);
    return 0;
}

static int writes;

static int coroutine_fn filter_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                          unsigned flags)
{
    writes++;
    return bdrv_co_pwritev(bs->file, offset, v, flags);
}

/* A filter that sees writes sees all that changes the disk. */
static void test_filter_that_writes(void)
{
    BlockDriver d = { BLOCK_DRIVER_TABLE, .format_name = "watch", .is_filter = true };
    BlockBackend *blk;
    int64_t n;

    d.co_open = filter_co_open;
    d.co_pwritev = filter_co_pwritev;
    g_assert_true(block_register_driver(&d, NULL));
    blk = open_opts("driver=watch,file.driver=dummy", BLK_O_RDWR | BLK_O_UNMAP);
    writes = 0;
    g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 512, BLK_REQ_MAY_UNMAP), ==, 0);
    g_assert_cmpint(writes, ==, 1);
    g_assert_cmpint(blk_pdiscard(blk, 512, 512), ==, 0);
    expect_byte(blk, 0, 0);
    expect_byte(blk, 512, 0xd5);
    g_assert_cmpint(blk_getlength(blk), ==, 65536);
    g_assert_cmpint(blk_block_status_above(blk, NULL, NULL, 0, 65536, &n, NULL, NULL, NULL), ==,
                    BLK_DATA | BLK_ALLOCATED | BLK_OFFSET_VALID | BLK_EOF);
    g_assert_cmpint(blk_close(blk), ==, 0);
}

static void test_filter_without_file(void)
{
    BlockDriver d = { BLOCK_DRIVER_TABLE, .format_name = "empty", .is_filter = true };
    Options *o = opts_new();
    GError *err = NULL;

    d.co_open = filter_co_open;
    g_assert_true(block_register_driver(&d, NULL));
    opts_set(o, "driver", "empty");
    opts_set(o, "node-name", "n"); /* else there is nothing to open */
    g_assert_null(blk_open(NULL, o, 0, &err));
    g_assert_nonnull(err);
    g_assert_cmpstr(err->message, ==, "Filter 'empty' has opened no file");
    g_error_free(err);
}

/* ---- A module ---- */

static const BlockDriver *load(const char *path)
{
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const BlockDriver *table;

    if (!module) {
        g_test_message("%s", dlerror());
    }
    g_assert_nonnull(module);
    table = dlsym(module, "dummy_driver");
    g_assert_nonnull(table);
    return table;
}

static void test_module(void)
{
    g_assert_true(block_register_driver(dummy, NULL));
    expect_complete("dummy");
    test_protocol();
    expect_refused(dummy, "There is a block driver 'dummy' already");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    dummy = load(DUMMY_MODULE);
    g_test_add_func("/driver/module", test_module); /* first: it brings what the others use */
    g_test_add_func("/driver/refused", test_refused);
    g_test_add_func("/driver/no-callback-is-null", test_no_callback_is_null);
    g_test_add_func("/driver/short-table", test_short_table);
    g_test_add_func("/driver/read-only", test_read_only);
    g_test_add_func("/driver/filter-that-writes", test_filter_that_writes);
    g_test_add_func("/driver/filter-without-file", test_filter_without_file);
    return g_test_run();
}
