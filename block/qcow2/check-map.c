/* SPDX-License-Identifier: MIT */
/* Who refers to which host cluster; and what check says of it. */
#include "check.h"

#include <errno.h>

int qcow2_check_refmap_init(RefMap *m, Qcow2 *q, int64_t file_length)
{
    g_assert(file_length >= 0);
    m->length = (uint64_t)file_length;
    m->clusters = geo_clusters(&q->geo, m->length);
    m->refs = g_try_new0(uint32_t, MAX(m->clusters, 1));
    m->beyond = g_hash_table_new(NULL, NULL);
    return m->refs ? 0 : -ENOMEM;
}

void qcow2_check_refmap_clear(RefMap *m)
{
    g_clear_pointer(&m->refs, g_free);
    g_clear_pointer(&m->beyond, g_hash_table_unref);
}

uint64_t qcow2_check_refmap_get(const RefMap *m, uint64_t cluster)
{
    return cluster < m->clusters
               ? m->refs[cluster]
               : GPOINTER_TO_SIZE(g_hash_table_lookup(m->beyond, GSIZE_TO_POINTER(cluster)));
}

void qcow2_check_refmap_add_refs(Check *c, uint64_t offset, uint64_t bytes, uint64_t n, bool data)
{
    uint64_t last;

    if (bytes == 0 || offset > QCOW2_MAX_OFFSET || bytes > QCOW2_MAX_OFFSET - offset) {
        return;
    }
    /* The last cluster may be cut short by the file's end. */
    if (offset + bytes > c->map.length &&
        offset + bytes - c->map.length >= c->q->geo.cluster_size &&
        !(data && c->without_refcounts)) {
        qcow2_check_report(
            c,
            "ERROR: counting reference for region exceeding the end of the file by one "
            "cluster or more: "
            "offset 0x%" G_GINT64_MODIFIER "x size 0x%" G_GINT64_MODIFIER "x",
            offset, bytes);
        c->res->corruptions++;
        return;
    }
    last = (offset + bytes - 1) >> c->q->geo.cluster_bits;
    for (uint64_t i = offset >> c->q->geo.cluster_bits; i <= last; i++) {
        if (i < c->map.clusters) {
            c->map.refs[i] = (uint32_t)MIN(c->map.refs[i] + n, UINT32_MAX);
        } else {
            gpointer key = GSIZE_TO_POINTER(i);
            gsize old = GPOINTER_TO_SIZE(g_hash_table_lookup(c->map.beyond, key));

            g_hash_table_insert(c->map.beyond, key, GSIZE_TO_POINTER(old + n));
        }
    }
}

void qcow2_check_refmap_add(Check *c, uint64_t offset, uint64_t bytes)
{
    qcow2_check_refmap_add_refs(c, offset, bytes, 1, false);
}

void qcow2_check_report(Check *c, const char *fmt, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    if (!c->report) {
        return;
    }
    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    c->report(line, c->opaque);
}

int coroutine_fn qcow2_check_co_read(Check *c, uint64_t offset, uint64_t bytes, void *buf,
                                     const char *what)
{
    int ret = bdrv_co_pread(c->q->file, (int64_t)offset, (int64_t)bytes, buf, 0);

    if (ret < 0) {
        qcow2_check_report(c, "ERROR: I/O error in %s at offset 0x%" G_GINT64_MODIFIER "x: %s",
                           what, offset, g_strerror(-ret));
        c->res->check_errors++;
    }
    return ret;
}

int qcow2_check_compare_keys(gconstpointer a, gconstpointer b)
{
    gsize x = GPOINTER_TO_SIZE(a), y = GPOINTER_TO_SIZE(b);

    return x < y ? -1 : x > y;
}
