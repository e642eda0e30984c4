/* SPDX-License-Identifier: MIT */
/* Options for a person's eye: dotted keys as indented lines, numbers as [N]. */
#include "util/opts-int.h"

#include <string.h>

static void append_name(GString *out, int depth, const char *name, bool leaf)
{
    g_autofree char *said = g_strdelimit(g_strdup(name), "-_", ' ');

    if (g_ascii_isdigit(*name)) {
        g_string_append_printf(out, "%*s[%s]:%s", depth * 4, "", said, leaf ? "" : "\n");
    } else {
        g_string_append_printf(out, "%*s%s:%s", depth * 4, "", said, leaf ? "" : "\n");
    }
}

static void append_value(GString *out, const OptEntry *e)
{
    const char *v = e->value;
    bool is_bool = e->kind == OPT_BOOL;

    if (*v) {
        g_string_append_printf(out, " %s", !is_bool ? v : !strcmp(v, "on") ? "true" : "false");
    }
    g_string_append_c(out, '\n');
}

char *opts_to_text(const Options *o, int indent)
{
    GString *out = g_string_new(NULL);
    g_auto(GStrv) before = g_new0(char *, 1);

    for (guint i = 0; i < o->entries->len; i++) {
        const OptEntry *e = g_ptr_array_index(o->entries, i);
        char **parts = g_strsplit(e->key, ".", -1);
        guint n = g_strv_length(parts), same = 0;

        while (same + 1 < n && before[same] && !strcmp(before[same], parts[same])) {
            same++;
        }
        for (guint d = same; d < n; d++) {
            append_name(out, indent + (int)d, parts[d], d == n - 1);
        }
        append_value(out, e);
        g_strfreev(before);
        before = parts;
    }
    return g_string_free(out, FALSE);
}
