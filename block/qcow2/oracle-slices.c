/* SPDX-License-Identifier: MIT */
/* The oracle of the cache: see oracle-slices.h. */
#include "oracle-slices.h"

#include <string.h>

struct SliceOracle {
    size_t slice_size;
    GHashTable *left; /* offset -> checksum */
};

SliceOracle *qcow2_oracle_slices_new(size_t slice_size)
{
    SliceOracle *o = g_new0(SliceOracle, 1);

    o->slice_size = slice_size;
    o->left = g_hash_table_new(NULL, NULL);
    return o;
}

void qcow2_oracle_slices_free(SliceOracle *o)
{
    if (o) {
        g_hash_table_unref(o->left);
        g_free(o);
    }
}

static gsize checksum(const SliceOracle *o, const uint8_t *data)
{
    gsize sum = 1;

    for (size_t i = 0; i < o->slice_size; i += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, data + i, sizeof(word));
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return sum | 1; /* not NULL */
}

void qcow2_oracle_slices_leave(SliceOracle *o, uint64_t offset, const void *data)
{
    g_hash_table_insert(o->left, GSIZE_TO_POINTER(offset), GSIZE_TO_POINTER(checksum(o, data)));
}

void qcow2_oracle_slices_check(SliceOracle *o, uint64_t offset, const void *data)
{
    gpointer sum = g_hash_table_lookup(o->left, GSIZE_TO_POINTER(offset));

    g_assert(!sum || GPOINTER_TO_SIZE(sum) == checksum(o, data));
}

void qcow2_oracle_slices_forget(SliceOracle *o, uint64_t offset)
{
    g_hash_table_remove(o->left, GSIZE_TO_POINTER(offset));
}
