/* SPDX-License-Identifier: MIT */
/*
 * Other options for an open image: all nodes or none, children before parents, with the locks on
 * the file held all the time; a refusal at any point leaves the image as it was; a dirty image that
 * becomes writable is rebuilt before its first change.
 */
/* Shows INV-REOPEN-1, INV-REOPEN-2. */
#include "block/backend.h"
#include "block/driver.h"
#include "block/io.h"
#include "open-opts.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *path;
static GString *said; /* what the watching filters were asked, in order */
static char refuses;  /* the one that refuses to prepare */

/* ---- watch: a filter that says what it is asked, and looks at the locks ---- */

typedef struct Watch {
    char name;
    bool lazy;
} Watch;

/* The file's lock byte @byte is taken by somebody else than this descriptor. */
static bool is_locked(int64_t byte)
{
    struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    int fd = open(path, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fcntl(fd, F_OFD_GETLK, &fl), ==, 0);
    close(fd);
    return fl.l_type != F_UNLCK;
}

/* Somebody writes. */
static void check_locked(void)
{
    g_assert_true(is_locked(101));
}

static int coroutine_fn watch_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "name");

    ((Watch *)bs->opaque)->name = name[0];
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    return bs->file ? 0 : -EINVAL;
}

static void say(BlockDriverState *bs, const char *what)
{
    g_string_append_printf(said, "%s%c ", what, ((Watch *)bs->opaque)->name);
    check_locked();
}

static int coroutine_fn watch_co_reopen_prepare(BlockDriverState *bs, Options *o, int flags,
                                                void **state, GError **errp)
{
    say(bs, "prepare-");
    if (((Watch *)bs->opaque)->name == refuses) {
        return error_set(errp, EBUSY, "not now");
    }
    *state = bs;
    return 0;
}

static void watch_reopen_commit(BlockDriverState *bs, void *state)
{
    g_assert_true(state == bs);
    say(bs, "commit-");
}

static void watch_reopen_abort(BlockDriverState *bs, void *state)
{
    g_assert_true(state == bs);
    say(bs, "abort-");
}

static const BlockDriver watch = {
    BLOCK_DRIVER_TABLE,
    .format_name = "watch",
    .instance_size = sizeof(Watch),
    .is_filter = true,
    .co_open = watch_co_open,
    .co_reopen_prepare = watch_co_reopen_prepare,
    .reopen_commit = watch_reopen_commit,
    .reopen_abort = watch_reopen_abort,
};

/* ---- The image: watch a, qcow2, watch b, file ---- */

static BlockBackend *open_image(int flags)
{
    g_autofree char *o =
        g_strdup_printf("driver=watch,name=a,file.driver=qcow2,file.file.driver=watch,"
                        "file.file.name=b,file.file.file.driver=file,file.file.file.filename=%s",
                        path);

    g_string_truncate(said, 0);
    refuses = 0;
    return open_opts(o, flags);
}

/* @driver over the file alone. */
static BlockBackend *open_plain(const char *driver, int flags)
{
    g_autofree char *o =
        g_strdup_printf("driver=%s,file.driver=file,file.filename=%s", driver, path);

    return open_opts(o, flags);
}

static void create(const char *more)
{
    Options *o = opts_new();
    int fd = g_file_open_tmp("reopen-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    opts_set(o, "size", "1M");
    if (more) {
        g_assert_true(opts_parse(o, more, NULL, NULL));
    }
    g_assert_cmpint(blk_create(path, "qcow2", o, NULL), >=, 0);
    said = g_string_new(NULL);
}

static void forget(void)
{
    g_unlink(path);
    g_clear_pointer(&path, g_free);
    g_string_free(said, TRUE);
}

static bool reopen(BlockBackend *blk, const char *options, GError **errp)
{
    Options *o = opts_new();

    g_assert_true(opts_parse(o, options, NULL, NULL));
    return blk_reopen(blk, o, errp);
}

static void check_write(BlockBackend *blk, int expected)
{
    uint8_t byte = 7;

    g_assert_cmpint(blk_pwrite(blk, 5, 1, &byte, 0), ==, expected);
}

static void test_commit(void)
{
    GError *err = NULL;
    BlockBackend *blk;

    create(NULL);
    blk = open_image(BLK_O_RDWR);
    check_write(blk, 0);
    g_assert_true(reopen(blk, "file.lazy-refcounts=on,file.l2-cache-size=64k", &err));
    g_assert_no_error(err);
    g_assert_cmpstr(said->str, ==, "prepare-b prepare-a commit-b commit-a ");
    check_write(blk, 0);
    /* Another descriptor; where the file system has no O_DIRECT, none. */
    g_assert_true(reopen(blk, "file.file.file.cache.direct=on", &err) ||
                  strstr(err->message, "does not support O_DIRECT"));
    g_clear_error(&err);
    check_write(blk, 0);
    check_locked();
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

/* Whoever refuses: those before it abort, those after it are not asked; nothing has changed. */
static void test_abort(void)
{
    static const struct {
        char who;
        const char *options, *said;
    } cases[] = {
        { 'b', "read-only=on", "prepare-b " },
        { 'a', "read-only=on", "prepare-b prepare-a abort-b " },
        { 0, "read-only=on,file.lazy-refcounts=perhaps", "prepare-b abort-b " },
        { 0, "read-only=on,nonesuch=1", "prepare-b prepare-a abort-b abort-a " },
        { 0, "read-only=on,file.file.nonesuch=1", "prepare-b abort-b " },
    };
    BlockBackend *blk;

    create(NULL);
    blk = open_image(BLK_O_RDWR);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) err = NULL;

        g_string_truncate(said, 0);
        refuses = cases[i].who;
        g_assert_false(reopen(blk, cases[i].options, &err));
        g_assert_nonnull(err);
        g_assert_cmpstr(said->str, ==, cases[i].said);
        g_assert_true(blk_is_writable(blk));
        check_write(blk, 0);
    }
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

/* Read-only and back; the same file, and what was written is there. */
static void test_access(void)
{
    GError *err = NULL;
    BlockBackend *blk;
    uint8_t byte = 0;

    create(NULL);
    blk = open_plain("qcow2", BLK_O_RDWR);
    check_write(blk, 0);
    for (int i = 0; i < 3; i++) {
        g_assert_true(reopen(blk, "read-only=on", &err));
        g_assert_no_error(err);
        g_assert_false(blk_is_writable(blk));
        check_write(blk, -EPERM);
        g_assert_true(reopen(blk, "read-only=off", &err));
        g_assert_no_error(err);
        check_write(blk, 0);
    }
    g_assert_cmpint(blk_pread(blk, 5, 1, &byte, 0), ==, 0);
    g_assert_cmpint(byte, ==, 7);
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

/* Another one holds the image for writing: it stays read-only, and readable. */
static void test_permission(void)
{
    g_autoptr(GError) err = NULL;
    BlockBackend *blk, *writer;
    uint8_t byte;

    create(NULL);
    blk = open_plain("qcow2", BLK_O_FORCE_SHARE);
    writer = open_plain("qcow2", BLK_O_RDWR);
    g_assert_false(reopen(blk, "read-only=off,force-share=off", &err));
    g_assert_nonnull(strstr(err->message, "Failed to get"));
    g_assert_false(blk_is_writable(blk));
    g_assert_true(blk_bs(blk)->read_only); /* it and what lies below */
    g_assert_true(blk_bs(blk)->file->bs->read_only);
    g_assert_false(blk_bs(blk)->open_flags & BLK_O_RDWR);
    g_assert_cmpint(blk_pread(blk, 5, 1, &byte, 0), ==, 0);
    check_write(writer, 0);
    g_assert_cmpint(blk_close(writer), ==, 0);
    g_clear_error(&err);
    g_assert_true(reopen(blk, "read-only=off,force-share=off", &err));
    check_write(blk, 0);
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

/* Who may write and not resize may not resize afterwards, either. */
static void test_no_more(void)
{
    GError *err = NULL;
    BlockBackend *blk;

    create(NULL);
    blk = open_plain("raw", BLK_O_RDWR);
    g_assert_true(is_locked(101) && !is_locked(103));
    g_assert_true(reopen(blk, "discard=unmap", &err));
    g_assert_no_error(err);
    g_assert_true(is_locked(101) && !is_locked(103));
    g_assert_true(reopen(blk, "read-only=on", &err));
    g_assert_true(!is_locked(101) && !is_locked(103));
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

static bool is_dirty(BlockBackend *blk)
{
    BlockDriverInfo info = { 0 };

    g_assert_cmpint(blk_get_info(blk_bs(blk), &info), ==, 0);
    return info.is_dirty;
}

/* An image that a crash left dirty, opened for reading: its counts are made anew by the first
 * change, not by the reopen. */
static void test_dirty(void)
{
    BlockCheckResult res = { 0 };
    GError *err = NULL;
    BlockBackend *blk;
    uint8_t dirty = 1;
    int fd;

    create("lazy_refcounts=on");
    fd = open(path, O_RDWR);
    g_assert_cmpint(pwrite(fd, &dirty, 1, 79), ==, 1); /* the dirty bit */
    close(fd);
    blk = open_plain("qcow2,lazy-refcounts=off", 0);
    g_assert_true(is_dirty(blk));
    g_assert_true(reopen(blk, "read-only=off", &err));
    g_assert_no_error(err);
    g_assert_true(is_dirty(blk));
    check_write(blk, 0);
    g_assert_false(is_dirty(blk));
    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks, ==, 0);
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

/* A window moves, and who watches the length hears of it. */
static void resized(void *opaque)
{
    ++*(int *)opaque;
}

static void test_window(void)
{
    GError *err = NULL;
    BlockBackend *blk;
    int times = 0;

    create(NULL);
    blk = open_plain("raw", BLK_O_RDWR);
    blk_set_resize_callback(blk, resized, &times);
    g_assert_true(reopen(blk, "offset=512,size=1024", &err));
    g_assert_no_error(err);
    g_assert_cmpint(blk_getlength(blk), ==, 1024);
    g_assert_cmpint(times, ==, 1);
    g_assert_true(g_str_has_prefix(blk_node_facts(blk_bs(blk)).filename, "json:"));
    g_assert_false(reopen(blk, "size=1G", &err));
    g_clear_error(&err);
    g_assert_cmpint(blk_getlength(blk), ==, 1024);
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

/* ---- Beside requests of other threads ---- */

#define ROUNDS 150

typedef struct Worker {
    BlockBackend *blk;
    int64_t offset;
} Worker;

static gpointer work(gpointer opaque)
{
    Worker *w = opaque;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t at = w->offset + i % 8 * 4096;
        uint8_t out[4096], in[4096];

        memset(out, i + 1, sizeof(out));
        g_assert_cmpint(blk_pwrite(w->blk, at, sizeof(out), out, 0), ==, 0);
        if (i % 10 == 0) {
            g_assert_cmpint(blk_flush(w->blk), ==, 0);
        }
        g_assert_cmpint(blk_pread(w->blk, at, sizeof(in), in, 0), ==, 0);
        g_assert_cmpmem(out, sizeof(out), in, sizeof(in));
    }
    return NULL;
}

/* Caches and options come and go while they read and write; they notice nothing. */
static void test_beside(void)
{
    static const char *const options[] = {
        "l2-cache-size=4k,l2-cache-entry-size=512,lazy-refcounts=on",
        "l2-cache-size=1M,l2-cache-entry-size=4096,lazy-refcounts=off", "read-only=on",
        "read-only=off,refcount-cache-size=2k"
    };
    BlockCheckResult res = { 0 };
    GThread *threads[2];
    Worker workers[2];
    BlockBackend *blk;

    create("cluster_size=4k");
    blk = open_plain("qcow2", BLK_O_RDWR);
    for (int i = 0; i < 2; i++) {
        workers[i] = (Worker){ blk, i * 512 * KiB };
        threads[i] = g_thread_new("worker", work, &workers[i]);
    }
    for (int i = 0; i < 20; i++) { /* (not read-only: their writes would be refused) */
        GError *err = NULL;

        g_assert_true(reopen(blk, options[i % 2], &err));
        g_assert_no_error(err);
    }
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_assert_true(reopen(blk, options[i], NULL));
    }
    check_write(blk, 0);
    g_assert_cmpint(blk_check(blk, &res, 0, NULL, NULL), ==, 0);
    g_assert_cmpint(res.corruptions + res.leaks, ==, 0);
    g_assert_cmpint(blk_close(blk), ==, 0);
    forget();
}

int main(int argc, char **argv)
{
    g_assert_true(block_register_driver(&watch, NULL));
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reopen/commit", test_commit);
    g_test_add_func("/reopen/abort", test_abort);
    g_test_add_func("/reopen/access", test_access);
    g_test_add_func("/reopen/permission", test_permission);
    g_test_add_func("/reopen/no-more", test_no_more);
    g_test_add_func("/reopen/dirty", test_dirty);
    g_test_add_func("/reopen/window", test_window);
    g_test_add_func("/reopen/beside-requests", test_beside);
    return g_test_run();
}
