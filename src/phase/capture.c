/*
 * Phase "slot": publication, replication slot, snapshot, and from then on the stream.
 *
 * Order matters: the publication is committed before the slot is made (a change decoded without it
 * is an error, or on 18 silently lost), and no lock is held while the slot waits for running
 * writers.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/repl.h"
#include "pg/sql.h"
#include "pg/tree.h"
#include "phase/apply.h"
#include "phase/identity.h"
#include "phase/migration.h"
#include "phase/sessions.h"
#include "phase/stream.h"
#include "phase/walguard.h"

static const int64_t FIRST_REPORT_US = 1000000;
static const int64_t REPORT_INTERVAL_US = 10 * INT64_C(1000000);

/* The slot's wait, between enter and the last step. */
struct Capture {
    Conn *conn;
    int64_t started_us;
    int64_t reported_us;
};

/*
 * Who keeps us from publishing the table: sessions with a lock that only DDL and vacuum take; and who
 * from setting its identity: sessions with any lock.
 */
static bool
report_locks(Migration *run, const char *why, bool any, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('pid %s, user %s, %s', l.pid, a.usename,"
        "         " SESSIONS_STATEMENT ")"
        "  from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a using (pid)"
        " where l.locktype = 'relation' and l.relation in " TREE_OIDS " and l.granted"
        "   and ($2 = 'any' or l.mode in ('ShareUpdateExclusiveLock', 'ShareLock',"
        "     'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))"
        "   and l.database = (select oid from pg_catalog.pg_database"
        "                      where datname = pg_catalog.current_database())";
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(run->control, SQL, (const char *const[]){oid, any ? "any" : "ddl", NULL}, &rows,
                   err))
        return false;
    log_info("%s", why);
    for (int i = 0; i < rows_count(rows) && i < 5; i++)
        log_info("  %s", rows_text(rows, i, 0) == NULL ? "unknown" : rows_text(rows, i, 0));
    return true;
}

static bool
is_late(const Migration *run)
{
    int64_t limit_us = run->settings->slot_timeout_s * 1000000;

    return limit_us > 0 && clock_now_us() - run->capture->started_us > limit_us;
}

/*
 * Publish the table, unless its definition is no longer the one that preflight approved: published
 * without a replica identity it could not be updated any more.  The lock, which waits behind VACUUM
 * and CREATE INDEX CONCURRENTLY and not behind writers, keeps it so until the commit.
 */
static bool
publish(Migration *run, Err *err)
{
    BUF_AUTO(sql);
    bool ok;

    sql_add(&sql, "begin; set local lock_timeout to '2s'; create publication %I for table %S",
            run->names.publication, run->names.fence);
    for (int i = 0; i < run->leaf_count; i++)
        sql_add(&sql, ", only %S", run->leaves[i].qualified);
    ok = query_exec(run->control, buf_text(&sql), err) &&
         migration_check_definition(run, run->control, err) &&
         migration_check_publication(run, run->control, err) &&
         query_exec(run->control, "commit", err);

    if (!ok)
        query_rollback(run->control);
    return ok;
}

/* Identity before publication: without one, the application could not write any more. */
static bool
prepare_once(Migration *run, Err *err)
{
    if (!identity_set(run, err))
        return false;
    if (run->settings->plugin != PLUGIN_PGOUTPUT || publish(run, err))
        return true;
    return err_wrap(err, "creating the publication");
}

/* The pulses for the identity's lock come often, and are reported now and then. */
static bool
report_wait_for_table(Migration *run, Err *err)
{
    bool for_identity = run->identity.index != NULL && !run->identity.is_set;
    AUTO(Text) *why =
        for_identity
            ? mem_format("waiting for a moment when nobody uses %s, to set its replica identity",
                         run->original.qualified)
            : mem_format("waiting for VACUUM or DDL on %s to end", run->original.qualified);
    int64_t now_us = clock_now_us();

    if (for_identity && run->capture->reported_us != 0 &&
        now_us - run->capture->reported_us < REPORT_INTERVAL_US)
        return true;
    run->capture->reported_us = now_us;
    return report_locks(run, why, for_identity, err);
}

static bool
prepare_table(Migration *run, Err *err)
{
    while (!prepare_once(run, err)) {
        if (err->kind != ERR_RETRY)
            return false;
        if (is_late(run)) {
            err->kind = ERR_CUTOVER;
            err_hint(err, "Wait for what keeps a lock on the table to end, or raise "
                          "--slot-timeout.");
            return err_wrap(err, "the table could not be published within %lld s",
                            (long long)run->settings->slot_timeout_s);
        }
        err_clear(err);
        if (!report_wait_for_table(run, err) || !loop_pause(run->loop, 500000, err))
            return false;
    }
    return true;
}

bool
capture_enter(Migration *run, Err *err)
{
    Capture *capture = mem_new(1, sizeof *capture);

    run->capture = capture;
    capture->started_us = clock_now_us();
    if (!prepare_table(run, err))
        return false;
    capture->reported_us = clock_now_us() - REPORT_INTERVAL_US + FIRST_REPORT_US;
    capture->conn = migration_connect(run, CONN_REPLICATION, "stream", err);
    return capture->conn != NULL &&
           repl_send_create_slot(capture->conn, run->names.slot, run->settings->plugin, err);
}

void
capture_leave(Migration *run)
{
    if (run->capture == NULL)
        return;
    conn_close(run->capture->conn);
    free(run->capture);
    run->capture = NULL;
}

/*
 * Say which transactions the slot waits for.  Only the first is visible as a lock, all of them by
 * their xid; the sessions of other roles show no more than that.
 */
static bool
report_wait(Migration *run, Err *err)
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
    if (!report_wait(run, err))
        return false;
    err_set(err, ERR_CUTOVER, "the replication slot was not ready after %lld s",
            (long long)run->settings->slot_timeout_s);
    return err_hint(err, "A replication slot needs every transaction that writes anywhere in the "
                         "server to end once.  End the ones listed above, or raise "
                         "--slot-timeout.");
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
wait_until_settled(Migration *run, const char *snapshot, Err *err)
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

    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!query_one(run->control, SQL, (const char *const[]){snapshot, NULL}, &rows, err))
            return err_wrap(err, "waiting for the slot's snapshot to settle");
        if (rows_bool(rows, 0, 0))
            return true;
        if (!loop_pause(run->loop, 10000, err))
            return false;
    }
}

/*
 * The keeper holds the slot's snapshot and exports it anew, so the slot's own session is free to
 * stream.  It takes no lock.
 */
static bool
open_keeper(Migration *run, const char *slot_snapshot, Err *err)
{
    AUTO(Text) *sql = sql_build("begin isolation level repeatable read read only;"
                                "set transaction snapshot %L",
                                slot_snapshot);
    AUTO(Rows) *rows = NULL;

    run->keeper = migration_connect(run, CONN_SQL, "keeper", err);
    if (run->keeper == NULL || !query_exec(run->keeper, sql, err) ||
        !query_one(run->keeper,
                   "select pg_catalog.pg_export_snapshot(),"
                   "       pg_catalog.pg_current_snapshot()",
                   NULL, &rows, err))
        return err_wrap(err, "keeping the slot's snapshot");
    run->snapshot = arena_copy(run->arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
    return wait_until_settled(run, rows_text(rows, 0, 1), err);
}

static bool
uses_floating_numbers(const Migration *run)
{
    for (int i = 0; i < run->original.column_count; i++) {
        const char *type = run->original.columns[i].base_type;

        if (strcmp(type, "numeric") == 0 || strcmp(type, "real") == 0 ||
            strcmp(type, "double precision") == 0)
            return true;
    }
    return false;
}

static bool
open_stream(Migration *run, Err *err)
{
    BUF_AUTO(tables);
    ReplStart start = {.slot = run->names.slot,
                       .plugin = run->settings->plugin,
                       .publication = run->names.publication,
                       .binary = run->binary_stream,
                       .numeric_as_string = uses_floating_numbers(run),
                       .from_lsn = run->consistent_lsn};

    for (int i = 0; i < run->leaf_count; i++)
        repl_add_table(&tables, run->leaves[i].schema, run->leaves[i].name);
    repl_add_table(&tables, "walter", run->names.fence_name);
    start.tables = buf_text(&tables);
    run->stream = stream_open(run->capture->conn, &start, run->spool, err);
    run->capture->conn = NULL;
    run->spool = NULL;
    if (run->stream == NULL && run->settings->plugin == PLUGIN_WAL2JSON &&
        start.numeric_as_string && strstr(err->message, "numeric-data-types") != NULL) {
        err->kind = ERR_REFUSED;
        err_hint(err, "This wal2json loses NaN and Infinity of float and numeric columns; use "
                      "--plugin=pgoutput, or wal2json 2.6.");
    }
    return run->stream != NULL;
}

/* As a synchronous standby we would hold up every commit of the application. */
static bool
check_asynchronous(Migration *run, Err *err)
{
    AUTO(Text) *pid = mem_format("%d", stream_pid(run->stream));
    AUTO(Rows) *rows = NULL;

    if (!query_run(run->control,
                   "select sync_state from pg_catalog.pg_stat_replication where pid = $1",
                   (const char *const[]){pid, NULL}, &rows, err))
        return false;
    if (rows_count(rows) == 1 && rows_text(rows, 0, 0) != NULL &&
        strcmp(rows_text(rows, 0, 0), "async") != 0) {
        err_set(err, ERR_REFUSED,
                "synchronous_standby_names makes this tool a synchronous standby "
                "(sync_state \"%s\"), and every commit would wait for it",
                rows_text(rows, 0, 0));
        return err_hint(err, "Name the standbys in synchronous_standby_names instead of '*'.");
    }
    return true;
}

static bool
begin_streaming(Migration *run, Err *err)
{
    AUTO(Text) *snapshot = NULL;
    char lsn[LSN_TEXT_SIZE];

    if (!repl_finish_slot(run->capture->conn, &run->consistent_lsn, &snapshot, err) ||
        !open_keeper(run, snapshot, err) || !open_stream(run, err) ||
        !check_asynchronous(run, err) || !migration_check_definition(run, run->control, err))
        return false;
    run->apply = apply_open(run, run->stream, err);
    if (run->apply == NULL)
        return false;
    log_info("replication slot %s is consistent at %s", run->names.slot,
             lsn_text(run->consistent_lsn, lsn));
    return true;
}

Step
capture_step(Migration *run, Err *err)
{
    int64_t now_us = clock_now_us();

    if (query_is_done(run->capture->conn))
        return begin_streaming(run, err) ? STEP_DONE : STEP_FAILED;
    if (is_late(run)) {
        (void)give_up(run, err);
        return STEP_FAILED;
    }
    if (now_us - run->capture->reported_us > REPORT_INTERVAL_US) {
        run->capture->reported_us = now_us;
        if (!report_wait(run, err))
            return STEP_FAILED;
    }
    return walguard_look(run, err) && loop_turn(run->loop, now_us + 200000, err) ? STEP_MORE
                                                                                 : STEP_FAILED;
}
