/*
 * Other people's sessions: who is in the way of the cutover's lock, and who would find the new table
 * without its rows.  Reads the server's views; ends a session only where it is told to.
 */
#ifndef WALTER_SESSIONS_H
#define WALTER_SESSIONS_H

#include <stdint.h>

#include "pg/query.h"

/*
 * SQL: the beginning of `query`, of pg_stat_activity, in one line and only up to its first literal,
 * for there may be values of rows in it, or a password.
 */
#define SESSIONS_STATEMENT                                                                     \
    "pg_catalog.left(pg_catalog.regexp_replace(pg_catalog.regexp_replace(query, '\\s+', ' ', " \
    "'g'), '(''|\\$\\w*\\$).*', '''...'''), 80)"

/*
 * Who keeps the session with server process id `pid` from the lock that it waits for: sessions, and
 * prepared transactions by name.  *rows is new: process id (0 for a prepared transaction),
 * description, and whether it may be ended: true for client sessions, not our own, that hold such a
 * lock and do not only wait for it, in a transaction that is open for `open_for_s` seconds.
 */
NODISCARD bool sessions_in_the_way(Conn *control, int pid, int64_t open_for_s, Rows **rows,
                                   Err *err);

/* The same of who has a lock on anything in the schema, whether somebody waits for that or not. */
NODISCARD bool sessions_using_schema(Conn *control, const char *schema, int64_t open_for_s,
                                     Rows **rows, Err *err);

/* The first few of `rows` (from sessions_in_the_way) in one line, "" = there are none.  New, free(). */
char *sessions_list(const Rows *rows);

/*
 * End the sessions of `rows` (from sessions_in_the_way) that may be ended, and log which.  One that
 * cannot be ended is logged, too, and is no failure.
 */
NODISCARD bool sessions_end(Conn *control, const Rows *rows, Err *err);

/*
 * The tables (oids) whose locks our session `pid` holds while somebody waits for them who in turn
 * holds up `pid`.  *rows is new.
 */
NODISCARD bool sessions_crossing(Conn *control, int pid, Rows **rows, Err *err);

/* Cancel what our session `pid` is doing. */
NODISCARD bool sessions_cancel(Conn *control, int pid, Err *err);

/* Which snapshots are too old for the swap. */
typedef struct SnapshotLimit {
    const char *copied_xid; /* older than this transaction id: copied rows are missing */
    const char *fresh_xid; /* from this one on nothing has changed; NULL = something did just now */
    int64_t age_us;        /* a transaction younger than this is not waited for */
} SnapshotLimit;

/*
 * Sessions of this database that hold a snapshot older than the new table's rows: they would find it
 * empty, or as it was then.  *rows is new: a description each.
 *
 * A READ COMMITTED transaction that idles has no snapshot.  One that runs a statement has it for
 * that statement only, which cannot be told from a REPEATABLE READ one; it counts as old where its
 * snapshot is from before the end of the copy, or the transaction began long before its statement.  What another role's session does is hidden from an
 * ordinary role; then any snapshot from before the end of the copy counts.
 */
NODISCARD bool sessions_with_old_snapshots(Conn *control, const SnapshotLimit *limit, Rows **rows,
                                           Err *err);

/*
 * The transaction id that no snapshot of this moment can see, as text in *xid, whose old text is
 * freed.
 */
NODISCARD bool sessions_read_xid(Conn *control, char **xid, Err *err);

#endif
