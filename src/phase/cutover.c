/*
 * Phase "cutover": one brief ACCESS EXCLUSIVE lock, in pulses with pauses; under it the swap
 * (swap.c), in one transaction.  Until its COMMIT every failure leaves things as they were, and the
 * next attempt starts from there.
 */
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/backlog.h"
#include "phase/cutover_internal.h"
#include "phase/dependents.h"
#include "phase/walguard.h"

static const int64_t PAUSE_US = 1000000;
/* An attempt that has held the lock in vain is paid for by so many times the hold without one. */
enum { HOLD_PAUSE_FACTOR = 20 };
static const int64_t HOLD_PAUSE_MAX_US = 60 * INT64_C(1000000);
static const int64_t REPORT_INTERVAL_US = 5 * INT64_C(1000000);

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

/* A closed gate is reported now and then; `hint`: what opens it, or "". */
static void
report_gate(Migration *run, const char *text, const char *hint)
{
    int64_t now_us = clock_now_us();

    if (run->cutover->reported_us != 0 && now_us - run->cutover->reported_us < REPORT_INTERVAL_US)
        return;
    run->cutover->reported_us = now_us;
    log_info("%s%s%s", text, hint[0] == '\0' ? "" : ".  ", hint);
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
            !migration_check_others(run, err))
            return false;
        if (backlog_look(run, err) && walguard_look(run, err) && apply_note_idle(run->apply, err))
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
    if (locks_take(run, &run->cutover->locks, err) && swap_run(run, err)) {
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
    if (!backlog_look(run, err) || !walguard_look(run, err) ||
        !gates_look_before_locking(run, err) || !renew_locks(run, err) ||
        !gates_measure_distance(run, &close, err)) {
        AUTO(Text) *why = mem_format("DDL of somebody else is in the way: %s", err->message);

        if (err->kind != ERR_RETRY)
            return STEP_FAILED;
        report_gate(run, why, "");
        return pause_or_give_up(run, err);
    }
    if (!close) {
        /* for a moment this is nothing to speak of */
        if (cutover->far_since_us == 0)
            cutover->far_since_us = clock_now_us();
        if (clock_now_us() - cutover->far_since_us > FAR_PATIENCE_US)
            report_gate(run,
                        "too many changes come in to be applied under the lock within "
                        "--lock-hold; waiting for a quieter moment",
                        "");
        return STEP_MORE;
    }
    cutover->far_since_us = 0;
    backlog_is_gone(run);
    if (gates_check_snapshots(run, false, err))
        return attempt(run, err);
    if (err->kind != ERR_RETRY)
        return STEP_FAILED;
    report_gate(run, err->message, err->hint);
    return pause_or_give_up(run, err);
}
