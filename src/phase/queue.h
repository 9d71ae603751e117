/*
 * Messages of the stream between arrival and apply: first in, first out, bounded by its owner.
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
#include "lsn.h"

typedef struct Queue Queue;

typedef struct QueueRecord {
    Lsn wal_end_lsn;      /* the frame's end of WAL */
    const uint8_t *bytes; /* borrowed until queue_release passes it */
    size_t len;
    bool is_change; /* counted by queue_changes */
} QueueRecord;

Queue *queue_new(void);
void queue_free(Queue *queue);
AUTO_FREE_DEFINE(Queue, queue_free)

/* Append a copy of a message. */
void queue_push(Queue *queue, Lsn wal_end_lsn, const uint8_t *bytes, size_t len, bool is_change);

/* Read the next message; false when there is none yet. */
bool queue_read(Queue *queue, QueueRecord *out);

/* Take back the message pushed last; false when it has been read, or taken back, already. */
bool queue_drop_newest(Queue *queue);

/*
 * Mark what has been read by now, and later drop it, whatever was read after it.  Every rewind takes
 * the mark back.
 */
void queue_mark(Queue *queue);
void queue_release_marked(Queue *queue);

/* Drop everything read so far; drop everything. */
void queue_release(Queue *queue);
void queue_clear(Queue *queue);

/* Read again from the first message not yet released. */
void queue_rewind(Queue *queue);

/* Bytes held, row changes not yet released, and those not yet read. */
size_t queue_bytes(const Queue *queue);
int64_t queue_changes(const Queue *queue);
int64_t queue_unread(const Queue *queue);

/* True when nothing is left to read. */
bool queue_is_drained(const Queue *queue);

#endif
