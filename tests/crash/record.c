/* SPDX-License-Identifier: MIT */
/* crash-record: the filter that writes the log. */
#include "log.h"

#include "block/io.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

#define MAX_YIELDS 4
#define LONG_YIELDS 200 /* now and then: all that others do fits in between */

typedef struct RecordState {
    uint8_t file;
} RecordState;

Log *crash_log;
bool crash_dead;
unsigned crash_die, crash_fault, crash_faults_met;
uint64_t crash_yield_seed;

static void event_clear(gpointer p)
{
    g_free(((Event *)p)->data);
}

Log *log_new(void)
{
    Log *l = g_new0(Log, 1);

    l->events = g_array_new(FALSE, FALSE, sizeof(Event));
    g_array_set_clear_func(l->events, event_clear);
    return l;
}

void log_free(Log *l)
{
    if (l) {
        g_array_unref(l->events);
        g_clear_pointer(&l->memo, g_hash_table_unref);
        g_free(l);
    }
}

uint32_t log_add(Log *l, Event e)
{
    g_array_append_val(l->events, e);
    return l->events->len - 1;
}

void log_cut(Log *l, uint32_t n)
{
    g_array_set_size(l->events, n);
    for (uint32_t i = 0; i < n; i++) {
        Event *e = log_event(l, i);

        if (e->type <= EV_TRUNCATE && e->done >= n) {
            e->done = 0;
        }
    }
}

/* ---- The filter ---- */

static void coroutine_fn co_dawdle(void)
{
    unsigned n;

    if (!crash_log) {
        return;
    }
    crash_yield_seed = mix64(crash_yield_seed);
    n = crash_yield_seed % (2 * MAX_YIELDS);
    n = n > MAX_YIELDS ? n - MAX_YIELDS : 0;
    if ((crash_yield_seed >> 32) % 24 == 0) {
        n = LONG_YIELDS;
    }
    for (; n; n--) {
        co_reschedule_self();
    }
}

static uint32_t begin(BlockDriverState *bs, EventType type, int64_t offset, int64_t bytes,
                      uint8_t *data)
{
    if (!crash_log) {
        g_free(data);
        return 0;
    }
    return log_add(crash_log, (Event){ .type = type,
                                       .file = ((RecordState *)bs->opaque)->file,
                                       .offset = (uint64_t)offset,
                                       .bytes = (uint64_t)bytes,
                                       .data = data });
}

static void end(uint32_t ref, EventType type)
{
    if (crash_log) {
        uint32_t at =
            log_add(crash_log,
                    (Event){ .type = type, .ref = ref, .file = log_event(crash_log, ref)->file });

        log_event(crash_log, ref)->done = at;
    }
}

/* What the process would do after its death is not done. */
static bool is_dead(void)
{
    if (crash_log && crash_die && --crash_die == 0) {
        crash_dead = true;
    }
    return crash_dead;
}

static bool record_parse_filename(const char *filename, Options *options, GError **errp)
{
    opts_set(options, "name", strchr(filename, ':') + 1);
    opts_del(options, "filename");
    return true;
}

static int coroutine_fn record_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "name");
    g_autoptr(Options) below = opts_new();

    if (!name) {
        return error_set(errp, EINVAL, "name is missing");
    }
    ((RecordState *)bs->opaque)->file = !strcmp(name, "data");
    opts_set(below, "driver", "crash-mem");
    opts_set(below, "name", name);
    opts_put_subtree(o, "image", below);
    bs->file = bdrv_co_open_child(NULL, o, "image", bs, flags | BLK_O_PROTOCOL, BDRV_ROLE_FILE,
                                  false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    bs->supported_zero_flags = bs->file->bs->supported_zero_flags;
    bs->supported_truncate_flags = bs->file->bs->supported_truncate_flags;
    return 0;
}

static int coroutine_fn record_co_create(const char *filename, Options *opts, GError **errp)
{
    g_autofree char *below = g_strconcat("crash-mem:", filename, NULL);

    return bdrv_co_create_file(below, opts, errp);
}

static int64_t coroutine_fn record_co_getlength(BlockDriverState *bs)
{
    return bdrv_co_getlength(bs->file->bs);
}

static int coroutine_fn record_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                         unsigned flags)
{
    int ret;

    co_dawdle();
    ret = bdrv_co_preadv(bs->file, offset, v, flags);
    co_dawdle();
    return ret;
}

/* What of @bytes reaches the file: all but when it is the turn of the one that fails. */
static int64_t meet_fault(int64_t bytes, int *ret)
{
    *ret = 0;
    if (!crash_log || !crash_fault || --crash_fault) {
        return bytes;
    }
    crash_faults_met++;
    *ret = -ENOSPC;
    crash_yield_seed = mix64(crash_yield_seed);
    switch (crash_yield_seed % 3) {
    case 0:
        return 0;
    case 1:
        return bytes / 2 / 512 * 512;
    default:
        return bytes;
    }
}

static int coroutine_fn record_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                          unsigned flags)
{
    IOVector part;
    int64_t bytes;
    uint8_t *data;
    uint32_t ref;
    int ret, fault;

    if (is_dead()) {
        return 0;
    }
    bytes = meet_fault((int64_t)v->size, &fault);
    if (bytes == 0) {
        return fault;
    }
    data = g_malloc((size_t)bytes);
    iov_to_buf(v, 0, data, (size_t)bytes);
    ref = begin(bs, EV_WRITE, offset, bytes, data);
    co_dawdle();
    ret = iov_init_slice(&part, v, 0, (size_t)bytes);
    ret = ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, &part, flags);
    iov_clear(&part);
    end(ref, EV_DONE);
    co_dawdle();
    return ret < 0 ? ret : fault;
}

static int coroutine_fn record_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                                unsigned flags)
{
    uint32_t ref;
    int ret, fault;

    if (is_dead()) {
        return 0;
    }
    bytes = meet_fault(bytes, &fault);
    if (bytes == 0) {
        return fault;
    }
    ref = begin(bs, EV_ZERO, offset, bytes, NULL);
    co_dawdle();
    ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    end(ref, EV_DONE);
    co_dawdle();
    return ret < 0 ? ret : fault;
}

static int coroutine_fn record_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    uint32_t ref;
    int ret;

    if (is_dead()) {
        return 0;
    }
    ref = begin(bs, EV_PUNCH, offset, bytes, NULL);
    co_dawdle();
    ret = bdrv_co_pdiscard(bs->file, offset, bytes);
    end(ref, EV_DONE);
    co_dawdle();
    return ret;
}

static int coroutine_fn record_co_flush(BlockDriverState *bs)
{
    uint32_t ref;

    if (is_dead()) {
        return 0;
    }
    ref = begin(bs, EV_SYNC, 0, 0, NULL);
    co_dawdle();
    end(ref, EV_SYNCED);
    co_dawdle();
    return 0;
}

static int coroutine_fn record_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                           BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    uint32_t ref;
    int ret;

    if (is_dead()) {
        return 0;
    }
    ref = begin(bs, EV_TRUNCATE, bytes, 0, NULL);
    co_dawdle();
    ret = bdrv_co_truncate(bs->file, bytes, exact, prealloc, flags, errp);
    end(ref, EV_DONE);
    co_dawdle();
    return ret;
}

static const char *const strong_options[] = { "name", NULL };

static const BlockDriver record_driver = {
    BLOCK_DRIVER_TABLE,
    .format_name = "crash-record",
    .protocol_name = "crash-record",
    .instance_size = sizeof(RecordState),
    .is_filter = true,
    .strong_options = strong_options,
    .parse_filename = record_parse_filename,
    .co_open = record_co_open,
    .co_create = record_co_create,
    .co_getlength = record_co_getlength,
    .co_preadv = record_co_preadv,
    .co_pwritev = record_co_pwritev,
    .co_pwrite_zeroes = record_co_pwrite_zeroes,
    .co_pdiscard = record_co_pdiscard,
    .co_flush_to_disk = record_co_flush,
    .co_truncate = record_co_truncate,
};

void record_register(void)
{
    g_assert_true(block_register_driver(&record_driver, NULL));
}
