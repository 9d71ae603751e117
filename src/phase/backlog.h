/*
 * Is the backlog of changes getting shorter?  Looks at what the application writes and at what is
 * applied, and tells the operator where that leads nowhere.
 *
 * The server's own counts of changed rows tell what is written: every role may read them, they are
 * about the original alone, and they do not depend on how far the stream has been decoded.
 */
#ifndef WALTER_BACKLOG_H
#define WALTER_BACKLOG_H

#include "phase/migration.h"

/* Look again, at most once a second.  To be called often while the run catches up. */
NODISCARD bool backlog_look(Migration *run, Err *err);

/* A fence has come through at once: tell who was told of a backlog that there is none any more. */
void backlog_is_gone(Migration *run);

#endif
