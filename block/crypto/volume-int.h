/* SPDX-License-Identifier: MIT */
/* Inside of volumes: what volume.c and volume-options.c share. */
#ifndef CRYPTO_VOLUME_INT_H
#define CRYPTO_VOLUME_INT_H

#include "luks.h"

struct CryptCreate {
    bool luks;
    LuksParams p;
    Secrets *secrets; /* held: @pass is one of them */
    const SecureBuf *pass;
};

#define CRYPT_DEFAULT_ITER_MS 2000

/* volume-options.c: what an amendment is to do, taken out of @o. */
int crypt_volume_take_change(Options *o, Secrets *secrets, const char *prefix, LuksChange *c,
                             GError **errp);

#endif
