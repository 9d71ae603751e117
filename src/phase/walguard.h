/*
 * Watches the replication slot: how much WAL it holds back against what it may, and whether the
 * server still has it.  Tells the operator in time, slows the copy, and ends the run before the
 * server's disk is full.  What is to be said when is walbudget.h's to decide.
 */
#ifndef WALTER_WALGUARD_H
#define WALTER_WALGUARD_H

#include "phase/migration.h"

/*
 * Before there is a slot: take the budget from the settings, and warn where a table of `table_bytes`
 * is not likely to do with it.  `limit_bytes`: the server's, WALBUDGET_NONE = it has none.
 */
void walguard_plan(Migration *run, int64_t table_bytes, int64_t limit_bytes);

/*
 * Look at the slot, at most once a second: to be called often.  Not under the swap's lock.
 *
 * Fails with ERR_CUTOVER when the budget is used up, having set run->on_failure to what the operator
 * has asked for; with ERR_GONE as walguard_check_slot does.
 */
NODISCARD bool walguard_look(Migration *run, Err *err);

/* Run statements on `conn`, as query_exec does, with looks at the slot meanwhile. */
NODISCARD bool walguard_exec(Migration *run, Conn *conn, const char *sql, Err *err);

/*
 * Fail with ERR_GONE when the slot cannot be used any more: invalidated by the server, or dropped.
 * `conn`: any session that is free.  May take seconds while the server makes up its mind.
 */
NODISCARD bool walguard_check_slot(Migration *run, Conn *conn, Err *err);

/*
 * The run has failed before the swap with *err.  If that is because the stream was lost, and the
 * stream because the slot was, say that instead.  Closes the run's sessions in that case, opens one.
 */
void walguard_explain_loss(Migration *run, Err *err);

#endif
