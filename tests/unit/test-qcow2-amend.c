/* SPDX-License-Identifier: MIT */
/*
 * Amendments and the backing file's name, through the library: what is refused, what writes
 * nothing, what a failure in the middle of a rewrite of the header leaves, and a cancel.
 */
#include "mem-driver.h"
#include "mem-image.h"

#include "block/qcow2/header-layout.h"

#include <errno.h>
#include <string.h>

static MemImage im;
static BlockBackend *blk;

static void setup(void)
{
    im = (MemImage){ .cluster_bits = 12, .refcount_order = 4, .size = MiB };
    mem_image_init(&im);
    blk = mem_image_open(&im, NULL);
}

static void teardown(void)
{
    blk_close(blk);
    mem_image_clear(&im);
}

/* What the file says. */
static void assert_names(const char *file, const char *format)
{
    Qcow2Header h;

    g_assert_cmpint(qcow2_header_parse(&h, last_mem->data, 4096, MEM_CAPACITY, BLK_O_RDWR, NULL),
                    ==, 0);
    g_assert_cmpstr(h.backing_file, ==, file);
    g_assert_cmpstr(h.backing_format, ==, format);
    qcow2_header_clear(&h);
}

static void expect_backing(const char *file, const char *format, int ret)
{
    GError *err = NULL;

    g_assert_cmpint(blk_change_backing_file(blk, file, format, &err), ==, ret);
    g_assert_true((ret < 0) == (err != NULL));
    g_clear_error(&err);
}

static void test_backing(void)
{
    g_autofree char *longest = g_strnfill(1023, 'l'), *longer = g_strnfill(1024, 'm');

    setup();
    expect_backing("base", "raw", 0);
    assert_names("base", "raw");
    g_assert_cmpstr(blk_node_facts(blk_bs(blk)).backing_file, ==, "base");
    expect_backing(longest, NULL, 0);
    assert_names(longest, NULL);
    expect_backing(longer, NULL, -EINVAL);
    expect_backing(NULL, "raw", -EINVAL);
    expect_backing("x", "a-format-of-sixteen", -EINVAL);
    assert_names(longest, NULL);
    expect_backing(NULL, NULL, 0);
    assert_names(NULL, NULL);
    g_assert_null(blk_node_facts(blk_bs(blk)).backing_file);
    /* Nothing of what was there stays behind. */
    for (size_t i = HEADER_SECTOR + 100; i < 4096; i++) {
        g_assert_cmpuint(last_mem->data[i], ==, 0);
    }
    teardown();
}

static void write_and_flush(int ret)
{
    uint8_t buf[512] = { 1 };

    g_assert_cmpint(blk_pwrite(blk, 0, sizeof(buf), buf, 0), ==, ret);
    if (ret == 0) {
        g_assert_cmpint(blk_flush(blk), ==, 0);
    }
}

/* The header is what memory says when a flush has ended well. */
static void test_doubt(void)
{
    g_autofree char *name = g_strnfill(900, 'n');
    int ret = -1;

    setup();
    expect_backing("base", "raw", 0);
    for (int n = 1; ret < 0; n++) { /* each write fails in turn */
        last_mem->fail_nth_write = n;
        ret = blk_change_backing_file(blk, name, "qcow2", NULL);
        g_assert_true((ret == 0) == (last_mem->fail_nth_write > 0));
        last_mem->fail_nth_write = 0;
        write_and_flush(0);
        assert_names(blk_node_facts(blk_bs(blk)).backing_file,
                     blk_node_facts(blk_bs(blk)).backing_format);
        expect_backing("base", "raw", 0);
        assert_names("base", "raw");
    }
    teardown();
}

/* Only a failed sync ends all writing. */
static void test_sync(void)
{
    setup();
    write_and_flush(0);
    last_mem->fail_syncs = 1;
    expect_backing("base", "raw", -EIO);
    last_mem->fail_syncs = 0;
    g_assert_null(blk_node_facts(blk_bs(blk)).backing_file);
    write_and_flush(-EIO);
    teardown();
}

static bool never(double done, void *opaque)
{
    g_assert_true(done >= 0 && done <= 1);
    return false;
}

static int amend(const char *options, BlockProgressFunc *progress, GError **errp)
{
    BlockAmend how = { .progress = progress };
    Options *o = opts_new();

    g_assert_true(opts_parse(o, options, NULL, NULL));
    return blk_amend(blk, o, &how, errp);
}

static void expect_refused(const char *options, int ret, const char *message)
{
    GError *err = NULL;
    int writes = last_mem->writes;

    g_assert_cmpint(amend(options, NULL, &err), ==, ret);
    g_assert_cmpstr(err->message, ==, message);
    g_assert_cmpint(last_mem->writes, ==, writes);
    g_clear_error(&err);
}

static void test_refused(void)
{
    setup();
    expect_refused("size=2M,nonsense=1", -EINVAL, "Invalid parameter 'nonsense'");
    expect_refused("preallocation=full", -EINVAL,
                   "Invalid parameter 'preallocation'\n"
                   "This option is only supported for image creation");
    expect_refused("lazy_refcounts=on,size=513", -EINVAL, "The new size must be a multiple of 512");
    expect_refused("lazy_refcounts=on,compat=0.10", -EINVAL,
                   "Lazy refcounts only supported with compatibility level 1.1 and above (use "
                   "compat=1.1 or greater)");
    teardown();
}

static void test_nothing(void)
{
    int writes;

    setup();
    writes = last_mem->writes;
    g_assert_cmpint(amend("compat=v3,lazy_refcounts=off,size=1M,refcount_bits=16", never, NULL), ==,
                    0);
    g_assert_cmpint(last_mem->writes, ==, writes);
    teardown();
}

static void test_cancel(void)
{
    GError *err = NULL;
    uint64_t order;

    setup();
    write_and_flush(0);
    g_assert_cmpint(amend("refcount_bits=32", never, &err), ==, -ECANCELED);
    g_clear_error(&err);
    order = mem_image_qcow2(blk)->hdr.refcount_order;
    g_assert_cmpuint(order, ==, 4);
    write_and_flush(0);
    g_assert_cmpint(amend("refcount_bits=32,lazy_refcounts=on", NULL, NULL), ==, 0);
    order = mem_image_qcow2(blk)->hdr.refcount_order;
    g_assert_cmpuint(order, ==, 5);
    g_assert_true(mem_image_qcow2(blk)->lazy_refcounts);
    write_and_flush(0);
    teardown();
}

/* What is open does as the image says. */
static void test_lazy(void)
{
    setup();
    g_assert_cmpint(amend("lazy_refcounts=on", NULL, NULL), ==, 0);
    write_and_flush(0);
    g_assert_cmpuint(last_mem->data[HEADER_AT(incompatible) + 7] & 1, ==, 1);
    g_assert_cmpint(amend("lazy_refcounts=off", NULL, NULL), ==, 0);
    g_assert_cmpuint(last_mem->data[HEADER_AT(incompatible) + 7] & 1, ==, 0);
    g_assert_cmpint(blk_pdiscard(blk, 0, 4096), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpuint(last_mem->data[HEADER_AT(incompatible) + 7] & 1, ==, 0);
    g_assert_cmpint(amend("compat=0.10", NULL, NULL), ==, 0);
    g_assert_cmpint(last_mem->data[HEADER_AT(version) + 3], ==, 2);
    write_and_flush(0);
    teardown();
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/amend/backing", test_backing);
    g_test_add_func("/qcow2/amend/doubt", test_doubt);
    g_test_add_func("/qcow2/amend/sync", test_sync);
    g_test_add_func("/qcow2/amend/refused", test_refused);
    g_test_add_func("/qcow2/amend/nothing", test_nothing);
    g_test_add_func("/qcow2/amend/cancel", test_cancel);
    g_test_add_func("/qcow2/amend/lazy", test_lazy);
    return g_test_run();
}
