/*
 * The tables of a run: the original alone, or a partitioned table with all that is below it.
 * Reads only.
 */
#ifndef WALTER_TREE_H
#define WALTER_TREE_H

#include "base/buf.h"
#include "phase/migration.h"

/*
 * Fill the run's leaves and branches from the catalog; run->original is filled.  A partitioned
 * original gets the key of its leaves.  ERR_REFUSED where these are not alike.
 */
NODISCARD bool tree_read(Migration *run, Err *err);

/* Append the oids of the leaves, in their order: "{1,2}". */
void tree_add_oids(const Migration *run, Buf *oids);

/* Fill in what the shadows of leaves and branches are called; run->names is filled. */
void tree_name_shadows(Migration *run);

/* The definition of a table of the tree has changed: fail, and say what it is about. */
bool tree_explain_change(Migration *run, Err *err);

#endif
