/*
 * Shared by the modules that make up the cutover; nobody else includes it.
 *   cutover.c   attempts and pauses   gates.c   is an attempt worth it?   swap.c   under the lock
 */
#ifndef WALTER_CUTOVER_INTERNAL_H
#define WALTER_CUTOVER_INTERNAL_H

#include "phase/locks.h"
#include "phase/migration.h"

struct Cutover {
    Conn *conn;
    Locks locks;
    int64_t entered_us;
    int64_t reported_us;   /* when a gate was last reported closed */
    int64_t far_since_us;  /* since when the drain would take too long, 0 = it would not */
    int64_t failures;      /* attempts and closed gates */
    int64_t held_us;       /* how long the last attempt held the lock in vain, 0 = it did not */
    int64_t hold_pause_us; /* the pause after the one before that */
    int internal_errors;   /* attempts that the server's internal errors have ended */
    char *refresh;         /* SQL: see dependents_refresh_functions */
    char *fresh_xid;       /* from this transaction on nothing was applied ... */
    int64_t fresh_at;      /* ... beyond so many changes */
};

/* Who has waited for a better moment so long has waited in vain. */
#define FAR_PATIENCE_US (3 * INT64_C(1000000))

/*
 * Before the lock: the same look-ups as under it.  They fail early where they can, and leave the
 * session with warm caches and prepared statements, which makes the hold several times shorter.
 */
NODISCARD bool gates_look_before_locking(Migration *run, Err *err);

/* *close: would the drain under the lock be short?  Tried without it. */
NODISCARD bool gates_measure_distance(Migration *run, bool *close, Err *err);

/*
 * Is there a session with a snapshot that cannot see what the new table holds?  Fails with ERR_RETRY
 * if there is, and names some.  `locked`: under the lock, where time counts.
 */
NODISCARD bool gates_check_snapshots(Migration *run, bool locked, Err *err);

/*
 * The locks are ours: drain, compare, swap, commit, within --lock-hold.  Fails with ERR_RETRY where
 * the next attempt may succeed, and with ERR_UNKNOWN where nobody can say whether the COMMIT has
 * happened; run->cutover->conn may be NULL then.
 */
NODISCARD bool swap_run(Migration *run, Err *err);

#endif
