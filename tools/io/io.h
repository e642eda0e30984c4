/* SPDX-License-Identifier: MIT */
/* Inside of cowlet-io. */
#ifndef TOOLS_IO_H
#define TOOLS_IO_H

#include "block/backend.h"
#include "tools/lib/args.h"
#include "tools/lib/message.h"

typedef struct IoTool {
    const char *progname;
    BlockBackend *blk;
    bool misalign;
    bool quit;
    bool aio_failed;            /* one of the aio_* requests; no command's result says so */
    unsigned in_flight;         /* aio_* requests that have not told their end */
    struct IoRequest *finished; /* of these, those that ended since the loop last ran */
} IoTool;

extern IoTool tool; /* the one of this process */

#define CMD_NOFILE_OK 1 /* needs no open image */
#define CMD_WRITES 2    /* needs a writable one */

typedef struct IoCommand {
    const char *name, *altname;
    int (*fn)(int argc, char **argv);
    int argmin, argmax; /* -1: no limit; argmin -1: as many as you like */
    unsigned flags;
    const char *args, *oneline;
    void (*help)(void);
} IoCommand;

/* Tables of the groups; each ends with a NULL name. */
extern const IoCommand read_commands[], write_commands[], discard_commands[], aio_commands[],
    zone_commands[], misc_commands[], file_commands[], reopen_commands[];

/* command.c */
int command_run(const char *line);     /* 0 or -errno */
int command_usage(const IoCommand *c); /* prints its line; -EINVAL */
const IoCommand *command_find(const char *name);

/* report.c */
void cvt_bytes(double value, char *str, size_t size);
int64_t cvtnum(const char *s); /* -errno */
void print_cvtnum_err(int64_t rc, const char *arg);
int parse_pattern(const char *arg); /* -1: told */
void dump_buffer(const void *buf, int64_t offset, size_t len);
void print_report(const char *op, int64_t ns, int64_t offset, int64_t count, int64_t total, int cnt,
                  bool machine);
/* Print what GError says, after the program's name; frees it. */
void print_error(GError *err);
/* Format-specific information as info prints it. */
void print_specific_info(BlockBackend *blk);

/* "key=val,..." into @o; an option without a value is warned of. False: told. */
bool parse_options(Options *o, const char *arg);

/* request.c: one request, from its words to its figures. */
typedef enum IoKind {
    IO_READ,
    IO_WRITE,
    IO_WRITE_ZEROES,
    IO_WRITE_COMPRESSED,
    IO_DISCARD,
    IO_SAVE_VMSTATE,
    IO_LOAD_VMSTATE
} IoKind;

typedef struct IoRequest {
    IoKind kind;
    int64_t offset, bytes;
    void *buf;  /* NULL: none */
    IOVector v; /* of buf, in the pieces that the user named */
    unsigned flags;
    bool machine, quiet, verbose;
    int pattern; /* writes: what fills buf; reads: what is expected, -1: anything */
    int64_t start, ns;
    int ret;
    BlockBackend *blk; /* of aio_* */
    struct IoRequest *next;
} IoRequest;

#define REQUEST_MAX INT64_C(2147483136) /* INT_MAX rounded down to a sector */

int coroutine_fn request_co_run(IoRequest *r); /* 0 or -errno */
int request_run(IoRequest *r);                 /* the same, timed, polling until done */
/* Each returns 0, or -errno with the user told. */
int request_take_offset(IoRequest *r, const char *arg);
int request_take_bytes(IoRequest *r, const char *arg);
int request_check_length(const IoRequest *r, const char *arg);
int request_check_sectors(const IoRequest *r);
int request_make_vector(IoRequest *r, char **argv, int nr, int pattern);
int request_make_buffer(IoRequest *r, int pattern);
int request_fill_from_file(IoRequest *r, const char *name);
int request_verify(const IoRequest *r, int64_t from, int64_t bytes);
void request_report(const IoRequest *r, const char *done); /* dump and figures, unless quiet */
void request_clear(IoRequest *r);

/* input.c: commands from standard input until its end or quit; -1 if one failed. */
int run_input(void);

/* cmd-file.c */
/* How an image is opened. */
typedef struct IoMode {
    int flags; /* BlockOpenFlags */
    bool writethrough, force_share;
} IoMode;
/* Calls for tables, of an IoMode: -t, -n. */
bool io_take_cache(const ToolArg *a, void *record, void *field, const char *value);
bool io_take_nocache(const ToolArg *a, void *record, void *field, const char *value);
int io_open(const char *name, int flags, bool writethrough, bool force_share, Options *opts);
/* What was written is flushed; 0, or -errno and told: something may be lost. */
int io_flush(void);
/* The same, and closed whatever it returns. */
int io_close(void);

#endif
