/* SPDX-License-Identifier: MIT */
/* Ciphers, IVs, derived keys and secrets, by published vectors and by what others computed. */
#include "block/crypto/sectors.h"
#include "block/secret.h"
#include "util/error.h"

#include <string.h>

static void from_hex(const char *hex, uint8_t *out)
{
    for (; *hex; hex += 2) {
        *out++ = (uint8_t)(g_ascii_xdigit_value(hex[0]) << 4 | g_ascii_xdigit_value(hex[1]));
    }
}

static void assert_hex(const uint8_t *data, const char *hex)
{
    uint8_t want[64];

    from_hex(hex, want);
    g_assert_cmpmem(data, strlen(hex) / 2, want, strlen(hex) / 2);
}

static CryptSectors *make(const char *alg, CryptMode mode, CryptIvgen ivgen, const char *key)
{
    CryptSpec spec = { crypt_alg_find(alg), mode, ivgen, crypt_hash_find("sha256") };
    uint8_t k[64];
    CryptSectors *s;

    from_hex(key, k);
    s = crypt_sectors_new(&spec, k, NULL);
    g_assert_nonnull(s);
    return s;
}

/* IEEE 1619-2007, vector 10, and the way back. */
static void test_xts(void)
{
    g_autoptr(CryptSectors) s =
        make("aes-256", CRYPT_XTS, CRYPT_IV_PLAIN64,
             "2718281828459045235360287471352662497757247093699959574966967627"
             "3141592653589793238462643383279502884197169399375105820974944592");
    uint8_t plain[512], out[512];

    for (unsigned i = 0; i < 512; i++) {
        plain[i] = (uint8_t)i;
    }
    crypt_sectors_run(s, true, 0xff, out, plain, 512);
    assert_hex(out, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b");
    crypt_sectors_run(s, false, 0xff, out, out, 512);
    g_assert_cmpmem(out, 512, plain, 512);
}

/* openssl enc */
static void test_cbc(void)
{
    const char *key = "000102030405060708090a0b0c0d0e0f";
    g_autoptr(CryptSectors) plain = make("aes-128", CRYPT_CBC, CRYPT_IV_PLAIN64, key);
    g_autoptr(CryptSectors) essiv = make("aes-128", CRYPT_CBC, CRYPT_IV_ESSIV, key);
    uint8_t buf[512] = { 0 };

    crypt_sectors_run(plain, true, 5, buf, buf, 512);
    assert_hex(buf, "789dc76ccb52ce1c3db90ecb357af60e");
    assert_hex(buf + 496, "179785700bbb5b8c6b334e7718949454");
    memset(buf, 0, 512);
    crypt_sectors_run(essiv, true, 5, buf, buf, 512);
    assert_hex(buf, "cf353a91aa5f5ddd71a62976229fedd6");
    assert_hex(buf + 496, "c6086ce5b4af5d646be3ddabb45321e6");
}

/* A long run is the sum of its sectors, with every cipher, mode and generator, there and back. */
static void test_runs(void)
{
    static const char *const algs[] = { "aes-128",     "aes-192",     "aes-256",     "cast5-128",
                                        "serpent-128", "serpent-192", "serpent-256", "twofish-128",
                                        "twofish-192", "twofish-256" };
    enum { N = 75 };
    g_autofree uint8_t *plain = g_malloc(N * 512), *all = g_malloc(N * 512);
    uint8_t one[512], key[64];

    for (unsigned i = 0; i < N * 512; i++) {
        plain[i] = (uint8_t)(i * 7 + i / 512);
    }
    for (unsigned i = 0; i < 64; i++) {
        key[i] = (uint8_t)(i * 3);
    }
    for (unsigned a = 0; a < G_N_ELEMENTS(algs); a++) {
        for (unsigned m = 0; crypt_mode_names[m]; m++) {
            for (unsigned g = 0; crypt_ivgen_names[g]; g++) {
                CryptSpec spec = { crypt_alg_find(algs[a]), m, g, crypt_hash_find("sha256") };
                g_autoptr(GError) err = NULL;
                g_autoptr(CryptSectors) s = crypt_sectors_new(&spec, key, &err);

                if (!strcmp(algs[a], "cast5-128") && (m == CRYPT_XTS || g == CRYPT_IV_ESSIV)) {
                    g_assert_nonnull(err);
                    continue;
                }
                g_assert_no_error(err);
                crypt_sectors_run(s, true, UINT32_MAX - 3, all, plain, N * 512);
                for (unsigned i = 0; i < N; i++) {
                    crypt_sectors_run(s, true, UINT32_MAX - UINT64_C(3) + i, one, plain + i * 512,
                                      512);
                    g_assert_cmpmem(one, 512, all + i * 512, 512);
                }
                g_assert_true(memcmp(all, plain, N * 512) != 0);
                crypt_sectors_run(s, false, UINT32_MAX - 3, all, all, N * 512);
                g_assert_cmpmem(all, N * 512, plain, N * 512);
            }
        }
    }
}

/* plain has 32 bits of the number, plain64 all of them. */
static void test_plain(void)
{
    const char *key = "000102030405060708090a0b0c0d0e0f";
    g_autoptr(CryptSectors) p = make("aes-128", CRYPT_CBC, CRYPT_IV_PLAIN, key);
    g_autoptr(CryptSectors) p64 = make("aes-128", CRYPT_CBC, CRYPT_IV_PLAIN64, key);
    uint8_t zero[512] = { 0 }, a[512], b[512];

    crypt_sectors_run(p, true, 7, a, zero, 512);
    crypt_sectors_run(p, true, 7 + (UINT64_C(1) << 32), b, zero, 512);
    g_assert_cmpmem(a, 512, b, 512);
    crypt_sectors_run(p64, true, 7, b, zero, 512);
    g_assert_cmpmem(a, 512, b, 512);
    crypt_sectors_run(p64, true, 7 + (UINT64_C(1) << 32), b, zero, 512);
    g_assert_true(memcmp(a, b, 512) != 0);
}

/* RFC 6070, and Python's hashlib. */
static void test_pbkdf2(void)
{
    uint8_t out[40];

    crypt_hash_pbkdf2(crypt_hash_find("sha1"), "password", 8, (const uint8_t *)"salt", 4, 4096, out,
                      20);
    assert_hex(out, "4b007901b765489abead49d926f721d065a429c1");
    crypt_hash_pbkdf2(crypt_hash_find("sha256"), "password", 8, (const uint8_t *)"salt", 4, 1, out,
                      40);
    assert_hex(out,
               "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b4dbf3a2f3dad3377");
}

static void test_split(void)
{
    static const char *const names[] = { "md5",    "sha1",   "sha224",    "sha256",
                                         "sha384", "sha512", "ripemd160", "sm3" };

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        const CryptHash *h = crypt_hash_find(names[i]);
        uint8_t key[64], back[64];
        g_autofree uint8_t *split = g_malloc(64 * 100);

        memset(key, (int)i + 1, sizeof(key));
        crypt_hash_split(h, key, 64, 100, split);
        crypt_hash_merge(h, split, 64, 100, back);
        g_assert_cmpmem(key, 64, back, 64);
        split[70] ^= 1;
        crypt_hash_merge(h, split, 64, 100, back);
        g_assert_true(memcmp(key, back, 64) != 0);
    }
}

/* ---- Secrets ---- */

static const char *define(Secrets *s, const char *text)
{
    g_autoptr(Options) o = opts_new();
    GError *err = NULL;
    const char *said;

    g_assert_true(opts_parse(o, text, NULL, NULL));
    if (block_secret_define(s, o, &err)) {
        return "";
    }
    said = g_intern_string(err->message);
    g_error_free(err);
    return said;
}

static void assert_secret(Secrets *s, const char *id, const char *want)
{
    const SecureBuf *b = secrets_find(s, id, NULL);

    g_assert_nonnull(b);
    g_assert_cmpmem(b->data, b->len, want, strlen(want));
}

/* INV-SECRET-1: what was found stays where it is while others come. */
static void test_secrets(void)
{
    g_autoptr(Secrets) s = secrets_new();
    const SecureBuf *first;

    g_assert_cmpstr(define(s, "id=a,data=abc"), ==, "");
    first = secrets_find(s, "a", NULL);
    g_assert_cmpstr(define(s, "id=b,data=YWJj,format=base64"), ==, "");
    g_assert_cmpstr(define(s, "id=e,data="), ==, "");
    assert_secret(s, "a", "abc");
    assert_secret(s, "b", "abc");
    assert_secret(s, "e", "");
    g_assert_true(secrets_find(s, "a", NULL) == first);
    g_assert_cmpstr(define(s, "id=a,data=x"), ==,
                    "attempt to add duplicate property 'a' to object (type 'container')");
    g_assert_cmpstr(define(s, "id=c,data=a$b,format=base64"), ==,
                    "Base64 data contains invalid characters");
    g_assert_cmpstr(define(s, "id=c,file=x,data=y"), ==,
                    "'file' and 'data' are mutually exclusive");
    g_assert_null(secrets_find(s, "c", NULL));
    g_assert_null(secrets_find(NULL, "a", NULL));
}

/* By another secret; openssl made the text. */
static void test_encrypted_secret(void)
{
    g_autoptr(Secrets) s = secrets_new();
    const char *iv = "iv=aXZpdml2aXZpdml2aXZpMQ==";
    g_autofree char *good =
        g_strconcat("id=s,keyid=k,data=nrgv9iLZuWtNZXNsx+zt9w==,format=base64,", iv, NULL);
    g_autofree char *other =
        g_strconcat("id=t,keyid=l,data=nrgv9iLZuWtNZXNsx+zt9w==,format=base64,", iv, NULL);
    g_autofree char *bad = g_strconcat("id=t,keyid=k,data=YWJj,format=base64,", iv, NULL);
    g_autofree char *raw = g_strconcat("id=t,keyid=k,data=YWJj,", iv, NULL);

    g_assert_cmpstr(define(s, "id=k,data=0123456789abcdef0123456789abcdef"), ==, "");
    g_assert_cmpstr(define(s, "id=l,data=short"), ==, "");
    g_assert_cmpstr(define(s, good), ==, "");
    assert_secret(s, "s", "abc");
    g_assert_cmpstr(define(s, other), ==, "Key should be 32 bytes in length");
    g_assert_cmpstr(define(s, bad), ==, "Length 3 must be a multiple of block size 16");
    g_assert_cmpstr(define(s, raw), ==, "Length 4 must be a multiple of block size 16");
    g_assert_cmpstr(define(s, "id=t,keyid=k,data=YWJj"), ==, "IV is required to decrypt secret");
    g_assert_cmpstr(define(s, "id=t,keyid=k,data=YWJj,iv=YQ=="), ==,
                    "IV should be 16 bytes in length not 1");
    g_assert_cmpstr(define(s, "id=t,keyid=zz,data=YWJj"), ==, "No secret with id 'zz'");
}

/* They go along with copies and subtrees of options, and into no text. */
static void test_options(void)
{
    g_autoptr(Options) o = opts_new(), copy = NULL, sub = NULL;
    g_autoptr(Secrets) s = secrets_new();
    g_autofree char *text = NULL;

    g_assert_cmpstr(define(s, "id=a,data=hidden"), ==, "");
    opts_set(o, "file.x", "1");
    opts_set_secrets(o, s);
    copy = opts_copy(o);
    sub = opts_take_subtree(o, "file");
    text = opts_to_json(copy);
    g_assert_true(opts_secrets(copy) == s && opts_secrets(sub) == s);
    g_assert_null(strstr(text, "hidden"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/crypto/xts", test_xts);
    g_test_add_func("/crypto/cbc", test_cbc);
    g_test_add_func("/crypto/runs", test_runs);
    g_test_add_func("/crypto/plain", test_plain);
    g_test_add_func("/crypto/pbkdf2", test_pbkdf2);
    g_test_add_func("/crypto/split", test_split);
    g_test_add_func("/crypto/secrets", test_secrets);
    g_test_add_func("/crypto/encrypted-secret", test_encrypted_secret);
    g_test_add_func("/crypto/options", test_options);
    return g_test_run();
}
