/*
 * Do the rows fit the foreign keys that they are to have?  Asked before the swap, because the keys
 * themselves can only be made in it, and validated after it, when there is no way back.
 */
#ifndef WALTER_KEYCHECK_H
#define WALTER_KEYCHECK_H

#include "phase/migration.h"

/*
 * Look for rows of the shadow, or of tables that reference it, that violate run->definition's
 * key_checks; goes on applying meanwhile.  Fails with ERR_DATA, as PostgreSQL would.  What the
 * owner may not read is left to the validation.
 */
NODISCARD bool keycheck_run(Migration *run, Err *err);

#endif
