/* SPDX-License-Identifier: MIT */
/* Inside of cowlet-img. */
#ifndef TOOLS_IMG_H
#define TOOLS_IMG_H

#include "block/backend.h"
#include "tools/lib/args.h"
#include "tools/lib/object.h"

#include <json-glib/json-glib.h>

/* The tool as it was called: the name alone, and with its folder. */
extern const char *progname, *calledname;

/* "PROG: message" to standard error. */
void img_error(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
/* The same from @err (freed), with @prefix before it if not NULL. */
void img_error_from(GError *err, const char *prefix);
/* For a bad command line: the message, where to look, exit 1. */
void img_usage_error(const char *command, const char *fmt, ...) G_GNUC_PRINTF(2, 3) G_GNUC_NORETURN;
/* What getopt has told already. */
void img_unknown_option(const char *command) G_GNUC_NORETURN;
/* One argument is left after the options. */
void img_expect_one_image(const char *command, int argc);

/* The command's options, or the end: exit 1. */
void img_take_args(const char *command, const ToolArg *table, int argc, char **argv, void *record);
/* Calls for tables: --help, whose text is "what"; --output of the command "what", to a bool. */
bool img_show_help(const ToolArg *a, void *record, void *field, const char *value);
bool img_take_output(const ToolArg *a, void *record, void *field, const char *value);

/* The text of -o options, several joined; false and told: it is no list. Free @all at the end. */
bool img_add_options(char **all, const char *arg);

/* Open; NULL and told. @filename is an option string with @image_opts. */
BlockBackend *img_open(const char *filename, const char *format, int flags, bool writethrough,
                       bool image_opts, bool force_share);

/* The same with options beside the name (consumed; NULL: none). */
BlockBackend *img_open_with(const char *filename, const char *format, Options *options, int flags,
                            bool writethrough, bool image_opts, bool force_share);

/* Flushes what is cached and closes. False: something that was written may be lost; told, if @tell
 * (no other error was). NULL is fine. */
bool img_close(BlockBackend *blk, const char *name, bool tell);

/* snapshots.c: the list of internal snapshots; nothing if there are none. */
void img_print_snapshots(BlockDriverState *bs);
/* "snapshot.id=…,snapshot.name=…", or an id, or a name: what -l says. False: told, it is none. */
bool img_check_snapshot_name(const char *text);
/* What @blk, read-only, shows from now on; checked before. False and told. */
bool img_load_snapshot(BlockBackend *blk, const char *text);

/* JSON as the reference prints it: 4 spaces, members in order. */
void img_print_json(JsonNode *node);

/* Progress "    (12.34/100%)\r", in steps of more than @min_step percent; not @enabled: SIGUSR1
 * asks for it. */
void progress_init(bool enabled, double min_step);
bool progress_enabled(void);
void progress_set(double percent);
void progress_end(void);

/* What images of @format, to be created, can do: BLK_CAN_… bits; -1: none can be created, told. */
int img_creatable(const char *format);

int img_amend(int argc, char **argv);
int img_bench(int argc, char **argv);
int img_bitmap(int argc, char **argv);
int img_check(int argc, char **argv);
int img_commit(int argc, char **argv);
int img_compact(int argc, char **argv);
int img_compare(int argc, char **argv);
int img_convert(int argc, char **argv);
int img_create(int argc, char **argv);
int img_dd(int argc, char **argv);
int img_info(int argc, char **argv);
int img_map(int argc, char **argv);
int img_measure(int argc, char **argv);
int img_rebase(int argc, char **argv);
int img_resize(int argc, char **argv);
int img_snapshot(int argc, char **argv);

/* convert-bitmaps.c: can persistent bitmaps be copied? False: told. */
bool bitmaps_check_source(BlockBackend *source, int n_sources, bool skip_broken);
bool bitmaps_check_target(BlockBackend *target);
bool bitmaps_copy(BlockBackend *source, BlockBackend *target);

/* create.c: the list for "-o help" */
int img_print_create_options(const char *filename, const char *format);
/* The lines of @o, by name; sorts it. */
void img_print_options(BlockCreateOption *o);
bool img_is_help(const char *opts);

#endif
