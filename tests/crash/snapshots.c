/* SPDX-License-Identifier: MIT */
/* Internal snapshots of a program: see snapshots.h. */
#include "snapshots.h"

#include "content.h"

#include <errno.h>

int coroutine_fn snapshots_co_op(BlockBackend *blk, const Op *op)
{
    g_autofree char *name = g_strdup_printf("k%u", (unsigned)op->offset);
    const BlockSnapshotInfo info = { .name = name };

    switch (op->type) {
    case OP_SNAPSHOT:
        return blk_co_snapshot_create(blk, &info, NULL);
    case OP_APPLY:
        return blk_co_snapshot_apply(blk, name, NULL);
    default:
        return blk_co_snapshot_delete(blk, NULL, name, NULL);
    }
}

uint32_t snapshots_bit(const Op *op)
{
    bool is_one = op->type == OP_SNAPSHOT || op->type == OP_APPLY || op->type == OP_DELETE;

    return is_one && op->offset < SNAPSHOTS_MAX ? UINT32_C(1) << op->offset : 0;
}

const Event *snapshots_find(const Program *p, const Log *l, uint64_t k)
{
    for (guint i = 1; i < l->events->len; i++) { /* (the first is nobody's) */
        const Event *e = log_event(l, i);

        if (e->type == EV_OBSERVED && program_op(p, e->ref)->type == OP_SNAPSHOT &&
            program_op(p, e->ref)->offset == k) {
            return e;
        }
    }
    return NULL;
}

static char *compare(BlockBackend *blk, const char *name, const Event *e)
{
    g_autofree uint8_t *buf = g_malloc(MAX(e->bytes, 1));

    if ((uint64_t)blk_getlength(blk) != e->bytes) {
        return g_strdup_printf("snapshot %s has another size", name);
    }
    if (e->bytes && blk_pread(blk, 0, (int64_t)e->bytes, buf, 0) < 0) {
        return g_strdup_printf("snapshot %s cannot be read", name);
    }
    for (uint64_t i = 0; i < e->bytes / SECTOR; i++) {
        uint64_t was, is;

        memcpy(&was, e->data + i * 8, 8);
        if (!content_read(buf + i * SECTOR, &is) || is != was) {
            return g_strdup_printf("sector %" G_GUINT64_FORMAT " of snapshot %s has changed", i,
                                   name);
        }
    }
    return NULL;
}

/* Of the process. */
static bool is_end(const Program *p, const Event *e)
{
    return e->type == EV_POWER ||
           (e->type == EV_OP && program_op(p, e->ref)->type >= OP_REOPEN);
}

/* The event that begins its operation, and *done the one that ends it, well or by a kill; 0:
 * none. */
static uint32_t find_op(const Program *p, const Log *l, uint64_t k, uint32_t *done)
{
    uint32_t begin = 0;

    *done = 0;
    for (guint i = 1; i < l->events->len && !*done; i++) {
        const Event *e = log_event(l, i);
        bool ours = (e->type == EV_OP || e->type == EV_OP_DONE) &&
                    program_op(p, e->ref)->type == OP_SNAPSHOT &&
                    program_op(p, e->ref)->offset == k;

        begin = ours && e->type == EV_OP ? i : begin;
        if (begin && ((ours && e->type == EV_OP_DONE) || is_end(p, e))) {
            *done = i;
        }
    }
    return begin;
}

static void free_model(gpointer m)
{
    model_free(m);
}

const Model *snapshots_model(const Program *p, Log *l, uint64_t k)
{
    gpointer key = GUINT_TO_POINTER((guint)k + 1);
    uint32_t done, begin;
    Model *m;

    if (!l->memo) {
        l->memo = g_hash_table_new_full(NULL, NULL, NULL, free_model);
    }
    m = g_hash_table_lookup(l->memo, key);
    begin = m ? 0 : find_op(p, l, k, &done);
    if (m || !begin) {
        return m;
    }
    m = model_new(p, true);
    g_hash_table_insert(l->memo, key, m); /* (whose applies beside its begin look it up) */
    for (uint32_t i = 1; i <= (done ? done : l->events->len - 1); i++) {
        m->keeps |= i == begin;
        model_event(m, l, i);
    }
    return m;
}

/* When the disk can have been what the snapshot holds: from the begin of the last write of which it
 * has something to before the end of the first that it lacks. */
typedef struct Moment {
    uint32_t from, before;
} Moment;

static void narrow(Moment *t, const ModelSector *s, uint64_t word)
{
    uint32_t from = NOT_YET, before = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t end = NOT_YET;

        if (s->c[i].word != word) {
            continue;
        }
        for (uint32_t k = 0; k < s->n; k++) {
            const Candidate *o = &s->c[k];

            if (!o->weak && o->begin > s->c[i].end) {
                end = MIN(end, o->end);
            }
        }
        from = MIN(from, s->c[i].begin);
        before = MAX(before, end);
    }
    t->from = MAX(t->from, from);
    t->before = MIN(t->before, before);
}

static char *compare_any(BlockBackend *blk, const char *name, const Model *m)
{
    Moment t = { 0, NOT_YET };
    uint64_t bytes = (uint64_t)blk_getlength(blk);
    g_autofree uint8_t *buf = g_malloc(MAX(bytes, 1));

    if (!model_allows_size(m, bytes)) {
        return g_strdup_printf("snapshot %s has another size", name);
    }
    if (bytes && blk_pread(blk, 0, (int64_t)bytes, buf, 0) < 0) {
        return g_strdup_printf("snapshot %s cannot be read", name);
    }
    for (uint64_t i = 0; i < bytes / SECTOR; i++) {
        uint64_t is;

        if (!content_read(buf + i * SECTOR, &is) || !model_allows(m, i, is)) {
            g_autofree char *want = model_sector_text(m, i);

            return g_strdup_printf("sector %" G_GUINT64_FORMAT " of snapshot %s is %016"
                                   G_GINT64_MODIFIER "x, allowed is %s", i, name, is, want);
        }
        narrow(&t, &m->s[i], is);
    }
    return t.from < t.before ? NULL
                             : g_strdup_printf("snapshot %s is of no one moment: of a write that "
                                               "began at %u, and not of one that ended at %u",
                                               name, t.from, t.before);
}

char *snapshots_check(BlockBackend *blk, const Program *p, Log *l, unsigned k, bool must)
{
    g_autofree char *name = g_strdup_printf("k%u", k);
    const Event *e = snapshots_find(p, l, k);
    const Model *m = e ? NULL : snapshots_model(p, l, k);
    g_autoptr(GError) err = NULL;
    int ret = blk_snapshot_load(blk, NULL, name, &err);

    if (ret == -ENOENT) {
        return must ? g_strdup_printf("snapshot %s is not there", name) : NULL;
    }
    if (ret < 0) {
        return g_strdup_printf("snapshot %s: %s", name, err->message);
    }
    return e ? compare(blk, name, e) : m ? compare_any(blk, name, m) : NULL;
}
