/* SPDX-License-Identifier: MIT */
/*
 * The header with its extensions: what is taken from it is within its bounds, and is the same after
 * it was written and read again. Control byte 0, bits: 0 opened for writing, 1 to check.
 */
#include "fuzz.h"

#include "image.h"
#include "qcow2/header.h"

#include <string.h>

const char fuzz_name[] = "header";

static void check_string(const char *s, size_t max, const char *what)
{
    FUZZ_CHECK(!s || strlen(s) <= max, "%s: %zu bytes", what, s ? strlen(s) : 0);
}

/* (Whoever only looks at an image, or checks it, may open one whose tables are not there.) */
static void check_bounds(const Qcow2Header *h, uint64_t length, bool looks)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    FUZZ_CHECK(h->cluster_bits >= 9 && h->cluster_bits <= 21, "cluster bits %u", h->cluster_bits);
    FUZZ_CHECK(h->refcount_order <= 6, "refcount order %u", h->refcount_order);
    FUZZ_CHECK(h->l1_size * UINT64_C(8) <= QCOW2_MAX_L1_BYTES, "L1 of %u entries", h->l1_size);
    FUZZ_CHECK(looks || !h->l1_size || h->l1_offset + h->l1_size * UINT64_C(8) <= length,
               "L1 past the end");
    FUZZ_CHECK(h->reftable_clusters * cluster <= QCOW2_MAX_REFTABLE_BYTES,
               "reftable of %u clusters", h->reftable_clusters);
    FUZZ_CHECK(looks || !h->reftable_clusters || h->reftable_offset < length,
               "reftable past the end");
    FUZZ_CHECK(h->size <= INT64_MAX, "size");
    check_string(h->backing_file, 1023, "backing file");
    check_string(h->backing_format, 15, "backing format");
    check_string(h->data_file, cluster, "data file");
}

static void same_string(const char *a, const char *b, const char *what)
{
    FUZZ_CHECK(!g_strcmp0(a ? a : "", b ? b : ""), "%s is not the same again", what);
}

static void check_again(const Qcow2Header *h, uint64_t length)
{
    size_t len = (size_t)1 << h->cluster_bits;
    g_autofree uint8_t *buf = g_malloc(len);
    g_autoptr(GError) err = NULL;
    Qcow2Header n;
    int ret;

    if (qcow2_header_serialise(h, buf, len, NULL) < 0) {
        return; /* does not fit: an error of its own */
    }
    ret = qcow2_header_parse(&n, buf, len, (int64_t)MAX(length, len), BLK_O_CHECK, &err);
    FUZZ_CHECK(ret == 0, "written again it is refused: %s", err ? err->message : "?");
    same_string(h->backing_file, n.backing_file, "backing file");
    same_string(h->backing_format, n.backing_format, "backing format");
    same_string(h->data_file, n.data_file, "data file");
    FUZZ_CHECK(h->size == n.size && h->l1_offset == n.l1_offset && h->l1_size == n.l1_size &&
                   h->reftable_offset == n.reftable_offset &&
                   h->reftable_clusters == n.reftable_clusters &&
                   h->nb_snapshots == n.nb_snapshots && h->snapshots_offset == n.snapshots_offset &&
                   h->incompatible == n.incompatible && h->compatible == n.compatible &&
                   h->autoclear == n.autoclear && h->refcount_order == n.refcount_order &&
                   h->compression_type == n.compression_type &&
                   h->compression_level == n.compression_level,
               "a field is not the same again");
    FUZZ_CHECK(h->has_bitmaps == n.has_bitmaps && h->unknown_fields_len == n.unknown_fields_len &&
                   h->unknown_exts->len == n.unknown_exts->len,
               "extensions are not the same again");
    qcow2_header_clear(&n);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    g_autoptr(Image) img = img_parse(data, size);
    g_autoptr(MemFile) file = img_to_file(img);
    g_autoptr(GError) err = NULL;
    int flags = (img->ctl[0] & 1 ? BLK_O_RDWR : 0) | (img->ctl[0] & 2 ? BLK_O_CHECK : 0);
    uint32_t bits = (uint32_t)img_ld(img, 20, 4);
    size_t len = (size_t)MIN(img->length, UINT64_C(1) << (bits >= 9 && bits <= 21 ? bits : 12));
    g_autofree uint8_t *buf = g_malloc(MAX(len, 1));
    Qcow2Header h;

    if (len < 24) {
        return; /* the caller's check */
    }
    mem_file_read(file, 0, buf, len);
    if (qcow2_header_parse(&h, buf, len, (int64_t)img->length, flags, &err) < 0) {
        FUZZ_CHECK(err && err->message[0], "refused without a message");
        return;
    }
    check_bounds(&h, img->length, flags & BLK_O_CHECK);
    check_again(&h, img->length);
    qcow2_header_clear(&h);
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    return img_mutate(data, size, max, seed);
}
