/* SPDX-License-Identifier: MIT */
/* Programs: their life, their text. */
#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Op *program_op(const Program *p, guint i)
{
    return &g_array_index(p->ops, Op, i);
}

Op *program_add(Program *p, OpType type, uint64_t offset, uint64_t bytes)
{
    Op op = { .type = type, .offset = offset, .bytes = bytes, .id = p->ops->len + 1 };

    g_array_append_val(p->ops, op);
    return program_op(p, p->ops->len - 1);
}

Op *program_remake(Program *p, unsigned cluster_bits, unsigned refcount_order, bool extended,
                   bool zstd)
{
    bool v3 = p->cfg.version != 2;

    return program_add(p, OP_REMAKE,
                       cluster_bits | (v3 ? refcount_order : 4) << 8 |
                           (unsigned)(v3 && extended && cluster_bits >= 14) << 16 |
                           (unsigned)(v3 && zstd) << 17,
                       0);
}

static Program *program_new(const char *workload, uint64_t seed)
{
    Program *p = g_new0(Program, 1);

    p->workload = workload;
    p->seed = seed;
    p->ops = g_array_new(FALSE, TRUE, sizeof(Op));
    return p;
}

Program *program_make(const Workload *w, uint64_t seed, const char *fixed)
{
    Program *p = program_new(w->name, seed);
    GRand *r = g_rand_new_with_seed_array((guint32[]){ (guint32)seed, (guint32)(seed >> 32) }, 2);

    p->fixed = fixed;
    w->make(p, r);
    program_add(p, OP_CLOSE, 0, 0);
    g_rand_free(r);
    if (!program_fix(p)) {
        program_free(p);
        return NULL;
    }
    return p;
}

Program *program_copy(const Program *p)
{
    Program *c = program_new(p->workload, p->seed);

    c->cfg = p->cfg;
    c->fixed = p->fixed;
    g_array_append_vals(c->ops, p->ops->data, p->ops->len);
    return c;
}

void program_free(Program *p)
{
    if (p) {
        g_array_unref(p->ops);
        g_free(p);
    }
}

uint64_t program_max_size(const Program *p)
{
    uint64_t max = p->cfg.size;

    for (guint i = 0; i < p->ops->len; i++) {
        if (program_op(p, i)->type == OP_RESIZE) {
            max = MAX(max, program_op(p, i)->bytes);
        }
    }
    return max;
}

const char *program_amend_options(uint64_t n)
{
    static const char *const all[] = { "compat=0.10", "compat=1.1", "compat=1.1,lazy_refcounts=on",
                                       "lazy_refcounts=off", NULL };

    return all[MIN(n, G_N_ELEMENTS(all) - 1)];
}

/* What follows the slash tells names apart (mem-driver.c). Two of them fit into a cluster of 1 KiB
 * or more with all else that a header has, one into 512 bytes. */
char *program_backing_name(const Program *p, uint64_t n)
{
    size_t most = p->cfg.cluster_bits < 12 ? 280 : 990;
    g_autofree char *tail = g_strnfill(1 + (gsize)(n * 389 % most), (gchar)('a' + n % 26));

    return n ? g_strdup_printf("crash-mem:backing/%s", tail) : g_strdup("crash-mem:backing");
}

/* ---- Text: one word an operation, like "w3:0+8" (sectors), "&" before one that goes with
 * the last, ">" before one that follows the last while others go on ---- */

static const char letters[] = "wzudcFfrtaBmRsAebEDxokpCX";

static bool has_range(OpType t)
{
    return t == OP_WRITE || t == OP_ZERO || t == OP_UNMAP || t == OP_DISCARD || t == OP_COMPRESS ||
           t == OP_FUA;
}

static bool has_number(OpType t)
{
    return t == OP_FAULT || t == OP_DIE || t == OP_AMEND || t == OP_COMPACT || t == OP_BACKING ||
           t == OP_REMAKE || t == OP_SNAPSHOT || t == OP_APPLY || t == OP_DELETE || t == OP_BITMAP;
}

char *program_ops_text(const Program *p)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < p->ops->len; i++) {
        const Op *op = program_op(p, i);

        g_string_append_printf(s, "%s%s%c%s", i ? " " : "",
                               op->setup  ? "_"
                               : op->with ? "&"
                               : op->then ? ">"
                                          : "",
                               letters[op->type], op->noisy ? "!" : "");
        if (has_range(op->type)) {
            g_string_append_printf(s, "%u:%" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT, op->id,
                                   op->offset / SECTOR, op->bytes / SECTOR);
        } else if (op->type == OP_RESIZE) {
            g_string_append_printf(s, "%" G_GUINT64_FORMAT, op->bytes / SECTOR);
        } else if (has_number(op->type)) {
            g_string_append_printf(s, "%" G_GUINT64_FORMAT, op->offset);
        }
    }
    return g_string_free(s, FALSE);
}

static bool parse_op(Program *p, const char *t)
{
    bool setup = *t == '_', with = *t == '&', then = *t == '>', noisy;
    unsigned id = 0;
    uint64_t offset = 0, bytes = 0;
    const char *l;
    OpType type;
    Op *op;

    t += setup || with || then;
    l = *t ? strchr(letters, *t) : NULL;
    if (!l) {
        return false;
    }
    type = (OpType)(l - letters);
    noisy = *++t == '!';
    t += noisy;
    if (has_range(type) &&
        sscanf(t, "%u:%" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT, &id, &offset, &bytes) != 3) {
        return false;
    }
    if (type == OP_RESIZE && sscanf(t, "%" G_GUINT64_FORMAT, &bytes) != 1) {
        return false;
    }
    if (has_number(type) && sscanf(t, "%" G_GUINT64_FORMAT, &offset) != 1) {
        return false;
    }
    op = program_add(p, type, has_number(type) ? offset : offset * SECTOR, bytes * SECTOR);
    op->setup = setup;
    op->with = with;
    op->then = then;
    op->noisy = noisy;
    op->id = id ? id : op->id;
    return true;
}

bool program_parse_ops(Program *p, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);

    g_array_set_size(p->ops, 0);
    for (char **w = words; *w; w++) {
        if (**w && !parse_op(p, *w)) {
            return false;
        }
    }
    if (!p->ops->len || program_op(p, p->ops->len - 1)->type != OP_CLOSE) {
        program_add(p, OP_CLOSE, 0, 0);
    }
    return true;
}

/* ---- The image's options ---- */

typedef struct Field {
    const char *name;
    size_t at, size;
} Field;

#define FIELD(f)                                                                                   \
    {                                                                                              \
#f, offsetof(ImageConfig, f), sizeof(((ImageConfig *)0)->f)                                \
    }
static const Field fields[] = {
    FIELD(cluster_bits), FIELD(refcount_bits), FIELD(version),      FIELD(extended),
    FIELD(lazy),         FIELD(zstd),          FIELD(no_unref),     FIELD(punch_other),
    FIELD(no_unmap),     FIELD(backing),       FIELD(backing_size), FIELD(data_file),
    FIELD(prealloc),     FIELD(size),          FIELD(l2_cache),     FIELD(snapshot),
    FIELD(bitmap),       FIELD(device),        FIELD(damage),       FIELD(encrypted),
};

static uint64_t field_get(const ImageConfig *c, const Field *f)
{
    uint64_t v = 0;

    memcpy(&v, (const char *)c + f->at, f->size); /* little endian, as all that we run on */
    return v;
}

char *program_config_text(const Program *p)
{
    GString *s = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        uint64_t v = field_get(&p->cfg, &fields[i]);

        if (v) {
            g_string_append_printf(s, "%s%s=%" G_GUINT64_FORMAT, s->len ? "," : "", fields[i].name,
                                   v);
        }
    }
    return g_string_free(s, FALSE);
}

static bool override(ImageConfig *c, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);

    for (char **w = words; *w; w++) {
        char *eq = strchr(*w, '=');
        bool found = false;

        for (size_t i = 0; i < G_N_ELEMENTS(fields) && eq; i++) {
            if (strlen(fields[i].name) == (size_t)(eq - *w) &&
                !strncmp(fields[i].name, *w, (size_t)(eq - *w))) {
                uint64_t v = strtoull(eq + 1, NULL, 0);

                memcpy((char *)c + fields[i].at, &v, fields[i].size);
                found = true;
            }
        }
        if (**w && !found) {
            return false;
        }
    }
    return true;
}

bool program_fix(Program *p)
{
    ImageConfig *c = &p->cfg;

    if (p->fixed && !override(c, p->fixed)) {
        return false;
    }
    if (c->extended) {
        c->cluster_bits = MAX(c->cluster_bits, 14);
    }
    if (c->extended || c->lazy || c->zstd || c->no_unref || c->data_file ||
        c->refcount_bits != 16) {
        c->version = 3;
    }
    return true;
}
