/*
 * Materialized views that read the table: made anew from their stand-ins' definitions, because one
 * cannot be given another query.
 */
#ifndef WALTER_MATVIEWS_H
#define WALTER_MATVIEWS_H

#include "phase/migration.h"

/*
 * Add to the run's definition what becomes of a matview, in the shadow's transaction.  `text`: its
 * query in real names, NULL when the ALTER has dropped it.  `drops`: what comes last in the swap.
 */
NODISCARD bool matviews_read(Migration *run, Conn *conn, const Dependent *dependent,
                             const char *text, SqlList *drops, Err *err);

#endif
