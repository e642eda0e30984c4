/* SPDX-License-Identifier: MIT */
/* The model of concurrent requests. */
#include "model.h"

#include <string.h>

#define IN_FLIGHT UINT64_MAX
#define MAX_ALLOWED 256
#define FLAT_BYTES 64 /* of one value in what compresses */

typedef struct Record {
    uint32_t op;
    bool zero, sure;
    uint64_t begin, end;
} Record;

struct Grain {
    int64_t start;
    Record *r;
    unsigned n, alloc;
};

void model_init(Model *m, const int64_t *cuts, unsigned n)
{
    memset(m, 0, sizeof(*m));
    spin_init(&m->lock);
    m->clock = 1;
    m->ngrains = n - 1;
    m->grains = g_new0(Grain, n);
    for (unsigned i = 0; i < n; i++) {
        m->grains[i].start = cuts[i];
    }
    m->size = cuts[n - 1];
    m->base = g_malloc0(m->size);
}

void model_clear(Model *m)
{
    for (unsigned i = 0; i < m->ngrains; i++) {
        g_free(m->grains[i].r);
    }
    g_clear_pointer(&m->grains, g_free);
    g_clear_pointer(&m->base, g_free);
}

int64_t model_start(const Model *m, GrainRange r)
{
    return m->grains[r.first].start;
}

int64_t model_bytes(const Model *m, GrainRange r)
{
    return m->grains[r.first + r.n].start - m->grains[r.first].start;
}

unsigned model_grain_at(const Model *m, int64_t offset)
{
    unsigned low = 0, high = m->ngrains;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (m->grains[mid].start < offset) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* ---- Values ---- */

/* One write in four has holes: stretches of zeroes of its own size, half of all. */
static bool is_hole(uint32_t op, int64_t offset)
{
    static const unsigned bits[] = { 6, 9, 12, 14 };
    uint64_t at = (uint64_t)offset >> bits[op / 4 % G_N_ELEMENTS(bits)];

    return op % 4 == 2 && ((op + at) * UINT64_C(0x9e3779b97f4a7c15)) >> 63;
}

/* Of FLAT_BYTES that begin at a multiple of them; 0 only in a hole. */
static uint8_t flat_value(uint32_t op, int64_t offset)
{
    uint64_t z = op * UINT64_C(0x9e3779b97f4a7c15) +
                 (uint64_t)(offset / FLAT_BYTES) * UINT64_C(0xbf58476d1ce4e5b9);

    if (is_hole(op, offset)) {
        return 0;
    }
    z ^= z >> 31;
    z *= UINT64_C(0x94d049bb133111eb);
    return (uint8_t)((z >> 32) % 255 + 1);
}

static inline uint8_t vary(uint32_t op, uint8_t flat, int64_t offset)
{
    /* Every other write does not compress. */
    return !flat || op & 1 ? flat : (uint8_t)(flat ^ (offset * 167 + (offset >> 3) * 13));
}

static uint8_t value(uint32_t op, int64_t offset)
{
    return vary(op, flat_value(op, offset), offset);
}

void model_fill(uint32_t op, int64_t offset, int64_t bytes, uint8_t *buf)
{
    for (int64_t end = offset + bytes, stop; offset < end; offset = stop) {
        uint8_t flat = flat_value(op, offset);

        stop = MIN(ALIGN_DOWN(offset, (int64_t)FLAT_BYTES) + FLAT_BYTES, end);
        for (int64_t i = offset; i < stop; i++) {
            *buf++ = vary(op, flat, i);
        }
    }
}

/* ---- Writes ---- */

static void add_record(Grain *g, Record r)
{
    if (g->n == g->alloc) {
        g->alloc = MAX(g->alloc * 2, 8);
        g->r = g_renew(Record, g->r, g->alloc);
    }
    g->r[g->n++] = r;
}

void model_write_begin(Model *m, GrainRange r, uint32_t op, bool zero)
{
    spin_lock(&m->lock);
    m->clock++;
    for (unsigned i = r.first; i < r.first + r.n; i++) {
        add_record(&m->grains[i],
                   (Record){ .op = op, .zero = zero, .begin = m->clock, .end = IN_FLIGHT });
    }
    spin_unlock(&m->lock);
}

void model_write_end(Model *m, GrainRange r, uint32_t op, GrainRange sure)
{
    spin_lock(&m->lock);
    m->clock++;
    for (unsigned i = r.first; i < r.first + r.n; i++) {
        Grain *g = &m->grains[i];
        unsigned k = g->n - 1;

        while (g->r[k].op != op) {
            k--;
        }
        g->r[k].end = m->clock;
        g->r[k].sure = i - sure.first < sure.n;
    }
    spin_unlock(&m->lock);
}

uint64_t model_now(Model *m)
{
    uint64_t now;

    spin_lock(&m->lock);
    now = ++m->clock;
    spin_unlock(&m->lock);
    return now;
}

/* ---- Reads ---- */

typedef struct Allowed {
    unsigned n;
    bool base;
    Record r[MAX_ALLOWED];
} Allowed;

/* What a read in [@begin, @end] may find in @g. False: too much to tell. */
static bool collect(Model *m, const Grain *g, uint64_t begin, uint64_t end, Allowed *a)
{
    uint64_t ruled_out = 0; /* what ended before this time */

    a->n = 0;
    spin_lock(&m->lock);
    for (unsigned i = 0; i < g->n; i++) {
        const Record *r = &g->r[i];

        if (r->sure && r->end < begin) {
            ruled_out = MAX(ruled_out, r->begin);
        }
    }
    a->base = ruled_out == 0;
    for (unsigned i = 0; i < g->n && a->n < MAX_ALLOWED; i++) {
        if (g->r[i].begin < end && g->r[i].end >= ruled_out) {
            a->r[a->n++] = g->r[i];
        }
    }
    spin_unlock(&m->lock);
    return a->n < MAX_ALLOWED;
}

static bool byte_allowed(const Model *m, const Allowed *a, int64_t offset, uint8_t found)
{
    for (unsigned i = 0; i < a->n; i++) {
        if (found == (a->r[i].zero ? 0 : value(a->r[i].op, offset))) {
            return true;
        }
    }
    return a->base && found == m->base[offset];
}

/* All of [offset, +bytes), which lies within FLAT_BYTES, as candidate @i (a->n: the base) has
 * it. */
static bool candidate_matches(const Model *m, const Allowed *a, unsigned i, int64_t offset,
                              int64_t bytes, const uint8_t *buf)
{
    uint8_t want[FLAT_BYTES];

    if (i == a->n) {
        return a->base && !memcmp(buf, m->base + offset, bytes);
    }
    if (a->r[i].zero) {
        memset(want, 0, bytes);
    } else {
        model_fill(a->r[i].op, offset, bytes, want);
    }
    return !memcmp(buf, want, bytes);
}

/* The first byte of the grain that is not allowed; -1: none. */
static int64_t first_wrong(const Model *m, const Allowed *a, const Grain *g, const uint8_t *buf)
{
    unsigned likely_one = a->n;

    for (int64_t at = g->start, stop; at < g[1].start; at = stop) {
        const uint8_t *b = buf + (at - g->start);
        unsigned i = 0;

        stop = MIN(ALIGN_DOWN(at, (int64_t)FLAT_BYTES) + FLAT_BYTES, g[1].start);
        if (candidate_matches(m, a, likely_one, at, stop - at, b)) {
            continue;
        }
        while (i <= a->n && !candidate_matches(m, a, i, at, stop - at, b)) {
            i++;
        }
        if (i <= a->n) {
            likely_one = i;
            continue;
        }
        for (int64_t k = at; k < stop; k++) { /* several, torn */
            if (!byte_allowed(m, a, k, buf[k - g->start])) {
                return k;
            }
        }
    }
    return -1;
}

static void describe(const Model *m, const Allowed *a, const Grain *g, int64_t offset,
                     uint8_t found, ModelError *e)
{
    GString *s = g_string_new(NULL);

    g_string_printf(s, "grain [%" G_GINT64_FORMAT ", %" G_GINT64_FORMAT ")", g->start, g[1].start);
    if (a->base) {
        g_string_append_printf(s, ", old 0x%02x", m->base[offset]);
    }
    for (unsigned i = 0; i < a->n && s->len < sizeof(e->allowed); i++) {
        const Record *r = &a->r[i];

        g_string_append_printf(
            s, ", op %u%s [%" G_GUINT64_FORMAT ", %" G_GINT64_FORMAT "]%s 0x%02x", r->op,
            r->zero ? " zero" : "", r->begin, r->end == IN_FLIGHT ? -1 : (gint64)r->end,
            r->sure ? "" : "?", r->zero ? 0 : value(r->op, offset));
    }
    for (unsigned i = 0; i < g->n; i++) {
        if (!g->r[i].zero && value(g->r[i].op, offset) == found) {
            g_string_append_printf(s, "; looks like op %u", g->r[i].op);
        }
    }
    if (found == m->base[offset]) {
        g_string_append(s, "; looks like the old content");
    }
    g_strlcpy(e->allowed, s->str, sizeof(e->allowed));
    g_string_free(s, TRUE);
    e->offset = offset;
    e->found = found;
}

bool model_check(Model *m, GrainRange r, uint64_t begin, const uint8_t *buf, ModelError *e)
{
    uint64_t end = model_now(m);
    int64_t start = model_start(m, r), wrong;
    Allowed a;

    for (unsigned i = r.first; i < r.first + r.n; i++) {
        const Grain *g = &m->grains[i];

        if (!collect(m, g, begin, end, &a)) {
            continue;
        }
        wrong = first_wrong(m, &a, g, buf + (g->start - start));
        if (wrong >= 0) {
            describe(m, &a, g, wrong, buf[wrong - start], e);
            return false;
        }
    }
    return true;
}

bool model_may_be_zero(Model *m, GrainRange r, uint64_t begin, ModelError *e)
{
    g_autofree uint8_t *zeroes = g_malloc0(MAX(model_bytes(m, r), 1));

    return model_check(m, r, begin, zeroes, e);
}

void model_settle(Model *m, const uint8_t *buf, int64_t bytes)
{
    memcpy(m->base, buf, bytes);
    memset(m->base + bytes, 0, m->size - bytes);
    for (unsigned i = 0; i < m->ngrains; i++) {
        m->grains[i].n = 0;
    }
}
