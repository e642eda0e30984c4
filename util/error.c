/* SPDX-License-Identifier: MIT */
/* Filling a GError of the library's domain; the code is a positive errno. */
#include "util/error.h"

#include <stdlib.h>

/* clang-format off: the name is text. */
G_DEFINE_QUARK(cowlet-error-quark, cowlet_error)
/* clang-format on */

int error_set(GError **errp, int err, const char *fmt, ...)
{
    if (errp) {
        va_list ap;

        va_start(ap, fmt);
        *errp = g_error_new_valist(COWLET_ERROR, abs(err), fmt, ap);
        va_end(ap);
    }
    return -abs(err);
}

int error_set_errno(GError **errp, int err, const char *fmt, ...)
{
    if (errp) {
        g_autofree char *msg = NULL;
        va_list ap;

        va_start(ap, fmt);
        msg = g_strdup_vprintf(fmt, ap);
        va_end(ap);
        *errp = g_error_new(COWLET_ERROR, abs(err), "%s: %s", msg, g_strerror(abs(err)));
    }
    return -abs(err);
}

void error_append_hint(GError **errp, const char *fmt, ...)
{
    g_autofree char *hint = NULL, *whole = NULL;
    va_list ap;

    if (!errp || !*errp) {
        return;
    }
    va_start(ap, fmt);
    hint = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    whole = g_strdup_printf("%s\n%s", (*errp)->message, hint);
    g_free((*errp)->message);
    (*errp)->message = g_steal_pointer(&whole);
}
