/* SPDX-License-Identifier: MIT */
/*
 * Formats without a driver here, known by their first bytes: an image in one of them is refused by
 * name, where it would pass for raw, and a guest must not make one of a raw image (guard.c).
 *
 * What counts is each format's own mark, with the versions that its readers take.  A format whose
 * mark is at its end only (VHD of fixed size) cannot be told from raw.
 */
#include "block/driver/registry.h"

#include "util/bytes.h"

#include <string.h>

typedef bool ForeignTest(const uint8_t *buf, size_t len);

typedef struct ForeignFormat {
    const char *name;
    size_t offset, len; /* of the mark; len == 0: none, @more tells */
    const char *mark;
    ForeignTest *more; /* beyond the mark; NULL: nothing */
    int score;
} ForeignFormat;

static bool has_bytes(const uint8_t *buf, size_t len, size_t offset, const char *mark, size_t n)
{
    return len >= offset + n && memcmp(buf + offset, mark, n) == 0;
}

static bool is_qcow1(const uint8_t *buf, size_t len)
{
    return len >= 8 && ldbe32(buf + 4) == 1;
}

static bool is_luks1(const uint8_t *buf, size_t len)
{
    return len >= 8 && ldbe16(buf + 6) == 1;
}

static bool is_parallels2(const uint8_t *buf, size_t len)
{
    return len >= 20 && ldle32(buf + 16) == 2;
}

/* After the mark, 32 bytes in all: type and subtype of 16 bytes, a version. */
static bool is_bochs_growing(const uint8_t *buf, size_t len)
{
    return has_bytes(buf, len, 32, "Redolog", 8) && has_bytes(buf, len, 48, "Growing", 8) &&
           len >= 68 && (ldle32(buf + 64) == 0x10000 || ldle32(buf + 64) == 0x20000);
}

/* The bytes of the comment or the line of spaces at @buf; 0: it is neither. */
static size_t skippable_line(const uint8_t *buf, size_t len)
{
    size_t n = 0;

    if (buf[0] == '#') {
        const uint8_t *end = memchr(buf, '\n', len);

        return end ? (size_t)(end - buf) + 1 : len;
    }
    while (n < len && buf[n] == ' ') {
        n++;
    }
    if (n > 0 && n < len && buf[n] == '\r') {
        n++;
    }
    return n > 0 && n < len && buf[n] == '\n' ? n + 1 : 0;
}

/* VMDK's text descriptor: comments and blank lines, then its version. */
static bool is_vmdk_text(const uint8_t *buf, size_t len)
{
    static const char *const versions[] = { "version=1", "version=2", "version=3" };
    size_t pos = 0, n;

    if (has_bytes(buf, len, 0, "# Disk DescriptorFile", 21)) {
        return true;
    }
    while (pos < len && (n = skippable_line(buf + pos, len - pos)) > 0) {
        pos += n;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(versions); i++) {
        if (has_bytes(buf, len, pos, versions[i], 9) &&
            (has_bytes(buf, len, pos + 9, "\n", 1) || has_bytes(buf, len, pos + 9, "\r\n", 2))) {
            return true;
        }
    }
    return false;
}

#define CLOOP_SCRIPT                                                                               \
    "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"

static const ForeignFormat formats[] = {
    { "qcow", 0, 4, "QFI\xfb", is_qcow1, 100 },
    { "qed", 0, 4, "QED", NULL, 100 },
    { "vmdk", 0, 4, "KDMV", NULL, 100 },
    { "vmdk", 0, 4, "COWD", NULL, 100 },
    { "vmdk", 0, 0, "", is_vmdk_text, 100 },
    { "vdi", 64, 4, "\x7f\x10\xda\xbe", NULL, 100 },
    { "vhdx", 0, 8, "vhdxfile", NULL, 100 },
    { "vpc", 0, 8, "conectix", NULL, 100 },
    { "parallels", 0, 16, "WithoutFreeSpace", is_parallels2, 100 },
    { "parallels", 0, 16, "WithouFreSpacExt", is_parallels2, 100 },
    { "luks", 0, 6, "LUKS\xba\xbe", is_luks1, 100 },
    { "bochs", 0, 23, "Bochs Virtual HD Image", is_bochs_growing, 100 },
    { "cloop", 0, sizeof(CLOOP_SCRIPT) - 1, CLOOP_SCRIPT, NULL, 2 },
};

/* dmg has its mark at the end of the file, and is known by its name. */
static bool is_dmg_name(const char *filename)
{
    size_t len = filename ? strlen(filename) : 0;

    return len > 4 && !strcmp(filename + len - 4, ".dmg");
}

const char *bdrv_probe_foreign(const uint8_t *buf, size_t len, const char *filename, int *score)
{
    const ForeignFormat *best = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
        const ForeignFormat *f = &formats[i];

        if (has_bytes(buf, len, f->offset, f->mark, f->len) && (!f->more || f->more(buf, len)) &&
            (!best || f->score > best->score)) {
            best = f;
        }
    }
    *score = best ? best->score : is_dmg_name(filename) ? 2 : 0;
    return best ? best->name : *score ? "dmg" : NULL;
}
