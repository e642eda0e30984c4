/* SPDX-License-Identifier: MIT */
/*
 * An image as a fuzz input: sparse, by sectors, with what the target is to do with it.
 *
 * Bytes of an input: 8 control bytes; the file's length (8, little endian); the number of
 * operations (2) and these (8 bytes each); then sectors, each its number (4) and 512 bytes. Any
 * input is an image.
 */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include "mem.h"
#include "qcow2/geometry.h"

#define IMG_MAX_LENGTH (UINT64_C(16) << 20)
#define IMG_MAX_OPS 64

typedef struct ImgOp {
    uint8_t op, flags;
    uint16_t offset, len, value;
} ImgOp;

typedef struct ImgSector {
    uint32_t n;
    uint8_t data[512];
} ImgSector;

typedef struct Image {
    uint8_t ctl[8];
    uint64_t length;
    unsigned nops;
    ImgOp ops[IMG_MAX_OPS];
    GArray *sectors; /* ImgSector, by number */
} Image;

Image *img_parse(const uint8_t *data, size_t size);
void img_free(Image *img);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, img_free)
/* Bytes written; 0: no room. */
size_t img_pack(const Image *img, uint8_t *data, size_t max);
MemFile *img_to_file(const Image *img);
/* Index of the first sector from number @n on. */
guint img_find(const Image *img, uint64_t n);
ImgSector *img_sector(const Image *img, uint64_t n); /* NULL: reads zero */
ImgSector *img_make_sector(Image *img, uint64_t n);  /* NULL: behind all */
/* Big-endian fields of 1, 2, 4 or 8 bytes that cross no sector. */
uint64_t img_ld(const Image *img, uint64_t offset, unsigned bytes);
void img_st(Image *img, uint64_t offset, unsigned bytes, uint64_t v);

/* ---- layout.c: where its tables are ---- */

#define IMG_EXT_BITMAPS UINT32_C(0x23852875)

typedef struct Layout {
    Geometry geo;
    uint64_t size, l1, reftable, snapshots;
    uint32_t l1_size, reftable_clusters, nb_snapshots, header_length;
    uint64_t bitmap_dir, bitmap_dir_size;
    uint32_t nb_bitmaps;
} Layout;

/* False: no header that could be read. Nothing of it is checked. */
bool layout_read(const Image *img, Layout *l);

typedef enum Owner { OWNER_NONE, OWNER_DATA, OWNER_L2, OWNER_META } Owner;

typedef struct Claims {
    uint32_t *refs; /* per cluster of the file */
    uint8_t *owner;
    uint8_t *once; /* seen from the active L1, as a table or as data that is not compressed */
    uint64_t clusters;
    bool active; /* the active L1 is walked */
    bool sound;  /* all inside of the file, metadata with one owner, nothing with two uses */
} Claims;

void claims_count(const Image *img, const Layout *l, Claims *c);
void claims_clear(Claims *c);
/* Counts of clusters past the end of the file: leaks that a check sees once the file is
 * longer. */
bool img_counts_behind_end(const Image *img, const Layout *l);
/* Make refcounts and COPIED flags say what the tables say, so that what is behind them is
 * reached. */
void img_recount(Image *img, const Layout *l);

/* ---- mutate.c ---- */
size_t img_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed);

#endif
