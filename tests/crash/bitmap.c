/* SPDX-License-Identifier: MIT */
/* Looks for the bitmap by itself, without the driver that is tested. */
#include "bitmap.h"

#include "shared.h"

#define EXT_BITMAPS UINT32_C(0x23852875)
#define IN_USE 1u
#define AUTO 2u

bool bitmap_make(MemFile *image)
{
    const char *argv[] = { "qemu-img", "bitmap", "--add", "-g", "512", NULL };

    return shared_edit(image, argv, "b");
}

/* The data of the bitmaps' header extension; 0: there is none. */
static uint64_t find_extension(const MemFile *image)
{
    uint64_t at = shared_be32(image, 100);

    while (at < UINT64_C(1) << shared_be32(image, 20)) {
        uint32_t type = shared_be32(image, at), len = shared_be32(image, at + 4);

        if (type == EXT_BITMAPS || type == 0) {
            return type ? at + 8 : 0;
        }
        at += 8 + (len + UINT64_C(7)) / 8 * 8;
    }
    return 0;
}

char *bitmap_find(const MemFile *image, bool *in_use)
{
    uint64_t ext = find_extension(image), dir;
    uint32_t flags;

    if (!ext || !(shared_be64(image, 88) & 1)) {
        return g_strdup("the bitmap is gone");
    }
    dir = shared_be64(image, ext + 16);
    flags = shared_be32(image, dir + 12);
    if (shared_be32(image, ext) != 1 || !(flags & AUTO) || (flags & ~(IN_USE | AUTO))) {
        return g_strdup_printf("the bitmap's entry is damaged: flags %x", flags);
    }
    *in_use = flags & IN_USE;
    return NULL;
}
