/* SPDX-License-Identifier: MIT */
/*
 * The refcounts of an image that is being remade: what else they count, and they themselves.
 *
 * The table is as large as it can need to be, wherever it and its blocks find their places; blocks
 * that count nothing are not made.
 */
#include "remake-int.h"

#include "refcount-codec.h"
#include "table.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

/* ---- The header of the encryption ---- */

/* It begins a cluster of its own: for larger ones it is copied. */
static int coroutine_fn co_move_crypto(Remake *r)
{
    const Qcow2Header *h = &r->q->hdr;
    uint64_t bytes = h->crypto_length, clusters = geo_clusters(&r->rules.to, bytes);
    g_autofree uint8_t *buf = g_try_malloc(MAX(bytes, 1));
    int ret = buf ? qcow2_table_co_read(r->q->file, h->crypto_offset, bytes, buf) : -ENOMEM;

    ret = ret < 0 ? ret : qcow2_remake_space_take(&r->space, clusters, &r->crypto_offset);
    ret = ret < 0 ? ret : qcow2_remake_out_co_put(r, &r->out, r->crypto_offset, buf, bytes);
    if (buf) {
        memset(buf, 0, bytes); /* key slots */
    }
    r->old_crypto_offset = h->crypto_offset;
    return ret;
}

static int coroutine_fn co_count_crypto(Remake *r)
{
    const Qcow2Header *h = &r->q->hdr;
    int ret = 0;

    r->crypto_offset = h->crypto_offset;
    if (!h->crypto_offset || !h->crypto_length) {
        return 0;
    }
    if (r->rules.to.cluster_bits > r->rules.from.cluster_bits) {
        ret = co_move_crypto(r);
    }
    return ret < 0 ? ret
                   : qcow2_remake_space_add_refs(&r->space, r->crypto_offset, h->crypto_length, 1);
}

void coroutine_fn qcow2_remake_counts_co_wipe_keys(Remake *r)
{
    const Geometry *g = &r->rules.from;
    uint64_t bytes = ALIGN_UP(r->q->hdr.crypto_length, g->cluster_size);
    uint64_t from = r->old_crypto_offset, to = from + bytes, unit = r->rules.to.cluster_size;

    /* (A part of a cluster that has become something else's was not the header's only.) */
    for (uint64_t at = from; from && at < to; at = ALIGN_DOWN(at, unit) + unit) {
        uint64_t n = MIN(ALIGN_DOWN(at, unit) + unit, to) - at;

        if (qcow2_remake_space_is_left(&r->space, at >> r->rules.to.cluster_bits)) {
            (void)bdrv_co_pwrite_zeroes(r->q->file, (int64_t)at, (int64_t)n, 0);
        }
    }
}

/* ---- Places ---- */

typedef struct Counts {
    Remake *r;
    uint64_t *blocks; /* host offsets; 0: none */
    uint64_t entries, table_clusters;
} Counts;

/* As large as all that may be counted, itself and blocks past the end included, needs. */
static int size_table(Counts *n)
{
    const Geometry *g = &n->r->rules.to;
    uint64_t end = MAX(n->r->space.end, geo_clusters(g, n->r->old_length)), blocks = 1, all, old;

    n->table_clusters = 1;
    do {
        old = n->table_clusters + blocks;
        all = end + old;
        blocks = (all >> g->refblock_bits) + 1;
        n->table_clusters = geo_clusters(g, blocks * 8);
    } while (n->table_clusters + blocks != old);
    n->entries = (n->table_clusters << g->cluster_bits) / 8;
    if (n->entries * 8 > QCOW2_MAX_REFTABLE_BYTES) {
        return -EFBIG;
    }
    n->blocks = g_try_new0(uint64_t, n->entries);
    return n->blocks ? 0 : -ENOMEM;
}

static int take_block(Counts *n, uint64_t k)
{
    const Geometry *g = &n->r->rules.to;
    int ret;

    if (k >= n->entries) {
        return -EFBIG; /* (a reference far past the end of the file) */
    }
    ret = qcow2_remake_space_take(&n->r->space, 1, &n->blocks[k]);
    return ret < 0 ? ret
                   : qcow2_remake_space_add_refs(&n->r->space, n->blocks[k], g->cluster_size, 1);
}

/* Each block that counts something; one may want another for itself. */
static int take_blocks(Counts *n)
{
    const Geometry *g = &n->r->rules.to;
    bool again = true;
    int ret = 0;

    while (again && ret == 0) {
        again = false;
        for (uint64_t c = 0; c < n->r->space.end && ret == 0; c++) {
            uint64_t k = c >> g->refblock_bits;

            if (k < n->entries && n->blocks[k]) {
                c = ((k + 1) << g->refblock_bits) - 1;
            } else if (qcow2_remake_space_count(&n->r->space, c)) {
                ret = take_block(n, k);
                again = true;
            }
        }
    }
    return ret;
}

/* ---- Written ---- */

static void fill_block(const Counts *n, uint64_t k, uint8_t *buf)
{
    const Geometry *g = &n->r->rules.to;
    uint64_t per = UINT64_C(1) << g->refblock_bits;

    for (uint64_t i = 0; i < per; i++) {
        qcow2_refcount_codec_set(g->refcount_order, buf, i,
                                 qcow2_remake_space_count(&n->r->space, k * per + i));
    }
}

static int coroutine_fn co_write(Counts *n)
{
    Remake *r = n->r;
    uint64_t size = r->rules.to.cluster_size;
    g_autofree uint8_t *buf = g_try_malloc0(size);
    int ret = buf ? 0 : -ENOMEM;

    for (uint64_t k = 0; k < n->entries && ret == 0; k++) {
        if (n->blocks[k]) {
            fill_block(n, k, buf);
            ret = qcow2_remake_out_co_put(r, &r->out, n->blocks[k], buf, size);
        }
    }
    for (uint64_t k = 0; k < n->entries; k++) {
        stbe64(&n->blocks[k], n->blocks[k]);
    }
    ret = ret < 0
              ? ret
              : qcow2_remake_out_co_put(r, &r->out, r->reftable_offset, n->blocks, n->entries * 8);
    return ret < 0 ? ret : qcow2_remake_out_co_flush(r, &r->out);
}

int coroutine_fn qcow2_remake_counts_co_write(Remake *r)
{
    Counts n = { .r = r };
    int ret = 0;

    if (!r->tables_stay) {
        ret = qcow2_remake_space_add_refs(&r->space, 0, r->rules.to.cluster_size, 1);
        ret = ret < 0 ? ret : qcow2_remake_bitmaps_co_run(r);
        ret = ret < 0 ? ret : co_count_crypto(r);
    }
    ret = ret < 0 ? ret : size_table(&n);
    ret = ret < 0 ? ret : qcow2_remake_space_take(&r->space, n.table_clusters, &r->reftable_offset);
    ret = ret < 0 ? ret
                  : qcow2_remake_space_add_refs(&r->space, r->reftable_offset, n.entries * 8, 1);
    ret = ret < 0 ? ret : take_blocks(&n);
    ret = ret < 0 ? ret : co_write(&n);
    r->reftable_clusters = (uint32_t)n.table_clusters;
    g_free(n.blocks);
    return qcow2_remake_out_error(r, ret, "Could not write the image's new refcounts");
}
