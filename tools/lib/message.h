/* SPDX-License-Identifier: MIT */
/* What each tool tells its user of errors and of images. */
#ifndef TOOLS_LIB_MESSAGE_H
#define TOOLS_LIB_MESSAGE_H

#include "block/backend.h"

#include <stdarg.h>

/* "PROG: message" to standard error; @name of process_init(). */
void tool_error(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
void tool_verror(const char *fmt, va_list ap) G_GNUC_PRINTF(1, 0);
/* What a person should know of the options of an open, which goes on. */
void tool_warn_options(const Options *o);
/* What a person should know of an image that was opened, now and while it is in use. */
void tool_watch(BlockBackend *blk);

#endif
