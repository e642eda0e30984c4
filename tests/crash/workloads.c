/* SPDX-License-Identifier: MIT */
/*
 * The workloads: each makes an image's options and a short program from a seed.  To add one: a
 * function, and a line in the table.  Disks are small, so that a state costs little; they still
 * cross every boundary of tables, because most have small clusters.
 */
/* Shows INV-COW-1, INV-COW-2, INV-COW-3, INV-SYNC-1, INV-SYNC-2, INV-W-3, INV-RS-1. */
#include "bitmaps.h"
#include "pieces.h"
#include "program.h"
#include "workload-resize.h"
#include "workload-snapshots.h"
#include "workload-space.h"

/* ---- Workloads ---- */

static void make_alloc(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE };

    common(p, r);
    mixed(p, r, t, G_N_ELEMENTS(t), 8);
}

static void make_overwrite(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO };

    common(p, r);
    any_cluster_size(p, r);
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    mixed(p, r, t, G_N_ELEMENTS(t), 8);
}

static void make_cow(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    any_cluster_size(p, r);
    with_backing(p, r);
    mixed(p, r, t, G_N_ELEMENTS(t), 8);
}

/* What is let go of is used again soon: the disk is nearly full, the file small. */
static void make_reuse(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_DISCARD, OP_DISCARD, OP_UNMAP };

    common(p, r);
    p->cfg.no_unref = p->cfg.version == 3 && chance(r, 6);
    p->cfg.size = MAX(16u << p->cfg.cluster_bits, 16 * KiB);
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    fill(p, 0, p->cfg.size, p->cfg.size / 2, true);
    mixed(p, r, t, G_N_ELEMENTS(t), 12);
}

/* Requests on the same clusters at the same time: overwrite, discard and reuse race. */
static void make_race(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_DISCARD, OP_UNMAP };
    uint64_t cluster;

    common(p, r);
    cluster = UINT64_C(1) << p->cfg.cluster_bits;
    p->cfg.size = 16 * cluster;
    fill(p, 0, 8 * cluster, 2 * cluster, true);
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = 5 + upto(r, 10), few = 3 + upto(r, 13);

        if (chance(r, 2)) { /* an overwrite under way while its cluster is discarded and given to
                               another */
            uint64_t a = upto(r, few) * cluster;

            program_add(p, OP_WRITE, a, cluster);
            program_add(p, OP_DISCARD, a, cluster)->with = true;
            program_add(p, OP_FLUSH, 0, 0)->then = true;
            program_add(p, OP_WRITE, upto(r, 16) * cluster, cluster)->then = true;
            continue;
        }
        for (unsigned k = 0; k < n; k++) {
            OpType type = chance(r, 4) ? OP_FLUSH : t[upto(r, G_N_ELEMENTS(t))];
            Op *op = type == OP_FLUSH ? program_add(p, OP_FLUSH, 0, 0)
                                      : program_add(p, type, upto(r, few) * cluster, cluster);

            op->with = k > 0 && chance(r, 2);
            op->then = k > 0 && !op->with;
        }
    }
    flush(p);
}

static void make_zero(Program *p, GRand *r)
{
    static const OpType t[] = { OP_ZERO, OP_UNMAP, OP_WRITE, OP_WRITE, OP_DISCARD };

    common(p, r);
    any_cluster_size(p, r);
    if (chance(r, 2)) {
        with_backing(p, r);
    }
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    mixed(p, r, t, G_N_ELEMENTS(t), 9);
}

/* As convert writes: from front to end, large, some zero, no flush until the end. */
static void make_convert(Program *p, GRand *r)
{
    uint64_t step;

    common(p, r);
    step = MAX(ALIGN_UP(p->cfg.size / 8, (uint64_t)SECTOR), UINT64_C(1) << p->cfg.cluster_bits);
    for (uint64_t at = 0; at < p->cfg.size; at += step) {
        Op *op =
            program_add(p, chance(r, 5) ? OP_UNMAP : OP_WRITE, at, MIN(step, p->cfg.size - at));

        op->with = at && chance(r, 2);
    }
    flush(p);
}

static void make_compress(Program *p, GRand *r)
{
    uint64_t cluster;

    common(p, r);
    p->cfg.lazy = p->cfg.lazy && chance(r, 2);
    p->cfg.zstd = p->cfg.version == 3 && chance(r, 2);
    cluster = UINT64_C(1) << p->cfg.cluster_bits;
    p->cfg.size = 24 * cluster;
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 18; i++) {
        if (cluster > 2 * SECTOR && chance(r, 6)) { /* a part of what may be compressed */
            program_add(p, OP_WRITE, upto(r, 24) * cluster + SECTOR,
                        SECTOR * (1 + upto(r, (uint32_t)(cluster / SECTOR) - 2)));
        } else if (chance(r, 4)) {
            static const OpType t[] = { OP_WRITE, OP_DISCARD, OP_UNMAP };

            some(p, r, t[upto(r, 3)], p->cfg.size, 2 * cluster);
        } else {
            program_add(p, OP_COMPRESS, upto(r, 24) * cluster, cluster)->noisy = chance(r, 5);
        }
        if (chance(r, 5)) {
            flush(p);
        }
    }
}

static void make_resize(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO, OP_DISCARD };

    common(p, r);
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    if (p->cfg.backing && chance(r, 2)) {
        p->cfg.backing_size = 3 * p->cfg.size; /* more than the disk shows at first */
    }
    for (unsigned i = 0; i < 5; i++) {
        uint64_t size = p->cfg.size;

        mixed(p, r, t, G_N_ELEMENTS(t), 1 + upto(r, 2));
        program_add(p, OP_RESIZE, 0,
                    (uint64_t)(1 + upto(r, (uint32_t)(2 * size / SECTOR))) * SECTOR)
            ->noisy = chance(r, 3);
        if (chance(r, 2)) {
            flush(p);
        }
        /* What follows stays within the smallest size. */
        for (guint k = 0; k < p->ops->len; k++) {
            if (program_op(p, k)->type == OP_RESIZE) {
                size = MIN(size, program_op(p, k)->bytes);
            }
        }
        if (size < 4 * SECTOR) {
            break;
        }
        uint64_t keep = p->cfg.size;
        p->cfg.size = size;
        mixed(p, r, t, G_N_ELEMENTS(t), 1);
        p->cfg.size = keep;
        if (size < keep) {
            break; /* the generator does not know which sizes fit any more */
        }
    }
}

/* A disk with many refcount blocks shrinks, and what they gave back is used again. */
static void make_shrink(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_DISCARD };
    uint64_t size, grown;

    common(p, r);
    p->cfg.cluster_bits = 9;
    p->cfg.extended = false;
    if (p->cfg.version == 3) {
        p->cfg.refcount_bits = 64; /* a block counts 32 KiB */
    }
    p->cfg.size = grown = 256 * KiB;
    fill(p, 0, grown, 64 * KiB, true);
    for (unsigned i = 0; i < 3; i++) {
        size = 16 * KiB + SECTOR * upto(r, 100);
        program_add(p, OP_RESIZE, 0, size);
        p->cfg.size = size;
        batch(p, r, t, G_N_ELEMENTS(t), 8 * KiB);
        program_add(p, OP_RESIZE, 0, grown);
        p->cfg.size = grown;
        for (unsigned k = 0; k < 3; k++) {
            some(p, r, OP_WRITE, grown, 64 * KiB);
        }
        if (chance(r, 2)) {
            flush(p);
        }
    }
    p->cfg.size = grown;
}

/* A larger L1 table again and again, with data at the new end. */
static void make_l1_growth(Program *p, GRand *r)
{
    uint64_t size, step;

    common(p, r);
    p->cfg.cluster_bits = 9;
    p->cfg.extended = false;
    p->cfg.size = size = 32 * KiB;
    if (chance(r, 4)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 5; i++) {
        program_add(p, OP_WRITE, size - 4 * KiB, 4 * KiB);
        if (chance(r, 2)) {
            flush(p);
        }
        step = chance(r, 3) ? 2 * MiB : 32 * KiB * (1 + upto(r, 3));
        size += i < 4 && size < MiB ? step : 32 * KiB;
        program_add(p, OP_RESIZE, 0, size);
    }
    program_add(p, OP_WRITE, size - 4 * KiB, 4 * KiB);
    flush(p);
}

/* Some writes below fail, once each: of tables, of data, of the header. */
static void make_fault(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_DISCARD, OP_UNMAP, OP_ZERO };

    common(p, r);
    if (chance(r, 4)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 4; i++) {
        program_add(p, OP_FAULT, 1 + upto(r, chance(r, 2) ? 6 : 16), 0);
        mixed(p, r, t, G_N_ELEMENTS(t), 2);
        flush(p);
        if (chance(r, 5)) {
            program_add(p, OP_KILL, 0, 0);
        }
    }
}

/* The same while L1 tables grow: the header may name the old one or the new. */
static void make_l1_growth_fault(Program *p, GRand *r)
{
    uint64_t size = 32 * KiB;

    common(p, r);
    p->cfg.cluster_bits = 9;
    p->cfg.extended = false;
    p->cfg.size = size;
    for (unsigned i = 0; i < 3; i++) {
        program_add(p, OP_FAULT, 1 + upto(r, 6), 0);
        program_add(p, OP_RESIZE, 0, size + 2 * MiB);
        program_add(p, OP_WRITE, 0, 4 * KiB);
        flush(p);
        program_add(p, OP_DISCARD, 0, 32 * KiB);
        flush(p);
    }
}

/* Refcount blocks of 64 entries; the table (64 entries) is nearly full. Where it is filled to. */
static uint64_t nearly_full(Program *p, GRand *r)
{
    uint64_t near = 1904 * KiB + SECTOR * upto(r, 100);

    common(p, r);
    p->cfg.cluster_bits = 9;
    p->cfg.extended = false;
    p->cfg.version = 3;
    p->cfg.refcount_bits = 64;
    p->cfg.size = 2304 * KiB;
    fill(p, 0, near, 256 * KiB, true);
    return near;
}

/* The table moves during the recording. */
static void make_refcount_growth(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_DISCARD };
    uint64_t near = nearly_full(p, r);

    fill(p, near, 2100 * KiB, 16 * KiB, false);
    for (unsigned i = 0; i < 5; i++) {
        some(p, r, t[upto(r, 4)], p->cfg.size, 8 * KiB);
        if (chance(r, 2)) {
            flush(p);
        }
    }
}

/* The same, and writes below fail: of the table that moves, and of the header that is to name it.
 */
static void make_refcount_growth_fault(Program *p, GRand *r)
{
    uint64_t at = nearly_full(p, r);

    for (; at < 2100 * KiB; at += 64 * KiB) {
        program_add(p, OP_FAULT, 1 + upto(r, 12), 0);
        program_add(p, OP_WRITE, at, MIN(64 * KiB, 2100 * KiB - at));
        flush(p);
        program_add(p, OP_DISCARD, at, 16 * KiB);
    }
    flush(p);
}

/* Another geometry: its cluster bits. */
static unsigned some_geometry(Program *p, GRand *r, unsigned now)
{
    static const uint8_t bits[] = { 9, 10, 12, 14, 15 };
    unsigned next = chance(r, 3) ? now : bits[upto(r, G_N_ELEMENTS(bits))];

    program_remake(p, next, 4 + upto(r, 3), chance(r, 2), chance(r, 2));
    return next;
}

/* Other geometries, with writes that fail, or that a dying process leaves unsynced; and requests
 * between them that use what the old ones had. Shows
 * INV-REMAKE-1, INV-REMAKE-2, INV-REMAKE-3, INV-RD-1, INV-SPACE-1. */
static void make_remake(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_UNMAP, OP_DISCARD };
    bool faulty = chance(r, 3);
    unsigned bits;

    common(p, r);
    p->cfg.refcount_bits = MAX(p->cfg.refcount_bits, 16); /* many share a cluster of packed data */
    p->cfg.bitmap = p->cfg.version == 3 && chance(r, 12);
    p->cfg.size = 64 * KiB + SECTOR * upto(r, 100);
    bits = p->cfg.cluster_bits;
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    for (unsigned i = 0; i < 3; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 1 + upto(r, 2));
        if (faulty) {
            program_add(p, OP_FAULT, 1 + upto(r, 24), 0);
        } else {
            program_add(p, OP_COMPRESS, (uint64_t)upto(r, (uint32_t)(p->cfg.size >> bits)) << bits,
                        UINT64_C(1) << bits);
        }
        if (chance(r, 4)) {
            program_add(p, OP_DIE, 1 + upto(r, 8), 0);
            some(p, r, OP_DISCARD, p->cfg.size, p->cfg.size);
            flush(p);
            program_add(p, OP_KILL, 0, 0);
        }
        bits = some_geometry(p, r, bits);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 3);
}

static void make_lazy(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_DISCARD, OP_UNMAP };

    common(p, r);
    p->cfg.version = 3;
    p->cfg.lazy = true;
    mixed(p, r, t, G_N_ELEMENTS(t), 5);
    program_add(p, OP_REOPEN, 0, 0);
    mixed(p, r, t, G_N_ELEMENTS(t), 5);
}

/* The process dies, and its successor goes on (with lazy refcounts: rebuilds them). */
static void make_kill(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_DISCARD, OP_ZERO };

    common(p, r);
    p->cfg.lazy = p->cfg.version == 3 && chance(r, 2);
    for (unsigned i = 0; i < 3; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        if (chance(r, 2)) { /* in the middle of a flush */
            program_add(p, OP_FAULT, 1 + upto(r, 4), 0);
            flush(p);
        }
        program_add(p, OP_KILL, 0, 0);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
}

/* The process dies in the middle of what it does: requests, and flushes. */
static void make_die(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_DISCARD, OP_UNMAP, OP_ZERO };

    common(p, r);
    any_cluster_size(p, r);
    p->cfg.lazy = p->cfg.version == 3 && chance(r, 2);
    if (chance(r, 4)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 3; i++) {
        if (chance(r, 2)) {
            mixed(p, r, t, G_N_ELEMENTS(t), 2);
        }
        program_add(p, OP_DIE, 1 + upto(r, chance(r, 2) ? 8 : 30), 0);
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        flush(p);
        program_add(p, OP_KILL, 0, 0);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
}

/* A device that has less room than the disk, and held something else before: writes fail for want
 * of room, and counts are rebuilt where they were. */
static void make_device(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_DISCARD, OP_ZERO };
    static const OpType again[] = { OP_KILL, OP_KILL, OP_REOPEN, OP_POWER };
    uint64_t cluster;

    common(p, r);
    cluster = UINT64_C(1) << p->cfg.cluster_bits;
    p->cfg.lazy = p->cfg.version == 3 && !chance(r, 3);
    p->cfg.device =
        p->cfg.size * (20 + upto(r, 100)) / 100 / SECTOR * SECTOR + (8 + upto(r, 8)) * cluster;
    for (unsigned i = 0; i < 4; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        if (chance(r, 4)) { /* in the middle of a flush */
            program_add(p, OP_FAULT, 1 + upto(r, 4), 0);
            flush(p);
        }
        program_add(p, again[upto(r, G_N_ELEMENTS(again))], 0, 0);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
}

/* Power fails, and what is left is used on. */
static void make_power(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_DISCARD, OP_UNMAP };

    common(p, r);
    p->cfg.lazy = p->cfg.version == 3 && chance(r, 2);
    if (chance(r, 4)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 4; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        program_add(p, OP_POWER, 0, 0);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
}

static void make_data_file(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    any_cluster_size(p, r);
    p->cfg.version = 3;
    p->cfg.data_file = 1 + upto(r, 3);
    if (p->cfg.data_file == 1 && chance(r, 2)) {
        with_backing(p, r);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 8);
}

static void make_prealloc(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO, OP_DISCARD };

    common(p, r);
    any_cluster_size(p, r);
    p->cfg.prealloc = 1 + upto(r, 3);
    p->cfg.no_unref = p->cfg.version == 3 && chance(r, 2);
    mixed(p, r, t, G_N_ELEMENTS(t), 8);
}

static void make_create(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE };

    common(p, r);
    if (chance(r, 3)) {
        with_backing(p, r);
    } else if (chance(r, 2)) {
        p->cfg.prealloc = 1 + upto(r, 3);
    }
    program_add(p, OP_CREATE, 0, 0);
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
}

/* Subclusters: partial ones, zero ones, over a backing file. */
static void make_extended(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    p->cfg.version = 3;
    p->cfg.extended = true;
    p->cfg.cluster_bits = chance(r, 3) ? 16 : 14;
    p->cfg.size = 12u << p->cfg.cluster_bits;
    if (chance(r, 2)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 10; i++) {
        batch(p, r, t, G_N_ELEMENTS(t), 24 * KiB);
    }
}

/* Any two sectors, and all between them. */
static Op *stretch(Program *p, GRand *r, OpType type)
{
    uint32_t sectors = (uint32_t)(p->cfg.size / SECTOR), a = upto(r, sectors), b = upto(r, sectors);

    return program_add(p, type, (uint64_t)MIN(a, b) * SECTOR,
                       (uint64_t)(MAX(a, b) - MIN(a, b) + 1) * SECTOR);
}

/* Data side by side on the host; then some clusters read zero and keep their space, and some have
 * none. */
static void checkered(Program *p, GRand *r)
{
    uint64_t cluster = UINT64_C(1) << p->cfg.cluster_bits;

    fill(p, 0, p->cfg.size, p->cfg.size, true);
    for (uint64_t at = 0; at < p->cfg.size; at += cluster) {
        static const OpType t[] = { OP_ZERO, OP_ZERO, OP_UNMAP };

        if (chance(r, 2)) {
            program_add(p, t[upto(r, 3)], at, MIN(cluster, p->cfg.size - at))->setup = true;
        }
    }
}

/* Clusters whose edges are worth a call of their own, in all states beside each other, and runs
 * over many of them. */
static void make_large_clusters(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO, OP_DISCARD };

    common(p, r);
    p->cfg.extended = p->cfg.version == 3 && chance(r, 3);
    p->cfg.cluster_bits = 16 + upto(r, 6);
    p->cfg.size = (p->cfg.cluster_bits == 21 ? 3u : 4u) << p->cfg.cluster_bits;
    p->cfg.size -= chance(r, 2) ? SECTOR * upto(r, 1u << (p->cfg.cluster_bits - 9)) : 0;
    p->cfg.l2_cache = 0;
    if (chance(r, 4)) {
        p->cfg.prealloc = 1;
    } else if (chance(r, 4)) {
        with_backing(p, r);
    }
    if (chance(r, 2)) {
        checkered(p, r);
    }
    for (unsigned i = 0; i < 4; i++) {
        if (chance(r, 2)) {
            batch(p, r, t, G_N_ELEMENTS(t), 64 * KiB);
        } else {
            stretch(p, r, t[upto(r, G_N_ELEMENTS(t))]);
        }
    }
}

/* Clusters and tables that an internal snapshot shares. */
static void make_snapshot(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    p->cfg.refcount_bits = MAX(p->cfg.refcount_bits, 2);
    p->cfg.snapshot = true;
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    mixed(p, r, t, G_N_ELEMENTS(t), 8);
}

/* Clusters of all kinds in holes, moved together, and used on. Shows INV-CMP-1, INV-CMP-2,
 * INV-CMP-3, INV-TAIL-1. */
static void make_compact(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE,   OP_WRITE,   OP_ZERO,
                                OP_UNMAP, OP_DISCARD, OP_DISCARD, OP_DISCARD };
    static const OpType again[] = { OP_KILL, OP_REOPEN, OP_POWER, OP_COMPACT };
    uint64_t cluster;

    common(p, r);
    cluster = UINT64_C(1) << p->cfg.cluster_bits;
    p->cfg.bitmap = p->cfg.version == 3 && chance(r, 4);
    if (chance(r, 2)) {
        p->cfg.snapshot = p->cfg.refcount_bits > 1 && p->cfg.version == 3;
    }
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 8, true);
    for (unsigned i = 0; i < 3; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        for (unsigned k = upto(r, 6); k > 0; k--) {
            program_add(p, OP_COMPRESS,
                        (uint64_t)upto(r, (uint32_t)(p->cfg.size / cluster)) * cluster, cluster)
                ->noisy = chance(r, 5);
        }
        some(p, r, OP_DISCARD, p->cfg.size, 4 * cluster);
        if (chance(r, 5)) {
            program_add(p, OP_DIE, 1 + upto(r, 30), 0);
        }
        program_add(p, OP_COMPACT, chance(r, 3), 0);
        if (chance(r, 2)) {
            program_add(p, again[upto(r, 4)], 0, 0);
        }
    }
}

/* Internal snapshots come and go, and the disk goes back to them. Shows INV-SH-1, INV-SH-2. */
static void make_snapshot_ops(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_UNMAP, OP_DISCARD };
    static const OpType s[] = { OP_SNAPSHOT, OP_SNAPSHOT, OP_APPLY, OP_DELETE };
    unsigned made = 0;

    common(p, r);
    p->cfg.version = 3; /* version 2 has no dirty bit: flags do not fit in between */
    p->cfg.refcount_bits = MAX(p->cfg.refcount_bits, 8);
    p->cfg.size = 96 * KiB + SECTOR * upto(r, 100);
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    for (unsigned i = 0; i < 6; i++) {
        OpType type = made ? s[upto(r, G_N_ELEMENTS(s))] : OP_SNAPSHOT;

        mixed(p, r, t, G_N_ELEMENTS(t), 1 + upto(r, 2));
        program_add(p, type, type == OP_SNAPSHOT ? made : upto(r, made), 0);
        made += type == OP_SNAPSHOT;
        if (chance(r, 5)) {
            program_add(p, chance(r, 2) ? OP_REOPEN : OP_KILL, 0, 0);
        }
    }
}

/* A bitmap that must tell of every change: its bits are set before that reaches the disk. Shows
 * INV-TRK-2, INV-TRK-3, INV-BMST-1. */
static void make_bitmap(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    p->cfg.version = 3;
    p->cfg.bitmap = true;
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    batch(p, r, &t[upto(r, G_N_ELEMENTS(t))], 1, 8 * KiB);
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
    if (chance(r, 3)) {
        program_add(p, chance(r, 2) ? OP_POWER : OP_KILL, 0, 0);
        mixed(p, r, t, G_N_ELEMENTS(t), 1);
    }
}

/* Bitmaps come, go and change beside the guest's writes. Shows INV-BMST-1, INV-TRK-2, INV-TRK-3. */
static void make_bitmaps(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    p->cfg.version = 3;
    fill(p, 0, p->cfg.size / 2, p->cfg.size / 4, true);
    for (unsigned i = 0; i < 7; i++) {
        bool adds = i == 0 || chance(r, 4);
        BlockBitmapAction what = adds ? BLK_BITMAP_ADD : upto(r, BLK_BITMAP_MERGE + 1);

        program_add(p, OP_BITMAP,
                    bitmaps_code(what, i == 0 ? 0 : upto(r, 3), upto(r, 3), 9 + 3 * upto(r, 2)), 0);
        mixed(p, r, t, G_N_ELEMENTS(t), 1);
        if (chance(r, 6)) {
            program_add(p, chance(r, 2) ? OP_REOPEN : OP_KILL, 0, 0);
        } else if (chance(r, 12)) {
            program_add(p, OP_RESIZE, 0, p->cfg.size * 2);
        }
    }
}

/* The same while writes fail. Shows INV-BMST-2. */
static void make_bitmaps_fault(Program *p, GRand *r)
{
    make_bitmaps(p, r);
    for (guint i = p->ops->len; i-- > 0;) {
        if (program_op(p, i)->type == OP_BITMAP && chance(r, 3)) {
            Op op = { .type = OP_FAULT, .offset = 1 + upto(r, 6) };

            g_array_insert_val(p->ops, i, op);
        }
    }
}

/* The backing file's name changes: longer, shorter, with and without its format. */
static void make_header(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_ZERO, OP_DISCARD };

    common(p, r);
    with_backing(p, r);
    for (unsigned i = 0; i < 5; i++) {
        program_add(p, OP_BACKING, upto(r, 30), 0);
        if (chance(r, 3)) {
            mixed(p, r, t, G_N_ELEMENTS(t), 1);
        }
        if (chance(r, 6)) {
            program_add(p, OP_REOPEN, 0, 0);
        }
    }
}

/* The version of the image and lazy refcounts change, with clusters that read zero by flag. */
static void make_amend(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    p->cfg.extended = false;
    p->cfg.refcount_bits = 16;
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 4; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 2);
        program_add(p, OP_AMEND, upto(r, 4), 0);
        if (chance(r, 6)) {
            program_add(p, chance(r, 2) ? OP_POWER : OP_REOPEN, 0, 0);
        }
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 1);
}

/* Headers that are rewritten, and writes below fail. */
static void make_header_fault(Program *p, GRand *r)
{
    common(p, r);
    with_backing(p, r);
    for (unsigned i = 0; i < 4; i++) {
        program_add(p, OP_FAULT, 1 + upto(r, 5), 0);
        program_add(p, OP_BACKING, upto(r, 30), 0);
        if (chance(r, 2)) {
            program_add(p, OP_WRITE, upto(r, 8) * 4 * KiB, 4 * KiB);
        }
        flush(p);
    }
}

/* Repairs of images that are damaged when the recording begins; all of the disk has been
 * written. Shows INV-REP-2, INV-REP-3, INV-REP-4. */
static void make_repair(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_ZERO };

    common(p, r);
    p->cfg.lazy = false;
    p->cfg.damage = 1 + upto(r, 1000000);
    fill(p, 0, p->cfg.size, p->cfg.size / 6, true);
    program_add(p, OP_REPAIR, 0, 0);
    mixed(p, r, t, G_N_ELEMENTS(t), 1);
    if (chance(r, 3)) {
        program_add(p, OP_REPAIR, 0, 0);
    }
}

/* What was never written reads zero by its entry alone. */
static void make_encrypted(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };

    common(p, r);
    p->cfg.encrypted = true;
    p->cfg.version = 3; /* the older one preallocates no encrypted image */
    any_cluster_size(p, r);
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 3; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        if (chance(r, 4)) {
            static const OpType again[] = { OP_KILL, OP_REOPEN, OP_POWER };

            program_add(p, again[upto(r, 3)], 0, 0);
        }
    }
}

static void make_any(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE,   OP_WRITE,  OP_ZERO,
                                OP_UNMAP, OP_DISCARD, OP_DISCARD };

    common(p, r);
    any_cluster_size(p, r);
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 4; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 3);
        if (chance(r, 4)) {
            static const OpType again[] = { OP_KILL, OP_REOPEN, OP_POWER };

            program_add(p, again[upto(r, 3)], 0, 0);
        }
    }
}

const Workload workloads[] = {
    { "alloc", "allocating writes, overlapping and at the same time", make_alloc },
    { "overwrite", "writes over clusters that are there", make_overwrite },
    { "cow", "copy-on-write over a backing file", make_cow },
    { "zero", "zero writes and discards", make_zero },
    { "reuse", "discard, and the clusters used again", make_reuse },
    { "race", "overwrite, discard and reuse of the same clusters at once", make_race },
    { "convert", "a sequential copy, one flush", make_convert },
    { "compress", "compressed clusters, and writes over them", make_compress },
    { "resize", "grow and shrink", make_resize },
    { "resize-beside", "grow and shrink beside requests", make_resize_beside },
    { "shrink", "refcount blocks that a shrink gives back", make_shrink },
    { "l1-growth", "L1 tables that grow", make_l1_growth },
    { "refcount-growth", "refcount blocks and a refcount table that grow", make_refcount_growth },
    { "fault", "writes below that fail, once each", make_fault },
    { "l1-growth-fault", "the same while L1 tables grow", make_l1_growth_fault },
    { "refcount-growth-fault", "the same while a refcount table grows",
      make_refcount_growth_fault },
    { "lazy", "lazy refcounts", make_lazy },
    { "kill", "the process dies, the next one goes on", make_kill },
    { "die", "the process dies in the middle, the next one goes on", make_die },
    { "device", "a device with too little room", make_device },
    { "power", "power fails, and what is left is used on", make_power },
    { "data-file", "external data files, raw and not", make_data_file },
    { "prealloc", "preallocated images", make_prealloc },
    { "create", "creation of an image", make_create },
    { "extended", "subclusters", make_extended },
    { "large-clusters", "64 KiB to 2 MiB, in all states beside each other", make_large_clusters },
    { "snapshot", "clusters and tables that an internal snapshot shares", make_snapshot },
    { "compact", "the file made shorter in place, and used on", make_compact },
    { "empty", "emptied after a commit, and used on", make_empty },
    { "tail", "the file's end let go of, and cut at close", make_tail },
    { "bitmap", "a persistent bitmap that must tell of every change", make_bitmap },
    { "bitmaps", "bitmaps are added, removed, merged, cleared between writes", make_bitmaps },
    { "bitmaps-fault", "the same while writes fail", make_bitmaps_fault },
    { "amend", "other versions and lazy refcounts in place", make_amend },
    { "header", "headers that are rewritten", make_header },
    { "header-fault", "the same, with writes below that fail", make_header_fault },
    { "snapshot-ops", "internal snapshots made, applied, deleted", make_snapshot_ops },
    { "snapshot-beside", "the same while requests run", make_snapshot_beside },
    { "remake", "other geometries in place", make_remake },
    { "repair", "damaged images that are repaired", make_repair },
    { "encrypted", "encrypted images", make_encrypted },
    { "any", "all of it", make_any },
    { NULL }
};
