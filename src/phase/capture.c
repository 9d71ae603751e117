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
#include "base/fault.h"
#include "base/log.h"
#include "pg/repl.h"
#include "pg/sql.h"
#include "pg/tree.h"
#include "phase/apply.h"
#include "phase/identity.h"
#include "phase/migration.h"
#include "phase/renewal.h"
#include "phase/resume.h"
#include "phase/sessions.h"
#include "phase/slotwait.h"
#include "phase/stream.h"
#include "phase/walguard.h"

static const int64_t REPORT_INTERVAL_US = 10 * INT64_C(1000000);

/* What is waited for, between enter and the last step. */
struct Capture {
    SlotWait wait; /* a slot */
    int64_t started_us;
    int64_t reported_us; /* the last word on who keeps us from the table */
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
    FAULT_POINT("identity.committed");
    /* wal2json does not read it; but with it the server sees to it that changes have a key */
    if (publish(run, err))
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
        if (!report_wait_for_table(run, err) || !migration_check_abort(run, err) ||
            !loop_pause(run->loop, 500000, err))
            return false;
    }
    FAULT_POINT("publication.committed");
    return true;
}

void
capture_leave(Migration *run)
{
    if (run->capture == NULL)
        return;
    slotwait_done(&run->capture->wait);
    free(run->capture);
    run->capture = NULL;
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

/* Sessions that share the changes may have come to different places; the first of them. */
static Lsn
first_lsn(const Migration *run)
{
    Lsn first = run->positions[0].end_lsn;

    for (int i = 1; i < run->position_count; i++)
        if (run->positions[i].end_lsn < first)
            first = run->positions[i].end_lsn;
    return first;
}

/* `conn` is taken. */
static bool
open_stream(Migration *run, Conn *conn, Err *err)
{
    BUF_AUTO(tables);
    ReplStart start = {.slot = run->names.slot,
                       .plugin = run->settings->plugin,
                       .publication = run->names.publication,
                       .binary = run->binary_stream,
                       .numeric_as_string = uses_floating_numbers(run),
                       .from_lsn = first_lsn(run)};

    for (int i = 0; i < run->leaf_count; i++)
        repl_add_table(&tables, run->leaves[i].schema, run->leaves[i].name);
    repl_add_table(&tables, "walter", run->names.fence_name);
    start.tables = buf_text(&tables);
    run->stream = stream_open(conn, &start, run->spool, err);
    run->spool = NULL;
    if (run->stream == NULL && run->settings->plugin == PLUGIN_WAL2JSON &&
        start.numeric_as_string && strstr(err->message, "numeric-data-types") != NULL) {
        err->kind = ERR_REFUSED;
        err_hint(err, "This wal2json loses NaN and Infinity of float and numeric columns; use "
                      "--plugin=pgoutput, or wal2json 2.6.");
    }
    return run->stream != NULL;
}

bool
capture_check_asynchronous(Migration *run, Err *err)
{
    /* an ordinary role is not shown the state, not even of its own sessions */
    static const char SQL[] =
        "select pg_catalog.format(' (sync_state \"%s\")', sync_state), sync_state is null"
        "  from pg_catalog.pg_stat_replication where pid = $1"
        "   and case when sync_state is not null then sync_state <> 'async'"
        "         else pg_catalog.current_setting('synchronous_standby_names') ~ '\\*' end";
    AUTO(Text) *pid = mem_format("%d", run->stream == NULL ? 0 : stream_pid(run->stream));
    AUTO(Rows) *rows = NULL;

    if (!query_run(run->control, SQL, (const char *const[]){pid, NULL}, &rows, err))
        return false;
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_REFUSED,
            "synchronous_standby_names makes this tool a synchronous standby%s, and every commit "
            "would wait for it",
            rows_bool(rows, 0, 1) ? "" : rows_text(rows, 0, 0));
    return err_hint(err, "Name the standbys in synchronous_standby_names instead of '*'.");
}

/* From here on changes are received.  `conn` is taken. */
static bool
begin_streaming(Migration *run, Conn *conn, Err *err)
{
    if (!open_stream(run, conn, err) || !capture_check_asynchronous(run, err) ||
        !migration_check_definition(run, run->control, err))
        return false;
    run->apply = apply_open(run, run->stream, err);
    return run->apply != NULL;
}

/* All sessions that apply begin where the snapshot belongs. */
static bool
begin_positions(Migration *run, Err *err)
{
    const Position position = {.end_lsn = run->snapshot_lsn};

    run->position_count = run->settings->apply_jobs;
    run->positions = arena_alloc(run->arena, sizeof *run->positions * (size_t)run->position_count);
    for (int i = 0; i < run->position_count; i++)
        run->positions[i] = position;
    return state_reset_positions(run->control, &run->names, run->position_count, &position, err);
}

static bool
take_snapshot(Migration *run, Err *err)
{
    Snapshot snapshot;

    if (!slotwait_take(run, &run->capture->wait, &snapshot, err))
        return false;
    renewal_adopt(run, &snapshot);
    return true;
}

/* The slot of a new run is ready. */
static bool
begin(Migration *run, Err *err)
{
    Conn *conn;
    char lsn[LSN_TEXT_SIZE];

    if (!take_snapshot(run, err) || !begin_positions(run, err))
        return false;
    conn = run->capture->wait.conn;
    run->capture->wait.conn = NULL;
    if (!begin_streaming(run, conn, err) || !resume_note_facts(run, err))
        return false;
    FAULT_POINT("stream.opened");
    log_info("replication slot %s is consistent at %s", run->names.slot,
             lsn_text(run->snapshot_lsn, lsn));
    return true;
}

/* The stream goes on where apply has come to; for what is not copied a newer snapshot is needed. */
static bool
enter_again(Migration *run, Err *err)
{
    Conn *conn;

    if (!resume_take_slot(run, err) || !resume_check_publication(run, err))
        return false;
    conn = migration_connect(run, CONN_REPLICATION, "stream", err);
    if (conn == NULL || !begin_streaming(run, conn, err))
        return false;
    return run->copy_is_done || slotwait_begin(run, &run->capture->wait, true, err);
}

bool
capture_enter(Migration *run, Err *err)
{
    Capture *capture = mem_new(1, sizeof *capture);

    run->capture = capture;
    capture->started_us = clock_now_us();
    if (run->record != NULL)
        return enter_again(run, err);
    return prepare_table(run, err) && slotwait_begin(run, &capture->wait, false, err);
}

/* One that goes on has its slot, and needs a snapshot if anything is left to copy. */
static bool
is_waiting(const Migration *run)
{
    return run->capture->wait.conn != NULL && !slotwait_is_ready(&run->capture->wait);
}

Step
capture_step(Migration *run, Err *err)
{
    Capture *capture = run->capture;

    FAULT_POINT("slot.requested");
    if (is_waiting(run)) {
        if (!slotwait_report(run, &capture->wait, err) || !migration_check_abort(run, err))
            return STEP_FAILED;
        return walguard_look(run, err) && loop_turn(run->loop, clock_now_us() + 200000, err)
                   ? STEP_MORE
                   : STEP_FAILED;
    }
    if (run->record == NULL)
        return begin(run, err) ? STEP_DONE : STEP_FAILED;
    return run->copy_is_done || take_snapshot(run, err) ? STEP_DONE : STEP_FAILED;
}
