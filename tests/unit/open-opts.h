/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_OPEN_OPTS_H
#define TESTS_UNIT_OPEN_OPTS_H

#include "block/backend.h"

/* Opens what "driver=...,file.driver=..." describes; it must go well. */
BlockBackend *open_opts(const char *options, int flags);

#endif
