/* SPDX-License-Identifier: MIT */
/* Inside of blkdebug: rules and what they are made from. */
#ifndef FILTER_BLKDEBUG_H
#define FILTER_BLKDEBUG_H

#include "block/io.h"

typedef enum DebugIoType {
    DEBUG_IO_READ,
    DEBUG_IO_WRITE,
    DEBUG_IO_WRITE_ZEROES,
    DEBUG_IO_DISCARD,
    DEBUG_IO_FLUSH,
    DEBUG_IO_BLOCK_STATUS,
    DEBUG_IO__MAX
} DebugIoType;

typedef enum DebugAction { DEBUG_INJECT, DEBUG_SET_STATE, DEBUG_SUSPEND } DebugAction;

typedef struct DebugRule {
    BlkdebugEvent event;
    DebugAction action;
    uint64_t state; /* 0: any */
    /* inject */
    unsigned iotypes; /* mask by DebugIoType */
    int error;        /* positive errno */
    int64_t offset;   /* -1: any */
    bool once, immediately;
    /* set-state */
    uint64_t new_state;
    /* suspend */
    char *tag;
} DebugRule;

/* A request that waits; it lives on the stack of its coroutine. */
typedef struct StoppedRequest {
    Coroutine *co;
    unsigned stops;  /* breakpoints that hold it back; the last one's resume wakes it */
    GPtrArray *tags; /* of these, to tell the user; NULL: none */
} StoppedRequest;

/* One breakpoint that holds a request back. */
typedef struct SuspendedRequest {
    StoppedRequest *request;
    char *tag;
} SuspendedRequest;

typedef struct BlkdebugState {
    SpinLock lock;        /* guards the fields of this part */
    GPtrArray *rules;     /* DebugRule, owned */
    GPtrArray *active;    /* of rules: those that the last events armed */
    GPtrArray *suspended; /* SuspendedRequest, the newest first */
    uint64_t state;
    /* constant after open: */
    uint64_t align, max_transfer, opt_write_zero, max_write_zero, opt_discard, max_discard;
    unsigned take_perms, unshare_perms; /* BlockPerm, of the child, beyond what the parents need */
} BlkdebugState;

void blkdebug_rule_free(DebugRule *r);
/* blkdebug-config.c: the rules of a file, and those of options ("inject-error.0.event"). */
int blkdebug_read_config(BlkdebugState *s, const char *filename, GError **errp);
int blkdebug_take_rules(BlkdebugState *s, Options *o, GError **errp);
int blkdebug_find_event(const char *name);

#endif
