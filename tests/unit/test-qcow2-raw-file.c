/* SPDX-License-Identifier: MIT */
/*
 * A raw external data file is what the disk is: after each request, whichever of its file
 * operations failed, and however far that got; in images as we make them and in images of others
 * whose entries show nothing yet.
 */
/* Shows INV-RAW-1, INV-RAW-2. */
#include "tests/lib/fake-file.h"
#include "tests/lib/image.h"

#include <errno.h>
#include <string.h>

#define CLUSTER ((int64_t)(16 * KiB))
#define SIZE (20 * CLUSTER + 1536)

typedef enum StepKind { STEP_WRITE, STEP_ZERO, STEP_UNMAP, STEP_DISCARD, STEP_RESIZE } StepKind;

typedef struct Step {
    const char *name;
    StepKind kind;
    int64_t offset, bytes;
} Step;

static const Step steps[] = {
    { "part of a new cluster", STEP_WRITE, 7 * CLUSTER + 1000, 3000 },
    { "new clusters", STEP_WRITE, 8 * CLUSTER + 5000, 3 * CLUSTER },
    { "new and old clusters", STEP_WRITE, 2 * CLUSTER + 700, 3 * CLUSTER },
    { "the end of the disk", STEP_WRITE, SIZE - 700, 700 },
    { "zeroes", STEP_ZERO, 3 * CLUSTER + 100, CLUSTER },
    { "zeroes that may unmap", STEP_UNMAP, 2 * CLUSTER, 2 * CLUSTER },
    { "a discard", STEP_DISCARD, 3 * CLUSTER, CLUSTER },
    { "a shrink within a cluster", STEP_RESIZE, 3 * CLUSTER + 1024, 0 },
    { "growth", STEP_RESIZE, SIZE + 3 * CLUSTER + 512, 0 },
};

static int do_step(BlockBackend *blk, const Step *s)
{
    g_autofree uint8_t *buf = NULL;

    switch (s->kind) {
    case STEP_WRITE:
        buf = g_malloc(s->bytes);
        memset(buf, 0xab, s->bytes);
        return blk_pwrite(blk, s->offset, s->bytes, buf, 0);
    case STEP_ZERO:
        return blk_pwrite_zeroes(blk, s->offset, s->bytes, 0);
    case STEP_UNMAP:
        return blk_pwrite_zeroes(blk, s->offset, s->bytes, BLK_REQ_MAY_UNMAP);
    case STEP_DISCARD:
        return blk_pdiscard(blk, s->offset, s->bytes);
    case STEP_RESIZE:
        return blk_truncate(blk, s->offset, true, BLK_PREALLOC_OFF, 0, NULL);
    }
    g_assert_not_reached();
}

static void assert_file_is_disk(BlockBackend *blk, const char *when)
{
    int64_t size = blk_getlength(blk);
    g_autofree uint8_t *disk = g_malloc(size);
    FakeContent c = fake_save(IMAGE_DATA);

    g_assert_cmpint(blk_pread(blk, 0, size, disk, 0), ==, 0);
    g_assert_cmpint(c.size, >=, size);
    for (int64_t i = 0; i < size; i++) {
        if (disk[i] != c.data[i]) {
            g_test_message("%s: byte %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT, when, i, size);
            g_assert_cmphex(c.data[i], ==, disk[i]);
        }
    }
    fake_content_clear(&c);
}

static BlockBackend *open_again(const ImageSpec *s, BlockBackend *blk)
{
    GError *err = NULL;

    if (blk) {
        blk_close(blk);
    }
    blk = image_open(s, BLK_O_RDWR | BLK_O_RESIZE | BLK_O_UNMAP, &err);
    g_assert_no_error(err);
    return blk;
}

static BlockBackend *make_image(const ImageSpec *s)
{
    g_autofree uint8_t *buf = g_malloc(2 * CLUSTER);
    GError *err = NULL;
    BlockBackend *blk;

    g_assert_cmpint(image_create(s, &err), ==, 0);
    blk = open_again(s, NULL);
    memset(buf, 0x11, 2 * CLUSTER);
    g_assert_cmpint(blk_pwrite(blk, 3 * CLUSTER, 2 * CLUSTER, buf, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    return blk;
}

/* False: no fault was met, so @nth is beyond the last operation. */
static bool fail_nth(const ImageSpec *s, const Step *step, int64_t nth, bool torn)
{
    BlockBackend *blk = make_image(s);
    bool met, synced;

    fake_arm(
        &(FakeFault){ .ops = FAKE_SPACE | FAKE_FLUSH, .nth = nth, .error = EIO, .torn = torn });
    do_step(blk, step);
    (void)blk_flush(blk);
    met = fake_fault_met();
    fake_arm(NULL);
    assert_file_is_disk(blk, step->name);
    synced = blk_flush(blk) == 0;
    blk = open_again(s, blk);
    if (synced || !s->raw_by_others) { /* what was not flushed may be lost of their entries */
        assert_file_is_disk(blk, "opened again");
    }
    blk_close(blk);
    fake_forget_all();
    return met;
}

static void test_faults(void)
{
    for (unsigned variant = 0; variant < 8; variant++) {
        ImageSpec s = { .size = SIZE,
                        .cluster_size = CLUSTER,
                        .refcount_bits = 16,
                        .data_file = true,
                        .data_raw = true,
                        .extended_l2 = variant & 1,
                        .raw_by_others = variant & 2 };

        for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
            int64_t n = 1;

            while (fail_nth(&s, &steps[i], n, variant & 4)) {
                g_assert_cmpint(++n, <, 100);
            }
            g_assert_true(n > 1 || steps[i].kind != STEP_WRITE); /* it did meet one */
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    fake_init();
    g_test_add_func("/qcow2/raw-file/faults", test_faults);
    return g_test_run();
}
