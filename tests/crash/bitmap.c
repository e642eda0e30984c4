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

char *bitmap_find(const MemFile *image, BitmapPlace *place)
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
    if (flags & IN_USE) {
        return g_strdup("the bitmap is in use");
    }
    place->table = shared_be64(image, dir);
    place->entries = shared_be32(image, dir + 8);
    place->cluster_bits = shared_be32(image, 20);
    place->granularity_bits = 9;
    return NULL;
}

bool bitmap_find_named(const MemFile *image, const char *name, BitmapPlace *place, uint32_t *flags)
{
    uint64_t ext = find_extension(image), at = ext ? shared_be64(image, ext + 16) : 0;

    for (uint32_t i = 0; ext && i < shared_be32(image, ext); i++) {
        uint32_t lens = shared_be32(image, at + 16), len = lens & 0xffff,
                 extra = shared_be32(image, at + 20);
        char has[1024] = "";

        mem_read(image, at + 24 + extra, (uint8_t *)has, MIN(len, sizeof(has) - 1));
        if (!strcmp(has, name)) {
            *place = (BitmapPlace){ .table = shared_be64(image, at),
                                    .entries = shared_be32(image, at + 8),
                                    .cluster_bits = shared_be32(image, 20),
                                    .granularity_bits = lens >> 16 & 0xff };
            *flags = shared_be32(image, at + 12);
            return shared_be64(image, 88) & 1;
        }
        at += ALIGN_UP(24 + (uint64_t)extra + len, UINT64_C(8));
    }
    return false;
}

bool bitmap_has(const MemFile *image, const BitmapPlace *place, uint64_t sector)
{
    uint64_t bit = sector >> (place->granularity_bits - 9), byte = bit / 8,
             i = byte >> place->cluster_bits, entry, host;
    uint64_t within = byte & ((UINT64_C(1) << place->cluster_bits) - 1);

    if (i >= place->entries) {
        return false;
    }
    entry = shared_be64(image, place->table + i * 8);
    host = entry & UINT64_C(0x00fffffffffffe00);
    /* (A big-endian word has its first byte at the top.) */
    return host ? shared_be32(image, host + (within & ~UINT64_C(3))) >> (3 - within % 4) * 8 >>
                          bit % 8 &
                      1
                : entry & 1;
}
