/* SPDX-License-Identifier: MIT */
/* The header in the file: see header-io.h. */
#include "header-io.h"

#include "header-layout.h"
#include "header-plan.h"
#include "rules.h"
#include "util/bytes.h"

#include <errno.h>
#include <string.h>

#define FIRST_LOOK 4096 /* bytes; a header with larger clusters is read again, whole */

void qcow2_header_file_init(HeaderFile *f, BdrvChild *file)
{
    f->file = file;
    co_mutex_init(&f->lock);
}

/* ---- Read ---- */

/* How much of a file of @len bytes may be header, as its first bytes say. */
static size_t header_bytes(const uint8_t *buf, size_t len)
{
    uint32_t bits = ldbe32(buf + HEADER_AT(cluster_bits));
    bool known = ldbe32(buf) == HEADER_MAGIC && bits >= QCOW2_MIN_CLUSTER_BITS &&
                 bits <= QCOW2_MAX_CLUSTER_BITS;

    return MIN(len, known ? (size_t)1 << bits : FIRST_LOOK);
}

int coroutine_fn qcow2_header_co_read(BdrvChild *file, Qcow2Header *h, int flags, GError **errp)
{
    int64_t length = bdrv_co_getlength(file->bs);
    size_t len = (size_t)MIN(MAX(length, 0), INT64_C(1) << QCOW2_MAX_CLUSTER_BITS);
    g_autofree uint8_t *buf = g_try_malloc(MAX(len, 8));
    int ret;

    if (length < 0) {
        return error_set_errno(errp, (int)length, "Could not read qcow2 header");
    }
    if (!buf) {
        return error_set_errno(errp, ENOMEM, "Could not read qcow2 header");
    }
    if (len < HEADER_AT(size)) {
        return error_set(errp, EINVAL, "Image is not in qcow2 format");
    }
    ret = bdrv_co_pread(file, 0, MIN((int64_t)len, FIRST_LOOK), buf, 0);
    if (ret == 0) {
        len = header_bytes(buf, len);
        ret = len > FIRST_LOOK ? bdrv_co_pread(file, 0, (int64_t)len, buf, 0) : 0;
    }
    return ret < 0 ? error_set_errno(errp, ret, "Could not read qcow2 header")
                   : qcow2_header_parse(h, buf, len, length, flags, errp);
}

/* ---- Write the whole ---- */

/* Bytes [@from, @to) where @now and @next differ; in whole sectors, as nothing tears those. */
static int coroutine_fn co_write_changed(BdrvChild *file, const uint8_t *now, const uint8_t *next,
                                         size_t from, size_t to)
{
    while (from < to && !memcmp(now + from, next + from, HEADER_SECTOR)) {
        from += HEADER_SECTOR;
    }
    while (to > from &&
           !memcmp(now + to - HEADER_SECTOR, next + to - HEADER_SECTOR, HEADER_SECTOR)) {
        to -= HEADER_SECTOR;
    }
    return from == to ? 0
                      : bdrv_co_pwrite(file, (int64_t)from, (int64_t)(to - from), next + from, 0);
}

static int coroutine_fn co_sync(BdrvChild *file, HeaderFailure *failure)
{
    int ret = bdrv_co_flush(file->bs);

    *failure = ret < 0 ? HEADER_SYNC_FAILED : HEADER_IN_DOUBT;
    return ret;
}

static int coroutine_fn co_take_step(BdrvChild *file, const uint8_t *now, const uint8_t *next,
                                     size_t len, HeaderFailure *failure)
{
    int ret = co_write_changed(file, now, next, HEADER_SECTOR, len);

    ret = ret < 0 || RULE_BROKEN(HEADER_TAIL_BEFORE_SECTOR) ? ret : co_sync(file, failure);
    ret = ret < 0 ? ret : co_write_changed(file, now, next, 0, HEADER_SECTOR);
    return ret < 0 || RULE_BROKEN(HEADER_SECTOR_BEFORE_TAIL) ? ret : co_sync(file, failure);
}

static int coroutine_fn co_take_plan(BdrvChild *file, const uint8_t *old, size_t len,
                                     const Qcow2HeaderPlan *plan, HeaderFailure *failure)
{
    const uint8_t *now = old;
    int ret;

    /* What was read may not be on disk yet: there the header may refer to something else. */
    ret = RULE_BROKEN(HEADER_READ_ON_DISK) ? 0 : co_sync(file, failure);
    for (unsigned i = 0; i < plan->n && ret == 0; i++) {
        ret = co_take_step(file, now, plan->steps[i], len, failure);
        now = plan->steps[i];
    }
    /* Names of files that are no longer referred to do not stay behind. */
    ret = ret < 0 ? ret : co_write_changed(file, now, plan->tidy, HEADER_SECTOR, len);
    return ret < 0 || !RULE_BROKEN(HEADER_SECTOR_BEFORE_TAIL) ? ret : co_sync(file, failure);
}

static int coroutine_fn co_read_cluster(HeaderFile *f, uint8_t *buf, size_t len)
{
    int64_t length = bdrv_co_getlength(f->file->bs);

    return length < 0 ? (int)length : bdrv_co_pread(f->file, 0, MIN(length, (int64_t)len), buf, 0);
}

/* With the corrupt bit, if the file has it. */
static int plan_rewrite(const uint8_t *old, size_t len, const Qcow2Header *h, Qcow2HeaderPlan *plan,
                        GError **errp)
{
    Qcow2Header with = *h;

    if (h->version >= 3 && ldbe32(old + HEADER_AT(version)) >= 3) {
        with.incompatible |= ldbe64(old + HEADER_AT(incompatible)) & QCOW2_INCOMPAT_CORRUPT;
    }
    return qcow2_header_plan(old, len, &with, plan, errp);
}

/* Where the cluster size changes with the header, what lies past the smaller one is not the
 * header's, before or after. */
static int coroutine_fn co_rewrite_bits(HeaderFile *f, const Qcow2Header *h, uint32_t *bits)
{
    uint8_t is[HEADER_AT(size)];
    int ret = bdrv_co_pread(f->file, 0, sizeof(is), is, 0);

    *bits = ret < 0 ? 0 : MIN(ldbe32(is + HEADER_AT(cluster_bits)), h->cluster_bits);
    return ret < 0 || *bits >= QCOW2_MIN_CLUSTER_BITS ? ret : -EINVAL;
}

int coroutine_fn qcow2_header_co_rewrite(HeaderFile *f, const Qcow2Header *h,
                                         HeaderFailure *failure, GError **errp)
{
    g_autofree uint8_t *old = NULL;
    Qcow2HeaderPlan plan;
    uint32_t bits;
    int ret = co_rewrite_bits(f, h, &bits);
    size_t len = ret < 0 ? 0 : (size_t)1 << bits;

    *failure = HEADER_UNTOUCHED;
    if (ret == 0) {
        old = g_try_malloc0(len);
        ret = old ? co_read_cluster(f, old, len) : -ENOMEM;
    }
    if (ret < 0) {
        return error_set_errno(errp, ret, "Could not read qcow2 header");
    }
    ret = plan_rewrite(old, len, h, &plan, errp);
    if (ret < 0) {
        return ret;
    }
    ret = co_take_plan(f->file, old, len, &plan, failure);
    qcow2_header_plan_clear(&plan);
    return ret < 0 ? error_set_errno(errp, ret, "Could not update qcow2 header") : 0;
}

/* ---- Write fields ---- */

int coroutine_fn qcow2_header_co_write_fields_locked(HeaderFile *f, const Qcow2Header *h,
                                                     size_t from, size_t to)
{
    uint8_t fields[HEADER_OUR_LENGTH] = { 0 };

    /* INV-HDR-1; before that lies what never changes, and where the backing file's name is. */
    g_assert(from >= HEADER_AT(size) && from < to && to <= HEADER_AT(refcount_order));
    qcow2_header_put_fields(h, fields);
    return bdrv_co_pwrite(f->file, (int64_t)from, (int64_t)(to - from), fields + from, 0);
}

int coroutine_fn qcow2_header_co_write_fields(HeaderFile *f, const Qcow2Header *h, size_t from,
                                              size_t to)
{
    int ret;

    co_mutex_lock(&f->lock);
    ret = qcow2_header_co_write_fields_locked(f, h, from, to);
    co_mutex_unlock(&f->lock);
    return ret;
}

static size_t fields_length(const uint8_t *buf)
{
    return ldbe32(buf + HEADER_AT(version)) == 2 ? HEADER_V2_LENGTH
                                                 : ldbe32(buf + HEADER_AT(header_length));
}

int coroutine_fn qcow2_header_co_places(HeaderFile *f, size_t len, Qcow2HeaderPlaces *places,
                                        size_t *fields)
{
    g_autofree uint8_t *buf = g_try_malloc0(len);
    int ret = buf ? co_read_cluster(f, buf, len) : -ENOMEM;

    if (ret == 0) {
        *places = qcow2_header_places(buf, len);
        *fields = fields_length(buf);
    }
    return ret;
}

static int coroutine_fn co_switch_locked(HeaderFile *f, const Qcow2Header *h) REQUIRES_LOCK(f->lock)
{
    uint8_t is[HEADER_OUR_LENGTH], fields[HEADER_OUR_LENGTH];
    size_t from = HEADER_AT(cluster_bits), kept = HEADER_AT(header_length), length;
    int ret = bdrv_co_pread(f->file, 0, sizeof(is), is, 0);

    if (ret < 0) {
        return ret;
    }
    length = MIN(fields_length(is), HEADER_OUR_LENGTH);
    memcpy(fields, is, sizeof(fields)); /* what is padding stays */
    qcow2_header_put_fields(h, fields);
    memcpy(fields + kept, is + kept, sizeof(uint32_t));
    g_assert(h->compression_type == 0 || length > HEADER_AT(compression_type));
    return bdrv_co_pwrite(f->file, (int64_t)from, (int64_t)(length - from), fields + from, 0);
}

int coroutine_fn qcow2_header_co_switch(HeaderFile *f, const Qcow2Header *h)
{
    int ret;

    co_mutex_lock(&f->lock);
    ret = co_switch_locked(f, h);
    co_mutex_unlock(&f->lock);
    return ret;
}

/* As the file has the bits: what memory says of others may be on its way. */
static int coroutine_fn co_add_corrupt_bit(HeaderFile *f) REQUIRES_LOCK(f->lock)
{
    uint8_t fields[HEADER_V3_LENGTH], *bits = fields + HEADER_AT(incompatible);
    int ret = bdrv_co_pread(f->file, 0, sizeof(fields), fields, 0);

    if (ret < 0 || ldbe32(fields + HEADER_AT(version)) < 3) {
        return ret;
    }
    stbe64(bits, ldbe64(bits) | QCOW2_INCOMPAT_CORRUPT);
    ret = bdrv_co_pwrite(f->file, HEADER_AT(incompatible), sizeof(uint64_t), bits, 0);
    return ret < 0 ? ret : bdrv_co_flush(f->file->bs);
}

int coroutine_fn qcow2_header_co_mark_corrupt(HeaderFile *f)
{
    int ret;

    co_mutex_lock(&f->lock);
    ret = co_add_corrupt_bit(f);
    co_mutex_unlock(&f->lock);
    return ret;
}

int coroutine_fn qcow2_header_co_write_new(BdrvChild *file, const Qcow2Header *h)
{
    size_t len = (size_t)1 << h->cluster_bits;
    uint8_t *buf = bdrv_try_blockalign(file->bs, len);
    int ret;

    if (!buf) {
        return -ENOMEM;
    }
    ret = qcow2_header_serialise(h, buf, len, NULL);
    if (ret == 0) {
        ret = bdrv_co_pwrite(file, 0, (int64_t)len, buf, 0);
    }
    mem_align_free(buf);
    return ret;
}
