/*
 * The staging table: net operations go in with COPY, and come out through the projection as one
 * DELETE, one UPDATE per set of sent columns and one INSERT.
 *
 * A temporary table of apply's session, typed like the original, emptied at each commit.  Writes
 * the shadow, never the original.
 */
#ifndef WALTER_STAGE_H
#define WALTER_STAGE_H

#include "phase/coalesce.h"
#include "phase/migration.h"

typedef struct Stage Stage;

/* Create the temporary tables on `conn` (borrowed, acting as the table's owner).  New. */
Stage *stage_open(Migration *run, Conn *conn, Err *err);
void stage_free(Stage *stage);

/* Begin a transaction's numbering of sets anew. */
void stage_begin(Stage *stage);

/*
 * Apply net operations inside the open transaction.  Each must affect exactly one row (but with a
 * copy statement, which may leave rows out): ERR_MISMATCH otherwise.  ERR_DATA when a row does not
 * fit the new definition; ERR_RETRY when a value must be read from the original and `may_read` is
 * false.  `xids`: the transactions the changes came from, for that reading.
 */
typedef struct StageWork {
    const NetOp *ops;
    int count;
    const uint32_t *xids;
    int xid_count;
    bool may_read; /* the original can be read: nobody holds its lock for us */
} StageWork;
NODISCARD bool stage_apply(Stage *stage, const StageWork *work, Arena *arena, Err *err);

/*
 * Apply changes one after the other, in stream order, inside the open transaction: for changes of
 * the key, for keys that equal without being the same bytes, and after a unique violation.
 * On ERR_DATA *failed is the index of the change that does not fit.
 */
NODISCARD bool stage_apply_ordered(Stage *stage, const Change *changes, int count, Arena *arena,
                                   int *failed, Err *err);

/* True when an UPDATE of this row needs a value that only the original has. */
bool stage_needs_original(const Stage *stage, const Datum *row);

/*
 * The key of a row as text "(aid)=(7)" for messages, in `arena`; the server renders it, in a
 * transaction of its own.  "" when that fails.
 */
const char *stage_describe_key(Stage *stage, const Datum *row, Arena *arena);

#endif
