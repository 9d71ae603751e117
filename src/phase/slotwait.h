/*
 * Creating a replication slot and its snapshot: waiting for the transactions that it has to wait for,
 * saying which, and holding the snapshot in a session of its own, the keeper.
 *
 * A snapshot from here belongs to one place in the WAL: it has all transactions whose commit record is
 * before the slot's consistent point, and no other.
 */
#ifndef WALTER_SLOTWAIT_H
#define WALTER_SLOTWAIT_H

#include "phase/migration.h"

typedef struct SlotWait {
    Conn *conn; /* walsender session; NULL when nothing is being waited for */
    int64_t started_us;
    int64_t reported_us;
} SlotWait;

/*
 * Send the command that makes the run's slot, or one beside it that goes with its session
 * (`temporary`).  Done with slotwait_done, unless the session was taken out.
 */
NODISCARD bool slotwait_begin(Migration *run, SlotWait *wait, bool temporary, Err *err);
void slotwait_done(SlotWait *wait);

/* Is the slot ready? */
bool slotwait_is_ready(const SlotWait *wait);

/*
 * Say now and then which transactions are in the way.  ERR_CUTOVER once --slot-timeout has passed,
 * with the list in the log.
 */
NODISCARD bool slotwait_report(Migration *run, SlotWait *wait, Err *err);

/* A snapshot that is held. */
typedef struct Snapshot {
    Conn *keeper;
    const char *id; /* for SET TRANSACTION SNAPSHOT; in the run's arena */
    Lsn lsn;        /* consistent point */
} Snapshot;

/*
 * Take the snapshot of a slot that is ready.  Waits until every transaction that it counts as
 * finished is seen to have ended.  The session of the slot is free for other commands afterwards.
 */
NODISCARD bool slotwait_take(Migration *run, SlotWait *wait, Snapshot *snapshot, Err *err);

#endif
