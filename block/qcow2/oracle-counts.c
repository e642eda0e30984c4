/* SPDX-License-Identifier: MIT */
/* The oracle of refcounts: see oracle-counts.h. */
#include "oracle-counts.h"

struct CountOracle {
    GHashTable *counts; /* cluster -> count + 1 */
};

CountOracle *qcow2_oracle_counts_new(void)
{
    CountOracle *o = g_new0(CountOracle, 1);

    o->counts = g_hash_table_new(NULL, NULL);
    return o;
}

void qcow2_oracle_counts_free(CountOracle *o)
{
    if (o) {
        g_hash_table_unref(o->counts);
        g_free(o);
    }
}

void qcow2_oracle_counts_set(CountOracle *o, uint64_t cluster, uint64_t count)
{
    g_hash_table_insert(o->counts, GSIZE_TO_POINTER(cluster), GSIZE_TO_POINTER(count + 1));
}

void qcow2_oracle_counts_check(CountOracle *o, uint64_t cluster, uint64_t count)
{
    gpointer said = g_hash_table_lookup(o->counts, GSIZE_TO_POINTER(cluster));

    g_assert(!said || GPOINTER_TO_SIZE(said) == count + 1);
    qcow2_oracle_counts_set(o, cluster, count);
}

void qcow2_oracle_counts_forget(CountOracle *o)
{
    g_hash_table_remove_all(o->counts);
}
