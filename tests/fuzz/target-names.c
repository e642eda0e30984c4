/* SPDX-License-Identifier: MIT */
/*
 * json: names and option strings. The first byte says which; what was parsed is printed as JSON and
 * parsed again to the same, and then opened, after all that could name a file was taken out.
 */
#include "fuzz.h"

#include "open.h"

#include "util/size.h"

#include <string.h>

const char fuzz_name[] = "names";

static void same_key(const char *key, const char *value, void *opaque)
{
    const char *v = opts_peek(opaque, key);

    FUZZ_CHECK(v && !strcmp(v, value), "'%s' is not the same again", key);
}

/* An object where a value stood before cannot be said in JSON twice: keys a and a.b. */
static bool has_both(const Options *o)
{
    g_autofree char *json = opts_to_json(o);
    g_autoptr(Options) again = opts_new();

    return !opts_parse_json(again, json, NULL) || opts_count(again) != opts_count(o);
}

static void check_json(const Options *o)
{
    g_autofree char *json = opts_to_json(o);
    g_autoptr(Options) again = opts_new();

    if (opts_parse_json(again, json, NULL) && !has_both(o)) {
        opts_foreach(o, same_key, again);
    }
}

static void open_it(Options *o, int flags)
{
    static const uint8_t seed[512];
    g_autoptr(MemFile) file = mem_file_new(65536);
    g_autoptr(GError) err = NULL;
    BlockBackend *blk;
    uint8_t buf[1024];

    (void)mem_file_write(file, 0, seed, sizeof(seed));
    fuzz_files_begin(file);
    fuzz_tame_options(o);
    blk = blk_open(NULL, opts_copy(o), flags, &err);
    FUZZ_CHECK(blk || (err && err->message[0]), "refused without a message");
    if (blk) {
        (void)blk_pread(blk, 0, MIN(blk_getlength(blk), 1024), buf, 0);
        blk_close(blk);
    }
    mem_driver_set(0, NULL);
}

static void one_size(const char *text)
{
    const char *end;
    uint64_t v;

    if (size_parse(text, &end, 'B', &v) == 0) {
        g_autofree char *human = size_to_human(v);

        FUZZ_CHECK(end > text && end <= text + strlen(text) && human[0], "size");
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    g_autoptr(Options) o = opts_new();
    g_autofree char *text = NULL;
    bool ok;

    if (size < 2) {
        return;
    }
    text = g_strndup((const char *)data + 1, size - 1);
    one_size(text);
    if (data[0] & 1) {
        ok = opts_parse_json(o, text, NULL);
    } else {
        ok = opts_parse(o, text, data[0] & 2 ? "driver" : NULL, NULL);
    }
    if (ok) {
        check_json(o);
        open_it(o, data[0] & 4 ? BLK_O_RDWR : 0);
    }
}

size_t fuzz_mutate(uint8_t *data, size_t size, size_t max, uint32_t seed)
{
    return 0;
}
