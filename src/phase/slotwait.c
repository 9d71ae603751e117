/* Creating a replication slot and its snapshot; see slotwait.h. */
#include "phase/slotwait.h"

#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/repl.h"
#include "pg/sql.h"
#include "phase/sessions.h"

static const int64_t FIRST_REPORT_US = 1000000;
static const int64_t SETTLE_PAUSE_US = 10000;
static const int64_t SETTLE_PATIENCE_US = 10 * INT64_C(1000000);
static const int64_t REPORT_INTERVAL_US = 10 * INT64_C(1000000);

bool
slotwait_begin(Migration *run, SlotWait *wait, bool temporary, Err *err)
{
    AUTO(Text) *beside = mem_format("%s_s", run->names.slot);

    *wait = (SlotWait){.started_us = clock_now_us()};
    wait->reported_us = wait->started_us - REPORT_INTERVAL_US + FIRST_REPORT_US;
    wait->conn = migration_connect(run, CONN_REPLICATION, temporary ? "snapshot" : "stream", err);
    return wait->conn != NULL &&
           repl_send_create_slot(wait->conn, temporary ? beside : run->names.slot,
                                 run->settings->plugin, temporary, err);
}

void
slotwait_done(SlotWait *wait)
{
    conn_close(wait->conn);
    *wait = (SlotWait){0};
}

bool
slotwait_is_ready(const SlotWait *wait)
{
    return query_is_done(wait->conn);
}

/*
 * Say which transactions the slot waits for.  Only the first is visible as a lock, all of them by
 * their xid; the sessions of other roles show no more than that.
 */
static bool
say_who_writes(Migration *run, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('pid %s, database %s, user %s%s', pid, datname, usename,"
        "         case when xact_start is not null then pg_catalog.format("
        "           ', %s, open for %s s: %s', state, pg_catalog.round(extract(epoch from"
        "           pg_catalog.clock_timestamp() - xact_start)),"
        "           " SESSIONS_STATEMENT ") end)"
        "  from pg_catalog.pg_stat_activity where backend_xid is not null"
        "   and pid <> pg_catalog.pg_backend_pid()"
        " union all"
        " select pg_catalog.format('prepared transaction %L, database %s, owner %s, since %s', gid,"
        "         database, owner, pg_catalog.to_char(prepared, 'YYYY-MM-DD HH24:MI:SS'))"
        "  from pg_catalog.pg_prepared_xacts";
    AUTO(Rows) *rows = NULL;

    if (!query_simple(run->control, SQL, &rows, err))
        return false;
    log_info("the replication slot waits for every transaction of the whole server that was writing"
             " when it began; there are %d now",
             rows_count(rows));
    for (int i = 0; i < rows_count(rows) && i < 10; i++)
        log_info("  %s", rows_text(rows, i, 0));
    return true;
}

static bool
give_up(Migration *run, Err *err)
{
    if (!say_who_writes(run, err))
        return false;
    err_set(err, ERR_CUTOVER, "the replication slot was not ready after %lld s",
            (long long)run->settings->slot_timeout_s);
    return err_hint(err, "A replication slot needs every transaction that writes anywhere in the "
                         "server to end once.  End the ones listed above, or raise "
                         "--slot-timeout.");
}

static bool
is_late(const Migration *run, const SlotWait *wait)
{
    int64_t limit_us = run->settings->slot_timeout_s * 1000000;

    return limit_us > 0 && clock_now_us() - wait->started_us > limit_us;
}

bool
slotwait_report(Migration *run, SlotWait *wait, Err *err)
{
    int64_t now_us = clock_now_us();

    if (is_late(run, wait))
        return give_up(run, err);
    if (now_us - wait->reported_us <= REPORT_INTERVAL_US)
        return true;
    wait->reported_us = now_us;
    return say_who_writes(run, err);
}

/* Who has a snapshot already does without a newer one, rather than rest for long. */
static bool
check_patience(const Migration *run, int64_t since_us, Err *err)
{
    if (run->keeper == NULL || clock_now_us() - since_us < SETTLE_PATIENCE_US)
        return true;
    return err_set(err, ERR_CUTOVER,
                   "the commit of a transaction before the new one does not end, "
                   "as when a standby does not answer");
}

/*
 * A transaction that the snapshot counts as finished may not be marked so yet.  Whoever reads its
 * rows before it is takes it for one that has failed, and marks the rows so, for everybody and for
 * good.  So nothing is read until all these transactions are seen to have ended: they lie below the
 * current snapshot's xmax - what is not below it may be running - and are not listed as running.
 *
 * The snapshot is taken apart as text, because a slot's may have an xmin beyond its xmax, which
 * pg_snapshot does not accept.
 */
static bool
wait_until_settled(Migration *run, SlotWait *wait, const char *snapshot, Err *err)
{
    static const char SQL[] =
        "with slot as ("
        "  select pg_catalog.split_part($1, ':', 1)::pg_catalog.xid8 as xmin,"
        "         pg_catalog.split_part($1, ':', 2)::pg_catalog.xid8 as xmax,"
        "         pg_catalog.string_to_array(pg_catalog.split_part($1, ':', 3), ',') as xip,"
        "         pg_catalog.pg_current_snapshot() as now)"
        "select pg_catalog.pg_snapshot_xmax(now) >= xmin and pg_catalog.pg_snapshot_xmax(now) >= "
        "xmax"
        "   and not exists (select from pg_catalog.pg_snapshot_xip(now) x"
        "         where x < xmin or (x < xmax and x::text <> all (xip)))"
        "  from slot";

    int64_t since_us = clock_now_us();

    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!query_one(run->control, SQL, (const char *const[]){snapshot, NULL}, &rows, err))
            return err_wrap(err, "waiting for the slot's snapshot to settle");
        if (rows_bool(rows, 0, 0))
            return true;
        /* as one whose commit waits for a standby that is dead */
        if (!check_patience(run, since_us, err) || !slotwait_report(run, wait, err) ||
            !migration_check_abort(run, err) || !loop_pause(run->loop, SETTLE_PAUSE_US, err))
            return false;
    }
}

/*
 * The keeper holds the slot's snapshot and exports it anew, so the slot's own session is free.  It
 * takes no lock.
 */
static bool
open_keeper(Migration *run, SlotWait *wait, const char *slot_snapshot, Snapshot *snapshot, Err *err)
{
    AUTO(Text) *sql = sql_build("begin isolation level repeatable read read only;"
                                "set transaction snapshot %L",
                                slot_snapshot);
    AUTO(Rows) *rows = NULL;

    if (!query_exec(snapshot->keeper, sql, err) ||
        !query_one(snapshot->keeper,
                   "select pg_catalog.pg_export_snapshot(),"
                   "       pg_catalog.pg_current_snapshot()",
                   NULL, &rows, err))
        return false;
    snapshot->id = arena_copy(run->arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
    return wait_until_settled(run, wait, rows_text(rows, 0, 1), err);
}

bool
slotwait_take(Migration *run, SlotWait *wait, Snapshot *snapshot, Err *err)
{
    AUTO(Text) *slot_snapshot = NULL;
    Snapshot taken = {0};

    if (!repl_finish_slot(wait->conn, &taken.lsn, &slot_snapshot, err))
        return false;
    FAULT_POINT("slot.created");
    taken.keeper = migration_connect(run, CONN_SQL, "keeper", err);
    if (taken.keeper == NULL || !open_keeper(run, wait, slot_snapshot, &taken, err)) {
        conn_close(taken.keeper);
        return err_wrap(err, "keeping the slot's snapshot");
    }
    FAULT_POINT("keeper.opened");
    *snapshot = taken;
    return true;
}
