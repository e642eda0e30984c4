/* SPDX-License-Identifier: MIT */
/*
 * The options of raw and of blkdebug, its rules from options and from a config file. An input:
 * options, a byte 0, the text of the config file. The node is opened on a file of 192 KiB in
 * memory; some of each operation is done to it.
 */
#include "fuzz.h"

#include "open.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char fuzz_name[] = "options";

/* Requests of this alignment need buffers of its size: the user's own wish, no image's. */
#define MAX_ALIGN (UINT64_C(1) << 20)

/* The path of a file without a place, with @text. */
static const char *config_path(const char *text)
{
    static char path[64];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("fuzz-config", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, strlen(text), 0) < 0) {
        fuzz_fail("config file");
    }
    return path;
}

static void use(BlockBackend *blk)
{
    int64_t len = blk_getlength(blk), n, map;
    g_autofree uint8_t *buf = g_malloc(65536);
    BlockDriverState *file;
    int depth;

    for (int64_t at = 0; at < MIN(len, 256 * KiB); at += 65536) {
        int64_t bytes = MIN(65536, len - at);

        FUZZ_CHECK(blk_pread(blk, at, bytes, buf, 0) <= 0, "read returns more than 0");
        (void)blk_block_status_above(blk, NULL, NULL, at, bytes, &n, &map, &file, &depth);
    }
    for (int64_t at = 100; at < MIN(len - 5000, 100 * KiB); at += 30000) {
        FUZZ_CHECK(blk_pwrite(blk, at, 3000, buf, 0) <= 0, "write returns more than 0");
        FUZZ_CHECK(blk_pwrite_zeroes(blk, at + 1000, 3000, 0) <= 0,
                   "zero write returns more than 0");
        FUZZ_CHECK(blk_pdiscard(blk, at, 4096) <= 0, "discard returns more than 0");
    }
    FUZZ_CHECK(blk_flush(blk) <= 0, "flush returns more than 0");
    FUZZ_CHECK(blk_truncate(blk, 150 * KiB, false, BLK_PREALLOC_OFF, 0, NULL) <= 0,
               "truncate returns more than 0");
}

static bool has_huge_align(const Options *o)
{
    g_autoptr(Options) copy = opts_copy(o);
    uint64_t v = 0;

    return opts_take_size(copy, "align", 0, &v, NULL) && v > MAX_ALIGN;
}

static void open_as(const char *driver, const char *child, const Options *given, const char *config,
                    int flags)
{
    g_autoptr(MemFile) file = mem_file_new(192 * KiB);
    g_autoptr(GError) err = NULL;
    Options *o = opts_copy(given);
    g_autofree char *key = g_strdup_printf("%s.driver", child);
    BlockBackend *blk;

    fuzz_files_begin(file);
    fuzz_tame_options(o);
    opts_set(o, "driver", driver);
    opts_set(o, key, "fuzz-mem");
    if (config) {
        opts_set(o, "config", config_path(config));
    }
    blk = blk_open(NULL, o, flags | BLK_O_UNMAP, &err);
    FUZZ_CHECK(blk || (err && err->message[0]), "refused without a message");
    if (blk) {
        use(blk);
        blk_close(blk);
    }
    mem_driver_set(0, NULL);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *config = NULL;
    g_autoptr(Options) o = opts_new();
    size_t n = strlen(text);

    if (n < size) {
        config = g_strndup((const char *)data + n + 1, size - n - 1);
    }
    if (!opts_parse(o, text, NULL, NULL) || has_huge_align(o)) {
        return;
    }
    open_as("blkdebug", "image", o, config, BLK_O_RDWR | BLK_O_RESIZE);
    open_as("raw", "file", o, NULL, size & 1 ? BLK_O_RDWR | BLK_O_RESIZE : 0);
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    return 0;
}
