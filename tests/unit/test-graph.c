/* SPDX-License-Identifier: MIT */
/*
 * The graph under those who use it: drains that count a node's own requests and those of owners of
 * any kind, changes while requests run, news of lengths, requests that are tracked.
 */
/* Shows INV-CHAIN-2, INV-CHANGE-1, INV-CHANGE-2, INV-CORE-1, INV-CORE-2, INV-CORE-3,
 * INV-HOLD-1, INV-TRACK-1. */
#include "mem-driver.h"
#include "open-opts.h"

#include "block/backend.h"
#include "block/graph/graph.h"
#include "block/request/request.h"

#include <errno.h>
#include <string.h>

#define DISK (64 * KiB)

static uint8_t byte_at(BlockBackend *blk, int64_t offset)
{
    uint8_t b = 0;

    g_assert_cmpint(blk_pread(blk, offset, 1, &b, 0), ==, 0);
    return b;
}

static void fill(BlockBackend *blk, uint8_t b)
{
    g_autofree uint8_t *buf = g_malloc(DISK);

    memset(buf, b, DISK);
    g_assert_cmpint(blk_pwrite(blk, 0, DISK, buf, 0), ==, 0);
}

/* ---- Changes, from outside of a coroutine ---- */

typedef struct Change {
    BlockDriverState *bs, *to;
    BdrvChild *child;
    int closed;
    bool ok;
    GError *err;
} Change;

static int coroutine_fn replace_fn(void *opaque)
{
    Change *c = opaque;

    c->ok = bdrv_co_replace_node(c->bs, c->to, &c->closed, &c->err);
    return 0;
}

static int coroutine_fn replace_child_fn(void *opaque)
{
    Change *c = opaque;

    c->ok = bdrv_co_replace_child(c->child, c->to, &c->closed, &c->err);
    return 0;
}

static int coroutine_fn insert_fn(void *opaque)
{
    Change *c = opaque;

    c->ok = bdrv_co_insert_filter(c->bs, c->to, &c->err);
    return 0;
}

static int coroutine_fn remove_fn(void *opaque)
{
    Change *c = opaque;

    c->ok = bdrv_co_remove_filter(c->bs, &c->closed, &c->err);
    return 0;
}

static int coroutine_fn set_backing_fn(void *opaque)
{
    Change *c = opaque;

    c->ok = bdrv_co_set_backing(c->bs, c->to, &c->closed, &c->err);
    return 0;
}

static void do_change(CoRunFunc *fn, Change c)
{
    g_assert_cmpint(co_run_sync(fn, &c), ==, 0);
    g_assert_no_error(c.err);
    g_assert_true(c.ok);
    g_assert_cmpint(c.closed, ==, 0);
}

static void refuse_change(CoRunFunc *fn, Change c, const char *text)
{
    g_assert_cmpint(co_run_sync(fn, &c), ==, 0);
    g_assert_false(c.ok);
    g_assert_nonnull(c.err);
    g_assert_cmpstr(c.err->message, ==, text);
    g_error_free(c.err);
}

/* ---- Who sends requests meanwhile ---- */

#define BYTES_EACH 512
#define USERS 4

typedef struct User {
    BlockBackend *blk;
    int64_t first;
    atomic_bool *stop;
    atomic_int *left;
    atomic_uint rounds;
} User;

/* Bytes of its own: what it wrote last is what it reads. */
static void coroutine_fn use(void *opaque)
{
    User *u = opaque;

    while (!atomic_load(u->stop)) {
        unsigned round = atomic_fetch_add(&u->rounds, 1);
        uint8_t b = (uint8_t)round, got = 0;
        int64_t at = u->first + (int64_t)(round % BYTES_EACH);

        g_assert_cmpint(blk_co_pwrite(u->blk, at, 1, &b, 0), ==, 0);
        g_assert_cmpint(blk_co_pread(u->blk, at, 1, &got, 0), ==, 0);
        g_assert_cmphex(got, ==, b);
        if (round % 64 == 0) {
            g_assert_cmpint(blk_co_flush(u->blk), ==, 0);
        }
    }
    atomic_fetch_sub(u->left, 1);
}

typedef struct Crowd {
    IoThread *threads[2];
    User users[USERS];
    atomic_bool stop;
    atomic_int left;
} Crowd;

static void crowd_start(Crowd *c, BlockBackend *blk)
{
    atomic_init(&c->stop, false);
    atomic_init(&c->left, USERS);
    for (int i = 0; i < 2; i++) {
        c->threads[i] = io_thread_new("user", NULL);
    }
    for (int i = 0; i < USERS; i++) {
        c->users[i] = (User){ blk, 4096 + i * BYTES_EACH, &c->stop, &c->left, 0 };
        aio_co_schedule(io_thread_context(c->threads[i % 2]), coroutine_create(use, &c->users[i]));
    }
}

static void crowd_stop(Crowd *c)
{
    for (int i = 0; i < USERS; i++) { /* each has met the changes, or what became of them */
        while (atomic_load(&c->users[i].rounds) < 2) {
            g_usleep(100);
        }
    }
    atomic_store(&c->stop, true);
    while (atomic_load(&c->left) > 0) {
        g_usleep(100);
    }
    for (int i = 0; i < 2; i++) {
        io_thread_free(c->threads[i]);
    }
}

/* ---- Changes ---- */

static void test_filter_comes_and_goes(void)
{
    BlockBackend *blk = open_opts("driver=test-mem,size=64k,slow=on,node-name=disk", BLK_O_RDWR);
    BlockDriverState *disk = blk_bs(blk);
    Crowd crowd;

    crowd_start(&crowd, blk);
    for (int i = 0; i < 200; i++) {
        BlockBackend *f = open_opts("driver=pass,file=disk", BLK_O_RDWR);
        BlockDriverState *filter = blk_bs(f);

        do_change(insert_fn, (Change){ .bs = filter, .to = disk });
        g_assert_true(blk_bs(blk) == filter);
        g_assert_cmpint(blk_close(f), ==, 0); /* it lives on below @blk */
        g_assert_cmpint(blk_getlength(blk), ==, DISK);
        do_change(remove_fn, (Change){ .bs = filter });
        g_assert_true(blk_bs(blk) == disk);
    }
    crowd_stop(&crowd);
    g_assert_cmpint(blk_close(blk), ==, 0);
}

/* Two users of one node, under a format: both see the other one from then on. */
static void test_replace_node(void)
{
    BlockBackend *a = open_opts("driver=test-mem,size=64k,node-name=one", BLK_O_RDWR);
    BlockBackend *b = open_opts("driver=test-mem,size=64k,node-name=two", BLK_O_RDWR);
    BlockBackend *over = open_opts("driver=raw,file=one", BLK_O_RDWR);

    fill(a, 1);
    fill(b, 2);
    g_assert_cmphex(byte_at(over, 100), ==, 1);
    do_change(replace_fn, (Change){ .bs = blk_bs(a), .to = blk_bs(b) });
    g_assert_true(blk_bs(a) == blk_bs(b));
    g_assert_cmphex(byte_at(over, 100), ==, 2);
    g_assert_cmphex(byte_at(a, 100), ==, 2);
    fill(over, 3);
    g_assert_cmphex(byte_at(b, 65535), ==, 3);
    blk_close_reader(over);
    blk_close_reader(a);
    blk_close_reader(b);
}

static void test_replace_under_load(void)
{
    BlockBackend *disk = open_opts("driver=test-mem,size=64k,slow=on,node-name=disk", BLK_O_RDWR);
    BlockBackend *x = open_opts("driver=pass,node-name=x,file=disk", BLK_O_RDWR);
    BlockBackend *y = open_opts("driver=pass,node-name=y,file=disk", BLK_O_RDWR);
    BlockBackend *blk = open_opts("driver=raw,file=x", BLK_O_RDWR);
    BdrvChild *file = blk_bs(blk)->file;
    Crowd crowd;

    crowd_start(&crowd, blk);
    for (int i = 0; i < 400; i++) {
        do_change(replace_child_fn, (Change){ .child = file, .to = blk_bs(i % 2 ? x : y) });
    }
    crowd_stop(&crowd);
    g_assert_true(file->bs == blk_bs(x));
    blk_close_reader(blk);
    blk_close_reader(x);
    blk_close_reader(y);
    blk_close_reader(disk);
}

/* The last use of a node goes: what closing it says is told. */
static void test_error_of_what_goes(void)
{
    BlockBackend *a = open_opts("driver=test-mem,size=64k", BLK_O_RDWR);
    Mem *old = last_mem;
    BlockBackend *b = open_opts("driver=test-mem,size=64k", BLK_O_RDWR);
    Change c = { .bs = blk_bs(a), .to = blk_bs(b) };

    old->fail_close = true;
    g_assert_cmpint(co_run_sync(replace_fn, &c), ==, 0);
    g_assert_true(c.ok);
    g_assert_cmpint(c.closed, ==, -EDQUOT);
    g_assert_cmpint(blk_close(a), ==, 0);
    g_assert_cmpint(blk_close(b), ==, 0);
}

static void test_refused(void)
{
    BlockBackend *disk = open_opts("driver=test-mem,size=64k,node-name=disk", BLK_O_RDWR);
    BlockBackend *over = open_opts("driver=raw,node-name=over,file=disk", BLK_O_RDWR);
    BlockBackend *lone = open_opts("driver=test-mem,size=64k,node-name=lone", BLK_O_NO_SHARE);
    BlockBackend *reader = open_opts("driver=test-mem,size=64k,node-name=reader", 0);

    fill(disk, 1);
    refuse_change(replace_child_fn, (Change){ .child = blk_bs(over)->file, .to = blk_bs(over) },
                  "Node 'over' is above node 'over' already: they would make a circle");
    refuse_change(replace_fn, (Change){ .bs = blk_bs(disk), .to = blk_bs(lone) },
                  "Block node is read-only");
    refuse_change(replace_fn, (Change){ .bs = blk_bs(disk), .to = blk_bs(reader) },
                  "Block node is read-only");
    refuse_change(insert_fn, (Change){ .bs = blk_bs(over), .to = blk_bs(lone) },
                  "Node 'over' is not a filter of node 'lone'");
    refuse_change(remove_fn, (Change){ .bs = blk_bs(disk) }, "Node 'disk' is no filter");
    refuse_change(set_backing_fn, (Change){ .bs = blk_bs(over), .to = blk_bs(lone) },
                  "Driver doesn't support backing files");
    /* Nothing has changed. */
    fill(over, 2);
    g_assert_cmphex(byte_at(disk, 5), ==, 2);
    g_assert_cmphex(byte_at(lone, 5), ==, 0xaa);
    blk_close_reader(over);
    blk_close_reader(disk);
    blk_close_reader(lone);
    blk_close_reader(reader);
}

static void test_too_deep(void)
{
    g_autoptr(GPtrArray) blks = g_ptr_array_new();
    BlockBackend *top = open_opts("driver=raw,node-name=top,file.driver=test-mem", 0), *bottom;

    /* (A plain name, so that none of them is a long json: text.) */
    g_ptr_array_add(blks, open_opts("driver=null-co,node-name=n0", 0));
    for (int i = 1; i < BLK_MAX_CHAIN_DEPTH; i++) { /* each a node over the one before */
        g_autofree char *o = g_strdup_printf("driver=pass,node-name=n%d,file=n%d", i, i - 1);

        g_ptr_array_add(blks, open_opts(o, 0));
    }
    bottom = g_ptr_array_index(blks, blks->len - 1);
    refuse_change(replace_child_fn, (Change){ .child = blk_bs(top)->file, .to = blk_bs(bottom) },
                  "Backing chain is deeper than 200 layers");
    while (blks->len) {
        blk_close_reader(g_ptr_array_steal_index(blks, blks->len - 1));
    }
    blk_close_reader(top);
}

/* ---- Backing files ---- */

static int coroutine_fn layer_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    bs->file = bdrv_co_open_child(NULL, o, "file", bs, flags, BDRV_ROLE_FILE, false, errp);
    atomic_store(&bs->total_bytes, DISK);
    return bs->file ? 0 : -EINVAL;
}

/* Its first half is its own, the rest its backing file's, or zero. */
static int coroutine_fn layer_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    if (offset + (int64_t)v->size <= DISK / 2) {
        return bdrv_co_preadv(bs->file, offset, v, 0);
    }
    if (bs->backing) {
        return bdrv_co_preadv(bs->backing, offset, v, 0);
    }
    iov_memset(v, 0, 0, v->size);
    return 0;
}

static int coroutine_fn layer_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                         unsigned flags)
{
    return bdrv_co_pwritev(bs->file, offset, v, 0);
}

static const BlockDriver layer_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "test-layer",
    .is_format = true,
    .supports_backing = true,
    .co_open = layer_co_open,
    .co_preadv = layer_co_preadv,
    .co_pwritev = layer_co_pwritev,
};

static void test_set_backing(void)
{
    BlockBackend *blk = open_opts("driver=test-layer,file.driver=test-mem,file.size=64k,"
                                  "file.slow=on",
                                  BLK_O_RDWR);
    BlockBackend *a = open_opts("driver=test-mem,size=64k,node-name=a", BLK_O_RDWR);
    BlockBackend *b = open_opts("driver=test-mem,size=64k,node-name=b", BLK_O_RDWR);
    BlockDriverState *bs = blk_bs(blk);
    Crowd crowd;

    fill(a, 1);
    fill(b, 2);
    blk_close_reader(a); /* writers: a backing file is shared with none */
    blk_close_reader(b);
    a = open_opts("driver=test-mem,size=64k,node-name=a", 0);
    b = open_opts("driver=test-mem,size=32k,node-name=b", 0);
    crowd_start(&crowd, blk);
    for (int i = 0; i < 50; i++) {
        g_assert_cmphex(byte_at(blk, DISK - 1), ==, 0);
        do_change(set_backing_fn, (Change){ .bs = bs, .to = blk_bs(a) });
        g_assert_cmphex(byte_at(blk, DISK - 1), ==, 0xaa);
        do_change(set_backing_fn, (Change){ .bs = bs, .to = blk_bs(b) });
        g_assert_cmphex(byte_at(blk, DISK - 1), ==, 0); /* a short one */
        do_change(set_backing_fn, (Change){ .bs = bs });
        do_change(set_backing_fn, (Change){ .bs = bs }); /* none already */
    }
    crowd_stop(&crowd);
    g_assert_null(bs->backing);
    blk_close_reader(blk);
    blk_close_reader(a);
    blk_close_reader(b);
}

/* ---- Drains ---- */

typedef struct Owner {
    BlockDriverState *bs;
    int refs, drains, ended, resized;
    bool busy; /* does not get ready before it is told to */
    CoQueue queue;
} Owner;

static void owner_ref(void *owner)
{
    ((Owner *)owner)->refs++;
}

static void owner_unref(void *owner)
{
    ((Owner *)owner)->refs--;
}

static void coroutine_fn owner_co_drain_begin(void *owner)
{
    Owner *o = owner;

    o->drains++;
    while (o->busy) {
        co_queue_wait(&o->queue, NULL);
    }
}

static void owner_drain_end(void *owner)
{
    ((Owner *)owner)->ended++;
}

static void owner_moved(BdrvChild *c)
{
    ((Owner *)c->owner)->bs = c->bs;
}

static void owner_resized(void *owner)
{
    ((Owner *)owner)->resized++;
}

static void owner_report(void *owner, const char *line)
{
}

static const BdrvParentOps owner_ops = {
    .ref = owner_ref,
    .unref = owner_unref,
    .co_drain_begin = owner_co_drain_begin,
    .drain_end = owner_drain_end,
    .moved = owner_moved,
    .resized = owner_resized,
    .report = owner_report,
};

typedef struct Drainer {
    BlockDriverState *bs;
    BdrvDrain *drain;
} Drainer;

static void coroutine_fn drain_entry(void *opaque)
{
    Drainer *d = opaque;

    d->drain = bdrv_co_drain_begin(d->bs);
}

static void poll_some(void)
{
    for (int i = 0; i < 20; i++) {
        aio_poll(aio_current(), false);
    }
}

static int coroutine_fn detach_fn(void *opaque)
{
    return bdrv_co_detach(opaque);
}

/* A job holds a node by an edge of its own: a drain waits for it like for any user. */
static void test_drain_waits_for_owners(void)
{
    BlockBackend *blk = open_opts("driver=raw,file.driver=test-mem,file.size=64k", BLK_O_RDWR);
    BlockDriverState *file = blk_bs(blk)->file->bs;
    Owner job = { .bs = file, .busy = true };
    Drainer d = { .bs = file };
    BdrvChild *edge;

    co_queue_init(&job.queue);
    edge = bdrv_root_attach(bdrv_ref(file), &owner_ops, &job, 0, BLK_PERM_ALL, NULL);
    g_assert_nonnull(edge);
    coroutine_enter(coroutine_create(drain_entry, &d));
    poll_some();
    g_assert_cmpint(job.drains, ==, 1);
    g_assert_cmpint(job.refs, ==, 1);
    g_assert_null(d.drain);
    job.busy = false;
    co_queue_all(&job.queue);
    poll_some();
    g_assert_nonnull(d.drain);
    g_assert_cmpint(job.ended, ==, 0);
    bdrv_drain_end(d.drain);
    g_assert_cmpint(job.ended, ==, 1);
    g_assert_cmpint(job.refs, ==, 0);
    g_assert_cmpint(co_run_sync(detach_fn, edge), ==, 0);
    blk_close_reader(blk);
}

typedef struct Own {
    BlockDriverState *bs;
    int running, done;
    bool go_on;
    CoQueue queue;
} Own;

static void coroutine_fn own_entry(void *opaque)
{
    Own *o = opaque;

    bdrv_co_own_begin(o->bs);
    o->running++;
    while (!o->go_on) {
        co_queue_wait(&o->queue, NULL);
    }
    o->done++;
    bdrv_own_end(o->bs);
}

/* What a node below does of its own: waited for, and held back. */
static void test_drain_waits_for_own(void)
{
    BlockBackend *blk = open_opts("driver=raw,file.driver=test-mem,file.size=64k", BLK_O_RDWR);
    Own own = { .bs = blk_bs(blk)->file->bs };
    Drainer d = { .bs = blk_bs(blk) };

    co_queue_init(&own.queue);
    coroutine_enter(coroutine_create(own_entry, &own));
    g_assert_cmpint(own.running, ==, 1);
    coroutine_enter(coroutine_create(drain_entry, &d));
    coroutine_enter(coroutine_create(own_entry, &own));
    poll_some();
    g_assert_null(d.drain);
    g_assert_cmpint(own.running, ==, 1);
    own.go_on = true;
    co_queue_all(&own.queue);
    poll_some();
    g_assert_nonnull(d.drain);
    g_assert_cmpint(own.done, ==, 1);
    g_assert_cmpint(own.running, ==, 1); /* the second waits */
    bdrv_drain_end(d.drain);
    poll_some();
    g_assert_cmpint(own.done, ==, 2);
    blk_close_reader(blk);
}

typedef struct Closer {
    BlockBackend *blk;
    bool done;
} Closer;

static void coroutine_fn close_entry(void *opaque)
{
    Closer *c = opaque;

    g_assert_cmpint(blk_shut(c->blk), ==, 0);
    blk_free(c->blk);
    c->done = true;
}

/* Nodes that a drain knows do not go under it. */
static void test_close_waits_for_drain(void)
{
    BlockBackend *blk = open_opts("driver=raw,file.driver=test-mem,file.size=64k", BLK_O_RDWR);
    Drainer d = { .bs = blk_bs(blk)->file->bs };
    Closer c = { .blk = blk };

    coroutine_enter(coroutine_create(drain_entry, &d));
    g_assert_nonnull(d.drain);
    coroutine_enter(coroutine_create(close_entry, &c));
    poll_some();
    g_assert_false(c.done);
    bdrv_drain_end(d.drain);
    poll_some();
    g_assert_true(c.done);
}

/* Who opens a node during a drain is not covered by it: a change begins anew. */
static void test_newcomers(void)
{
    BlockBackend *blk = open_opts("driver=test-mem,size=64k,node-name=disk", BLK_O_RDWR), *late;
    Drainer d = { .bs = blk_bs(blk) };
    Owner job = { .bs = d.bs };
    BdrvChild *edge;
    bool covers;

    coroutine_enter(coroutine_create(drain_entry, &d));
    bdrv_graph_lock();
    covers = bdrv_drain_covers(d.drain, d.bs);
    bdrv_graph_unlock();
    g_assert_true(covers);
    edge = bdrv_root_attach(bdrv_ref(d.bs), &owner_ops, &job, 0, BLK_PERM_ALL, NULL);
    g_assert_nonnull(edge);
    bdrv_graph_lock();
    covers = bdrv_drain_covers(d.drain, d.bs);
    bdrv_graph_unlock();
    g_assert_false(covers);
    g_assert_cmpint(co_run_sync(detach_fn, edge), ==, 0);
    late = open_opts("driver=raw,file=disk", 0);
    bdrv_graph_lock();
    covers = bdrv_drain_covers(d.drain, d.bs);
    bdrv_graph_unlock();
    g_assert_false(covers);
    bdrv_drain_end(d.drain);
    blk_close_reader(late);
    blk_close_reader(blk);
}

/* ---- News ---- */

static void count_news(void *opaque)
{
    ++*(int *)opaque;
}

static void test_resize_is_told(void)
{
    BlockBackend *disk = open_opts("driver=test-mem,size=64k,node-name=disk", BLK_O_RDWR);
    BlockBackend *over = open_opts("driver=pass,file.driver=raw,file.file=disk", 0);
    int told = 0, own = 0;

    blk_set_resize_callback(disk, count_news, &own);
    blk_set_resize_callback(over, count_news, &told);
    g_assert_cmpint(blk_truncate(disk, 128 * KiB, true, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_cmpint(blk_getlength(over), ==, 128 * KiB);
    g_assert_cmpint(told, ==, 1);
    g_assert_cmpint(own, ==, 1);
    g_assert_cmpint(blk_truncate(disk, 128 * KiB, true, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_cmpint(told, ==, 1); /* nothing new */
    g_assert_cmpint(blk_truncate(disk, 32 * KiB, true, BLK_PREALLOC_OFF, 0, NULL), ==, 0);
    g_assert_cmpint(blk_getlength(over), ==, 32 * KiB);
    g_assert_cmpint(told, ==, 2);
    blk_close_reader(over);
    blk_close_reader(disk);
}

/* ---- Tracked requests ---- */

typedef struct Req {
    BdrvChild *c;
    int64_t offset;
    size_t bytes;
    unsigned flags;
    bool write, done;
    int ret;
} Req;

static void coroutine_fn req_entry(void *opaque)
{
    Req *r = opaque;
    g_autofree uint8_t *buf = g_malloc0(r->bytes);

    r->ret = r->write ? bdrv_co_pwrite(r->c, r->offset, (int64_t)r->bytes, buf, r->flags)
                      : bdrv_co_pread(r->c, r->offset, (int64_t)r->bytes, buf, r->flags);
    r->done = true;
}

static int coroutine_fn track_fn(void *opaque)
{
    bdrv_co_track_requests(opaque);
    return 0;
}

/* @first begins and does not end yet; @second waits for it, or does not. */
static void run_two(Mem *m, Req *first, Req *second, bool waits)
{
    int before = m->reads + m->writes;

    coroutine_enter(coroutine_create(req_entry, first));
    coroutine_enter(coroutine_create(req_entry, second));
    g_assert_cmpint(m->reads + m->writes - before, ==, waits ? 1 : 2);
    AIO_WAIT_WHILE(aio_current(), !first->done || !second->done);
    g_assert_cmpint(first->ret, ==, 0);
    g_assert_cmpint(second->ret, ==, 0);
}

static void test_serialising(void)
{
    BlockBackend *blk =
        open_opts("driver=raw,file.driver=test-mem,file.size=64k,file.slow=on", BLK_O_RDWR);
    BdrvChild *c = blk_bs(blk)->file;
    Mem *m = memory_file(c->bs);

    g_assert_cmpint(co_run_sync(track_fn, c->bs), ==, 0);
    for (int i = 0; i < 8; i++) { /* each of the two reads or writes, one or none overlaps */
        bool w1 = i & 1, w2 = i & 2, apart = i & 4;
        Req first = { c, 0, 4096, BLK_REQ_SERIALISING, w1 };
        Req second = { c, apart ? 4096 : 2048, 4096, 0, w2 };
        Req plain = { c, 0, 4096, 0, w1 };

        run_two(m, &first, &second, !apart);
        second.done = false;
        run_two(m, &plain, &second, false); /* none of them serialises */
        first.done = second.done = false;
        run_two(m, &second, &first, !apart); /* whichever came first */
    }
    bdrv_untrack_requests(c->bs);
    g_assert_cmpuint(c->bs->tracked, ==, 0);
    blk_close_reader(blk);
}

/* Read-modify-write on a node that is tracked and has an alignment: it does not wait for itself. */
static void test_tracked_and_aligned(void)
{
    BlockBackend *blk = open_opts("driver=test-mem,size=64k,align=512,slow=on", BLK_O_RDWR);
    uint8_t b = 7;

    g_assert_cmpint(co_run_sync(track_fn, blk_bs(blk)), ==, 0);
    g_assert_cmpint(blk_pwrite(blk, 513, 1, &b, 0), ==, 0);
    g_assert_cmphex(byte_at(blk, 513), ==, 7);
    g_assert_cmphex(byte_at(blk, 512), ==, 0xaa);
    g_assert_cmpint(blk_pwrite_zeroes(blk, 100, 2000, 0), ==, 0);
    g_assert_cmphex(byte_at(blk, 99), ==, 0xaa);
    g_assert_cmphex(byte_at(blk, 513), ==, 0);
    g_assert_cmphex(byte_at(blk, 2100), ==, 0xaa);
    g_assert_cmpint(blk_pdiscard(blk, 0, 4096), ==, 0);
    blk_close_reader(blk);
}

/* ---- Writes that change nothing ---- */

static int coroutine_fn write_unchanged_fn(void *opaque)
{
    uint8_t b = 0xaa;

    return bdrv_co_pwrite(opaque, 0, 1, &b, BLK_REQ_WRITE_UNCHANGED);
}

static int coroutine_fn write_fn(void *opaque)
{
    uint8_t b = 0xaa;

    return bdrv_co_pwrite(opaque, 0, 1, &b, 0);
}

static void test_write_unchanged(void)
{
    BlockBackend *blk = open_opts("driver=test-mem,size=64k", BLK_O_RDWR | BLK_O_NO_SHARE);
    BlockBackend *reader = open_opts("driver=test-mem,size=64k", 0);
    Owner stream = { .bs = blk_bs(blk) };
    BdrvChild *edge;

    /* The other writer lets nobody write, but that. */
    g_assert_null(
        bdrv_root_attach(blk_bs(blk), &owner_ops, &stream, BLK_PERM_WRITE, BLK_PERM_ALL, NULL));
    edge = bdrv_root_attach(bdrv_ref(blk_bs(blk)), &owner_ops, &stream, BLK_PERM_WRITE_UNCHANGED,
                            BLK_PERM_ALL, NULL);
    g_assert_nonnull(edge);
    g_assert_cmpint(co_run_sync(write_fn, edge), ==, -EPERM);
    g_assert_cmpint(co_run_sync(write_unchanged_fn, edge), ==, 0);
    g_assert_null(bdrv_root_attach(blk_bs(reader), &owner_ops, &stream, BLK_PERM_WRITE_UNCHANGED,
                                   BLK_PERM_ALL, NULL)); /* read-only */
    g_assert_cmpint(co_run_sync(detach_fn, edge), ==, 0);
    blk_close_reader(reader);
    blk_close_reader(blk);
}

/* ---- Copies ---- */

typedef struct CopyArgs {
    BlockBackend *src, *dst;
    int64_t from, to, bytes;
    int ret;
} CopyArgs;

static int coroutine_fn copy_fn(void *opaque)
{
    CopyArgs *a = opaque;

    a->ret = blk_co_copy_range(a->src, a->from, a->dst, a->to, a->bytes, 0);
    return 0;
}

static int copy(BlockBackend *src, int64_t from, BlockBackend *dst, int64_t to, int64_t bytes)
{
    CopyArgs a = { src, dst, from, to, bytes, 0 };

    g_assert_cmpint(co_run_sync(copy_fn, &a), ==, 0);
    return a.ret;
}

static void test_copy_range(void)
{
    BlockBackend *a = open_opts("driver=raw,file.driver=test-mem,file.size=4M", BLK_O_RDWR);
    BlockBackend *b = open_opts("driver=test-mem,size=4M,align=512", BLK_O_RDWR);
    g_autofree uint8_t *x = g_malloc(3 * MiB), *y = g_malloc(3 * MiB);

    for (int i = 0; i < 3 * MiB; i++) {
        x[i] = (uint8_t)(i * 7 + i / 999);
    }
    g_assert_cmpint(blk_pwrite(a, 1000, 3 * MiB, x, 0), ==, 0);
    g_assert_cmpint(copy(a, 1000, b, 77, 3 * MiB), ==, 0);
    g_assert_cmpint(blk_pread(b, 77, 3 * MiB, y, 0), ==, 0);
    g_assert_cmpmem(x, 3 * MiB, y, 3 * MiB);
    g_assert_cmphex(byte_at(b, 76), ==, 0xaa);
    g_assert_cmphex(byte_at(b, 77 + 3 * MiB), ==, 0xaa);
    g_assert_cmpint(copy(a, 0, b, 0, 0), ==, 0);
    g_assert_cmpint(copy(a, 3 * MiB, b, 0, 2 * MiB), ==, -EIO); /* past the end */
    g_assert_cmpint(copy(a, 0, b, 3 * MiB, 2 * MiB), ==, -EIO);
    g_assert_cmpint(copy(a, 0, a, 4096, 4097), ==, -EINVAL);
    g_assert_cmpint(copy(a, 0, a, 4096, 4096), ==, 0);
    g_assert_cmphex(byte_at(a, 4096 + 1000), ==, x[0]);
    last_mem->fail_writes = 1;
    g_assert_cmpint(copy(a, 0, b, 0, 4096), ==, -EIO);
    blk_close_reader(a);
    blk_close_reader(b);
}

static void coroutine_fn copy_entry(void *opaque)
{
    (void)copy_fn(opaque);
    ((CopyArgs *)opaque)->bytes = -1;
}

/* A copy waits for the one of the two that is drained, and holds up no drain of the other. */
static void test_copy_and_drains(void)
{
    BlockBackend *a = open_opts("driver=test-mem,size=64k", BLK_O_RDWR);
    BlockBackend *b = open_opts("driver=test-mem,size=64k", BLK_O_RDWR);
    CopyArgs args = { a, b, 0, 0, 4096, 1 };
    Drainer db = { .bs = blk_bs(b) }, da = { .bs = blk_bs(a) };

    coroutine_enter(coroutine_create(drain_entry, &db));
    coroutine_enter(coroutine_create(copy_entry, &args));
    poll_some();
    g_assert_cmpint(args.bytes, ==, 4096);
    coroutine_enter(coroutine_create(drain_entry, &da));
    poll_some();
    g_assert_nonnull(da.drain);
    bdrv_drain_end(db.drain);
    poll_some();
    g_assert_cmpint(args.bytes, ==, 4096);
    bdrv_drain_end(da.drain);
    poll_some();
    g_assert_cmpint(args.bytes, ==, -1);
    g_assert_cmpint(args.ret, ==, 0);
    blk_close_reader(a);
    blk_close_reader(b);
}

int main(int argc, char **argv)
{
    mem_register();
    g_assert_true(block_register_driver(&layer_driver, NULL));
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/graph/filter-comes-and-goes", test_filter_comes_and_goes);
    g_test_add_func("/graph/replace-node", test_replace_node);
    g_test_add_func("/graph/replace-under-load", test_replace_under_load);
    g_test_add_func("/graph/error-of-what-goes", test_error_of_what_goes);
    g_test_add_func("/graph/refused", test_refused);
    g_test_add_func("/graph/too-deep", test_too_deep);
    g_test_add_func("/graph/set-backing", test_set_backing);
    g_test_add_func("/graph/drain-waits-for-owners", test_drain_waits_for_owners);
    g_test_add_func("/graph/drain-waits-for-own", test_drain_waits_for_own);
    g_test_add_func("/graph/close-waits-for-drain", test_close_waits_for_drain);
    g_test_add_func("/graph/newcomers", test_newcomers);
    g_test_add_func("/graph/resize-is-told", test_resize_is_told);
    g_test_add_func("/graph/serialising", test_serialising);
    g_test_add_func("/graph/tracked-and-aligned", test_tracked_and_aligned);
    g_test_add_func("/graph/write-unchanged", test_write_unchanged);
    g_test_add_func("/graph/copy-range", test_copy_range);
    g_test_add_func("/graph/copy-and-drains", test_copy_and_drains);
    return g_test_run();
}
