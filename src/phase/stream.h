/*
 * The replication stream: reads frames whenever the loop turns, queues the plugin's messages and
 * keeps the server informed.  Does not decode and does not apply.
 *
 * Feedback reports as flushed only what is stored as the position of apply, so that a crash loses
 * nothing, and whoever goes on later finds all that is not applied.
 */
#ifndef WALTER_STREAM_H
#define WALTER_STREAM_H

#include "pg/repl.h"
#include "phase/queue.h"

typedef struct Stream Stream;

/*
 * Start streaming on `conn` (taken); what memory has no room for goes to `spool` (taken, NULL =
 * none).  New; close it with stream_close.  NULL on failure; `conn` and `spool` are then closed.
 */
Stream *stream_open(Conn *conn, const ReplStart *start, Spool *spool, Err *err);

/* Stop streaming and close the connection.  NULL is allowed. */
void stream_close(Stream *stream);
AUTO_FREE_DEFINE(Stream, stream_close)

Queue *stream_queue(Stream *stream);

/* Server process id of the walsender. */
int stream_pid(const Stream *stream);

/*
 * Tell the stream what apply has committed.  `is_between`: no transaction is applied in part.
 */
void stream_set_applied(Stream *stream, Lsn applied_lsn, bool is_between);

/*
 * What the server has sent, while nothing at all is queued or half applied: apply may store that for
 * its position.  Else LSN_INVALID.
 */
Lsn stream_idle_lsn(const Stream *stream);

/* Bytes of messages that wait on disk. */
int64_t stream_spooled_bytes(const Stream *stream);

/* True once its session is known to be gone. */
bool stream_is_lost(const Stream *stream);

/* True while nothing is read from the server, because as much is waiting as may. */
bool stream_is_paused(const Stream *stream);

/* Somebody asked the server how far its WAL is; the stream alone knows how far it was decoded. */
void stream_see_server_lsn(Stream *stream, Lsn server_lsn);

/* Bytes of WAL that the server is known to have and has not decoded for us yet. */
int64_t stream_unsent_bytes(const Stream *stream);

/*
 * Bytes of WAL between what has been applied and the newest position that the server is known to
 * have.  The slot may hold back more, for transactions that are open somewhere.
 */
int64_t stream_lag_bytes(const Stream *stream);

#endif
