/*
 * Runs that walter.run does not know any more - somebody has dropped the schema, or restored an old
 * dump - and that have left something all the same.  They are found by the names of what they left.
 */
#ifndef WALTER_ORPHANS_H
#define WALTER_ORPHANS_H

#include "ctl/state.h"

/*
 * All of them in this database; *runs is in `arena`.  What only walter.run could tell is "" there.
 * Alive is one whose stream is read by somebody.
 */
NODISCARD bool orphans_list(Conn *control, Arena *arena, RunRecord **runs, int *count, Err *err);

/* Is this record such a run's? */
bool orphans_is_one(const RunRecord *run);

#endif
