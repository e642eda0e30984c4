/* SPDX-License-Identifier: MIT */
/* Which clusters are metadata: see metadata-set.h. */
#include "metadata-set.h"

#include "util/spinlock.h"

#include <string.h>

struct MetadataSet {
    unsigned cluster_bits;
    bool ignored;
    SpinLock lock;
    GHashTable *clusters GUARDED_BY(lock); /* cluster -> const char *, what it is */
    GHashTable *more GUARDED_BY(lock);     /* cluster -> how often it was added after the first */
    const char *overlap GUARDED_BY(lock);  /* a cluster was said to be two things; the first */
    uint64_t overlap_at GUARDED_BY(lock);
};

MetadataSet *qcow2_metadata_new(unsigned cluster_bits) UNCHECKED_LOCKS
{
    MetadataSet *m = g_new0(MetadataSet, 1);

    m->cluster_bits = cluster_bits;
    spin_init(&m->lock);
    m->clusters = g_hash_table_new(NULL, NULL);
    m->more = g_hash_table_new(NULL, NULL);
    return m;
}

void qcow2_metadata_free(MetadataSet *m) UNCHECKED_LOCKS
{
    if (m) {
        g_hash_table_unref(m->clusters);
        g_hash_table_unref(m->more);
        g_free(m);
    }
}

void qcow2_metadata_set_ignored(MetadataSet *m, bool ignored)
{
    m->ignored = ignored;
}

static gpointer key(uint64_t cluster)
{
    return GSIZE_TO_POINTER(cluster + 1); /* cluster 0 is not NULL */
}

/* One more owner of @cluster, or one less; false: there was only the first. */
static bool change_more(MetadataSet *m, uint64_t cluster, int delta) REQUIRES_LOCK(m->lock)
{
    gsize n = GPOINTER_TO_SIZE(g_hash_table_lookup(m->more, key(cluster)));

    if (n == 0 && delta < 0) {
        return false;
    }
    n += (gsize)delta;
    if (n) {
        g_hash_table_insert(m->more, key(cluster), GSIZE_TO_POINTER(n));
    } else {
        g_hash_table_remove(m->more, key(cluster));
    }
    return true;
}

const char *qcow2_metadata_at(MetadataSet *m, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + bytes - 1) >> m->cluster_bits;
    const char *what = NULL;

    g_assert(bytes > 0);
    if (unlikely(m->ignored)) {
        return NULL;
    }
    spin_lock(&m->lock);
    for (uint64_t c = offset >> m->cluster_bits; c <= last && !what; c++) {
        what = g_hash_table_lookup(m->clusters, key(c));
    }
    spin_unlock(&m->lock);
    return what;
}

void qcow2_metadata_add(MetadataSet *m, uint64_t offset, uint64_t bytes, const char *what)
{
    uint64_t last = (offset + MAX(bytes, 1) - 1) >> m->cluster_bits;

    spin_lock(&m->lock);
    for (uint64_t c = offset >> m->cluster_bits; c <= last; c++) {
        const char *was = g_hash_table_lookup(m->clusters, key(c));

        /* An L2 table may have several owners; a refcount block that has two would lie to one. */
        if (was && (strcmp(was, what) || !strcmp(what, "refcount block")) && !m->overlap) {
            m->overlap = was;
            m->overlap_at = c << m->cluster_bits;
        }
        if (was) {
            change_more(m, c, 1);
        }
        g_hash_table_insert(m->clusters, key(c), (gpointer)what);
    }
    spin_unlock(&m->lock);
}

const char *qcow2_metadata_overlap(MetadataSet *m, uint64_t *offset)
{
    const char *what;

    spin_lock(&m->lock);
    what = m->ignored ? NULL : m->overlap;
    *offset = m->overlap_at;
    spin_unlock(&m->lock);
    return what;
}

void qcow2_metadata_remove(MetadataSet *m, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + MAX(bytes, 1) - 1) >> m->cluster_bits;

    spin_lock(&m->lock);
    for (uint64_t c = offset >> m->cluster_bits; c <= last; c++) {
        if (!change_more(m, c, -1)) {
            g_hash_table_remove(m->clusters, key(c));
        }
    }
    spin_unlock(&m->lock);
}
