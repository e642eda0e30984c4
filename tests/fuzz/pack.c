/* SPDX-License-Identifier: MIT */
/*
 * pack IMAGE INPUT [CTL [OP...]]: a seed for the qcow2 targets. CTL and each OP are hex digits.
 * pack -u INPUT IMAGE: the image of an input, to look at with other tools; prints CTL and OPs.
 */
#include "image.h"

#include <stdio.h>
#include <string.h>

static bool parse_hex(const char *s, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n && s[2 * i]; i++) {
        int hi = g_ascii_xdigit_value(s[2 * i]), lo = g_ascii_xdigit_value(s[2 * i + 1]);

        if (hi < 0 || lo < 0) {
            return false;
        }
        to[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

static void take_file(Image *img, const uint8_t *data, gsize size)
{
    img->length = MIN(size, IMG_MAX_LENGTH);
    for (uint64_t at = 0; at < img->length; at += 512) {
        uint64_t n = MIN(img->length - at, 512);
        ImgSector *s;

        for (uint64_t i = 0; i < n; i++) {
            if (data[at + i]) {
                s = img_make_sector(img, at / 512);
                memcpy(s->data, data + at, n);
                break;
            }
        }
    }
}

static int unpack(const char *input, const char *path)
{
    g_autoptr(Image) img = NULL;
    g_autoptr(MemFile) file = NULL;
    g_autofree char *data = NULL, *whole = NULL;
    gsize size;

    if (!g_file_get_contents(input, &data, &size, NULL)) {
        return 1;
    }
    img = img_parse((uint8_t *)data, size);
    file = img_to_file(img);
    whole = g_malloc(img->length + 1);
    mem_file_read(file, 0, whole, img->length);
    for (int i = 0; i < 8; i++) {
        printf("%02x", img->ctl[i]);
    }
    for (unsigned i = 0; i < img->nops; i++) {
        const ImgOp *o = &img->ops[i];

        printf(" %02x%02x%04x%04x%04x", o->op % 10, o->flags, o->offset, o->len, o->value);
    }
    printf("\n");
    return !g_file_set_contents(path, whole, (gssize)img->length, NULL);
}

int main(int argc, char **argv)
{
    g_autoptr(Image) img = img_parse(NULL, 0);
    g_autofree uint8_t *out = g_malloc(MiB);
    g_autofree char *data = NULL;
    gsize size, n;

    if (argc == 4 && !strcmp(argv[1], "-u")) {
        return unpack(argv[2], argv[3]);
    }
    if (argc < 3 || !g_file_get_contents(argv[1], &data, &size, NULL)) {
        fprintf(stderr, "usage: pack IMAGE INPUT [CTL [OP...]]\n");
        return 1;
    }
    take_file(img, (const uint8_t *)data, size);
    if (argc > 3 && !parse_hex(argv[3], img->ctl, 8)) {
        return 1;
    }
    for (int i = 4; i < argc && img->nops < IMG_MAX_OPS; i++) {
        uint8_t b[8] = { 0 };

        if (!parse_hex(argv[i], b, 8)) {
            return 1;
        }
        img->ops[img->nops++] =
            (ImgOp){ b[0], b[1], (uint16_t)(b[2] << 8 | b[3]), (uint16_t)(b[4] << 8 | b[5]),
                     (uint16_t)(b[6] << 8 | b[7]) };
    }
    n = img_pack(img, out, MiB);
    if (!n || !g_file_set_contents(argv[2], (char *)out, (gssize)n, NULL)) {
        fprintf(stderr, "pack: %s does not fit\n", argv[1]);
        return 1;
    }
    return 0;
}
