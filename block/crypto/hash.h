/* SPDX-License-Identifier: MIT */
/* Hashes by name, and keys that are derived from passphrases with them. */
#ifndef CRYPTO_HASH_H
#define CRYPTO_HASH_H

#include "util/compiler.h"

#define CRYPT_HASH_MAX 64 /* bytes of a digest */

typedef struct CryptHash CryptHash;

/* By the name that headers and options have ("sha256"); NULL: unknown. */
const CryptHash *crypt_hash_find(const char *name);
const char *crypt_hash_name(const CryptHash *h);
size_t crypt_hash_size(const CryptHash *h); /* of a digest */

/* The digest of @head and then @data into @out. Either may be empty. */
void crypt_hash_two(const CryptHash *h, const void *head, size_t head_len, const void *data,
                    size_t len, uint8_t *out);
/* PBKDF2: @out_len bytes from a passphrase. Takes as long as @iterations say. */
void crypt_hash_pbkdf2(const CryptHash *h, const void *pass, size_t pass_len, const uint8_t *salt,
                       size_t salt_len, uint32_t iterations, uint8_t *out, size_t out_len);
/* How many iterations of it, for @out_len bytes, this thread does in a second. */
uint64_t crypt_hash_pbkdf2_speed(const CryptHash *h, size_t out_len);

/* The anti-forensic splitter: a key as @stripes times as many bytes, all of which are needed to get
 * it back. @split holds len * stripes bytes. */
void crypt_hash_split(const CryptHash *h, const uint8_t *key, size_t len, uint32_t stripes,
                      uint8_t *split);
void crypt_hash_merge(const CryptHash *h, const uint8_t *split, size_t len, uint32_t stripes,
                      uint8_t *key);

#endif
