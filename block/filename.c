/* SPDX-License-Identifier: MIT */
/*
 * The three forms of a filename: plain, proto:rest, json:{}.
 *
 * What stands before a ':' is a protocol unless a '/' comes first: "./a:b" is a plain file.
 */
#include "block/filename.h"

#include "block/backend.h"

#include <string.h>

size_t bdrv_protocol_prefix(const char *path)
{
    size_t n = strcspn(path, ":/");

    return path[n] == ':' ? n : 0;
}

bool bdrv_parse_json_filename(const char *filename, Options *options, GError **errp)
{
    g_autoptr(Options) parsed = opts_new();

    if (!opts_parse_json(parsed, filename + strlen("json:"), errp)) {
        return false;
    }
    opts_merge(options, parsed, false);
    return true;
}

static bool is_absolute(const char *path)
{
    size_t n = bdrv_protocol_prefix(path);

    return path[n ? n + 1 : 0] == '/';
}

char *blk_path_combine(const char *base, const char *filename)
{
    size_t prefix = bdrv_protocol_prefix(base);
    const char *after = prefix ? base + prefix + 1 : base;
    const char *slash = strrchr(after, '/');
    size_t keep = slash ? (size_t)(slash + 1 - base) : (size_t)(after - base);

    if (is_absolute(filename) || bdrv_protocol_prefix(filename)) {
        return g_strdup(filename);
    }
    if (!strncmp(base, "file:", 5)) { /* the plain form, without the prefix */
        base += 5;
        keep -= 5;
    }
    return g_strdup_printf("%.*s%s", (int)keep, base, filename);
}
