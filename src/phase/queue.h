/*
 * Messages of the stream between arrival and apply: first in, first out.  What has no room in memory
 * goes to a spool, block by block: the first messages and the newest ones are in memory, those
 * between them on disk.  The owner stops pushing when the queue is full.
 *
 * Reading does not consume: apply marks what it works on, reads ahead, commits, and then releases
 * up to the mark; after a rollback it rewinds and reads the same messages again.  Bytes stay where
 * they are until they are released.
 */
#ifndef WALTER_QUEUE_H
#define WALTER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "err.h"
#include "lsn.h"
#include "phase/spool.h"

typedef struct Queue Queue;

/*
 * The bound of the queue in memory; messages beyond it are spooled.  What is read back from the
 * spool, QUEUE_AHEAD_BYTES at a time, may come on top, and so may a message larger than all that.
 */
#define QUEUE_MEMORY_BYTES ((size_t)32 * 1024 * 1024)
#define QUEUE_AHEAD_BYTES ((size_t)8 * 1024 * 1024)

typedef struct QueueRecord {
    Lsn wal_end_lsn;      /* the frame's end of WAL */
    const uint8_t *bytes; /* borrowed until it is released */
    size_t len;
    bool is_change; /* counted by queue_changes */
} QueueRecord;

/* `spool` is taken; NULL = all stays in memory. */
Queue *queue_new(Spool *spool);
void queue_free(Queue *queue);
AUTO_FREE_DEFINE(Queue, queue_free)

/* Append a copy of a message. */
void queue_push(Queue *queue, Lsn wal_end_lsn, const uint8_t *bytes, size_t len, bool is_change);

/* Fetch from the spool what is to be read next.  Fails when the spool cannot be read. */
NODISCARD bool queue_load(Queue *queue, Err *err);

/* Read the next message; false when there is none in memory. */
bool queue_read(Queue *queue, QueueRecord *out);

/* Un-read the message that queue_read gave last; nothing may have been released meanwhile. */
void queue_unread_last(Queue *queue);

/* Take back the message pushed last; false when it has been read, or taken back, already. */
bool queue_drop_newest(Queue *queue);

/*
 * Mark what has been read by now, and later drop it, whatever was read after it.  Every rewind takes
 * the mark back.
 */
void queue_mark(Queue *queue);
void queue_release_marked(Queue *queue);

/* Read again from the first message not yet released. */
void queue_rewind(Queue *queue);

/* Neither memory nor the spool takes more: stop pushing, until queue_has_room says to go on. */
bool queue_is_full(const Queue *queue);
bool queue_has_room(const Queue *queue);

/* The queue's spool, NULL = none; and why no more is spooled, ERR_NONE while it is. */
const Spool *queue_spool(const Queue *queue);
const Err *queue_spool_failure(const Queue *queue);

/* Bytes held in memory; row changes not yet released, and those not yet read, spooled ones included. */
size_t queue_bytes(const Queue *queue);
int64_t queue_changes(const Queue *queue);
int64_t queue_unread(const Queue *queue);

/* True when nothing is left to read. */
bool queue_is_drained(const Queue *queue);

#endif
