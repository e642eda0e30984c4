/* SPDX-License-Identifier: MIT */
/* What workloads are put together from: see pieces.h. */
#include "pieces.h"

uint32_t upto(GRand *r, uint32_t n) /* [0, n) */
{
    return n ? (uint32_t)g_rand_int_range(r, 0, (gint32)n) : 0;
}

bool chance(GRand *r, uint32_t one_in)
{
    return upto(r, one_in) == 0;
}

void common(Program *p, GRand *r)
{
    static const uint8_t bits[] = { 9, 9, 9, 10, 12, 12 };
    ImageConfig *c = &p->cfg;

    c->version = chance(r, 8) ? 2 : 3;
    c->cluster_bits = bits[upto(r, G_N_ELEMENTS(bits))];
    c->refcount_bits = c->version == 2 ? 16 : 1u << upto(r, 7);
    if (c->version == 3 && chance(r, 5)) {
        c->extended = true;
        c->cluster_bits = 14;
    }
    c->lazy = c->version == 3 && chance(r, 6);
    program_fix(p);
    c->size = c->cluster_bits == 9    ? 64 * KiB
              : c->cluster_bits >= 14 ? 12u << c->cluster_bits
                                      : 96 * KiB;
    c->punch_other = chance(r, 3);
    c->no_unmap = chance(r, 6);
    c->l2_cache = chance(r, 3) ? 0 : 4096u << upto(r, 4);
}

/* Clusters of any size there is, now and then: large ones are few, as each state costs more. The
 * disk ends at any sector. */
void any_cluster_size(Program *p, GRand *r)
{
    if (chance(r, 10)) {
        p->cfg.cluster_bits = MAX(14 + upto(r, 8), p->cfg.extended ? 14u : 9u);
        p->cfg.size = (2u << p->cfg.cluster_bits) + SECTOR * upto(r, 64);
        p->cfg.l2_cache = 0;
    } else if (!p->cfg.extended && chance(r, 5)) {
        p->cfg.cluster_bits = 9 + upto(r, 5);
    }
    p->cfg.size -= chance(r, 3) ? SECTOR * upto(r, 16) : 0;
}

void with_backing(Program *p, GRand *r)
{
    p->cfg.backing = 1 + upto(r, 2);
    p->cfg.backing_size =
        chance(r, 3) ? p->cfg.size / 2 / SECTOR * SECTOR + SECTOR * upto(r, 20) : p->cfg.size;
}

/* A range of up to @max bytes, now and then aligned to clusters. */
Op *some(Program *p, GRand *r, OpType type, uint64_t size, uint64_t max)
{
    uint64_t cluster = UINT64_C(1) << p->cfg.cluster_bits;
    uint64_t n = 1 + upto(r, (uint32_t)(MIN(max, size) / SECTOR)),
             at = upto(r, (uint32_t)(size / SECTOR - n + 1));
    uint64_t offset = at * SECTOR, bytes = n * SECTOR;

    if (chance(r, 2) && size >= cluster) {
        uint64_t end = MIN((offset + bytes + cluster - 1) / cluster * cluster, size);

        offset = offset / cluster * cluster;
        bytes = end - offset;
    }
    Op *op = program_add(p, type, offset, bytes);

    op->noisy = chance(r, 4);
    return op;
}

void flush(Program *p)
{
    program_add(p, OP_FLUSH, 0, 0);
}

/* Some that run together; a flush among them now and then. */
void batch(Program *p, GRand *r, const OpType *types, size_t ntypes, uint64_t max)
{
    unsigned n = chance(r, 2) ? 1 : 2 + upto(r, 4);

    for (unsigned i = 0; i < n; i++) {
        OpType t = chance(r, 9) ? OP_FLUSH : types[upto(r, (uint32_t)ntypes)];
        t = t == OP_WRITE && chance(r, 12) ? OP_FUA : t;
        Op *op = t == OP_FLUSH ? program_add(p, OP_FLUSH, 0, 0) : some(p, r, t, p->cfg.size, max);

        op->with = i > 0;
    }
    if (chance(r, 3)) {
        flush(p);
    }
}

void mixed(Program *p, GRand *r, const OpType *types, size_t ntypes, unsigned batches)
{
    uint64_t max = MAX(p->cfg.size / 8, 3u << p->cfg.cluster_bits);

    for (unsigned i = 0; i < batches; i++) {
        batch(p, r, types, ntypes, max);
    }
    if (chance(r, 2)) {
        flush(p);
    }
}

void fill(Program *p, uint64_t from, uint64_t to, uint64_t step, bool setup)
{
    step = ALIGN_UP(step, (uint64_t)SECTOR);
    to = ALIGN_UP(to, (uint64_t)SECTOR);
    for (; from < to; from += step) {
        program_add(p, OP_WRITE, from, MIN(step, to - from))->setup = setup;
    }
}
