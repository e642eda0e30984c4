/* SPDX-License-Identifier: MIT */
/* Memory for keys and passphrases: pages of its own, kept out of swap and core dumps where the
 * system allows it, wiped before they are given back. */
#ifndef UTIL_SECURE_BUF_H
#define UTIL_SECURE_BUF_H

#include "util/compiler.h"

DRIVER_API_BEGIN

typedef struct SecureBuf {
    uint8_t *data; /* zeroed at first; NULL: none */
    size_t len;
} SecureBuf;

/* False without memory: @b is empty then. @len > 0. */
bool secure_buf_init(SecureBuf *b, size_t len);
/* Wipes and frees. An empty one is fine. */
void secure_buf_clear(SecureBuf *b);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SecureBuf, secure_buf_clear)

/* Wipes @len bytes of @p; the compiler does not drop it. */
void secure_wipe(void *p, size_t len);

DRIVER_API_END

#endif
