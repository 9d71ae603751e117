/*
 * Exit codes: what scripts learn from a run.  One table feeds the exit code, the help text and the
 * check of the man page.  Pure; does not exit.
 */
#ifndef WALTER_OUTCOME_H
#define WALTER_OUTCOME_H

#include "err.h"

#define OUTCOME_COUNT 10 /* exit codes run from 0 to OUTCOME_COUNT - 1 */

/*
 * The exit code of a command that failed with `kind`.  Never 0: ERR_NONE, a failure that nobody
 * described, is 1 like any other internal error.
 */
int outcome_code(ErrKind kind);

/* What exit code `code` (0 to OUTCOME_COUNT - 1) means; NULL for any other number. */
const char *outcome_meaning(int code);

#endif
