/* SPDX-License-Identifier: MIT */
/* Who refers to which host cluster; and what check says of it. */
#include "check.h"

#include <errno.h>
#include <string.h>

int qcow2_check_refmap_init(RefMap *m, Qcow2 *q, int64_t file_length)
{
    g_assert(file_length >= 0);
    m->length = (uint64_t)file_length;
    m->clusters = geo_clusters(&q->geo, m->length);
    m->bits = g_try_malloc0(m->clusters / 4 + 1);
    m->pages = g_try_new0(uint8_t *, m->clusters / REFMAP_PAGE + 1);
    m->many = g_hash_table_new(NULL, NULL);
    m->beyond = g_hash_table_new(NULL, NULL);
    m->out_of_memory = false;
    return m->bits && m->pages ? 0 : -ENOMEM;
}

void qcow2_check_refmap_clear(RefMap *m)
{
    for (uint64_t i = 0; m->pages && i <= m->clusters / REFMAP_PAGE; i++) {
        g_free(m->pages[i]);
    }
    g_clear_pointer(&m->pages, g_free);
    g_clear_pointer(&m->bits, g_free);
    g_clear_pointer(&m->many, g_hash_table_unref);
    g_clear_pointer(&m->beyond, g_hash_table_unref);
}

static GHashTable *hash_of(const RefMap *m, uint64_t cluster)
{
    return cluster < m->clusters ? m->many : m->beyond;
}

static uint64_t in_hash(const RefMap *m, uint64_t cluster)
{
    return GPOINTER_TO_SIZE(g_hash_table_lookup(hash_of(m, cluster), GSIZE_TO_POINTER(cluster)));
}

static void set_in_hash(RefMap *m, uint64_t cluster, uint64_t n)
{
    GHashTable *hash = hash_of(m, cluster);

    if (n) {
        g_hash_table_insert(hash, GSIZE_TO_POINTER(cluster), GSIZE_TO_POINTER((gsize)n));
    } else {
        g_hash_table_remove(hash, GSIZE_TO_POINTER(cluster));
    }
}

uint64_t qcow2_check_refmap_get(const RefMap *m, uint64_t cluster)
{
    const uint8_t *page;
    uint8_t more;

    if (cluster >= m->clusters) {
        return in_hash(m, cluster);
    }
    if (!qcow2_check_refmap_has(m, cluster, REFMAP_SEEN)) {
        return 0;
    }
    page = m->pages[cluster / REFMAP_PAGE];
    more = page ? page[cluster % REFMAP_PAGE] : 0;
    return more == UINT8_MAX ? in_hash(m, cluster) : UINT64_C(1) + more;
}

void qcow2_check_refmap_set(RefMap *m, uint64_t cluster, uint64_t n)
{
    uint8_t **page, more = (uint8_t)MIN(MAX(n, 1) - 1, UINT8_MAX);

    if (cluster >= m->clusters) {
        set_in_hash(m, cluster, n);
        return;
    }
    m->bits[cluster / 4] &= (uint8_t) ~(REFMAP_SEEN << cluster % 4 * 2);
    if (n) {
        qcow2_check_refmap_mark(m, cluster, REFMAP_SEEN);
    }
    page = &m->pages[cluster / REFMAP_PAGE];
    if (more && !*page) {
        *page = g_try_malloc0(REFMAP_PAGE);
        m->out_of_memory = m->out_of_memory || !*page;
    }
    if (*page) {
        if ((*page)[cluster % REFMAP_PAGE] == UINT8_MAX || more == UINT8_MAX) {
            set_in_hash(m, cluster, more == UINT8_MAX ? n : 0);
        }
        (*page)[cluster % REFMAP_PAGE] = more;
    }
}

bool qcow2_check_is_beyond(const Check *c, uint64_t offset, uint64_t bytes)
{
    /* (The last cluster may be cut short by the file's end.) */
    return offset + bytes > c->map.length &&
           offset + bytes - c->map.length >= c->q->geo.cluster_size;
}

void qcow2_check_refmap_add_refs(Check *c, uint64_t offset, uint64_t bytes, uint64_t n, bool data)
{
    uint64_t last;

    if (bytes == 0 || offset > QCOW2_MAX_OFFSET || bytes > QCOW2_MAX_OFFSET - offset) {
        return;
    }
    if (qcow2_check_is_beyond(c, offset, bytes) && !(data && c->without_refcounts)) {
        qcow2_check_error(c, false,
                          ": counting reference for region exceeding the end of the file by one "
                          "cluster or more: "
                          "offset 0x%" G_GINT64_MODIFIER "x size 0x%" G_GINT64_MODIFIER "x",
                          offset, bytes);
        return;
    }
    last = (offset + bytes - 1) >> c->q->geo.cluster_bits;
    for (uint64_t i = offset >> c->q->geo.cluster_bits; i <= last; i++) {
        if (n == 1 && i < c->map.clusters && !qcow2_check_refmap_has(&c->map, i, REFMAP_SEEN)) {
            qcow2_check_refmap_mark(&c->map, i, REFMAP_SEEN);
        } else {
            qcow2_check_refmap_set(&c->map, i,
                                   MIN(qcow2_check_refmap_get(&c->map, i) + n, UINT32_MAX));
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

    if (!c->watch || !c->watch->report) {
        return;
    }
    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    c->watch->report(line, c->watch->opaque);
}

void qcow2_check_found(Check *c, const char *what, uint64_t guest, uint64_t length, const char *fmt,
                       ...)
{
    g_autofree char *repair = NULL;
    BlockFinding f = { .what = what };
    va_list ap;

    if (!c->watch || !c->watch->found) {
        return;
    }
    if (fmt) {
        va_start(ap, fmt);
        repair = g_strdup_vprintf(fmt, ap);
        va_end(ap);
    }
    f.repair = repair;
    if (guest < c->q->hdr.size) {
        f.guest = (int64_t)guest;
        f.length = (int64_t)MIN(length, c->q->hdr.size - guest);
    }
    c->watch->found(&f, c->watch->opaque);
}

int qcow2_check_step(Check *c)
{
    if (!c->watch || !c->watch->progress || c->steps >= c->all_steps) {
        return 0;
    }
    c->steps++;
    if (!c->watch->progress((double)c->steps / (double)c->all_steps, c->watch->opaque) && !c->fix) {
        c->stopped = true;
    }
    return c->stopped ? -ECANCELED : 0;
}

void qcow2_check_error(Check *c, bool fixable, const char *fmt, ...)
{
    bool fixed = fixable && (c->fix & BLK_FIX_ERRORS);
    g_autofree char *line = NULL;
    va_list ap;

    c->found = c->found || fixed;
    if (fixed) {
        c->res->corruptions_fixed++;
    } else {
        c->res->corruptions++;
    }
    if (!c->watch || (!c->watch->report && !c->watch->found)) {
        return;
    }
    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qcow2_check_report(c, "%s%s", fixed ? "Repairing" : "ERROR", line);
    if (!fixed) { /* else it is told when it is done */
        qcow2_check_found(c, line + strspn(line, ": "), c->at_guest, c->at_length, NULL);
    }
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
