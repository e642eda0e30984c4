/* SPDX-License-Identifier: MIT */
/*
 * The drivers, one line each, and those that others add.
 *
 * INV-REG-1  The list of added drivers only grows; a reader takes its head once and walks.
 */
#include "block/block-int.h"

#include <string.h>
#include <sys/stat.h>

extern const BlockDriver bdrv_file, bdrv_host_device, bdrv_null_co, bdrv_null_aio, bdrv_raw,
    bdrv_blkdebug, bdrv_pass, bdrv_qcow2;

static const BlockDriver *const builtin[] = {
    &bdrv_file, &bdrv_host_device, &bdrv_null_co, &bdrv_null_aio,
    &bdrv_raw,  &bdrv_blkdebug,    &bdrv_pass,    &bdrv_qcow2,
};

typedef struct AddedDriver AddedDriver;
struct AddedDriver {
    const BlockDriver *drv;
    AddedDriver *next;
};

static _Atomic(AddedDriver *) added; /* INV-REG-1 */

const char *const blk_prealloc_names[] = { "off", "metadata", "falloc", "full", NULL };

const char *const blkdebug_event_names[] = {
#define X(e, n) n,
    BLKDEBUG_EVENTS(X)
#undef X
        NULL
};

void block_register_driver(const BlockDriver *drv)
{
    AddedDriver *a = g_new0(AddedDriver, 1);

    a->drv = drv;
    a->next = atomic_load(&added);
    while (!atomic_compare_exchange_weak(&added, &a->next, a)) {
    }
}

/* Calls @fn for each driver until it returns true; that driver, or NULL. */
typedef bool DriverTest(const BlockDriver *drv, void *opaque);

static const BlockDriver *find_if(DriverTest *fn, void *opaque)
{
    for (size_t i = 0; i < G_N_ELEMENTS(builtin); i++) {
        if (fn(builtin[i], opaque)) {
            return builtin[i];
        }
    }
    for (AddedDriver *a = atomic_load(&added); a; a = a->next) {
        if (fn(a->drv, opaque)) {
            return a->drv;
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

    return stat(filename, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode))
               ? &bdrv_host_device
               : &bdrv_file;
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
    int score = drv->probe ? drv->probe(p->buf, p->len, p->filename) : 0;

    if (score > p->score) {
        p->score = score;
        p->best = drv;
    }
    return false;
}

const BlockDriver *bdrv_probe(const uint8_t *buf, size_t len, const char *filename,
                              const char **foreign)
{
    Probe p = { buf, len, filename ? filename : "", 0, &bdrv_raw };
    int score;

    find_if(probe_one, &p);
    *foreign = bdrv_probe_foreign(buf, len, filename, &score);
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
