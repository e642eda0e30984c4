/* SPDX-License-Identifier: MIT */
/* What is left of a request when the power fails. */
#include "state.h"

uint32_t choice_blocks(const Event *e, unsigned block_bits)
{
    if (e->type == EV_TRUNCATE || !e->bytes) {
        return 1;
    }
    return (uint32_t)(((e->offset + e->bytes - 1) >> block_bits) - (e->offset >> block_bits) + 1);
}

static void apply_bytes(MemFile *f, const Event *e, uint64_t from, uint64_t to)
{
    switch (e->type) {
    case EV_WRITE:
        mem_write(f, from, e->data + (from - e->offset), to - from);
        break;
    case EV_ZERO:
        mem_zero(f, from, to - from, true);
        break;
    case EV_PUNCH:
        mem_zero(f, from, to - from, false);
        break;
    case EV_TRUNCATE:
        mem_resize(f, e->offset);
        break;
    case EV_DONE:
    case EV_SYNC:
    case EV_SYNCED:
    case EV_OP:
    case EV_OP_DONE:
    case EV_POWER:
    case EV_OBSERVED:
        g_assert_not_reached();
    }
}

static bool has_block(Choice c, uint32_t i, uint32_t n)
{
    switch ((ChoiceKind)c.kind) {
    case CHOICE_HEAD:
        return i < c.arg;
    case CHOICE_TAIL:
        return i >= n - MIN(n, c.arg);
    case CHOICE_SOME:
        return mix64(((uint64_t)c.arg << 32) + i) & 1;
    case CHOICE_DROP:
    case CHOICE_KEEP:
    case CHOICE_LENGTH:
        break;
    }
    return false;
}

void choice_apply(MemFile *f, const Event *e, Choice c)
{
    uint32_t n = choice_blocks(e, c.block_bits);

    if (c.kind == CHOICE_DROP) {
        return;
    }
    if (c.kind == CHOICE_KEEP || e->type == EV_TRUNCATE) {
        apply_bytes(f, e, e->offset, e->offset + e->bytes);
        return;
    }
    if (c.kind == CHOICE_LENGTH) { /* the file is longer, the data is not there */
        if (e->type != EV_PUNCH && e->offset + e->bytes > f->size) {
            mem_resize(f, e->offset + e->bytes);
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t block = (e->offset >> c.block_bits) + i;

        if (has_block(c, i, n)) {
            apply_bytes(f, e, MAX(e->offset, block << c.block_bits),
                        MIN(e->offset + e->bytes, (block + 1) << c.block_bits));
        }
    }
}

char *choice_text(const Event *e, Choice c)
{
    static const char *const what[] = {
        "dropped",           "kept",       "torn: first blocks", "torn: last blocks",
        "torn: some blocks", "length only"
    };
    static const char *const type[] = { "write", "zero", "punch", "truncate" };
    const char *file = e->file ? "data file" : "image";
    GString *s = g_string_new(NULL);

    if (e->type == EV_TRUNCATE) {
        g_string_append_printf(s, "%s: truncate to 0x%" G_GINT64_MODIFIER "x", file, e->offset);
    } else {
        g_string_append_printf(s, "%s: %s 0x%" G_GINT64_MODIFIER "x+0x%" G_GINT64_MODIFIER "x",
                               file, type[e->type], e->offset, e->bytes);
    }
    g_string_append_printf(s, ": %s", what[c.kind]);
    if (c.kind >= CHOICE_HEAD && c.kind <= CHOICE_SOME) {
        g_string_append_printf(s, " (%u of %u)", c.kind == CHOICE_SOME ? 0 : c.arg,
                               1u << c.block_bits);
    }
    return g_string_free(s, FALSE);
}
