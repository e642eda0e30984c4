/* SPDX-License-Identifier: MIT */
/* The header and its extensions in memory: parse, validate, serialise. Pure; header-io.h reads and
 * writes the file. */
#ifndef QCOW2_HEADER_H
#define QCOW2_HEADER_H

#include "block/io.h"
#include "geometry.h"

#define QCOW2_INCOMPAT_DIRTY (UINT64_C(1) << 0)
#define QCOW2_INCOMPAT_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_INCOMPAT_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPAT_EXTL2 (UINT64_C(1) << 4)
#define QCOW2_INCOMPAT_KNOWN UINT64_C(0x1f)
#define QCOW2_MAX_CRYPTO_BYTES UINT64_C(0x1000000) /* eight key slots need 2 MiB */
#define QCOW2_COMPAT_LAZY_REFCOUNTS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_DATA_RAW (UINT64_C(1) << 1)

typedef enum Qcow2CompressionType {
    QCOW2_COMPRESSION_ZLIB,
    QCOW2_COMPRESSION_ZSTD
} Qcow2CompressionType;

typedef struct HeaderExt { /* an extension we do not interpret; kept when the header is rewritten */
    uint32_t type, len;
    uint8_t *data;
    uint8_t padding[7]; /* up to a multiple of eight, as it was */
} HeaderExt;

typedef struct Qcow2Header {
    uint32_t version;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt_method;
    uint32_t l1_size;
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order;
    uint32_t header_length;
    uint8_t compression_type;
    uint8_t padding[7]; /* after it: of fields to come, so it is kept */
    uint8_t *unknown_fields;
    size_t unknown_fields_len; /* header bytes past those known, kept */
    uint32_t compression_level; /* of its extension, whatever it says; 0: none */
    char *backing_file, *backing_format, *data_file;
    bool has_bitmaps;
    uint32_t nb_bitmaps;
    uint64_t bitmap_dir_size, bitmap_dir_offset;
    uint64_t crypto_offset, crypto_length; /* of the LUKS header; 0: none */
    GArray *unknown_exts;                  /* HeaderExt */
    uint8_t *other_names; /* entries of the feature name table, of features that we do not know */
    size_t other_names_len;
    size_t room; /* not in the file: a rewrite keeps to so many bytes; 0: its cluster */
} Qcow2Header;

/* Which bytes of its cluster a header is; all else is free. */
typedef struct Qcow2HeaderPlaces {
    size_t end;            /* of the fields and extensions, which begin the cluster */
    size_t name, name_end; /* of the backing file's name; both 0: none */
} Qcow2HeaderPlaces;

void qcow2_header_clear(Qcow2Header *h);
/* A copy of all of it, to be changed. */
void qcow2_header_copy(Qcow2Header *dst, const Qcow2Header *src);
/* Parse and validate the first @len bytes (at least one cluster, or the whole file where shorter).
 * Messages are the reference's.
 * @file_length bounds tables. */
int qcow2_header_parse(Qcow2Header *h, const uint8_t *buf, size_t len, int64_t file_length,
                       int flags, GError **errp);
/* Of its fields, as they are written. */
uint32_t qcow2_header_length(const Qcow2Header *h);
/* Serialise into a zeroed cluster; -ENOSPC with message if it does not fit. */
int qcow2_header_serialise(const Qcow2Header *h, uint8_t *buf, size_t len, GError **errp);
/* One way to do that: with the table of feature names (@names) or without, and with the backing
 * file's name after the extensions or (@name_last) at the end of @buf. False: no room. */
bool qcow2_header_serialise_form(const Qcow2Header *h, uint8_t *buf, size_t len, bool names,
                                 bool name_last, Qcow2HeaderPlaces *places);
/* The places of the header in @buf, which can be parsed. */
Qcow2HeaderPlaces qcow2_header_places(const uint8_t *buf, size_t len);
/* The fields of a fixed place into @b, HEADER_OUR_LENGTH bytes of zeroes; not where the backing
 * file's name is. */
void qcow2_header_put_fields(const Qcow2Header *h, uint8_t *b);

#endif
