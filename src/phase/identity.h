/*
 * --set-replica-identity: a table without a usable identity gets one for the time of the run.
 *
 * What was there before is recorded before it is changed, and comes back with the swap or with the
 * cleaning up; the new table has it from the beginning.  Only for tables with an index that can be
 * the identity; all others are refused by preflight.
 */
#ifndef WALTER_IDENTITY_H
#define WALTER_IDENTITY_H

#include "phase/migration.h"

/*
 * SQL: may index `x` (of pg_index) be the replica identity of table `c` (of pg_class), for the time
 * of a run?  Under FULL, column lists and row filters of publications may need columns that it does
 * not have: then the application's own updates would fail.
 */
#define IDENTITY_USABLE                                                                    \
    "x.indrelid = c.oid and x.indisunique and x.indimmediate and x.indisvalid"             \
    " and x.indpred is null and x.indexprs is null and not exists ("                       \
    "   select from pg_catalog.unnest((x.indkey::pg_catalog.int2[])[0:x.indnkeyatts-1]) k" \
    "     join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k"           \
    "    where not a.attnotnull or a.attgenerated <> '')"                                  \
    " and not (c.relreplident = 'f' and exists ("                                          \
    "   select from pg_catalog.pg_publication_rel r where r.prrelid = c.oid"               \
    "      and (pg_catalog.to_jsonb(r)->>'prqual' is not null"                             \
    "           or pg_catalog.to_jsonb(r)->>'prattrs' is not null)))"
#define IDENTITY_BEST_FIRST "x.indisprimary desc, x.indnkeyatts, ic.relname"

/*
 * Reads only: where the table needs an identity and the operator has asked for one, choose the index
 * (run->identity) and take its columns for the key.
 */
NODISCARD bool identity_choose(Migration *run, Err *err);

/* Record what there is, in the transaction that the caller has open. */
NODISCARD bool identity_record(Migration *run, Conn *conn, Err *err);

/* Give the clone of an original whose identity is set already the one that it had before. */
NODISCARD bool identity_clone(Migration *run, Conn *conn, Err *err);

/* SQL (one statement) that gives the original its former identity back; new, free().  NULL = none. */
char *identity_restore_sql(const Migration *run);

/*
 * One attempt to set it, under a brief lock, unless the definition is no longer what preflight read.
 * ERR_RETRY when the lock is not granted.
 */
NODISCARD bool identity_set(Migration *run, Err *err);

/*
 * Give the table its recorded identity back, in pulses, unless somebody has changed it; for cleaning
 * up after a run that has not swapped.
 */
NODISCARD bool identity_restore(Conn *conn, const RunNames *names, Err *err);

#endif
