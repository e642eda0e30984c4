/* SPDX-License-Identifier: MIT */
/* Header extensions: type, length, data padded to eight bytes; type 0 ends the list. */
#include "header-ext.h"

#include "header-layout.h"

#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define EXT_END UINT32_C(0)
#define EXT_BACKING_FORMAT UINT32_C(0xe2792aca)
#define EXT_FEATURES UINT32_C(0x6803f857)
#define EXT_BITMAPS UINT32_C(0x23852875)
#define EXT_CRYPTO UINT32_C(0x0537be77)
#define EXT_DATA_FILE UINT32_C(0x44415441)
#define EXT_COMPRESSION_LEVEL UINT32_C(0x434c564c) /* "CLVL": ours alone; docs/qcow2-format.md */

#define FEATURE_ENTRY 48
#define FEATURE_NAME 46

typedef struct Feature {
    uint8_t type, bit;
    const char *name;
} Feature;

static const Feature features[] = {
    { 0, 0, "dirty bit" },        { 0, 1, "corrupt bit" },         { 0, 2, "external data file" },
    { 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
    { 2, 0, "bitmaps" },          { 2, 1, "raw external data" },
};

static bool is_known(uint8_t type, uint8_t bit)
{
    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        if (features[i].type == type && features[i].bit == bit) {
            return true;
        }
    }
    return false;
}

/* ---- Parse ---- */

static int parse_bitmaps(Qcow2Header *h, const uint8_t *data, uint32_t len, GError **errp)
{
    if (len != 24) {
        return error_set(errp, EINVAL, "bitmaps_ext: Invalid extension length");
    }
    if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS)) {
        return 0; /* somebody wrote without keeping them: they are no longer to be believed */
    }
    h->has_bitmaps = true;
    h->nb_bitmaps = ldbe32(data);
    h->bitmap_dir_size = ldbe64(data + 8);
    h->bitmap_dir_offset = ldbe64(data + 16);
    if (ldbe32(data + 4) != 0) {
        return error_set(errp, EINVAL, "bitmaps_ext: Reserved field is not zero");
    }
    if (h->nb_bitmaps == 0) {
        return error_set(errp, EINVAL, "found bitmaps extension with zero bitmaps");
    }
    if (h->nb_bitmaps > 65535) {
        return error_set(
            errp, EINVAL,
            "bitmaps_ext: Image has %u bitmaps, exceeding the QEMU supported maximum of 65535",
            h->nb_bitmaps);
    }
    if (h->bitmap_dir_offset & ((UINT64_C(1) << h->cluster_bits) - 1)) {
        return error_set(errp, EINVAL, "bitmaps_ext: invalid bitmap directory offset");
    }
    if (h->bitmap_dir_size > UINT64_C(65535) * 1024) {
        return error_set(errp, EINVAL,
                         "bitmaps_ext: bitmap directory size (%" G_GUINT64_FORMAT
                         ") exceeds the maximum supported size (%d)",
                         h->bitmap_dir_size, 65535 * 1024);
    }
    return 0;
}

static int parse_crypto(Qcow2Header *h, const uint8_t *data, uint32_t len, GError **errp)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    if (h->crypt_method != 2) {
        return error_set(errp, EINVAL,
                         "CRYPTO header extension only expected with LUKS encryption method");
    }
    if (len != 16) {
        return error_set(errp, EINVAL, "CRYPTO header extension size %u, but expected size 16",
                         len);
    }
    h->crypto_offset = ldbe64(data);
    h->crypto_length = ldbe64(data + 8);
    if (h->crypto_offset % cluster) {
        return error_set(errp, EINVAL,
                         "Encryption header offset '%" G_GUINT64_FORMAT
                         "' is not a multiple of cluster size '%u'",
                         h->crypto_offset, (unsigned)cluster);
    }
    if (!h->crypto_offset || h->crypto_length > QCOW2_MAX_CRYPTO_BYTES ||
        h->crypto_offset > INT64_MAX - h->crypto_length) {
        return error_set(errp, EINVAL, "Encryption header is at an invalid place");
    }
    return 0;
}

/* @room: bytes that there are from @data on. */
static void keep_unknown(Qcow2Header *h, uint32_t type, const uint8_t *data, uint32_t len,
                         size_t room)
{
    HeaderExt e = { .type = type, .len = len, .data = g_memdup2(data, len) };
    size_t padded = MIN(ALIGN_UP((size_t)len, (size_t)8), room);

    memcpy(e.padding, data + len, padded - len);
    g_array_append_val(h->unknown_exts, e);
}

/* Names of features that others know and we do not. */
static void keep_names(Qcow2Header *h, const uint8_t *data, uint32_t len)
{
    for (uint32_t at = 0; at + FEATURE_ENTRY <= len; at += FEATURE_ENTRY) {
        const uint8_t *f = data + at;

        if (!is_known(f[0], f[1])) {
            h->other_names = g_realloc(h->other_names, h->other_names_len + FEATURE_ENTRY);
            memcpy(h->other_names + h->other_names_len, f, FEATURE_ENTRY);
            h->other_names_len += FEATURE_ENTRY;
        }
    }
}

static int parse_one(Qcow2Header *h, uint32_t type, const uint8_t *data, uint32_t len, size_t room,
                     GError **errp)
{
    switch (type) {
    case EXT_BACKING_FORMAT:
        if (len >= 16) {
            return error_set(errp, EINVAL, "ERROR: ext_backing_format: len=%u too large (>=16)",
                             len);
        }
        g_free(h->backing_format);
        h->backing_format = g_strndup((const char *)data, len);
        return 0;
    case EXT_FEATURES:
        keep_names(h, data, len);
        return 0;
    case EXT_BITMAPS: {
        int ret = parse_bitmaps(h, data, len, errp);

        if (ret == 0 && !h->has_bitmaps) {
            keep_unknown(h, type, data, len, room); /* not ours to take out */
        }
        return ret;
    }
    case EXT_CRYPTO:
        return parse_crypto(h, data, len, errp);
    case EXT_DATA_FILE:
        g_free(h->data_file);
        h->data_file = g_strndup((const char *)data, len);
        return 0;
    case EXT_COMPRESSION_LEVEL:
        if (len == 4 && ldbe32(data)) {
            h->compression_level = ldbe32(data);
        } else {
            keep_unknown(h, type, data, len, room); /* of some form to come */
        }
        return 0;
    default:
        keep_unknown(h, type, data, len, room);
        return 0;
    }
}

/* Extensions end before the backing file's name. */
static size_t area_end(const uint8_t *buf, size_t len)
{
    uint64_t backing = ldbe64(buf + HEADER_AT(backing_offset));

    return backing ? (size_t)MIN(backing, (uint64_t)len) : len;
}

size_t qcow2_header_ext_end(const uint8_t *buf, size_t len, size_t at)
{
    size_t end = area_end(buf, len);

    while (at + 8 <= end) {
        uint32_t type = ldbe32(buf + at), n = ldbe32(buf + at + 4);

        at += 8;
        if (type == EXT_END) {
            return at;
        }
        at += MIN(ALIGN_UP((size_t)n, (size_t)8), end - at);
    }
    return MAX(at, end);
}

int qcow2_header_ext_parse(Qcow2Header *h, const uint8_t *buf, size_t len, GError **errp)
{
    size_t end = area_end(buf, len), at = h->header_length;

    while (at + 8 <= end) {
        uint32_t type = ldbe32(buf + at), n = ldbe32(buf + at + 4);
        int ret;

        at += 8;
        if (type == EXT_END) {
            return 0;
        }
        if (n > end - at) {
            return error_set(errp, EINVAL, "Header extension too large");
        }
        ret = parse_one(h, type, buf + at, n, end - at, errp);
        if (ret < 0) {
            return ret;
        }
        at += ALIGN_UP((size_t)n, (size_t)8);
    }
    return 0;
}

/* The image's own name of incompatible feature @bit, or NULL. g_free(). */
static char *own_name(const Qcow2Header *h, const uint8_t *buf, size_t len, unsigned bit)
{
    size_t at = h->header_length;

    while (at + 8 <= len) {
        uint32_t type = ldbe32(buf + at), n = ldbe32(buf + at + 4);

        at += 8;
        if (type == EXT_END || n > len - at) {
            return NULL;
        }
        for (size_t i = 0; type == EXT_FEATURES && i + FEATURE_ENTRY <= n; i += FEATURE_ENTRY) {
            const uint8_t *f = buf + at + i;

            if (f[0] == 0 && f[1] == bit && f[2]) {
                return g_strndup((const char *)f + 2, FEATURE_NAME);
            }
        }
        at += ALIGN_UP((size_t)n, (size_t)8);
    }
    return NULL;
}

char *qcow2_header_ext_feature_names(const Qcow2Header *h, const uint8_t *buf, size_t len,
                                     uint64_t bits)
{
    GString *s = g_string_new(NULL);

    for (unsigned bit = 0; bit < 64; bit++) {
        g_autofree char *name = bits >> bit & 1 ? own_name(h, buf, len, bit) : NULL;

        if (name) {
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", name);
            bits &= ~(UINT64_C(1) << bit);
        }
    }
    if (bits) {
        g_string_append_printf(s, "%sUnknown incompatible feature: %" G_GINT64_MODIFIER "x",
                               s->len ? ", " : "", bits);
    }
    return g_string_free(s, FALSE);
}

/* ---- Serialise ---- */

typedef struct Out {
    uint8_t *buf;
    size_t len, at;
    bool full;
} Out;

static uint8_t *put_head(Out *o, uint32_t type, size_t n)
{
    size_t need = 8 + ALIGN_UP(n, (size_t)8);
    uint8_t *p = o->buf + o->at;

    if (o->full || need > o->len - o->at) {
        o->full = true;
        return NULL;
    }
    stbe32(p, type);
    stbe32(p + 4, (uint32_t)n);
    o->at += need;
    return p + 8;
}

static void put(Out *o, uint32_t type, const void *data, size_t n)
{
    uint8_t *p = put_head(o, type, n);

    if (p && n) {
        memcpy(p, data, n);
    }
}

static void put_features(Out *o, const Qcow2Header *h)
{
    size_t ours = G_N_ELEMENTS(features) * FEATURE_ENTRY;
    uint8_t *p = put_head(o, EXT_FEATURES, ours + h->other_names_len);

    if (p && h->other_names_len) {
        memcpy(p + ours, h->other_names, h->other_names_len);
    }

    for (size_t i = 0; p && i < G_N_ELEMENTS(features); i++, p += FEATURE_ENTRY) {
        p[0] = features[i].type;
        p[1] = features[i].bit;
        memcpy(p + 2, features[i].name, strlen(features[i].name));
    }
}

static void put_crypto(Out *o, const Qcow2Header *h)
{
    uint8_t *p = put_head(o, EXT_CRYPTO, 16);

    if (p) {
        stbe64(p, h->crypto_offset);
        stbe64(p + 8, h->crypto_length);
    }
}

static void put_level(Out *o, const Qcow2Header *h)
{
    uint8_t *p = put_head(o, EXT_COMPRESSION_LEVEL, 4);

    if (p) {
        stbe32(p, h->compression_level);
    }
}

static void put_bitmaps(Out *o, const Qcow2Header *h)
{
    uint8_t *p = put_head(o, EXT_BITMAPS, 24);

    if (p) {
        stbe32(p, h->nb_bitmaps);
        stbe64(p + 8, h->bitmap_dir_size);
        stbe64(p + 16, h->bitmap_dir_offset);
    }
}

bool qcow2_header_ext_has_old_bitmaps(const Qcow2Header *h)
{
    for (guint i = 0; i < h->unknown_exts->len; i++) {
        if (g_array_index(h->unknown_exts, HeaderExt, i).type == EXT_BITMAPS) {
            return true;
        }
    }
    return false;
}

static void drop_unknown(Qcow2Header *h, uint32_t type)
{
    for (guint i = h->unknown_exts->len; i-- > 0;) {
        if (g_array_index(h->unknown_exts, HeaderExt, i).type == type) {
            g_array_remove_index(h->unknown_exts, i);
        }
    }
}

void qcow2_header_ext_drop_old_bitmaps(Qcow2Header *h)
{
    drop_unknown(h, EXT_BITMAPS);
}

void qcow2_header_ext_set_level(Qcow2Header *h, uint32_t level)
{
    drop_unknown(h, EXT_COMPRESSION_LEVEL);
    h->compression_level = level;
}

size_t qcow2_header_ext_put(const Qcow2Header *h, uint8_t *buf, size_t len, size_t at, bool names)
{
    Out o = { .buf = buf, .len = len, .at = at };

    g_assert(at <= len);
    if (h->backing_format) {
        put(&o, EXT_BACKING_FORMAT, h->backing_format, strlen(h->backing_format));
    }
    if (h->has_bitmaps) {
        put_bitmaps(&o, h);
    }
    if (h->data_file) {
        put(&o, EXT_DATA_FILE, h->data_file, strlen(h->data_file));
    }
    if (h->crypto_offset) {
        put_crypto(&o, h);
    }
    if (h->compression_level) {
        put_level(&o, h);
    }
    for (guint i = 0; h->unknown_exts && i < h->unknown_exts->len; i++) {
        const HeaderExt *e = &g_array_index(h->unknown_exts, HeaderExt, i);

        put(&o, e->type, e->data, e->len);
        if (!o.full) {
            size_t n = ALIGN_UP((size_t)e->len, (size_t)8) - e->len;

            memcpy(o.buf + o.at - n, e->padding, n);
        }
    }
    if (h->version >= 3 && names) {
        put_features(&o, h);
    }
    put(&o, EXT_END, NULL, 0);
    return o.full ? 0 : o.at;
}
