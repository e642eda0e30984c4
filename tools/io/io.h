/* SPDX-License-Identifier: MIT */
/* Inside of cowlet-io. */
#ifndef TOOLS_IO_H
#define TOOLS_IO_H

#include "block/backend.h"

typedef struct IoTool {
    const char *progname;
    BlockBackend *blk;
    /* How blk was opened, for reopen. */
    char *name;
    Options *opts;
    int flags;
    bool writethrough, force_share;
    bool misalign;
    bool quit;
    unsigned in_flight; /* aio_* requests */
} IoTool;

extern IoTool tool; /* the one of this process */

#define CMD_NOFILE_OK 1

typedef struct IoCommand {
    const char *name, *altname;
    int (*fn)(int argc, char **argv);
    int argmin, argmax; /* -1: no limit */
    unsigned flags;
    const char *args, *oneline;
    void (*help)(void);
} IoCommand;

/* Tables of the groups; each ends with a NULL name. */
extern const IoCommand rw_commands[], aio_commands[], misc_commands[], file_commands[];

/* command.c */
int command_run(const char *line);            /* 0 or -errno */
int command_usage(const IoCommand *c);        /* prints its line; -EINVAL */
const IoCommand *command_find(const char *name);

/* report.c */
void cvt_bytes(double value, char *str, size_t size);
int64_t cvtnum(const char *s);                /* -errno */
void print_cvtnum_err(int64_t rc, const char *arg);
int parse_pattern(const char *arg);           /* -1: told */
int check_length(int64_t count, const char *arg, bool zero_no_fallback);
void *io_alloc(size_t len, int pattern);
void io_free(void *p);
void dump_buffer(const void *buf, int64_t offset, size_t len);
void print_report(const char *op, int64_t ns, int64_t offset, int64_t count, int64_t total, int cnt,
                  bool machine);
/* Print what GError says, after the program's name; frees it. */
void print_error(GError *err);
void io_error(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* Format-specific information as info prints it. */
void print_specific_info(BlockBackend *blk);

/* cmd-file.c */
int io_open(const char *name, int flags, bool writethrough, bool force_share, Options *opts);
void io_close(void);

#endif
