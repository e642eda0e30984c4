/* SPDX-License-Identifier: MIT */
/* The set of clusters that are metadata: owners, ranges, overlaps. */
#include "mem-driver.h"
#include "mem-image.h"

static MemImage im;
static BlockBackend *blk;
static Qcow2 *q;

static void setup(void)
{
    im = (MemImage){ .cluster_bits = 16, .refcount_order = 4, .size = 8 * MiB };
    mem_image_init(&im);
    blk = mem_image_open(&im, NULL);
    q = mem_image_qcow2(blk);
}

static void teardown(void)
{
    blk_close(blk);
    mem_image_clear(&im);
}

/* Far past what the image has of its own. */
#define AT (UINT64_C(100) * MiB)

/* INV-META-1: added three times, it stays until it was removed three times. */
static void test_owners(void)
{
    setup();
    for (int i = 0; i < 3; i++) {
        qcow2_metadata_add(q->metadata, AT, q->geo.cluster_size, "active L2 table");
    }
    for (int i = 0; i < 3; i++) {
        g_assert_cmpstr(qcow2_metadata_at(q->metadata, AT, 1), ==, "active L2 table");
        qcow2_metadata_remove(q->metadata, AT, q->geo.cluster_size);
    }
    g_assert_null(qcow2_metadata_at(q->metadata, AT, 1));
    qcow2_metadata_remove(q->metadata, AT, q->geo.cluster_size); /* once too often does nothing */
    qcow2_metadata_add(q->metadata, AT, 1, "active L1 table");
    g_assert_cmpstr(qcow2_metadata_at(q->metadata, AT, 1), ==, "active L1 table");
    teardown();
}

/* Each cluster that a range touches, and no other. */
static void test_range(void)
{
    uint64_t cs;

    setup();
    cs = q->geo.cluster_size;
    qcow2_metadata_add(q->metadata, AT, cs + 1, "refcount table");
    g_assert_nonnull(qcow2_metadata_at(q->metadata, AT + 2 * cs - 1, 1));
    g_assert_null(qcow2_metadata_at(q->metadata, AT + 2 * cs, cs));
    g_assert_null(qcow2_metadata_at(q->metadata, AT - 1, 1));
    g_assert_nonnull(qcow2_metadata_at(q->metadata, AT - 1, 2));
    qcow2_metadata_remove(q->metadata, AT, cs);
    g_assert_null(qcow2_metadata_at(q->metadata, AT, cs));
    g_assert_nonnull(qcow2_metadata_at(q->metadata, AT + cs, 1));
    teardown();
}

/* Two things at one place are an overlap; two owners of an L2 table are none. */
static void test_overlap(void)
{
    uint64_t at;

    setup();
    qcow2_metadata_add(q->metadata, AT, 1, "active L2 table");
    qcow2_metadata_add(q->metadata, AT, 1, "active L2 table");
    g_assert_null(qcow2_metadata_overlap(q->metadata, &at));
    qcow2_metadata_add(q->metadata, AT, 1, "refcount block");
    g_assert_cmpstr(qcow2_metadata_overlap(q->metadata, &at), ==, "active L2 table");
    g_assert_cmpuint(at, ==, AT);
    teardown();
}

/* INV-META-2: what snapshots have is no overlap, and is there until the last of them goes. */
static void test_inactive(void)
{
    uint64_t at, cs;

    setup();
    cs = q->geo.cluster_size;
    qcow2_metadata_look_for(q->metadata, METADATA_ALL);
    qcow2_metadata_add(q->metadata, AT, 1, "active L2 table");
    qcow2_metadata_add_inactive_l2(q->metadata, AT);
    qcow2_metadata_add_inactive_l2(q->metadata, AT);
    g_assert_null(qcow2_metadata_overlap(q->metadata, &at));
    g_assert_cmpstr(qcow2_metadata_at(q->metadata, AT, 1), ==, "active L2 table");
    qcow2_metadata_remove(q->metadata, AT, cs);
    g_assert_cmpstr(qcow2_metadata_at(q->metadata, AT - 1, 2), ==, "inactive L2 table");
    qcow2_metadata_remove_inactive_l2(q->metadata, AT);
    g_assert_true(qcow2_metadata_is_inactive_l2(q->metadata, AT));
    qcow2_metadata_move_inactive_l2(q->metadata, AT, AT + cs);
    qcow2_metadata_move_inactive_l2(q->metadata, AT, AT + 2 * cs); /* said again by another */
    g_assert_false(qcow2_metadata_is_inactive_l2(q->metadata, AT));
    g_assert_false(qcow2_metadata_is_inactive_l2(q->metadata, AT + 2 * cs));
    g_assert_true(qcow2_metadata_is_inactive_l2(q->metadata, AT + cs));
    qcow2_metadata_look_for(q->metadata, METADATA_ALL & ~(unsigned)METADATA_INACTIVE_L2);
    g_assert_null(qcow2_metadata_at(q->metadata, AT + cs, 1));
    g_assert_false(qcow2_metadata_is_inactive_l2(q->metadata, AT + cs));
    qcow2_metadata_look_for(q->metadata, METADATA_ALL);
    qcow2_metadata_remove_inactive_l2(q->metadata, AT + cs);
    qcow2_metadata_remove_inactive_l2(q->metadata, AT + cs); /* once too often does nothing */
    g_assert_null(qcow2_metadata_at(q->metadata, AT + cs, 1));
    teardown();
}

static void write_at(int64_t offset)
{
    g_autofree uint8_t *buf = g_malloc0(64 * KiB);

    g_assert_cmpint(blk_pwrite(blk, offset, 64 * KiB, buf, 0), ==, 0);
}

/* The tables of a snapshot are guarded while it is there, and no longer. */
static void test_snapshots(void)
{
    const BlockSnapshotInfo one = { .name = "one" }, two = { .name = "two" };
    uint64_t table;

    setup();
    qcow2_metadata_look_for(q->metadata, METADATA_ALL);
    write_at(0);
    table = q->l1[0] & QCOW2_OFFSET_MASK;
    g_assert_cmpint(blk_snapshot_create(blk, &one, NULL), ==, 0);
    g_assert_cmpint(blk_snapshot_create(blk, &two, NULL), ==, 0);
    g_assert_true(qcow2_metadata_is_inactive_l2(q->metadata, table));
    write_at(0);
    write_at(1 * MiB);
    g_assert_cmpuint(q->l1[0] & QCOW2_OFFSET_MASK, !=, table);
    g_assert_cmpint(blk_snapshot_delete(blk, NULL, "one", NULL), ==, 0);
    g_assert_cmpstr(qcow2_metadata_at(q->metadata, table, 1), ==, "inactive L2 table");
    g_assert_cmpint(blk_snapshot_delete(blk, NULL, "two", NULL), ==, 0);
    g_assert_null(qcow2_metadata_at(q->metadata, table, 1));
    for (int64_t at = 0; at < 8 * MiB; at += 64 * KiB) { /* also where it was */
        write_at(at);
    }
    teardown();
}

int main(int argc, char **argv)
{
    mem_register();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/metadata-set/owners", test_owners);
    g_test_add_func("/qcow2/metadata-set/range", test_range);
    g_test_add_func("/qcow2/metadata-set/overlap", test_overlap);
    g_test_add_func("/qcow2/metadata-set/inactive", test_inactive);
    g_test_add_func("/qcow2/metadata-set/snapshots", test_snapshots);
    return g_test_run();
}
