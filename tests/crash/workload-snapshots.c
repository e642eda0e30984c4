/* SPDX-License-Identifier: MIT */
/* Workloads of internal snapshots while requests run. */
#include "workload-snapshots.h"

#include "pieces.h"

/* Requests, and among them one change of the snapshots, all in lanes of their own. */
static void beside(Program *p, GRand *r, OpType type, uint64_t k)
{
    static const OpType t[] = { OP_WRITE, OP_WRITE, OP_WRITE,   OP_WRITE,   OP_FUA,
                                OP_ZERO,  OP_UNMAP, OP_DISCARD, OP_COMPRESS };
    unsigned n = (type == OP_DELETE ? 14 : 4) + upto(r, 10), at = upto(r, 4);
    uint64_t cluster = UINT64_C(1) << p->cfg.cluster_bits;
    uint64_t hot = p->cfg.size / cluster - 1 - upto(r, 3); /* its table is counted last */

    program_add(p, OP_WRITE, hot * cluster, cluster); /* so that it is overwritten in place */
    for (unsigned i = 0; i < n; i++) {
        OpType what = chance(r, 6) ? OP_FLUSH : t[upto(r, G_N_ELEMENTS(t))];
        Op *op;

        if (i == at) {
            op = program_add(p, type, k, 0);
        } else if (what == OP_FLUSH) {
            op = program_add(p, OP_FLUSH, 0, 0);
        } else if (what == OP_WRITE && chance(r, 2)) {
            uint64_t in = upto(r, (uint32_t)(cluster / SECTOR)) * SECTOR;

            op = program_add(p, OP_WRITE, hot * cluster + in, SECTOR);
        } else if (what == OP_COMPRESS || chance(r, 2)) { /* one cluster, or a part of it */
            uint64_t c = upto(r, (uint32_t)(p->cfg.size / cluster));
            uint64_t part = what == OP_COMPRESS || chance(r, 2) ? cluster : (uint64_t)SECTOR;

            op = program_add(p, what, c * cluster, part);
        } else {
            op = some(p, r, what, p->cfg.size, 4 * cluster);
        }
        op->with = i > 0 && (i <= at || chance(r, 2));
        op->then = i > 0 && !op->with;
        if (i == at && chance(r, 2)) { /* one whose table is counted first, and then the hot one */
            program_add(p, OP_WRITE, upto(r, 8) * cluster, SECTOR)->with = true;
            program_add(p, OP_WRITE, hot * cluster, SECTOR)->then = true;
        }
    }
}

void make_snapshot_beside(Program *p, GRand *r)
{
    static const OpType s[] = { OP_SNAPSHOT, OP_SNAPSHOT, OP_DELETE, OP_DELETE, OP_APPLY };
    bool calm = chance(r, 2); /* it never dies: so nothing may leak */
    unsigned made = 0;

    common(p, r);
    p->cfg.refcount_bits = MAX(p->cfg.refcount_bits, 8);
    p->cfg.size = 192 * KiB + SECTOR * upto(r, 100); /* more tables than are counted at once */
    if (chance(r, 3)) {
        with_backing(p, r);
    }
    fill(p, 0, p->cfg.size, p->cfg.size / 4, true);
    for (unsigned i = 0; i < 6; i++) {
        OpType type = made ? s[upto(r, G_N_ELEMENTS(s))] : OP_SNAPSHOT;
        bool dies = !calm && chance(r, 4);

        if (dies) {
            program_add(p, OP_DIE, 1 + upto(r, 25), 0);
        }
        beside(p, r, type, type == OP_SNAPSHOT ? made : upto(r, made));
        made += type == OP_SNAPSHOT;
        if (dies || chance(r, 6)) {
            program_add(p, dies ? OP_KILL : OP_REOPEN, 0, 0);
        }
    }
    flush(p);
}
