/*
 * Sessions that help apply: each stages and applies a part of a batch's net operations, in a
 * transaction of its own.  Which one a row belongs to is told by its identity key alone.
 *
 * Exactness: all parts are applied before any of them is committed, and each session commits with
 * its part the position that the part reaches (a row per session in walter.position_<run>).  So
 * whoever finds the positions differing after a crash knows, for each key, up to where it is applied.
 *
 * The sessions must never wait for each other's rows: we commit one only when all have come to their
 * end, which the server cannot know of.  They have no key in common; and where keys may fall together
 * in the shadow, or where it has a unique or exclusion constraint besides the identity - so that one
 * row's insert may have to wait for another row's delete - nothing is divided.  If one waits all the
 * same, its lock_timeout ends that, and the batch is done by one session.
 */
#ifndef WALTER_WORKERS_H
#define WALTER_WORKERS_H

#include "phase/stage.h"

typedef struct Workers Workers;

/* Open the sessions beside apply's own that --apply-jobs asks for.  NULL = none. */
Workers *workers_open(Migration *run);
void workers_close(Workers *workers);

/* May a batch of so many net operations be divided just now?  Asks the catalog. */
NODISCARD bool workers_may_divide(Workers *workers, int count, bool *may, Err *err);

/*
 * Begin transactions, stage the workers' parts of `ops` and set the server to work on them.  What is
 * left for apply's own session is moved to the front of `ops`; *own tells how much.  The row key of
 * all of them is hashable.  Then workers_collect waits for their end, and workers_commit commits
 * them, or workers_undo takes all of it back.
 */
NODISCARD bool workers_send(Workers *workers, const StageBatch *batch, NetOp *ops, int count,
                            int *own, Err *err);
NODISCARD bool workers_collect(Workers *workers, Err *err);

/* `position`: what the batch reaches.  Once it has failed, nothing may be tried again. */
NODISCARD bool workers_commit(Workers *workers, const Position *position, Err *err);
void workers_undo(Workers *workers);

/* Is a part of the batch with the workers? */
bool workers_are_busy(const Workers *workers);

/* The worker that a row belongs to, 0 = apply's own session; `count`: how many there are in all. */
int workers_of_row(const Datum *row, const RowKey *key, int count);

#endif
