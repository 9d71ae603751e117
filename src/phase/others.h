/*
 * How busy others keep the server, and how many of our sessions may work beside them.
 *
 * The measure is the rate of transactions that write, in the whole server: every role may see it,
 * it costs one look at a snapshot, and our own share of it is known.
 */
#ifndef WALTER_OTHERS_H
#define WALTER_OTHERS_H

#include "phase/migration.h"

/* Look again, at most once a second.  To be called often while there is work for several. */
NODISCARD bool others_look(Migration *run, Err *err);

/* The most sessions that may be needed at a time: pipes of the copy, or index builds. */
int others_most_jobs(const Migration *run);

/* How many of them may be given work now. */
int others_jobs(const Migration *run);

#endif
