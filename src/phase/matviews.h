/*
 * Materialized views that read the table.  None can be given another query, so each is made anew
 * from its stand-in's definition, with all that is on it: populated beside the shadow before the
 * cutover, or without data in the swap and refreshed afterwards (--matviews).
 */
#ifndef WALTER_MATVIEWS_H
#define WALTER_MATVIEWS_H

#include "phase/migration.h"

/*
 * Add to the run's definition what becomes of a matview, in the shadow's transaction.  `text`: its
 * query in real names, NULL when the ALTER has dropped it.  `drops`: what comes last in the swap.
 * ERR_REFUSED for one that cannot be populated before the swap.
 */
NODISCARD bool matviews_read(Migration *run, Conn *conn, const Dependent *dependent,
                             const char *text, SqlList *drops, Err *err);

/*
 * `refresh`, a REFRESH MATERIALIZED VIEW, with names and values in functions' bodies meaning what
 * they mean in psql; to be run inside a transaction of `conn`.  New text, free().
 */
char *matviews_refresh_sql(const Migration *run, const Conn *conn, const char *refresh);

/*
 * Make and populate the new matviews in the shadow's schema, one after the other; may take long, and
 * changes are received but not applied meanwhile.  Opens a session of its own.
 */
NODISCARD bool matviews_build(Migration *run, Err *err);

#endif
