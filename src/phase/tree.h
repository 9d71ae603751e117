/*
 * The tables of a run: the original alone, or a partitioned table with all that is below it.
 */
#ifndef WALTER_TREE_H
#define WALTER_TREE_H

#include "base/buf.h"
#include "phase/migration.h"

/* Fill run->leaves from the catalog; run->original is filled. */
NODISCARD bool tree_read(Migration *run, Err *err);

/* Append the oids of the leaves, in their order: "{1,2}". */
void tree_add_oids(const Migration *run, Buf *oids);

/* Fill in what the shadows of the leaves are called; run->names is filled. */
void tree_name_shadows(Migration *run);

#endif
