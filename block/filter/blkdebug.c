/* SPDX-License-Identifier: MIT */
/*
 * blkdebug: a filter that fails or stops requests where its rules say so.
 *
 * Drivers above tell events as they pass certain points.  An event arms the error rules that name
 * it (in the filter's current state), changes the state, or suspends the request that told it
 * (a breakpoint).  An armed rule fails the requests that it matches.
 */
#include "blkdebug.h"

#include <errno.h>
#include <string.h>

static BlkdebugNotify *notify_fn;
static void *notify_opaque;

void blkdebug_set_notify(BlkdebugNotify *fn, void *opaque)
{
    notify_fn = fn;
    notify_opaque = opaque;
}

static void notify(const char *tag, bool suspended)
{
    if (notify_fn) {
        notify_fn(tag, suspended, notify_opaque);
    }
}

static void suspended_free(SuspendedRequest *r)
{
    g_free(r->tag);
    g_free(r);
}

/* ---- Events ---- */

/* @r stops @stop's request: move it to the front of those that are suspended. */
static void suspend(BlkdebugState *s, const DebugRule *r, StoppedRequest *stop)
{
    SuspendedRequest *q = g_new0(SuspendedRequest, 1);

    q->request = stop;
    q->tag = g_strdup(r->tag);
    stop->stops++;
    g_ptr_array_insert(s->suspended, 0, q);
    if (!stop->tags) {
        stop->tags = g_ptr_array_new_with_free_func(g_free);
    }
    g_ptr_array_add(stop->tags, g_strdup(r->tag));
}

static void tell_suspended(void *tag, void *opaque)
{
    notify(tag, true);
}

/*
 * Arm, change state and suspend @stop's request for @event.  The newest rule comes first, so that
 * of several changes of the state the first of the file counts, and of several errors too.
 */
static void apply_event(BlkdebugState *s, BlkdebugEvent event, StoppedRequest *stop)
{
    uint64_t state = s->state;
    bool armed = false;

    for (guint i = s->rules->len; i-- > 0;) {
        DebugRule *r = g_ptr_array_index(s->rules, i);

        if (r->event != event || (r->state && r->state != state)) {
            continue;
        }
        switch (r->action) {
        case DEBUG_INJECT:
            if (!armed) {
                g_ptr_array_set_size(s->active, 0);
                armed = true;
            }
            g_ptr_array_insert(s->active, 0, r);
            break;
        case DEBUG_SET_STATE:
            s->state = r->new_state;
            break;
        case DEBUG_SUSPEND:
            if (stop) {
                suspend(s, r, stop);
                g_ptr_array_remove_index(s->rules, i); /* it stops one request */
            }
            break;
        }
    }
}

static void coroutine_fn blkdebug_co_debug_event(BlockDriverState *bs, BlkdebugEvent event)
{
    BlkdebugState *s = bs->opaque;
    StoppedRequest stop = { .co = coroutine_self() };

    spin_lock(&s->lock);
    apply_event(s, event, &stop);
    spin_unlock(&s->lock);
    if (stop.tags) {
        g_ptr_array_foreach(stop.tags, tell_suspended, NULL);
        g_ptr_array_unref(stop.tags);
        coroutine_yield(); /* once: the last resume wakes it */
    }
}

static int blkdebug_breakpoint(BlockDriverState *bs, const char *event, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    int e = blkdebug_find_event(event);
    DebugRule *r;

    if (e < 0) {
        return -ENOENT;
    }
    r = g_new0(DebugRule, 1);
    r->action = DEBUG_SUSPEND;
    r->event = (BlkdebugEvent)e;
    r->tag = g_strdup(tag);
    spin_lock(&s->lock);
    g_ptr_array_add(s->rules, r);
    spin_unlock(&s->lock);
    return 0;
}

/* Undo the newest stop that has @tag: false if there is none. */
static bool resume_one(BlkdebugState *s, const char *tag)
{
    Coroutine *co = NULL;
    bool found = false;

    spin_lock(&s->lock);
    for (guint i = 0; i < s->suspended->len && !found; i++) {
        SuspendedRequest *q = g_ptr_array_index(s->suspended, i);

        if (!strcmp(q->tag, tag)) {
            found = true;
            g_assert(q->request->stops > 0);
            co = --q->request->stops == 0 ? q->request->co : NULL;
            g_ptr_array_remove_index(s->suspended, i);
        }
    }
    spin_unlock(&s->lock);
    if (found) {
        notify(tag, false);
    }
    if (co) {
        aio_co_wake(co);
    }
    return found;
}

static int blkdebug_resume(BlockDriverState *bs, const char *tag)
{
    return resume_one(bs->opaque, tag) ? 0 : -ENOENT;
}

/* The error is about the breakpoint, whether or not a request that it stopped was resumed. */
static int blkdebug_remove_breakpoint(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    int ret = -ENOENT;

    spin_lock(&s->lock);
    for (guint i = 0; i < s->rules->len; i++) {
        DebugRule *r = g_ptr_array_index(s->rules, i);

        if (r->action == DEBUG_SUSPEND && !strcmp(r->tag, tag)) {
            g_ptr_array_remove_index(s->rules, i--);
            ret = 0;
        }
    }
    spin_unlock(&s->lock);
    while (resume_one(s, tag)) {
    }
    return ret;
}

static bool blkdebug_is_suspended(BlockDriverState *bs, const char *tag)
{
    BlkdebugState *s = bs->opaque;
    bool found = false;

    spin_lock(&s->lock);
    for (guint i = 0; i < s->suspended->len; i++) {
        found |= !strcmp(((SuspendedRequest *)g_ptr_array_index(s->suspended, i))->tag, tag);
    }
    spin_unlock(&s->lock);
    return found;
}

/* ---- Requests ---- */

/* 0, or the error of the armed rule that a request meets. */
static int coroutine_fn co_check(BlockDriverState *bs, int64_t offset, int64_t bytes,
                                 DebugIoType type)
{
    BlkdebugState *s = bs->opaque;
    bool immediately = true;
    int error = 0;

    spin_lock(&s->lock);
    for (guint i = 0; i < s->active->len; i++) {
        DebugRule *r = g_ptr_array_index(s->active, i);

        if (!(r->iotypes & (1u << type)) ||
            (r->offset >= 0 && bytes > 0 && (r->offset < offset || r->offset >= offset + bytes))) {
            continue;
        }
        error = r->error;
        immediately = r->immediately;
        if (r->once) {
            g_ptr_array_remove_index(s->active, i);
            g_ptr_array_remove(s->rules, r);
        }
        break;
    }
    spin_unlock(&s->lock);
    if (error && !immediately) {
        co_reschedule_self();
    }
    return -error;
}

static int coroutine_fn blkdebug_co_preadv(BlockDriverState *bs, int64_t offset, IOVector *v,
                                           unsigned flags)
{
    int ret = co_check(bs, offset, (int64_t)v->size, DEBUG_IO_READ);

    return ret < 0 ? ret : bdrv_co_preadv(bs->file, offset, v, flags);
}

static int coroutine_fn blkdebug_co_pwritev(BlockDriverState *bs, int64_t offset, IOVector *v,
                                            unsigned flags)
{
    int ret = co_check(bs, offset, (int64_t)v->size, DEBUG_IO_WRITE);

    return ret < 0 ? ret : bdrv_co_pwritev(bs->file, offset, v, flags);
}

static int coroutine_fn blkdebug_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset,
                                                  int64_t bytes, unsigned flags)
{
    int ret;

    if (bytes < bs->limits.request_alignment) {
        return -ENOTSUP;
    }
    ret = co_check(bs, offset, bytes, DEBUG_IO_WRITE_ZEROES);
    return ret < 0 ? ret : bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
}

static int coroutine_fn blkdebug_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    int ret;

    if (bytes < bs->limits.request_alignment) {
        return -ENOTSUP;
    }
    ret = co_check(bs, offset, bytes, DEBUG_IO_DISCARD);
    return ret < 0 ? ret : bdrv_co_pdiscard(bs->file, offset, bytes);
}

static int coroutine_fn blkdebug_co_flush(BlockDriverState *bs)
{
    return co_check(bs, 0, 0, DEBUG_IO_FLUSH);
}

static int coroutine_fn blkdebug_co_pwritev_compressed(BlockDriverState *bs, int64_t offset,
                                                       IOVector *v)
{
    return bdrv_co_pwritev_compressed(bs->file, offset, v);
}

static int coroutine_fn blkdebug_co_block_status(BlockDriverState *bs, bool want_zero,
                                                 int64_t offset, int64_t bytes, int64_t *pnum,
                                                 int64_t *map, BlockDriverState **file)
{
    int ret = co_check(bs, offset, bytes, DEBUG_IO_BLOCK_STATUS);

    if (ret < 0) {
        return ret;
    }
    *pnum = bytes;
    *map = offset;
    *file = bs->file->bs;
    return BLK_OFFSET_VALID | BLK_RAW;
}

static int64_t coroutine_fn blkdebug_co_getlength(BlockDriverState *bs)
{
    return bdrv_co_getlength(bs->file->bs);
}

static int coroutine_fn blkdebug_co_truncate(BlockDriverState *bs, int64_t bytes, bool exact,
                                             BlockPrealloc prealloc, unsigned flags, GError **errp)
{
    return bdrv_co_truncate(bs->file, bytes, exact, prealloc, flags, errp);
}

/* ---- Open ---- */

/* "blkdebug:[config]:image" */
static bool blkdebug_parse_filename(const char *filename, Options *o, GError **errp)
{
    const char *colon;

    if (!g_str_has_prefix(filename, "blkdebug:")) {
        opts_del(o, "filename");
        opts_set(o, "x-image", filename);
        return true;
    }
    opts_del(o, "filename");
    filename += strlen("blkdebug:");
    colon = strchr(filename, ':');
    if (!colon) {
        error_set(errp, EINVAL, "blkdebug requires both config file and image path");
        return false;
    }
    if (colon != filename) {
        g_autofree char *config = g_strndup(filename, (gsize)(colon - filename));

        opts_set(o, "config", config);
    }
    opts_set(o, "x-image", colon + 1);
    return true;
}

/* A limit that is a multiple of @unit; 0: not set. */
static int take_limit(Options *o, const char *key, uint64_t unit, uint64_t *ret, GError **errp)
{
    if (!opts_take_size(o, key, 0, ret, errp)) {
        return -EINVAL;
    }
    if (*ret >= INT32_MAX || *ret % unit) {
        return error_set(errp, EINVAL, "Cannot meet constraints with %s %" G_GUINT64_FORMAT, key,
                         *ret);
    }
    return 0;
}

static int take_align(BlkdebugState *s, Options *o, GError **errp)
{
    int ret = take_limit(o, "align", 1, &s->align, errp);

    if (ret == 0 && (s->align & (s->align - 1))) {
        return error_set(errp, EINVAL, "Cannot meet constraints with align %" G_GUINT64_FORMAT,
                         s->align);
    }
    return ret;
}

/* Once the file is open: its alignment counts too. */
static int take_limits(BlkdebugState *s, Options *o, uint64_t file_align, GError **errp)
{
    int ret = take_align(s, o, errp);
    uint64_t align = MAX(s->align, MAX(file_align, 1));

    ret = ret < 0 ? ret : take_limit(o, "max-transfer", align, &s->max_transfer, errp);
    ret = ret < 0 ? ret : take_limit(o, "opt-write-zero", align, &s->opt_write_zero, errp);
    ret = ret < 0 ? ret
                  : take_limit(o, "max-write-zero", MAX(s->opt_write_zero, align),
                               &s->max_write_zero, errp);
    ret = ret < 0 ? ret : take_limit(o, "opt-discard", align, &s->opt_discard, errp);
    return ret < 0
               ? ret
               : take_limit(o, "max-discard", MAX(s->opt_discard, align), &s->max_discard, errp);
}

/* "take-child-perms.0=write,…": a mask of BlockPerm. */
static int take_perms(Options *o, const char *key, unsigned *ret, GError **errp)
{
    static const char *const names[] = { "consistent-read", "write", "write-unchanged", "resize",
                                         NULL };
    g_autoptr(Options) sub = opts_take_subtree(o, key);

    for (guint i = 0; opts_count(sub) > 0; i++) {
        g_autofree char *index = g_strdup_printf("%u", i);
        g_autofree char *name = opts_take_str(sub, index);
        int bit = 0;

        if (!name) {
            return error_set(errp, EINVAL, "Unused option '%s' for [%s]", opts_first_key(sub), key);
        }
        while (names[bit] && strcmp(names[bit], name)) {
            bit++;
        }
        if (!names[bit]) {
            return error_set(errp, EINVAL, "Parameter 'null' does not accept value '%s'", name);
        }
        *ret |= 1u << bit;
    }
    return 0;
}

static const char *const strong_options[] = {
    "config",         "inject-error",   "set-state",   "align",       "max-transfer",
    "opt-write-zero", "max-write-zero", "opt-discard", "max-discard", NULL
};

/* More than blkdebug:config:image can say. */
static bool has_strong_option(const Options *o)
{
    for (int i = 1; strong_options[i]; i++) {
        if (opts_has(o, strong_options[i]) || opts_has_subtree(o, strong_options[i])) {
            return true;
        }
    }
    return false;
}

static int coroutine_fn blkdebug_co_open(BlockDriverState *bs, Options *o, int flags, GError **errp)
{
    BlkdebugState *s = bs->opaque;
    g_autofree char *config = opts_take_str(o, "config");
    g_autofree char *image = opts_take_str(o, "x-image");
    bool has_more = has_strong_option(o);
    int ret = 0;

    spin_init(&s->lock);
    s->rules = g_ptr_array_new_with_free_func((GDestroyNotify)blkdebug_rule_free);
    s->active = g_ptr_array_new();
    s->suspended = g_ptr_array_new_with_free_func((GDestroyNotify)suspended_free);
    s->state = 1;
    if (config && *config) {
        ret = blkdebug_read_config(s, config, errp);
    }
    ret = ret < 0 ? ret : blkdebug_take_rules(s, o, errp);
    ret = ret < 0 ? ret : take_perms(o, "take-child-perms", &s->take_perms, errp);
    ret = ret < 0 ? ret : take_perms(o, "unshare-child-perms", &s->unshare_perms, errp);
    if (ret < 0) {
        return ret;
    }
    bs->file = bdrv_co_open_child(image, o, "image", bs, flags | BLK_O_PROTOCOL, BDRV_ROLE_FILE,
                                  false, errp);
    if (!bs->file) {
        return -EINVAL;
    }
    ret = take_limits(s, o, bs->file->bs->limits.request_alignment, errp);
    if (ret < 0) {
        return ret;
    }
    bs->supported_write_flags = BLK_REQ_FUA & bs->file->bs->supported_write_flags;
    bs->supported_zero_flags = (BLK_REQ_FUA | BLK_REQ_MAY_UNMAP | BLK_REQ_NO_FALLBACK) &
                               bs->file->bs->supported_zero_flags;
    bs->supported_truncate_flags = bs->file->bs->supported_truncate_flags;
    if (!has_more && *bs->file->bs->exact_filename) {
        g_free(bs->exact_filename);
        bs->exact_filename =
            g_strdup_printf("blkdebug:%s:%s", config ? config : "", bs->file->bs->exact_filename);
    }
    apply_event(s, BLKDBG_NONE, NULL); /* rules without an event are armed from the start */
    return 0;
}

static int coroutine_fn blkdebug_co_close(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;

    g_clear_pointer(&s->active, g_ptr_array_unref);
    g_clear_pointer(&s->rules, g_ptr_array_unref);
    g_clear_pointer(&s->suspended, g_ptr_array_unref);
    return 0;
}

static void blkdebug_refresh_limits(BlockDriverState *bs)
{
    BlkdebugState *s = bs->opaque;
    BlockLimits *l = &bs->limits;

    if (bs->file) {
        *l = bs->file->bs->limits;
    }
    l->request_alignment = s->align ? (uint32_t)s->align : l->request_alignment;
    l->max_transfer = s->max_transfer ? (uint32_t)s->max_transfer : l->max_transfer;
    l->pwrite_zeroes_alignment =
        s->opt_write_zero ? (uint32_t)s->opt_write_zero : l->pwrite_zeroes_alignment;
    l->max_pwrite_zeroes = s->max_write_zero ? (int64_t)s->max_write_zero : l->max_pwrite_zeroes;
    l->pdiscard_alignment = s->opt_discard ? (uint32_t)s->opt_discard : l->pdiscard_alignment;
    l->max_pdiscard = s->max_discard ? (int64_t)s->max_discard : l->max_pdiscard;
}

/* A test's stand-in for a device: it tells no size on the host, as the reference's. (So a format
 * above sees no reservation of whole files either, and its map is the coarser for that.) */
static int64_t coroutine_fn blkdebug_co_allocated_size(BlockDriverState *bs)
{
    return -ENOTSUP;
}

/* What the user asks for is added to what the parents need. */
static void blkdebug_child_perm(BlockDriverState *bs, BdrvRole role, unsigned perm, unsigned shared,
                                unsigned *child_perm, unsigned *child_shared)
{
    BlkdebugState *s = bs->opaque;

    *child_perm = perm | s->take_perms;
    *child_shared = shared & ~s->unshare_perms;
}

const BlockDriver bdrv_blkdebug = {
    BLOCK_DRIVER_TABLE,
    .format_name = "blkdebug",
    .protocol_name = "blkdebug",
    .instance_size = sizeof(BlkdebugState),
    .is_filter = true,
    .parse_filename = blkdebug_parse_filename,
    .co_open = blkdebug_co_open,
    .co_close = blkdebug_co_close,
    .refresh_limits = blkdebug_refresh_limits,
    .child_perm = blkdebug_child_perm,
    .strong_options = strong_options,
    .co_preadv = blkdebug_co_preadv,
    .co_pwritev = blkdebug_co_pwritev,
    .co_pwrite_zeroes = blkdebug_co_pwrite_zeroes,
    .co_pdiscard = blkdebug_co_pdiscard,
    .co_pwritev_compressed = blkdebug_co_pwritev_compressed,
    .co_block_status = blkdebug_co_block_status,
    .co_flush_to_disk = blkdebug_co_flush,
    .co_truncate = blkdebug_co_truncate,
    .co_getlength = blkdebug_co_getlength,
    .co_get_allocated_size = blkdebug_co_allocated_size,
    .co_debug_event = blkdebug_co_debug_event,
    .debug_breakpoint = blkdebug_breakpoint,
    .debug_remove_breakpoint = blkdebug_remove_breakpoint,
    .debug_resume = blkdebug_resume,
    .debug_is_suspended = blkdebug_is_suspended,
};
