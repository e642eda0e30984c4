/* SPDX-License-Identifier: MIT */
/*
 * Clusters of a file whose image is being remade, in the new unit: which are free for new things,
 * and how many references each is going to have.
 *
 * INV-SPACE-1  What is free is referred to neither by the image as it is nor by what was made.
 */
#ifndef QCOW2_REMAKE_SPACE_H
#define QCOW2_REMAKE_SPACE_H

#include "geometry.h"

typedef struct RemakeSpace {
    const Geometry *geo; /* the new one */
    uint64_t clusters;   /* that the arrays have; those past them are free */
    uint8_t *used;       /* a bit for each cluster: not free */
    uint8_t *old;        /* a bit: the image as it is has something there */
    uint8_t *counts;     /* references to come; MANY: in many */
    GHashTable *many;    /* cluster -> references */
    uint64_t cursor;     /* no free cluster below */
    uint64_t end;        /* no cluster with references from there on */
    bool raised;         /* one that had a single reference has more now */
} RemakeSpace;

/* @clusters: some, to begin with. -ENOMEM; to be cleared in any case. */
int qcow2_remake_space_init(RemakeSpace *s, const Geometry *geo, uint64_t clusters);
void qcow2_remake_space_clear(RemakeSpace *s);
/* The image as it is has something in [@offset, +@bytes), which is within the first clusters. */
void qcow2_remake_space_mark(RemakeSpace *s, uint64_t offset, uint64_t bytes);
/* @n free clusters side by side: theirs is *@offset. -EFBIG: there is no place; -ENOMEM. */
int qcow2_remake_space_take(RemakeSpace *s, uint64_t n, uint64_t *offset);
/* What was taken last, or the end of it, is free again; nothing refers to it. */
void qcow2_remake_space_untake(RemakeSpace *s, uint64_t offset, uint64_t n);
/* @refs more references to each cluster that [@offset, +@bytes) touches, which are not free any
 * more. -ERANGE: more than the new width holds; -ENOMEM. */
int qcow2_remake_space_add_refs(RemakeSpace *s, uint64_t offset, uint64_t bytes, uint64_t refs);
uint64_t qcow2_remake_space_count(const RemakeSpace *s, uint64_t cluster);
/* Nothing refers to it as the image is going to be / as it is: what was there, or what a run that
 * was cut off has left there, is garbage. */
bool qcow2_remake_space_is_left(const RemakeSpace *s, uint64_t cluster);
bool qcow2_remake_space_is_new(const RemakeSpace *s, uint64_t cluster);

#endif
