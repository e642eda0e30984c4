/* SPDX-License-Identifier: MIT */
/*
 * Rules of the write path, each with a name.  The crash explorer's self-test is built with
 * QCOW2_BREAK_RULES: it breaks one rule at a time and must find what that does to an image.  In all
 * other builds RULE_BROKEN() is 0, and the compiler drops what depends on it.
 */
#ifndef QCOW2_RULES_H
#define QCOW2_RULES_H

#include <stdbool.h>

/* X(name, where it is found first, what) */
#define QCOW2_RULES(X)                                                                             \
    X(REFBLOCKS_BEFORE_REFTABLE, "refcount-growth",                                                \
      "refcount blocks are on disk before the table names them")                                   \
    X(REFCOUNTS_BEFORE_L2, "alloc", "refcounts are on disk before L2 entries that rely on them")   \
    X(REFTABLE_BEFORE_L2, "alloc",                                                                 \
      "the refcount table is on disk before L2 entries that rely on it")                           \
    X(REFTABLE_BEFORE_SWITCH, "refcount-growth",                                                   \
      "a moved refcount table is on disk before the header names it")                              \
    X(SWITCH_BEFORE_L2, "refcount-growth",                                                         \
      "the header names a moved refcount table before L2 entries rely on it")                      \
    X(DATA_BEFORE_L2, "prealloc", "data is on disk before the L2 entry that shows it")             \
    X(DATA_FILE_BEFORE_L2, "data-file", "data in an external file is on disk before the L2 entry") \
    X(L2_BEFORE_L1, "lazy,kill,reuse,extended",                                                    \
      "an L2 table is on disk before the L1 entry that names it")                                  \
    X(SYNC_BEFORE_RELEASE, "reuse",                                                                \
      "tables are on disk before what they let go of leaves quarantine")                           \
    X(QUARANTINE_SYNC, "reuse",                                                                    \
      "quarantine waits for the change that freed a cluster to be on disk")                        \
    X(QUARANTINE_PINS, "race", "quarantine waits for the requests that were in flight")            \
    X(PUNCH_COUNTED, "reuse,race", "a cluster is punched while it still has its refcount")         \
    X(PUNCH_UNSHARED, "compress", "a cluster that others use is not punched")                      \
    X(DIRTY_BEFORE_LAZY, "lazy",                                                                   \
      "the dirty bit is on disk before tables run ahead of the refcounts")                         \
    X(CLEAN_LAST, "lazy", "the dirty bit goes when the refcounts are on disk")                     \
    X(FOUND_BEFORE_REBUILT, "die",                                                                 \
      "the tables that refcounts are rebuilt from are on disk before anything is written")         \
    X(REBUILT_BEFORE_SWITCH, "kill", "rebuilt refcounts are on disk before the header names them") \
    X(L1_COUNTED, "l1-growth",                                                                     \
      "the refcount of a new L1 table is on disk before the header names it")                      \
    X(L1_WRITTEN, "l1-growth", "a new L1 table is on disk before the header names it")             \
    X(L1_OLD_KEPT, "l1-growth", "an old L1 table is not used again before the header has left it") \
    X(DOUBT_BEFORE_TABLES, "l1-growth-fault",                                                      \
      "header fields whose write failed are written again before any table is")                    \
    X(HIDDEN_BEFORE_GROWN, "resize",                                                               \
      "what a larger disk must not show is hidden before the size is written")                     \
    X(FORGOTTEN_BEFORE_SHRUNK, "resize",                                                           \
      "entries past the new end are gone before the size is written")                              \
    X(RESIZE_HELD, "resize-beside",                                                                \
      "requests are held back while the size changes and its last cluster is made ready")          \
    X(HEADER_TAIL_FREE, "header",                                                                  \
      "past its first sector nothing is changed that the header on disk refers to")                \
    X(HEADER_TAIL_BEFORE_SECTOR, "header",                                                         \
      "what the header has past its first sector is on disk before that refers to it")             \
    X(HEADER_SECTOR_BEFORE_TAIL, "header",                                                         \
      "what the header left past its first sector is changed when that is on disk")                \
    X(HEADER_READ_ON_DISK, "header-fault",                                                         \
      "a header is on disk before another one is written beside it")                               \
    X(HEADER_DOUBT_WHOLE, "header-fault",                                                          \
      "a header whose rewrite failed is written again before any table is")                        \
    X(REFBLOCK_LEFT_BEFORE_FREE, "shrink",                                                         \
      "the refcount table on disk has left a block before its cluster is used again")              \
    X(CREATE_HEADER_LAST, "create", "a new image's tables are on disk before its header")          \
    X(CREATE_PREALLOC_SYNCED, "create", "preallocation of a new image keeps all orders")           \
    X(LINK_AFTER_WRITE, "overwrite,race",                                                          \
      "an entry is changed in memory when its data has been written")                              \
    X(ALLOCS_WAIT, "alloc", "allocating writes of one cluster wait for each other")                \
    X(SHARED_NOT_IN_PLACE, "snapshot", "a cluster that others share is not written in place")      \
    X(REMAKE_MADE_BEFORE_SWITCH, "remake",                                                         \
      "an image's new tables are on disk before its header names them")                            \
    X(REMAKE_SWITCH_SYNCED, "remake",                                                              \
      "old tables are not used again before the header that has left them is on disk")             \
    X(FLAGS_BEFORE_SNAPSHOT, "snapshot-ops",                                                       \
      "no entry says COPIED of what a snapshot is about to share")                                 \
    X(COUNTED_BEFORE_SNAPSHOT, "snapshot-ops",                                                     \
      "a snapshot's counts and tables are on disk before the header names it")                     \
    X(GONE_BEFORE_COUNTS_FALL, "snapshot-ops",                                                     \
      "a snapshot has left the header before its counts fall")                                     \
    X(HELD_AT_INSTANT, "snapshot-beside",                                                          \
      "no request is in flight at the instant of which a snapshot is")                             \
    X(COUNTED_BEFORE_CHANGED, "snapshot-beside",                                                   \
      "a table that a snapshot is to share is counted before a request changes it")                \
    X(PENDING_NOT_IN_PLACE, "snapshot-beside",                                                     \
      "what a snapshot is to share is not overwritten before its table is counted")                \
    X(FLAGS_BACK_AT_REST, "snapshot-beside",                                                       \
      "COPIED does not come back to an entry that a request is about to replace")                  \
    X(FLAGS_REBUILT, "snapshot-ops", "who rebuilds counts puts the COPIED flags right, too")       \
    X(BITMAPS_SETTLED, "bitmaps-fault",                                                            \
      "a list of bitmaps whose switch failed is the old one before the disk changes")              \
    X(BITS_BEFORE_CHANGE, "bitmap",                                                                \
      "bits of a bitmap are set on disk before the disk changes there")                            \
    X(COLD_BEFORE_EXACT, "bitmap,any",                                                             \
      "of a bitmap no bit is cleared on disk that requests take to be set")                        \
    X(BITMAPS_BEFORE_NAMED, "bitmap",                                                              \
      "bitmaps and their directory are on disk before the header names them")                      \
    X(COMPACT_COUNTED, "compact",                                                                  \
      "the counts of a cluster's new place are on disk before references to it")                   \
    X(COMPACT_COPIED, "compact", "a cluster is at its new place on disk before references to it")  \
    X(COMPACT_SWITCHED, "compact",                                                                 \
      "references to a cluster's new place are on disk before the old one is given back")          \
    X(CUT_AFTER_LEFT, "tail",                                                                      \
      "tables on disk have left the end of the file before it is cut")                             \
    X(ZERO_BESIDE_DATA, "large-clusters",                                                          \
      "only what is filled in becomes zero beside data that is there")                             \
    X(CIPHER_NOT_ZERO, "encrypted",                                                                \
      "what an encrypted image has where nothing was written is not taken to read zero")           \
    X(STALE_NOT_ZERO, "reuse", "a cluster that was used before is not taken to read zero")         \
    X(REPAIR_MARKED, "repair",                                                                     \
      "an image is marked as corrupt on disk before a repair changes its tables")                  \
    X(REPAIR_CLEARED_LAST, "repair", "what was repaired is on disk before the mark goes")

/*
 * Special cases of the paths that change data: the self-test counts how often the random programs
 * of the explorer meet each, and fails if one is never met.
 */
#define QCOW2_CASES(X)                                                                             \
    X(OVERWRITE, "an overwrite without a lock")                                                    \
    X(LOOKED_AGAIN, "a write that waited, and overwrites then")                                    \
    X(IN_PLACE, "a run in place")                                                                  \
    X(IN_PLACE_LONG, "... over more than one cluster")                                             \
    X(DATA_FILE_RUN, "a run in an external data file")                                             \
    X(RAW_PREPARED, "a part of a raw data file that no entry showed")                              \
    X(PAST_EOF_ZERO, "a fresh cluster past the end of the file, around it zero by its entry")      \
    X(PAST_EOF_READ, "... around it zero by what was read")                                        \
    X(ZERO_CALL_FRESH, "head and tail of fresh clusters made zero by a call")                      \
    X(ZERO_CALL_IN_PLACE, "... of clusters that were there")                                       \
    X(ZEROES_WRITTEN, "head and tail written as zeroes")                                           \
    X(COW_APART, "head or tail read apart")                                                        \
    X(COW_MERGED, "head and tail read in one")                                                     \
    X(COW_COMPRESSED, "... from a compressed cluster")                                             \
    X(FLATTENED, "a vector with too many elements to add to")                                      \
    X(REPLACED, "a cluster replaced that goes to quarantine")                                      \
    X(ZERO_EDGE, "a part of a subcluster zero because its rest is")                                \
    X(ZERO_EDGE_BELOW, "... because the backing file reads zero there")                            \
    X(ZERO_KEPT, "a zero write that unmaps and keeps the place")                                   \
    X(PUNCHED_IN_PLACE, "a discard that punches what keeps its place")                             \
    X(LAST_SUBCLUSTER, "a discard that takes the last of a cluster")                               \
    X(EDGE_PLACED, "the last cluster given a place before a larger disk is preallocated")          \
    X(GROWTH_UNDONE, "a larger disk that failed, what was reserved for it given back")             \
    X(REBUILT_IN_PLACE, "counts rebuilt over the old ones: no room elsewhere")                     \
    X(REFBLOCKS_DROPPED, "refcount blocks that count nothing given back")                          \
    X(FLAGS_CHANGED, "COPIED flags changed for a snapshot")                                        \
    X(COUNTED_FOR_REQUEST, "a table counted for a snapshot because a request is to change it")     \
    X(FLAG_WAITED, "a COPIED flag that came back when a request had ended")                        \
    X(TABLE_COPIED, "an L2 table copied because a snapshot shares it")                             \
    X(TABLE_ZEROED, "an L2 table zeroed on disk")                                                  \
    X(BITS_TOGETHER, "regions of a bitmap set for several requests with one sync")                 \
    X(BITS_AHEAD, "... and others around them")                                                    \
    X(BITS_COOLED, "several regions of a bitmap written as they are, in one")                      \
    X(LIST_IN_DOUBT, "a list of bitmaps that the file may name, and should not")

#ifdef QCOW2_BREAK_RULES
typedef enum Qcow2Case {
#define X(name, what) CASE_##name,
    QCOW2_CASES(X)
#undef X
        QCOW2_NCASES
} Qcow2Case;
extern unsigned qcow2_cases_met[QCOW2_NCASES]; /* the test's */
#define CASE_MET(name) ((void)qcow2_cases_met[CASE_##name]++)
#else
#define CASE_MET(name) ((void)0)
#endif

typedef enum Qcow2Rule {
    RULE_NONE,
#define X(name, workload, what) RULE_##name,
    QCOW2_RULES(X)
#undef X
} Qcow2Rule;

#ifdef QCOW2_BREAK_RULES
extern Qcow2Rule qcow2_broken_rule; /* the test's */
#define RULE_BROKEN(name) (__builtin_expect(qcow2_broken_rule == RULE_##name, 0))
static inline bool rule_is_broken(Qcow2Rule r)
{
    return r != RULE_NONE && qcow2_broken_rule == r;
}
#else
#define RULE_BROKEN(name) 0
static inline bool rule_is_broken(Qcow2Rule r)
{
    return false;
}
#endif

#endif
