/*
 * Phase "slot": publication, replication slot, snapshot, and from then on the stream.
 *
 * Order matters: the publication is committed before the slot is made (a change decoded without it
 * is an error, or on 18 silently lost), and no lock is held while the slot waits for running
 * writers.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "pg/repl.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/migration.h"
#include "phase/stream.h"

static const int64_t REPORT_INTERVAL_US = 5 * INT64_C(1000000);
enum { LOCK_TRIES = 10 };

/* The slot's wait, between enter and the last step. */
typedef struct Capture {
    Conn *conn;
    int64_t started_us;
    int64_t reported_us;
} Capture;

/* One run at a time per process, so the wait may live here between two steps. */
static Capture capture;

/* CREATE PUBLICATION waits behind VACUUM and CREATE INDEX CONCURRENTLY, not behind writers. */
static bool
create_publication(Migration *run, Err *err)
{
    AUTO(Text) *sql = sql_build("begin; set local lock_timeout to '2s';"
                                "create publication %I for table only %S, %S; commit",
                                run->names.publication, run->original.qualified, run->names.fence);

    for (int tries = 1;; tries++) {
        if (query_exec(run->control, sql, err))
            return true;
        query_rollback(run->control);
        if (err->kind != ERR_RETRY || tries == LOCK_TRIES)
            return err_wrap(err, "creating the publication");
        log_info("waiting to publish %s: %s", run->original.qualified, err->message);
        err_clear(err);
        if (!loop_pause(run->loop, 500000, err))
            return false;
    }
}

bool
capture_enter(Migration *run, Err *err)
{
    if (run->settings->plugin == PLUGIN_PGOUTPUT && !create_publication(run, err))
        return false;
    capture = (Capture){.started_us = clock_now_us(), .reported_us = clock_now_us()};
    capture.conn = migration_connect(run, CONN_REPLICATION, "stream", err);
    return capture.conn != NULL &&
           repl_send_create_slot(capture.conn, run->names.slot, run->settings->plugin, err);
}

/* Say which transactions the slot waits for; the first is visible as a lock, all of them by xid. */
static bool
report_wait(Migration *run, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('pid %s, database %s, user %s, %s, %s s old: %s', pid, datname,"
        "         usename, state, pg_catalog.round(extract(epoch from pg_catalog.now()"
        "         - xact_start)), pg_catalog.left(pg_catalog.regexp_replace(query, '\\s+', ' ', "
        "'g'), 80))"
        "  from pg_catalog.pg_stat_activity where backend_xid is not null"
        "   and pid <> pg_catalog.pg_backend_pid()"
        " union all"
        " select pg_catalog.format('prepared transaction %L, database %s, owner %s, since %s', gid,"
        "         database, owner, pg_catalog.to_char(prepared, 'YYYY-MM-DD HH24:MI:SS'))"
        "  from pg_catalog.pg_prepared_xacts";
    AUTO(Rows) *rows = NULL;

    if (!query_simple(run->control, SQL, &rows, err))
        return false;
    log_info("the replication slot waits for %d running transaction%s of the whole server to end",
             rows_count(rows), rows_count(rows) == 1 ? "" : "s");
    for (int i = 0; i < rows_count(rows) && i < 10; i++)
        log_info("  %s", rows_text(rows, i, 0));
    return true;
}

static bool
give_up(Migration *run, Err *err)
{
    AUTO(Text) *pid = mem_format("%d", conn_pid(capture.conn));

    if (!query_run(run->control, "select pg_catalog.pg_terminate_backend($1)",
                   (const char *const[]){pid, NULL}, NULL, err))
        return false;
    err_set(err, ERR_CUTOVER, "the replication slot was not ready after %lld s",
            (long long)run->settings->slot_timeout_s);
    return err_hint(err, "A replication slot needs every transaction that writes anywhere in the "
                         "server to end once. End the ones listed above, or raise --slot-timeout.");
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
    for (;;) {
        /* a transaction that the snapshot counts as finished may not be marked so yet */
        static const char SQL[] =
            "select not exists (select from pg_catalog.pg_snapshot_xip("
            "  pg_catalog.pg_current_snapshot()) x"
            "  where x < pg_catalog.pg_snapshot_xmax($1::pg_catalog.pg_snapshot)"
            "    and x not in (select pg_catalog.pg_snapshot_xip($1::pg_catalog.pg_snapshot)))";
        AUTO(Rows) *settled = NULL;

        if (!query_one(run->control, SQL, (const char *const[]){rows_text(rows, 0, 1), NULL},
                       &settled, err))
            return false;
        if (rows_bool(settled, 0, 0))
            return true;
        if (!loop_pause(run->loop, 10000, err))
            return false;
    }
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

    repl_add_table(&tables, run->original.schema, run->original.name);
    repl_add_table(&tables, "walter", run->names.fence_name);
    start.tables = buf_text(&tables);
    run->stream = stream_open(capture.conn, &start, err);
    capture.conn = NULL;
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

    if (!repl_finish_slot(capture.conn, &run->consistent_lsn, &snapshot, err) ||
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

static Step
poll_slot(Migration *run, Err *err)
{
    int64_t now_us = clock_now_us();
    int64_t limit_us = run->settings->slot_timeout_s * 1000000;

    if (query_is_done(capture.conn))
        return begin_streaming(run, err) ? STEP_DONE : STEP_FAILED;
    if (limit_us > 0 && now_us - capture.started_us > limit_us) {
        (void)give_up(run, err);
        return STEP_FAILED;
    }
    if (now_us - capture.reported_us > REPORT_INTERVAL_US) {
        capture.reported_us = now_us;
        if (!report_wait(run, err))
            return STEP_FAILED;
    }
    return loop_turn(run->loop, now_us + 200000, err) ? STEP_MORE : STEP_FAILED;
}

Step
capture_step(Migration *run, Err *err)
{
    Step step = poll_slot(run, err);

    if (step == STEP_FAILED) {
        conn_close(capture.conn);
        capture.conn = NULL;
    }
    return step;
}
