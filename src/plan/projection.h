/*
 * The projection: one SELECT that turns rows of the original into rows of the shadow.
 *
 * The copy runs it over the original, apply runs it over staged changes; a copied row and a
 * streamed row can therefore never be rendered differently.  It is a nest of SELECTs, one level per
 * ALTER statement, around a source: `head` source `tail`.  The source must offer the original's
 * columns and one integer column `seq` that is passed through.
 *
 * Pure: shapes and statement texts in, SQL text out.  It does not know how rows get anywhere.
 */
#ifndef WALTER_PROJECTION_H
#define WALTER_PROJECTION_H

#include "arena.h"
#include "err.h"
#include "pg/catalog.h"
#include "plan/ddl.h"

/* One column of the shadow that the projection writes. */
typedef struct Output {
    int column;       /* index into the shadow's columns */
    const char *name; /* unquoted, same as the shadow's column */
    const bool *uses; /* per column of the original: does the value depend on it? */
    bool is_new;      /* added by the ALTER: set once at insert, never touched by an update */
    int source;       /* the original's column that it is, as it is or cast; -1 = it is computed */
    const char *constant; /* the literal that every row gets, or NULL */
} Output;

/* What the rows that are there get in an added column. */
typedef struct NewValue {
    const char *sql; /* NULL leaves the column to its default */
    bool is_constant;
} NewValue;

typedef struct Projection {
    const char *seq; /* unquoted name of the passed-through column, unlike any column's name */
    const char *head;
    const char *tail;
    const Output *outputs;
    int output_count;
    /* per column of the shadow: the original's column it was (index), or -1 for a new one */
    const int *origin;
    /* given by the operator: may leave rows out, so counts of affected rows prove nothing */
    bool is_copy_statement;
} Projection;

/*
 * The projection before any ALTER: every column as it is.  All of *out is in `arena`.
 * `ddl`: all that will be added; the name `seq` is unlike every column that it will make.
 */
void projection_begin(const TableShape *original, const Ddl *ddl, Arena *arena, Projection *out);

/*
 * Add one ALTER statement on top.
 *
 * `before`, `after`: the shadow's definition around that statement; same attnum = same column.
 * `values`: per column of `after`; ignored for columns that `before` has.
 * Fails with ERR_REFUSED when a USING expression needs what no row can give.
 */
NODISCARD bool projection_add(Projection *projection, const TableShape *before,
                              const TableShape *after, const DdlStatement *statement,
                              const NewValue *values, const TableShape *original, Arena *arena,
                              Err *err);

/*
 * Replace the projection by the operator's copy statement.  Fails with ERR_REFUSED when it fills a
 * column that the shadow does not have, or cannot write.
 */
NODISCARD bool projection_use_copy(Projection *projection, const CopyStatement *copy,
                                   const TableShape *shadow, const TableShape *original,
                                   Arena *arena, Err *err);

/*
 * Find the shadow's columns that identify a row: key[i] is the index of the shadow's column for the
 * original's key column i (`key` has room for original->key_count).
 * Fails with ERR_REFUSED when a key column is dropped or computed from other columns too.
 */
NODISCARD bool projection_map_key(const Projection *projection, const TableShape *shadow,
                                  const TableShape *original, int *key, Err *err);

/* The output that fills the shadow's column `column` (index), or NULL. */
const Output *projection_find(const Projection *projection, int column);

#endif
