/* SPDX-License-Identifier: MIT */
/*
 * The options of a command as a table: each says its names and where its value goes, or what to
 * call with it.  getopt(3) does the parsing, and tells what it does not know.
 */
#ifndef TOOLS_LIB_ARGS_H
#define TOOLS_LIB_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum ToolArgKind {
    ARG_SET,    /* takes nothing; sets a bool */
    ARG_CLEAR,  /* ... clears it */
    ARG_BITS,   /* ... sets bits of an int */
    ARG_TEXT,   /* a const char * */
    ARG_SIZE,   /* an int64_t, with a suffix or not, between min and max */
    ARG_NUMBER, /* the same without suffixes */
    ARG_DO,     /* takes nothing; calls */
    ARG_TAKE    /* calls with the value */
} ToolArgKind;

typedef struct ToolArg ToolArg;
struct ToolArg {
    const char *name; /* --name; NULL: none */
    int letter;       /* -x; 0: none */
    ToolArgKind kind;
    size_t at;        /* of the field in the record: offsetof */
    const char *what; /* sizes and numbers: "queue depth", for messages; calls: theirs */
    int64_t min, max;
    int bits;
    /* @field is at "at" in @record. False: told, and the command ends. */
    bool (*call)(const ToolArg *a, void *record, void *field, const char *value);
};

typedef enum ArgsResult {
    ARGS_OK,      /* optind is the first argument that is no option */
    ARGS_BAD,     /* a value is bad: told */
    ARGS_UNKNOWN, /* getopt has told; usage is due */
} ArgsResult;

/* Takes options out of @argv into @record by @table, which a row without names ends. Where no row
 * has a long name, a command takes none. */
ArgsResult args_take(const ToolArg *table, int argc, char **argv, void *record);

/* Calls for tables. Of an int of BlockOpenFlags: how files do I/O, or by the kernel's own way; what
 * becomes of discards. */
bool arg_take_aio(const ToolArg *a, void *record, void *field, const char *value);
bool arg_native_aio(const ToolArg *a, void *record, void *field, const char *value);
bool arg_take_discard(const ToolArg *a, void *record, void *field, const char *value);

/* A size argument; -1 and told. @what: "image size" */
int64_t arg_size(const char *what, const char *arg, int64_t min, int64_t max);
/* The same without suffixes: a count, decimal or hex or octal. */
int64_t arg_number(const char *what, const char *arg, int64_t min, int64_t max);

#endif
