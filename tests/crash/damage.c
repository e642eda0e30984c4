/* SPDX-License-Identifier: MIT */
/* Damages tables by hand, without the driver that is tested. See damage.h. */
#include "damage.h"

#include "block/qcow2/geometry.h"
#include "block/qcow2/header-layout.h"
#include "block/qcow2/refcount-codec.h"
#include "shared.h"
#include "util/bytes.h"

#define COPIED (UINT64_C(1) << 63)

typedef struct Tables {
    MemFile *image;
    uint64_t cluster, entry; /* sizes */
    uint64_t l1, l2, reftable, block;
    unsigned refcount_order;
    bool extended;
    bool keeps_counts; /* an entry lost its place: its count is what tells it */
    bool lost_counts;  /* the other way round */
    uint64_t rnd;
} Tables;

static uint64_t rnd(Tables *t, uint64_t n)
{
    t->rnd = mix64(t->rnd);
    return t->rnd % n;
}

static void put(Tables *t, uint64_t at, uint64_t v)
{
    uint64_t raw;

    stbe64(&raw, v);
    mem_write(t->image, at, &raw, 8);
}

/* An entry of the first L2 table with a cluster; 0: there is none. */
static uint64_t some_entry(Tables *t)
{
    uint64_t n = t->cluster / t->entry, first = rnd(t, n);

    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = t->l2 + (first + i) % n * t->entry, e = shared_be64(t->image, at);

        if ((e & COPIED) && (e & QCOW2_OFFSET_MASK)) {
            return at;
        }
    }
    return 0;
}

static void set_count(Tables *t, uint64_t offset, uint64_t count)
{
    uint64_t index = offset / t->cluster, per_block = t->cluster * 8 >> t->refcount_order;
    g_autofree uint8_t *block = g_malloc(t->cluster);

    if (index < per_block && t->block) {
        mem_read(t->image, t->block, block, t->cluster);
        qcow2_refcount_codec_set(t->refcount_order, block, index, count);
        mem_write(t->image, t->block, block, t->cluster);
    }
}

static void damage_counts(Tables *t, uint64_t entry, bool leak)
{
    uint64_t host = shared_be64(t->image, entry) & QCOW2_OFFSET_MASK;

    if (leak && t->refcount_order > 0) {
        set_count(t, host, 2);
    } else if (!leak && !t->keeps_counts) {
        set_count(t, host, 0);
        t->lost_counts = true;
    }
}

static void damage_place(Tables *t, uint64_t at)
{
    if (t->cluster > 512) {
        put(t, at, shared_be64(t->image, at) | 512);
        t->keeps_counts = true;
    }
}

static void one(Tables *t)
{
    uint64_t at = some_entry(t), e = at ? shared_be64(t->image, at) : 0;

    if (!at) {
        return;
    }
    switch (rnd(t, 9)) {
    case 0:
        damage_counts(t, at, true);
        break;
    case 1:
        damage_counts(t, at, false);
        break;
    case 2:
        put(t, at, e & ~COPIED);
        break;
    case 3:
        put(t, t->l1, shared_be64(t->image, t->l1) & ~COPIED);
        break;
    case 4:
        put(t, at, e | 4);
        break;
    case 5:
        put(t, t->l1, shared_be64(t->image, t->l1) | 4);
        break;
    case 6:
        if (!t->keeps_counts) {
            put(t, t->reftable, 0);
            t->block = 0;
            t->lost_counts = true;
        }
        break;
    case 7:
        if (!t->lost_counts) {
            damage_place(t, at);
        }
        break;
    case 8:
        if (t->extended) {
            put(t, at + 8, shared_be64(t->image, at + 8) | shared_be64(t->image, at + 8) << 32);
        }
        break;
    }
}

void damage_make(MemFile *image, uint64_t seed)
{
    Tables t = { .image = image, .rnd = seed };

    t.cluster = UINT64_C(1) << shared_be32(image, HEADER_AT(cluster_bits));
    t.refcount_order = 4;
    if (shared_be32(image, HEADER_AT(version)) >= 3) {
        t.extended = shared_be64(image, HEADER_AT(incompatible)) & 16;
        t.refcount_order = shared_be32(image, HEADER_AT(refcount_order));
    }
    t.entry = t.extended ? 16 : 8;
    t.l1 = shared_be64(image, HEADER_AT(l1_offset));
    t.l2 = shared_be64(image, t.l1) & QCOW2_OFFSET_MASK;
    t.reftable = shared_be64(image, HEADER_AT(reftable_offset));
    t.block = shared_be64(image, t.reftable);
    for (uint64_t n = t.l2 ? 1 + rnd(&t, 3) : 0; n > 0; n--) {
        one(&t);
    }
}

bool damage_is_marked(const MemFile *image, bool *can)
{
    *can = shared_be32(image, HEADER_AT(version)) >= 3;
    return *can && (shared_be64(image, HEADER_AT(incompatible)) & 2);
}
