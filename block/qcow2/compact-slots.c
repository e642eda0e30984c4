/* SPDX-License-Identifier: MIT */
/*
 * The slots of tables, changed in the file: a few sectors at a time, each slot within one.  And
 * what memory holds of them.
 */
#include "compact.h"

#include "snapshot.h"
#include "util/bytes.h"

#define PIECE 4096

/* ---- In the file ---- */

/* Changes [i, n), sorted, those of them that are in one piece of one table; how many. */
static guint in_piece(const CompactChange *ch, guint i, guint n, uint64_t piece)
{
    guint end = i + 1;

    while (end < n && ch[end].table == ch[i].table &&
           ch[end].slot * UINT64_C(8) / piece == ch[i].slot * UINT64_C(8) / piece) {
        end++;
    }
    return end - i;
}

static int apply(uint8_t *buf, uint64_t base, const CompactChange *ch, guint n, bool back)
{
    for (guint i = 0; i < n; i++) {
        uint8_t *at = buf + (ch[i].slot * UINT64_C(8) - base);
        uint64_t value = ldbe64(at);

        if (value != ch[i].was && !(back && value == ch[i].is)) {
            return -EIO; /* not what the scan found there */
        }
        stbe64(at, back ? ch[i].was : ch[i].is);
    }
    return 0;
}

static int coroutine_fn co_write_piece(Compact *c, const CompactChange *ch, guint n, uint8_t *buf,
                                       uint64_t piece, bool back)
{
    BdrvChild *file = c->q->file;
    uint64_t base = ALIGN_DOWN(ch->slot * UINT64_C(8), piece);
    int64_t at = (int64_t)(qcow2_compact_table(c, ch->table)->offset + base);
    int ret = bdrv_co_pread(file, at, (int64_t)piece, buf, 0);

    ret = ret < 0 ? ret : apply(buf, base, ch, n, back);
    return ret < 0 ? ret : bdrv_co_pwrite(file, at, (int64_t)piece, buf, 0);
}

static int by_place(const void *a, const void *b)
{
    const CompactChange *x = a, *y = b;

    return x->table != y->table ? (x->table < y->table ? -1 : 1)
                                : (x->slot > y->slot) - (x->slot < y->slot);
}

static int coroutine_fn co_write_header(Compact *c, const CompactChange *ch, guint n, uint8_t *buf,
                                        uint64_t piece, bool back)
{
    int ret;

    co_mutex_lock(&c->q->header.lock);
    ret = co_write_piece(c, ch, n, buf, piece, back);
    co_mutex_unlock(&c->q->header.lock);
    return ret;
}

int coroutine_fn qcow2_compact_slots_co_write(Compact *c, GArray *changes, bool back)
{
    const CompactChange *ch;
    uint8_t *buf = bdrv_try_blockalign(c->q->file->bs, PIECE);
    int ret = buf ? 0 : -ENOMEM;

    g_array_sort(changes, by_place);
    ch = (const CompactChange *)changes->data;
    for (guint i = 0, n; i < changes->len && ret == 0; i += n) {
        bool header = qcow2_compact_table(c, ch[i].table)->kind == CO_HEADER;
        /* (The header: as little as is not torn.) */
        uint64_t piece = header ? 512 : MIN(PIECE, c->q->geo.cluster_size);

        n = in_piece(ch, i, changes->len, piece);
        ret = header ? co_write_header(c, ch + i, n, buf, piece, back)
                     : co_write_piece(c, ch + i, n, buf, piece, back);
    }
    mem_align_free(buf);
    return ret;
}

/* ---- In memory ---- */

/* Which kind a table of metadata is in the set. */
static const char *name_of(CompactKind kind)
{
    switch (kind) {
    case CO_HEADER:
        return "qcow2_header";
    case CO_L1:
        return "active L1 table";
    case CO_SNAPSHOT_L1:
        return "inactive L1 table";
    case CO_L2:
        return "active L2 table";
    case CO_SNAPSHOTS:
        return "snapshot table";
    case CO_BITMAPS:
        return "bitmap directory";
    case CO_BITMAP_TABLE:
        return "bitmap table";
    case CO_REFTABLE:
        return "refcount table";
    case CO_CRYPT:
        return "encryption header";
    }
    g_assert_not_reached();
}

static void metadata_moved(Qcow2 *q, const char *name, uint64_t from, uint64_t to, uint64_t bytes)
{
    qcow2_metadata_remove(q->metadata, from, bytes);
    qcow2_metadata_add(q->metadata, to, bytes, name);
}

/* The table at @from is at @to now; it, or NULL. */
static CompactTable *table_moved(Compact *c, uint64_t from, uint64_t to)
{
    unsigned cb = c->q->geo.cluster_bits;
    gpointer i = g_hash_table_lookup(c->at, GSIZE_TO_POINTER(from >> cb));
    CompactTable *t = i ? qcow2_compact_table(c, GPOINTER_TO_UINT(i)) : NULL;

    if (!t) {
        i = g_hash_table_lookup(c->at, GSIZE_TO_POINTER(to >> cb)); /* by another reference */
        return i ? qcow2_compact_table(c, GPOINTER_TO_UINT(i)) : NULL;
    }
    g_hash_table_remove(c->at, GSIZE_TO_POINTER(from >> cb));
    g_hash_table_insert(c->at, GSIZE_TO_POINTER(to >> cb), i);
    t->offset = to;
    return t;
}

/* What the header, or another directory, names. */
static void root_moved(Compact *c, uint64_t from, uint64_t to) REQUIRES_LOCK(c->q->alloc.meta_lock)
{
    Qcow2 *q = c->q;
    const CompactTable *t = table_moved(c, from, to);

    g_assert(t && t->offset == to);
    metadata_moved(q, name_of(t->kind), from, to, t->bytes);
    switch (t->kind) {
    case CO_L1:
        q->hdr.l1_offset = to;
        break;
    case CO_REFTABLE:
        q->hdr.reftable_offset = to;
        break;
    case CO_SNAPSHOTS:
        q->hdr.snapshots_offset = to;
        break;
    case CO_BITMAPS:
        q->hdr.bitmap_dir_offset = to;
        break;
    case CO_SNAPSHOT_L1:
        q->snapshots[t->number].l1_offset = to;
        break;
    case CO_CRYPT:
        q->hdr.crypto_offset = to;
        break;
    case CO_BITMAP_TABLE:
        break; /* nothing is kept of it */
    case CO_HEADER:
    case CO_L2:
        g_assert_not_reached();
    }
}

static void l2_moved(Compact *c, const CompactChange *ch, bool active)
    REQUIRES_LOCK(c->q->alloc.meta_lock)
{
    Qcow2 *q = c->q;
    uint64_t from = ch->was & QCOW2_OFFSET_MASK, to = ch->is & QCOW2_OFFSET_MASK;

    (void)table_moved(c, from, to);
    qcow2_metadata_move_inactive_l2(q->metadata, from, to);
    qcow2_cache_drop(q->l2_cache, from, q->geo.cluster_size);
    qcow2_cache_drop(q->l2_cache, to, q->geo.cluster_size);
    if (active) {
        atomic_store(&q->l1[ch->slot], ch->is);
        metadata_moved(q, name_of(CO_L2), from, to, q->geo.cluster_size);
    }
}

static void block_moved(Compact *c, const CompactChange *ch) REQUIRES_LOCK(c->q->alloc.meta_lock)
{
    Allocator *a = &c->q->alloc;

    g_assert(ch->slot < a->reftable_entries);
    qcow2_cache_drop(a->ref_cache, ch->was, a->geo->cluster_size);
    qcow2_cache_drop(a->ref_cache, ch->is, a->geo->cluster_size);
    a->reftable[ch->slot] = ch->is;
    metadata_moved(c->q, "refcount block", ch->was, ch->is, a->geo->cluster_size);
}

void coroutine_fn qcow2_compact_slots_co_note(Compact *c, const CompactChange *ch)
{
    CompactTable t = *qcow2_compact_table(c, ch->table);

    switch (t.kind) {
    case CO_HEADER:
    case CO_SNAPSHOTS:
    case CO_BITMAPS:
        root_moved(c, ch->was, ch->is);
        break;
    case CO_L1:
    case CO_SNAPSHOT_L1:
        l2_moved(c, ch, t.kind == CO_L1);
        break;
    case CO_L2:
        qcow2_cache_drop(c->q->l2_cache, t.offset, t.bytes);
        break;
    case CO_REFTABLE:
        block_moved(c, ch);
        break;
    case CO_BITMAP_TABLE:
    case CO_CRYPT:
        break;
    }
}
