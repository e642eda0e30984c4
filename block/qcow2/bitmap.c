/* SPDX-License-Identifier: MIT */
/* Persistent bitmaps: see bitmap.h. */
#include "bitmap.h"

#include "bitmap-set.h"
#include "header-ext.h"

#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define ENTRY_FIXED 24
#define ENTRY_FLAGS 12

/* ---- The directory ---- */

bool qcow2_bitmap_dir_next(const uint8_t *dir, uint64_t size, uint64_t *at, BitmapEntry *e)
{
    const uint8_t *p = dir + *at;
    uint64_t whole;

    if (*at > size || size - *at < ENTRY_FIXED) {
        return false;
    }
    *e = (BitmapEntry){ .at = *at,
                        .table_offset = ldbe64(p),
                        .table_entries = ldbe32(p + 8),
                        .flags = ldbe32(p + ENTRY_FLAGS),
                        .type = p[16],
                        .granularity_bits = p[17],
                        .name_len = ldbe16(p + 18),
                        .extra_len = ldbe32(p + 20) };
    whole = ALIGN_UP(ENTRY_FIXED + (uint64_t)e->extra_len + e->name_len, UINT64_C(8));
    if (whole > size - *at) {
        return false;
    }
    e->name = (const char *)p + ENTRY_FIXED + e->extra_len;
    *at += whole;
    return true;
}

size_t qcow2_bitmap_dir_entry_bytes(const BitmapEntry *e)
{
    return ALIGN_UP(ENTRY_FIXED + (size_t)e->extra_len + e->name_len, (size_t)8);
}

void qcow2_bitmap_dir_put(uint8_t *p, const BitmapEntry *e, const uint8_t *extra)
{
    stbe64(p, e->table_offset);
    stbe32(p + 8, e->table_entries);
    stbe32(p + ENTRY_FLAGS, e->flags);
    p[16] = e->type;
    p[17] = e->granularity_bits;
    stbe16(p + 18, e->name_len);
    stbe32(p + 20, e->extra_len);
    if (e->extra_len) {
        memcpy(p + ENTRY_FIXED, extra, e->extra_len);
    }
    memcpy(p + ENTRY_FIXED + e->extra_len, e->name, e->name_len);
}

/* All of it, as it is on disk. */
int coroutine_fn qcow2_bitmap_co_read_dir(Qcow2 *q, uint8_t **ret_dir, GError **errp)
{
    const Qcow2Header *h = &q->hdr;
    int64_t length = bdrv_co_getlength(q->file->bs);
    g_autofree uint8_t *dir = NULL;
    int ret;

    if (h->bitmap_dir_size == 0) {
        return error_set(errp, EINVAL, "Requested bitmap directory size is zero");
    }
    if (length >= 0 && h->bitmap_dir_offset >= (uint64_t)length) { /* where all would be zero */
        return error_set(errp, EINVAL, "Bitmap '' doesn't satisfy the constraints");
    }
    if (length < 0 || h->bitmap_dir_size > (uint64_t)length - h->bitmap_dir_offset) {
        return error_set(errp, EINVAL, "Broken bitmap directory");
    }
    dir = g_try_malloc(h->bitmap_dir_size);
    ret = dir ? bdrv_co_pread(q->file, (int64_t)h->bitmap_dir_offset, (int64_t)h->bitmap_dir_size,
                              dir, 0)
              : -ENOMEM;
    if (ret < 0) {
        return error_set_errno(errp, ret, "Failed to read bitmap directory");
    }
    *ret_dir = g_steal_pointer(&dir);
    return 0;
}

/* ---- What it may say ---- */

bool qcow2_bitmap_is_known(const BitmapEntry *e)
{
    uint32_t known = BITMAP_IN_USE | BITMAP_AUTO | BITMAP_EXTRA_COMPATIBLE;

    return e->type == BITMAP_DIRTY_TRACKING && !(e->flags & ~known) && e->name_len > 0 &&
           e->name_len <= BITMAP_MAX_NAME && !memchr(e->name, 0, e->name_len) &&
           e->granularity_bits >= BITMAP_MIN_GRANULARITY_BITS &&
           e->granularity_bits <= BITMAP_MAX_GRANULARITY_BITS;
}

/* One bitmap. *@left: bytes that tables may still have, as they do not overlap. */
static int check_entry(const Qcow2 *q, const BitmapEntry *e, uint64_t file_length, uint64_t *left,
                       GError **errp)
{
    uint64_t bytes = e->table_entries * UINT64_C(8);

    if (e->name_len == 0) {
        return error_set(errp, EINVAL, "Broken bitmap directory");
    }
    if (e->extra_len && !(e->flags & BITMAP_EXTRA_COMPATIBLE)) {
        return error_set(errp, ENOTSUP, "Bitmap extra data is not supported");
    }
    if (!qcow2_bitmap_is_known(e) || bytes == 0 ||
        bytes > MIN((uint64_t)QCOW2_MAX_L1_BYTES, *left) || e->table_offset == 0 ||
        geo_in_cluster(&q->geo, e->table_offset) || e->table_offset > file_length ||
        bytes > file_length - e->table_offset) {
        return error_set(errp, EINVAL, "Bitmap '%.*s' doesn't satisfy the constraints",
                         (int)e->name_len, e->name);
    }
    *left -= bytes;
    return 0;
}

/* The reference opens no image with bitmaps that it cannot take in. Here who only reads the disk
 * does not look at them, check finds what is wrong, and a writer is refused, as it would let go of
 * clusters, or mark bitmaps, that it does not know. Entries of tables are not followed before they
 * are used: with wrong ones the disk can be written, and the bitmap removed (its clusters leak).
 *
 * All of the directory @dir, and nothing but the bitmaps that the header counts: what is past them
 * has clusters, too. @file_length: tables end there. */
static int check_dir(const Qcow2 *q, const uint8_t *dir, uint64_t file_length, GError **errp)
{
    const Qcow2Header *h = &q->hdr;
    uint64_t at = 0, left = file_length;
    uint32_t n = 0;

    while (at < h->bitmap_dir_size) {
        BitmapEntry e;
        int ret;

        if (!qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e)) {
            return error_set(errp, EINVAL, "Broken bitmap directory");
        }
        if (n++ == h->nb_bitmaps) {
            return error_set(errp, EINVAL,
                             "More bitmaps found than specified in header extension");
        }
        ret = check_entry(q, &e, file_length, &left, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return n < h->nb_bitmaps
               ? error_set(errp, EINVAL, "Less bitmaps found than specified in header extension")
               : 0;
}

/* ---- For `info` ---- */

typedef struct ListArgs {
    Qcow2 *q;
    Options *o;
    GError **errp;
} ListArgs;

/* "bitmaps.N.key" */
static void set(Options *o, uint32_t n, const char *key, const char *value)
{
    g_autofree char *k = g_strdup_printf("bitmaps.%u.%s", n, key);

    opts_set(o, k, value);
}

static void set_flags(Options *o, uint32_t n, uint32_t flags)
{
    static const char *const names[] = { "in-use", "auto" };
    unsigned listed = 0;

    for (unsigned bit = 0; bit < G_N_ELEMENTS(names); bit++) {
        if (flags >> bit & 1) {
            g_autofree char *k = g_strdup_printf("flags.%u", listed++);

            set(o, n, k, names[bit]);
        }
    }
    if (!listed) {
        set(o, n, "flags", "");
    }
}

static void list_one(Options *o, uint32_t n, const BitmapEntry *e)
{
    g_autofree char *name = g_strndup(e->name, e->name_len);
    g_autofree char *granularity = g_strdup_printf("bitmaps.%u.granularity", n);

    set_flags(o, n, e->flags);
    set(o, n, "name", name);
    opts_set_int(o, granularity, INT64_C(1) << e->granularity_bits);
}

static int coroutine_fn list_fn(void *opaque)
{
    ListArgs *a = opaque;
    const Qcow2Header *h = &a->q->hdr;
    g_autofree uint8_t *dir = NULL;
    uint64_t at = 0;
    BitmapEntry e;
    int ret = qcow2_bitmap_co_read_dir(a->q, &dir, a->errp);

    ret = ret < 0 ? ret : check_dir(a->q, dir, UINT64_MAX, a->errp); /* tables are not looked at */
    for (uint32_t i = 0; ret == 0 && qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e); i++) {
        list_one(a->o, i, &e);
    }
    return ret;
}

bool qcow2_bitmap_list(Qcow2 *q, Options *o, GError **errp)
{
    ListArgs a = { q, o, errp };

    return !q->hdr.has_bitmaps || co_run_sync(list_fn, &a) == 0;
}

char *qcow2_bitmap_warning(const Qcow2 *q)
{
    const char *what =
        q->hdr.version < 3
            ? "This qcow2 v2 image contains bitmaps, but they may have been modified by a program "
              "without persistent bitmap support; so now they must all be considered inconsistent"
            : "a program lacking bitmap support modified this file, so all bitmaps are now "
              "considered inconsistent";

    return qcow2_header_ext_has_old_bitmaps(&q->hdr)
               ? g_strdup_printf("warning: %s\nSome clusters may be leaked, run 'qemu-img check "
                                 "-r' on the image file to fix.",
                                 what)
               : NULL;
}

/* ---- A writer opens the image ---- */

int coroutine_fn qcow2_bitmap_co_open(Qcow2 *q, bool *to_mark, GError **errp)
{
    const Qcow2Header *h = &q->hdr;
    int64_t length = bdrv_co_getlength(q->file->bs);
    uint64_t at = 0;
    g_autofree uint8_t *dir = NULL;
    BitmapEntry e;
    int ret;

    *to_mark = false;
    if (!h->has_bitmaps) {
        return 0;
    }
    ret = qcow2_bitmap_co_read_dir(q, &dir, errp);
    ret = ret < 0 ? ret : check_dir(q, dir, (uint64_t)MAX(length, 0), errp);
    if (ret < 0) {
        return ret;
    }
    while (qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e)) {
        if (!q->bitmaps->registered) {
            qcow2_metadata_add(q->metadata, e.table_offset, e.table_entries * UINT64_C(8),
                               "bitmap table");
        }
        *to_mark |= (e.flags & (BITMAP_AUTO | BITMAP_IN_USE)) == BITMAP_AUTO;
    }
    if (!q->bitmaps->registered) {
        qcow2_metadata_add(q->metadata, h->bitmap_dir_offset, h->bitmap_dir_size,
                           "bitmap directory");
        q->bitmaps->registered = true;
    }
    return 0;
}

/* ---- Before a change ---- */

int coroutine_fn qcow2_bitmap_co_mark_in_use(Qcow2 *q,
                                             bool (*is_kept)(const Qcow2 *q, const BitmapEntry *e),
                                             bool *marked)
{
    const Qcow2Header *h = &q->hdr;
    g_autofree uint8_t *dir = NULL;
    uint64_t at = 0;
    BitmapEntry e;
    int ret = qcow2_bitmap_co_read_dir(q, &dir, NULL);

    *marked = false;
    if (ret < 0) {
        return ret;
    }
    for (uint32_t i = 0; i < h->nb_bitmaps; i++) {
        if (!qcow2_bitmap_dir_next(dir, h->bitmap_dir_size, &at, &e)) {
            return -EIO; /* it was whole when the image was opened */
        }
        if ((e.flags & BITMAP_AUTO) && !is_kept(q, &e)) {
            stbe32(dir + e.at + ENTRY_FLAGS, e.flags | BITMAP_IN_USE);
            *marked |= !(e.flags & BITMAP_IN_USE);
        }
    }
    return *marked ? bdrv_co_pwrite(q->file, (int64_t)h->bitmap_dir_offset,
                                    (int64_t)h->bitmap_dir_size, dir, 0)
                   : 0;
}
