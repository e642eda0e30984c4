/* SPDX-License-Identifier: MIT */
/* --object: see object.h. */
#include "object.h"

#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Secrets *secrets; /* of this process, which is a tool's; NULL: none */

static bool is_help(const char *s)
{
    return !strcmp(s, "help") || !strcmp(s, "?");
}

static void show_help(const char *value)
{
    if (is_help(value)) {
        printf("List of user creatable objects:\n  secret\n");
        exit(0);
    }
    if (g_str_has_prefix(value, "secret,") && is_help(value + strlen("secret,"))) {
        printf("secret options:\n  data=<string>\n  file=<string>\n"
               "  format=<QCryptoSecretFormat>\n  iv=<string>\n  keyid=<string>\n");
        exit(0);
    }
}

/* All but the first element are key=value. */
static bool check_elements(const char *s, GError **errp)
{
    g_auto(GStrv) parts = g_strsplit(s, ",", -1);

    for (int i = 1; parts[0] && parts[i]; i++) {
        if (!*parts[i] && parts[i + 1]) {
            i++; /* two commas are one in a value */
        } else if (*parts[i] && !strchr(parts[i], '=')) {
            g_set_error(errp, g_quark_from_static_string("object"), 0,
                        "Expected '=' after parameter '%s'", parts[i]);
            return false;
        }
    }
    return true;
}

/* What is wrong with JSON, as the reference says it of objects. */
static const char *text_of(const GError *err)
{
    static const char prefix[] = "Could not parse the JSON options: ";

    return err->message + (g_str_has_prefix(err->message, prefix) ? strlen(prefix) : 0);
}

static bool parse(Options *o, const char *value, GError **errp)
{
    return *value == '{' ? opts_parse_json(o, value, errp)
                         : check_elements(value, errp) && opts_parse(o, value, "qom-type", errp);
}

bool object_take(const ToolArg *a, void *record, void *field, const char *value)
{
    g_autoptr(Options) o = opts_new();
    g_autofree char *type = NULL;
    GError *err = NULL;
    bool ok;

    show_help(value);
    ok = parse(o, value, &err);
    type = opts_take_str(o, "qom-type");
    if (ok && !type) {
        tool_error("Parameter 'qom-type' is missing");
        return false;
    }
    if (ok && strcmp(type, "secret")) {
        tool_error("Parameter 'qom-type' does not accept value '%s'", type);
        return false;
    }
    if (ok && !secrets) {
        secrets = secrets_new();
    }
    if (!ok || !block_secret_define(secrets, o, &err)) {
        tool_error("%s", text_of(err));
        g_error_free(err);
        return false;
    }
    return true;
}

void object_add_secrets(Options *o)
{
    opts_set_secrets(o, secrets);
}
