/* SPDX-License-Identifier: MIT */
/* Free clusters and references to come: see remake-space.h. */
#include "remake-space.h"

#include <errno.h>
#include <string.h>

#define MANY UINT8_MAX
#define MIN_CLUSTERS UINT64_C(64)

static bool bit_of(const uint8_t *bits, uint64_t c)
{
    return bits[c / 8] >> c % 8 & 1;
}

static bool is_used(const RemakeSpace *s, uint64_t c)
{
    return c < s->clusters && bit_of(s->used, c);
}

static void set_bit(uint8_t *bits, uint64_t c)
{
    bits[c / 8] |= (uint8_t)(1u << c % 8);
}

static void set_used(RemakeSpace *s, uint64_t c)
{
    set_bit(s->used, c);
}

/* A longer array, with zeroes in its new part; false: no memory. */
static bool lengthen(uint8_t **array, uint64_t from, uint64_t to)
{
    uint8_t *longer = g_try_realloc(*array, to);

    if (!longer) {
        return false;
    }
    memset(longer + from, 0, to - from);
    *array = longer;
    return true;
}

/* The arrays have cluster @last. */
static int reach(RemakeSpace *s, uint64_t last)
{
    uint64_t n = ALIGN_UP(MAX(s->clusters + s->clusters / 2, last + 1), MIN_CLUSTERS);

    if (last < s->clusters) {
        return 0;
    }
    if (last > QCOW2_MAX_OFFSET >> s->geo->cluster_bits) {
        return -EFBIG;
    }
    if (!lengthen(&s->used, s->clusters / 8, n / 8) || !lengthen(&s->old, s->clusters / 8, n / 8) ||
        !lengthen(&s->counts, s->clusters, n)) {
        return -ENOMEM;
    }
    s->clusters = n;
    return 0;
}

int qcow2_remake_space_init(RemakeSpace *s, const Geometry *geo, uint64_t clusters)
{
    *s = (RemakeSpace){ .geo = geo, .many = g_hash_table_new(NULL, NULL) };
    return reach(s, clusters);
}

void qcow2_remake_space_clear(RemakeSpace *s)
{
    g_clear_pointer(&s->used, g_free);
    g_clear_pointer(&s->old, g_free);
    g_clear_pointer(&s->counts, g_free);
    g_clear_pointer(&s->many, g_hash_table_unref);
}

void qcow2_remake_space_mark(RemakeSpace *s, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + bytes - 1) >> s->geo->cluster_bits;

    g_assert(bytes > 0 && last < s->clusters);
    for (uint64_t c = offset >> s->geo->cluster_bits; c <= last; c++) {
        set_used(s, c);
        set_bit(s->old, c);
    }
}

int qcow2_remake_space_take(RemakeSpace *s, uint64_t n, uint64_t *offset)
{
    uint64_t first, run = 0, c;
    int ret;

    g_assert(n > 0);
    while (is_used(s, s->cursor)) {
        s->cursor++;
    }
    first = s->cursor;
    for (c = first; run < n; c++) {
        run = is_used(s, c) ? 0 : run + 1;
        first = run ? first : c + 1;
    }
    ret = reach(s, first + n - 1);
    if (ret < 0) {
        return ret;
    }
    for (c = first; c < first + n; c++) {
        set_used(s, c);
    }
    *offset = first << s->geo->cluster_bits;
    return 0;
}

void qcow2_remake_space_untake(RemakeSpace *s, uint64_t offset, uint64_t n)
{
    uint64_t first = offset >> s->geo->cluster_bits;

    for (uint64_t c = first; c < first + n; c++) {
        g_assert(is_used(s, c) && s->counts[c] == 0);
        s->used[c / 8] &= (uint8_t) ~(1u << c % 8);
    }
    s->cursor = MIN(s->cursor, first);
}

uint64_t qcow2_remake_space_count(const RemakeSpace *s, uint64_t cluster)
{
    if (cluster >= s->clusters) {
        return 0;
    }
    return s->counts[cluster] < MANY
               ? s->counts[cluster]
               : GPOINTER_TO_SIZE(g_hash_table_lookup(s->many, GSIZE_TO_POINTER(cluster)));
}

int qcow2_remake_space_add_refs(RemakeSpace *s, uint64_t offset, uint64_t bytes, uint64_t refs)
{
    uint64_t last = (offset + bytes - 1) >> s->geo->cluster_bits;
    int ret = reach(s, last);

    g_assert(bytes > 0 && refs > 0);
    for (uint64_t c = offset >> s->geo->cluster_bits; c <= last && ret == 0; c++) {
        uint64_t old = qcow2_remake_space_count(s, c), n = old + refs;

        if (n > s->geo->refcount_max) {
            return -ERANGE;
        }
        s->raised |= old == 1;
        s->counts[c] = (uint8_t)MIN(n, MANY);
        if (n >= MANY) {
            g_hash_table_insert(s->many, GSIZE_TO_POINTER(c), GSIZE_TO_POINTER((gsize)n));
        }
        set_used(s, c);
    }
    if (ret == 0) {
        s->end = MAX(s->end, last + 1);
    }
    return ret;
}

bool qcow2_remake_space_is_left(const RemakeSpace *s, uint64_t cluster)
{
    return cluster < s->clusters && s->counts[cluster] == 0;
}

bool qcow2_remake_space_is_new(const RemakeSpace *s, uint64_t cluster)
{
    return cluster < s->clusters && !bit_of(s->old, cluster);
}
