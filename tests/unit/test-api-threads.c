/* SPDX-License-Identifier: MIT */
/* The public API from several threads at a time; under TSan too. */
/* Shows INV-API-1, INV-DRAIN-3, INV-GRAPH-1, INV-NAME-1. */
#include "cowlet/cowlet.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>

static char *dir;

/* ---- Images that share a node, opened and closed while another reads ---- */

#define SHARERS 4
#define OPENS 1000

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

/* ---- Threads that end, or sleep, with a request under way ---- */

typedef struct Leaver {
    CowletImage *img;
    GThread *told_in[3];
    int results[3], told;
    int fd; /* waits for a byte here, with a request under way; -1: ends at once */
    char buf[512];
} Leaver;

static CowletImage *open_slow(void)
{
    g_autoptr(GError) err = NULL;
    CowletImage *img =
        cowlet_open(NULL, "driver=null-co,size=1M,read-zeroes=on,latency-ns=30000000",
                    COWLET_OPEN_READ_ONLY, &err);

    g_assert_no_error(err);
    return img;
}

static void told(void *opaque, int ret)
{
    Leaver *l = opaque;

    g_assert_cmpint(l->told, <, 3);
    l->told_in[l->told] = g_thread_self();
    l->results[l->told++] = ret;
    cowlet_read_async(l->img, 0, l->buf, sizeof(l->buf), told, l); /* for ever, if we let it */
}

static gpointer leave(gpointer opaque)
{
    Leaver *l = opaque;

    memset(l->buf, 'x', sizeof(l->buf));
    cowlet_read_async(l->img, 0, l->buf, sizeof(l->buf), told, l);
    g_assert_cmpint(l->told, ==, 0);
    return NULL;
}

/* It waits for its request, and its callback is called in it; what that begins is refused, once. */
static void test_thread_ends(void)
{
    for (int i = 0; i < 5; i++) {
        Leaver l = { .img = open_slow() };
        GThread *t = g_thread_ref(g_thread_new("leaver", leave, &l));

        g_thread_join(t);
        g_assert_cmpint(l.told, ==, 2);
        g_assert_cmpint(l.results[0], ==, 0);
        g_assert_cmpint(l.buf[511], ==, 0);
        g_assert_cmpint(l.results[1], ==, -ECANCELED);
        g_assert_true(l.told_in[0] == t && l.told_in[1] == t);
        g_thread_unref(t);
        cowlet_close(l.img);
    }
}

typedef struct Sleeper {
    CowletImage *img;
    GMutex lock;
    GCond cond;
    int state; /* 1: a request is under way; 2: go on */
    int told, result;
    GThread *told_in;
    char buf[512];
} Sleeper;

static void sleeper_told(void *opaque, int ret)
{
    Sleeper *s = opaque;

    s->told++;
    s->result = ret;
    s->told_in = g_thread_self();
}

static void set_state(Sleeper *s, int state)
{
    g_mutex_lock(&s->lock);
    s->state = state;
    g_cond_broadcast(&s->cond);
    g_mutex_unlock(&s->lock);
}

static void wait_state(Sleeper *s, int state)
{
    g_mutex_lock(&s->lock);
    while (s->state != state) {
        g_cond_wait(&s->cond, &s->lock);
    }
    g_mutex_unlock(&s->lock);
}

static gpointer sleep_over_it(gpointer opaque)
{
    Sleeper *s = opaque;
    g_autoptr(GMainContext) context = g_main_context_new();

    g_source_attach(cowlet_thread_source(), context);
    cowlet_read_async(s->img, 0, s->buf, sizeof(s->buf), sleeper_told, s);
    set_state(s, 1);
    wait_state(s, 2); /* the image is closed meanwhile */
    g_assert_cmpint(s->told, ==, 0);
    while (!s->told) {
        g_main_context_iteration(context, TRUE);
    }
    return NULL;
}

/* Whoever closes runs the request of a thread that does not; the callback stays that thread's. */
static void test_thread_sleeps(void)
{
    Sleeper s = { .img = open_slow(), .result = 1 };
    GThread *t;

    g_mutex_init(&s.lock);
    g_cond_init(&s.cond);
    memset(s.buf, 'x', sizeof(s.buf));
    t = g_thread_ref(g_thread_new("sleeper", sleep_over_it, &s));
    wait_state(&s, 1);
    cowlet_close(s.img);
    g_assert_cmpint(s.buf[511], ==, 0);
    set_state(&s, 2);
    g_thread_join(t);
    g_assert_cmpint(s.told, ==, 1);
    g_assert_cmpint(s.result, ==, 0);
    g_assert_true(s.told_in == t);
    g_thread_unref(t);
    g_mutex_clear(&s.lock);
    g_cond_clear(&s.cond);
}

/* ---- A request that begins while the image is being closed ---- */

static gpointer read_until_refused(gpointer opaque)
{
    Sleeper *s = opaque;
    char buf[512];
    int ret;

    do {
        ret = cowlet_read(s->img, 0, buf, sizeof(buf));
    } while (ret == 0);
    return GINT_TO_POINTER(ret);
}

static void await_refusals(void *opaque, int ret)
{
    Sleeper *s = opaque;
    GThread *t[3];

    s->result = ret;
    for (int i = 0; i < 3; i++) {
        t[i] = g_thread_new("late", read_until_refused, s);
    }
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(t[i])), ==, -ESHUTDOWN);
        s->told++;
    }
}

/* Begun within the close for certain: it waits for this callback of its own thread. */
static void test_begin_in_close(void)
{
    Sleeper s = { .img = open_slow(), .result = 1 };

    cowlet_read_async(s.img, 0, s.buf, sizeof(s.buf), await_refusals, &s);
    cowlet_close(s.img);
    g_assert_cmpint(s.result, ==, 0);
    g_assert_cmpint(s.told, ==, 3);
}

/* Begun at any moment: counted, and waited for, or refused. */
static void test_begin_round_close(void)
{
    g_autofree char *f = g_build_filename(dir, "round.qcow2", NULL);

    g_assert_true(cowlet_create(f, "qcow2", 1 << 20, NULL, NULL));
    for (int i = 0; i < 30; i++) {
        Sleeper s = { .img = cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, NULL) };
        GThread *t[3];

        g_assert_nonnull(s.img);
        for (int j = 0; j < 3; j++) {
            t[j] = g_thread_new("round", read_until_refused, &s);
        }
        g_usleep(100 * i);
        cowlet_close(s.img);
        for (int j = 0; j < 3; j++) {
            g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(t[j])), ==, -ESHUTDOWN);
        }
    }
    g_unlink(f);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("cowlet-api-XXXXXX", NULL);
    g_test_add_func("/api-threads/shared-node", test_shared_node);
    g_test_add_func("/api-threads/ends", test_thread_ends);
    g_test_add_func("/api-threads/sleeps", test_thread_sleeps);
    g_test_add_func("/api-threads/begin-in-close", test_begin_in_close);
    g_test_add_func("/api-threads/begin-round-close", test_begin_round_close);
    ret = g_test_run();
    g_rmdir(dir);
    g_free(dir);
    return ret;
}
