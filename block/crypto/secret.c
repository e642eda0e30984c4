/* SPDX-License-Identifier: MIT */
/* Definitions of secrets, with the reference's texts. */
#include "block/secret.h"

#include "secret-cipher.h"
#include "util/error.h"

#include <errno.h>
#include <string.h>

#define KEY_BYTES 32
#define IV_BYTES 16

typedef struct Definition {
    char *id, *data, *file, *keyid, *iv;
    int base64;
} Definition;

static void definition_clear(Definition *d)
{
    if (d->data) {
        secure_wipe(d->data, strlen(d->data));
    }
    g_free(d->id);
    g_free(d->data);
    g_free(d->file);
    g_free(d->keyid);
    g_free(d->iv);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Definition, definition_clear)

static bool is_identifier(const char *s)
{
    if (!g_ascii_isalpha(*s)) {
        return false;
    }
    for (; *s; s++) {
        if (!g_ascii_isalnum(*s) && !strchr("-._", *s)) {
            return false;
        }
    }
    return true;
}

static bool take_definition(Options *o, Definition *d, GError **errp)
{
    static const char *const formats[] = { "raw", "base64", NULL };

    d->id = opts_take_str(o, "id");
    d->data = opts_take_str(o, "data");
    d->file = opts_take_str(o, "file");
    d->keyid = opts_take_str(o, "keyid");
    d->iv = opts_take_str(o, "iv");
    if (!d->id) {
        error_set(errp, EINVAL, "Parameter 'id' is missing");
        return false;
    }
    if (!opts_take_enum(o, "format", formats, 0, &d->base64, errp)) {
        return false;
    }
    if (opts_first_key(o)) {
        error_set(errp, EINVAL, "Parameter '%s' is unexpected", opts_first_key(o));
        return false;
    }
    if (!is_identifier(d->id)) {
        error_set(errp, EINVAL, "Parameter 'id' expects an identifier");
        error_append_hint(errp, "Identifiers consist of letters, digits, '-', '.', '_', starting "
                                "with a letter.");
        return false;
    }
    if (d->data && d->file) {
        error_set(errp, EINVAL, "'file' and 'data' are mutually exclusive");
    } else if (!d->data && !d->file) {
        error_set(errp, EINVAL, "Either 'file' or 'data' must be provided");
    }
    return !d->data != !d->file;
}

/* ---- Bytes ---- */

static bool copy_out(SecureBuf *b, const void *data, size_t len, GError **errp)
{
    if (len == 0) {
        return true;
    }
    if (!secure_buf_init(b, len)) {
        error_set_errno(errp, ENOMEM, "Could not keep a secret");
        return false;
    }
    memcpy(b->data, data, len);
    return true;
}

static bool load(const Definition *d, SecureBuf *b, GError **errp)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    gsize len;
    bool ok;

    if (d->data) {
        return copy_out(b, d->data, strlen(d->data), errp);
    }
    if (!g_file_get_contents(d->file, &text, &len, &err)) {
        error_set(errp, EINVAL, "Unable to read %s: %s", d->file, err->message);
        return false;
    }
    ok = copy_out(b, text, len, errp);
    secure_wipe(text, len);
    return ok;
}

static bool decode(const char *text, size_t len, SecureBuf *b, GError **errp)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n";
    g_autofree char *copy = g_strndup(text, len);
    gsize n;
    bool ok;

    if (memchr(text, 0, len)) {
        error_set(errp, EINVAL, "Base64 data contains embedded NUL characters");
        return false;
    }
    if (strspn(copy, alphabet) != len) {
        error_set(errp, EINVAL, "Base64 data contains invalid characters");
        return false;
    }
    if (len) {
        g_base64_decode_inplace(copy, &n);
    } else {
        n = 0;
    }
    ok = copy_out(b, copy, n, errp);
    secure_wipe(copy, len);
    return ok;
}

static bool decode_in_place(SecureBuf *b, GError **errp)
{
    SecureBuf plain = { NULL, 0 };
    bool ok = decode(b->data ? (const char *)b->data : "", b->len, &plain, errp);

    secure_buf_clear(b);
    *b = plain;
    return ok;
}

/* What another secret has encrypted. */
static bool decrypt(Secrets *s, const Definition *d, SecureBuf *b, GError **errp)
{
    const SecureBuf *key = secrets_find(s, d->keyid, errp);
    g_auto(SecureBuf) iv = { NULL, 0 };
    SecureBuf plain = { NULL, 0 };
    bool ok;

    if (!key) {
        return false;
    }
    if (key->len != KEY_BYTES) {
        error_set(errp, EINVAL, "Key should be %d bytes in length", KEY_BYTES);
        return false;
    }
    if (!d->iv) {
        error_set(errp, EINVAL, "IV is required to decrypt secret");
        return false;
    }
    if (!decode(d->iv, strlen(d->iv), &iv, errp)) {
        return false;
    }
    if (iv.len != IV_BYTES) {
        error_set(errp, EINVAL, "IV should be %d bytes in length not %zu", IV_BYTES, iv.len);
        return false;
    }
    if (d->base64 && !decode_in_place(b, errp)) {
        return false;
    }
    ok = crypt_decrypt_secret(key, iv.data, b->data, b->len, &plain, errp);
    secure_buf_clear(b);
    *b = plain;
    return ok;
}

bool block_secret_define(Secrets *s, Options *def, GError **errp)
{
    g_auto(Definition) d = { NULL };
    g_auto(SecureBuf) b = { NULL, 0 };

    if (!take_definition(def, &d, errp) || !load(&d, &b, errp)) {
        return false;
    }
    /* (Of an encrypted one "format" is that of what goes in.) */
    if (d.keyid ? !decrypt(s, &d, &b, errp) : d.base64 && !decode_in_place(&b, errp)) {
        return false;
    }
    return secrets_add(s, d.id, b.data, b.len, errp);
}
