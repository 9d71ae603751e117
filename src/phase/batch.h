/*
 * Reading batches: messages of the stream's queue, decoded, as changes of the run's leaves.
 *
 * Reads ahead of what is applied; releases nothing from the queue, waits for nothing, and knows no
 * session.
 */
#ifndef WALTER_BATCH_H
#define WALTER_BATCH_H

#include "phase/migration.h"
#include "phase/queue.h"

/* Where reading stands. */
typedef struct Cursor {
    Position position;
    int64_t fence;
    int64_t seen_fence; /* fence marker of the transaction being read */
    int64_t skip;       /* changes of a re-sent transaction that are applied already */
    uint32_t xid;       /* of the transaction being read */
    bool is_open;       /* inside a transaction */
} Cursor;

enum { BATCH_XIDS_MAX = 10000 };

typedef struct Batch {
    Arena *arena;    /* what the changes point to, beside the queue's messages */
    Change *changes; /* row changes and truncates, those of one leaf together and in order */
    int count;
    int size;
    uint32_t xids[BATCH_XIDS_MAX]; /* whose changes they are */
    int xid_count;
    Cursor end; /* where reading stands behind it */
} Batch;

/* Free what a batch holds; one that was never read is all zero. */
void batch_done(Batch *batch);

typedef struct BatchReader BatchReader;

/* New; `run` and `queue` are borrowed. */
BatchReader *batch_reader_new(const Migration *run, Queue *queue);
void batch_reader_free(BatchReader *reader);

/*
 * Read on in the queue, from where `from` stands, up to about `limit` changes; what was in the batch
 * is gone.  The queue's messages are borrowed until they are released.
 * Fails with ERR_FAILED when a message cannot be read or the table's definition has changed.
 */
NODISCARD bool batch_read(BatchReader *reader, Batch *batch, const Cursor *from, int64_t limit,
                          Err *err);

/*
 * From here on stop before the first transaction whose commit record is at `until_lsn` or behind it;
 * LSN_INVALID = go on to the end.
 */
void batch_stop_at(BatchReader *reader, Lsn until_lsn);

/* Was there such a transaction?  All before it have been read then. */
bool batch_has_stopped(const BatchReader *reader);

/*
 * Sessions that share the changes have come to different positions, of which reading begins at the
 * least: leave out what a row's own session has applied.  `positions` is borrowed, one per session.
 */
void batch_resume_divided(BatchReader *reader, const Position *positions, int count);

#endif
