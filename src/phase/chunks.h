/*
 * What is copied, in which pieces: chunks of consecutive blocks of each leaf, and which of them are
 * done.  Reads sizes from the catalog; copies nothing itself.
 */
#ifndef WALTER_CHUNKS_H
#define WALTER_CHUNKS_H

#include "base/buf.h"
#include "phase/migration.h"

typedef struct Chunk {
    int leaf; /* in run->leaves */
    int64_t first_block;
    int64_t end_block; /* -1: to the end of the table */
} Chunk;

/* Behind the last block that a table can have. */
static const int64_t CHUNKS_END = INT64_C(4294967295);

typedef struct Chunks Chunks;

/* New; chunks_measure comes next. */
Chunks *chunks_new(const Migration *run);
void chunks_free(Chunks *chunks);

/*
 * How large are the leaves?  All of them are to be copied, from the beginning.  Fills the counters
 * of the run.  `most_bytes`: what the rows of a chunk may take in the memory of a decoder.
 */
NODISCARD bool chunks_measure(Migration *run, Chunks *chunks, int64_t most_bytes, Err *err);

/* The next one; false when all have been given out. */
bool chunks_take(Chunks *chunks, Chunk *chunk);

/* Have all been given out? */
bool chunks_are_taken(const Chunks *chunks);

/* How many there are, about. */
int64_t chunks_count(const Chunks *chunks);

/* What a row takes in the original, on average, out of line included; 0 = there is none. */
int64_t chunks_row_bytes(const Chunks *chunks);

/* How many blocks a chunk of the leaf has. */
int64_t chunks_blocks(const Chunks *chunks, int leaf);

/* The chunk is committed.  Adds to the counters of the run. */
void chunks_note_copied(Migration *run, Chunks *chunks, const Chunk *chunk, int64_t rows);

/*
 * What an interrupted run has copied, from walter.copied_<run>: it is not given out.  After
 * chunks_measure, and before the first chunk is taken.
 */
NODISCARD bool chunks_load(Migration *run, Chunks *chunks, Err *err);

/* The leaf is to be copied from the beginning, without a trace of what was before. */
void chunks_begin_anew(Migration *run, Chunks *chunks, int leaf);

/* How large are the leaves now?  What was added is copied, too. */
NODISCARD bool chunks_extend(Migration *run, Chunks *chunks, Err *err);

/*
 * Append a condition: the row of table `alias` is in a block that is copied.  All chunks that were
 * taken have been copied.
 */
void chunks_add_done(const Chunks *chunks, int leaf, const char *alias, Buf *sql);

/*
 * The statement that records what was copied of the chunk, for the transaction of its rows.
 * `is_whole`: it is all of it.  New text, free().
 */
char *chunks_note_sql(const Migration *run, const Chunk *chunk, int64_t rows, bool is_whole);

/* Rows of the leaf were seen in a chunk that is given up. */
void chunks_note_seen(Chunks *chunks, int leaf);

/* Did the leaf have rows, and none when it was measured and copied again? */
bool chunks_lost_rows(const Chunks *chunks, int leaf);

#endif
