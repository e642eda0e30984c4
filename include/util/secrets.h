/* SPDX-License-Identifier: MIT */
/*
 * Secrets: passphrases and keys by name, for whoever opens or creates images.  A set of them goes
 * along with Options (opts_set_secrets()), to all nodes that are opened by these; nothing is
 * process-wide.
 *
 * INV-SECRET-1  A secret never changes and goes with its set: what secrets_find() returned stays
 *               valid as long as the set is held.
 */
#ifndef UTIL_SECRETS_H
#define UTIL_SECRETS_H

#include "util/secure-buf.h"

DRIVER_API_BEGIN

typedef struct Secrets Secrets;

Secrets *secrets_new(void);
Secrets *secrets_ref(Secrets *s); /* NULL is fine */
void secrets_unref(Secrets *s);   /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Secrets, secrets_unref)

/* Copies @len bytes (0 is fine). False: there is one of that name, or no memory. Any thread. */
bool secrets_add(Secrets *s, const char *id, const void *data, size_t len, GError **errp);
/* NULL with @errp: there is none of that name (@s may be NULL). Its length may be 0, data NULL. Any
 * thread. */
const SecureBuf *secrets_find(Secrets *s, const char *id, GError **errp);
/* The same, for a passphrase: text in UTF-8. */
const SecureBuf *secrets_find_text(Secrets *s, const char *id, GError **errp);

DRIVER_API_END

#endif
