/* SPDX-License-Identifier: MIT */
/* Images for tests. */
#include "tests/lib/image.h"

#include "tests/lib/fake-file.h"

#include <glib/gstdio.h>
#include <string.h>

const char *const image_files[3] = { IMAGE_NAME, IMAGE_BASE, IMAGE_DATA };

uint8_t image_backing_fill(uint64_t offset)
{
    return (uint8_t)(0x80 | (offset >> 9 ^ offset >> 3));
}

static void make_backing(const ImageSpec *s)
{
    FakeContent c = { g_malloc(MAX(s->backing, 1)), s->backing };

    for (int64_t i = 0; i < s->backing; i++) {
        c.data[i] = image_backing_fill(i);
    }
    fake_restore(IMAGE_BASE, &c);
    fake_content_clear(&c);
}

static void set_raw_bit(void)
{
    FakeContent c = fake_save(IMAGE_NAME);

    c.data[95] |= 2; /* of the autoclear features */
    fake_restore(IMAGE_NAME, &c);
    fake_content_clear(&c);
}

int image_create(const ImageSpec *s, GError **errp)
{
    Options *o = opts_new();
    int ret;

    opts_set_int(o, "size", (int64_t)s->size);
    opts_set_int(o, "cluster_size", s->cluster_size);
    opts_set_int(o, "refcount_bits", s->refcount_bits);
    if (s->v2) {
        opts_set(o, "compat", "0.10");
    }
    if (s->extended_l2) {
        opts_set(o, "extended_l2", "on");
    }
    if (s->lazy_refcounts) {
        opts_set(o, "lazy_refcounts", "on");
    }
    if (s->zstd) {
        opts_set(o, "compression_type", "zstd");
    }
    if (s->data_file) {
        opts_set(o, "data_file", "fake:" IMAGE_DATA);
    }
    if (s->data_raw && !s->raw_by_others) {
        opts_set(o, "data_file_raw", "on");
    }
    if (s->prealloc) {
        opts_set(o, "preallocation", blk_prealloc_names[s->prealloc]);
    }
    if (s->backing) {
        make_backing(s);
        opts_set(o, "backing_file", "fake:" IMAGE_BASE);
        opts_set(o, "backing_fmt", "raw");
    }
    ret = blk_create("fake:" IMAGE_NAME, "qcow2", o, errp);
    if (ret == 0 && s->raw_by_others) {
        set_raw_bit();
    }
    return ret;
}

BlockBackend *image_open(const ImageSpec *s, int flags, GError **errp)
{
    Options *o = opts_new();

    opts_set(o, "driver", "qcow2");
    opts_set(o, "file.driver", "fake");
    opts_set(o, "file.filename", IMAGE_NAME);
    if (s->data_file) {
        opts_set(o, "data-file.driver", "fake");
        opts_set(o, "data-file.filename", IMAGE_DATA);
    }
    if (*s->options && !opts_parse(o, s->options, NULL, errp)) {
        opts_free(o);
        return NULL;
    }
    return blk_open(NULL, o, flags, errp);
}

void image_describe(const ImageSpec *s, char *buf, size_t len)
{
    g_snprintf(buf, len,
               "size=%" G_GUINT64_FORMAT
               " cluster_size=%u refcount_bits=%u%s%s%s%s%s%s backing=%" G_GINT64_FORMAT
               " preallocation=%s open:%s",
               s->size, s->cluster_size, s->refcount_bits, s->v2 ? " v2" : "",
               s->extended_l2 ? " extended_l2" : "", s->lazy_refcounts ? " lazy_refcounts" : "",
               s->zstd ? " zstd" : "", s->data_file ? " data_file" : "",
               !s->data_raw       ? ""
               : s->raw_by_others ? " data_raw by others"
                                  : " data_raw",
               s->backing, blk_prealloc_names[s->prealloc], s->options);
}

int image_check(const ImageSpec *s, BlockCheckResult *res, BlockReportFunc *report, void *opaque)
{
    g_autoptr(GError) err = NULL;
    BlockBackend *blk = image_open(s, BLK_O_CHECK, &err);
    int ret;

    memset(res, 0, sizeof(*res));
    if (!blk) {
        report(err->message, opaque);
        return -EINVAL;
    }
    ret = blk_check(blk, res, 0, report, opaque);
    blk_close(blk);
    return ret;
}

/* ---- The reference ---- */

static char *put_file(const char *dir, const char *name)
{
    char *path = g_build_filename(dir, name, NULL);
    FakeContent c = fake_save(name);

    if (c.size < 0 || !g_file_set_contents(path, (char *)c.data, c.size, NULL)) {
        g_clear_pointer(&path, g_free);
    }
    fake_content_clear(&c);
    return path;
}

static char *json_name(const ImageSpec *s, const char *img, const char *base, const char *data)
{
    GString *j = g_string_new(NULL);

    g_string_printf(
        j, "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}", img);
    if (s->data_file) {
        g_string_append_printf(j, ",\"data-file\":{\"driver\":\"file\",\"filename\":\"%s\"}", data);
    }
    if (s->backing) {
        g_string_append_printf(j,
                               ",\"backing\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\","
                               "\"filename\":\"%s\"}}",
                               base);
    }
    g_string_append_c(j, '}');
    return g_string_free(j, FALSE);
}

/* NULL or what is wrong. @good: bits of exit codes that are fine. */
static char *run(const char *const *argv, unsigned good)
{
    g_autofree char *out = NULL, *errs = NULL;
    int status;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &errs,
                      &status, NULL)) {
        return g_strdup("could not run the reference");
    }
    if (WIFEXITED(status) && (good & (1u << WEXITSTATUS(status)))) {
        return NULL;
    }
    return g_strdup_printf("%s %s: %s%s", argv[0], argv[1], out, errs);
}

static char *ask(const ImageSpec *s, const char *dir, const uint8_t *content, uint64_t bytes)
{
    g_autofree char *img = put_file(dir, IMAGE_NAME);
    g_autofree char *base = put_file(dir, IMAGE_BASE);
    g_autofree char *data = put_file(dir, IMAGE_DATA);
    g_autofree char *name = json_name(s, img, base, data);
    g_autofree char *raw = g_build_filename(dir, "raw", NULL);
    g_autofree char *got = NULL;
    const char *check[] = { "qemu-img", "check", "-q", name, NULL };
    bool saved = img && (base || !s->backing) && (data || !s->data_file);
    const char *convert[] = { "qemu-img", "convert", "-q", "-O", "raw", name, raw, NULL };
    char *bad = saved ? run(check, 1u << 0 | 1u << 3)
                      : g_strdup("the files could not be saved for the reference");
    gsize len;

    if (bad || !content) {
        return bad;
    }
    bad = run(convert, 1u << 0);
    if (!bad && (!g_file_get_contents(raw, &got, &len, NULL) || len != bytes ||
                 memcmp(got, content, bytes))) {
        bad = g_strdup("the reference reads something else");
    }
    return bad;
}

bool image_has_reference(void)
{
    g_autofree char *program = g_find_program_in_path("qemu-img");

    return program != NULL;
}

char *image_ask_reference(const ImageSpec *s, const uint8_t *content, uint64_t bytes)
{
    static const char *const names[] = { IMAGE_NAME, IMAGE_BASE, IMAGE_DATA, "raw" };
    g_autofree char *dir = NULL;
    char *bad;

    if (!image_has_reference()) {
        return NULL;
    }
    dir = g_dir_make_tmp("cowlet-XXXXXX", NULL);
    if (!dir) {
        return g_strdup("no scratch folder");
    }
    bad = ask(s, dir, content, bytes);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);

        g_unlink(path);
    }
    g_rmdir(dir);
    return bad;
}
