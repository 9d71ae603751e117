/*
 * Going on with a run that was interrupted: what must be the same, what is read again, and what a run
 * notes for whoever may have to do that.
 *
 * What is known of the shadow - projection, indexes, what the swap says - is never stored: it is
 * rehearsed anew from the original and the statement, beside the live shadow, as after a change of the
 * definition (refresh.c).  What is noted is only compared.
 *
 *   resume_find.c    is there a run?      resume.c   can it go on, and what was it about?
 *   resume_built.c   what is built?
 */
#ifndef WALTER_RESUME_H
#define WALTER_RESUME_H

#include "phase/migration.h"

/* The run has got as far as the copy: from here on it can be gone on with. */
NODISCARD bool resume_note_facts(Migration *run, Err *err);

/* The definition is another one, which was taken over. */
NODISCARD bool resume_note_definition(Migration *run, Err *err);

/* A leaf was rewritten during the copy: changes may have to wait for a TRUNCATE. */
NODISCARD bool resume_note_rewritten(Migration *run, Err *err);

/*
 * Preflight: look for an earlier run on the table.  One that was interrupted and has the same statement
 * and options is gone on with (run->record); with --restart, or where it had not got as far as the copy,
 * it is removed.  ERR_REFUSED where it is alive or differs, and says in what.  *finished: it had
 * swapped already, with this very statement; what was left is done, and there is nothing else to do.
 */
NODISCARD bool resume_find(Migration *run, bool *finished, Err *err);

/*
 * In place of making a shadow: read the interrupted run, prove that it can go on, and rehearse what it
 * was about.  ERR_GONE when it cannot.
 */
NODISCARD bool resume_prepare(Migration *run, Err *err);

/*
 * Wait until the slot is free, and prove that nobody else has read it or made it anew; and that
 * nobody has altered the publication.  ERR_GONE.
 */
NODISCARD bool resume_take_slot(Migration *run, Err *err);
NODISCARD bool resume_check_publication(Migration *run, Err *err);

/*
 * Index phase: of the definition's indexes and constraints, those that are not built yet.  Where
 * something is built that is not wanted any more, all of it is dropped, to be built again.  `conn`
 * acts as the table's owner.
 */
NODISCARD bool resume_skip_built(Migration *run, Conn *conn, SqlList *indexes, SqlList *constraints,
                                 Err *err);

/*
 * End what the run's sessions are doing, and say what is kept and what that costs.  Opens a session of
 * its own, shielded from stop requests.
 */
void resume_leave(Migration *run);

#endif
