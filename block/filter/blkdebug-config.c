/* SPDX-License-Identifier: MIT */
/* Where blkdebug's rules come from: a file of "[inject-error]" and "[set-state]" groups,
 * options. */
#include "blkdebug.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_ERRNO 4095 /* as the kernel has it: more would be no error where the sign tells */

static const char *const iotype_names[] = { "read",    "write", "write-zeroes",
                                            "discard", "flush", "block-status",
                                            NULL };

void blkdebug_rule_free(DebugRule *r)
{
    g_free(r->tag);
    g_free(r);
}

int blkdebug_find_event(const char *name)
{
    for (int i = 0; blkdebug_event_names[i]; i++) {
        if (!strcmp(blkdebug_event_names[i], name)) {
            return i;
        }
    }
    return -1;
}

static int bad_value(const char *value, GError **errp)
{
    return error_set(errp, EINVAL, "invalid parameter value: %s", value);
}

static int take_event(DebugRule *r, Options *o, GError **errp)
{
    g_autofree char *name = opts_take_str(o, "event");
    int e;

    if (!name) {
        return error_set(errp, EINVAL, "Missing event name for rule");
    }
    e = blkdebug_find_event(name);
    if (e < 0) {
        return bad_value(name, errp);
    }
    r->event = (BlkdebugEvent)e;
    return 0;
}

static int take_inject(DebugRule *r, Options *o, GError **errp)
{
    g_autofree char *iotype_s = NULL;
    g_autofree char *errno_s = g_strdup(opts_peek(o, "errno"));
    uint64_t error, sector;
    int iotype;

    if (!opts_take_uint(o, "state", 0, &r->state, errp) ||
        !opts_take_uint(o, "errno", EIO, &error, errp) ||
        !opts_take_uint(o, "sector", UINT64_MAX, &sector, errp) ||
        !opts_take_bool(o, "once", false, &r->once, errp) ||
        !opts_take_bool(o, "immediately", false, &r->immediately, errp)) {
        return -EINVAL;
    }
    iotype_s = g_strdup(opts_peek(o, "iotype"));
    if (!opts_take_enum(o, "iotype", iotype_names, -1, &iotype, NULL)) {
        return bad_value(iotype_s, errp);
    }
    if (error > MAX_ERRNO) {
        return bad_value(errno_s, errp);
    }
    r->error = (int)error;
    /* Without an iotype all but block-status: that one is asked for too often. */
    r->iotypes = iotype < 0 ? (1u << DEBUG_IO_BLOCK_STATUS) - 1 : 1u << iotype;
    if (sector == UINT64_MAX) {
        r->offset = -1; /* any */
    } else {
        r->offset = sector <= INT64_MAX / 512 ? (int64_t)sector * 512 : INT64_MAX; /* ... none */
    }
    return 0;
}

typedef struct KnownKeys {
    const char *const *names;
    const char *unknown; /* the first that is none of them */
} KnownKeys;

static void check_key(const char *key, const char *value, void *opaque)
{
    KnownKeys *k = opaque;

    if (!k->unknown && !g_strv_contains(k->names, key)) {
        k->unknown = key;
    }
}

static int add_rule(BlkdebugState *s, const char *group, Options *o, GError **errp)
{
    static const char *const inject_keys[] = { "event",  "state", "errno",       "iotype",
                                               "sector", "once",  "immediately", NULL };
    static const char *const state_keys[] = { "event", "state", "new_state", NULL };
    KnownKeys k = { .names = strcmp(group, "inject-error") ? state_keys : inject_keys };
    DebugRule *r;
    int ret;

    opts_foreach(o, check_key, &k);
    if (k.unknown) {
        return error_set(errp, EINVAL, "Invalid parameter '%s'", k.unknown);
    }
    r = g_new0(DebugRule, 1);
    ret = take_event(r, o, errp);

    if (ret == 0 && !strcmp(group, "inject-error")) {
        r->action = DEBUG_INJECT;
        ret = take_inject(r, o, errp);
    } else if (ret == 0) {
        r->action = DEBUG_SET_STATE;
        if (!opts_take_uint(o, "state", 0, &r->state, errp) ||
            !opts_take_uint(o, "new_state", 0, &r->new_state, errp)) {
            ret = -EINVAL;
        }
    }
    if (ret < 0) {
        blkdebug_rule_free(r);
        return ret;
    }
    g_ptr_array_add(s->rules, r);
    return 0;
}

/*
 * A line "key = "value"" into @o.  The key is the first word, whatever it holds; what is not in
 * quotes after " = " is no value, and what follows the value is not looked at: the reference's
 * rules.
 */
static void parse_line(Options *o, const char *line)
{
    size_t len = strcspn(line, " \t\r");
    g_autofree char *key = g_strndup(line, len);
    g_autofree char *value = NULL;
    const char *p = line + len;

    p += strspn(p, " \t\r");
    if (*p == '=') {
        p++;
        p += strspn(p, " \t\r");
        if (*p == '"') {
            p++;
            value = g_strndup(p, strcspn(p, "\""));
        }
    }
    opts_set(o, key, value ? value : "");
}

static bool known_group(const char *name)
{
    return !strcmp(name, "inject-error") || !strcmp(name, "set-state");
}

/* The groups of a file, one after the other. */
static int parse_config(BlkdebugState *s, char **lines, GError **errp)
{
    g_autofree char *group = NULL;
    g_autoptr(Options) o = opts_new();
    int ret = 0;

    for (int i = 0; lines[i] && ret == 0; i++) {
        char *line = g_strstrip(lines[i]);

        if (!*line || *line == '#') {
            continue;
        }
        if (*line == '[') {
            ret = group ? add_rule(s, group, o, errp) : 0;
            g_free(group);
            group = g_strndup(line + 1, strcspn(line + 1, " ]"));
            if (ret == 0 && !known_group(group)) {
                ret = error_set(errp, EINVAL, "There is no option group '%s'", group);
            }
        } else if (!group) {
            ret = error_set(errp, EINVAL, "no group defined");
        } else {
            parse_line(o, line);
        }
    }
    return ret == 0 && group ? add_rule(s, group, o, errp) : ret;
}

int blkdebug_read_config(BlkdebugState *s, const char *filename, GError **errp)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    FILE *f = fopen(filename, "re");
    struct stat st;

    if (!f) {
        return error_set_errno(errp, errno, "Could not read blkdebug config file");
    }
    if (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode)) {
        fclose(f);
        return error_set_errno(errp, EISDIR, "Cannot read config file");
    }
    fclose(f);
    if (!g_file_get_contents(filename, &text, NULL, NULL)) {
        return error_set_errno(errp, EIO, "Cannot read config file");
    }
    lines = g_strsplit(text, "\n", -1);
    return parse_config(s, lines, errp);
}

int blkdebug_take_rules(BlkdebugState *s, Options *o, GError **errp)
{
    static const char *const groups[] = { "inject-error", "set-state" };

    for (unsigned g = 0; g < G_N_ELEMENTS(groups); g++) {
        for (int i = 0;; i++) {
            g_autofree char *prefix = g_strdup_printf("%s.%d", groups[g], i);
            g_autoptr(Options) sub = NULL;
            int ret;

            if (!opts_has_subtree(o, prefix)) {
                break;
            }
            sub = opts_take_subtree(o, prefix);
            ret = add_rule(s, groups[g], sub, errp);
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}
