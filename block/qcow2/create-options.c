/* SPDX-License-Identifier: MIT */
/* Create options: their table, and the checks of what goes together, with the reference's texts. */
#include "create.h"

#include "callbacks.h"
#include "compress.h"

#include <errno.h>
#include <string.h>

const BlockCreateOption qcow2_create_options[] = {
    { "encryption", BLK_OPT_BOOL,
      "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)", NULL },
    { "encrypt.format", BLK_OPT_STRING, "Encrypt the image, format choices: 'aes', 'luks'", NULL },
    { "encrypt.key-secret", BLK_OPT_STRING,
      "ID of secret providing qcow AES key or LUKS passphrase", NULL },
    { "encrypt.cipher-alg", BLK_OPT_STRING, "Name of encryption cipher algorithm", NULL },
    { "encrypt.cipher-mode", BLK_OPT_STRING, "Name of encryption cipher mode", NULL },
    { "encrypt.ivgen-alg", BLK_OPT_STRING, "Name of IV generator algorithm", NULL },
    { "encrypt.ivgen-hash-alg", BLK_OPT_STRING, "Name of IV generator hash algorithm", NULL },
    { "encrypt.hash-alg", BLK_OPT_STRING, "Name of encryption hash algorithm", NULL },
    { "encrypt.iter-time", BLK_OPT_NUMBER, "Time to spend in PBKDF in milliseconds", NULL },
    { "cluster_size", BLK_OPT_SIZE, "qcow2 cluster size", "65536" },
    { "extended_l2", BLK_OPT_BOOL, "Extended L2 tables", "off" },
    { "preallocation", BLK_OPT_STRING,
      "Preallocation mode (allowed values: off, metadata, falloc, full)", NULL },
    { "compression_type", BLK_OPT_STRING, "Compression method used for image cluster compression",
      "zlib" },
    { "compression_level", BLK_OPT_NUMBER, "Level of compressed writes that name none", NULL },
    { "size", BLK_OPT_SIZE, "Virtual disk size", NULL },
    { "compat", BLK_OPT_STRING, "Compatibility level (v2 [0.10] or v3 [1.1])", NULL },
    { "backing_file", BLK_OPT_STRING, "File name of a base image", NULL },
    { "backing_fmt", BLK_OPT_STRING, "Image format of the base image", NULL },
    { "data_file", BLK_OPT_STRING, "File name of an external data file", NULL },
    { "data_file_raw", BLK_OPT_BOOL, "The external data file must stay valid as a raw image",
      NULL },
    { "lazy_refcounts", BLK_OPT_BOOL, "Postpone refcount updates", "off" },
    { "refcount_bits", BLK_OPT_NUMBER, "Width of a reference count entry in bits", "16" },
    { NULL }
};

static const char *const compression_names[] = { "zlib", "zstd", NULL };

void qcow2_create_options_clear(Qcow2CreateParams *p)
{
    g_clear_pointer(&p->backing_file, g_free);
    g_clear_pointer(&p->backing_format, g_free);
    g_clear_pointer(&p->data_file, g_free);
    g_clear_pointer(&p->key_secret, g_free);
    g_clear_pointer(&p->crypt, crypt_create_free);
}

static int take_compat(Options *o, Qcow2CreateParams *p, GError **errp)
{
    g_autofree char *v = opts_take_str(o, "compat");

    if (!v || !strcmp(v, "1.1") || !strcmp(v, "v3")) {
        p->version = 3;
    } else if (!strcmp(v, "0.10") || !strcmp(v, "v2")) {
        p->version = 2;
    } else {
        return error_set(errp, EINVAL, "Parameter 'version' does not accept value '%s'", v);
    }
    return 0;
}

int qcow2_create_options_cluster_bits(Options *o, unsigned *bits, GError **errp)
{
    uint64_t size;

    if (!opts_take_size(o, "cluster_size", 65536, &size, errp)) {
        return -EINVAL;
    }
    if (size < 512 || size > 2 * MiB || (size & (size - 1))) {
        return error_set(errp, EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    }
    *bits = (unsigned)__builtin_ctzll(size);
    return 0;
}

int qcow2_create_options_refcount_order(Options *o, uint64_t def, unsigned *order, GError **errp)
{
    uint64_t bits;

    if (!opts_take_uint(o, "refcount_bits", def, &bits, errp)) {
        return -EINVAL;
    }
    if (bits == 0 || bits > 64 || (bits & (bits - 1))) {
        return error_set(errp, EINVAL,
                         "Refcount width must be a power of two and may not exceed 64 bits");
    }
    *order = (unsigned)__builtin_ctzll(bits);
    return 0;
}

/* An option that takes names by a name that its message has differently. */
static int take_named(Options *o, const char *key, const char *said, const char *const *names,
                      int *ret, GError **errp)
{
    g_autofree char *v = opts_take_str(o, key);

    if (v) {
        opts_set(o, said, v);
    }
    return opts_take_enum(o, said, names, 0, ret, errp) ? 0 : -EINVAL;
}

static int needs_v3(const Qcow2CreateParams *p, bool wanted, const char *what, GError **errp)
{
    return p->version < 3 && wanted
               ? error_set(errp, EINVAL, "%s (use version=v3 or greater)", what)
               : 0;
}

static int check_together(const Qcow2CreateParams *p, GError **errp)
{
    int ret = 0;

    ret = needs_v3(p, p->extended_l2,
                   "Extended L2 entries are only supported with compatibility level "
                   "1.1 and above",
                   errp);
    if (ret == 0 && p->extended_l2 && p->cluster_bits < QCOW2_EXTL2_MIN_CLUSTER_BITS) {
        ret = error_set(errp, EINVAL,
                        "Extended L2 entries are only supported with cluster sizes of at "
                        "least %u bytes",
                        1u << QCOW2_EXTL2_MIN_CLUSTER_BITS);
    }
    if (ret == 0 && p->prealloc && p->backing_file && !p->extended_l2) {
        ret = error_set(errp, EINVAL,
                        "Backing file and preallocation can only be used at the same time "
                        "if extended_l2 is on");
    }
    if (ret == 0 && p->backing_format && !p->backing_file) {
        ret = error_set(errp, EINVAL, "Backing format cannot be used without backing file");
    }
    ret = ret < 0 ? ret
                  : needs_v3(p, p->lazy_refcounts,
                             "Lazy refcounts only supported with compatibility "
                             "level 1.1 and above",
                             errp);
    ret = ret < 0 ? ret
                  : needs_v3(p, p->refcount_order != 4,
                             "Different refcount widths than 16 bits "
                             "require compatibility level 1.1 or above",
                             errp);
    if (ret == 0 && p->data_file_raw && !p->data_file) {
        ret = error_set(errp, EINVAL, "data-file-raw requires data-file");
    }
    if (ret == 0 && p->data_file_raw && p->backing_file) {
        ret = error_set(errp, EINVAL,
                        "Backing file and data-file-raw cannot be used at the same time");
    }
    ret = ret < 0 ? ret
                  : needs_v3(p, p->data_file != NULL,
                             "External data files are only supported with "
                             "compatibility level 1.1 and above",
                             errp);
    return ret < 0 ? ret
                   : needs_v3(p, p->compression != QCOW2_COMPRESSION_ZLIB,
                              "Non-zlib compression type "
                              "is only supported with compatibility level 1.1 and above",
                              errp);
}

/* encryption=on is the older way to say encrypt.format=aes, and another value than off one to name
 * the format. */
static int take_alias(Options *o, Options *sub, GError **errp)
{
    g_autofree char *alias = opts_take_str(o, "encryption");

    if (!alias || !strcmp(alias, "off")) {
        return 0;
    }
    if (opts_has(sub, "format")) {
        return error_set(
            errp, EINVAL,
            "'encrypt.format' and its alias 'encryption' can't be used at the same time");
    }
    opts_set(sub, "format", !strcmp(alias, "on") ? "aes" : alias);
    return 0;
}

static int take_encryption(Options *o, Qcow2CreateParams *p, GError **errp)
{
    static const char *const formats[] = { "luks", "aes", NULL };
    g_autoptr(Options) sub = opts_take_subtree(o, "encrypt");
    int format, ret = take_alias(o, sub, errp);

    if (ret < 0) {
        return ret;
    }
    if (!opts_has(sub, "format")) {
        return opts_count(sub) ? error_set(errp, EINVAL, "Parameter 'encrypt.format' is missing")
                               : 0;
    }
    if (!opts_take_enum(sub, "format", formats, 1, &format, errp)) {
        return -EINVAL;
    }
    p->key_secret = g_strdup(opts_peek(sub, "key-secret"));
    p->crypt = crypt_create_take(sub, opts_secrets(o), format == 0, "encrypt.", false, errp);
    return p->crypt ? 0 : -EINVAL;
}

/* An image names its data file plainly, whatever the name looks like: "file:" goes here, and what
 * is left must not look like a prefix to others. */
static void make_plain(char **name)
{
    const char *rest = *name && g_str_has_prefix(*name, "file:") ? *name + strlen("file:") : NULL;
    char *plain;

    if (rest && *rest) {
        plain = g_strconcat(
            strcspn(rest, ":") < strcspn(rest, "/") && strchr(rest, ':') ? "./" : "", rest, NULL);
        g_free(*name);
        *name = plain;
    }
}

static int take_names(Options *o, Qcow2CreateParams *p, GError **errp)
{
    p->backing_file = opts_take_str(o, "backing_file");
    p->backing_format = opts_take_str(o, "backing_fmt");
    p->data_file = opts_take_str(o, "data_file");
    make_plain(&p->data_file);
    if (p->backing_file && !*p->backing_file) {
        g_clear_pointer(&p->backing_file, g_free);
    }
    if (p->backing_file && strlen(p->backing_file) > 1023) {
        return error_set_errno(errp, EINVAL, "Could not assign backing file '%s' with format '%s'",
                               p->backing_file, p->backing_format ? p->backing_format : "");
    }
    return 0;
}

int qcow2_create_options_take(Options *o, Qcow2CreateParams *p, GError **errp)
{
    int prealloc, ret;

    memset(p, 0, sizeof(*p));
    if (!opts_take_size(o, "size", 0, &p->size, errp)) {
        return -EINVAL;
    }
    p->size = ALIGN_UP(p->size, UINT64_C(512));
    ret = take_compat(o, p, errp);
    ret = ret < 0 ? ret : take_names(o, p, errp);
    ret = ret < 0 ? ret : take_encryption(o, p, errp);
    ret = ret < 0 ? ret
                  : take_named(o, "preallocation", "preallocation", blk_prealloc_names, &prealloc,
                               errp);
    ret = ret < 0 ? ret
                  : take_named(o, "compression_type", "compression-type", compression_names,
                               &p->compression, errp);
    ret = ret < 0 ? ret : qcow2_create_options_cluster_bits(o, &p->cluster_bits, errp);
    ret = ret < 0 ? ret : qcow2_create_options_refcount_order(o, 16, &p->refcount_order, errp);
    if (ret < 0 || !opts_take_uint(o, "compression_level", 0, &p->compression_level, errp) ||
        !opts_take_bool(o, "extended_l2", false, &p->extended_l2, errp) ||
        !opts_take_bool(o, "lazy_refcounts", false, &p->lazy_refcounts, errp) ||
        !opts_take_bool(o, "data_file_raw", false, &p->data_file_raw, errp)) {
        return -EINVAL;
    }
    if (!qcow2_compress_is_built((unsigned)p->compression)) {
        return error_set(errp, ENOTSUP, "Parameter 'compression-type': this build is without %s",
                         compression_names[p->compression]);
    }
    p->prealloc = (BlockPrealloc)prealloc;
    ret = check_together(p, errp);
    if (ret == 0) {
        ret = qcow2_compress_check_level((unsigned)p->compression, p->compression_level, errp);
    }
    if (p->data_file_raw && p->prealloc == BLK_PREALLOC_OFF && !p->crypt) {
        p->prealloc = BLK_PREALLOC_METADATA; /* the data file is the disk: every cluster is there */
    }
    return ret;
}
