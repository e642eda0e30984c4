/* SPDX-License-Identifier: MIT */
/* Option strings, JSON, takers, sizes. */
#include "util/opts.h"
#include "util/size.h"

#include <errno.h>

static void test_parse(void)
{
    g_autoptr(Options) o = opts_new();

    g_assert_true(opts_parse(o, "disk.img,a=1,b=x,,y,c,d=,e=f=g", "filename", NULL));
    g_assert_cmpstr(opts_peek(o, "filename"), ==, "disk.img");
    g_assert_cmpstr(opts_peek(o, "a"), ==, "1");
    g_assert_cmpstr(opts_peek(o, "b"), ==, "x,y");
    g_assert_cmpstr(opts_peek(o, "c"), ==, "on");
    g_assert_cmpstr(opts_peek(o, "d"), ==, "");
    g_assert_cmpstr(opts_peek(o, "e"), ==, "f=g");
    g_assert_cmpuint(opts_count(o), ==, 6);
    g_assert_false(opts_parse(o, "=x", NULL, NULL));
}

static void test_json(void)
{
    g_autoptr(Options) o = opts_new();
    g_autoptr(GError) err = NULL;
    g_autofree char *s = NULL;

    g_assert_true(opts_parse_json(o,
                                  "{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
                                  "\"filename\":\"a\\\"b\",\"cache\":{\"direct\":true}},"
                                  "\"n\":5,\"list\":[1,\"x\"],\"backing\":null}",
                                  NULL));
    g_assert_cmpstr(opts_peek(o, "file.filename"), ==, "a\"b");
    g_assert_cmpstr(opts_peek(o, "file.cache.direct"), ==, "on");
    g_assert_cmpstr(opts_peek(o, "list.1"), ==, "x");
    g_assert_true(opts_has(o, "backing"));
    opts_del(o, "list.0");
    opts_del(o, "list.1");
    s = opts_to_json(o);
    g_assert_cmpstr(s, ==,
                    "{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", "
                    "\"filename\": \"a\\\"b\", \"cache\": {\"direct\": true}}, "
                    "\"n\": 5, \"backing\": null}");
    g_assert_false(opts_parse_json(o, "{\"a\":", &err));
    g_assert_nonnull(err);
    g_assert_false(opts_parse_json(o, "[1]", NULL));
    g_assert_false(opts_parse_json(o, "", NULL));
}

/* A value of each kind, as it is kept and as it is written again. */
static void test_json_values(void)
{
    static const struct {
        const char *json, *kept, *again;
    } rows[] = {
        { "'a\"b'", "a\"b", "\"a\\\"b\"" },
        { "\"\\\"\\'\\\\\\/\\b\\f\\n\\r\\t\"", "\"'\\/\b\f\n\r\t", NULL },
        { "\"\\u00e9\\ud834\\udd1e\"", "\xc3\xa9\xf0\x9d\x84\x9e", NULL },
        { "\"\\u0000\"", "\xc0\x80", NULL },
        { "-0", "0", "0" },
        { "18446744073709551615", "18446744073709551615", "18446744073709551615" },
        { "-9223372036854775808", "-9223372036854775808", NULL },
        { "1.50", "1.5", "1.5" },
        { "1e2", "100", "100" },
        { "18446744073709551616", "1.8446744073709552e+19", NULL },
        { "true", "on", "true" },
        { "null", "", "null" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Options) o = opts_new();
        g_autofree char *text = g_strdup_printf(" {\"k\"\t:\n%s }\r", rows[i].json), *again = NULL;
        g_autofree char *expect = g_strdup_printf("{\"k\": %s}", rows[i].again);

        g_assert_true(opts_parse_json(o, text, NULL));
        g_assert_cmpstr(opts_peek(o, "k"), ==, rows[i].kept);
        again = opts_to_json(o);
        if (rows[i].again) {
            g_assert_cmpstr(again, ==, expect);
        }
    }
}

/* Bad text leaves the options as they were. */
static void test_json_errors(void)
{
    static const struct {
        const char *json, *error;
    } rows[] = {
        { " ", "Expecting a JSON value" },
        { "{} {}", "Expecting at most one JSON value" },
        { "{\"a\":\"\xe9\"}", "JSON parse error, invalid UTF-8 sequence in string" },
        { "{\"a\":\"\x80\"}", "JSON parse error, invalid UTF-8 sequence in string" },
        { "{\"a\":\"\xff\"}", "JSON parse error, stray '\"\xff'" },
        { "{\"a\":\"\\uffff\"}", "JSON parse error, \\uffff is not a valid Unicode character" },
        { "{\"a\":\"\\", "JSON parse error, stray '\"\\'" },
        { "{\"a\":1,\"a\":2}", "JSON parse error, duplicate key" },
    };
    g_autoptr(Options) o = opts_new();
    g_autofree char *deep = g_strnfill(200000, '[');
    g_autoptr(GError) err = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) e = NULL;
        g_autofree char *expect =
            g_strconcat("Could not parse the JSON options: ", rows[i].error, NULL);

        g_assert_false(opts_parse_json(o, rows[i].json, &e));
        g_assert_cmpstr(e->message, ==, expect);
    }
    g_assert_false(opts_parse_json(o, deep, &err));
    g_assert_cmpstr(err->message, ==, "Could not parse the JSON options: nested too deeply");
    g_assert_cmpuint(opts_count(o), ==, 0);
}

static void test_take(void)
{
    static const char *const names[] = { "off", "full", NULL };
    g_autoptr(Options) o = opts_new(), sub = NULL;
    g_autoptr(GError) err = NULL;
    uint64_t v;
    bool b;
    int e;

    opts_parse(o, "s=1.5k,b=yes,e=full,u=0x10,file.x=1,file.y.z=2,filey.z=3", NULL, NULL);
    g_assert_true(opts_take_size(o, "s", 0, &v, NULL));
    g_assert_cmpuint(v, ==, 1536);
    g_assert_true(opts_take_size(o, "s", 7, &v, NULL));
    g_assert_cmpuint(v, ==, 7);
    g_assert_true(opts_take_bool(o, "b", false, &b, NULL) && b);
    g_assert_true(opts_take_enum(o, "e", names, 0, &e, NULL));
    g_assert_cmpint(e, ==, 1);
    g_assert_true(opts_take_uint(o, "u", 0, &v, NULL));
    g_assert_cmpuint(v, ==, 16);
    g_assert_true(opts_has_subtree(o, "file"));
    sub = opts_take_subtree(o, "file");
    g_assert_cmpstr(opts_peek(sub, "y.z"), ==, "2");
    g_assert_cmpuint(opts_count(o), ==, 1);
    g_assert_cmpstr(opts_first_key(o), ==, "filey.z");
    g_assert_false(opts_has_subtree(o, "file"));
    opts_set(o, "x", "maybe");
    g_assert_false(opts_take_bool(o, "x", false, &b, &err));
    g_assert_cmpstr(err->message, ==, "Parameter 'x' expects 'on' or 'off'");
    g_clear_error(&err);
    opts_set(o, "x", "99999999999999999999999");
    g_assert_false(opts_take_size(o, "x", 0, &v, &err));
}

static void test_size(void)
{
    static const struct {
        const char *s;
        int ret;
        uint64_t v;
    } t[] = {
        { "0", 0, 0 },
        { "512", 0, 512 },
        { "1k", 0, 1024 },
        { "1K", 0, 1024 },
        { "1.5M", 0, 1572864 },
        { "0x20", 0, 32 },
        { "2T", 0, UINT64_C(2) << 40 },
        { "16E", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "x", -EINVAL, 0 },
        { "1x", -EINVAL, 0 },
        { "-1", -ERANGE, 0 },
        { "-1k", -EINVAL, 0 },
        { "-", -EINVAL, 0 },
        { "+1k", 0, 1024 },
        { ".5k", 0, 512 },
        { "-0", -ERANGE, 0 },
        { "1.9999999k", 0, 2048 },
        { "1kk", -EINVAL, 0 },
        { "0x", -EINVAL, 0 },
        { "0x10k", -EINVAL, 0 },
        { "0x10b", 0, 267 },
        { ".", -EINVAL, 0 },
        { "1.5", -EINVAL, 0 },
        { "10 ", -EINVAL, 0 },
        { "7b", 0, 7 },
    };
    static const struct {
        uint64_t v;
        const char *s;
    } h[] = {
        { 0, "0 B" },
        { 512, "512 B" },
        { 1024, "1 KiB" },
        { 197120, "192 KiB" },
        { 65536, "64 KiB" },
        { 1048576, "1 MiB" },
        { 1610612736, "1.5 GiB" },
        { UINT64_C(1) << 60, "1 EiB" },
        { 999, "999 B" },
        { 1023, "0.999 KiB" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(t); i++) {
        uint64_t v = 0;

        g_assert_cmpint(size_parse(t[i].s, NULL, 'B', &v), ==, t[i].ret);
        g_assert_cmpuint(v, ==, t[i].v);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(h); i++) {
        g_autofree char *s = size_to_human(h[i].v);

        g_assert_cmpstr(s, ==, h[i].s);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/opts/parse", test_parse);
    g_test_add_func("/opts/json", test_json);
    g_test_add_func("/opts/json/values", test_json_values);
    g_test_add_func("/opts/json/errors", test_json_errors);
    g_test_add_func("/opts/take", test_take);
    g_test_add_func("/opts/size", test_size);
    return g_test_run();
}
