/*
 * Would plain ALTER TABLE do without reading or writing a single row?  Then the operator is told;
 * the run goes on all the same.
 *
 * Told only where it is certain: for sub-commands that never look at rows, and when the server has
 * not given the shadow a new file while they were rehearsed.
 */
#ifndef WALTER_INSTANT_H
#define WALTER_INSTANT_H

#include "phase/migration.h"

/* The number of the shadow's file, which every rewrite changes; 0 for a partitioned table. */
NODISCARD bool instant_read_file(const Migration *run, Conn *conn, int64_t *file, Err *err);

/* Say so, when run->keeps_file and the statements are of that sort. */
void instant_tell(const Migration *run);

#endif
