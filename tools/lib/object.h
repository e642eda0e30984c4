/* SPDX-License-Identifier: MIT */
/* What --object defines: secrets, for all images that the tool opens and creates. */
#ifndef TOOLS_LIB_OBJECT_H
#define TOOLS_LIB_OBJECT_H

#include "block/backend.h"
#include "tools/lib/args.h"

/* Call for tables: "secret,id=…,…", "qom-type=secret,…" or {"qom-type": "secret", …}. */
bool object_take(const ToolArg *a, void *record, void *field, const char *value);
/* All that were defined; to go along with @o. */
void object_add_secrets(Options *o);

#endif
