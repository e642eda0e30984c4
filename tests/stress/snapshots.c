/* SPDX-License-Identifier: MIT */
/*
 * Internal snapshots that are made and deleted while the workers' requests run: what those read and
 * write is checked as ever, and in the end counts and flags are what a check wants. Two of them may
 * be left when a phase ends: the next one writes over what they share.
 */
#include "stress.h"

#include "tests/lib/rand.h"

#include <errno.h>
#include <string.h>

bool round_takes_snapshots(const Round *r)
{
    bool fits = !r->spec.data_file && r->spec.refcount_bits >= 4 && !r->faulty &&
                !(r->resizes && r->spec.v2);

    return fits && r->seed % 4 != 0;
}

/* What it holds, by another opening of the file. Its size is in *@bytes; g_free(). */
static uint8_t *read_snapshot(Round *r, const char *name, int64_t *bytes)
{
    g_autoptr(GError) err = NULL;
    ImageSpec spec = r->spec;
    BlockBackend *blk;
    uint8_t *buf;

    g_snprintf(spec.options, sizeof(spec.options), "%s%ssnapshot.name=%s", r->spec.options,
               *r->spec.options ? "," : "", name);
    blk = image_open(&spec, 0, &err);
    if (!blk) {
        round_fail(r, "snapshot %s is not to be opened: %s", name, err->message);
        return NULL;
    }
    *bytes = blk_getlength(blk);
    buf = g_malloc(MAX(*bytes, 1));
    if (*bytes && blk_pread(blk, 0, *bytes, buf, 0) < 0) {
        round_fail(r, "snapshot %s cannot be read", name);
    }
    blk_close(blk);
    return buf;
}

/* What it held when it had been made it holds when it is about to go. */
static void look_at_snapshot(Round *r, unsigned i, const char *name, bool made)
{
    int64_t bytes = 0;
    g_autofree uint8_t *now = read_snapshot(r, name, &bytes);

    if (made) {
        r->held[i] = g_steal_pointer(&now);
        r->held_bytes[i] = bytes;
        return;
    }
    if (now && (bytes != r->held_bytes[i] || memcmp(now, r->held[i], (size_t)bytes))) {
        round_fail(r, "snapshot %s has changed", name);
    }
    g_clear_pointer(&r->held[i], g_free);
}

#define STATE_BYTES (100 * KiB)

typedef struct State {
    BlockBackend *blk;
    uint8_t *buf;
} State;

static int coroutine_fn save_fn(void *opaque)
{
    const State *s = opaque;
    IOVector v;

    iov_init_buf(&v, s->buf, STATE_BYTES);
    return blk_co_save_vmstate(s->blk, 0, &v);
}

static int coroutine_fn load_fn(void *opaque)
{
    const State *s = opaque;
    IOVector v;

    iov_init_buf(&v, s->buf, STATE_BYTES);
    return blk_co_load_vmstate(s->blk, 0, &v);
}

/* The state of a machine, which the snapshot is to hold, reads as it was saved. */
static bool save_state(Round *r, unsigned i)
{
    State s = { r->blk, g_malloc(STATE_BYTES) };
    int ret;

    memset(s.buf, 0x40 + (int)i, STATE_BYTES);
    ret = co_run_sync(save_fn, &s);
    memset(s.buf, 0, STATE_BYTES);
    ret = ret < 0 ? ret : co_run_sync(load_fn, &s);
    for (size_t k = 0; k < STATE_BYTES && ret == 0; k++) {
        ret = s.buf[k] == 0x40 + i ? 0 : -EILSEQ;
    }
    g_free(s.buf);
    if (ret < 0) {
        round_fail(r, "a machine's state: %s", g_strerror(-ret));
    }
    return ret == 0;
}

void round_change_snapshots(Round *r)
{
    static const char *const names[ROUND_SNAPSHOTS] = { "a", "b", "c" };
    unsigned i = rand_below(&r->snapshot_rand, ROUND_SNAPSHOTS);
    BlockSnapshotInfo info = { .name = names[i] };
    g_autoptr(GError) err = NULL;
    bool make = !(r->snapshots >> i & 1);
    int ret;

    if (make && !r->resizes && rand_below(&r->snapshot_rand, 2) && save_state(r, i)) {
        info.vm_state_size = STATE_BYTES;
    }
    if (!make) {
        look_at_snapshot(r, i, names[i], false);
    }
    ret = make ? blk_snapshot_create(r->blk, &info, &err)
               : blk_snapshot_delete(r->blk, NULL, names[i], &err);

    if (make && ret == -EINVAL && r->spec.refcount_bits < 16) {
        return; /* a cluster full of compressed data is counted as often as it can be */
    }
    if (ret < 0) {
        round_fail(r, "snapshot %s is not %s: %s", names[i], make ? "made" : "deleted",
                   err->message);
    } else if (make) {
        look_at_snapshot(r, i, names[i], true);
    }
    r->snapshots ^= 1u << i;
}
