/* SPDX-License-Identifier: MIT */
/* A workload of resizes while requests run. */
#include "workload-resize.h"

#include "pieces.h"

/* One resize of several beside requests anywhere on the disk, as it was or will be. */
void make_resize_beside(Program *p, GRand *r)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE, OP_ZERO, OP_DISCARD, OP_FLUSH };
    uint32_t most;

    common(p, r);
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    most = (uint32_t)(p->cfg.size / SECTOR);
    for (unsigned i = 0; i < 6; i++) {
        unsigned n = 4 + upto(r, 8), at = 1 + upto(r, n - 1);

        if (chance(r, 4)) {
            program_add(p, OP_FAULT, 1 + upto(r, 12), 0);
        }
        for (unsigned k = 0; k < n; k++) {
            OpType type = k == at ? OP_RESIZE : t[upto(r, G_N_ELEMENTS(t))];
            uint32_t start = upto(r, most), len = 1 + upto(r, MIN(most - start, 40));
            Op *op = type == OP_FLUSH    ? program_add(p, OP_FLUSH, 0, 0)
                     : type == OP_RESIZE ? program_add(p, OP_RESIZE, 0, (1 + start) * SECTOR)
                                         : program_add(p, type, start * SECTOR, len * SECTOR);

            op->with = k > 0 && (type == OP_RESIZE || chance(r, 2));
            op->then = k > 0 && !op->with && k != at + 1;
            op->noisy = type == OP_RESIZE && chance(r, 3);
        }
    }
}
