/*
 * The statements of the copy: rows of the original, through the projection, into the shadow.
 * Builds text only.
 */
#ifndef WALTER_COPY_SQL_H
#define WALTER_COPY_SQL_H

#include "base/buf.h"
#include "phase/chunks.h"

/*
 * Begin a transaction under the run's snapshot.  Not read only: a new column's default may take
 * numbers from a sequence.
 */
void copy_add_begin(const Migration *run, Buf *sql);

/* The rows of a chunk, as a FROM item without its alias. */
void copy_add_chunk(const Migration *run, Buf *sql, const Chunk *chunk);

/* The original's columns as the projection wants them, of table `o`: "select o.a, ... from ". */
void copy_add_columns(const Migration *run, Buf *sql);

/* The SELECT that makes the shadow's rows of `source`, such as the chunk above, for an INSERT ... */
void copy_add_select(const Migration *run, Buf *sql, const char *source);

/*
 * ... and for a COPY, which takes values of the shadow's types alone: what a copy statement selects
 * may be of others.
 */
void copy_add_typed_select(const Migration *run, Buf *sql, const char *source);

/*
 * The chunk's count of rows, the bytes of what varies in them, and how many rows are long; see
 * Footprint.
 */
void copy_add_measure(const Migration *run, Buf *sql, const Chunk *chunk);

/* "insert into shadow select ..." of the chunk. */
void copy_add_insert(const Migration *run, Buf *sql, const Chunk *chunk);

/* "copy shadow (...) from stdin"; the second begins a transaction for it. */
void copy_add_into(const Migration *run, Buf *sql, int leaf);
void copy_add_write(const Migration *run, Buf *sql, int leaf);

#endif
