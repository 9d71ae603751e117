/* Exit codes; see outcome.h. */
#include "cli/outcome.h"

#include <stddef.h>

static const char *const MEANINGS[OUTCOME_COUNT] = {
    "done",
    "wrong command line, or an internal error",
    "refused before the start; nothing was changed",
    "the data does not fit the new definition; the original was not changed",
    "original and shadow differ; the original was not changed",
    "the cutover was not reached within its limits; the same command goes on",
    "the server was not reached, or was away too long; the same command goes on",
    "stopped on request before the swap; the same command goes on",
    "the outcome is unknown: look at the table before doing anything else",
    "the run cannot go on, ever: slot, server history or definition is gone",
};

int
outcome_code(ErrKind kind)
{
    switch (kind) {
    case ERR_NONE:
    case ERR_USAGE:
    case ERR_FAILED:
        return 1;
    case ERR_REFUSED:
        return 2;
    case ERR_DATA:
        return 3;
    case ERR_MISMATCH:
        return 4;
    case ERR_CUTOVER:
    case ERR_RETRY:
        return 5;
    case ERR_LOST:
        return 6;
    case ERR_STOPPED:
        return 7;
    case ERR_UNKNOWN:
        return 8;
    case ERR_GONE:
        return 9;
    }
    return 1;
}

const char *
outcome_meaning(int code)
{
    return code < 0 || code >= OUTCOME_COUNT ? NULL : MEANINGS[code];
}
