/* SPDX-License-Identifier: MIT */
/* Walking every table of an image, counting what each refers to. */
#include "bitmap-set.h"
#include "check.h"
#include "crypt.h"

#include "snapshot.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>


/* ---- L2 ---- */

static void check_bitmap(Check *c, L2Entry e, uint64_t host, bool in_use)
{
    if (!c->q->geo.extended_l2) {
        return;
    }
    if (e.bitmap & e.bitmap >> 32 & UINT32_MAX) {
        qcow2_check_error(c, true,
                          " offset=%" G_GINT64_MODIFIER
                          "x: Allocated cluster has corrupted subcluster "
                          "allocation bitmap",
                          host);
    } else if (!in_use && (uint32_t)e.bitmap) {
        qcow2_check_error(c, true, ": Unallocated cluster has non-zero subcluster allocation map");
    }
}

static void count_fragments(Check *c, uint64_t host)
{
    c->res->allocated_clusters++;
    if (c->next_contiguous && host != c->next_contiguous) {
        c->res->fragmented_clusters++;
    }
    c->next_contiguous = host + c->q->geo.cluster_size;
}

/* What an L2 entry refers to in the file; what is going to be repaired refers to nothing yet. */
static void count_host(Check *c, uint64_t host, uint64_t bytes, uint64_t refs)
{
    bool repairs = c->fix & BLK_FIX_ERRORS;

    if (repairs && qcow2_check_is_beyond(c, host, bytes)) {
        qcow2_check_error(c, true,
                          ": counting reference for region exceeding the end of the file by one "
                          "cluster or more: "
                          "offset 0x%" G_GINT64_MODIFIER "x size 0x%" G_GINT64_MODIFIER "x",
                          host, bytes);
    } else {
        qcow2_check_refmap_add_refs(c, host, bytes, refs, true);
    }
}

/* @refs: how many L1 entries name the table that @e is in. */
static void count_normal(Check *c, L2Entry e, uint64_t guest, bool active, uint64_t refs)
{
    const Geometry *g = &c->q->geo;
    uint64_t host = qcow2_l2_host(g, e);
    bool in_use = qcow2_l2_has_host(g, e);

    check_bitmap(c, e, host, in_use);
    if (!in_use) {
        return;
    }
    if (active) { /* what reads zero but keeps its space, too */
        count_fragments(c, host);
    }
    if (geo_in_cluster(g, host)) {
        qcow2_check_error(c, true,
                          " offset=%" G_GINT64_MODIFIER
                          "x: %s cluster is not properly aligned; L2 entry corrupted.",
                          host,
                          g->version >= 3 && !g->extended_l2 && (e.desc & L2E_ZERO) ? "Preallocated"
                                                                                    : "Data");
        if (c->fix & BLK_FIX_ERRORS) {
            return;
        }
    }
    if (!g->external_data) {
        count_host(c, host, g->cluster_size, refs);
    } else if (active && host != geo_cluster_start(g, guest)) {
        qcow2_check_error(c, false,
                          " offset=%" G_GINT64_MODIFIER
                          "x: host cluster offset in the external data file "
                          "is not the guest's",
                          host);
    }
}

static void count_compressed(Check *c, L2Entry e, bool active, uint64_t refs)
{
    uint64_t host, bytes;

    qcow2_l2_compressed_range(&c->q->geo, e, &host, &bytes);
    if (qcow2_l2_copied(e)) {
        qcow2_check_error(c, true,
                          ": coffset=0x%" G_GINT64_MODIFIER
                          "x: copied flag must never be set for compressed "
                          "clusters",
                          e.desc & QCOW2_OFFSET_MASK);
    }
    if (c->q->geo.external_data) {
        qcow2_check_error(c, true,
                          " compressed cluster %" G_GUINT64_FORMAT
                          " with data file, entry=0x%" G_GINT64_MODIFIER "x",
                          host >> c->q->geo.cluster_bits, e.desc);
        return;
    }
    count_host(c, host, bytes, refs);
    if (active) {
        c->res->allocated_clusters++;
        c->res->compressed_clusters++;
        c->res->fragmented_clusters++; /* as the reference counts them */
    }
}

static void count_l2_entry(Check *c, L2Entry e, uint64_t guest, bool active, uint64_t refs)
{
    const Geometry *g = &c->q->geo;
    uint64_t reserved = g->extended_l2 ? QCOW2_L2_RESERVED_EXT : QCOW2_L2_RESERVED_STD;

    if (e.desc & L2E_COMPRESSED) {
        count_compressed(c, e, active, refs);
        return;
    }
    if (e.desc & reserved) {
        qcow2_check_error(
            c, true, " found l2 entry with reserved bits set: %" G_GINT64_MODIFIER "x", e.desc);
    }
    count_normal(c, e, guest, active, refs);
}

static inline L2Entry load(const uint8_t *table, unsigned i, bool extended)
{
    return extended ? (L2Entry){ ldbe64(table + i * 16), ldbe64(table + i * 16 + 8) }
                    : (L2Entry){ ldbe64(table + i * 8), 0 };
}

/* What a sound entry of a table that has one parent takes: nearly all there are.  False: it is not
 * such a one. */
static inline bool count_sound(Check *c, L2Entry e, bool active)
{
    const Geometry *g = &c->q->geo;
    uint64_t host = e.desc & QCOW2_OFFSET_MASK, cluster = host >> g->cluster_bits;
    uint64_t others = e.desc & ~(QCOW2_OFFSET_MASK | L2E_COPIED | (g->extended_l2 ? 0 : L2E_ZERO));

    if (others | geo_in_cluster(g, host) | (e.bitmap & e.bitmap >> 32 & UINT32_MAX)) {
        return false;
    }
    if (!host) {
        return !e.desc && !(uint32_t)e.bitmap;
    }
    if (cluster >= c->map.clusters || g->external_data ||
        qcow2_check_refmap_has(&c->map, cluster, REFMAP_SEEN) ||
        (c->counts && active &&
         qcow2_check_counts_is_suspect(c->counts, host, qcow2_l2_copied(e)))) {
        return false;
    }
    qcow2_check_refmap_mark(&c->map, cluster, REFMAP_SEEN);
    if (active) {
        count_fragments(c, host);
    }
    return true;
}

static int coroutine_fn co_count_l2(Check *c, uint64_t table, uint64_t guest, uint8_t *buf,
                                    bool active, uint64_t refs)
{
    const Geometry *g = &c->q->geo;
    int ret = qcow2_check_co_read(c, table, g->cluster_size, buf, "check_refcounts_l2");

    c->found = false;
    c->next_contiguous = 0; /* as the reference: each table for itself */
    for (unsigned i = 0; i < 1u << g->l2_bits && ret == 0; i++) {
        L2Entry e = load(buf, i, g->extended_l2);

        if (refs == 1 && count_sound(c, e, active)) {
            continue;
        }
        c->at_guest = guest + ((uint64_t)i << g->cluster_bits);
        c->at_length = active ? g->cluster_size : 0;
        count_l2_entry(c, e, c->at_guest, active, refs);
        c->at_length = 0;
        if (active && c->counts && qcow2_check_counts_copied_is_suspect(c->counts, e)) {
            g_hash_table_add(c->suspects, GSIZE_TO_POINTER(table));
        }
    }
    if (c->found) {
        g_hash_table_add(c->defects, GSIZE_TO_POINTER(table));
    }
    return ret;
}

/* ---- L1 ---- */

static bool in_range(uint64_t x, uint64_t first, uint64_t bytes)
{
    return bytes && x >= first && x - first < bytes;
}

bool qcow2_check_is_other_table(const Check *c, uint64_t table)
{
    const Qcow2Header *h = &c->q->hdr;

    if (!table || geo_in_cluster(&c->q->geo, table)) {
        return false;
    }
    return in_range(table, h->l1_offset, h->l1_size * UINT64_C(8)) ||
           (h->has_bitmaps && in_range(table, h->bitmap_dir_offset, h->bitmap_dir_size)) ||
           (qcow2_metadata_kinds_at(c->q->metadata, table) &
            (METADATA_INACTIVE_L1 | METADATA_SNAPSHOTS));
}

/* What an L1 entry says of its table, counted; 0, or where a table is that can be walked. */
static uint64_t count_l1_entry(Check *c, uint64_t e)
{
    const Geometry *g = &c->q->geo;
    uint64_t table = e & QCOW2_OFFSET_MASK;

    if (!e) {
        return 0;
    }
    if (e & QCOW2_L1_RESERVED) {
        qcow2_check_error(c, true,
                          " found L1 entry with reserved bits set: %" G_GINT64_MODIFIER "x", e);
    }
    if (geo_in_cluster(g, table)) {
        qcow2_check_error(c, true,
                          " l2_offset=%" G_GINT64_MODIFIER
                          "x: Table is not cluster aligned; L1 entry "
                          "corrupted",
                          table);
        if (!(c->fix & BLK_FIX_ERRORS)) {
            qcow2_check_refmap_add(c, table, g->cluster_size);
        }
        return 0;
    }
    if ((c->fix & BLK_FIX_ERRORS) && qcow2_check_is_other_table(c, table)) {
        qcow2_check_error(c, true,
                          " l2_offset=%" G_GINT64_MODIFIER
                          "x: Table overlaps other metadata; L1 entry corrupted",
                          table);
        return 0;
    }
    if (c->fix & BLK_FIX_ERRORS) {
        count_host(c, table, g->cluster_size, 1);
    } else {
        qcow2_check_refmap_add(c, table, g->cluster_size);
    }
    /* Behind the end nothing is there; the comparison of counts tells. */
    return table >> g->cluster_bits < c->map.clusters ? table : 0;
}

/* The tables that @entries of L1 name, and how often each: a table is walked once, however many
 * entries (of one L1 or of many snapshots) name it, or a small file would take hours. @into: table
 * -> count. */
static int coroutine_fn co_collect_l1(Check *c, uint64_t offset, uint32_t entries, uint64_t *l1,
                                      bool active, GHashTable *into)
{
    int ret = qcow2_check_co_read(c, offset, entries * UINT64_C(8), l1, "check_refcounts_l1");

    qcow2_check_refmap_add(c, offset, entries * UINT64_C(8));
    c->found = false;
    for (uint32_t i = 0; i < entries && ret == 0; i++) {
        uint64_t table;
        gpointer key;

        c->at_guest = geo_l1_start(&c->q->geo, i);
        c->at_length = active ? geo_l1_start(&c->q->geo, 1) : 0;
        table = count_l1_entry(c, ldbe64(&l1[i]));
        key = GSIZE_TO_POINTER(table);
        c->at_length = 0;

        l1[i] = table;
        if (table) {
            gsize n = GPOINTER_TO_SIZE(g_hash_table_lookup(into, key));

            g_hash_table_insert(into, key, GSIZE_TO_POINTER(n + 1));
        }
    }
    c->l1_defects = c->l1_defects || c->found;
    return ret;
}

/* The active L1, in its order. */
static int coroutine_fn co_count_l1(Check *c, uint64_t offset, uint32_t entries)
{
    const Geometry *g = &c->q->geo;
    g_autofree uint64_t *l1 = g_try_new(uint64_t, MAX(entries, 1));
    g_autofree uint8_t *buf = g_try_malloc(g->cluster_size);
    g_autoptr(GHashTable) tables = g_hash_table_new(NULL, NULL);
    int ret = l1 && buf ? 0 : -ENOMEM;

    if (ret < 0 || entries == 0) {
        return ret;
    }
    ret = co_collect_l1(c, offset, entries, l1, true, tables);
    for (uint32_t i = 0; i < entries && ret == 0; i++) {
        gpointer key = GSIZE_TO_POINTER(l1[i]);
        uint64_t n = l1[i] ? GPOINTER_TO_SIZE(g_hash_table_lookup(tables, key)) : 0;

        if (n) {
            g_hash_table_insert(tables, key, NULL); /* its turn comes once */
            ret = co_count_l2(c, l1[i], geo_l1_start(g, i), buf, true, n);
        }
        ret = ret < 0 ? ret : qcow2_check_step(c);
    }
    return ret == -ENOMEM || c->stopped ? ret : 0;
}

/* ---- Snapshots, bitmaps, refcount structures ---- */

/* Snapshots' tables are walked after all L1 tables, by offset. */
static int coroutine_fn co_count_inactive(Check *c, GHashTable *tables)
{
    g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(tables), qcow2_check_compare_keys);
    g_autofree uint8_t *buf = g_try_malloc(c->q->geo.cluster_size);
    int ret = buf ? 0 : -ENOMEM;

    for (GList *l = keys; l && ret == 0; l = l->next) {
        ret = co_count_l2(c, GPOINTER_TO_SIZE(l->data), 0, buf, false,
                          GPOINTER_TO_SIZE(g_hash_table_lookup(tables, l->data)));
        ret = ret == -ENOMEM ? ret : qcow2_check_step(c);
    }
    return ret;
}

static void tell_bad_l1(Check *c, const Snapshot *s)
{
    uint64_t bytes = s->l1_size * UINT64_C(8);

    if (bytes > QCOW2_MAX_L1_BYTES) {
        qcow2_check_error(c, false,
                          " snapshot %s (%s) l1_size=%#x: L1 table is too large; snapshot table "
                          "entry corrupted",
                          s->id, s->name, s->l1_size);
    } else if (geo_in_cluster(&c->q->geo, s->l1_offset)) {
        qcow2_check_error(c, false,
                          " snapshot %s (%s) l1_offset=%#" G_GINT64_MODIFIER
                          "x: L1 table is not cluster aligned; snapshot table entry corrupted",
                          s->id, s->name, s->l1_offset);
    } else {
        qcow2_check_error(c, false,
                          ": counting reference for region exceeding the end of the file by one "
                          "cluster or more: offset 0x%" G_GINT64_MODIFIER
                          "x size 0x%" G_GINT64_MODIFIER "x",
                          s->l1_offset, bytes);
    }
}

static int coroutine_fn co_count_snapshots(Check *c)
{
    Qcow2 *q = c->q;
    g_autoptr(GHashTable) tables = g_hash_table_new(NULL, NULL);
    uint64_t length = c->map.clusters << q->geo.cluster_bits, left = length;
    int ret = 0;

    if (q->snapshots_lost) {
        qcow2_check_error(c, false, " snapshots are not known: %s", q->snapshots_lost);
        c->blind = true;
    }
    for (uint32_t i = 0; i < q->hdr.nb_snapshots && ret == 0; i++) {
        const Snapshot *s = &q->snapshots[i];
        uint64_t bytes = s->l1_size * UINT64_C(8);
        g_autofree uint64_t *l1 = NULL;

        if (!qcow2_snapshot_l1_sound(q, s, length) ||
            bytes > left) { /* too long in sum: they overlap */
            tell_bad_l1(c, s);
            c->blind = true;
            continue;
        }
        if (!bytes) {
            continue;
        }
        left -= bytes;
        l1 = g_try_malloc(bytes);
        ret = l1 ? co_collect_l1(c, s->l1_offset, s->l1_size, l1, false, tables) : -ENOMEM;
        ret = ret == -ENOMEM ? ret
                             : 0; /* what cannot be read is told, and the others are looked at */
    }
    ret = ret < 0 ? ret : co_count_inactive(c, tables);
    qcow2_check_refmap_add(c, q->hdr.snapshots_offset,
                           qcow2_snapshot_table_bytes(q->snapshots, q->hdr.nb_snapshots));
    return ret == -ENOMEM || c->stopped ? ret : 0;
}

/* One entry of a bitmap's table, which lies at @at. One that says more than the format has may have
 * lost its way to the cluster that it stands for: that is not to be freed. */
static void count_bitmap_data(Check *c, uint64_t at, uint64_t entry)
{
    uint64_t host = entry & BITMAP_ENTRY_OFFSET;

    if ((entry & ~(BITMAP_ENTRY_OFFSET | BITMAP_ALL_ONES)) || geo_in_cluster(&c->q->geo, host) ||
        (host && (entry & BITMAP_ALL_ONES))) {
        qcow2_check_error(c, false,
                          " bitmap table entry at 0x%" G_GINT64_MODIFIER
                          "x is invalid: 0x%" G_GINT64_MODIFIER "x",
                          at, entry);
        c->blind = true;
    }
    if (host && !geo_in_cluster(&c->q->geo, host)) {
        c->blind |= qcow2_check_is_beyond(c, host, c->q->geo.cluster_size);
        qcow2_check_refmap_add(c, host, c->q->geo.cluster_size);
    }
}

/* One bitmap: its table and the clusters that the table names. */
/* *@left: bytes that tables may still have; they do not overlap, so in sum they are no longer than
 * the file. */
static int coroutine_fn co_count_bitmap(Check *c, uint64_t offset, uint32_t entries, uint64_t *left)
{
    g_autofree uint64_t *table = NULL;
    uint64_t length = c->map.clusters << c->q->geo.cluster_bits, bytes = entries * UINT64_C(8);
    int ret;

    if (bytes <= QCOW2_MAX_L1_BYTES && geo_in_cluster(&c->q->geo, offset) == 0 &&
        offset <= QCOW2_MAX_OFFSET && qcow2_check_is_beyond(c, offset, bytes)) {
        qcow2_check_refmap_add(c, offset, bytes); /* tells so */
        c->blind = true;
        return 0;
    }
    if (!offset || !bytes || bytes > MIN((uint64_t)QCOW2_MAX_L1_BYTES, *left) ||
        geo_in_cluster(&c->q->geo, offset) || offset > length || bytes > length - offset) {
        qcow2_check_error(c, false, " bitmap table at 0x%" G_GINT64_MODIFIER "x is invalid",
                          offset);
        c->blind = true;
        return 0;
    }
    *left -= bytes;
    table = g_try_new(uint64_t, entries);
    if (!table) {
        return -ENOMEM;
    }
    qcow2_check_refmap_add(c, offset, bytes);
    ret = qcow2_check_co_read(c, offset, bytes, table, "bitmap table");
    c->blind = c->blind || ret < 0;
    for (uint32_t i = 0; i < entries && ret == 0; i++) {
        count_bitmap_data(c, offset + i * UINT64_C(8), ldbe64(&table[i]));
    }
    return 0;
}

/* What the directory says of one. */
static void check_known(Check *c, const BitmapEntry *e)
{
    if (!qcow2_bitmap_is_known(e)) {
        qcow2_check_error(c, false, " bitmap '%.*s' doesn't satisfy the constraints",
                          (int)e->name_len, e->name);
    }
}


static int coroutine_fn co_count_bitmaps(Check *c)
{
    const Qcow2Header *h = &c->q->hdr;
    g_autofree uint8_t *dir = NULL;
    uint64_t at = 0, length = c->map.clusters << c->q->geo.cluster_bits, left = length;
    int ret;

    if (!h->has_bitmaps) {
        return 0;
    }
    if (h->bitmap_dir_offset > length || h->bitmap_dir_size > length - h->bitmap_dir_offset) {
        qcow2_check_error(c, false, " bitmap directory is not inside of the file");
        c->blind = true;
        return 0;
    }
    dir = g_try_malloc(MAX(h->bitmap_dir_size, 1));
    if (!dir) {
        return -ENOMEM;
    }
    qcow2_check_refmap_add(c, h->bitmap_dir_offset, h->bitmap_dir_size);
    ret = qcow2_check_co_read(c, h->bitmap_dir_offset, h->bitmap_dir_size, dir, "bitmap directory");
    c->blind = c->blind || ret < 0;
    for (uint32_t i = 0; i < h->nb_bitmaps && ret == 0; i++) {
        BitmapEntry e;

        if (!qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e)) {
            qcow2_check_error(c, false, " bitmap directory is too short");
            c->blind = true;
            return 0;
        }
        check_known(c, &e);
        ret = co_count_bitmap(c, e.table_offset, e.table_entries, &left);
    }
    if (ret == 0 && at < h->bitmap_dir_size) {
        qcow2_check_error(c, false, " bitmap directory has more than the header says");
        c->blind = true; /* what is there has clusters, too */
    }
    return ret == -ENOMEM ? ret : 0;
}

/* What only new refcount structures mend. */
static void G_GNUC_PRINTF(2, 3) structure_error(Check *c, const char *fmt, ...)
{
    g_autofree char *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qcow2_check_report(c, "%s", line);
    c->structure_errors++;
    c->rebuild = true;
}

static void count_refcount_block(Check *c, uint64_t i, uint64_t offset)
{
    uint64_t cluster = offset >> c->q->geo.cluster_bits;

    qcow2_check_refmap_add(c, offset, c->q->geo.cluster_size);
    if (qcow2_check_refmap_get(&c->map, cluster) != 1) {
        structure_error(c, "ERROR refcount block %" G_GUINT64_FORMAT " refcount=%" G_GUINT64_FORMAT,
                        i, qcow2_check_refmap_get(&c->map, cluster));
    }
}

static void count_refcount_structures(Check *c)
{
    Qcow2 *q = c->q;
    const Geometry *g = &q->geo;
    uint64_t bytes = (uint64_t)q->hdr.reftable_clusters << g->cluster_bits;

    if (qcow2_check_is_beyond(c, q->hdr.reftable_offset, bytes)) {
        structure_error(c,
                        "ERROR: counting reference for region exceeding the end of the file by one "
                        "cluster or more: "
                        "offset 0x%" G_GINT64_MODIFIER "x size 0x%" G_GINT64_MODIFIER "x",
                        q->hdr.reftable_offset, bytes);
    } else {
        qcow2_check_refmap_add(c, q->hdr.reftable_offset, bytes);
    }
    for (uint64_t i = 0; i < q->alloc.reftable_entries; i++) {
        uint64_t e = q->alloc.reftable[i];

        if (!e) {
            continue;
        }
        if (e & 511) {
            structure_error(
                c, "ERROR refcount table entry %" G_GUINT64_FORMAT " has reserved bits set", i);
        } else if (geo_in_cluster(g, e)) {
            structure_error(c,
                            "ERROR refcount block %" G_GUINT64_FORMAT
                            " is not cluster aligned; refcount table "
                            "entry corrupted",
                            i);
        } else if (e >> g->cluster_bits >= c->map.clusters) {
            qcow2_check_error(c, true, " refcount block %" G_GUINT64_FORMAT " is outside image", i);
            c->rebuild = c->rebuild || (c->fix & BLK_FIX_ERRORS);
        } else {
            count_refcount_block(c, i, e);
        }
    }
}

int coroutine_fn qcow2_check_tables_co_count(Check *c)
{
    Qcow2 *q = c->q;
    int ret;

    qcow2_check_refmap_add(c, 0, q->geo.cluster_size);
    if (q->hdr.crypto_offset) {
        qcow2_check_refmap_add(c, q->hdr.crypto_offset, q->hdr.crypto_length);
    }
    if (qcow2_crypt_header_is_cut(q)) {
        qcow2_check_error(c, false, " encryption header has key slots past the end of its extent");
        c->blind = true;
    }
    ret = co_count_l1(c, q->hdr.l1_offset, q->hdr.l1_size);
    ret = ret < 0 ? ret : co_count_snapshots(c);
    ret = ret < 0 ? ret : co_count_bitmaps(c);
    if (ret == 0 && !c->without_refcounts) {
        count_refcount_structures(c);
    }
    return ret == 0 && c->map.out_of_memory ? -ENOMEM : ret;
}
