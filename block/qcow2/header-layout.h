/* SPDX-License-Identifier: MIT */
/*
 * Where each field of the header lies ("Header" in the specification).  Big-endian in the file;
 * the struct is never filled in, it only gives names to places.
 */
#ifndef QCOW2_HEADER_LAYOUT_H
#define QCOW2_HEADER_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

typedef struct HeaderLayout {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_size, cluster_bits;
    uint64_t size;
    uint32_t crypt_method, l1_size;
    uint64_t l1_offset;
    uint64_t reftable_offset;
    uint32_t reftable_clusters, nb_snapshots;
    uint64_t snapshots_offset; /* the last of version 2 */
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, header_length; /* what version 3 has at least */
    uint8_t compression_type, padding[7];   /* what we write */
} HeaderLayout;

#define HEADER_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */
#define HEADER_AT(field) offsetof(HeaderLayout, field)
#define HEADER_V2_LENGTH HEADER_AT(incompatible)
#define HEADER_V3_LENGTH HEADER_AT(compression_type)
#define HEADER_OUR_LENGTH sizeof(HeaderLayout)
/* What is written within it is not torn by a loss of power. */
#define HEADER_SECTOR 512

#define HEADER_IS_AT(field, place)                                                                 \
    _Static_assert(HEADER_AT(field) == (place), "the specification has " #field " at " #place)
HEADER_IS_AT(version, 4);
HEADER_IS_AT(backing_offset, 8);
HEADER_IS_AT(backing_size, 16);
HEADER_IS_AT(cluster_bits, 20);
HEADER_IS_AT(size, 24);
HEADER_IS_AT(crypt_method, 32);
HEADER_IS_AT(l1_size, 36);
HEADER_IS_AT(l1_offset, 40);
HEADER_IS_AT(reftable_offset, 48);
HEADER_IS_AT(reftable_clusters, 56);
HEADER_IS_AT(nb_snapshots, 60);
HEADER_IS_AT(snapshots_offset, 64);
HEADER_IS_AT(incompatible, 72);
HEADER_IS_AT(compatible, 80);
HEADER_IS_AT(autoclear, 88);
HEADER_IS_AT(refcount_order, 96);
HEADER_IS_AT(header_length, 100);
HEADER_IS_AT(compression_type, 104);
_Static_assert(HEADER_OUR_LENGTH == 112 && HEADER_OUR_LENGTH <= HEADER_SECTOR, "in one sector");

#endif
