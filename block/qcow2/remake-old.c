/* SPDX-License-Identifier: MIT */
/*
 * The L1 tables of an image that is being remade, and which new L2 tables come of them.
 *
 * A new L2 table covers more or less of the disk than an old one does. It is made once for all L1
 * entries that map the same old tables there: what snapshots share stays shared.
 */
#include "remake-int.h"

#include "crypt.h"
#include "table.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define SNAPSHOT_FIXED 40
#define SNAPSHOT_DISK_SIZE 8 /* in the extra data */
#define MAX_EXTRA 1024

/* ---- Which old tables a new entry maps ---- */

RemakeSlice qcow2_remake_old_slice(const Remake *r, const RemakeL1 *l, uint64_t j)
{
    unsigned from = geo_l1_bits(&r->rules.from), to = geo_l1_bits(&r->rules.to);
    bool disk = j < l->new_disk;
    uint64_t base = disk ? 0 : l->old_disk, k = disk ? j : j - l->new_disk;
    uint64_t limit = disk ? MIN(l->old_disk, l->entries) : l->entries;
    RemakeSlice s = { .guest = j << to, .disk = disk };
    uint64_t first, most = to >= from ? UINT64_C(1) << (to - from) : 1;

    if (to >= from) {
        first = base + (k << (to - from));
    } else {
        first = base + (k >> (from - to));
        s.part = k & ((UINT64_C(1) << (from - to)) - 1);
    }
    if (first < limit) {
        s.old = l->old + first;
        s.n = MIN(most, limit - first);
    }
    return s;
}

static bool is_empty(RemakeSlice s)
{
    for (uint64_t i = 0; i < s.n; i++) {
        if (s.old[i]) {
            return false;
        }
    }
    return true;
}

/* ---- New tables, each once ---- */

typedef struct Sharing {
    const Remake *r;
    RemakeSlice slice;
    guint table;
} Sharing;

static guint sharing_hash(gconstpointer p)
{
    const Sharing *s = p;
    uint64_t h = s->slice.guest * 31 + s->slice.disk;

    for (uint64_t i = 0; i < s->slice.n; i++) {
        h = (h ^ s->slice.old[i]) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return (guint)(h >> 32);
}

static gboolean sharing_equal(gconstpointer a, gconstpointer b)
{
    const RemakeSlice *x = &((const Sharing *)a)->slice, *y = &((const Sharing *)b)->slice;

    return x->n == y->n && x->part == y->part && x->disk == y->disk && x->guest == y->guest &&
           memcmp(x->old, y->old, x->n * sizeof(x->old[0])) == 0;
}

static void name_table(Remake *r, GHashTable *known, guint l1, uint64_t j)
{
    RemakeL1 *l = remake_l1(r, l1);
    Sharing key = { .r = r, .slice = qcow2_remake_old_slice(r, l, j) };
    Sharing *old = known ? g_hash_table_lookup(known, &key) : NULL;
    RemakeTable t = { .l1 = l1, .index = (uint32_t)j, .refs = 1, .active = l1 == 0 };

    if (old) {
        remake_table(r, old->table)->refs++;
        l->tables[j] = old->table + 1;
        return;
    }
    key.table = r->tables->len;
    g_array_append_val(r->tables, t);
    l->tables[j] = r->tables->len;
    if (known) {
        g_hash_table_add(known, g_memdup2(&key, sizeof(key)));
    }
}

/* One L1 table may name a table twice, too: only where nothing is shared at all, no list is
 * needed. */
static int name_tables(Remake *r)
{
    g_autoptr(GHashTable) known =
        r->l1s->len > 1 ? g_hash_table_new_full(sharing_hash, sharing_equal, g_free, NULL) : NULL;

    for (guint i = 0; i < r->l1s->len; i++) {
        RemakeL1 *l = remake_l1(r, i);

        l->tables = g_try_new0(uint32_t, MAX(l->n, 1));
        if (!l->tables) {
            return -ENOMEM;
        }
        for (uint64_t j = 0; j < l->n; j++) {
            if (!is_empty(qcow2_remake_old_slice(r, l, j))) {
                name_table(r, known, i, j);
            }
        }
    }
    return 0;
}

/* ---- Read ---- */

/* How much of a machine's state is there: up to its last cluster. */
static int coroutine_fn co_state_bytes(Remake *r, const RemakeL1 *l, uint64_t *bytes)
{
    const Geometry *g = &r->rules.from;
    g_autofree uint8_t *table = NULL;
    unsigned n = 1u << g->l2_bits;
    int ret;

    *bytes = 0;
    if (l->entries <= l->old_disk) {
        return 0;
    }
    table = g_try_malloc(g->cluster_size);
    ret = table ? qcow2_table_co_read(r->q->file, l->old[l->entries - 1], g->cluster_size, table)
                : -ENOMEM;
    while (ret == 0 && n > 0 && !qcow2_l2_load(g, table, n - 1).desc &&
           !qcow2_l2_load(g, table, n - 1).bitmap) {
        n--;
    }
    *bytes = (((l->entries - 1 - l->old_disk) << g->l2_bits) + n) << g->cluster_bits;
    return ret;
}

static int coroutine_fn co_add_l1(Remake *r, uint64_t *old, uint64_t entries, uint64_t disk_size,
                                  uint64_t pos)
{
    const Geometry *from = &r->rules.from, *to = &r->rules.to;
    unsigned down = geo_l1_bits(from), up = geo_l1_bits(to);
    RemakeL1 l = { .old = old, .entries = entries, .snapshot_pos = pos };
    uint64_t state;
    int ret;

    l.old_disk = geo_l1_entries(from, disk_size);
    l.new_disk = geo_l1_entries(to, disk_size);
    while (l.entries > l.old_disk && !old[l.entries - 1]) {
        l.entries--;
    }
    ret = co_state_bytes(r, &l, &state);
    if (ret < 0) {
        g_free(old);
        return ret;
    }
    /* With a data file, and with the older encryption, data knows where on the disk it is. */
    if (state && (r->rules.from.external_data || r->q->hdr.crypt_method == QCOW2_CRYPT_AES) &&
        l.old_disk << down != l.new_disk << up) {
        g_free(old);
        return qcow2_remake_out_refuse(r, ENOTSUP,
                                       "An image with a virtual machine's state and an external "
                                       "data file, or AES encryption, cannot be changed so");
    }
    l.n = l.new_disk + geo_l1_entries(to, state);
    g_array_append_val(r->l1s, l);
    if (l.n > QCOW2_MAX_L1_BYTES / 8) {
        return qcow2_remake_out_refuse(r, EFBIG,
                                       "The image size is too large for file format 'qcow2' "
                                       "(try using a larger cluster size)");
    }
    return 0;
}

static int coroutine_fn co_read_l1(Remake *r, uint64_t offset, uint64_t entries, uint64_t disk_size,
                                   uint64_t pos)
{
    g_autofree uint64_t *old = g_try_new(uint64_t, MAX(entries, 1));
    int ret = old ? 0 : -ENOMEM;

    if (ret == 0 && entries) {
        ret = qcow2_table_co_read(r->q->file, offset, entries * 8, old);
    }
    for (uint64_t i = 0; i < entries && ret == 0; i++) {
        old[i] = ldbe64(&old[i]) & QCOW2_OFFSET_MASK;
    }
    return ret < 0 ? ret : co_add_l1(r, g_steal_pointer(&old), entries, disk_size, pos);
}

/* The snapshot table as it is, to be written again with other places of L1 tables. */
static int coroutine_fn co_read_snapshot(Remake *r, uint64_t *at)
{
    uint64_t offset = r->q->hdr.snapshots_offset + *at, disk = r->q->hdr.size;
    uint8_t fixed[SNAPSHOT_FIXED], extra[2 * sizeof(uint64_t)];
    uint32_t extra_len;
    uint64_t pos = *at;
    int ret = bdrv_co_pread(r->q->file, (int64_t)offset, sizeof(fixed), fixed, 0);

    extra_len = ret < 0 ? 0 : ldbe32(fixed + 36);
    if (ret == 0 && extra_len > MAX_EXTRA) {
        return -EINVAL;
    }
    if (ret == 0 && extra_len >= sizeof(extra)) {
        ret = bdrv_co_pread(r->q->file, (int64_t)offset + SNAPSHOT_FIXED, sizeof(extra), extra, 0);
        disk = ret < 0 ? disk : ldbe64(extra + SNAPSHOT_DISK_SIZE);
    }
    if (ret < 0) {
        return ret;
    }
    if (disk > INT64_MAX) {
        return -EINVAL;
    }
    *at += ALIGN_UP((uint64_t)SNAPSHOT_FIXED + extra_len + ldbe16(fixed + 12) + ldbe16(fixed + 14),
                    UINT64_C(8));
    if (ldbe32(fixed + 8) > QCOW2_MAX_L1_BYTES / 8) {
        return -EFBIG;
    }
    return co_read_l1(r, ldbe64(fixed), ldbe32(fixed + 8), disk, pos);
}

static int coroutine_fn co_read_snapshots(Remake *r)
{
    const Qcow2Header *h = &r->q->hdr;
    int ret = 0;

    for (uint32_t i = 0; i < h->nb_snapshots && ret == 0; i++) {
        ret = co_read_snapshot(r, &r->snapshot_bytes);
    }
    if (ret < 0 || !h->nb_snapshots) {
        return ret;
    }
    r->snapshot_table = g_try_malloc(r->snapshot_bytes);
    return r->snapshot_table ? qcow2_table_co_read(r->q->file, h->snapshots_offset,
                                                   r->snapshot_bytes, r->snapshot_table)
                             : -ENOMEM;
}

int coroutine_fn qcow2_remake_old_co_load(Remake *r)
{
    const Qcow2Header *h = &r->q->hdr;
    int ret = co_read_l1(r, h->l1_offset, h->l1_size, h->size, 0);

    ret = ret < 0 ? ret : co_read_snapshots(r);
    ret = ret < 0 ? ret : name_tables(r);
    return qcow2_remake_out_error(r, ret, "Could not read the image's tables");
}
