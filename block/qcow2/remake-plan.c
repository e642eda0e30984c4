/* SPDX-License-Identifier: MIT */
/* What becomes of a new cluster's data: see remake-plan.h. */
#include "remake-plan.h"

/* What there is in a range. */
#define HAS_DATA 1u
#define HAS_ZERO 2u
#define HAS_HOLE 4u /* not mapped */
#define HAS_PACKED 8u

static unsigned bit_of_kind(ScKind kind)
{
    switch (kind) {
    case SC_UNALLOCATED_PLAIN:
    case SC_UNALLOCATED_ALLOC:
        return HAS_HOLE;
    case SC_ZERO_PLAIN:
    case SC_ZERO_ALLOC:
        return HAS_ZERO;
    case SC_COMPRESSED:
        return HAS_PACKED;
    case SC_NORMAL:
    case SC_INVALID: /* (refused before) */
        return HAS_DATA;
    }
    g_assert_not_reached();
}

/* Bytes [@from, @to), counted from the start of the first entry's cluster. */
static unsigned kinds_in(const RemakeRules *r, const RemakeSource *s, uint64_t from, uint64_t to)
{
    const Geometry *g = &r->from;
    unsigned kinds = 0;

    for (uint64_t at = from; at < to;) {
        L2Entry e = s->entries[at >> g->cluster_bits];
        uint64_t guest = s->guest + geo_cluster_start(g, at);
        unsigned sc = (unsigned)(geo_in_cluster(g, at) >> g->subcluster_bits), n;

        kinds |= bit_of_kind(qcow2_l2_run(g, e, sc, guest, &n));
        at = geo_cluster_start(g, at) + (((uint64_t)sc + n) << g->subcluster_bits);
    }
    return kinds;
}

/* All of them have host clusters that make up one new cluster, as it is: *@host. */
static bool fits_on_host(const RemakeRules *r, const RemakeSource *s, uint64_t *host)
{
    const Geometry *g = &r->from;
    uint64_t first = qcow2_l2_host(g, s->entries[0]);
    bool some = false;

    for (unsigned i = 0; i < s->n; i++) {
        L2Entry e = s->entries[i];

        if (qcow2_l2_has_host(g, e)) {
            some = true;
        } else if (!g->external_data) {
            return false;
        }
        if (!g->external_data && qcow2_l2_host(g, e) != first + ((uint64_t)i << g->cluster_bits)) {
            return false;
        }
    }
    *host = (g->external_data ? s->guest : first) + s->skip;
    return some && geo_in_cluster(&r->to, *host) == 0;
}

/* Bits of the new subclusters of each kind. */
typedef struct Parts {
    uint32_t data, zero, mixed;
    unsigned all; /* kinds of the whole */
} Parts;

static Parts look_at_parts(const RemakeRules *r, const RemakeSource *s)
{
    uint32_t whole = r->to.subclusters == 32 ? UINT32_MAX : 1;
    Parts p = { .all = kinds_in(r, s, s->skip, s->skip + r->to.cluster_size) };

    if (p.all == HAS_DATA || (p.all == HAS_ZERO && !r->no_zero_flags)) { /* as nearly all are */
        p.data = p.all == HAS_DATA ? whole : 0;
        p.zero = p.all == HAS_ZERO ? whole : 0;
        return p;
    }
    for (unsigned i = 0; i < r->to.subclusters; i++) {
        uint64_t at = s->skip + ((uint64_t)i << r->to.subcluster_bits);
        unsigned kinds = kinds_in(r, s, at, at + r->to.subcluster_size);

        if (kinds == (HAS_ZERO | HAS_HOLE) && !r->backing) {
            kinds = HAS_ZERO;
        }
        if ((kinds & HAS_ZERO) && r->no_zero_flags && !r->backing) {
            kinds = kinds == HAS_ZERO ? HAS_HOLE : kinds;
        }
        if (kinds == HAS_DATA) {
            p.data |= 1u << i;
        } else if (kinds == HAS_ZERO && !r->no_zero_flags) {
            p.zero |= 1u << i;
        } else if (kinds != HAS_HOLE) {
            p.mixed |= 1u << i;
        }
    }
    return p;
}

/* An entry that says so; without or with a host cluster. */
static L2Entry make_entry(const Geometry *g, uint64_t host, uint32_t data, uint32_t zero)
{
    if (g->extended_l2) {
        return (L2Entry){ .desc = host, .bitmap = (uint64_t)zero << 32 | data };
    }
    return (L2Entry){ .desc = data ? host : zero ? host | L2E_ZERO : 0 };
}

static RemakePlan plan_on_host(const RemakeRules *r, const Parts *p, uint64_t host)
{
    RemakePlan plan = { .action = REMAKE_STAY };

    plan.entry = make_entry(&r->to, host, p->data | p->mixed, p->zero);
    if (r->to.external_data) {
        plan.entry.desc |= r->to.extended_l2 || p->data || p->mixed || p->zero ? L2E_COPIED : 0;
        plan.fill = p->mixed;
        plan.action = plan.fill ? REMAKE_FILL : REMAKE_STAY;
    }
    if (!r->to.extended_l2 && !plan.entry.desc) {
        plan.action = REMAKE_BARE; /* space that was reserved for what is not mapped */
    }
    return plan;
}

static RemakePlan plan_moved(const RemakeRules *r, const Parts *p)
{
    RemakePlan plan = { .fill = p->data | p->mixed };

    plan.action = plan.fill ? REMAKE_FILL : REMAKE_BARE;
    plan.entry = make_entry(&r->to, 0, plan.fill, p->zero);
    return plan;
}

RemakePlan qcow2_remake_plan(const RemakeRules *r, const RemakeSource *s)
{
    Parts p;
    uint64_t host;

    if (s->n == 1 && (s->entries[0].desc & L2E_COMPRESSED)) {
        return (RemakePlan){ .action = r->repack ? REMAKE_PACK : REMAKE_STAY,
                             .entry = { .desc = s->entries[0].desc & ~L2E_COPIED } };
    }
    p = look_at_parts(r, s);
    if ((p.all & HAS_PACKED) && !(p.all & HAS_DATA)) {
        return (RemakePlan){ .action = REMAKE_PACK };
    }
    if (fits_on_host(r, s, &host) && (!p.mixed || r->to.external_data)) {
        return plan_on_host(r, &p, host);
    }
    return plan_moved(r, &p);
}
