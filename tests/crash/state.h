/* SPDX-License-Identifier: MIT */
/* One state that a loss of power could leave: made of what is on the disk and a choice for each
 * request since. */
#ifndef CRASH_STATE_H
#define CRASH_STATE_H

#include "model.h"
#include "run.h"

typedef enum ChoiceKind {
    CHOICE_DROP,
    CHOICE_KEEP,
    CHOICE_HEAD,
    CHOICE_TAIL,
    CHOICE_SOME,
    CHOICE_LENGTH
} ChoiceKind;

/* What is left of one request: nothing, all, its first blocks, its last ones, some, or the file's
 * length only. Blocks are 512 bytes or 4 KiB, aligned in the file. */
typedef struct Choice {
    uint8_t kind;
    uint8_t block_bits;
    uint32_t arg; /* head and tail: blocks; some: seed */
} Choice;

/* Apply what @c leaves of @e to @f. */
void choice_apply(MemFile *f, const Event *e, Choice c);
/* Blocks of the request. */
uint32_t choice_blocks(const Event *e, unsigned block_bits);
char *choice_text(const Event *e, Choice c);

#define LOOSE_MAX 16

typedef struct StateCheck {
    const Run *run;
    const Model *model;
    bool deep;                /* go on writing, too */
    bool no_leaks;            /* the image was closed */
    uint64_t seed;            /* of what is written then */
    uint64_t reference_every; /* ask the reference about each n-th; 0: never */
    uint64_t checked, deep_checked, reference_checked;
    uint8_t *buf; /* of the whole disk */
    uint64_t *words;
    uint64_t loose, nloose; /* sectors that a write found no room for: old (in @was), or new */
    uint64_t was[LOOSE_MAX];
} StateCheck;

/* The files "s-img" and "s-data" are a state: NULL, or what is wrong with it (g_free). */
char *state_check(StateCheck *c);
void state_check_clear(StateCheck *c);

#endif
