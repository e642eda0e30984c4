/* SPDX-License-Identifier: MIT */
/* What each tool does with its process: signals, and an output that nobody takes. */
#ifndef TOOLS_LIB_PROCESS_H
#define TOOLS_LIB_PROCESS_H

/* At the start of main(). A file-size limit, a reader that went away and a request for progress end
 * no tool: the first two are errors of the write that meets them. Standard output is looked at when
 * the process exits; what it did not take is told by @name and makes the exit code 1. */
void process_init(const char *name);
const char *process_name(void);
/* Where 1 says something else: the exit code for that. */
void process_set_output_error(int exit_code);

#endif
