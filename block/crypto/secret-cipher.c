/* SPDX-License-Identifier: MIT */
/* Secrets that are encrypted by another one: see secret-cipher.h. */
#include "secret-cipher.h"

#include "cipher.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>

bool crypt_decrypt_secret(const SecureBuf *key, const uint8_t *iv, const uint8_t *in, size_t len,
                          SecureBuf *out, GError **errp)
{
    g_autoptr(CryptCipher) c = NULL;
    g_auto(SecureBuf) plain = { NULL, 0 };
    size_t pad;

    if (len % CRYPT_BLOCK_MAX) {
        error_set(errp, EINVAL, "Length %zu must be a multiple of block size %d", len,
                  CRYPT_BLOCK_MAX);
        return false;
    }
    if (len == 0) {
        return true;
    }
    c = crypt_cipher_new(crypt_alg_find("aes-256"), CRYPT_CBC, key->data, errp);
    if (!c || !secure_buf_init(&plain, len)) {
        return c ? error_set_errno(errp, ENOMEM, "Could not decrypt a secret") == 0 : false;
    }
    crypt_cipher_run(c, false, iv, 1, len, plain.data, in);
    pad = plain.data[len - 1];
    if (pad == 0 || pad > CRYPT_BLOCK_MAX || pad > len) {
        error_set(errp, EINVAL, "Incorrect number of padding bytes (%zu) found on decrypted data",
                  pad);
        return false;
    }
    if (len > pad && !secure_buf_init(out, len - pad)) {
        error_set_errno(errp, ENOMEM, "Could not decrypt a secret");
        return false;
    }
    if (len > pad) {
        memcpy(out->data, plain.data, len - pad);
    }
    return true;
}
