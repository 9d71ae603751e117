/*
 * The staging tables: changes go in with COPY, and come out through the projection.
 *
 * Temporary tables of apply's session, typed like the original, emptied at each commit.  Writes the
 * shadow, never the original.  One transaction of the caller's is open during all calls but
 * stage_open and stage_describe_key.
 */
#ifndef WALTER_STAGE_H
#define WALTER_STAGE_H

#include "base/buf.h"
#include "phase/coalesce.h"
#include "phase/migration.h"

typedef struct Stage Stage;

/* Create the temporary tables on `conn` (borrowed, acting as the table's owner).  New. */
Stage *stage_open(Migration *run, Conn *conn, Err *err);
void stage_free(Stage *stage);

/* What the changes of one batch have in common; all borrowed until the next stage_begin. */
typedef struct StageBatch {
    Conn *holder; /* the session that holds the original's exclusive lock for us, or NULL */
    const uint32_t *xids;
    int xid_count; /* the transactions that the changes came from */
    Arena *arena;
} StageBatch;

/* From here on, changes and messages are about this leaf of the run's. */
void stage_aim(Stage *stage, const Leaf *leaf);

/*
 * Begin a batch.  `again`: the transaction has staged batches before, which are dropped first.
 */
NODISCARD bool stage_begin(Stage *stage, const StageBatch *batch, bool again, Err *err);

/*
 * Apply net operations as one DELETE, one UPDATE per set of sent columns and one INSERT, in two
 * calls: after the first the server is at work and the caller may do something else, but nothing
 * with the stage or its session; the second waits for the end.  Each operation must affect exactly
 * one row (but with a copy statement, which may leave rows out): ERR_MISMATCH otherwise.  ERR_DATA
 * when a row does not fit the new definition.
 */
NODISCARD bool stage_send(Stage *stage, const NetOp *ops, int count, Err *err);
NODISCARD bool stage_collect(Stage *stage, Err *err);

/*
 * Apply changes one after the other, in stream order: for changes of the key, for keys that equal
 * without being the same bytes, and after a unique violation.  Fails like stage_collect; *failed is
 * the index of the change that failed, or -1.
 */
NODISCARD bool stage_apply_ordered(Stage *stage, const Change *changes, int count, int *failed,
                                   Err *err);

/*
 * Rows that are to be copied anew (stage_keys.c): stage their keys - rows with nothing but the key -
 * then remove the rows from the shadow, where they are, and note the keys in walter.touched_<run>.
 * stage_pipe_keys stages those that a query on another session gives as text, in the order of the
 * key columns.
 */
NODISCARD bool stage_begin_keys(Stage *stage, Err *err);
NODISCARD bool stage_add_key(Stage *stage, int seq, const Datum *row, Err *err);
NODISCARD bool stage_forget_keys(Stage *stage, Err *err);
NODISCARD bool stage_pipe_keys(Stage *stage, Conn *from, const char *query, Err *err);

/* Append ", k1, k2": the original's key columns, with their types if `with_types`. */
void stage_add_key_columns(const TableShape *original, Buf *sql, bool with_types);

/*
 * The key of a row as text "(aid)=(7)" for messages, in the run's arena; the server renders it, in a
 * transaction of its own.  "" when that fails.
 */
const char *stage_describe_key(Stage *stage, const Datum *row);

#endif
