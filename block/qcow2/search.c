/* SPDX-License-Identifier: MIT */
/* Finding free clusters: see search.h. */
#include "search.h"

#include "refcount.h"
#include "refcount-codec.h"

/* A table that names one full refcount block over and over makes a search without end of a small
 * file. So many clusters in a row that are counted past the end of the file (leaks, no more) are
 * looked at in one search; the next goes on from there. */
#define MAX_USED_PAST (UINT64_C(1) << 26)

typedef struct FreeScan {
    uint64_t n;
    bool exact;
    ClusterRange avoid;
    uint64_t first, run; /* the run found so far */
    uint64_t seen;       /* first free cluster met, or UINT64_MAX */
} FreeScan;

/* One more stretch of @len free clusters at @c. */
static void scan_free(FreeScan *f, uint64_t c, uint64_t len)
{
    g_assert(len > 0 && (f->run == 0 || c == f->first + f->run));
    if (f->run == 0) {
        f->first = c;
    }
    if (f->seen == UINT64_MAX) {
        f->seen = c;
    }
    f->run += len;
}

static void scan_used(FreeScan *f)
{
    f->run = 0;
}

static bool scan_done(const FreeScan *f)
{
    return f->run >= f->n;
}

/* Entries [index, index + len) of a slice, for clusters from @c on. False: an inexact run has
 * ended. */
static bool scan_slice(Allocator *a, FreeScan *f, const void *data, uint64_t index, uint64_t c,
                       uint64_t len)
{
    unsigned order = a->geo->refcount_order;

    for (uint64_t i = 0; i < len && !scan_done(f);) {
        if (qcow2_refcount_codec_get(order, data, index + i) == 0) {
            uint64_t z =
                qcow2_refcount_codec_zero_run(order, data, index + i, MIN(len - i, f->n - f->run));

            for (uint64_t k = 0; k < z; k++) {
                ORACLE(qcow2_oracle_counts_check(a->oracle, c + i + k, 0));
            }
            scan_free(f, c + i, z);
            i += z;
        } else if (f->run && !f->exact) {
            return false;
        } else {
            scan_used(f);
            i += qcow2_refcount_codec_used_run(order, data, index + i, len - i);
        }
    }
    return true;
}

/* From @c on, *len clusters that are known to be in use. */
static bool skip_full(const Allocator *a, FreeScan *f, uint64_t c, uint64_t *len)
    REQUIRES_LOCK(a->meta_lock)
{
    uint64_t per = qcow2_refcount_slice_entries(a), next = qcow2_full_map_next(&a->full, c / per);

    if (next == c / per) {
        return false;
    }
    *len = next * per - c;
    if (f->exact || f->run == 0) {
        scan_used(f);
    }
    return true;
}

/* One stretch from @c on; *len: clusters looked at. 1 done or ended, 0 go on, < 0 error. */
static int coroutine_fn scan_step(Allocator *a, FreeScan *f, uint64_t c, uint64_t *len)
    REQUIRES_LOCK(a->meta_lock)
{
    uint64_t per = qcow2_refcount_slice_entries(a), index;
    bool more = true;
    MetaSlice *s;
    int ret;

    if (skip_full(a, f, c, len)) {
        return f->run && !f->exact;
    }
    if (cluster_range_has(f->avoid, c)) {
        *len = f->avoid.first + f->avoid.n - c;
        if (f->run && !f->exact) {
            return 1;
        }
        scan_used(f);
        return 0;
    }
    ret = qcow2_refcount_co_slice(a, c, &s, &index);
    if (ret < 0) {
        return ret;
    }
    *len = s ? per - index : per - c % per;
    if (f->avoid.n && c < f->avoid.first) {
        *len = MIN(*len, f->avoid.first - c);
    }
    if (s) {
        more = scan_slice(a, f, s->data, index, c, *len);
        if (f->run == 0 &&
            qcow2_refcount_codec_used_run(a->geo->refcount_order, s->data, 0, per) == per) {
            qcow2_full_map_set(&a->full, c / per);
        }
        qcow2_cache_put(a->ref_cache, s);
    } else {
        scan_free(f, c, *len);
    }
    return !more || scan_done(f);
}

uint64_t qcow2_search_file_end(const Allocator *a)
{
    return geo_clusters(a->geo, (uint64_t)MAX(atomic_load(&a->file->bs->total_bytes), 0));
}

int coroutine_fn qcow2_search_co_free(Allocator *a, uint64_t start, uint64_t n, bool exact,
                                      ClusterRange avoid, uint64_t *first, uint64_t *got,
                                      uint64_t *seen)
{
    uint64_t end = QCOW2_MAX_OFFSET >> a->geo->cluster_bits, len = 0;
    uint64_t bound = MAX(start, qcow2_search_file_end(a));
    FreeScan f = { .n = n, .exact = exact, .avoid = avoid, .seen = UINT64_MAX };
    int ret = 0;

    g_assert(n > 0);
    for (uint64_t c = start; c < end && ret == 0; c += len) {
        if (c > bound && c - bound > MAX_USED_PAST) {
            if (start == a->free_hint && f.seen == UINT64_MAX) {
                a->free_hint = c; /* INV-ALLOC-1 */
            }
            return -EFBIG;
        }
        ret = scan_step(a, &f, c, &len);
    }
    if (ret < 0) {
        return ret;
    }
    if (f.run == 0 || (exact && f.run < n) || f.first + MIN(f.run, n) > end) {
        return -EFBIG;
    }
    g_assert(!cluster_range_has(avoid, f.first) && f.first >= start);
    *first = f.first;
    *got = MIN(f.run, n);
    if (seen) {
        *seen = f.seen;
    }
    return 0;
}

#define AHEAD 64 /* slices */

void coroutine_fn qcow2_search_co_look_ahead(Allocator *a, uint64_t *c)
{
    uint64_t per = qcow2_refcount_slice_entries(a);

    *c = ALIGN_DOWN(*c, per); /* (a power of two) */
    for (unsigned i = 0; i < AHEAD; i++, *c += per) {
        FreeScan f = { .n = 1, .seen = UINT64_MAX };
        uint64_t len;

        if (scan_step(a, &f, *c, &len) < 0) {
            return;
        }
    }
}
