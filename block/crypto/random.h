/* SPDX-License-Identifier: MIT */
/* Random bytes for keys and salts, of the kernel. */
#ifndef CRYPTO_RANDOM_H
#define CRYPTO_RANDOM_H

#include "util/compiler.h"

void crypt_random(void *buf, size_t len);

#endif
