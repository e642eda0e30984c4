/* SPDX-License-Identifier: MIT */
/* The directory of persistent bitmaps, read for `info`: names, granularities, flags. */
#include "qcow2.h"

#include "util/bytes.h"

#include <errno.h>

#define ENTRY_FIXED 24
#define FLAG_IN_USE 1u
#define FLAG_AUTO 2u
#define MAX_GRANULARITY_BITS 31

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

/* The entry at @at of @len bytes; its length or -EINVAL. */
static int64_t list_one(Options *o, uint32_t n, const uint8_t *at, uint64_t len)
{
    g_autofree char *name = NULL, *granularity = NULL;
    uint64_t extra, name_len, whole;

    if (len < ENTRY_FIXED) {
        return -EINVAL;
    }
    name_len = ldbe16(at + 18);
    extra = ldbe32(at + 20);
    whole = ALIGN_UP(ENTRY_FIXED + extra + name_len, UINT64_C(8));
    if (whole > len || at[17] > MAX_GRANULARITY_BITS) {
        return -EINVAL;
    }
    name = g_strndup((const char *)at + ENTRY_FIXED + extra, name_len);
    granularity = g_strdup_printf("%u", 1u << at[17]);
    set_flags(o, n, ldbe32(at + 12));
    set(o, n, "name", name);
    set(o, n, "granularity", granularity);
    return (int64_t)whole;
}

static int coroutine_fn list_fn(void *opaque)
{
    ListArgs *a = opaque;
    const Qcow2Header *h = &a->q->hdr;
    int64_t length = bdrv_co_getlength(a->q->file->bs);
    g_autofree uint8_t *dir = NULL;
    uint64_t at = 0;
    int ret;

    if (length < 0 || h->bitmap_dir_offset > (uint64_t)length ||
        h->bitmap_dir_size > (uint64_t)length - h->bitmap_dir_offset) {
        return error_set(a->errp, EINVAL, "Broken bitmap directory");
    }
    dir = g_try_malloc(MAX(h->bitmap_dir_size, 1));
    ret = dir ? bdrv_co_pread(a->q->file, (int64_t)h->bitmap_dir_offset,
                              (int64_t)h->bitmap_dir_size, dir, 0)
              : -ENOMEM;
    if (ret < 0) {
        return error_set_errno(a->errp, ret, "Failed to read bitmap directory");
    }
    for (uint32_t i = 0; i < h->nb_bitmaps; i++) {
        int64_t n = list_one(a->o, i, dir + at, h->bitmap_dir_size - at);

        if (n < 0) {
            return error_set(a->errp, EINVAL, "Broken bitmap directory");
        }
        at += (uint64_t)n;
    }
    return 0;
}

bool qcow2_list_bitmaps(Qcow2 *q, Options *o, GError **errp)
{
    ListArgs a = { q, o, errp };

    return !q->hdr.has_bitmaps || co_run_sync(list_fn, &a) == 0;
}
