/*
 * Shared by the modules that make up apply; nobody else includes it.
 *   apply.c   changes are applied   touch.c   changes are only noted by their keys
 */
#ifndef WALTER_APPLY_INTERNAL_H
#define WALTER_APPLY_INTERNAL_H

#include "phase/apply.h"
#include "phase/batch.h"
#include "phase/stage.h"
#include "phase/workers.h"

struct Apply {
    Migration *run;
    Conn *conn;
    Conn *holder;        /* see apply_batch */
    int64_t deadline_us; /* of a drain under the lock, 0 = no hurry */
    Stream *stream;
    BatchReader *reader;
    Batch *now;   /* the batch that is applied */
    Batch *ahead; /* the one behind it, read while the server applies ... */
    bool has_ahead;
    int leaf; /* which one is worked on */
    Stage *stage;
    Workers *workers; /* NULL = none */
    bool alone;       /* the batch is tried again, without them */
    RowKey key;
    bool hashable;        /* equal keys have equal bytes */
    Cursor done;          /* applied */
    Lsn committed_lsn;    /* end of the last transaction whose changes are all committed */
    int64_t applied_us;   /* when a batch was finished last */
    int64_t idle_us;      /* when the position was stored last without a change */
    bool in_transaction;  /* batches wait for the end of the application's transaction */
    bool *until_truncate; /* per leaf: its shadow is wrong until a TRUNCATE comes */
};

#endif
