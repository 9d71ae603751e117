/*
 * What depends on the table from outside: views, materialized views, rules of other relations,
 * policies of other tables, functions with a parsed body or with arguments of the row type.
 *
 * Before the ALTER each gets a stand-in that reads the shadow, so that the server judges the ALTER by
 * them and follows it with them; afterwards their definitions are read back as SQL for the swap.  A
 * stand-in bears the name of what it plays, in a schema "walter_<run>_r<oid>" that plays the real
 * one: so names of columns and aliases mean the same, and only schemas are replaced in a text.
 * Views keep their oid in the swap, by CREATE OR REPLACE, and with it whatever hangs on them, views
 * on views included.  What has the row type in its signature, and materialized views, are made anew.
 */
#ifndef WALTER_DEPENDENTS_H
#define WALTER_DEPENDENTS_H

#include "phase/migration.h"

/* Both run inside the shadow's transaction, with the pinned search_path. */

/* Make the stand-ins, when the shadow has the original's shape and nothing is altered yet. */
NODISCARD bool dependents_clone(Migration *run, Conn *conn, Err *err);

/* Read from the altered stand-ins what the swap does; then drop them and their schemas. */
NODISCARD bool dependents_read(Migration *run, Conn *conn, Err *err);

/*
 * A statement for the swap that makes PL/pgSQL functions which mention the table forget the row types
 * that they know in warm sessions; "" when there is none.  Warns of those which the role may not
 * alter.  New text, free().
 */
NODISCARD bool dependents_refresh_functions(Migration *run, Conn *conn, char **sql, Err *err);

#endif
