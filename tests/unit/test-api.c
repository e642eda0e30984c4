/* SPDX-License-Identifier: MIT */
/* The public API: create, open, blocking and asynchronous requests on a GMainContext. */
#include "cowlet/cowlet.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *dir;

static void test_blocking(void)
{
    g_autofree char *f = g_build_filename(dir, "a.qcow2", NULL);
    g_autoptr(GError) err = NULL;
    char buf[4096], back[4096], zero[4096] = { 0 };
    CowletImage *img;

    g_assert_true(cowlet_create(f, "qcow2", 1 << 30, "extended_l2=on", &err));
    g_assert_no_error(err);
    img = cowlet_open(f, NULL, COWLET_OPEN_READ_WRITE, &err);
    g_assert_no_error(err);
    g_assert_cmpint(cowlet_length(img), ==, 1 << 30);
    memset(buf, 'x', sizeof(buf));
    g_assert_cmpint(cowlet_write(img, 1 << 20, buf, sizeof(buf)), ==, 0);
    g_assert_cmpint(cowlet_read(img, 1 << 20, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(buf, sizeof(buf), back, sizeof(back));
    g_assert_cmpint(cowlet_flush(img), ==, 0);
    g_assert_cmpint(cowlet_close(img), ==, 0);

    img = cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, &err);
    g_assert_no_error(err);
    g_assert_cmpint(cowlet_read(img, 1 << 20, back, sizeof(back)), ==, 0);
    g_assert_cmpmem(buf, sizeof(buf), back, sizeof(back));
    g_assert_cmpint(cowlet_write_zeroes(img, 1 << 20, 2048), ==, 0);
    g_assert_cmpint(cowlet_discard(img, (1 << 20) + 2048, 2048), ==, 0);
    g_assert_cmpint(cowlet_read(img, 1 << 20, back, 2048), ==, 0);
    g_assert_cmpmem(zero, 2048, back, 2048);
    g_assert_cmpint(cowlet_write(img, (1 << 30) - 1, buf, 2), <, 0);
    g_assert_cmpint(cowlet_close(img), ==, 0);
}

static void test_errors(void)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(cowlet_open("/nothere", NULL, COWLET_OPEN_READ_ONLY, &err));
    g_assert_error(err, g_quark_from_static_string("cowlet-error-quark"), ENOENT);
    g_clear_error(&err);
    g_assert_false(cowlet_create("/nothere/x", "qcow2", 1, NULL, &err));
    g_assert_nonnull(err);
    g_assert_cmpint(cowlet_close(NULL), ==, 0);
}

/* An image whose syncs fail: whoever closes it without a flush hears of it. */
static void test_close(void)
{
    g_autofree char *f = g_build_filename(dir, "b.qcow2", NULL);
    g_autofree char *bad = g_strdup_printf(
        "driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=%s,"
        "file.inject-error.0.event=flush_to_disk,file.inject-error.0.errno=28,"
        "file.inject-error.0.once=off",
        f);
    g_autoptr(GError) err = NULL;
    CowletImage *img;

    g_assert_true(cowlet_create(f, "qcow2", 1 << 20, NULL, &err));
    img = cowlet_open(NULL, bad, COWLET_OPEN_READ_WRITE, &err);
    g_assert_no_error(err);
    g_assert_cmpint(cowlet_write(img, 0, "x", 1), ==, 0);
    g_assert_cmpint(cowlet_close(img), ==, -ENOSPC);
    img = cowlet_open(NULL, bad, COWLET_OPEN_READ_ONLY, &err);
    g_assert_no_error(err);
    g_assert_cmpint(cowlet_close(img), ==, 0);
}

/* ---- Create takes what it knows, by name ---- */

static void refuses(const char *format, const char *options, const char *message)
{
    g_autofree char *f = g_build_filename(dir, "refused", NULL);
    g_autoptr(GError) err = NULL;

    g_assert_false(cowlet_create(f, format, 1 << 20, options, &err));
    g_assert_error(err, g_quark_from_static_string("cowlet-error-quark"), EINVAL);
    g_assert_cmpstr(err->message, ==, message);
    g_assert_false(g_file_test(f, G_FILE_TEST_EXISTS));
}

static void test_create_options(void)
{
    g_autofree char *f = g_build_filename(dir, "taken", NULL);
    g_autoptr(GError) err = NULL;
    GStatBuf st;

    refuses("qcow2", "clustersize=4k", "Invalid parameter 'clustersize'");
    refuses("qcow2", "cluster_size=4k,extended_l3=on", "Invalid parameter 'extended_l3'");
    refuses("qcow2", "cluster_size.x=4k", "Invalid parameter 'cluster_size.x'");
    refuses("raw", "preallocatoin=full", "Invalid parameter 'preallocatoin'");
    refuses("raw", "cluster_size=4k", "Invalid parameter 'cluster_size'");
    refuses("file", "nocov=on", "Invalid parameter 'nocov'");
    refuses("qcow2", "size=5M", "The image size must be specified only once");
    g_assert_true(cowlet_create(f, "raw", 1 << 20, "preallocation=full,nocow=off", &err));
    g_assert_no_error(err);
    g_assert_cmpint(g_stat(f, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 1 << 20);
    g_unlink(f);
    g_assert_true(cowlet_create(f, "file", 1 << 20, "extent_size_hint=1M", &err));
    g_assert_no_error(err);
    g_unlink(f);
}

typedef struct Loop {
    GMainLoop *loop;
    CowletImage *img;
    char buf[64][512];
    int left, step;
} Loop;

static void start(Loop *l);

static void done(void *opaque, int ret)
{
    Loop *l = opaque;

    g_assert_cmpint(ret, ==, 0);
    if (--l->left == 0) {
        l->step++;
        start(l);
    }
}

static void start(Loop *l)
{
    l->left = 64;
    for (int i = 0; i < 64; i++) {
        switch (l->step) {
        case 0:
            memset(l->buf[i], i + 1, 512);
            cowlet_write_async(l->img, i * 100000, l->buf[i], 512, done, l);
            break;
        case 1:
            memset(l->buf[i], 0, 512);
            cowlet_read_async(l->img, i * 100000, l->buf[i], 512, done, l);
            break;
        case 2:
            cowlet_flush_async(l->img, done, l);
            break;
        case 3:
            g_assert_cmpint(l->buf[i][511], ==, i + 1);
            if (i == 63) {
                g_main_loop_quit(l->loop);
            }
            break;
        }
    }
}

static gboolean begin(gpointer l)
{
    start(l);
    return G_SOURCE_REMOVE;
}

static void test_async(void)
{
    g_autofree char *f = g_build_filename(dir, "b.qcow2", NULL);
    g_autoptr(GError) err = NULL;
    Loop *l = g_new0(Loop, 1);

    g_assert_true(cowlet_create(f, "qcow2", 64 << 20, NULL, &err));
    l->img = cowlet_open(f, NULL, COWLET_OPEN_READ_WRITE, &err);
    g_assert_no_error(err);
    l->loop = g_main_loop_new(NULL, FALSE);
    g_source_attach(cowlet_thread_source(), NULL);
    g_idle_add(begin, l);
    g_main_loop_run(l->loop);
    g_source_destroy(cowlet_thread_source());
    cowlet_close(l->img);
    g_main_loop_unref(l->loop);
    g_free(l);
}

/* ---- A report comes in the middle of a request, and may call nothing that waits ---- */

typedef struct Told {
    CowletImage *img;
    const char *file;
    int reports, read, close;
    gboolean opened;
} Told;

static void on_report(const char *line, void *opaque)
{
    Told *t = opaque;
    g_autoptr(GError) err = NULL;
    char buf[512];

    g_assert_nonnull(strstr(line, "corrupt"));
    t->reports++;
    t->read = cowlet_read(t->img, 0, buf, sizeof(buf));
    t->close = cowlet_close(t->img);
    t->opened = cowlet_open(t->file, NULL, COWLET_OPEN_READ_ONLY, &err) != NULL;
    g_assert_error(err, g_quark_from_static_string("cowlet-error-quark"), EDEADLK);
    cowlet_set_report(t->img, NULL, NULL);
}

static guint64 be64_at(const char *content, gsize offset)
{
    guint64 v;

    memcpy(&v, content + offset, 8);
    return GUINT64_FROM_BE(v);
}

/* The first L2 entry's host offset is not one of a cluster any more. */
static void spoil(const char *f)
{
    g_autofree char *content = NULL;
    gsize length;

    g_assert_true(g_file_get_contents(f, &content, &length, NULL));
    content[(be64_at(content, be64_at(content, 40)) & 0x00fffffffffffe00) + 6] ^= 2;
    g_assert_true(g_file_set_contents(f, content, (gssize)length, NULL));
}

static void test_report(void)
{
    g_autofree char *f = g_build_filename(dir, "spoilt.qcow2", NULL);
    Told t = { .file = f };
    char buf[512];

    g_assert_true(cowlet_create(f, "qcow2", 1 << 20, NULL, NULL));
    t.img = cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, NULL);
    g_assert_cmpint(cowlet_write(t.img, 0, "x", 1), ==, 0);
    g_assert_cmpint(cowlet_close(t.img), ==, 0);
    spoil(f);
    t.img = cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, NULL);
    cowlet_set_report(t.img, on_report, &t);
    g_assert_cmpint(cowlet_read(t.img, 0, buf, sizeof(buf)), ==, -EIO);
    g_assert_cmpint(t.reports, ==, 1);
    g_assert_cmpint(t.read, ==, -EDEADLK);
    g_assert_cmpint(t.close, ==, -EDEADLK);
    g_assert_false(t.opened);
    (void)cowlet_close(t.img);
    g_unlink(f);
}

/* ---- Files that an image refers to, handed over as descriptors ---- */

typedef struct Keeper {
    const char *path;   /* what stands for every reference; NULL: refuse */
    CowletImage *other; /* to be read from there; or NULL */
    int calls;
    gboolean writable;
    char reference[64];
} Keeper;

static int hand_over(const char *image, const char *reference, gboolean writable, void *opaque)
{
    Keeper *k = opaque;

    char buf[512];

    if (k->other) { /* it may use the library, blocking, in the middle of the open */
        g_assert_cmpint(cowlet_read(k->other, 0, buf, sizeof(buf)), ==, 0);
        g_assert_cmpint(buf[0], ==, 'b');
    }
    k->calls++;
    k->writable = writable;
    g_strlcpy(k->reference, reference, sizeof(k->reference));
    return k->path ? open(k->path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC) : -EACCES;
}

static void test_confined(void)
{
    g_autofree char *f = g_build_filename(dir, "c.qcow2", NULL),
                    *base = g_build_filename(dir, "base", NULL);
    g_autofree char *content = g_strnfill(1 << 20, 'b');
    g_autoptr(GError) err = NULL;
    Keeper k = { .path = base };
    CowletImage *img;
    char buf[512];

    g_assert_true(g_file_set_contents(base, content, 1 << 20, &err));
    k.other = cowlet_open(base, "driver=raw", COWLET_OPEN_READ_ONLY, &err);
    g_assert_no_error(err);
    g_assert_true(
        cowlet_create(f, "qcow2", 1 << 20, "backing_file=/nothere/at-all,backing_fmt=raw", &err));
    g_assert_no_error(err);
    img = cowlet_open_confined(f, NULL, COWLET_OPEN_READ_WRITE, hand_over, &k, &err);
    g_assert_no_error(err);
    g_assert_cmpint(k.calls, ==, 1);
    g_assert_false(k.writable);
    g_assert_cmpstr(k.reference, ==, "/nothere/at-all");
    g_assert_cmpint(cowlet_write(img, 0, "x", 1), ==, 0);
    g_assert_cmpint(cowlet_read(img, 0, buf, sizeof(buf)), ==, 0);
    g_assert_true(buf[0] == 'x' && buf[1] == 'b' && buf[511] == 'b');
    g_assert_cmpint(cowlet_close(img), ==, 0);

    k.path = NULL;
    img = cowlet_open_confined(f, NULL, COWLET_OPEN_READ_WRITE, hand_over, &k, &err);
    g_assert_null(img);
    g_assert_error(err, g_quark_from_static_string("cowlet-error-quark"), EACCES);
    g_assert_cmpint(k.calls, ==, 2);
    cowlet_close(k.other);
    g_unlink(base);
    g_unlink(f);
}

/* The data file is written through the descriptor; one that is not open for that is refused. */
static void test_confined_data(void)
{
    g_autofree char *f = g_build_filename(dir, "d.qcow2", NULL),
                    *data = g_build_filename(dir, "data", NULL);
    g_autofree char *moved = g_build_filename(dir, "moved", NULL);
    g_autofree char *options = g_strdup_printf("data_file=%s,data_file_raw=on", data);
    g_autoptr(GError) err = NULL;
    Keeper k = { .path = moved };
    g_autofree char *content = NULL;
    CowletImage *img;

    g_assert_true(cowlet_create(f, "qcow2", 1 << 20, options, &err));
    g_assert_no_error(err);
    g_assert_cmpint(g_rename(data, moved), ==, 0);
    img = cowlet_open_confined(f, NULL, COWLET_OPEN_READ_WRITE, hand_over, &k, &err);
    g_assert_no_error(err);
    g_assert_true(k.writable);
    g_assert_cmpint(cowlet_write(img, 4096, "y", 1), ==, 0);
    g_assert_cmpint(cowlet_close(img), ==, 0);
    g_assert_true(g_file_get_contents(moved, &content, NULL, &err));
    g_assert_cmpint(content[4096], ==, 'y');
    g_unlink(moved);
    g_unlink(f);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("cowlet-api-XXXXXX", NULL);
    g_test_add_func("/api/blocking", test_blocking);
    g_test_add_func("/api/errors", test_errors);
    g_test_add_func("/api/create-options", test_create_options);
    g_test_add_func("/api/close", test_close);
    g_test_add_func("/api/async", test_async);
    g_test_add_func("/api/report", test_report);
    g_test_add_func("/api/confined", test_confined);
    g_test_add_func("/api/confined-data", test_confined_data);
    ret = g_test_run();
    g_autofree char *a = g_build_filename(dir, "a.qcow2", NULL),
                    *b = g_build_filename(dir, "b.qcow2", NULL);

    g_unlink(a);
    g_unlink(b);
    g_rmdir(dir);
    g_free(dir);
    return ret;
}
