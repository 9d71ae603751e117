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
#include "phase/sessions.h"

/*
 * Autovacuum gives way to who waits for deadlock_timeout (1 s by default); so long and a bit more we
 * wait for the lock that blocks no reads and no writes.
 */
static const int64_t PATIENT_EXTRA_MS = 2000;
static const int64_t PATIENT_LOOK_US = 300000;
static const int64_t PAUSE_US = 1000000;
static const int64_t FAR_PATIENCE_US = 3 * INT64_C(1000000);
static const int64_t REPORT_INTERVAL_US = 5 * INT64_C(1000000);
static const int64_t OUTCOME_PATIENCE_US = 60 * INT64_C(1000000);
/* The server ends a session of ours that keeps its lock and says nothing for so much longer. */
static const int64_t SILENCE_MS = 2000;
static const int64_t SNAPSHOT_AGE_US = 1000000;
/* So many descriptions go into one log line. */
enum { BLOCKERS_SHOWN = 5 };

struct Cutover {
    Conn *conn;
    int64_t entered_us;
    int64_t patient_ms;
    int64_t reported_us;  /* when a gate was last reported closed */
    int64_t far_since_us; /* since when the drain would take too long, 0 = it would not */
    int64_t granted_us;   /* the original is ours since then */
    int64_t failures;     /* attempts and closed gates */
    char *in_the_way;     /* who this attempt waited for, "" = nobody was seen */
    char *fresh_xid;      /* from this transaction on nothing was applied ... */
    int64_t fresh_at;     /* ... beyond so many changes */
};

/*
 * A vacuum of the shadow would be in the way of the swap, and only gives way to who waits longer
 * than we do under the lock.  This waits longer; the swap restores the option.
 */
static bool
keep_autovacuum_off(Migration *run, Err *err)
{
    AUTO(Text) *sql = sql_build("begin; set local lock_timeout to %D;"
                                "alter table %S set (autovacuum_enabled = false); commit",
                                run->cutover->patient_ms, run->shadow_qualified);

    if (query_exec(run->cutover->conn, sql, err))
        return true;
    query_rollback(run->cutover->conn);
    if (err->kind != ERR_RETRY)
        return err_wrap(err, "keeping autovacuum off the shadow table");
    log_debug("the shadow table is being vacuumed: %s", err->message);
    err_clear(err);
    return true;
}

bool
cutover_enter(Migration *run, Err *err)
{
    Cutover *cutover = mem_new(1, sizeof *cutover);
    AUTO(Rows) *rows = NULL;

    run->cutover = cutover;
    cutover->entered_us = clock_now_us();
    cutover->fresh_at = -1;
    cutover->conn = migration_connect(run, CONN_SQL, "cutover", err);
    if (cutover->conn == NULL || !migration_limit_lock_waits(cutover->conn, err) ||
        !query_simple(run->control,
                      "select setting from pg_catalog.pg_settings where name = 'deadlock_timeout'",
                      &rows, err))
        return false;
    cutover->patient_ms = rows_int(rows, 0, 0) + PATIENT_EXTRA_MS;
    if (!keep_autovacuum_off(run, err))
        return false;
    if (run->definition.partners.count > 0 &&
        2 * run->settings->lock_timeout_ms > rows_int(rows, 0, 0))
        log_warning("--lock-timeout is %lld ms and the server's deadlock_timeout %lld ms: where "
                    "transactions write this table and one that a foreign key ties to it, the "
                    "server may end theirs; half of deadlock_timeout is safe",
                    (long long)run->settings->lock_timeout_ms, (long long)rows_int(rows, 0, 0));
    return true;
}

void
cutover_leave(Migration *run)
{
    if (run->cutover == NULL)
        return;
    conn_close(run->cutover->conn);
    free(run->cutover->in_the_way);
    free(run->cutover->fresh_xid);
    free(run->cutover);
    run->cutover = NULL;
}

/* Keep applying until then. */
static bool
apply_for(Migration *run, int64_t duration_us, Err *err)
{
    int64_t until_us = clock_now_us() + duration_us;

    while (clock_now_us() < until_us)
        if (!apply_batch(run->apply, NULL, err) ||
            !loop_turn(run->loop, apply_outstanding(run->apply) > 0 ? clock_now_us() : until_us,
                       err))
            return false;
    return true;
}

/* ---- the gates: is an attempt worth what it costs the others? ---- */

/* Who has a snapshot that cannot see what the new table holds now?  *rows is new. */
static bool
find_old_snapshots(Migration *run, bool locked, Rows **rows, Err *err)
{
    Cutover *cutover = run->cutover;
    SnapshotLimit limit = {.copied_xid = run->copied_xid, .age_us = SNAPSHOT_AGE_US};

    if (clock_now_us() - cutover->entered_us < limit.age_us)
        limit.age_us = clock_now_us() - cutover->entered_us;
    if (!locked && cutover->fresh_at != run->counters.changes_applied) {
        if (!sessions_read_xid(run->control, &cutover->fresh_xid, err))
            return false;
        cutover->fresh_at = run->counters.changes_applied;
    }
    if (cutover->fresh_at == run->counters.changes_applied)
        limit.fresh_xid = cutover->fresh_xid;
    return sessions_with_old_snapshots(run->control, &limit, rows, err);
}

static bool
check_snapshots(Migration *run, bool locked, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(list);

    if (run->settings->old_snapshots == OLD_SNAPSHOTS_IGNORE)
        return true;
    if (!find_old_snapshots(run, locked, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows) && i < BLOCKERS_SHOWN; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : "; ", rows_text(rows, i, 0));
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_RETRY,
            "waiting for an old snapshot, to which the new table would look empty or out of date: "
            "%s",
            buf_text(&list));
    return err_hint(err, "End these transactions, or use --old-snapshots=ignore.");
}

/* Would the drain under the lock be short?  Try one without it; it also brings us close. */
static bool
measure_distance(Migration *run, bool *close, Err *err)
{
    int64_t deadline_us = clock_now_us() + run->settings->lock_hold_ms * 1000 / 2;
    int64_t marker;

    *close = false;
    if (!apply_write_fence(run->apply, &marker, err))
        return false;
    if (apply_drain(run->apply, marker, deadline_us, NULL, err)) {
        *close = apply_outstanding(run->apply) <= run->settings->delta_count;
        return true;
    }
    if (err->kind != ERR_RETRY)
        return false;
    err_clear(err);
    return true;
}

/*
 * Before the lock: the same look-ups as under it.  They fail early where they can, and leave the
 * session with warm caches and prepared statements, which makes the hold several times shorter.
 */
static bool
look_before_locking(Migration *run, Err *err)
{
    for (int i = 0; i < (run->counters.lock_attempts == 0 ? 2 : 1); i++) {
        AUTO(Text) *grants = NULL;

        if (!migration_check_definition(run, run->cutover->conn, err) ||
            !migration_check_publication(run, run->cutover->conn, err) ||
            !definition_read_grants(run, run->cutover->conn, &grants, err))
            return false;
    }
    return true;
}

/* ---- the lock ---- */

/* While the lock is waited for: who is in the way?  Ends them when it is time for that. */
static bool
look_who_is_in_the_way(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;
    const Settings *settings = run->settings;
    int64_t waited_us = clock_now_us() - cutover->entered_us;
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(list);

    if (!sessions_in_the_way(run->control, conn_pid(cutover->conn), &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows) && i < BLOCKERS_SHOWN; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : "; ", rows_text(rows, i, 1));
    if (rows_count(rows) > BLOCKERS_SHOWN)
        buf_printf(&list, "; and %d more", rows_count(rows) - BLOCKERS_SHOWN);
    mem_set_text(&cutover->in_the_way, buf_text(&list));
    return !settings->kill_backends || waited_us < settings->wait_time_for_lock_s * 1000000 ||
           sessions_end(run->control, rows, err);
}

/*
 * Wait for the cutover's session, until `until_us` at most.  With `apply` changes are applied
 * meanwhile; without it they are only received, because the answer may be the lock, and then every
 * moment counts.
 */
static bool
wait_for_answer(Migration *run, int64_t until_us, bool apply, Err *err)
{
    while (clock_now_us() < until_us && !query_is_done(run->cutover->conn)) {
        bool idle = !apply || apply_outstanding(run->apply) == 0;

        if ((apply && !apply_batch(run->apply, NULL, err)) ||
            !loop_turn(run->loop, idle ? until_us : clock_now_us(), err))
            return false;
    }
    return true;
}

typedef struct LockStep {
    const char *sql;
    int64_t look_us;    /* when to look who is in the way */
    int64_t timeout_ms; /* the server's lock_timeout, for the message */
    bool apply;
} LockStep;

/*
 * One statement of the lock sequence.  ERR_RETRY when the lock is not granted in time; the session
 * has then read its answer and can roll back.
 */
static bool
take_lock(Migration *run, const LockStep *step, Err *err)
{
    Conn *conn = run->cutover->conn;

    if (!query_send(conn, step->sql, err) ||
        !wait_for_answer(run, clock_now_us() + step->look_us, step->apply, err) ||
        (!query_is_done(conn) && !look_who_is_in_the_way(run, err)) ||
        !wait_for_answer(run, INT64_MAX, step->apply, err))
        return false;
    if (query_finish(conn, NULL, err))
        return true;
    if (err->kind == ERR_RETRY) {
        const char *who = run->cutover->in_the_way;

        err_clear(err);
        err_set(err, ERR_RETRY, "not granted within %lld ms%s%s", (long long)step->timeout_ms,
                who == NULL || who[0] == '\0' ? "" : "; in the way of the lock: ",
                who == NULL ? "" : who);
    }
    return false;
}

/* The foreign keys' other tables: all of them within one more pulse. */
static bool
lock_partners(Migration *run, Err *err)
{
    const SqlList *partners = &run->definition.partners;
    int64_t until_us = clock_now_us() + run->settings->lock_timeout_ms * 1000;

    for (int i = 0; i < partners->count; i++) {
        int64_t left_ms = (until_us - clock_now_us()) / 1000;
        LockStep step = {.timeout_ms = left_ms > 0 ? left_ms : 1};
        AUTO(Text) *sql =
            sql_build("set local lock_timeout to %D; lock table only %S in access exclusive mode",
                      step.timeout_ms, partners->items[i]);

        step.sql = sql;
        step.look_us = step.timeout_ms * 500;
        if (!take_lock(run, &step, err))
            return err_wrap(err, "lock on %s", partners->items[i]);
    }
    return true;
}

/*
 * First the lock that only vacuum and DDL notice, patiently; then the exclusive one, briefly.  Never
 * through a mode in between: that upgrade deadlocks with readers who then write.
 *
 * The server ends the session when it hears nothing of us: were we stopped or cut off while we hold
 * the lock, everybody would wait.
 */
static bool
take_locks(Migration *run, Err *err)
{
    const Settings *settings = run->settings;
    Cutover *cutover = run->cutover;
    AUTO(Text) *patient = sql_build(
        "begin; set local idle_in_transaction_session_timeout to %D;"
        "set local lock_timeout to %D; lock table only %S in share update exclusive mode",
        settings->lock_hold_ms + SILENCE_MS, cutover->patient_ms, run->original.qualified);
    AUTO(Text) *brief =
        sql_build("set local lock_timeout to %D; lock table only %S in access exclusive mode;"
                  "set local statement_timeout to %D",
                  settings->lock_timeout_ms, run->original.qualified, settings->lock_hold_ms);
    const LockStep first = {.sql = patient,
                            .look_us = PATIENT_LOOK_US,
                            .timeout_ms = cutover->patient_ms,
                            .apply = true};
    const LockStep second = {.sql = brief,
                             .look_us = settings->lock_timeout_ms * 500,
                             .timeout_ms = settings->lock_timeout_ms};
    int64_t asked_us;
    bool granted;

    mem_set_text(&cutover->in_the_way, "");
    if (!take_lock(run, &first, err))
        return err_wrap(err, "lock that keeps VACUUM and DDL off %s", run->original.qualified);
    asked_us = clock_now_us();
    granted = take_lock(run, &second, err);
    cutover->granted_us = clock_now_us();
    run->counters.lock_wait_us += cutover->granted_us - asked_us;
    if (!granted)
        return err_wrap(err, "exclusive lock on %s", run->original.qualified);
    return lock_partners(run, err);
}

/* ---- the swap ---- */

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
    /* whoever granted something grants it again, and must find the table for that */
    if (grants[0] != '\0')
        sql_add(sql, "grant usage on schema %I to public;", run->names.shadow_schema);
    sql_add(sql, "%Salter table %S set schema %I; alter table %S set schema %I;", grants,
            run->original.qualified, run->names.schema, run->shadow_qualified,
            run->original.schema);
    add_list(sql, &run->definition.moved);
    buf_add_text(sql, phase);
    return true;
}

/* The server says which table carries the name now, once the lost session is gone for certain. */
static bool
ask_outcome(Migration *run, Conn *conn, bool *certain, Err *err)
{
    static const char SQL[] =
        "select exists (select from pg_catalog.pg_stat_activity where application_name = $1),"
        "       exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n"
        "         on n.oid = c.relnamespace where c.oid = $2::pg_catalog.oid and n.nspname = $3)";
    AUTO(Text) *name = mem_format("walter: %s cutover", run->names.run);
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *rows = NULL;

    *certain = false;
    if (!query_one(conn, SQL, (const char *const[]){name, oid, run->original.schema, NULL}, &rows,
                   err))
        return false;
    *certain = !rows_bool(rows, 0, 0);
    run->swapped = *certain && rows_bool(rows, 0, 1);
    return true;
}

/*
 * The answer to COMMIT did not come: ask the server, until it can say.  Never guess.  All sessions
 * may be gone; the one that brings the answer becomes the run's control session.
 */
static bool
find_outcome(Migration *run, Err *lost)
{
    int64_t until_us = clock_now_us() + OUTCOME_PATIENCE_US;

    log_warning("%s at COMMIT of the swap; asking the server whether it has happened",
                lost->message);
    conn_close(run->cutover->conn);
    run->cutover->conn = NULL;
    migration_close_sessions(run);
    while (clock_now_us() < until_us && !loop_is_stopping(run->loop)) {
        Err err = {0};
        bool certain = false;
        Conn *conn = migration_connect(run, CONN_SQL, "outcome", &err);

        if (conn != NULL && ask_outcome(run, conn, &certain, &err) && certain) {
            conn_close(run->control);
            run->control = conn;
            log_warning("the server says that the swap has %s",
                        run->swapped ? "happened" : "not happened");
            if (run->swapped)
                err_clear(lost);
            return run->swapped;
        }
        conn_close(conn);
        err_clear(&err);
        if (!loop_pause(run->loop, 200000, &err))
            break;
    }
    lost->kind = ERR_UNKNOWN;
    err_wrap(lost, "the swap may have happened or not");
    return err_hint(lost, "Look whether %s has the new shape before doing anything else.",
                    run->original.qualified);
}

static bool
commit_swap(Migration *run, Err *err)
{
    Conn *conn = run->cutover->conn;
    bool ok;

    loop_shield(run->loop);
    loop_set_hard_exit(8);
    ok = query_exec(conn, "commit", err);
    if (ok)
        run->swapped = true;
    /* an error that is not the server's answer says nothing about the COMMIT */
    else if (conn_is_lost(conn) || !query_is_done(conn))
        ok = find_outcome(run, err);
    loop_set_hard_exit(7);
    loop_unshield(run->loop);
    return ok;
}

/* Drain, compare, swap.  ERR_RETRY when it takes too long; the server watches the time, too. */
static bool
swap_until(Migration *run, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;
    int64_t marker;
    BUF_AUTO(sql);

    if (!apply_write_fence(run->apply, &marker, err) ||
        !apply_drain(run->apply, marker, deadline_us, run->cutover->conn, err) ||
        !migration_check_definition(run, conn, err) ||
        !migration_check_publication(run, conn, err) || !check_snapshots(run, true, err) ||
        !build_swap(run, &sql, err) || !query_exec(conn, buf_text(&sql), err))
        return false;
    if (clock_now_us() > deadline_us)
        return err_set(err, ERR_RETRY, "the swap took longer than --lock-hold");
    return commit_swap(run, err);
}

/* The locks are ours. */
static bool
swap(Migration *run, Err *err)
{
    int64_t granted_us = run->cutover->granted_us;

    if (swap_until(run, granted_us + run->settings->lock_hold_ms * 1000, err)) {
        run->counters.lock_hold_us = clock_now_us() - granted_us;
        return true;
    }
    if (err_is_canceled(err)) {
        err_clear(err);
        err_set(err, ERR_RETRY, "the swap took longer than --lock-hold");
    }
    return false;
}

/* ---- attempts ---- */

/* A closed gate is reported now and then. */
static void
report_gate(Migration *run, const char *text)
{
    int64_t now_us = clock_now_us();

    if (run->cutover->reported_us != 0 && now_us - run->cutover->reported_us < REPORT_INTERVAL_US)
        return;
    run->cutover->reported_us = now_us;
    log_info("%s", text);
}

/*
 * Not this time; everything is as before.  Pause with jitter and go on applying, unless the limit is
 * reached.
 */
static Step
pause_or_give_up(Migration *run, Err *err)
{
    const Settings *settings = run->settings;
    int64_t pause_us = PAUSE_US / 2 + (int64_t)random() % PAUSE_US;

    if (settings->cutover_retries > 0 && ++run->cutover->failures > settings->cutover_retries) {
        err->kind = ERR_CUTOVER;
        err_hint(err, "End the sessions in the way, or use --kill-backends, or raise "
                      "--cutover-retries, --lock-timeout or --lock-hold.");
        err_wrap(err, "the cutover was not reached in %lld attempts",
                 (long long)run->cutover->failures);
        return STEP_FAILED;
    }
    err_clear(err);
    return apply_for(run, pause_us, err) ? STEP_MORE : STEP_FAILED;
}

static bool
reconnect(Migration *run, Err *err)
{
    Err failed = {0};

    conn_close(run->cutover->conn);
    run->cutover->conn = migration_connect(run, CONN_SQL, "cutover", &failed);
    if (run->cutover->conn != NULL && migration_limit_lock_waits(run->cutover->conn, &failed))
        return true;
    *err = failed;
    return false;
}

/*
 * Give the lock back.  Where the server has ended our session before the COMMIT - because we were
 * silent for too long, or by somebody's hand - nothing is lost but the attempt.
 */
static bool
roll_back(Migration *run, Err *err)
{
    query_rollback(run->cutover->conn);
    if (!conn_is_lost(run->cutover->conn))
        return err->kind == ERR_RETRY;
    if (err->kind != ERR_RETRY && err->kind != ERR_LOST)
        return false;
    err->kind = ERR_RETRY;
    return reconnect(run, err);
}

static Step
attempt(Migration *run, Err *err)
{
    long long number = (long long)++run->counters.lock_attempts;

    if (take_locks(run, err) && swap(run, err)) {
        log_info("cutover attempt %lld: swapped, lock held for %.1f ms", number,
                 (double)run->counters.lock_hold_us / 1000);
        return STEP_DONE;
    }
    if (run->cutover->conn == NULL || !roll_back(run, err))
        return STEP_FAILED;
    log_info("cutover attempt %lld: %s", number, err->message);
    return pause_or_give_up(run, err);
}

Step
cutover_step(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;
    bool close = false;

    if (!look_before_locking(run, err) || !measure_distance(run, &close, err)) {
        if (err->kind != ERR_RETRY)
            return STEP_FAILED;
        report_gate(run, err->message);
        return pause_or_give_up(run, err);
    }
    if (!close) {
        /* for a moment this is nothing to speak of */
        if (cutover->far_since_us == 0)
            cutover->far_since_us = clock_now_us();
        if (clock_now_us() - cutover->far_since_us > FAR_PATIENCE_US)
            report_gate(run, "too many changes come in to be applied under the lock within "
                             "--lock-hold; waiting for a quieter moment");
        return STEP_MORE;
    }
    cutover->far_since_us = 0;
    if (check_snapshots(run, false, err))
        return attempt(run, err);
    if (err->kind != ERR_RETRY)
        return STEP_FAILED;
    report_gate(run, err->message);
    return pause_or_give_up(run, err);
}
