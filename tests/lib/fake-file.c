/* SPDX-License-Identifier: MIT */
/* Files in memory with faults and delays. */
#include "tests/lib/fake-file.h"

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

/* ---- The driver's store ---- */

static int coroutine_fn fake_open(BlockDriverState *bs, Options *o, void **file, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "filename");
    const char *plain = name && g_str_has_prefix(name, "fake:") ? name + 5 : name;
    FakeFile *f;
    FakeNode *n;
    bool torn;
    int ret = co_begin(FAKE_READ, &torn);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not open '%s'", name);
    }
    f = plain ? find(plain, false) : NULL;
    if (!f) {
        return error_set(errp, ENOENT, "No file '%s'", name ? name : "");
    }
    n = g_new0(FakeNode, 1);
    *n = (FakeNode){ f, MAX(setup.align, 1), setup.max_transfer };
    *file = n;
    return 0;
}

static int fake_close(void *file)
{
    g_free(file);
    return 0;
}

static int coroutine_fn fake_create(const char *filename, uint64_t size, GError **errp)
{
    bool torn;
    int ret = co_begin(FAKE_TRUNCATE, &torn);

    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not create '%s'", filename);
    }
    resize(find(filename, true), 0);
    resize(find(filename, true), (int64_t)size);
    return 0;
}

static void fake_limits(void *file, BlockLimits *l)
{
    FakeNode *n = file;

    l->request_alignment = n->align;
    l->max_transfer = n->max_transfer;
}

static int coroutine_fn fake_begin(void *file, MemoryOp op, int64_t offset, int64_t bytes,
                                   bool *torn)
{
    return op == MEMORY_ZERO && setup.no_zero ? -ENOTSUP : co_begin(op, torn);
}

static int coroutine_fn fake_end(void *file, MemoryOp op, int ret)
{
    return op & (MEMORY_FLUSH | MEMORY_TRUNCATE) ? ret : co_end(ret);
}

static void fake_read(void *file, int64_t offset, IOVector *v)
{
    FakeFile *f = ((FakeNode *)file)->f;
    int64_t have;

    spin_lock(&f->lock);
    have = CLAMP(f->size - offset, 0, (int64_t)v->size);
    iov_from_buf(v, 0, f->data + offset, have);
    spin_unlock(&f->lock);
    if (have < (int64_t)v->size) {
        iov_memset(v, have, 0, v->size - have);
    }
}

static int fake_write(void *file, int64_t offset, const IOVector *v, int64_t bytes)
{
    FakeFile *f = ((FakeNode *)file)->f;

    spin_lock(&f->lock);
    reserve(f, offset + bytes);
    if (v) {
        iov_to_buf(v, 0, f->data + offset, bytes);
    } else {
        memset(f->data + offset, 0, bytes);
    }
    f->size = MAX(f->size, offset + bytes);
    spin_unlock(&f->lock);
    return 0;
}

static int fake_zero(void *file, int64_t offset, int64_t bytes)
{
    return fake_write(file, offset, NULL, bytes);
}

/* What is discarded does not read zero: nobody may rely on that. */
static void fake_discard(void *file, int64_t offset, int64_t bytes)
{
    FakeFile *f = ((FakeNode *)file)->f;

    spin_lock(&f->lock);
    memset(f->data + offset, 0xdd, CLAMP(f->size - offset, 0, bytes));
    spin_unlock(&f->lock);
}

/* All is safe now, or what was not is lost. */
static void fake_sync(void *file, bool failed)
{
    FakeFile *f = ((FakeNode *)file)->f;

    if (!setup.sync_drops) {
        return;
    }
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

static int64_t fake_length(void *file)
{
    FakeFile *f = ((FakeNode *)file)->f;
    int64_t size;

    spin_lock(&f->lock);
    size = f->size;
    spin_unlock(&f->lock);
    return size;
}

static int fake_resize(void *file, int64_t bytes, GError **errp)
{
    resize(((FakeNode *)file)->f, bytes);
    return 0;
}

static const MemoryStore store = {
    .name = "fake",
    .tells_size = true,
    .unwritten_reads_zero = bdrv_unwritten_always_zero,
    .open = fake_open,
    .close = fake_close,
    .create = fake_create,
    .limits = fake_limits,
    .begin = fake_begin,
    .end = fake_end,
    .read = fake_read,
    .write = fake_write,
    .zero = fake_zero,
    .discard = fake_discard,
    .sync = fake_sync,
    .length = fake_length,
    .resize = fake_resize,
};

void fake_init(void)
{
    memory_register(&store);
}
