/*
 * Everything on a table that is neither a column nor a row: indexes, constraints, foreign keys,
 * triggers, options, comments.  Cloned to the shadow before the ALTER, so that the ALTER can speak
 * of them by name; read from the shadow afterwards as SQL that builds them again; then stripped off
 * for the load.
 *
 * Foreign key partners are played by stand-ins: empty tables of the same columns and unique indexes
 * in the rehearsal schema, so that no lock is taken on a live table and no live row can be checked
 * against the shadow.
 */
#ifndef WALTER_DEFINITION_H
#define WALTER_DEFINITION_H

#include "base/buf.h"
#include "phase/migration.h"

/* All of these run inside the shadow's transaction on `conn`, with the pinned search_path. */

/* Bring everything from the original to the bare shadow. */
NODISCARD bool definition_clone(Migration *run, Conn *conn, Err *err);

/* Make a stand-in for a referenced table if there is none yet; its quoted name goes to *name. */
NODISCARD bool definition_stand_in(Migration *run, Conn *conn, uint32_t oid, const char **name,
                                   Err *err);

/*
 * The columns that original and shadow share, as SQL arrays of their attnums in the same order:
 * "{1,3}" and "{1,2}".
 */
void definition_shared_columns(const Migration *run, Buf *originals, Buf *shadows);

/* Read run->definition from the altered shadow. */
NODISCARD bool definition_read(Migration *run, Conn *conn, Err *err);

/* Leave only columns, NOT NULL and valid CHECK constraints on the shadow; drop the stand-ins. */
NODISCARD bool definition_strip(Migration *run, Conn *conn, Err *err);

/*
 * Add the statements that build the indexes of table or matview `oid`, with all that is set on them,
 * for `qualified` in `schema` (both quoted).
 */
NODISCARD bool definition_list_indexes(Migration *run, Conn *conn, uint32_t oid,
                                       const char *qualified, const char *schema, SqlList *list,
                                       Err *err);

/*
 * Add the statements that make the extended statistics of a matview for its successor `place`
 * (quoted), and to the swap those by which the new ones follow the old ones.
 */
NODISCARD bool definition_list_statistics(Migration *run, Conn *conn, const Dependent *matview,
                                          const char *place, SqlList *list, Err *err);

/* Add the statements that give relation `name` (quoted) and its columns the labels of `oid`. */
NODISCARD bool definition_list_labels(Migration *run, Conn *conn, uint32_t oid, const char *name,
                                      SqlList *list, Err *err);

/* The same for the function that is called like `named_like`, which may be `oid` itself. */
NODISCARD bool definition_list_function_labels(Migration *run, Conn *conn, uint32_t oid,
                                               uint32_t named_like, SqlList *list, Err *err);

/* Set labels; what their provider objects to is ERR_REFUSED. */
NODISCARD bool definition_try_labels(Conn *conn, const SqlList *list, Err *err);

/*
 * SQL that gives the shadow the privileges which the original has at this moment (table, columns,
 * sequences), for the swap.  New text, free().
 */
NODISCARD bool definition_read_grants(Migration *run, Conn *conn, char **sql, Err *err);

/* Append the same for the tables below a partitioned original. */
NODISCARD bool definition_read_tree_grants(Migration *run, Conn *conn, Buf *sql, Err *err);

/*
 * The operator that says whether two values of the column's type are equal, as SQL
 * ("operator(pg_catalog.=)"), in the run's arena.  NULL on failure.
 */
const char *definition_read_equality(Migration *run, Conn *conn, const Column *column, Err *err);

#endif
