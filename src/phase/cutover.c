/*
 * Phase "cutover": one brief ACCESS EXCLUSIVE lock, in pulses with pauses; fence, drain, compare,
 * swap, in one transaction.  Until its COMMIT every failure leaves things as they were, and the next
 * attempt starts from there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/backlog.h"
#include "phase/definition.h"
#include "phase/dependents.h"
#include "phase/locks.h"
#include "phase/migration.h"
#include "phase/sessions.h"
#include "phase/walguard.h"

static const int64_t PAUSE_US = 1000000;
/* An attempt that has held the lock in vain is paid for by so many times the hold without one. */
enum { HOLD_PAUSE_FACTOR = 20 };
static const int64_t HOLD_PAUSE_MAX_US = 60 * INT64_C(1000000);
static const int64_t FAR_PATIENCE_US = 3 * INT64_C(1000000);
static const int64_t REPORT_INTERVAL_US = 5 * INT64_C(1000000);
static const int64_t OUTCOME_PATIENCE_US = 60 * INT64_C(1000000);
static const int64_t SNAPSHOT_AGE_US = 1000000;
/* So many descriptions go into one log line. */
enum { BLOCKERS_SHOWN = 5 };
enum { INTERNAL_ERRORS_MAX = 20 };
/* A drain that needs such a part of the hold is short, however many changes it is about. */
enum { SHORT_DRAIN = 8 };

struct Cutover {
    Conn *conn;
    Locks locks;
    int64_t entered_us;
    int64_t reported_us;   /* when a gate was last reported closed */
    int64_t far_since_us;  /* since when the drain would take too long, 0 = it would not */
    int64_t failures;      /* attempts and closed gates */
    int64_t held_us;       /* how long the last attempt held the lock in vain, 0 = it did not */
    int64_t hold_pause_us; /* the pause after the one before that */
    int internal_errors;   /* attempts that the server's internal errors have ended */
    char *refresh;         /* SQL: see dependents_refresh_functions */
    char *fresh_xid;       /* from this transaction on nothing was applied ... */
    int64_t fresh_at;      /* ... beyond so many changes */
};

/*
 * A vacuum of the shadow would be in the way of the swap, and only gives way to who waits longer
 * than we do under the lock.  This waits longer; the swap restores the option.
 */
static bool
keep_autovacuum_off(Migration *run, Err *err)
{
    BUF_AUTO(sql);

    sql_add(&sql, "begin; set local lock_timeout to %D;", run->cutover->locks.patient_ms);
    for (int i = 0; i < run->leaf_count; i++)
        sql_add(&sql, "alter table %S set (autovacuum_enabled = false);",
                run->leaves[i].shadow_qualified);
    buf_add_text(&sql, "commit");
    if (query_exec(run->cutover->conn, buf_text(&sql), err))
        return true;
    query_rollback(run->cutover->conn);
    if (err->kind != ERR_RETRY)
        return err_wrap(err, "keeping autovacuum off the shadow table");
    log_debug("the shadow table is being vacuumed: %s", err->message);
    err_clear(err);
    return true;
}

static bool
set_up(Conn *conn, Err *err)
{
    return migration_limit_lock_waits(conn, err) && catalog_prefer_indexes(conn, err);
}

bool
cutover_enter(Migration *run, Err *err)
{
    Cutover *cutover = mem_new(1, sizeof *cutover);

    run->cutover = cutover;
    run->definition_renewed = false;
    cutover->entered_us = clock_now_us();
    cutover->fresh_at = -1;
    cutover->conn = migration_connect(run, CONN_SQL, "cutover", err);
    return cutover->conn != NULL && set_up(cutover->conn, err) &&
           locks_init(run, cutover->conn, &cutover->locks, err) &&
           dependents_refresh_functions(run, cutover->conn, &cutover->refresh, err) &&
           keep_autovacuum_off(run, err);
}

void
cutover_leave(Migration *run)
{
    if (run->cutover == NULL)
        return;
    conn_close(run->cutover->conn);
    locks_done(&run->cutover->locks);
    free(run->cutover->refresh);
    free(run->cutover->fresh_xid);
    free(run->cutover);
    run->cutover = NULL;
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

/* How long does a fence take to come through?  More than half of the hold is not waited for. */
static bool
time_fence(Migration *run, int64_t *took_us, Err *err)
{
    int64_t started_us = clock_now_us();
    int64_t marker;

    if (!apply_write_fence(run->apply, &marker, err))
        return false;
    if (!apply_drain(run->apply, marker, started_us + run->settings->lock_hold_ms * 1000 / 2, NULL,
                     err)) {
        if (err->kind != ERR_RETRY)
            return false;
        err_clear(err);
    }
    *took_us = clock_now_us() - started_us;
    return true;
}

/*
 * A busy table always has some changes outstanding: what counts is how long they take.  Beside the
 * writers they take longer than under the lock; who has waited for a better moment in vain may use
 * all of the time that there is.
 */
static bool
is_short(const Migration *run, int64_t took_us)
{
    int64_t hold_us = run->settings->lock_hold_ms * 1000;
    int64_t far_since_us = run->cutover->far_since_us;

    return took_us <= hold_us / SHORT_DRAIN ||
           (took_us <= hold_us / 2 &&
            (apply_outstanding(run->apply) <= run->settings->delta_count ||
             (far_since_us != 0 && clock_now_us() - far_since_us > FAR_PATIENCE_US)));
}

/*
 * Would the drain under the lock be short?  Try one without it, and more as long as each brings us
 * nearer: the first has to work off what came during the look-ups.
 */
static bool
measure_distance(Migration *run, bool *close, Err *err)
{
    int64_t before_us;
    int64_t took_us = INT64_MAX;

    do {
        before_us = took_us;
        if (!time_fence(run, &took_us, err))
            return false;
        *close = is_short(run, took_us);
    } while (!*close && took_us < before_us / 4 * 3);
    return true;
}

/*
 * Before the lock: the same look-ups as under it.  They fail early where they can, and leave the
 * session with warm caches and prepared statements, which makes the hold several times shorter.
 */
static bool
look_before_locking(Migration *run, Err *err)
{
    /* the swap notes itself there */
    if (!state_check_row(run->control, &run->names, err) || !capture_check_asynchronous(run, err))
        return false;
    if (!preflight_check_table(run, err)) {
        if (err->kind != ERR_REFUSED)
            return false;
        err->kind = ERR_FAILED;
        return err_wrap(err, "something was done to %s while the run was on",
                        run->original.qualified);
    }
    for (int i = 0; i < (run->counters.lock_attempts == 0 ? 2 : 1); i++) {
        AUTO(Text) *grants = NULL;
        BUF_AUTO(tree_grants);

        if (!migration_follow_definition(run, run->cutover->conn, err) ||
            !migration_check_publication(run, run->cutover->conn, err) ||
            !definition_read_grants(run, run->cutover->conn, &grants, err) ||
            !definition_read_tree_grants(run, run->cutover->conn, &tree_grants, err))
            return false;
    }
    return true;
}

/* ---- the swap ---- */

static void
add_list(Buf *sql, const SqlList *list)
{
    for (int i = 0; i < list->count; i++)
        sql_add(sql, "%S;", list->items[i]);
}

/* All the old ones go before any new one comes: a name may have gone from one table to another. */
static void
add_moves(const Migration *run, Buf *sql)
{
    sql_add(sql, "alter table %S set schema %I;", run->original.qualified, run->names.schema);
    for (int i = 0; i < run->branch_count; i++)
        sql_add(sql, "alter table %S set schema %I;", run->branches[i].original.qualified,
                run->names.schema);
    sql_add(sql, "alter table %S set schema %I;", run->shadow_qualified, run->original.schema);
    for (int i = 0; i < run->branch_count; i++)
        sql_add(sql, "alter table %S set schema %I;", run->branches[i].shadow_qualified,
                run->branches[i].original.schema);
}

/* Everything between the drained stream and COMMIT, in one message. */
static bool
build_swap(Migration *run, Buf *sql, Err *err)
{
    AUTO(Text) *grants = NULL;
    AUTO(Text) *phase = NULL;
    SqlList todo = {0};
    BUF_AUTO(tree_grants);

    if (run->keeps_unfinished)
        finish_list(run, &todo);
    phase = state_swapped_sql(&run->names, todo.items, todo.count);
    if (!definition_read_grants(run, run->cutover->conn, &grants, err) ||
        !definition_read_tree_grants(run, run->cutover->conn, &tree_grants, err))
        return false;
    /* no SET ROLE: partners may have other owners, and a member of all of them may do all of it */
    add_list(sql, &run->definition.swap);
    /* whoever granted something grants it again, and must find the table for that */
    if (grants[0] != '\0' || tree_grants.len > 0)
        sql_add(sql, "grant usage on schema %I to public;", run->names.shadow_schema);
    sql_add(sql, "%S%S", grants, buf_text(&tree_grants));
    add_moves(run, sql);
    add_list(sql, &run->definition.moved);
    if (run->cutover->refresh[0] != '\0')
        sql_add(sql, "%S;", run->cutover->refresh);
    buf_add_text(sql, phase);
    return true;
}

/*
 * The server says which table carries the name now, once the lost session is gone for certain: two
 * statements, for what the first one sees of sessions is newer than what it sees of tables.  Where
 * the network has swallowed the answer, the server does not know that we are gone, and ends the
 * session for us: then no COMMIT can come any more.
 */
static bool
ask_outcome(Migration *run, Conn *conn, bool *certain, Err *err)
{
    static const char SQL_SESSION[] =
        "select pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) > 0"
        "  from pg_catalog.pg_stat_activity"
        " where application_name = $1 and usename = session_user"
        "   and datname = pg_catalog.current_database()";
    static const char SQL_PLACE[] =
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n"
        "         on n.oid = c.relnamespace where c.oid = $1::pg_catalog.oid and n.nspname = $2)";
    AUTO(Text) *name = mem_format("walter: %s cutover", run->names.run);
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *session = NULL;
    AUTO(Rows) *place = NULL;

    *certain = false;
    if (!query_one(conn, SQL_SESSION, (const char *const[]){name, NULL}, &session, err))
        return false;
    if (rows_bool(session, 0, 0))
        return true;
    if (!query_one(conn, SQL_PLACE, (const char *const[]){oid, run->original.schema, NULL}, &place,
                   err))
        return false;
    *certain = true;
    run->swapped = rows_bool(place, 0, 0);
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
    FAULT_POINT("swap.uncommitted");
    ok = query_send(conn, "commit", err);
    FAULT_POINT("swap.commit_sent");
    ok = ok && query_finish(conn, NULL, err);
    if (ok)
        run->swapped = true;
    /* an error that is not the server's answer says nothing about the COMMIT */
    else if (conn_is_lost(conn) || !query_is_done(conn))
        ok = find_outcome(run, err);
    /* nor may a second request after the swap pass for a run that left the table as it was */
    if (!run->swapped && err->kind != ERR_UNKNOWN)
        loop_set_hard_exit(7);
    FAULT_POINT("swap.committed");
    loop_unshield(run->loop);
    return ok;
}

/* Many statements, each of which the server's timeout knows alone; so the whole is watched here. */
static bool
run_until(Migration *run, const char *sql, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;

    if (!query_send(conn, sql, err) || !query_wait(conn, deadline_us, err))
        return false;
    if (!query_is_done(conn) && !sessions_cancel(run->control, conn_pid(conn), err))
        return false;
    return query_finish(conn, NULL, err);
}

/*
 * The statements that make the shadow the table.  GRANT and REVOKE do not mind the original's lock:
 * privileges are read before the statements are made and again when they have run, for from then on
 * such a statement waits for us.
 */
static bool
run_swap(Migration *run, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;
    uint32_t oid = run->original.oid;
    AUTO(Text) *before = NULL;
    AUTO(Text) *after = NULL;
    BUF_AUTO(sql);

    FAULT_POINT("cutover.drained");
    if (!catalog_read_privileges(conn, oid, &before, err) || !build_swap(run, &sql, err) ||
        !run_until(run, buf_text(&sql), deadline_us, err) ||
        !catalog_read_privileges(conn, oid, &after, err))
        return false;
    if (strcmp(before, after) != 0)
        return err_set(err, ERR_RETRY, "privileges were changed in the last moment");
    return true;
}

/* Drain, compare, swap.  ERR_RETRY when it takes too long; the server watches the time, too. */
static bool
swap_until(Migration *run, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;
    int64_t marker;

    FAULT_POINT("cutover.locked");
    if (!apply_write_fence(run->apply, &marker, err) ||
        !apply_drain(run->apply, marker, deadline_us, run->cutover->conn, err) ||
        !migration_check_definition(run, conn, err) ||
        !migration_check_publication(run, conn, err) || !check_snapshots(run, true, err) ||
        !run_swap(run, deadline_us, err))
        return false;
    if (clock_now_us() > deadline_us)
        return err_set(err, ERR_RETRY, "the swap took longer than --lock-hold");
    return commit_swap(run, err);
}

/* The attempt needed more time than it has; the operator decides whether it may have more. */
static void
tell_too_slow(const Migration *run, Err *err)
{
    const Err failed = *err;
    bool canceled = err_is_canceled(err);

    err_clear(err);
    err_set(err, ERR_RETRY, "%s; the lock was held for %.0f ms: if that goes on, raise --lock-hold",
            canceled ? "the swap took longer than --lock-hold" : failed.message,
            (double)run->cutover->held_us / 1000);
}

/* The locks are ours. */
static bool
swap(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;
    int64_t granted_us = cutover->locks.granted_us;
    int64_t hold_us = run->settings->lock_hold_ms * 1000;

    run->definition_changed = false;
    if (swap_until(run, granted_us + hold_us, err)) {
        run->counters.lock_hold_us = clock_now_us() - granted_us;
        return true;
    }
    cutover->held_us = clock_now_us() - granted_us;
    if (err_is_canceled(err) || (err->kind == ERR_RETRY && cutover->held_us >= hold_us))
        tell_too_slow(run, err);
    /* what is beyond that is not the swap's: walter was stopped, and the server took the lock back */
    if (cutover->held_us > hold_us)
        cutover->held_us = hold_us;
    /* in the last moment: looked at again before the next attempt */
    if (run->definition_changed && err->kind == ERR_FAILED)
        err->kind = ERR_RETRY;
    /* "tuple concurrently updated": a GRANT met the swap */
    if (err_is_internal(err) && ++cutover->internal_errors < INTERNAL_ERRORS_MAX)
        err->kind = ERR_RETRY;
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
 * A second or so, with jitter.  Everybody waits while the lock is held: when that was in vain, they
 * are left alone for longer, and for twice as long each time that it happens again.
 */
static int64_t
choose_pause_us(Cutover *cutover)
{
    int64_t pause_us = PAUSE_US / 2 + (int64_t)random() % PAUSE_US;
    int64_t wanted_us = cutover->held_us * HOLD_PAUSE_FACTOR;

    if (cutover->held_us == 0)
        return pause_us;
    if (wanted_us < 2 * cutover->hold_pause_us)
        wanted_us = 2 * cutover->hold_pause_us;
    if (wanted_us > HOLD_PAUSE_MAX_US)
        wanted_us = HOLD_PAUSE_MAX_US;
    cutover->held_us = 0;
    cutover->hold_pause_us = wanted_us;
    return wanted_us > pause_us ? wanted_us : pause_us;
}

/* Go on applying, with an eye on what must not wait for the end of a long pause. */
static bool
pause_for(Migration *run, int64_t pause_us, Err *err)
{
    int64_t until_us = clock_now_us() + pause_us;

    for (int64_t now_us; (now_us = clock_now_us()) < until_us;) {
        int64_t piece_us = until_us - now_us < PAUSE_US ? until_us - now_us : PAUSE_US;

        if (!apply_meanwhile(run->apply, NULL, now_us + piece_us, err) ||
            !migration_check_abort(run, err))
            return false;
        if (backlog_look(run, err) && walguard_look(run, err))
            continue;
        /* somebody's lock on the catalog; the next attempt will say so, if it is still there */
        if (err->kind != ERR_RETRY)
            return false;
        err_clear(err);
    }
    return true;
}

/*
 * Not this time; everything is as before.  Pause with jitter and go on applying, unless the limit is
 * reached.
 */
static Step
pause_or_give_up(Migration *run, Err *err)
{
    const Settings *settings = run->settings;
    int64_t pause_us = choose_pause_us(run->cutover);

    if (settings->cutover_retries > 0 && ++run->cutover->failures >= settings->cutover_retries) {
        err->kind = ERR_CUTOVER;
        err_hint(err, "End the sessions in the way, or use --kill-backends, or raise "
                      "--cutover-retries, --lock-timeout or --lock-hold.");
        err_wrap(err, "the cutover was not reached in %lld attempt%s",
                 (long long)run->cutover->failures, run->cutover->failures == 1 ? "" : "s");
        return STEP_FAILED;
    }
    err_clear(err);
    return pause_for(run, pause_us, err) ? STEP_MORE : STEP_FAILED;
}

static bool
reconnect(Migration *run, Err *err)
{
    Err failed = {0};

    conn_close(run->cutover->conn);
    run->cutover->conn = migration_connect(run, CONN_SQL, "cutover", &failed);
    run->cutover->locks.conn = run->cutover->conn;
    if (run->cutover->conn != NULL && set_up(run->cutover->conn, &failed))
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

    FAULT_POINT("cutover.attempt");
    if (locks_take(run, &run->cutover->locks, err) && swap(run, err)) {
        log_info("cutover attempt %lld: swapped, lock held for %.1f ms", number,
                 (double)run->counters.lock_hold_us / 1000);
        return STEP_DONE;
    }
    if (run->cutover->conn == NULL || !roll_back(run, err))
        return STEP_FAILED;
    log_info("cutover attempt %lld: %s", number, err->message);
    return pause_or_give_up(run, err);
}

/* Another definition may have other foreign key partners and views. */
static bool
renew_locks(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;

    if (!run->definition_renewed)
        return true;
    run->definition_renewed = false;
    locks_done(&cutover->locks);
    free(cutover->refresh);
    cutover->refresh = NULL;
    return locks_init(run, cutover->conn, &cutover->locks, err) &&
           dependents_refresh_functions(run, cutover->conn, &cutover->refresh, err);
}

Step
cutover_step(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;
    bool close = false;

    if (!migration_check_abort(run, err) || !apply_note_idle(run->apply, err))
        return STEP_FAILED;
    if (!backlog_look(run, err) || !walguard_look(run, err) || !look_before_locking(run, err) ||
        !renew_locks(run, err) || !measure_distance(run, &close, err)) {
        AUTO(Text) *why = mem_format("DDL of somebody else is in the way: %s", err->message);

        if (err->kind != ERR_RETRY)
            return STEP_FAILED;
        report_gate(run, why);
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
    backlog_is_gone(run);
    if (check_snapshots(run, false, err))
        return attempt(run, err);
    if (err->kind != ERR_RETRY)
        return STEP_FAILED;
    report_gate(run, err->message);
    return pause_or_give_up(run, err);
}
