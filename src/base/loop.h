/*
 * The one poll loop.  Everybody who waits - for a query, a lock, a fence - turns this loop, so the
 * replication stream is served during every wait.
 *
 * Watches and timers are called from loop_turn.  A callback must not block and must not turn the
 * loop itself.  A callback that fails ends the turn with its error.
 */
#ifndef WALTER_LOOP_H
#define WALTER_LOOP_H

#include <stdint.h>

#include "err.h"
#include "mem.h"

typedef struct Loop Loop;
typedef struct Watch Watch;

/* Called with the poll(2) events that are ready.  Source of the bits: poll(2). */
typedef bool (*WatchReady)(void *owner, short ready, Err *err);

/* New loop; free it with loop_free.  Installs the handlers for SIGINT, SIGTERM and
 * SIGHUP; SIGPIPE and SIGXFSZ are ignored. */
Loop *loop_new(void);
void loop_free(Loop *loop);
AUTO_FREE_DEFINE(Loop, loop_free)

/*
 * Watch `fd` for `events` (POLLIN, POLLOUT or 0).  `ready` may be NULL: then the watch only ends a
 * turn early.  The watch is borrowed, valid until loop_unwatch.
 */
Watch *loop_watch(Loop *loop, int fd, short events, WatchReady ready, void *owner);
void loop_watch_events(Watch *watch, short events);
/*
 * Leave the watch alone until then: what comes meanwhile is found in one piece, and who sends it
 * does not wake us for every bit of it.
 */
void loop_rest(Watch *watch, int64_t until_us);
/* NULL is allowed. */
void loop_unwatch(Loop *loop, Watch *watch);

/* Call `ready` (with 0 as events) about every `interval_us`.  Removed with loop_unwatch. */
Watch *loop_every(Loop *loop, int64_t interval_us, WatchReady ready, void *owner);

/*
 * One turn: poll until something is ready or `deadline_us` (monotonic) has passed, then dispatch.
 * Fails with ERR_STOPPED once the operator asked to stop (unless shielded), or with the first error
 * of a callback.
 */
NODISCARD bool loop_turn(Loop *loop, int64_t deadline_us, Err *err);

/* Turn until `duration_us` have passed. */
NODISCARD bool loop_pause(Loop *loop, int64_t duration_us, Err *err);

/*
 * While shielded, a stop request does not end turns: for cleaning up, and from the swap's COMMIT
 * until its outcome is known.  Calls nest.
 */
void loop_shield(Loop *loop);
void loop_unshield(Loop *loop);

/*
 * What a second stop request exits with, at once: 7 unless set.  8 from a COMMIT on whose
 * outcome nobody would know, or that has changed the table.
 */
void loop_set_hard_exit(int code);

/* True once one of these signals has arrived. */
bool loop_is_stopping(const Loop *loop);

#endif
