/* SPDX-License-Identifier: MIT */
/*
 * How a target runs: under libFuzzer (FUZZ_LIBFUZZER), or as a program that replays the files and
 * folders it is given, prints TAP, and needs no more than a C compiler.
 */
#include "fuzz.h"

#include "block/backend.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void init(void)
{
    static bool done;

    if (!done) {
        done = true;
        mem_driver_register();
    }
}

void fuzz_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "fuzz %s: ", fuzz_name);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    abort();
}

static void run(const uint8_t *data, size_t size)
{
    init();
    fuzz_limits_begin();
    fuzz_one(data, size);
    fuzz_limits_end();
}

#ifdef FUZZ_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run(data, size);
    return 0;
}

size_t fuzz_mutate_bytes(uint8_t *data, size_t size, size_t max)
{
    return LLVMFuzzerMutate(data, size, max);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size_t n = fuzz_mutate(data, size, max, seed);

    return n ? n : LLVMFuzzerMutate(data, size, max);
}

#else

size_t fuzz_mutate_bytes(uint8_t *data, size_t size, size_t max)
{
    return size;
}

static void collect(GPtrArray *files, const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (!dir) {
        if (g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
            g_ptr_array_add(files, g_strdup(path));
        }
        return;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *sub = g_build_filename(path, name, NULL);

        collect(files, sub);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A finding aborts: the test that fails is the one after the last "ok". */
int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);

    for (int i = 1; i < argc; i++) {
        collect(files, argv[i]);
    }
    g_ptr_array_sort(files, by_name);
    printf("1..%u\n", files->len + 1);
    run((const uint8_t *)"", 0);
    printf("ok 1 - %s: no bytes at all\n", fuzz_name);
    for (guint i = 0; i < files->len; i++) {
        const char *path = g_ptr_array_index(files, i);
        g_autofree char *data = NULL, *name = g_path_get_basename(path);
        gsize size;

        fflush(stdout);
        if (!g_file_get_contents(path, &data, &size, NULL)) {
            printf("not ok %u - %s: cannot read %s\n", i + 2, fuzz_name, path);
            return 1;
        }
        fprintf(stderr, "%s\n", path);
        run((const uint8_t *)data, size);
        printf("ok %u - %s: %s\n", i + 2, fuzz_name, name);
    }
    return 0;
}

#endif
