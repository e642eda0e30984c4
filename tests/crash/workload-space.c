/* SPDX-License-Identifier: MIT */
#include "workload-space.h"

#include "pieces.h"

/* An image whose content went to its backing file is emptied, and used on. Shows INV-EMPTY-1. */
void make_empty(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_UNMAP, OP_DISCARD };
    static const OpType again[] = { OP_KILL, OP_REOPEN, OP_POWER, OP_EMPTY };
    uint64_t cluster;

    common(p, r);
    any_cluster_size(p, r);
    with_backing(p, r);
    cluster = UINT64_C(1) << p->cfg.cluster_bits;
    if (chance(r, 3)) {
        p->cfg.snapshot = p->cfg.refcount_bits > 1 && p->cfg.version == 3;
    }
    for (unsigned i = 0; i < 3; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 5);
        if (chance(r, 3) && cluster < p->cfg.size) {
            program_add(p, OP_COMPRESS,
                        (uint64_t)upto(r, (uint32_t)(p->cfg.size / cluster)) * cluster, cluster);
        }
        if (chance(r, 5)) {
            program_add(p, OP_DIE, 1 + upto(r, 12), 0);
        }
        program_add(p, OP_EMPTY, 0, 0);
        if (chance(r, 2)) {
            program_add(p, again[upto(r, 4)], 0, 0);
        }
    }
}

/* What is at the file's end is let go of, the image closed, which cuts the file, and used on. Shows
 * INV-TAIL-2. */
void make_tail(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_UNMAP, OP_DISCARD };
    static const OpType gone[] = { OP_DISCARD, OP_DISCARD, OP_UNMAP };
    static const OpType again[] = { OP_REOPEN, OP_REOPEN, OP_REOPEN, OP_KILL, OP_POWER };
    uint64_t half;

    common(p, r);
    any_cluster_size(p, r);
    half = ALIGN_DOWN(p->cfg.size / 2, (uint64_t)SECTOR);
    if (chance(r, 2)) {
        with_backing(p, r);
    }
    for (unsigned i = 0; i < 3; i++) {
        mixed(p, r, t, G_N_ELEMENTS(t), 1);
        fill(p, half, p->cfg.size, p->cfg.size / 4, false); /* the last to get a place */
        if (!chance(r, 3)) {
            flush(p);
        }
        program_add(p, gone[upto(r, 3)], half, p->cfg.size - half);
        if (chance(r, 4)) {
            flush(p);
        }
        program_add(p, again[upto(r, G_N_ELEMENTS(again))], 0, 0);
    }
    mixed(p, r, t, G_N_ELEMENTS(t), 2);
}
