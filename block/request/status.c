/* SPDX-License-Identifier: MIT */
/*
 * Block status: what a node says of a range, with what the file under it knows, and down the
 * backing chain until a layer decides.
 */
#include "block/request/request.h"

typedef struct Status {
    bool want_zero;
    int64_t pnum, map;
    BlockDriverState *file;
} Status;

static int coroutine_fn ask_driver(BlockDriverState *bs, int64_t offset, int64_t bytes, Status *s)
{
    s->pnum = bytes;
    s->map = offset;
    s->file = NULL;
    return bs->drv->co_block_status(bs, s->want_zero, offset, bytes, &s->pnum, &s->map, &s->file);
}

/* An answer is about whole blocks and moves on: what ends within one is cut, and what is less than
 * one is data.  No bytes at all, or more than were asked for, is no answer: the caller would go
 * round for ever, or past the end. */
static int check_answer(BlockDriverState *bs, int64_t bytes, Status *s, int ret)
{
    int64_t align = bs->limits.request_alignment;

    if (s->pnum <= 0 || s->pnum > bytes) {
        g_debug("block status of %" G_GINT64_FORMAT " bytes by driver '%s'", s->pnum,
                bs->drv->format_name);
        return -EIO;
    }
    if (!IS_ALIGNED(s->pnum, align)) {
        s->pnum = ALIGN_DOWN(s->pnum, align);
        if (s->pnum == 0) {
            s->pnum = align;
            ret = (ret & ~BLK_ZERO) | BLK_DATA;
        }
    }
    return ret;
}

static int coroutine_fn node_status(BlockDriverState *bs, int64_t offset, int64_t bytes, Status *s);

/* What lies below the image's own table, where it is unallocated. */
static int unallocated(BlockDriverState *bs, int64_t offset, int ret)
{
    BlockDriverState *backing = bdrv_backing_bs(bs);

    if (!bs->drv->supports_backing) {
        return ret;
    }
    return !backing || atomic_load(&backing->total_bytes) <= offset ? ret | BLK_ZERO : ret;
}

/* The file under a format may know of holes that the format does not. */
static int coroutine_fn ask_file(Status *s, int ret)
{
    Status f = { .want_zero = true };
    int r = node_status(s->file, s->map, s->pnum, &f);

    if (r < 0) {
        return ret; /* only a refinement */
    }
    if (f.pnum == 0) { /* past the end */
        return ret | BLK_ZERO;
    }
    s->pnum = f.pnum;
    return ret | (r & BLK_ZERO);
}

static int coroutine_fn node_status(BlockDriverState *bs, int64_t offset, int64_t bytes, Status *s)
{
    int64_t total = atomic_load(&bs->total_bytes), align = bs->limits.request_alignment;
    int64_t start = ALIGN_DOWN(offset, align), skip = offset - start, asked;
    int ret;

    s->pnum = 0;
    s->map = 0;
    s->file = NULL;
    if (offset >= total) {
        return BLK_EOF;
    }
    bytes = MIN(bytes, total - offset);
    if (bytes == 0) {
        return 0;
    }
    asked = ALIGN_UP(offset + bytes, align) - start;
    ret = ask_driver(bs, start, asked, s);
    ret = ret < 0 ? ret : check_answer(bs, asked, s, ret);
    if (ret < 0) {
        s->pnum = 0;
        return ret;
    }
    s->pnum = MIN(s->pnum - skip, bytes);
    s->map += skip;
    if (ret & BLK_RAW) {
        Status f = { .want_zero = s->want_zero };

        ret = node_status(s->file, s->map, s->pnum, &f);
        if (ret >= 0 && f.pnum == 0) { /* a window larger than what is left of its file */
            f.pnum = s->pnum;
            ret = BLK_ZERO | BLK_ALLOCATED;
        }
        *s = f;
        ret = ret < 0 ? ret : ret & ~BLK_EOF;
    } else if (ret & (BLK_DATA | BLK_ZERO)) {
        ret |= BLK_ALLOCATED;
    } else if (s->want_zero) {
        ret = unallocated(bs, offset, ret);
    }
    if (ret >= 0 && s->want_zero && (ret & BLK_RECURSE) && (ret & BLK_DATA) && !(ret & BLK_ZERO) &&
        (ret & BLK_OFFSET_VALID) && s->file && s->file != bs) {
        ret = ask_file(s, ret);
    }
    if (ret >= 0 && offset + s->pnum == total) {
        ret |= BLK_EOF;
    }
    return ret < 0 ? ret : ret & ~(BLK_RECURSE | BLK_RAW);
}

static int return_status(const Status *s, int ret, int64_t *pnum, int64_t *map,
                         BlockDriverState **file)
{
    *pnum = s->pnum;
    if (map) {
        *map = s->map;
    }
    if (file) {
        *file = s->file;
    }
    return ret;
}

int coroutine_fn bdrv_co_block_status(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum, int64_t *map, BlockDriverState **file)
{
    Status s = { .want_zero = true };
    int ret = node_status(bs, offset, bytes, &s);

    return return_status(&s, ret, pnum, map, file);
}

int coroutine_fn bdrv_co_block_status_above(BlockDriverState *bs, BlockDriverState *base,
                                            int64_t offset, int64_t bytes, int64_t *pnum,
                                            int64_t *map, BlockDriverState **file, int *depth)
{
    int64_t eof = -1;
    int layers = 0, ret;
    Status s = { .want_zero = true };

    ret = node_status(bs, offset, bytes, &s);
    if (ret >= 0 && (ret & BLK_EOF)) {
        eof = offset + s.pnum;
    }
    while (ret >= 0 && s.pnum > 0 && !(ret & BLK_ALLOCATED)) {
        BlockDriverState *next = bdrv_backing_bs(bdrv_skip_filters(bs));
        int64_t n = s.pnum;

        if (!next || next == base) {
            break;
        }
        bs = next;
        layers++;
        ret = node_status(bs, offset, n, &s);
        if (ret >= 0 && s.pnum == 0) { /* past the end of a short backing file */
            s.pnum = n;
            s.file = bs;
            ret = BLK_ZERO | BLK_ALLOCATED;
        }
        if (ret >= 0) {
            ret &= ~BLK_EOF;
        }
    }
    if (ret >= 0 && offset + s.pnum == eof) {
        ret |= BLK_EOF;
    }
    if (depth) {
        *depth = layers;
    }
    return return_status(&s, ret, pnum, map, file);
}

int coroutine_fn bdrv_co_is_allocated(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                      int64_t *pnum)
{
    Status s = { .want_zero = false };
    int ret = node_status(bs, offset, bytes, &s);

    *pnum = s.pnum;
    return ret < 0 ? ret : !!(ret & BLK_ALLOCATED);
}
