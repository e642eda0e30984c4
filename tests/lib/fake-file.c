/* SPDX-License-Identifier: MIT */
/* Files in memory with faults and delays. */
#include "tests/lib/fake-file.h"

#include "block/io.h"
#include "tests/lib/rand.h"

#include <errno.h>
#include <string.h>

#define CAPACITY_MAX (INT64_C(1) << 30)

typedef struct FakeFile FakeFile;
struct FakeFile {
    char *name;
    FakeFile *next;
    SpinLock lock; /* of all below */
    uint8_t *data; /* zero behind size */
    int64_t size, capacity;
    uint8_t *synced; /* what is safe, with FakeSetup.sync_drops; NULL: not known */
    int64_t synced_size;
};

typedef struct FakeNode {
    FakeFile *f;
    unsigned align, max_transfer;
} FakeNode;

static SpinLock files_lock;
static FakeFile *files; /* files_lock */

static FakeSetup setup = { .align = 1 };
static atomic_uint block_ops, blocked;

static struct {
    SpinLock lock; /* of all but met */
    FakeFault f;
    int64_t seen;
    uint64_t rand;
    bool held;
    atomic_uint met; /* FakeOp */
} fault;

void fake_setup(const FakeSetup *s)
{
    setup = *s;
}

void fake_arm(const FakeFault *f)
{
    spin_lock(&fault.lock);
    fault.f = f ? *f : (FakeFault){ 0 };
    fault.seen = 0;
    spin_unlock(&fault.lock);
    atomic_store(&fault.met, 0);
}

void fake_hold(bool on)
{
    spin_lock(&fault.lock);
    fault.held = on;
    spin_unlock(&fault.lock);
}

void fake_block(unsigned ops)
{
    atomic_store(&block_ops, ops);
}

unsigned fake_blocked(void)
{
    return atomic_load(&blocked);
}

bool fake_fault_met(void)
{
    return fake_fault_ops() != 0;
}

unsigned fake_fault_ops(void)
{
    return atomic_load(&fault.met);
}

void fake_seed(uint64_t seed)
{
    spin_lock(&fault.lock);
    fault.rand = seed;
    spin_unlock(&fault.lock);
}

/* ---- Files ---- */

static FakeFile *find_locked(const char *name)
{
    FakeFile *f = files;

    while (f && strcmp(f->name, name)) {
        f = f->next;
    }
    return f;
}

static FakeFile *find(const char *name, bool make)
{
    FakeFile *fresh = g_new0(FakeFile, 1), *f;

    fresh->name = g_strdup(name);
    spin_lock(&files_lock);
    f = find_locked(name);
    if (!f && make) {
        f = g_steal_pointer(&fresh);
        f->next = files;
        files = f;
    }
    spin_unlock(&files_lock);
    if (fresh) {
        g_free(fresh->name);
        g_free(fresh);
    }
    return f;
}

/* Under f->lock. */
static void reserve(FakeFile *f, int64_t bytes)
{
    int64_t capacity = MAX(f->capacity, 64 * KiB);

    g_assert_cmpint(bytes, <=, CAPACITY_MAX);
    while (capacity < bytes) {
        capacity *= 2;
    }
    if (capacity > f->capacity) {
        f->data = g_realloc(f->data, capacity);
        memset(f->data + f->capacity, 0, capacity - f->capacity);
        f->capacity = capacity;
    }
}

static void resize(FakeFile *f, int64_t size)
{
    spin_lock(&f->lock);
    if (size < f->size) {
        memset(f->data + size, 0, f->size - size);
    }
    reserve(f, size);
    f->size = size;
    spin_unlock(&f->lock);
}

FakeContent fake_save(const char *name)
{
    FakeFile *f = find(name, false);
    FakeContent c = { NULL, -1 };

    if (f) {
        spin_lock(&f->lock);
        c.data = g_memdup2(f->data, f->size);
        c.size = f->size;
        spin_unlock(&f->lock);
    }
    return c;
}

void fake_restore(const char *name, const FakeContent *c)
{
    FakeFile *f = find(name, true);

    resize(f, c->size < 0 ? 0 : c->size);
    if (c->size > 0) {
        memcpy(f->data, c->data, c->size);
    }
}

void fake_content_clear(FakeContent *c)
{
    g_clear_pointer(&c->data, g_free);
    c->size = -1;
}

void fake_forget_all(void)
{
    while (files) {
        FakeFile *f = files;

        files = f->next;
        g_free(f->name);
        g_free(f->data);
        g_free(f->synced);
        g_free(f);
    }
}

/* ---- Faults and delays ---- */

/* The errno that this operation meets, or 0. *@yields: iterations to let pass first. */
static int decide(FakeOp op, unsigned *yields, bool *torn)
{
    FakeFault *f = &fault.f;
    int error = 0;

    spin_lock(&fault.lock);
    *yields = setup.yields ? rand_below(&fault.rand, setup.yields + 1) : 0;
    *torn = f->torn;
    if ((f->ops & op) && !fault.held) {
        fault.seen++;
        if (f->nth && (fault.seen == f->nth || (f->forever && fault.seen > f->nth))) {
            error = f->error;
        } else if (f->per_mille && rand_below(&fault.rand, 1000) < f->per_mille) {
            error = f->error                                          ? f->error
                    : (op & FAKE_SPACE) && rand_below(&fault.rand, 2) ? ENOSPC
                                                                      : EIO;
        }
    }
    spin_unlock(&fault.lock);
    if (error) {
        atomic_fetch_or(&fault.met, (unsigned)op);
    }
    return error;
}

static int coroutine_fn co_begin(FakeOp op, bool *torn)
{
    unsigned yields;
    int error;

    if (atomic_load(&block_ops) & op) {
        atomic_fetch_add(&blocked, 1);
        while (atomic_load(&block_ops) & op) {
            co_reschedule_self();
        }
        atomic_fetch_sub(&blocked, 1);
    }
    error = decide(op, &yields, torn);

    while (yields--) {
        co_reschedule_self();
    }
    return -error;
}

/* After the effect, before the request is told to be done. */
static int coroutine_fn co_end(int ret)
{
    unsigned yields = 0;

    if (setup.yields) {
        spin_lock(&fault.lock);
        yields = rand_below(&fault.rand, setup.yields + 1);
        spin_unlock(&fault.lock);
    }
    while (yields--) {
        co_reschedule_self();
    }
    return ret;
}

/* ---- The driver ---- */

static int coroutine_fn fake_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    FakeNode *n = bs->opaque;
    g_autofree char *name = opts_take_str(o, "filename");
    const char *plain = name && g_str_has_prefix(name, "fake:") ? name + 5 : name;
    bool torn;
    int ret = co_begin(FAKE_READ, &torn);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not open '%s'", name);
    }
    n->f = plain ? find(plain, false) : NULL;
    n->align = MAX(setup.align, 1);
    n->max_transfer = setup.max_transfer;
    bs->supported_zero_flags = BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK;
    return n->f ? 0 : error_set(errp, ENOENT, "No file '%s'", name ? name : "");
}

static int coroutine_fn fake_co_create(const char *filename, Options *opts, GError **errp)
{
    uint64_t size;
    bool torn;
    int ret = co_begin(FAKE_TRUNCATE, &torn);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not create '%s'", filename);
    }
    if (!opts_take_size(opts, "size", 0, &size, errp)) {
        return -EINVAL;
    }
    resize(find(filename, true), 0);
    resize(find(filename, true), (int64_t)size);
    return 0;
}

static void fake_refresh_limits(BlockDriverState *bs)
{
    FakeNode *n = bs->opaque;

    bs->limits.request_alignment = n->align;
    bs->limits.max_transfer = n->max_transfer;
}

static int coroutine_fn fake_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                       unsigned flags)
{
    FakeFile *f = ((FakeNode *)bs->opaque)->f;
    int64_t have;
    bool torn;
    int ret = co_begin(FAKE_READ, &torn);

    if (ret < 0) {
        return ret;
    }
    spin_lock(&f->lock);
    have = CLAMP(f->size - offset, 0, (int64_t)v->size);
    iov_from_buf(v, 0, f->data + offset, have);
    spin_unlock(&f->lock);
    if (have < (int64_t)v->size) {
        iov_memset(v, have, 0, v->size - have);
    }
    return co_end(0);
}

/* Store @bytes of @v (NULL: zeroes). */
static void store(FakeFile *f, int64_t offset, const IOVector *v, int64_t bytes)
{
    spin_lock(&f->lock);
    reserve(f, offset + bytes);
    if (v) {
        iov_to_buf(v, 0, f->data + offset, bytes);
    } else {
        memset(f->data + offset, 0, bytes);
    }
    f->size = MAX(f->size, offset + bytes);
    spin_unlock(&f->lock);
}

static int coroutine_fn fake_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                        unsigned flags)
{
    FakeFile *f = ((FakeNode *)bs->opaque)->f;
    bool torn;
    int ret = co_begin(FAKE_WRITE, &torn);

    if (ret == 0) {
        store(f, offset, v, (int64_t)v->size);
    } else if (torn) {
        store(f, offset, v,
              v->size > 1024
                  ? ALIGN_DOWN(offset + (int64_t)v->size / 2 + 512, INT64_C(512)) - offset
                  : (int64_t)v->size);
    }
    return co_end(ret);
}

static int coroutine_fn fake_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                              unsigned flags)
{
    bool torn;
    int ret;

    if (setup.no_zero) {
        return -ENOTSUP;
    }
    ret = co_begin(FAKE_ZERO, &torn);
    if (ret == 0) {
        store(((FakeNode *)bs->opaque)->f, offset, NULL, bytes);
    }
    return co_end(ret);
}

/* What is discarded does not read zero: nobody may rely on that. */
static int coroutine_fn fake_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    FakeFile *f = ((FakeNode *)bs->opaque)->f;
    int64_t have;
    bool torn;
    int ret = co_begin(FAKE_DISCARD, &torn);

    if (ret < 0) {
        return ret;
    }
    spin_lock(&f->lock);
    have = CLAMP(f->size - offset, 0, bytes);
    memset(f->data + offset, 0xdd, have);
    spin_unlock(&f->lock);
    return co_end(0);
}

/* All is safe now, or what was not is lost. */
static void sync_content(FakeFile *f, bool failed)
{
    spin_lock(&f->lock);
    if (!failed) {
        f->synced = g_realloc(f->synced, MAX(f->size, 1));
        f->synced_size = f->size;
        memcpy(f->synced, f->data, f->size);
    } else if (f->synced) {
        memset(f->data, 0, f->size);
        memcpy(f->data, f->synced, f->synced_size);
        f->size = f->synced_size;
    }
    spin_unlock(&f->lock);
}

static int coroutine_fn fake_co_flush(BlockDriverState *bs)
{
    bool torn;
    int ret = co_begin(FAKE_FLUSH, &torn);

    if (setup.sync_drops) {
        sync_content(((FakeNode *)bs->opaque)->f, ret < 0);
    }
    return ret;
}

static int64_t coroutine_fn fake_co_getlength(BlockDriverState *bs)
{
    FakeFile *f = ((FakeNode *)bs->opaque)->f;
    int64_t size;

    spin_lock(&f->lock);
    size = f->size;
    spin_unlock(&f->lock);
    return size;
}

static int coroutine_fn fake_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                         BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    bool torn;
    int ret = co_begin(FAKE_TRUNCATE, &torn);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to resize the file");
    }
    resize(((FakeNode *)bs->opaque)->f, bytes);
    return 0;
}

static const BlockDriver fake_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "fake",
    .protocol_name = "fake",
    .instance_size = sizeof(FakeNode),
    .unwritten_reads_zero = bdrv_unwritten_always_zero,
    .co_open = fake_co_open,
    .co_create = fake_co_create,
    .refresh_limits = fake_refresh_limits,
    .co_preadv = fake_co_preadv,
    .co_pwritev = fake_co_pwritev,
    .co_pwrite_zeroes = fake_co_pwrite_zeroes,
    .co_pdiscard = fake_co_pdiscard,
    .co_flush_to_disk = fake_co_flush,
    .co_truncate = fake_co_truncate,
    .co_getlength = fake_co_getlength,
    .co_get_allocated_size = fake_co_getlength,
};

void fake_init(void)
{
    g_assert_true(block_register_driver(&fake_driver, NULL));
}
