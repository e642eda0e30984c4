/* SPDX-License-Identifier: MIT */
/* Walks a snapshot's tables by itself, without the driver that is tested. */
#include "shared.h"

#include "util/bytes.h"

#include <glib/gstdio.h>
#include <sys/wait.h>

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define COMPRESSED (UINT64_C(1) << 62)

struct Shared {
    MemFile was;
    uint64_t cluster;
    GArray *clusters; /* uint64_t, offsets */
};

/* ---- The reference's tool ---- */

static bool run_tool(const char *path, const char *const *command, const char *last)
{
    g_autofree char *name =
        g_strdup_printf("json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":\"file\","
                        "\"filename\":\"%s\"}}",
                        path);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    int status = -1;

    for (; *command; command++) {
        g_ptr_array_add(argv, (gpointer)*command);
    }
    g_ptr_array_add(argv, name);
    g_ptr_array_add(argv, (gpointer)last);
    g_ptr_array_add(argv, NULL);
    return g_spawn_sync(NULL, (char **)argv->pdata, NULL,
                        G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL, NULL,
                        &status, NULL) &&
           WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool shared_edit(MemFile *image, const char *const *command, const char *last)
{
    g_autofree char *dir = g_dir_make_tmp("crash-XXXXXX", NULL), *path = NULL, *data = NULL;
    gsize len;
    bool ok;

    if (!dir) {
        return false;
    }
    path = g_build_filename(dir, "image", NULL);
    ok = mem_save(image, path) && run_tool(path, command, last) &&
         g_file_get_contents(path, &data, &len, NULL);
    if (ok) {
        mem_clear(image);
        mem_write(image, 0, data, len);
    }
    g_unlink(path);
    g_rmdir(dir);
    return ok;
}

bool shared_make_snapshot(MemFile *image)
{
    const char *argv[] = { "qemu-img", "snapshot", "-c", "s", NULL };

    return shared_edit(image, argv, NULL);
}

/* ---- Its clusters ---- */

uint64_t shared_be64(const MemFile *f, uint64_t at)
{
    uint8_t b[8];

    mem_read(f, at, b, sizeof(b));
    return ldbe64(b);
}

uint32_t shared_be32(const MemFile *f, uint64_t at)
{
    uint8_t b[4];

    mem_read(f, at, b, sizeof(b));
    return ldbe32(b);
}

static void add(Shared *s, uint64_t offset)
{
    offset &= ~(s->cluster - 1);
    g_array_append_val(s->clusters, offset);
}

static void add_l2(Shared *s, uint64_t table, unsigned entry_size)
{
    add(s, table);
    for (uint64_t at = 0; at < s->cluster; at += entry_size) {
        uint64_t e = shared_be64(&s->was, table + at);

        if (!(e & COMPRESSED) && (e & OFFSET_MASK)) { /* others pack data behind compressed ones */
            add(s, e & OFFSET_MASK);
        }
    }
}

Shared *shared_new(const MemFile *image)
{
    uint64_t snapshots = shared_be64(image, 64), l1;
    unsigned entry_size = shared_be32(image, 4) == 3 && (shared_be64(image, 72) & 16) ? 16 : 8;
    Shared *s;

    if (!shared_be32(image, 60)) {
        return NULL;
    }
    s = g_new0(Shared, 1);
    s->cluster = UINT64_C(1) << shared_be32(image, 20);
    s->clusters = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    mem_copy(&s->was, image);
    l1 = shared_be64(image, snapshots);
    add(s, snapshots);
    add(s, l1);
    for (uint32_t i = 0; i < shared_be32(image, snapshots + 8); i++) {
        uint64_t table = shared_be64(image, l1 + i * 8) & OFFSET_MASK;

        if (table) {
            add_l2(s, table, entry_size);
        }
    }
    return s;
}

void shared_free(Shared *s)
{
    if (s) {
        mem_clear(&s->was);
        g_array_unref(s->clusters);
        g_free(s);
    }
}

static bool same(const MemFile *a, const MemFile *b, uint64_t offset, uint64_t len)
{
    uint8_t x[512], y[512];

    for (uint64_t end = offset + len; offset < end; offset += sizeof(x)) {
        size_t page = offset / MEM_PAGE;

        if (page < a->npages && page < b->npages && a->pages[page] == b->pages[page]) {
            continue;
        }
        mem_read(a, offset, x, sizeof(x));
        mem_read(b, offset, y, sizeof(y));
        if (memcmp(x, y, sizeof(x))) {
            return false;
        }
    }
    return true;
}

char *shared_check(const Shared *s, const MemFile *state)
{
    for (guint i = 0; i < s->clusters->len; i++) {
        uint64_t at = g_array_index(s->clusters, uint64_t, i);

        if (!same(&s->was, state, at, s->cluster)) {
            return g_strdup_printf(
                "the snapshot's cluster at 0x%" G_GINT64_MODIFIER "x has changed", at);
        }
    }
    return NULL;
}
