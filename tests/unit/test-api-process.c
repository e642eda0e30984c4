/* SPDX-License-Identifier: MIT */
/* The public API in a process that forks, and in one that has no descriptor left. */
/* Shows INV-RUN-1, INV-RUN-3. */
#include "cowlet/cowlet.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK (64 << 10)
#define CHUNKS 64

static char *dir, *file;

/* TSan does not see what fork() handlers unlock in the child of a process with threads, and takes
 * later locks there for double ones. */
#ifdef __SANITIZE_THREAD__
#define TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#endif
#ifndef TSAN
#define TSAN 0
#endif

/* ASan's allocator (of gcc 12) takes its locks over fork(): a child of a process whose other
 * threads allocate may wait for them for ever. Without ASan two such threads run. */
#ifdef __SANITIZE_ADDRESS__
#define BUSY_THREADS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUSY_THREADS 0
#endif
#endif
#ifndef BUSY_THREADS
#define BUSY_THREADS 2
#endif

/* Chunk n is full of n. */
static void make_file(void)
{
    g_autofree char *content = g_malloc(CHUNK * CHUNKS);

    dir = g_dir_make_tmp("cowlet-api-XXXXXX", NULL);
    file = g_build_filename(dir, "a.raw", NULL);
    for (int i = 0; i < CHUNKS; i++) {
        memset(content + CHUNK * i, i, CHUNK);
    }
    g_assert_true(g_file_set_contents(file, content, CHUNK * CHUNKS, NULL));
}

static CowletImage *open_it(CowletOpenFlags flags)
{
    CowletImage *i = cowlet_open(file, "driver=raw", flags | COWLET_OPEN_DIRECT, NULL);

    return i ? i : cowlet_open(file, "driver=raw", flags, NULL);
}

static void read_chunk(CowletImage *img, int n)
{
    g_autofree char *buf = g_malloc0(CHUNK);

    g_assert_cmpint(cowlet_read(img, (gint64)CHUNK * n, buf, CHUNK), ==, 0);
    g_assert_true(buf[0] == n && buf[CHUNK - 1] == n);
}

static void count(void *opaque, int ret)
{
    g_assert_cmpint(ret, ==, 0);
    ++*(int *)opaque;
}

static void note(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

/* ---- fork() ---- */

#define CHECK(what)                                                                                \
    if (!(what)) {                                                                                 \
        return __LINE__ % 250 + 1;                                                                 \
    }

/* What a child does with an image of its own: everything works. */
static int use_new_image(void)
{
    g_autofree char *f = g_strdup_printf("%s/child-%d.qcow2", dir, (int)getpid());
    g_autofree char *buf = g_malloc(4 << 20);
    CowletImage *img;
    int n = 0;

    CHECK(cowlet_create(f, "qcow2", 16 << 20, NULL, NULL));
    img = cowlet_open(f, "driver=qcow2,node-name=named", COWLET_OPEN_READ_WRITE, NULL);
    CHECK(img); /* the name is the parent's node's, and free here */
    memset(buf, 'c', 4 << 20);
    CHECK(cowlet_write(img, 12345, buf, 4 << 20) == 0); /* through the thread pool */
    CHECK(cowlet_flush(img) == 0);
    memset(buf, 0, 4 << 20);
    cowlet_read_async(img, 12345, buf, 4 << 20, count, &n);
    for (int i = 0; i < 3000 && !n; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    CHECK(n == 1 && buf[0] == 'c' && buf[(4 << 20) - 1] == 'c');
    cowlet_close(img);
    g_unlink(f);
    return 0;
}

static int child(CowletImage *old)
{
    char buf[512] = "w";
    int ret = 1;

    alarm(30);
    CHECK(cowlet_read(old, 0, buf, 512) == -EBADF);
    CHECK(cowlet_write(old, 0, buf, 512) == -EBADF);
    CHECK(cowlet_flush(old) == -EBADF);
    CHECK(cowlet_length(old) == -EBADF);
    g_source_attach(cowlet_thread_source(), NULL);
    cowlet_read_async(old, 0, buf, 512, note, &ret);
    CHECK(ret == 1);
    for (int i = 0; i < 3000 && ret == 1; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(1000);
    }
    CHECK(ret == -EBADF);
    ret = TSAN ? 0 : use_new_image();
    cowlet_close(old);
    return ret;
}

static atomic_bool stop;

/* Keeps the locks of the library busy. */
static gpointer open_and_close(gpointer n)
{
    g_autofree char *o = g_strdup_printf("driver=raw,node-name=other%d", GPOINTER_TO_INT(n));
    int opens = 0;

    for (; !atomic_load(&stop); opens++) {
        CowletImage *img = cowlet_open(file, o, COWLET_OPEN_READ_ONLY, NULL);

        g_assert_nonnull(img);
        cowlet_close(img);
    }
    return GINT_TO_POINTER(opens);
}

static void test_fork(void)
{
    CowletImage *img = open_it(COWLET_OPEN_READ_WRITE);
    CowletImage *named =
        cowlet_open(file, "driver=raw,node-name=named", COWLET_OPEN_FORCE_SHARE, NULL);
    char *bufs = g_malloc(CHUNK * CHUNKS);
    GThread *t[2];

    g_assert_true(img && named);
    g_source_attach(cowlet_thread_source(), NULL);
    for (int i = 0; i < BUSY_THREADS; i++) {
        t[i] = g_thread_new("busy", open_and_close, GINT_TO_POINTER(i));
    }
    for (int round = 0; round < 8; round++) {
        int n = 0, status;
        pid_t pid;

        for (int i = 0; i < CHUNKS; i++) { /* under way at the fork */
            cowlet_read_async(img, (gint64)CHUNK * i, bufs + CHUNK * i, CHUNK, count, &n);
        }
        pid = fork();
        if (pid == 0) {
            _exit(child(img));
        }
        g_assert_cmpint(pid, >, 0);
        for (int i = 0; i < 100; i++) {
            read_chunk(img, i % CHUNKS);
        }
        while (n < CHUNKS) {
            g_main_context_iteration(NULL, TRUE);
        }
        for (int i = 0; i < CHUNKS; i++) {
            g_assert_cmpint(bufs[CHUNK * i + 7], ==, i);
            bufs[CHUNK * i + 7] = 'x';
        }
        g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
        g_assert_cmpint(status, ==, 0);
        read_chunk(img, round);
    }
    atomic_store(&stop, TRUE);
    for (int i = 0; i < BUSY_THREADS; i++) {
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(t[i])), >, 0);
    }
    cowlet_close(named);
    cowlet_close(img);
    g_free(bufs);
}

/* A child that lives on does not keep the parent's image locked. */
static void test_fork_locks(void)
{
    g_autofree char *f = g_build_filename(dir, "locked.qcow2", NULL);
    CowletImage *img;
    int pipes[2], status;
    pid_t pid;
    char c;

    g_assert_true(cowlet_create(f, "qcow2", 1 << 20, NULL, NULL));
    img = cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, NULL);
    g_assert_nonnull(img);
    g_assert_cmpint(pipe(pipes), ==, 0);
    pid = fork();
    if (pid == 0) {
        close(pipes[1]);
        _exit(read(pipes[0], &c, 1) == 0 ? 0 : 1);
    }
    close(pipes[0]);
    g_assert_null(cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, NULL)); /* in use */
    g_assert_cmpint(cowlet_close(img), ==, 0);
    img = cowlet_open(f, "driver=qcow2", COWLET_OPEN_READ_WRITE, NULL);
    g_assert_nonnull(img);
    g_assert_cmpint(cowlet_close(img), ==, 0);
    close(pipes[1]);
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
    g_unlink(f);
}

/* ---- No descriptors ---- */

static gpointer read_in_thread(gpointer img)
{
    for (int i = 0; i < 10; i++) {
        read_chunk(img, i);
    }
    return NULL;
}

static void test_no_descriptors(void)
{
    struct rlimit few = { 64, 64 };
    CowletImage *img, *none;
    g_autoptr(GError) err = NULL;
    int fd, last = -1;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 60 * G_USEC_PER_SEC, G_TEST_SUBPROCESS_INHERIT_STDERR);
        g_test_trap_assert_passed();
        return;
    }
    img = open_it(COWLET_OPEN_READ_ONLY);
    g_assert_nonnull(img);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &few), ==, 0);
    while ((fd = dup(0)) >= 0) {
        last = fd;
    }
    g_assert_cmpint(errno, ==, EMFILE);
    g_thread_join(g_thread_new("reader", read_in_thread, img)); /* no loop can be woken there */
    read_in_thread(img);
    none = cowlet_open(file, "driver=raw", COWLET_OPEN_READ_ONLY, &err);
    g_assert_null(none);
    g_assert_error(err, g_quark_from_static_string("cowlet-error-quark"), EMFILE);
    close(last); /* and there are some again */
    none = cowlet_open(file, "driver=raw", COWLET_OPEN_READ_ONLY, NULL);
    g_assert_nonnull(none);
    read_chunk(none, 3);
    cowlet_close(none);
    cowlet_close(img);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    make_file();
    g_test_add_func("/api-process/fork", test_fork);
    g_test_add_func("/api-process/fork-locks", test_fork_locks);
    g_test_add_func("/api-process/no-descriptors", test_no_descriptors);
    ret = g_test_run();
    g_unlink(file);
    g_rmdir(dir);
    g_free(file);
    g_free(dir);
    return ret;
}
