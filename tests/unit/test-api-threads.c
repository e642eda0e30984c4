/* SPDX-License-Identifier: MIT */
/* The public API from several threads at a time; under TSan too. */
#include "cowlet/cowlet.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>

static char *dir;

/* ---- Images that share a node, opened and closed while another reads ---- */

#define SHARERS 4
#define OPENS 300

typedef struct Sharer {
    int n, opened;
} Sharer;

static atomic_int sharers_left;

static gpointer share(gpointer opaque)
{
    Sharer *s = opaque;
    g_autofree char *own = g_strdup_printf("driver=raw,node-name=top%d,file=shared", s->n);

    for (int i = 0; i < OPENS; i++) {
        g_autoptr(GError) err = NULL;
        CowletImage *img = cowlet_open(NULL, own, COWLET_OPEN_READ_ONLY, &err);
        char buf[512] = { 0 };

        g_assert_no_error(err);
        if (i % 16 == 0) {
            g_assert_cmpint(cowlet_read(img, 512 * s->n, buf, sizeof(buf)), ==, 0);
            g_assert_cmpint(buf[511], ==, 'a' + s->n);
        }
        s->opened++;
        cowlet_close(img);
    }
    atomic_fetch_sub(&sharers_left, 1);
    return NULL;
}

static void test_shared_node(void)
{
    g_autofree char *f = g_build_filename(dir, "shared.raw", NULL);
    g_autofree char *options =
        g_strdup_printf("driver=raw,file.driver=file,file.filename=%s,file.node-name=shared", f);
    g_autoptr(GError) err = NULL;
    char content[512 * (SHARERS + 1)];
    Sharer sharers[SHARERS] = { 0 };
    GThread *threads[SHARERS];
    CowletImage *base;
    int reads = 0;

    for (int i = 0; i <= SHARERS; i++) {
        memset(content + 512 * i, 'a' + i, 512);
    }
    g_assert_true(g_file_set_contents(f, content, sizeof(content), &err));
    base = cowlet_open(NULL, options, COWLET_OPEN_READ_ONLY, &err);
    g_assert_no_error(err);
    atomic_store(&sharers_left, SHARERS);
    for (int i = 0; i < SHARERS; i++) {
        sharers[i].n = i;
        threads[i] = g_thread_new("share", share, &sharers[i]);
    }
    while (atomic_load(&sharers_left)) {
        char buf[512] = { 0 };

        g_assert_cmpint(cowlet_read(base, 512 * SHARERS, buf, sizeof(buf)), ==, 0);
        g_assert_cmpint(buf[0], ==, 'a' + SHARERS);
        reads++;
        g_thread_yield();
    }
    for (int i = 0; i < SHARERS; i++) {
        g_thread_join(threads[i]);
        g_assert_cmpint(sharers[i].opened, ==, OPENS);
    }
    g_assert_cmpint(reads, >, 0);
    cowlet_close(base);
    g_assert_null(cowlet_open(NULL, "driver=raw,file=shared", COWLET_OPEN_READ_ONLY, &err));
    g_assert_error(err, g_quark_from_static_string("cowlet-error-quark"), EINVAL);
    g_unlink(f);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("cowlet-api-XXXXXX", NULL);
    g_test_add_func("/api-threads/shared-node", test_shared_node);
    ret = g_test_run();
    g_rmdir(dir);
    g_free(dir);
    return ret;
}
