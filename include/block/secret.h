/* SPDX-License-Identifier: MIT */
/* Secrets as command lines and management tools define them. A set of them goes along with Options:
 * opts_set_secrets(), before an image is opened or created by them. */
#ifndef BLOCK_SECRET_H
#define BLOCK_SECRET_H

#include "util/opts.h"
#include "util/secrets.h"

/* Adds to @s what @def (consumed as far as it is understood) says: id; data or file; format=raw|
 * base64; keyid and iv, when it is encrypted (AES-256-CBC, base64) by another secret of the set.
 * False with @errp. */
bool block_secret_define(Secrets *s, Options *def, GError **errp);

#endif
