/*
 * The net effect of a run of changes, per row.
 *
 * Pure.  The shadow is private until the swap, so within a batch only what each key ends up as
 * matters; what is merged and what is not is decided here, and every net operation must affect
 * exactly one row of the shadow.
 */
#ifndef WALTER_COALESCE_H
#define WALTER_COALESCE_H

#include "arena.h"
#include "decoder.h"
#include "err.h"

/* How rows are identified: the identity key's columns as indexes into a row. */
typedef struct RowKey {
    const int *columns;
    int count;
    int column_count; /* of the whole row */
} RowKey;

typedef enum { NET_DELETE = 1, NET_UPDATE = 2, NET_INSERT = 3 } NetKind;

typedef struct NetOp {
    NetKind kind;
    const Datum *row; /* whole row; DELETE: only key columns are set, others ABSENT */
} NetOp;

/*
 * Merge changes[0..count) - INSERT, UPDATE without a change of key, and DELETE only - into net
 * operations.  A row that is deleted and inserted again gives a DELETE and an INSERT.
 * *ops is in `arena`: all DELETEs, then UPDATEs, then INSERTs, each in key order.
 * Fails with ERR_MISMATCH on a sequence that no table allows (an INSERT of a row that is there).
 */
NODISCARD bool coalesce(const Change *changes, int count, const RowKey *key, Arena *arena,
                        NetOp **ops, int *op_count, Err *err);

/*
 * The row that identifies what a change is about: the old row where one was sent, else the new one.
 */
const Datum *coalesce_old_key(const Change *change);

/* Does an UPDATE change the identity key?  (Old key sent and its bytes differ from the new row's.) */
bool coalesce_changes_key(const Change *change, const RowKey *key);

#endif
