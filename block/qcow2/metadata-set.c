/* SPDX-License-Identifier: MIT */
/*
 * Which host clusters are metadata: looked at before each write of data in place.
 *
 * INV-META-1  A cluster is in the set as often as it was added and not removed: an L2 table that
 *             several entries of the L1 table name stays until the last of them lets go of it.
 */
#include "qcow2.h"

#include <errno.h>
#include <string.h>

struct MetadataSet {
    SpinLock lock;
    GHashTable *clusters; /* cluster index -> const char *, what it is */
    GHashTable *more;     /* cluster index -> how often it was added beside the first time */
    const char *overlap;  /* a cluster was said to be two things; what it was first */
    uint64_t overlap_at;
};

int qcow2_metadata_init(Qcow2 *q)
{
    q->metadata = g_new0(struct MetadataSet, 1);
    spin_init(&q->metadata->lock);
    q->metadata->clusters = g_hash_table_new(NULL, NULL);
    q->metadata->more = g_hash_table_new(NULL, NULL);
    return 0;
}

void qcow2_metadata_fini(Qcow2 *q)
{
    if (q->metadata) {
        g_hash_table_unref(q->metadata->clusters);
        g_hash_table_unref(q->metadata->more);
        g_clear_pointer(&q->metadata, g_free);
    }
}

static gpointer key(uint64_t cluster)
{
    return GSIZE_TO_POINTER(cluster + 1); /* cluster 0 is not NULL */
}

/* One more owner of @cluster, or one less; false: there was only the first. Under the lock. */
static bool change_more(struct MetadataSet *m, uint64_t cluster, int delta)
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

const char *qcow2_metadata_at(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + bytes - 1) >> q->geo.cluster_bits;
    const char *what = NULL;

    if (unlikely(q->overlap_off)) {
        return NULL;
    }
    spin_lock(&q->metadata->lock);
    for (uint64_t c = offset >> q->geo.cluster_bits; c <= last && !what; c++) {
        what = g_hash_table_lookup(q->metadata->clusters, key(c));
    }
    spin_unlock(&q->metadata->lock);
    return what;
}

void qcow2_metadata_add(Qcow2 *q, uint64_t offset, uint64_t bytes, const char *what)
{
    uint64_t last = (offset + MAX(bytes, 1) - 1) >> q->geo.cluster_bits;

    spin_lock(&q->metadata->lock);
    for (uint64_t c = offset >> q->geo.cluster_bits; c <= last; c++) {
        const char *was = g_hash_table_lookup(q->metadata->clusters, key(c));

        /* An L2 table may have several owners; a refcount block that has two would lie to one. */
        if (was && (strcmp(was, what) || !strcmp(what, "refcount block")) &&
            !q->metadata->overlap) {
            q->metadata->overlap = was;
            q->metadata->overlap_at = c << q->geo.cluster_bits;
        }
        if (was) {
            change_more(q->metadata, c, 1);
        }
        g_hash_table_insert(q->metadata->clusters, key(c), (gpointer)what);
    }
    spin_unlock(&q->metadata->lock);
}

const char *qcow2_metadata_overlap(Qcow2 *q, uint64_t *offset)
{
    *offset = q->metadata->overlap_at;
    return q->metadata->overlap;
}

void qcow2_metadata_remove(Qcow2 *q, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + MAX(bytes, 1) - 1) >> q->geo.cluster_bits;

    spin_lock(&q->metadata->lock);
    for (uint64_t c = offset >> q->geo.cluster_bits; c <= last; c++) {
        if (!change_more(q->metadata, c, -1)) {
            g_hash_table_remove(q->metadata->clusters, key(c));
        }
    }
    spin_unlock(&q->metadata->lock);
}
