/*
 * Rehearsing once more, beside a live shadow.  What is done with a definition that was changed is
 * refresh_definition, in migration.h.
 */
#ifndef WALTER_REFRESH_H
#define WALTER_REFRESH_H

#include "phase/migration.h"

/*
 * Begin a transaction in which the run's schemas have other names, so that they can be made again; to
 * be rolled back.  ERR_RETRY when somebody's lock is in the way.
 */
NODISCARD bool refresh_step_aside(const Migration *run, Conn *conn, Err *err);

#endif
