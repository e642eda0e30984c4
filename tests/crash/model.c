/* SPDX-License-Identifier: MIT */
/* The model of the guest's disk. */
#include "model.h"

#include "bitmaps.h"

#include "content.h"
#include "snapshots.h"

static void add(ModelSector *s, Candidate c)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 2;
        s->c = g_renew(Candidate, s->c, s->cap);
    }
    s->c[s->n++] = c;
}

/* What stood there before the program: the backing file, or zeroes. */
static uint64_t below(const Program *p, uint64_t sector)
{
    bool shown = p->cfg.backing && sector < p->cfg.backing_size / SECTOR;

    return shown ? content_word(0, sector, false) : 0;
}

/* An operation before the recording: it is on the disk. */
static void setup_op(Model *m, const Op *op)
{
    uint64_t first = op->offset / SECTOR, end = first + op->bytes / SECTOR;

    if (op->type == OP_RESIZE) {
        first = m->cur_size / SECTOR;
        end = op->bytes / SECTOR;
        m->cur_size = m->size.c[0].word = op->bytes;
    } else if (op->type == OP_FLUSH) {
        return;
    }
    for (uint64_t i = first; i < end; i++) {
        bool data = op->type == OP_WRITE || op->type == OP_COMPRESS || op->type == OP_FUA;

        m->s[i].c[0].word = data ? content_word(op->id, i, op->noisy) : 0;
    }
}

Model *model_new(const Program *p, bool live)
{
    Model *m = g_new0(Model, 1);

    m->p = p;
    m->live = live;
    m->nsectors = program_max_size(p) / SECTOR;
    m->s = g_new0(ModelSector, m->nsectors);
    m->cur_size = p->cfg.size;
    add(&m->size, (Candidate){ .word = p->cfg.size });
    add(&m->backing, (Candidate){ .word = 0 });
    for (uint64_t i = 0; i < m->nsectors; i++) {
        add(&m->s[i], (Candidate){ .word = i < p->cfg.size / SECTOR ? below(p, i) : 0 });
    }
    m->list = m->listing = NOT_YET;
    m->created = true;
    for (guint i = 0; i < p->ops->len && program_op(p, i)->setup; i++) {
        setup_op(m, program_op(p, i));
    }
    return m;
}

void model_free(Model *m)
{
    if (!m) {
        return;
    }
    for (uint64_t i = 0; i < m->nsectors; i++) {
        g_free(m->s[i].c);
    }
    g_free(m->s);
    g_free(m->size.c);
    g_free(m->backing.c);
    g_free(m);
}

/* ---- Beginnings ---- */

static void add_range(Model *m, uint32_t op, uint32_t at, bool zero, bool weak)
{
    const Op *o = program_op(m->p, op);
    uint64_t first = o->offset / SECTOR, end = first + o->bytes / SECTOR;

    for (uint64_t i = first; i < MIN(end, m->nsectors); i++) {
        add(&m->s[i], (Candidate){ .word = zero ? 0 : content_word(o->id, i, o->noisy),
                                   .begin = at,
                                   .end = NOT_YET,
                                   .op = op,
                                   .weak = weak });
    }
}

static void begin_resize(Model *m, uint32_t op, uint32_t at)
{
    uint64_t size = program_op(m->p, op)->bytes;
    bool grow = size > m->cur_size;

    add(&m->size, (Candidate){ .word = size, .begin = at, .end = NOT_YET, .op = op });
    for (uint64_t i = MIN(size, m->cur_size) / SECTOR; i < MAX(size, m->cur_size) / SECTOR; i++) {
        add(&m->s[i], (Candidate){ .begin = at, .end = NOT_YET, .op = op, .weak = !grow });
        if (!grow && below(m->p, i)) {
            add(&m->s[i],
                (Candidate){
                    .word = below(m->p, i), .begin = at, .end = NOT_YET, .op = op, .weak = true });
        }
    }
}

/* What was under way when the process died has ended as it may. */
static void cut_off(Model *m, uint32_t at)
{
    for (uint64_t i = 0; i < m->nsectors; i++) {
        for (uint32_t k = 0; k < m->s[i].n; k++) {
            Candidate *c = &m->s[i].c[k];

            c->weak |= c->end == NOT_YET;
            c->end = c->end == NOT_YET ? at : c->end;
        }
    }
}

/* The disk becomes what a snapshot of then holds. */
static void begin_apply(Model *m, Log *l, uint32_t op, uint32_t at)
{
    const Event *e = snapshots_find(m->p, l, program_op(m->p, op)->offset);
    const Model *then = e ? NULL : snapshots_model(m->p, l, program_op(m->p, op)->offset);

    for (uint64_t i = 0; then && then != m && i < m->nsectors; i++) {
        for (uint32_t k = 0; k < then->s[i].n; k++) {
            add(&m->s[i], (Candidate){ .word = then->s[i].c[k].word,
                                       .begin = at,
                                       .end = NOT_YET,
                                       .op = op });
        }
    }
    for (uint64_t i = 0; e && i < MIN(e->bytes / SECTOR, m->nsectors); i++) {
        Candidate c = { .begin = at, .end = NOT_YET, .op = op };

        memcpy(&c.word, e->data + i * 8, 8);
        add(&m->s[i], c);
    }
}

static void begin_empty(Model *m, uint32_t op, uint32_t at)
{
    for (uint64_t i = 0; i < m->cur_size / SECTOR; i++) {
        add(&m->s[i],
            (Candidate){ .word = below(m->p, i), .begin = at, .end = NOT_YET, .op = op });
    }
}

static void op_begin(Model *m, Log *l, uint32_t op, uint32_t at)
{
    uint32_t bit = snapshots_bit(program_op(m->p, op));

    m->snapshots_change |= bit != 0;
    switch (program_op(m->p, op)->type) {
    case OP_WRITE:
    case OP_COMPRESS:
    case OP_FUA:
        add_range(m, op, at, false, false);
        break;
    case OP_ZERO:
    case OP_UNMAP:
        add_range(m, op, at, true, false);
        break;
    case OP_DISCARD:
        add_range(m, op, at, true, true);
        break;
    case OP_RESIZE:
        begin_resize(m, op, at);
        break;
    case OP_BACKING:
        add(&m->backing,
            (Candidate){
                .word = program_op(m->p, op)->offset, .begin = at, .end = NOT_YET, .op = op });
        break;
    case OP_SNAPSHOT:
        m->may |= bit;
        break;
    case OP_DELETE:
        m->must &= ~bit;
        break;
    case OP_APPLY:
        begin_apply(m, l, op, at);
        break;
    case OP_BITMAP:
        m->listing = op;
        break;
    case OP_EMPTY:
        begin_empty(m, op, at);
        break;
    case OP_CREATE:
        m->created = false;
        break;
    case OP_KILL:
        cut_off(m, at);
        break;
    case OP_FLUSH:
    case OP_COMPACT:
    case OP_AMEND:
    case OP_REMAKE:
    case OP_REPAIR:
    case OP_DIE:
    case OP_FAULT:
    case OP_REOPEN:
    case OP_POWER:
    case OP_CLOSE:
        break;
    }
}

/* ---- Ends ---- */

#define ANY_OP UINT32_MAX

/* By a write that ended before @before and is on the disk: any, or that of @by alone. */
static bool replaced(const ModelSector *s, const Candidate *c, uint32_t before, uint32_t by)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const Candidate *o = &s->c[i];

        if (!o->weak && (by == ANY_OP || o->op == by) && o->end < before && c->end < o->begin) {
            return true;
        }
    }
    return false;
}

static bool drop_replaced(ModelSector *s, uint32_t before, uint32_t by)
{
    uint32_t kept = 0;

    if (s->n < 2) {
        return false;
    }
    for (uint32_t i = s->n; i-- > 0;) { /* replacers come later than what they replace */
        if (!replaced(s, &s->c[i], before, by)) {
            continue;
        }
        s->c[i].op = UINT32_MAX;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->c[i].op != UINT32_MAX) {
            s->c[kept++] = s->c[i];
        }
    }
    bool dropped = kept < s->n;

    s->n = kept;
    return dropped;
}

/* A header whose change failed is the old one again when a flush has ended well. */
static bool drop_failed(ModelSector *s, uint32_t began)
{
    uint32_t kept = 0, n = s->n;

    for (uint32_t i = 0; i < n; i++) {
        if (!s->c[i].weak || s->c[i].end >= began) {
            s->c[kept++] = s->c[i];
        }
    }
    s->n = kept;
    return kept < n;
}

static bool flushed(Model *m, uint32_t began)
{
    bool any = drop_replaced(&m->size, began, ANY_OP);

    any |= drop_failed(&m->backing, began);

    for (uint64_t i = 0; i < m->nsectors; i++) {
        any |= drop_replaced(&m->s[i], began, ANY_OP);
    }
    return any;
}

/* A write that says so is on the disk when it ends, at @at; what was written beside it is not. */
static bool forced(Model *m, const Op *o, uint32_t op, uint32_t at)
{
    uint64_t first = o->offset / SECTOR, end = MIN(first + o->bytes / SECTOR, m->nsectors);
    bool any = false;

    for (uint64_t i = first; i < end; i++) {
        any |= drop_replaced(&m->s[i], at + 1, op);
    }
    return any;
}

static bool forced_all(Model *m, uint32_t op, uint32_t at)
{
    bool any = false;

    for (uint64_t i = 0; i < m->nsectors; i++) {
        any |= drop_replaced(&m->s[i], at + 1, op);
    }
    return any;
}

static void end_candidates(ModelSector *s, uint32_t op, uint32_t at, bool failed)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->c[i].end == NOT_YET && s->c[i].op == op) {
            s->c[i].end = at;
            s->c[i].weak |= failed;
        }
    }
}

static void op_end(Model *m, uint32_t op, uint32_t at, int result)
{
    const Op *o = program_op(m->p, op);
    uint64_t first = o->offset / SECTOR, end = first + o->bytes / SECTOR;

    if (o->type == OP_CREATE) {
        m->created = true;
    }
    if (o->type == OP_BACKING) {
        end_candidates(&m->backing, op, at, result < 0);
    }
    if (o->type == OP_BITMAP && (result == 0 || bitmaps_may_fail(result))) {
        m->list = result == 0 ? op : m->list;
        m->listing = NOT_YET;
    }
    if (o->type == OP_SNAPSHOT && result == 0) {
        m->must |= snapshots_bit(o);
    }
    if (o->type == OP_DELETE && result == 0) {
        m->may &= ~snapshots_bit(o);
    }
    if (o->type == OP_APPLY || o->type == OP_EMPTY) {
        first = 0;
        end = m->nsectors;
    }
    if (o->type == OP_RESIZE) {
        first = 0;
        end = m->nsectors;
        m->cur_size = result < 0 ? m->cur_size : o->bytes;
        end_candidates(&m->size, op, at, result < 0);
    }
    for (uint64_t i = first; i < MIN(end, m->nsectors); i++) {
        end_candidates(&m->s[i], op, at, result < 0);
    }
}

/* The running image was read after @e->ref: what a discard did, or what outlived a dead process. */
static void observed(Model *m, const Event *e, uint32_t at)
{
    OpType type = program_op(m->p, e->ref)->type;
    bool killed = type == OP_KILL || type == OP_POWER;

    if (type == OP_POWER && e->bytes) { /* nothing is in doubt any more */
        m->size.n = 0;
        add(&m->size, (Candidate){ .word = e->bytes, .begin = at, .end = at, .op = e->ref });
        m->cur_size = e->bytes;
    }
    for (uint64_t k = 0; k < e->bytes / SECTOR; k++) {
        ModelSector *s = &m->s[e->offset / SECTOR + k];
        uint64_t word;

        memcpy(&word, e->data + k * 8, 8);
        if (type == OP_POWER) {
            s->n = 0;
        }
        if (killed || word == 0) {
            add(s, (Candidate){ .word = word, .begin = at, .end = at, .op = e->ref });
        }
    }
}

/* What is certain from its end on. */
static bool op_is_certain(Model *m, const Event *e, uint32_t at)
{
    const Op *o = program_op(m->p, e->ref);

    if (m->keeps) {
        return false;
    }
    if (m->live) {
        return flushed(m, at + 1);
    }
    if (o->type == OP_BACKING && e->result == 0) {
        return drop_replaced(&m->backing, at + 1, e->ref);
    }
    if (o->type == OP_APPLY && e->result == 0) {
        return forced_all(m, e->ref, at);
    }
    if (e->result < 0 || (o->type != OP_FLUSH && o->type != OP_FUA)) {
        return false;
    }
    /* The event of the begin is at "done". */
    return o->type == OP_FUA ? forced(m, o, e->ref, at) : flushed(m, e->done);
}

bool model_event(Model *m, Log *l, uint32_t i)
{
    const Event *e = log_event(l, i);

    switch (e->type) {
    case EV_OP:
        op_begin(m, l, e->ref, i);
        return false;
    case EV_OP_DONE:
        op_end(m, e->ref, i, e->result);
        return op_is_certain(m, e, i);
    case EV_OBSERVED:
        observed(m, e, i);
        if (m->keeps) {
            return false;
        }
        return m->live ? flushed(m, i + 1) : program_op(m->p, e->ref)->type == OP_POWER;
    case EV_POWER:
    case EV_WRITE:
    case EV_ZERO:
    case EV_PUNCH:
    case EV_TRUNCATE:
    case EV_DONE:
    case EV_SYNC:
    case EV_SYNCED:
        return false;
    }
    return false;
}

bool model_allows(const Model *m, uint64_t sector, uint64_t word)
{
    const ModelSector *s = &m->s[sector];

    for (uint32_t i = 0; i < s->n; i++) {
        if (s->c[i].word == word) {
            return true;
        }
    }
    return false;
}

bool model_allows_size(const Model *m, uint64_t size)
{
    for (uint32_t i = 0; i < m->size.n; i++) {
        if (m->size.c[i].word == size) {
            return true;
        }
    }
    return false;
}

bool model_allows_backing(const Model *m, const char *name)
{
    for (uint32_t i = 0; m->p->cfg.backing && i < m->backing.n; i++) {
        g_autofree char *one = program_backing_name(m->p, m->backing.c[i].word);

        if (!g_strcmp0(name, one)) {
            return true;
        }
    }
    return !m->p->cfg.backing && !name;
}

char *model_sector_text(const Model *m, uint64_t sector)
{
    GString *t = g_string_new(NULL);
    const ModelSector *s = &m->s[sector];

    for (uint32_t i = 0; i < s->n; i++) {
        g_string_append_printf(t, "%s%016" G_GINT64_MODIFIER "x (op %u%s)", i ? ", " : "",
                               s->c[i].word, s->c[i].op, s->c[i].weak ? ", weak" : "");
    }
    return g_string_free(t, FALSE);
}
