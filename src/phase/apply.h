/*
 * Apply: takes messages from the stream's queue, decodes them, and brings the shadow up to date in
 * batches.  The batch and the position it reaches are committed in one transaction.
 */
#ifndef WALTER_APPLY_H
#define WALTER_APPLY_H

#include "phase/migration.h"
#include "phase/stream.h"

/* New; close it with apply_close.  Opens its own session. */
Apply *apply_open(Migration *run, Stream *stream, Err *err);
void apply_close(Apply *apply);

/*
 * Apply one batch of what is queued; at most about `pull_batch_count` changes.  Does nothing when
 * nothing is queued.  `holder`: the session that holds the exclusive lock on the original for us
 * (borrowed, idle in its transaction), NULL while nobody does: it is asked for values that only the
 * original has.  While such a lock is being waited for, do not apply.
 * Fails with ERR_DATA (a row does not fit the new definition), ERR_MISMATCH (the tables have
 * diverged), ERR_FAILED (the table's definition has changed); the run is over then.
 */
NODISCARD bool apply_batch(Apply *apply, Conn *holder, Err *err);

/*
 * Where the server has been sending nothing for us, store how far that is, so that it may forget the
 * WAL before.  Does something only after a megabyte or some seconds; to be called now and then.
 */
NODISCARD bool apply_note_idle(Apply *apply, Err *err);

/*
 * Instead of applying what the transactions before `until_lsn` (by the place of their commit record)
 * have changed, remove the rows in question from the shadow and note their keys in
 * walter.touched_<run>: all of it with the position, batch by batch.  *truncated, per leaf: set to
 * true where a TRUNCATE came; that leaf's shadow is empty then, and what was copied before is gone.
 * Returns when all of them are done, and waits for that.  Only while the rows are being copied.
 * In touch.c.
 */
NODISCARD bool apply_touch(Apply *apply, Lsn until_lsn, bool *truncated, Err *err);

/*
 * The same for the rows whose keys `query` gives, on `from` in an open transaction of it; `also` is
 * run in the same transaction of ours.  In touch.c.
 */
NODISCARD bool apply_forget(Apply *apply, int leaf, Conn *from, const char *query, const char *also,
                            Err *err);

/* Changes received and not yet committed. */
int64_t apply_outstanding(const Apply *apply);

/* The newest fence marker whose commit has been applied. */
int64_t apply_fence(const Apply *apply);

/* Write a fence and return its marker: all that was committed before it precedes it in the stream. */
NODISCARD bool apply_write_fence(Apply *apply, int64_t *marker, Err *err);

/*
 * Apply until the fence has come through; ERR_RETRY when `deadline_us` passes before: everything
 * is then as it was, and applying may go on.  `holder`: see apply_batch.
 */
NODISCARD bool apply_drain(Apply *apply, int64_t marker, int64_t deadline_us, Conn *holder,
                           Err *err);

/*
 * Apply what comes until `until_us`, or until the statement that is under way on `conn` (borrowed,
 * NULL = none) has its answer.
 */
NODISCARD bool apply_meanwhile(Apply *apply, Conn *conn, int64_t until_us, Err *err);

/*
 * The leaf's shadow was filled after the leaf had been emptied: until a TRUNCATE comes through the
 * stream, its changes cannot be applied, and without one the tables have diverged.
 */
void apply_expect_truncate(Apply *apply, int leaf);

/* It has come. */
void apply_expect_no_truncate(Apply *apply, int leaf);

/* What has been applied. */
const Position *apply_position(const Apply *apply);

/* False, with the reason, when the session is gone; it may have idled when that happened. */
NODISCARD bool apply_check_session(const Apply *apply, Err *err);

#endif
