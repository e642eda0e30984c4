/* SPDX-License-Identifier: MIT */
/*
 * A host that loads the library as a plug-in does: a thread uses it, lets go of it, and ends; then
 * the host loads it again. Usage: unload LIBRARY IMAGE
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *Open(const char *filename, const char *options, int flags, void **error);
typedef int Io(void *image, int64_t offset, void *buf, int64_t bytes);
typedef void Close(void *image);

static const char *library, *image;

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Through the thread pool, whose threads outlive the use. */
static void use(char fill)
{
    void *lib = dlopen(library, RTLD_NOW);
    size_t n = 8 << 20;
    char *buf = malloc(n);
    void *img;

    if (!lib || !(img = ((Open *)dlsym(lib, "cowlet_open"))(image, NULL, 1, NULL))) {
        fail("it did not open");
    }
    memset(buf, fill, n);
    if (((Io *)dlsym(lib, "cowlet_write"))(img, 0, buf, (int64_t)n) != 0) {
        fail("it did not write");
    }
    memset(buf, 0, n);
    if (((Io *)dlsym(lib, "cowlet_read"))(img, 0, buf, (int64_t)n) != 0 || buf[n - 1] != fill) {
        fail("it did not read back what was written");
    }
    ((Close *)dlsym(lib, "cowlet_close"))(img);
    free(buf);
    if (dlclose(lib) != 0) {
        fail("dlclose failed");
    }
}

static void *thread(void *fill)
{
    use(*(char *)fill);
    return NULL;
}

int main(int argc, char **argv)
{
    char fills[] = "ab";
    pthread_t t;

    if (argc != 3) {
        fail("usage: unload LIBRARY IMAGE");
    }
    library = argv[1];
    image = argv[2];
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&t, NULL, thread, &fills[i]) != 0 || pthread_join(t, NULL) != 0) {
            fail("no thread");
        }
    }
    if (!dlopen(library, RTLD_NOW | RTLD_NOLOAD)) {
        fail("it was unloaded under its threads");
    }
    use('c');
    return 0;
}
