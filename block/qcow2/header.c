/* SPDX-License-Identifier: MIT */
/*
 * The header: parse, validate, serialise.  Nothing is taken from it before it is checked; each
 * check says what is wrong as the reference says it.
 */
#include "header.h"

#include "header-ext.h"
#include "header-layout.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define MAX_BACKING_NAME 1023

static void ext_clear(gpointer p)
{
    g_free(((HeaderExt *)p)->data);
}

static void header_init(Qcow2Header *h)
{
    memset(h, 0, sizeof(*h));
    h->unknown_exts = g_array_new(FALSE, FALSE, sizeof(HeaderExt));
    g_array_set_clear_func(h->unknown_exts, ext_clear);
}

void qcow2_header_clear(Qcow2Header *h)
{
    g_free(h->unknown_fields);
    g_free(h->other_names);
    g_free(h->backing_file);
    g_free(h->backing_format);
    g_free(h->data_file);
    g_clear_pointer(&h->unknown_exts, g_array_unref);
    memset(h, 0, sizeof(*h));
}

void qcow2_header_copy(Qcow2Header *dst, const Qcow2Header *src)
{
    *dst = *src;
    dst->unknown_fields = g_memdup2(src->unknown_fields, src->unknown_fields_len);
    dst->other_names = g_memdup2(src->other_names, src->other_names_len);
    dst->backing_file = g_strdup(src->backing_file);
    dst->backing_format = g_strdup(src->backing_format);
    dst->data_file = g_strdup(src->data_file);
    dst->unknown_exts = g_array_new(FALSE, FALSE, sizeof(HeaderExt));
    g_array_set_clear_func(dst->unknown_exts, ext_clear);
    for (guint i = 0; src->unknown_exts && i < src->unknown_exts->len; i++) {
        HeaderExt e = g_array_index(src->unknown_exts, HeaderExt, i);

        e.data = g_memdup2(e.data, e.len);
        g_array_append_val(dst->unknown_exts, e);
    }
}

/* ---- Parse ---- */

static int parse_fixed(Qcow2Header *h, const uint8_t *b, size_t len, GError **errp)
{
    if (len < 8 || ldbe32(b) != HEADER_MAGIC) {
        return error_set(errp, EINVAL, "Image is not in qcow2 format");
    }
    h->version = ldbe32(b + HEADER_AT(version));
    if (h->version < 2 || h->version > 3) {
        return error_set(errp, ENOTSUP, "Unsupported qcow2 version %u", h->version);
    }
    if (len < (h->version == 2 ? HEADER_V2_LENGTH : HEADER_V3_LENGTH)) {
        return error_set(errp, EINVAL, "Could not read qcow2 header: the file ends after %zu bytes",
                         len);
    }
    h->cluster_bits = ldbe32(b + HEADER_AT(cluster_bits));
    h->size = ldbe64(b + HEADER_AT(size));
    h->crypt_method = ldbe32(b + HEADER_AT(crypt_method));
    h->l1_size = ldbe32(b + HEADER_AT(l1_size));
    h->l1_offset = ldbe64(b + HEADER_AT(l1_offset));
    h->reftable_offset = ldbe64(b + HEADER_AT(reftable_offset));
    h->reftable_clusters = ldbe32(b + HEADER_AT(reftable_clusters));
    h->nb_snapshots = ldbe32(b + HEADER_AT(nb_snapshots));
    h->snapshots_offset = ldbe64(b + HEADER_AT(snapshots_offset));
    h->header_length = HEADER_V2_LENGTH;
    h->refcount_order = 4;
    if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS) {
        return error_set(errp, EINVAL, "Unsupported cluster size: 2^%u", h->cluster_bits);
    }
    return 0;
}

static int parse_v3(Qcow2Header *h, const uint8_t *b, size_t len, GError **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    if (h->version == 2) {
        return 0;
    }
    h->incompatible = ldbe64(b + HEADER_AT(incompatible));
    h->compatible = ldbe64(b + HEADER_AT(compatible));
    h->autoclear = ldbe64(b + HEADER_AT(autoclear));
    h->refcount_order = ldbe32(b + HEADER_AT(refcount_order));
    h->header_length = ldbe32(b + HEADER_AT(header_length));
    if (h->header_length < HEADER_V3_LENGTH) {
        return error_set(errp, EINVAL, "qcow2 header too short");
    }
    if (h->header_length > cluster) {
        return error_set(errp, EINVAL, "qcow2 header exceeds cluster size");
    }
    if (h->header_length > len) {
        return error_set(
            errp, EINVAL,
            "Could not read unknown qcow2 header fields: the file ends after %zu bytes", len);
    }
    if (h->header_length > HEADER_V3_LENGTH) {
        h->compression_type = b[HEADER_AT(compression_type)];
        memcpy(h->padding, b + HEADER_AT(padding),
               MIN(h->header_length - HEADER_AT(padding), sizeof(h->padding)));
    }
    if (h->header_length > HEADER_OUR_LENGTH) {
        h->unknown_fields_len = h->header_length - HEADER_OUR_LENGTH;
        h->unknown_fields = g_try_malloc(h->unknown_fields_len);
        if (!h->unknown_fields) {
            return error_set_errno(errp, ENOMEM, "Could not read unknown qcow2 header fields");
        }
        memcpy(h->unknown_fields, b + HEADER_OUR_LENGTH, h->unknown_fields_len);
    }
    return 0;
}

static int check_compression(const Qcow2Header *h, GError **errp)
{
    bool bit = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;

    if (h->compression_type > QCOW2_COMPRESSION_ZSTD) {
        return error_set(errp, ENOTSUP, "qcow2: unknown compression type: %u", h->compression_type);
    }
    if (h->compression_type != QCOW2_COMPRESSION_ZLIB && !bit) {
        return error_set(errp, EINVAL,
                         "qcow2: Compression type incompatible feature bit must be set");
    }
    if (h->compression_type == QCOW2_COMPRESSION_ZLIB && bit) {
        return error_set(errp, EINVAL,
                         "qcow2: Compression type incompatible feature bit must not be set");
    }
    return 0;
}

static int check_features(const Qcow2Header *h, const uint8_t *b, size_t len, int flags,
                          GError **errp)
{
    uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;

    if (unknown) {
        g_autofree char *names = qcow2_header_ext_feature_names(h, b, len, unknown);

        return error_set(errp, ENOTSUP, "Unsupported qcow2 feature(s): %s", names);
    }
    if (h->refcount_order > 6) {
        return error_set(errp, EINVAL,
                         "Reference count entry width too large; may not exceed 64 bits");
    }
    if ((h->incompatible & QCOW2_INCOMPAT_CORRUPT) && (flags & BLK_O_RDWR) &&
        !(flags & BLK_O_CHECK)) {
        return error_set(errp, EACCES, "qcow2: Image is corrupt; cannot be opened read/write");
    }
    if (h->crypt_method > 2) {
        return error_set(errp, EINVAL, "Unsupported encryption method %u", h->crypt_method);
    }
    if (h->crypt_method == 2 && !h->crypto_offset) {
        return error_set(errp, EINVAL, "Missing CRYPTO header for crypt method %u",
                         h->crypt_method);
    }
    if ((h->incompatible & QCOW2_INCOMPAT_EXTL2) &&
        h->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
        return error_set(
            errp, EINVAL,
            "Extended L2 entries are only supported with cluster sizes of at least %u bytes",
            1u << QCOW2_EXTL2_MIN_CLUSTER_BITS);
    }
    if ((h->autoclear & QCOW2_AUTOCLEAR_DATA_RAW) &&
        !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE) && !(flags & BLK_O_NO_IO)) {
        return error_set(errp, EINVAL, "data-file-raw requires a data file");
    }
    return check_compression(h, errp);
}

/* A table of @entries of @entry_size at @offset: aligned, no longer than @max, no overflow. */
static int check_table(const Qcow2Header *h, uint64_t offset, uint64_t entries, uint64_t entry_size,
                       uint64_t max, const char *name, GError **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    if (entries > max / entry_size) {
        return error_set(errp, EFBIG, "%s too large", name);
    }
    if ((offset & (cluster - 1)) || offset > (uint64_t)INT64_MAX - entries * entry_size) {
        return error_set(errp, EINVAL, "%s offset invalid", name);
    }
    return 0;
}

static bool is_reftable_place(const Qcow2Header *h)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    return h->reftable_clusters <= QCOW2_MAX_REFTABLE_BYTES / cluster &&
           !(h->reftable_offset & (cluster - 1)) && h->reftable_offset < QCOW2_MAX_OFFSET;
}

static int check_tables(Qcow2Header *h, int flags, GError **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    bool ext = h->incompatible & QCOW2_INCOMPAT_EXTL2;
    Geometry g;
    int ret;

    if ((flags & BLK_O_CHECK) && (flags & BLK_O_RDWR) && !is_reftable_place(h)) {
        h->reftable_offset = h->reftable_clusters = 0; /* a repair makes a new one */
    }

    if (h->reftable_clusters > QCOW2_MAX_REFTABLE_BYTES / cluster) {
        return error_set(errp, EINVAL, "Reference count table too large");
    }
    if (h->reftable_clusters == 0 && !(flags & BLK_O_CHECK)) {
        return error_set(errp, EINVAL, "Image does not contain a reference count table");
    }
    ret = check_table(h, h->reftable_offset, h->reftable_clusters * (cluster / 8), 8,
                      QCOW2_MAX_REFTABLE_BYTES, "Reference count table", errp);
    if (ret == 0) {
        ret = check_table(h, h->snapshots_offset, h->nb_snapshots, 1, QCOW2_MAX_SNAPSHOTS,
                          "Snapshot table", errp);
    }
    if (ret == 0) {
        ret = check_table(h, h->l1_offset, h->l1_size, 8, QCOW2_MAX_L1_BYTES, "Active L1 table",
                          errp);
    }
    if (ret < 0) {
        return ret;
    }
    qcow2_geometry_init(&g, (int)h->version, h->cluster_bits, h->refcount_order, ext, false, false);
    if (h->size > INT64_MAX) {
        return error_set(errp, EFBIG, "Could not refresh total sector count: File too large");
    }
    if (geo_l1_entries(&g, h->size) > QCOW2_MAX_L1_BYTES / 8) {
        return error_set(errp, EFBIG, "Image is too big");
    }
    if (h->l1_size < geo_l1_entries(&g, h->size)) {
        return error_set(errp, EINVAL, "L1 table is too small");
    }
    return 0;
}

static int parse_backing(Qcow2Header *h, const uint8_t *b, size_t len, GError **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;
    uint64_t offset = ldbe64(b + HEADER_AT(backing_offset));
    uint32_t size = ldbe32(b + HEADER_AT(backing_size));

    if (offset == 0) {
        return 0;
    }
    if (offset > cluster) {
        return error_set(errp, EINVAL, "Invalid backing file offset");
    }
    if (size > MIN(MAX_BACKING_NAME, cluster - offset)) {
        return error_set(errp, EINVAL, "Backing file name too long");
    }
    if (offset + size > len) {
        return error_set(errp, EINVAL,
                         "Could not read backing file name: the file ends after %zu bytes", len);
    }
    if (size > 0) {
        h->backing_file = g_strndup((const char *)b + offset, size);
    }
    return 0;
}

/* The tables lie inside the file: what is cut off is lost, so better said at once. To whoever only
 * looks at the image (info) or checks it that is no hindrance: check says what is wrong. */
static int check_inside(const Qcow2Header *h, int64_t file_length, int flags, GError **errp)
{
    uint64_t end = (uint64_t)MAX(file_length, 0);

    if (flags & (BLK_O_NO_IO | BLK_O_CHECK)) {
        return 0;
    }
    if (h->l1_size > 0 && h->l1_offset + h->l1_size * UINT64_C(8) > end) {
        return error_set(errp, EIO, "Could not read L1 table: Input/output error");
    }
    if (h->reftable_clusters > 0 && h->reftable_offset >= end) {
        return error_set(errp, EIO, "Could not initialize refcount handling: Input/output error");
    }
    return 0;
}

int qcow2_header_parse(Qcow2Header *h, const uint8_t *buf, size_t len, int64_t file_length,
                       int flags, GError **errp)
{
    int ret;

    header_init(h);
    ret = parse_fixed(h, buf, len, errp);
    ret = ret < 0 ? ret : parse_v3(h, buf, len, errp);
    ret = ret < 0 ? ret : parse_backing(h, buf, len, errp);
    ret = ret < 0 ? ret : qcow2_header_ext_parse(h, buf, len, errp);
    ret = ret < 0 ? ret : check_features(h, buf, len, flags, errp);
    ret = ret < 0 ? ret : check_tables(h, flags, errp);
    ret = ret < 0 ? ret : check_inside(h, file_length, flags, errp);
    if (ret < 0) {
        qcow2_header_clear(h);
    }
    return ret;
}

/* ---- Serialise ---- */

uint32_t qcow2_header_length(const Qcow2Header *h)
{
    return h->version == 2 ? HEADER_V2_LENGTH : HEADER_OUR_LENGTH + (uint32_t)h->unknown_fields_len;
}

void qcow2_header_put_fields(const Qcow2Header *h, uint8_t *b)
{
    stbe32(b, HEADER_MAGIC);
    stbe32(b + HEADER_AT(version), h->version);
    stbe32(b + HEADER_AT(cluster_bits), h->cluster_bits);
    stbe64(b + HEADER_AT(size), h->size);
    stbe32(b + HEADER_AT(crypt_method), h->crypt_method);
    stbe32(b + HEADER_AT(l1_size), h->l1_size);
    stbe64(b + HEADER_AT(l1_offset), h->l1_offset);
    stbe64(b + HEADER_AT(reftable_offset), h->reftable_offset);
    stbe32(b + HEADER_AT(reftable_clusters), h->reftable_clusters);
    stbe32(b + HEADER_AT(nb_snapshots), h->nb_snapshots);
    stbe64(b + HEADER_AT(snapshots_offset), h->snapshots_offset);
    if (h->version == 2) {
        return;
    }
    stbe64(b + HEADER_AT(incompatible), h->incompatible);
    stbe64(b + HEADER_AT(compatible), h->compatible);
    stbe64(b + HEADER_AT(autoclear), h->autoclear);
    stbe32(b + HEADER_AT(refcount_order), h->refcount_order);
    stbe32(b + HEADER_AT(header_length), qcow2_header_length(h));
    b[HEADER_AT(compression_type)] = h->compression_type;
    memcpy(b + HEADER_AT(padding), h->padding, sizeof(h->padding));
}

static size_t put_fixed(const Qcow2Header *h, uint8_t *b)
{
    qcow2_header_put_fields(h, b);
    if (h->version == 2) {
        return HEADER_V2_LENGTH;
    }
    if (h->unknown_fields_len) {
        memcpy(b + HEADER_OUR_LENGTH, h->unknown_fields, h->unknown_fields_len);
    }
    return HEADER_OUR_LENGTH + h->unknown_fields_len;
}

bool qcow2_header_serialise_form(const Qcow2Header *h, uint8_t *buf, size_t len, bool names,
                                 bool name_last, Qcow2HeaderPlaces *places)
{
    size_t name_len = h->backing_file ? strlen(h->backing_file) : 0;
    Qcow2HeaderPlaces p = { 0 };

    memset(buf, 0, len);
    if (HEADER_OUR_LENGTH + h->unknown_fields_len > len) {
        return false;
    }
    p.end = qcow2_header_ext_put(h, buf, len, put_fixed(h, buf), names);
    if (p.end == 0 || name_len > len - p.end) {
        return false;
    }
    if (name_len) {
        p.name = name_last ? len - name_len : p.end;
        p.name_end = p.name + name_len;
        stbe64(buf + HEADER_AT(backing_offset), p.name);
        stbe32(buf + HEADER_AT(backing_size), (uint32_t)name_len);
        memcpy(buf + p.name, h->backing_file, name_len);
    }
    *places = p;
    return true;
}

Qcow2HeaderPlaces qcow2_header_places(const uint8_t *buf, size_t len)
{
    bool v2 = ldbe32(buf + HEADER_AT(version)) == 2;
    uint64_t name = ldbe64(buf + HEADER_AT(backing_offset));
    uint32_t name_len = ldbe32(buf + HEADER_AT(backing_size));
    Qcow2HeaderPlaces p = { 0 };

    p.end = v2 ? HEADER_V2_LENGTH : ldbe32(buf + HEADER_AT(header_length));
    p.end = qcow2_header_ext_end(buf, len, p.end);
    if (name && name <= len) {
        p.name = (size_t)name;
        p.name_end = p.name + MIN(name_len, len - p.name);
    }
    return p;
}

int qcow2_header_serialise(const Qcow2Header *h, uint8_t *buf, size_t len, GError **errp)
{
    Qcow2HeaderPlaces places;

    /* The table of feature names is a courtesy: in clusters of 512 bytes it may have no room. */
    if (!qcow2_header_serialise_form(h, buf, len, true, false, &places) &&
        !qcow2_header_serialise_form(h, buf, len, false, false, &places)) {
        return error_set(
            errp, ENOSPC,
            "The qcow2 header, its extensions and the backing file name do not fit into "
            "a cluster of %zu bytes: choose a larger cluster size or a shorter name",
            len);
    }
    return 0;
}
