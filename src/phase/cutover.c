/*
 * Phase "cutover": one brief ACCESS EXCLUSIVE lock, in pulses with pauses; fence, drain, compare,
 * swap, in one transaction.  Until its COMMIT every failure leaves things as they were, and the next
 * attempt starts from there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/definition.h"
#include "phase/migration.h"

/* Waiting longer than deadlock_timeout (1 s) makes autovacuum give way; blocks no reads or writes. */
static const int64_t PATIENT_TIMEOUT_MS = 3000;
static const int64_t PAUSE_US = 1000000;
static const int64_t OUTCOME_PATIENCE_US = 60 * INT64_C(1000000);

struct Cutover {
    Conn *conn;
    int64_t first_attempt_us;
    int64_t reported_us; /* when blockers were last listed */
    char *blockers;      /* the last list, to print it only when it changes */
    int64_t granted_us;
};

static const char SQL_BLOCKERS[] =
    "select b.pid, case when b.pid = 0 then"
    "    (select 'prepared transaction ' || "
    "coalesce(pg_catalog.string_agg(pg_catalog.quote_literal("
    "       p.gid), ', '), '') from pg_catalog.pg_prepared_xacts p"
    "      where p.database = pg_catalog.current_database())"
    "  else pg_catalog.format('pid %s, user %s, %s, %s, %s s in transaction: %s', b.pid, a.usename,"
    "    a.backend_type, a.state, pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp()"
    "    - a.xact_start)),"
    "    pg_catalog.left(pg_catalog.regexp_replace(a.query, '\\s+', ' ', 'g'), 80)) end,"
    "  coalesce(a.backend_type = 'client backend', false)"
    "  from pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) b (pid)"
    "  left join pg_catalog.pg_stat_activity a on a.pid = b.pid";

/*
 * Sessions whose snapshot is older than the shadow's last rows would find the table empty or stale
 * after the swap.  A READ COMMITTED session that idles has no snapshot; one that runs a statement
 * of its own has it only for that statement, unless its transaction is older than the statement.
 */
static const char SQL_OLD_SNAPSHOTS[] =
    "select pg_catalog.format('pid %s, user %s, %s, %s s in transaction', pid, usename, state,"
    "         pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - xact_start)))"
    "  from pg_catalog.pg_stat_activity"
    " where datname = pg_catalog.current_database() and backend_xmin is not null"
    "   and pid <> pg_catalog.pg_backend_pid() and application_name not like 'walter: %'"
    "   and backend_type = 'client backend'"
    "   and pg_catalog.age(backend_xmin) > pg_catalog.age($1::xid)"
    "   and (state like 'idle in transaction%'"
    "        or (xact_start < query_start - interval '1 second'))";

bool
cutover_enter(Migration *run, Err *err)
{
    Cutover *cutover = mem_new(1, sizeof *cutover);

    run->cutover = cutover;
    cutover->first_attempt_us = clock_now_us();
    cutover->conn = migration_connect(run, CONN_SQL, "cutover", err);
    return cutover->conn != NULL;
}

void
cutover_leave(Migration *run)
{
    if (run->cutover == NULL)
        return;
    conn_close(run->cutover->conn);
    free(run->cutover->blockers);
    free(run->cutover);
    run->cutover = NULL;
}

/*
 * Keep applying while time passes or until the cutover's session has its answer.  Once the lock is
 * ours, a change that needs the original must wait: it would wait for ourselves.
 */
static bool
apply_until(Migration *run, int64_t until_us, bool answer, Err *err)
{
    while (clock_now_us() < until_us && !(answer && query_is_done(run->cutover->conn))) {
        if (!apply_batch(run->apply, run->cutover->granted_us == 0, err) ||
            !loop_turn(run->loop, apply_outstanding(run->apply) > 0 ? clock_now_us() : until_us,
                       err))
            return false;
    }
    return true;
}

/* ---- old snapshots ---- */

/* Anyone with a snapshot that cannot see what the shadow holds now?  *found says so. */
static bool
find_old_snapshots(Migration *run, bool *found, Err *err)
{
    AUTO(Rows) *xid = NULL;
    AUTO(Rows) *rows = NULL;

    *found = false;
    if (run->settings->old_snapshots == OLD_SNAPSHOTS_IGNORE)
        return true;
    if (!query_simple(run->control,
                      "select pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text,"
                      "       (pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text"
                      "        ::numeric - 1)::text",
                      &xid, err))
        return false;
    {
        AUTO(Text) *as_xid =
            mem_format("%u", (unsigned)(uint32_t)strtoull(rows_text(xid, 0, 1), NULL, 10));

        if (!query_run(run->control, SQL_OLD_SNAPSHOTS, (const char *const[]){as_xid, NULL}, &rows,
                       err))
            return false;
    }
    *found = rows_count(rows) > 0;
    for (int i = 0; *found && i < rows_count(rows) && i < 5; i++)
        if (clock_now_us() - run->cutover->reported_us > 5000000)
            log_info("waiting for an old snapshot, which would see the new table without its rows: "
                     "%s",
                     rows_text(rows, i, 0));
    if (*found && clock_now_us() - run->cutover->reported_us > 5000000)
        run->cutover->reported_us = clock_now_us();
    return true;
}

/* ---- the lock ---- */

/* While the lock is waited for: who is in the way?  Printed when the answer changes. */
static bool
look_at_blockers(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;
    AUTO(Text) *pid = mem_format("%d", conn_pid(cutover->conn));
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(list);
    int64_t waited_us = clock_now_us() - cutover->first_attempt_us;
    bool kill =
        run->settings->kill_backends && waited_us >= run->settings->wait_time_for_lock_s * 1000000;

    if (!query_run(run->control, SQL_BLOCKERS, (const char *const[]){pid, NULL}, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        buf_printf(&list, "\n%s",
                   rows_text(rows, i, 1) == NULL ? "unknown" : rows_text(rows, i, 1));
    if (rows_count(rows) > 0 &&
        (cutover->blockers == NULL || strcmp(cutover->blockers, buf_text(&list)) != 0)) {
        for (int i = 0; i < rows_count(rows); i++)
            log_info("in the way of the lock: %s",
                     rows_text(rows, i, 1) == NULL ? "unknown" : rows_text(rows, i, 1));
        mem_set_text(&cutover->blockers, buf_text(&list));
    }
    for (int i = 0; kill && i < rows_count(rows); i++) {
        AUTO(Text) *victim = mem_format("%lld", (long long)rows_int(rows, i, 0));

        if (!rows_bool(rows, i, 2))
            continue;
        log_warning("ending the session that is in the way: %s", rows_text(rows, i, 1));
        if (!query_run(run->control, "select pg_catalog.pg_terminate_backend($1)",
                       (const char *const[]){victim, NULL}, NULL, err)) {
            log_warning("could not end it: %s", err->message);
            err_clear(err);
        }
    }
    return true;
}

/* Send one statement of the lock sequence and wait for it; look for blockers after `look_us`. */
static bool
wait_for_lock(Migration *run, const char *sql, int64_t look_us, Err *err)
{
    Conn *conn = run->cutover->conn;
    int64_t started_us = clock_now_us();
    bool ok;

    if (!query_send(conn, sql, err))
        return false;
    if (!apply_until(run, started_us + look_us, true, err))
        return false;
    if (!query_is_done(conn) && !look_at_blockers(run, err))
        return false;
    ok = apply_until(run, INT64_MAX / 2, true, err);
    if (!ok && err->kind == ERR_RETRY) {
        Err ignored = {0};

        /* the lock's own timeout ends this soon; then the session can roll back */
        if (!query_finish(conn, NULL, &ignored))
            err_clear(&ignored);
        return false;
    }
    ok = ok && query_finish(conn, NULL, err);
    run->counters.lock_wait_us += clock_now_us() - started_us;
    return ok;
}

/*
 * First the lock that only vacuum and DDL notice, patiently; then the exclusive one, briefly.  Never
 * through a mode in between: that upgrade deadlocks with readers who then write.
 */
static bool
take_locks(Migration *run, Err *err)
{
    int64_t pulse_us = run->settings->lock_timeout_ms * 1000;
    AUTO(Text) *patient = sql_build(
        "begin; set local lock_timeout to %D; lock table only %S in share update exclusive"
        " mode",
        PATIENT_TIMEOUT_MS, run->original.qualified);
    AUTO(Text) *brief =
        sql_build("set local lock_timeout to %D; lock table only %S in access exclusive mode",
                  run->settings->lock_timeout_ms, run->original.qualified);

    if (!wait_for_lock(run, patient, 500000, err) || !wait_for_lock(run, brief, pulse_us / 2, err))
        return false;
    run->cutover->granted_us = clock_now_us();
    for (int i = 0; i < run->definition.partners.count; i++) {
        AUTO(Text) *partner = sql_build("lock table only %S in access exclusive mode",
                                        run->definition.partners.items[i]);

        if (!wait_for_lock(run, partner, pulse_us / 2, err))
            return err_wrap(err, "locking %s", run->definition.partners.items[i]);
    }
    return true;
}

/* ---- the swap ---- */

static bool
check_publication(Migration *run, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.count(*) from pg_catalog.pg_publication p"
        "  join pg_catalog.pg_publication_rel r on r.prpubid = p.oid"
        " where p.pubname = $1 and r.prrelid = $2::pg_catalog.oid and p.pubinsert and p.pubupdate"
        "   and p.pubdelete and p.pubtruncate";
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (run->settings->plugin != PLUGIN_PGOUTPUT)
        return true;
    if (!query_one(run->cutover->conn, SQL,
                   (const char *const[]){run->names.publication, oid, NULL}, &rows, err))
        return false;
    if (rows_int(rows, 0, 0) == 1)
        return true;
    err_set(err, ERR_FAILED,
            "publication \"%s\" was dropped or altered while the run was on, and "
            "changes may be lost",
            run->names.publication);
    return err_hint(err, "Run walter cleanup, then start again.");
}

static void
add_list(Buf *sql, const SqlList *list)
{
    for (int i = 0; i < list->count; i++)
        sql_add(sql, "%S;", list->items[i]);
}

/* Everything between the drained stream and COMMIT, in one message. */
static bool
build_swap(Migration *run, Buf *sql, Err *err)
{
    AUTO(Text) *grants = NULL;
    AUTO(Text) *phase = state_phase_sql(&run->names, "swapped");

    if (!definition_read_grants(run, run->cutover->conn, &grants, err))
        return false;
    /* no SET ROLE: partners may have other owners, and a member of all of them may do all of it */
    add_list(sql, &run->definition.swap);
    sql_add(sql, "%Salter table %S set schema %I; alter table %S set schema %I;", grants,
            run->original.qualified, run->names.schema, run->shadow_qualified,
            run->original.schema);
    add_list(sql, &run->definition.moved);
    buf_add_text(sql, phase);
    return true;
}

/* After a lost connection: which table carries the name now?  Never guess. */
static bool
find_outcome(Migration *run, Err *lost)
{
    AUTO(Text) *pid = mem_format("%d", conn_pid(run->cutover->conn));
    int64_t until_us = clock_now_us() + OUTCOME_PATIENCE_US;

    while (clock_now_us() < until_us) {
        Err err = {0};
        AUTO(Conn) *conn = migration_connect(run, CONN_SQL, "outcome", &err);
        AUTO(Rows) *rows = NULL;

        /* while the old session is still there, its COMMIT may be under way */
        if (conn != NULL &&
            query_run(conn,
                      "select coalesce(pg_catalog.to_regclass($1), 0)::pg_catalog.oid, exists ("
                      "  select from pg_catalog.pg_stat_activity where pid = $2)",
                      (const char *const[]){run->original.qualified, pid, NULL}, &rows, &err) &&
            !rows_bool(rows, 0, 1)) {
            run->swapped = (uint32_t)rows_int(rows, 0, 0) == run->shadow.oid;
            log_warning("lost the connection at COMMIT; the server says that the swap has %s",
                        run->swapped ? "happened" : "not happened");
            if (run->swapped)
                err_clear(lost);
            return run->swapped;
        }
        if (!loop_pause(run->loop, 500000, &err))
            break;
    }
    lost->kind = ERR_UNKNOWN;
    return err_hint(lost,
                    "The connection was lost at COMMIT and the server cannot be asked.  Look "
                    "whether %s has the new shape before doing anything else.",
                    run->original.qualified);
}

static bool
commit_swap(Migration *run, Err *err)
{
    bool ok;

    loop_shield(run->loop);
    ok = query_exec(run->cutover->conn, "commit", err);
    if (ok)
        run->swapped = true;
    else if (err->kind == ERR_LOST)
        ok = find_outcome(run, err);
    loop_unshield(run->loop);
    return ok;
}

/*
 * Before the lock: the same look-ups as under it.  They fail early where they can, and leave the
 * session with warm caches and prepared statements, which makes the hold several times shorter.
 */
static bool
look_before_locking(Migration *run, Err *err)
{
    char *grants = NULL;

    for (int i = 0; i < (run->counters.lock_attempts == 1 ? 2 : 1); i++) {
        if (!migration_check_definition(run, run->cutover->conn, err) ||
            !check_publication(run, err) ||
            !definition_read_grants(run, run->cutover->conn, &grants, err))
            return false;
        free(grants);
    }
    return true;
}

/* Under the lock: drain, compare, swap.  ERR_RETRY when it takes too long. */
static bool
swap(Migration *run, Err *err)
{
    int64_t deadline_us = run->cutover->granted_us + run->settings->lock_hold_ms * 1000;
    bool old_snapshots = false;
    int64_t marker;
    BUF_AUTO(sql);

    if (!apply_write_fence(run->apply, &marker, err) ||
        !apply_drain(run->apply, marker, deadline_us, false, err) ||
        !migration_check_definition(run, run->cutover->conn, err) || !check_publication(run, err) ||
        !find_old_snapshots(run, &old_snapshots, err))
        return false;
    if (old_snapshots)
        return err_set(err, ERR_RETRY, "a session has an old snapshot");
    if (!build_swap(run, &sql, err) || !query_exec(run->cutover->conn, buf_text(&sql), err))
        return false;
    if (clock_now_us() > deadline_us)
        return err_set(err, ERR_RETRY, "the swap took longer than --lock-hold");
    if (!commit_swap(run, err))
        return false;
    run->counters.lock_hold_us = clock_now_us() - run->cutover->granted_us;
    return true;
}

/* Rolled back: everything is as before.  Say why, pause with jitter, go on applying. */
static Step
pause_after_attempt(Migration *run, Err *err)
{
    const Settings *settings = run->settings;
    int64_t pause_us = PAUSE_US / 2 + (int64_t)random() % PAUSE_US;

    log_info("cutover attempt %lld: %s; trying again", (long long)run->counters.lock_attempts,
             err->message);
    if (settings->cutover_retries > 0 && run->counters.lock_attempts > settings->cutover_retries) {
        err->kind = ERR_CUTOVER;
        err_hint(err, "End the sessions in the way, or use --kill-backends, or raise "
                      "--cutover-retries, --lock-timeout or --lock-hold.");
        err_wrap(err, "the cutover was not reached in %lld attempts",
                 (long long)run->counters.lock_attempts);
        return STEP_FAILED;
    }
    err_clear(err);
    return apply_until(run, clock_now_us() + pause_us, false, err) ? STEP_MORE : STEP_FAILED;
}

Step
cutover_step(Migration *run, Err *err)
{
    bool old_snapshots = false;

    if (!find_old_snapshots(run, &old_snapshots, err))
        return STEP_FAILED;
    if (old_snapshots)
        return apply_until(run, clock_now_us() + PAUSE_US, false, err) ? STEP_MORE : STEP_FAILED;
    run->counters.lock_attempts++;
    run->cutover->granted_us = 0;
    if (look_before_locking(run, err) && take_locks(run, err) && swap(run, err)) {
        log_info("swapped: attempt %lld, lock held for %.1f ms",
                 (long long)run->counters.lock_attempts, (double)run->counters.lock_hold_us / 1000);
        return STEP_DONE;
    }
    if (err->kind != ERR_RETRY)
        return STEP_FAILED;
    query_rollback(run->cutover->conn);
    run->cutover->granted_us = 0;
    return pause_after_attempt(run, err);
}
