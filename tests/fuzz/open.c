/* SPDX-License-Identifier: MIT */
/* Opening inputs: see open.h. */
#include "open.h"

#include <string.h>

static MemFile *backing, *data_file;

void fuzz_files_begin(MemFile *file)
{
    uint8_t page[4096];

    mem_file_free(backing);
    mem_file_free(data_file);
    backing = mem_file_new(0);
    data_file = mem_file_new(0);
    memset(page, FUZZ_BACKING_PATTERN, sizeof(page));
    for (int i = 0; i < 48; i++) {
        (void)mem_file_write(backing, i * sizeof(page), page, sizeof(page));
    }
    mem_driver_set(0, file);
    mem_driver_set(1, data_file);
    mem_driver_set(2, backing);
}

BlockBackend *fuzz_open(const Image *img, int flags, GError **err)
{
    Options *o = opts_new();
    uint8_t ctl = img->ctl[0];

    opts_set(o, "driver", "qcow2");
    opts_set(o, "file.driver", "fuzz-mem");
    opts_set(o, "references", "none");
    if (ctl & CTL_BACKING) {
        opts_set(o, "backing.driver", "raw");
        opts_set(o, "backing.file.driver", "fuzz-mem");
        opts_set(o, "backing.file.id", "2");
    } else {
        flags |= BLK_O_NO_BACKING;
    }
    if (ctl & CTL_DATA_FILE) {
        opts_set(o, "data-file.driver", "fuzz-mem");
        opts_set(o, "data-file.id", "1");
    }
    if (ctl & CTL_LAZY) {
        opts_set(o, "lazy-refcounts", "on");
    }
    if (ctl & CTL_NO_UNREF) {
        opts_set(o, "discard-no-unref", "on");
    }
    if (ctl & CTL_DISCARD_OTHER) {
        opts_set(o, "pass-discard-other", "on");
    }
    if (ctl & CTL_SMALL_CACHE) {
        opts_set(o, "cache-size", "4k");
        opts_set(o, "l2-cache-entry-size", "512");
    }
    return blk_open(NULL, o, flags | BLK_O_UNMAP, err);
}

/* ---- Options ---- */

static bool is_harmless(const char *key, const char *value)
{
    static const char *const drivers[] = { "raw", "qcow2", "blkdebug", "null-co", "fuzz-mem" };
    static const char *const bad[] = { "filename",   "x-image",  "config",  "latency-ns",
                                       "references", "snapshot", "locking", "aio" };

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        if (strstr(key, bad[i])) {
            return false;
        }
    }
    if (!g_str_has_suffix(key, "driver")) {
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (!strcmp(value, drivers[i])) {
            return true;
        }
    }
    return false;
}

static void collect(const char *key, const char *value, void *opaque)
{
    if (!is_harmless(key, value)) {
        g_ptr_array_add(opaque, g_strdup(key));
    }
}

void fuzz_tame_options(Options *o)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

    opts_foreach(o, collect, keys);
    for (guint i = 0; i < keys->len; i++) {
        opts_del(o, g_ptr_array_index(keys, i));
    }
    opts_set(o, "references", "none");
}
