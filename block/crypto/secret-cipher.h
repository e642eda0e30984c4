/* SPDX-License-Identifier: MIT */
/* Secrets that are encrypted by another one. */
#ifndef CRYPTO_SECRET_CIPHER_H
#define CRYPTO_SECRET_CIPHER_H

#include "util/secure-buf.h"

/* AES-256-CBC with the padding of PKCS#7; @key has 32 bytes, @iv 16. False with @errp. */
bool crypt_decrypt_secret(const SecureBuf *key, const uint8_t *iv, const uint8_t *in, size_t len,
                          SecureBuf *out, GError **errp);

#endif
