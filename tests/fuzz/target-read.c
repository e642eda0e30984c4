/* SPDX-License-Identifier: MIT */
/* An image is opened, all that it tells is asked for, all of it is read. Control byte 0:
 * options. */
#include "fuzz.h"

#include "open.h"

const char fuzz_name[] = "read";

#define CHUNK INT64_C(65536)
#define MAX_READ (INT64_C(1) * MiB)

static void ignore_line(const char *line, void *opaque)
{
}

static void read_all(BlockBackend *blk)
{
    int64_t len = blk_getlength(blk), step;
    g_autofree uint8_t *buf = g_malloc(CHUNK);

    /* The head whole, then the rest in steps: a disk may be of any size. */
    for (int64_t at = 0; at < MIN(len, MAX_READ); at += CHUNK) {
        (void)blk_pread(blk, at, MIN(CHUNK, len - at), buf, 0);
    }
    step = MAX((len - MAX_READ) / 8, CHUNK);
    for (int64_t at = MAX_READ; at < len && at >= 0 && at <= len - CHUNK; at += step) {
        (void)blk_pread(blk, at, CHUNK, buf, 0);
    }
    if (len >= 512) {
        (void)blk_pread(blk, len - 512, 512, buf, 0);
    }
}

static void status_all(BlockBackend *blk)
{
    int64_t len = blk_getlength(blk), at = 0;

    for (unsigned i = 0; at < len && i < 400; i++) {
        int64_t n = 0, map = 0;
        BlockDriverState *file = NULL;
        int depth = 0;
        int ret = blk_block_status_above(blk, NULL, NULL, at, len - at, &n, &map, &file, &depth);

        FUZZ_CHECK(ret < 0 || (n > 0 && n <= len - at), "status at %" PRId64 ": %" PRId64 " bytes",
                   at, n);
        at += ret < 0 ? 65536 : n;
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    g_autoptr(Image) img = img_parse(data, size);
    g_autoptr(MemFile) file = img_to_file(img);
    BlockCheckResult res = { 0 };
    BlockDriverInfo info;
    BlockBackend *blk;

    fuzz_files_begin(file);
    blk = fuzz_open(img, img->ctl[0] & 0x80 ? BLK_O_CHECK : 0, NULL);
    if (!blk) {
        return;
    }
    (void)blk_get_info(blk_bs(blk), &info);
    opts_free(blk_get_specific_info(blk_bs(blk), NULL));
    (void)blk_check(blk, &res, 0, ignore_line, NULL);
    status_all(blk);
    read_all(blk);
    blk_close(blk);
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    return img_mutate(data, size, max, seed);
}
