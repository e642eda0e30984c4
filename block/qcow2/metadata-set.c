/* SPDX-License-Identifier: MIT */
/* Which clusters are metadata: see metadata-set.h. */
#include "metadata-set.h"

#include "util/spinlock.h"

#include <string.h>

struct MetadataSet {
    unsigned cluster_bits;
    unsigned wanted; /* kinds that are looked for */
    SpinLock lock;
    GHashTable *clusters GUARDED_BY(lock); /* cluster -> kinds that were added until none is left */
    GHashTable *more GUARDED_BY(lock);     /* cluster -> how often it was added after the first */
    GHashTable *inactive GUARDED_BY(lock); /* cluster -> how many snapshots' L1 entries name it */
    unsigned overlap GUARDED_BY(lock);     /* a cluster was said to be two things; the first */
    uint64_t overlap_at GUARDED_BY(lock);
};

static const char *const names[] = {
    "qcow2_header",      "active L1 table",   "active L2 table",
    "refcount table",    "refcount block",    "snapshot table",
    "inactive L1 table", "inactive L2 table", "bitmap directory",
};

static unsigned kind_of(const char *what)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!strcmp(names[i], what)) {
            return 1u << i;
        }
    }
    return METADATA_OTHER;
}

/* The first of @kinds; NULL: there is none. */
static const char *name_of(unsigned kinds)
{
    unsigned i = kinds ? (unsigned)__builtin_ctz(kinds) : 0;

    return !kinds ? NULL : i < G_N_ELEMENTS(names) ? names[i] : "bitmap table";
}

MetadataSet *qcow2_metadata_new(unsigned cluster_bits) UNCHECKED_LOCKS
{
    MetadataSet *m = g_new0(MetadataSet, 1);

    m->cluster_bits = cluster_bits;
    m->wanted = METADATA_ALL;
    spin_init(&m->lock);
    m->clusters = g_hash_table_new(NULL, NULL);
    m->more = g_hash_table_new(NULL, NULL);
    m->inactive = g_hash_table_new(NULL, NULL);
    return m;
}

void qcow2_metadata_free(MetadataSet *m) UNCHECKED_LOCKS
{
    if (m) {
        g_hash_table_unref(m->clusters);
        g_hash_table_unref(m->more);
        g_hash_table_unref(m->inactive);
        g_free(m);
    }
}

void qcow2_metadata_look_for(MetadataSet *m, unsigned kinds)
{
    m->wanted = kinds ? kinds | METADATA_OTHER : 0;
}

static gpointer key(uint64_t cluster)
{
    return GSIZE_TO_POINTER(cluster + 1); /* cluster 0 is not NULL */
}

static unsigned kinds_at(const MetadataSet *m, uint64_t cluster) REQUIRES_LOCK(m->lock)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(m->clusters, key(cluster)));
}

static bool is_inactive(const MetadataSet *m, uint64_t cluster) REQUIRES_LOCK(m->lock)
{
    return g_hash_table_contains(m->inactive, key(cluster));
}

/* @cluster is counted once more in @counts, or once less; false: it was not counted. */
static bool change_count(GHashTable *counts, uint64_t cluster, int delta)
{
    gsize n = GPOINTER_TO_SIZE(g_hash_table_lookup(counts, key(cluster)));

    if (n == 0 && delta < 0) {
        return false;
    }
    n += (gsize)delta;
    if (n) {
        g_hash_table_insert(counts, key(cluster), GSIZE_TO_POINTER(n));
    } else {
        g_hash_table_remove(counts, key(cluster));
    }
    return true;
}

const char *qcow2_metadata_at(MetadataSet *m, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + bytes - 1) >> m->cluster_bits;
    unsigned found = 0;

    g_assert(bytes > 0);
    if (unlikely(!m->wanted)) {
        return NULL;
    }
    spin_lock(&m->lock);
    for (uint64_t c = offset >> m->cluster_bits; c <= last && !found; c++) {
        found = (kinds_at(m, c) | (is_inactive(m, c) ? METADATA_INACTIVE_L2 : 0)) & m->wanted;
    }
    spin_unlock(&m->lock);
    return name_of(found);
}

unsigned qcow2_metadata_kinds_at(MetadataSet *m, uint64_t offset)
{
    unsigned kinds;

    spin_lock(&m->lock);
    kinds = kinds_at(m, offset >> m->cluster_bits);
    spin_unlock(&m->lock);
    return kinds;
}

void qcow2_metadata_add(MetadataSet *m, uint64_t offset, uint64_t bytes, const char *what)
{
    uint64_t last = (offset + MAX(bytes, 1) - 1) >> m->cluster_bits;
    unsigned kind = kind_of(what);

    spin_lock(&m->lock);
    for (uint64_t c = offset >> m->cluster_bits; c <= last; c++) {
        unsigned was = kinds_at(m, c);

        /* An L2 table may have several owners; a refcount block that has two would lie to one. */
        if (was && (was != kind || kind == METADATA_REFBLOCK) && !m->overlap) {
            m->overlap = was;
            m->overlap_at = c << m->cluster_bits;
        }
        if (was) {
            change_count(m->more, c, 1);
        }
        g_hash_table_insert(m->clusters, key(c), GUINT_TO_POINTER(was | kind));
    }
    spin_unlock(&m->lock);
}

const char *qcow2_metadata_overlap(MetadataSet *m, uint64_t *offset)
{
    const char *what;

    spin_lock(&m->lock);
    what = m->wanted ? name_of(m->overlap) : NULL;
    *offset = m->overlap_at;
    spin_unlock(&m->lock);
    return what;
}

void qcow2_metadata_remove(MetadataSet *m, uint64_t offset, uint64_t bytes)
{
    uint64_t last = (offset + MAX(bytes, 1) - 1) >> m->cluster_bits;

    spin_lock(&m->lock);
    for (uint64_t c = offset >> m->cluster_bits; c <= last; c++) {
        if (!change_count(m->more, c, -1)) {
            g_hash_table_remove(m->clusters, key(c));
        }
    }
    spin_unlock(&m->lock);
}

/* ---- L2 tables of snapshots ---- */

bool qcow2_metadata_wants_inactive_l2(const MetadataSet *m)
{
    return m->wanted & METADATA_INACTIVE_L2;
}

bool qcow2_metadata_is_inactive_l2(MetadataSet *m, uint64_t offset)
{
    bool found;

    if (likely(!qcow2_metadata_wants_inactive_l2(m))) {
        return false;
    }
    spin_lock(&m->lock);
    found = is_inactive(m, offset >> m->cluster_bits);
    spin_unlock(&m->lock);
    return found;
}

void qcow2_metadata_add_inactive_l2(MetadataSet *m, uint64_t offset)
{
    spin_lock(&m->lock);
    change_count(m->inactive, offset >> m->cluster_bits, 1);
    spin_unlock(&m->lock);
}

void qcow2_metadata_remove_inactive_l2(MetadataSet *m, uint64_t offset)
{
    spin_lock(&m->lock);
    change_count(m->inactive, offset >> m->cluster_bits, -1);
    spin_unlock(&m->lock);
}

void qcow2_metadata_move_inactive_l2(MetadataSet *m, uint64_t from, uint64_t to)
{
    gpointer old = key(from >> m->cluster_bits), n;

    spin_lock(&m->lock);
    n = g_hash_table_lookup(m->inactive, old);
    if (n) {
        g_hash_table_remove(m->inactive, old);
        g_hash_table_insert(m->inactive, key(to >> m->cluster_bits), n);
    }
    spin_unlock(&m->lock);
}

void qcow2_metadata_clear_inactive_l2(MetadataSet *m)
{
    spin_lock(&m->lock);
    g_hash_table_remove_all(m->inactive);
    spin_unlock(&m->lock);
}
