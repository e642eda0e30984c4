/* SPDX-License-Identifier: MIT */
/*
 * The list of drivers: those of the tree (block/drivers.c) and those that others add.
 *
 * A registered table is a copy whose missing callbacks are filled in (defaults.c).
 *
 * INV-REG-1  The list of drivers only grows; a reader takes its head once and walks. Adding to it
 *            takes register_lock.
 */
#include "block/backend.h"
#include "block/driver/registry.h"
#include "block/filename.h"
#include "util/thread-mutex.h"

#include <string.h>
#include <sys/stat.h>

typedef struct Registered Registered;
struct Registered {
    BlockDriver drv;
    _Atomic(Registered *) next;
};

static _Atomic(Registered *) drivers; /* INV-REG-1 */
static ThreadMutex register_lock = THREAD_MUTEX_INIT;
static _Atomic(Registered *) *end GUARDED_BY(register_lock) = &drivers;

const char *const blk_prealloc_names[] = { "off", "metadata", "falloc", "full", NULL };

const char *const blkdebug_event_names[] = {
#define X(e, n) n,
    BLKDEBUG_EVENTS(X)
#undef X
        NULL
};

/* ---- Registering ---- */

/* Is @name that of a driver or, with @protocol, of a protocol? */
static bool is_taken(const char *name, bool protocol) REQUIRES_LOCK(register_lock)
{
    for (Registered *r = atomic_load(&drivers); r; r = atomic_load(&r->next)) {
        if (!g_strcmp0(protocol ? r->drv.protocol_name : r->drv.format_name, name)) {
            return true;
        }
    }
    return false;
}

/* What no driver can do without; @d is as long as our own tables. */
static bool check_table(const BlockDriver *d, GError **errp) REQUIRES_LOCK(register_lock)
{
    const char *name = d->format_name;

    if (!name || !*name) {
        error_set(errp, EINVAL, "A block driver needs a name");
    } else if (is_taken(name, false) || (d->protocol_name && is_taken(d->protocol_name, true))) {
        error_set(errp, EEXIST, "There is a block driver '%s' already", name);
    } else if (!d->co_open) {
        error_set(errp, EINVAL, "Block driver '%s' cannot open anything", name);
    } else if (!d->co_preadv && !d->is_filter) {
        error_set(errp, EINVAL, "Block driver '%s' cannot read", name);
    } else if (!d->co_pwritev && !d->is_filter && !d->read_only) {
        error_set(errp, EINVAL,
                  "Block driver '%s' cannot write and does not say that it is read-only", name);
    } else if (d->read_only && (d->co_pwritev || d->co_pwrite_zeroes || d->co_pwritev_compressed)) {
        error_set(errp, EINVAL, "Block driver '%s' says that it is read-only, and can write", name);
    } else {
        return true;
    }
    return false;
}

static bool check_version(const BlockDriver *drv, GError **errp)
{
    if (drv->version != BLOCK_DRIVER_VERSION) {
        error_set(errp, EINVAL,
                  "The block driver was built for version %u of the driver interface, not for %d",
                  drv->version, BLOCK_DRIVER_VERSION);
    } else if (drv->table_size > sizeof(BlockDriver)) {
        error_set(errp, EINVAL, "The block driver was built for a later release");
    } else if (drv->table_size < offsetof(BlockDriver, probe)) {
        error_set(errp, EINVAL, "The block driver's table is too short");
    } else {
        return true;
    }
    return false;
}

static bool add(const BlockDriver *drv, GError **errp) REQUIRES_LOCK(register_lock)
{
    g_autofree Registered *r = NULL;
    _Atomic(Registered *) *next;

    if (!check_version(drv, errp)) {
        return false;
    }
    r = g_new0(Registered, 1);
    memcpy(&r->drv, drv, drv->table_size);
    if (!check_table(&r->drv, errp)) {
        return false;
    }
    bdrv_driver_complete(&r->drv);
    next = &r->next;
    atomic_store(end, g_steal_pointer(&r));
    end = next;
    return true;
}

static gpointer add_builtin(gpointer unused)
{
    thread_mutex_lock(&register_lock);
    for (size_t i = 0; bdrv_builtin[i]; i++) {
        GError *err = NULL;

        (void)add(bdrv_builtin[i], &err);
        g_assert_no_error(err);
    }
    thread_mutex_unlock(&register_lock);
    return NULL;
}

static const Registered *first_driver(void)
{
    static GOnce once = G_ONCE_INIT;

    g_once(&once, add_builtin, NULL);
    return atomic_load(&drivers);
}

bool block_register_driver(const BlockDriver *drv, GError **errp)
{
    bool ok;

    (void)first_driver(); /* what is in the tree has its name first */
    thread_mutex_lock(&register_lock);
    ok = add(drv, errp);
    thread_mutex_unlock(&register_lock);
    return ok;
}

/* ---- Finding ---- */

/* Calls @fn for each driver until it returns true; that driver, or NULL. */
typedef bool DriverTest(const BlockDriver *drv, void *opaque);

static const BlockDriver *find_if(DriverTest *fn, void *opaque)
{
    for (const Registered *r = first_driver(); r; r = atomic_load(&r->next)) {
        if (fn(&r->drv, opaque)) {
            return &r->drv;
        }
    }
    return NULL;
}

static bool has_name(const BlockDriver *drv, void *name)
{
    return !strcmp(drv->format_name, name);
}

const BlockDriver *bdrv_find_driver(const char *name)
{
    return find_if(has_name, (void *)(uintptr_t)name);
}

const BlockDriver *bdrv_find_format(const char *name)
{
    return bdrv_find_driver(name);
}

bool bdrv_is_protocol_driver(const BlockDriver *drv)
{
    return drv->protocol_name != NULL;
}

const BlockDriver *bdrv_plain_file_driver(const char *filename)
{
    struct stat st;

    return bdrv_find_driver(stat(filename, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
                                ? "host_device"
                                : "file");
}

static bool is_overlay(const BlockDriver *drv, void *unused)
{
    return drv->supports_backing && (drv->features & BLK_CAN_CREATE);
}

const BlockDriver *bdrv_overlay_driver(void)
{
    return find_if(is_overlay, NULL);
}

typedef struct ProtocolName {
    const char *name;
    size_t len;
} ProtocolName;

static bool has_protocol(const BlockDriver *drv, void *opaque)
{
    const ProtocolName *p = opaque;

    return drv->protocol_name && strlen(drv->protocol_name) == p->len &&
           !strncmp(drv->protocol_name, p->name, p->len);
}

const BlockDriver *bdrv_find_protocol(const char *filename)
{
    ProtocolName p = { filename, bdrv_protocol_prefix(filename) };

    if (p.len) {
        return find_if(has_protocol, &p);
    }
    return bdrv_plain_file_driver(filename);
}

typedef struct Probe {
    const uint8_t *buf;
    size_t len;
    const char *filename;
    int score;
    const BlockDriver *best;
} Probe;

static bool probe_one(const BlockDriver *drv, void *opaque)
{
    Probe *p = opaque;
    int score = drv->probe(p->buf, p->len, p->filename);

    if (score > p->score) {
        p->score = score;
        p->best = drv;
    }
    return false;
}

const BlockDriver *bdrv_probe(const uint8_t *buf, size_t len, const char *filename,
                              const char **foreign)
{
    Probe p = { buf, len, filename ? filename : "", 0, bdrv_find_driver("raw") };
    int score;

    find_if(probe_one, &p);
    /* As the reference does, that it is not told other formats than there. */
    *foreign = bdrv_probe_foreign(buf, MIN(len, 512), filename, &score);
    return score > p.score && !bdrv_find_format(*foreign) ? NULL : p.best;
}

static bool collect_name(const BlockDriver *drv, void *opaque)
{
    GPtrArray *names = opaque;

    g_ptr_array_add(names, g_strdup(drv->format_name));
    return false;
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **blk_format_names(void)
{
    GPtrArray *names = g_ptr_array_new();

    find_if(collect_name, names);
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}
