/* SPDX-License-Identifier: MIT */
/*
 * libcowlet: disk images for virtual machines, as a library.
 *
 * An image is opened by name and options, as the tools take them, and read and written by byte
 * offset.  Each request has a blocking form and an asynchronous one.  Asynchronous requests run
 * in the event loop of the thread that starts them: attach cowlet_thread_source() to the
 * GMainContext that the thread runs.  Several threads may use one image at a time.
 *
 * Callbacks (CowletDone) are called from that loop, on the thread's own stack, in the order in
 * which the requests ended: never from within the call that started them, nor within a blocking
 * call. At most 64 are called before other sources have their turn. A callback may do anything:
 * start requests, make blocking calls, run a main loop, close the image.
 *
 * A thread that ends waits for the requests that it has under way, and their callbacks are called
 * in it. What these start is not run: its result is -ECANCELED, and what is started in answer to
 * that is dropped, without a callback. A thread that sleeps, or does anything else than run its
 * loop, hinders nobody: whoever waits for the image completes its requests; their callbacks wait
 * for the thread.
 *
 * After fork() the images of the parent are the parent's: in the child each call for one is
 * answered with -EBADF, cowlet_close() gives back the handle and touches nothing else, and no
 * callback of a request that the parent started is called. Images that the child opens itself work.
 * Between fork() and exec() nothing need be done.
 *
 * Where the process has no descriptor left, requests go on, more slowly; what has to open a file
 * fails with EMFILE.
 *
 * I/O returns 0 or a negative errno value.  What a person reads comes as a GError.
 * The library never prints, aborts or exits because of bad input.
 *
 * Images that several threads open may share nodes by name ("file=NAME", where another image has
 * "node-name=NAME"). A library that was loaded stays loaded: dlclose() has no effect, because
 * threads keep state of its until they end.
 */
#ifndef COWLET_COWLET_H
#define COWLET_COWLET_H

#include <glib.h>
#include <stdint.h>

G_BEGIN_DECLS

#define COWLET_API __attribute__((visibility("default")))

typedef struct CowletImage CowletImage;

typedef enum CowletOpenFlags {
    COWLET_OPEN_READ_ONLY = 0,
    COWLET_OPEN_READ_WRITE = 1 << 0,
    COWLET_OPEN_DIRECT = 1 << 1,      /* past the page cache (O_DIRECT) */
    COWLET_OPEN_FORCE_SHARE = 1 << 2, /* read-only: another process may be writing */
    COWLET_OPEN_UNMAP = 1 << 3,       /* discarded ranges are given back to the file system */
} CowletOpenFlags;

/*
 * Opens @filename (plain, "json:{…}", or NULL with @options) with @options
 * ("driver=qcow2,l2-cache-size=4M"; NULL: none, the format is probed).
 * Returns a new image to be closed with cowlet_close(); NULL with @error set.
 */
COWLET_API CowletImage *cowlet_open(const char *filename, const char *options,
                                    CowletOpenFlags flags, GError **error);

/*
 * The same for an image that is not trusted. What it refers to (backing files, a data file) is
 * opened by @open_reference alone: it returns a descriptor, open for writing if @writable, which
 * the library takes over, or a negative errno value to refuse. @image and @reference are what the
 * image says, unchecked. It is called during cowlet_open_confined(), in its thread and on its
 * stack.
 *
 * Without a callback, @options of cowlet_open() confine an image: "references=none" (no file but
 * the given one), "references=same-folder", "references=list,references.0=/images/base.qcow2"; and
 * "limits.virtual-size=", "limits.metadata=", "limits.table-size=" (bytes), "limits.chain-depth="
 * (images).
 */
typedef int CowletOpenReference(const char *image, const char *reference, gboolean writable,
                                void *opaque);
COWLET_API CowletImage *cowlet_open_confined(const char *filename, const char *options,
                                             CowletOpenFlags flags,
                                             CowletOpenReference *open_reference, void *opaque,
                                             GError **error);

/*
 * Waits for requests in flight, writes what is cached to stable storage, closes. Returns 0, or a
 * negative errno value: something that was written may be lost (a full disk, an I/O error; some
 * file systems tell only at close). The image is closed and @image is gone all the same. To act on
 * such an error while the image is still open, call cowlet_flush() first. NULL is fine, and 0.
 *
 * The callbacks of the calling thread's own requests are called before it returns; those of other
 * threads' come from their loops, and may come later. A request that begins meanwhile is either
 * counted, and waited for, or its result is -ESHUTDOWN.
 */
COWLET_API int cowlet_close(CowletImage *image);

/*
 * Creates an image of @format ("qcow2", "raw"), @size bytes long, with @options as the tool's -o
 * takes them ("extended_l2=on,cluster_size=128k"; may be NULL; without "size"). FALSE with @error
 * set: an option that neither the format nor its file takes is refused by name, and then there is
 * no image.
 */
COWLET_API gboolean cowlet_create(const char *filename, const char *format, int64_t size,
                                  const char *options, GError **error);

/*
 * From now on @report is told what a person should know of the image, once each (that it is found
 * to be corrupt): one line without newline, in the thread of the request that met it, and in the
 * middle of that: @report must not wait for other threads, blocking calls, open, create and close
 * fail with EDEADLK there (another report, or none, may be set), and the stack is smaller than a
 * thread's (256 KiB are left). Set it before requests run.
 */
typedef void CowletReport(const char *line, void *opaque);
COWLET_API void cowlet_set_report(CowletImage *image, CowletReport *report, void *opaque);

/* The length of the disk in bytes, or a negative errno value. */
COWLET_API int64_t cowlet_length(CowletImage *image);

/*
 * The blocking forms. @offset and @bytes in bytes, any alignment. Written data is on stable
 * storage after the next cowlet_flush() that returns 0.
 */
COWLET_API int cowlet_read(CowletImage *image, int64_t offset, void *buf, int64_t bytes);
COWLET_API int cowlet_write(CowletImage *image, int64_t offset, const void *buf, int64_t bytes);
COWLET_API int cowlet_write_zeroes(CowletImage *image, int64_t offset, int64_t bytes);
COWLET_API int cowlet_discard(CowletImage *image, int64_t offset, int64_t bytes);
COWLET_API int cowlet_flush(CowletImage *image);

/*
 * The asynchronous forms: return at once; @done is called with the result from the thread's loop,
 * later (see above). @buf must live until then.
 */
typedef void CowletDone(void *opaque, int result);
COWLET_API void cowlet_read_async(CowletImage *image, int64_t offset, void *buf, int64_t bytes,
                                  CowletDone *done, void *opaque);
COWLET_API void cowlet_write_async(CowletImage *image, int64_t offset, const void *buf,
                                   int64_t bytes, CowletDone *done, void *opaque);
COWLET_API void cowlet_write_zeroes_async(CowletImage *image, int64_t offset, int64_t bytes,
                                          CowletDone *done, void *opaque);
COWLET_API void cowlet_discard_async(CowletImage *image, int64_t offset, int64_t bytes,
                                     CowletDone *done, void *opaque);
COWLET_API void cowlet_flush_async(CowletImage *image, CowletDone *done, void *opaque);

/*
 * The source of the calling thread's event loop, for g_source_attach(). Owned by the library. It is
 * the same one until it is destroyed, by g_source_destroy() or with the GMainContext that it is
 * attached to; after that it is a new one, for another context, and requests under way go on there.
 * Attach it to one that this thread runs.
 */
COWLET_API GSource *cowlet_thread_source(void);

G_END_DECLS

#endif
