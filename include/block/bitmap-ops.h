/* SPDX-License-Identifier: MIT */
/* Persistent bitmaps of an image, for drivers and users: a named set of parts of the disk each. */
#ifndef BLOCK_BITMAP_OPS_H
#define BLOCK_BITMAP_OPS_H

#include "block/common.h"
#include "util/dirty-bits.h"

typedef enum BlockBitmapAction {
    BLK_BITMAP_ADD,     /* nothing is dirty, and it is enabled: it tells of every change */
    BLK_BITMAP_REMOVE,  /* also one that is inconsistent */
    BLK_BITMAP_CLEAR,   /* nothing is dirty */
    BLK_BITMAP_ENABLE,  /* changes from now on become dirty */
    BLK_BITMAP_DISABLE, /* it stays as it is */
    BLK_BITMAP_MERGE    /* what is dirty in another one becomes dirty */
} BlockBitmapAction;

/* What a bitmap says: a bit for 2^granularity_bits bytes of a disk of @size. */
typedef struct BlockBitmapData {
    DirtyBits *bits; /* a reference of its own */
    unsigned granularity_bits;
    int64_t size;
} BlockBitmapData;

typedef struct BlockBitmapChange {
    BlockBitmapAction action;
    const char *name;
    uint64_t granularity;          /* add: bytes; 0: the driver's default */
    bool disabled;                 /* add: it is not enabled */
    /* merge: what becomes dirty. Add: what is from the beginning; NULL, or without bits: nothing */
    const BlockBitmapData *source;
    const struct BlockBitmapChange *next; /* changed together with it: all or none; NULL: no more */
} BlockBitmapChange;

typedef struct BlockBitmapInfo {
    char *name; /* the list's */
    uint32_t granularity;
    bool enabled, inconsistent;
} BlockBitmapInfo;

/* A driver's. All of them alone on the image, but can_store. */
typedef struct BlockBitmapOps {
    bool (*can_store)(BlockDriverState *bs);
    /* On stable storage when it returns; on failure all is as it was. */
    int coroutine_fn (*co_change)(BlockDriverState *bs, const BlockBitmapChange *c, GError **errp);
    int coroutine_fn (*co_read)(BlockDriverState *bs, const char *name, BlockBitmapData *data,
                                GError **errp);
    /* Appends BlockBitmapInfo to @list. */
    int coroutine_fn (*co_list)(BlockDriverState *bs, GArray *list, GError **errp);
} BlockBitmapOps;

/* Of BlockBitmapInfo, which frees the names. */
GArray *block_bitmap_list_new(void);

#endif
