/* SPDX-License-Identifier: MIT */
/*
 * Callbacks of the public API: from the loop, on the thread's own stack, in order, and free to do
 * what a program does: send the next request, run a main loop, make blocking calls.
 */
/* Shows INV-AIO-3, INV-DONE-1. */
#include "cowlet/cowlet.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define SECTOR 512
#define SECTORS 256
#define CHAIN 20000

static char *file;
static CowletImage *img;

/* Sector n is full of n. */
static void make_file(void)
{
    g_autofree char *content = g_malloc(SECTOR * SECTORS);
    int fd = g_file_open_tmp("cowlet-XXXXXX", &file, NULL);

    for (int i = 0; i < SECTORS; i++) {
        memset(content + SECTOR * i, i, SECTOR);
    }
    g_assert_true(g_file_set_contents(file, content, SECTOR * SECTORS, NULL));
    g_close(fd, NULL);
}

static CowletImage *open_null(const char *options)
{
    g_autoptr(GError) err = NULL;
    CowletImage *i = cowlet_open(NULL, options, COWLET_OPEN_READ_ONLY, &err);

    g_assert_no_error(err);
    return i;
}

/* Past the page cache, so that requests take their time, where the file system can. */
static CowletImage *open_file(void)
{
    g_autoptr(GError) err = NULL;
    CowletImage *i = cowlet_open(file, "driver=raw", COWLET_OPEN_DIRECT, NULL);

    i = i ? i : cowlet_open(file, "driver=raw", COWLET_OPEN_READ_ONLY, &err);
    g_assert_no_error(err);
    return i;
}

static gboolean too_late(gpointer what)
{
    g_error("the main loop hangs: %s", (char *)what);
    return G_SOURCE_REMOVE;
}

static void run_until(const gboolean *over)
{
    guint limit = g_timeout_add_seconds(60, too_late, (gpointer) "a test");

    while (!*over) {
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(limit);
}

/* ---- The next request from the callback ---- */

typedef struct Chain {
    CowletImage *img;
    int left, turns;
    char *first, *lowest; /* of the callbacks' stacks */
    gboolean inside, over;
    char buf[SECTOR];
} Chain;

static void send_next(void *opaque, int ret)
{
    Chain *c = opaque;
    char here;

    g_assert_cmpint(ret, ==, 0);
    g_assert_false(c->inside);
    c->first = c->first ? c->first : &here;
    c->lowest = MIN(c->lowest ? c->lowest : &here, &here);
    if (--c->left == 0) {
        c->over = TRUE;
        return;
    }
    c->inside = TRUE;
    cowlet_read_async(c->img, 0, c->buf, sizeof(c->buf), send_next, c);
    c->inside = FALSE;
}

static gboolean count_turn(gpointer opaque)
{
    ((Chain *)opaque)->turns++;
    return G_SOURCE_CONTINUE;
}

/* It neither nests nor keeps other sources from their turn, though each request ends at once. */
static void test_chain(void)
{
    Chain c = { .img = open_null("driver=null-co,size=1M"), .left = CHAIN };
    guint other = g_timeout_add(0, count_turn, &c);

    c.inside = TRUE;
    cowlet_read_async(c.img, 0, c.buf, sizeof(c.buf), send_next, &c);
    c.inside = FALSE;
    run_until(&c.over);
    g_assert_cmpint(c.first - c.lowest, <, 65536);
    g_assert_cmpint(c.turns, >=, CHAIN / 256);
    g_source_remove(other);
    cowlet_close(c.img);
}

/* ---- Order ---- */

typedef struct Batch {
    GArray *order;
    int want;
    gboolean over;
} Batch;

typedef struct Item {
    Batch *batch;
    int n;
    char buf[SECTOR];
} Item;

static void note(void *opaque, int ret)
{
    Item *i = opaque;

    g_assert_cmpint(ret, ==, 0);
    g_array_append_val(i->batch->order, i->n);
    i->batch->over = (int)i->batch->order->len == i->batch->want;
}

static void test_order(void)
{
    CowletImage *null = open_null("driver=null-co,size=1M,read-zeroes=on");
    Batch b = { .order = g_array_new(FALSE, FALSE, sizeof(int)), .want = 200 };
    g_autofree Item *items = g_new0(Item, 200);

    for (int i = 0; i < 200; i++) {
        items[i] = (Item){ .batch = &b, .n = i };
        cowlet_read_async(null, 0, items[i].buf, SECTOR, note, &items[i]);
        g_assert_cmpint(b.order->len, ==, 0); /* never from within the call */
    }
    run_until(&b.over);
    for (int i = 0; i < 200; i++) {
        g_assert_cmpint(g_array_index(b.order, int, i), ==, i);
    }
    g_array_unref(b.order);
    cowlet_close(null);
}

/* ---- A main loop in the callback ---- */

typedef struct Nest {
    GMainLoop *inner;
    int depth, deepest, ended;
    gboolean over;
    char buf[4][SECTOR];
} Nest;

static void inner_done(void *opaque, int ret)
{
    Nest *n = opaque;

    g_assert_cmpint(ret, ==, 0);
    n->ended++;
    g_main_loop_quit(n->inner);
}

static void outer_done(void *opaque, int ret)
{
    Nest *n = opaque;

    g_assert_cmpint(ret, ==, 0);
    n->inner = g_main_loop_new(NULL, FALSE);
    cowlet_read_async(img, SECTOR * 7, n->buf[1], SECTOR, inner_done, n);
    g_main_loop_run(n->inner);
    g_main_loop_unref(n->inner);
    g_assert_cmpint(n->buf[1][0], ==, 7);
    n->ended++;
    n->over = TRUE;
}

static void test_nested_loop(void)
{
    for (int i = 0; i < 20; i++) {
        Nest n = { 0 };

        cowlet_read_async(img, SECTOR * 6, n.buf[0], SECTOR, outer_done, &n);
        run_until(&n.over);
        g_assert_cmpint(n.ended, ==, 2);
        g_assert_cmpint(n.buf[0][SECTOR - 1], ==, 6);
    }
}

static void iterate(void *opaque, int ret)
{
    Nest *n = opaque;

    g_assert_cmpint(ret, ==, 0);
    n->depth++;
    n->deepest = MAX(n->deepest, n->depth);
    if (n->depth < 3) { /* what others began goes on meanwhile */
        int before = n->ended;

        while (n->ended == before && n->depth + n->ended < 4) { /* (others are to come) */
            g_main_context_iteration(NULL, TRUE);
        }
    }
    n->depth--;
    n->ended++;
    n->over = n->ended == 4;
}

/* Several at once, each of which waits for one of the others. */
static void test_nested_iteration(void)
{
    Nest n = { 0 };

    for (int i = 0; i < 4; i++) {
        cowlet_read_async(img, SECTOR * i, n.buf[i], SECTOR, iterate, &n);
    }
    run_until(&n.over);
    g_assert_cmpint(n.deepest, ==, 3);
    for (int i = 0; i < 4; i++) {
        g_assert_cmpint(n.buf[i][9], ==, i);
    }
}

/* ---- Blocking calls in the callback ---- */

typedef struct Block {
    int inside, calls, depth;
    gboolean over;
    char buf[SECTOR];
} Block;

static void block_in_it(void *opaque, int ret)
{
    Block *b = opaque;
    char buf[SECTOR] = { 0 };

    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpint(b->inside, ==, 0); /* no other callback runs in a blocking call */
    b->inside++;
    g_assert_cmpint(cowlet_read(img, SECTOR * 5, buf, sizeof(buf)), ==, 0);
    b->inside--;
    g_assert_cmpint(buf[0], ==, 5);
    b->over = ++b->calls == 50;
}

static void test_blocking(void)
{
    Block b = { 0 };

    for (int i = 0; i < 50; i++) {
        cowlet_read_async(img, 0, b.buf, SECTOR, block_in_it, &b);
    }
    g_assert_cmpint(b.inside + b.calls, ==, 0);
    run_until(&b.over);
}

static void deep(void *opaque, int ret)
{
    volatile char big[2 << 20]; /* coroutines have less */

    memset((char *)big, 1, sizeof(big));
    *(gboolean *)opaque = big[sizeof(big) - 1] == 1;
}

static void test_stack(void)
{
    gboolean over = FALSE;
    char buf[SECTOR];

    cowlet_read_async(img, 0, buf, SECTOR, deep, &over);
    run_until(&over);
}

/* Its own requests' callbacks come before a close returns; what they begin then is refused. */
typedef struct Closing {
    CowletImage *img;
    int first, second;
    gboolean over;
    char buf[SECTOR];
} Closing;

static void refused_done(void *opaque, int ret)
{
    Closing *c = opaque;

    c->second = ret;
    c->over = TRUE;
}

static void last_done(void *opaque, int ret)
{
    Closing *c = opaque;

    c->first = ret;
    g_assert_cmpint(cowlet_read(c->img, 0, c->buf, SECTOR), ==, -ESHUTDOWN);
    g_assert_cmpint(cowlet_length(c->img), ==, -ESHUTDOWN);
    cowlet_read_async(c->img, 0, c->buf, SECTOR, refused_done, c);
}

static void test_close(void)
{
    Closing c = { .img = open_file(), .first = 1, .second = 1 };

    cowlet_read_async(c.img, 0, c.buf, SECTOR, last_done, &c);
    cowlet_close(c.img);
    g_assert_cmpint(c.first, ==, 0);
    g_assert_cmpint(c.second, ==, 1);
    run_until(&c.over);
    g_assert_cmpint(c.second, ==, -ESHUTDOWN);
}

static void close_in_it(void *opaque, int ret)
{
    Closing *c = opaque;

    c->first = ret;
    cowlet_close(c->img);
    c->over = TRUE;
}

static void test_close_in_callback(void)
{
    Closing c = { .img = open_file(), .first = 1 };

    cowlet_read_async(c.img, SECTOR * 3, c.buf, SECTOR, close_in_it, &c);
    run_until(&c.over);
    g_assert_cmpint(c.first, ==, 0);
    g_assert_cmpint(c.buf[0], ==, 3);
}

/* ---- One main context after the other ---- */

static void count(void *opaque, int ret)
{
    g_assert_cmpint(ret, ==, 0);
    ++*(int *)opaque;
}

static void iterate_until(GMainContext *context, const int *n, int want)
{
    gint64 end = g_get_monotonic_time() + 60 * G_USEC_PER_SEC;

    while (*n < want && g_get_monotonic_time() < end) {
        if (!g_main_context_iteration(context, FALSE)) {
            g_usleep(200);
        }
    }
    g_assert_cmpint(*n, ==, want);
}

static gpointer contexts_thread(gpointer unused)
{
    static int n;
    static char buf[SECTOR]; /* the last callback comes when the thread ends */
    GSource *last = NULL;

    for (int i = 0; i < 4; i++) {
        GMainContext *context = g_main_context_new();
        GSource *source = cowlet_thread_source();

        g_assert_true(source == cowlet_thread_source());
        g_assert_true(!last || g_source_is_destroyed(last));
        g_clear_pointer(&last, g_source_unref);
        last = g_source_ref(source);
        g_source_attach(source, context);
        iterate_until(context, &n, i); /* what the context before had no time for */
        cowlet_read_async(img, 0, buf, SECTOR, count, &n);
        if (i % 2) {
            g_source_destroy(source);
        }
        g_main_context_unref(context);
        g_assert_cmpint(cowlet_read(img, SECTOR, buf, SECTOR), ==, 0); /* attached to nothing */
        g_assert_cmpint(n, ==, i);
    }
    g_source_unref(last);
    return &n;
}

static void test_contexts(void)
{
    int *n = g_thread_join(g_thread_new("contexts", contexts_thread, NULL));

    g_assert_cmpint(*n, ==, 4);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    make_file();
    img = open_file();
    g_source_attach(cowlet_thread_source(), NULL);
    g_test_add_func("/api-loop/chain", test_chain);
    g_test_add_func("/api-loop/order", test_order);
    g_test_add_func("/api-loop/nested-loop", test_nested_loop);
    g_test_add_func("/api-loop/nested-iteration", test_nested_iteration);
    g_test_add_func("/api-loop/blocking", test_blocking);
    g_test_add_func("/api-loop/stack", test_stack);
    g_test_add_func("/api-loop/close", test_close);
    g_test_add_func("/api-loop/close-in-callback", test_close_in_callback);
    g_test_add_func("/api-loop/contexts", test_contexts);
    ret = g_test_run();
    cowlet_close(img);
    g_unlink(file);
    g_free(file);
    return ret;
}
