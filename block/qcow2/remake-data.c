/* SPDX-License-Identifier: MIT */
/*
 * The data of one new cluster in a remake: it stays, or is put together anew from what mapped it,
 * in a new cluster; or is packed.
 *
 * INV-RD-1  Data is written to clusters that were free; with an external data file in place, but
 *           only what no entry shows there, or as it is.
 */
#include "remake-int.h"

#include "compress.h"
#include "crypt.h"

#include <errno.h>
#include <string.h>

#define PACK_ROOM (UINT64_C(1) * MiB) /* is taken at a time */

/* ---- References ---- */

/* One more table has @e; *@e COPIED where that fits. */
static int count_entry(const RemakeCluster *c, L2Entry *e)
{
    RemakeSpace *s = &c->r->space;
    const Geometry *g = &c->r->rules.to;
    uint64_t host, bytes;
    int ret = 0;

    if (e->desc & L2E_COMPRESSED) {
        bool raised = s->raised; /* such clusters have no flag */

        qcow2_l2_compressed_range(g, *e, &host, &bytes);
        ret = qcow2_remake_space_add_refs(s, host, bytes, c->refs);
        s->raised = raised;
    } else if (!g->external_data && qcow2_l2_has_host(g, *e)) {
        host = qcow2_l2_host(g, *e);
        ret = qcow2_remake_space_add_refs(s, host, g->cluster_size, c->refs);
        e->desc &= ~L2E_COPIED;
        if (ret == 0 && c->active && qcow2_remake_space_count(s, host >> g->cluster_bits) == 1) {
            e->desc |= L2E_COPIED;
        }
    }
    return ret;
}

static int store(const RemakeCluster *c, L2Entry e)
{
    int ret = count_entry(c, &e);

    qcow2_l2_store(&c->r->rules.to, c->table, c->index, e);
    return ret == -ERANGE ? qcow2_remake_out_overflow(c->r, qcow2_l2_host(&c->r->rules.to, e),
                                                      c->r->rules.to.refcount_max + 1)
                          : ret;
}

/* Each cluster of the host can have that many references more. */
static bool takes_refs(const Remake *r, uint64_t host, uint64_t bytes, uint64_t refs)
{
    const Geometry *g = &r->rules.to;

    for (uint64_t i = host >> g->cluster_bits; i <= (host + bytes - 1) >> g->cluster_bits; i++) {
        if (qcow2_remake_space_count(&r->space, i) + refs > g->refcount_max) {
            return false;
        }
    }
    return true;
}

/* ---- What snapshots share is moved once ---- */

typedef struct Moved {
    uint64_t guest;
    uint64_t skip;
    unsigned n;
    L2Entry to;
    L2Entry from[];
} Moved;

static guint moved_hash(gconstpointer p)
{
    const Moved *m = p;
    uint64_t h = m->guest;

    for (unsigned i = 0; i < m->n; i++) {
        h = (h ^ m->from[i].desc) * UINT64_C(0x9e3779b97f4a7c15) + m->from[i].bitmap;
    }
    return (guint)(h >> 32);
}

static gboolean moved_equal(gconstpointer a, gconstpointer b)
{
    const Moved *x = a, *y = b;

    return x->guest == y->guest && x->n == y->n && x->skip == y->skip &&
           memcmp(x->from, y->from, x->n * sizeof(L2Entry)) == 0;
}

static Moved *make_moved(const RemakeCluster *c)
{
    Moved *m = g_malloc(sizeof(Moved) + c->source.n * sizeof(L2Entry));

    m->guest = c->guest;
    m->skip = c->source.skip;
    m->n = c->source.n;
    for (unsigned i = 0; i < m->n; i++) {
        m->from[i] = c->source.entries[i];
        m->from[i].desc &= ~L2E_COPIED; /* says nothing of the content */
    }
    return m;
}

static void note_moved(const RemakeCluster *c, L2Entry to)
{
    Remake *r = c->r;
    Moved *m;

    if (r->l1s->len > 1 && c->disk) {
        if (!r->moved) {
            r->moved = g_hash_table_new_full(moved_hash, moved_equal, g_free, NULL);
        }
        m = make_moved(c);
        m->to = to;
        g_hash_table_replace(r->moved, m, m);
    }
}

/* Its place has room for one more table's references: where refcounts are narrow, packed clusters
 * may use them up between them. What does not fit is moved once more. */
static bool can_share(const RemakeCluster *c, L2Entry e)
{
    const Geometry *g = &c->r->rules.to;
    uint64_t host = qcow2_l2_host(g, e), bytes = g->cluster_size;

    if (e.desc & L2E_COMPRESSED) {
        qcow2_l2_compressed_range(g, e, &host, &bytes);
    }
    return takes_refs(c->r, host, bytes, c->refs);
}

static bool find_moved(const RemakeCluster *c, L2Entry *to)
{
    g_autofree Moved *key = NULL;
    const Moved *m;

    if (!c->r->moved || !c->disk) {
        return false;
    }
    key = make_moved(c);
    m = g_hash_table_lookup(c->r->moved, key);
    if (!m || !can_share(c, m->to)) {
        return false;
    }
    *to = m->to;
    return true;
}

int qcow2_remake_data_settle(const RemakeCluster *c, bool *settled)
{
    L2Entry e = c->plan.entry;

    *settled = c->plan.action == REMAKE_BARE || c->plan.action == REMAKE_STAY ||
               (!c->r->rules.to.external_data && find_moved(c, &e));
    return *settled ? store(c, e) : 0;
}

int qcow2_remake_data_prepare(RemakeCluster *c)
{
    Remake *r = c->r;
    uint64_t host;
    int ret;

    if (c->plan.action == REMAKE_PACK) {
        return 0;
    }
    g_assert(c->plan.action == REMAKE_FILL && c->plan.fill);
    if (r->rules.to.external_data) {
        c->plan.entry.desc |= c->guest | L2E_COPIED;
        return store(c, c->plan.entry);
    }
    ret = qcow2_remake_space_take(&r->space, 1, &host);
    if (ret < 0) {
        return ret;
    }
    c->plan.entry.desc |= host;
    note_moved(c, c->plan.entry);
    return store(c, c->plan.entry);
}

/* ---- Content ---- */

/* Bytes of the host that follow each other, not read yet. */
typedef struct Pending {
    uint64_t host, guest, bytes;
    uint8_t *to;
} Pending;

static int coroutine_fn co_read_pending(const RemakeCluster *c, Pending *p)
{
    IOVector v;
    int ret = 0;

    if (p->bytes) {
        iov_init_buf(&v, p->to, p->bytes);
        ret = qcow2_data_co_read(c->r->q, p->host, p->guest, &v);
    }
    p->bytes = 0;
    return ret;
}

static int coroutine_fn co_read_backing(const RemakeCluster *c, uint64_t guest, uint64_t bytes,
                                        uint8_t *buf)
{
    BdrvChild *backing = c->r->q->bs->backing;
    int64_t length;
    uint64_t n;

    memset(buf, 0, bytes);
    if (!c->r->rules.backing || !c->disk) {
        return 0;
    }
    if (!backing) {
        return qcow2_remake_out_refuse(
            c->r, EINVAL, "The image's backing file is needed, and was opened without");
    }
    length = bdrv_co_getlength(backing->bs);
    if (length < 0) {
        return (int)length;
    }
    n = guest < (uint64_t)length ? MIN(bytes, (uint64_t)length - guest) : 0;
    return n ? bdrv_co_pread(backing, (int64_t)guest, (int64_t)n, buf, 0) : 0;
}

static int coroutine_fn co_read_packed(const RemakeCluster *c, L2Entry e, uint64_t at,
                                       uint64_t bytes, uint8_t *buf)
{
    IOVector v;

    iov_init_buf(&v, buf, bytes);
    return qcow2_decompress_co_read(c->r->q, e, at, &v, 0, bytes);
}

/* One run of a kind: @n bytes at @at of the cluster of @e, which are at @guest of the disk. */
static int coroutine_fn co_read_run(const RemakeCluster *c, Pending *p, L2Entry e, ScKind kind,
                                    uint64_t at, uint64_t n, uint64_t guest, uint8_t *buf)
{
    uint64_t host = qcow2_l2_host(&c->r->rules.from, e) + at;
    int ret;

    switch (kind) {
    case SC_NORMAL:
        if (p->bytes && p->host + p->bytes == host && p->to + p->bytes == buf) {
            p->bytes += n;
            return 0;
        }
        ret = co_read_pending(c, p);
        *p = (Pending){ .host = host, .guest = guest, .bytes = n, .to = buf };
        return ret;
    case SC_COMPRESSED:
        return co_read_packed(c, e, at, n, buf);
    case SC_ZERO_PLAIN:
    case SC_ZERO_ALLOC:
        memset(buf, 0, n);
        return 0;
    case SC_UNALLOCATED_PLAIN:
    case SC_UNALLOCATED_ALLOC:
        return co_read_backing(c, guest, n, buf);
    case SC_INVALID:
        return -EIO;
    }
    g_assert_not_reached();
}

/* Bytes [@from, @to) of the new cluster. */
static int coroutine_fn co_read_content(const RemakeCluster *c, uint64_t from, uint64_t to,
                                        uint8_t *buf)
{
    const Geometry *g = &c->r->rules.from;
    const RemakeSource *s = &c->source;
    Pending p = { 0 };
    uint64_t end = s->skip + to, n;
    int ret = 0;

    for (uint64_t at = s->skip + from; at < end && ret == 0; at += n) {
        L2Entry e = s->entries[at >> g->cluster_bits];
        uint64_t in = geo_in_cluster(g, at);
        unsigned sc = (unsigned)(in >> g->subcluster_bits), nsc;
        ScKind kind = qcow2_l2_run(g, e, sc, s->guest + geo_cluster_start(g, at), &nsc);

        n = MIN((((uint64_t)sc + nsc) << g->subcluster_bits) - in, end - at);
        ret = co_read_run(c, &p, e, kind, in, n, c->guest + at - s->skip,
                          buf + (at - s->skip - from));
    }
    return ret < 0 ? ret : co_read_pending(c, &p);
}

/* ---- Fill ---- */

/* @buf at @host, which is byte @at of the cluster. */
static int coroutine_fn co_write_data(const RemakeCluster *c, uint64_t host, uint64_t at,
                                      uint64_t bytes, void *buf)
{
    IOVector v;

    iov_init_buf(&v, buf, bytes);
    return qcow2_data_co_write(c->r->q, host, c->guest + at, &v, 0);
}

/* Subclusters [@first, @first + @n). */
static int coroutine_fn co_fill_run(RemakeCluster *c, unsigned first, unsigned n, uint8_t *buf)
{
    const Geometry *g = &c->r->rules.to;
    uint64_t from = (uint64_t)first << g->subcluster_bits;
    uint64_t bytes = (uint64_t)n << g->subcluster_bits;
    uint64_t host = qcow2_l2_host(g, c->plan.entry) + from,
             size = ALIGN_UP(c->r->q->hdr.size, UINT64_C(512));
    int ret = co_read_content(c, from, from + bytes, buf);

    if (g->external_data && host + bytes > size) { /* it is no longer than the disk */
        bytes = size > host ? size - host : 0;
    }
    return ret < 0 || !bytes ? ret : co_write_data(c, host, from, bytes, buf);
}

static int coroutine_fn co_fill(RemakeCluster *c)
{
    const Geometry *g = &c->r->rules.to;
    uint8_t *buf = bdrv_try_blockalign(c->r->q->data->bs, g->cluster_size);
    int ret = buf ? 0 : -ENOMEM;

    for (unsigned i = 0; i < g->subclusters && ret == 0;) {
        unsigned n = 0;

        while (i + n < g->subclusters && (c->plan.fill >> (i + n) & 1)) {
            n++;
        }
        ret = n ? co_fill_run(c, i, n, buf) : 0;
        i += n + 1;
    }
    mem_align_free(buf);
    return ret;
}

/* ---- Pack ---- */

/* Gives back whole clusters of the room. */
static void end_pack_room(Remake *r)
{
    const Geometry *g = &r->rules.to;
    uint64_t from = ALIGN_UP(r->pack_at, g->cluster_size);

    if (from < r->pack_end) {
        qcow2_remake_space_untake(&r->space, from, (r->pack_end - from) >> g->cluster_bits);
    }
    r->pack_at = r->pack_end = 0;
}

/* Packed data may go on from one cluster to the next, if the first can count it, too. */
static int pack_room(Remake *r, uint64_t bytes, uint64_t refs, uint64_t *host)
{
    const Geometry *g = &r->rules.to;
    uint64_t n = MAX(PACK_ROOM >> g->cluster_bits, 1), offset;
    int ret;

    if (geo_in_cluster(g, r->pack_at) && !takes_refs(r, r->pack_at, 1, refs)) {
        r->pack_at = ALIGN_UP(r->pack_at, g->cluster_size);
    }
    if (r->pack_end - r->pack_at < bytes) {
        ret = qcow2_remake_space_take(&r->space, n, &offset);
        if (ret < 0) {
            return ret;
        }
        if (offset != r->pack_end) {
            end_pack_room(r);
            r->pack_at = offset;
        }
        r->pack_end = offset + (n << g->cluster_bits);
    }
    if (r->pack_at + bytes - 1 > g->coffset_mask) {
        return -EFBIG;
    }
    *host = r->pack_at;
    r->pack_at += bytes;
    return 0;
}

void qcow2_remake_data_end(Remake *r)
{
    end_pack_room(r);
}

static int coroutine_fn co_store_packed(RemakeCluster *c, const uint8_t *data, size_t bytes)
{
    Remake *r = c->r;
    uint64_t host;
    L2Entry e;
    int ret = pack_room(r, bytes, c->refs, &host);

    if (ret < 0) {
        return ret;
    }
    e = qcow2_l2_make_compressed(&r->rules.to, host, bytes);
    ret = store(c, e);
    if (ret == 0) {
        note_moved(c, e);
        ret = qcow2_remake_out_co_put(r, &r->packed, host, data, bytes);
    }
    return ret;
}

/* It does not get smaller. */
static int coroutine_fn co_store_plain(RemakeCluster *c, uint8_t *data)
{
    const Geometry *g = &c->r->rules.to;
    uint64_t host;
    L2Entry e;
    int ret = qcow2_remake_space_take(&c->r->space, 1, &host);

    if (ret < 0) {
        return ret;
    }
    e = (L2Entry){ .desc = host, .bitmap = g->extended_l2 ? UINT32_MAX : 0 };
    ret = store(c, e);
    if (ret == 0) {
        note_moved(c, e);
        ret = co_write_data(c, host, 0, g->cluster_size, data);
    }
    return ret;
}

static int coroutine_fn co_pack(RemakeCluster *c)
{
    uint64_t size = c->r->rules.to.cluster_size;
    unsigned type = c->r->target.compression_type;
    unsigned level = qcow2_compress_level(&c->r->q->hdr, type);
    uint8_t *in = bdrv_try_blockalign(c->r->q->data->bs, size);
    g_autofree uint8_t *out = g_try_malloc(size);
    size_t packed;
    int ret = in && out ? co_read_content(c, 0, size, in) : -ENOMEM;

    if (ret == 0) {
        ret = qcow2_compress_co_pack(type, level, in, size, out, &packed);
        if (ret == 0) {
            ret = co_store_packed(c, out, packed);
        } else if (ret == -E2BIG) {
            ret = co_store_plain(c, in);
        }
    }
    mem_align_free(in);
    return ret;
}

int coroutine_fn qcow2_remake_data_co_run(void *cluster)
{
    RemakeCluster *c = cluster;
    int ret = c->plan.action == REMAKE_PACK ? co_pack(c) : co_fill(c);

    g_clear_pointer(&c->entries, g_free);
    return ret;
}
