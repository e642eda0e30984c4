/* SPDX-License-Identifier: MIT */
/* The GError domain of the library: code is a positive errno. */
#ifndef UTIL_ERROR_H
#define UTIL_ERROR_H

#include "util/compiler.h"
#include <errno.h>
#include <glib.h>

DRIVER_API_BEGIN

#define COWLET_ERROR cowlet_error_quark()
GQuark cowlet_error_quark(void);

/* Set @errp with errno code @err (positive or negative) and return -|err|. */
int error_set(GError **errp, int err, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* The same with ": " and g_strerror(err) appended. */
int error_set_errno(GError **errp, int err, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* Extra lines for a person after the message ("Is another process using the
 * image [x]?"); stored in the message after a newline. */
void error_append_hint(GError **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

DRIVER_API_END

#endif
