/*
 * `walter perform`: a run as its operator knows it.  What a failure leaves behind, whether it is told,
 * and how a run that lost its connections goes on in another attempt.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "phase/migration.h"
#include "phase/resume.h"
#include "phase/walguard.h"

/* How long a server that went away may take to come back, for finishing and cleaning up. */
static const int64_t RETURN_PATIENCE_US = 10 * INT64_C(1000000);
static const int64_t RETURN_PAUSE_US = 300000;
static const int64_t RECONNECT_PAUSE_US = 1000000;
static const int64_t STEADY_US = 15 * INT64_C(1000000);

/* ---- failure ---- */

/* Who has worked for a while after a loss has got over it; who is lost at once, again and again, not. */
static void
forget_loss(Migration *run)
{
    if (run->streaming_us != 0 && clock_now_us() - run->streaming_us > STEADY_US)
        run->lost_us = 0;
}

/*
 * Nobody tries again any more, but whoever runs the same command may succeed: what is in the way is a
 * lock, or that sessions, slots or memory are short just now (not the disk: there it helps to remove);
 * or somebody has cancelled a statement, perhaps only because it took long.
 */
static bool
is_of_the_moment(const Migration *run, const Err *err)
{
    return run->is_resumable && !run->swapped &&
           (err->kind == ERR_RETRY || (err->kind == ERR_FAILED && err_is_canceled(err)) ||
            strcmp(err->sqlstate, "53200") == 0 || strcmp(err->sqlstate, "53300") == 0 ||
            strcmp(err->sqlstate, "53400") == 0);
}

/* First of all the operator is told why; cleaning up may take a while. */
static void
tell(Migration *run, Err *err)
{
    log_progress(NULL);
    forget_loss(run);
    /* one that tries to go on has said why, and goes on trying */
    if (run->lost_us != 0 && (err->kind == ERR_LOST || err->kind == ERR_REFUSED)) {
        log_debug("%s", err->message);
        err->told = true;
    }
    if (is_of_the_moment(run, err))
        err->kind = ERR_CUTOVER;
    else if (err->kind == ERR_RETRY)
        err->kind = ERR_FAILED;
    if (err->kind == ERR_STOPPED)
        log_warning("%s", err->message);
    else if (!err->told)
        log_error(err);
    err->told = true;
    if (run->swapped)
        log_warning("the swap has happened: %s has its new definition", run->original.qualified);
}

/* After a lost connection: is it worth another try?  Pauses before it. */
static bool
wait_for_server(Migration *run, int64_t until_us, Err *err)
{
    Err stopped = {0};

    if (err->kind != ERR_LOST || clock_now_us() > until_us ||
        !loop_pause(run->loop, RETURN_PAUSE_US, &stopped))
        return false;
    err_clear(err);
    return true;
}

/* A server that went away may be back in a moment; a slot left behind would hold WAL back. */
static bool
remove_when_back(Migration *run, Err *err)
{
    int64_t until_us = clock_now_us() + RETURN_PATIENCE_US;
    bool said = false;

    while (!cleanup_remove(run->loop, &run->target, &run->names, 0, err)) {
        if (err->kind == ERR_LOST && !said)
            log_info("the server cannot be reached; trying for %d s to remove what the run has "
                     "made",
                     (int)(RETURN_PATIENCE_US / 1000000));
        said = true;
        if (!wait_for_server(run, until_us, err))
            return false;
    }
    return true;
}

bool
migration_reconnect(Migration *run, Err *err)
{
    int64_t until_us = clock_now_us() + RETURN_PATIENCE_US;

    conn_close(run->control);
    run->control = NULL;
    while ((run->control = conn_open(run->loop, &run->target, CONN_SQL, "control", err)) == NULL)
        if (!wait_for_server(run, until_us, err))
            return false;
    return state_lock_table(run->control, run->original.oid, err);
}

/* What was asked for or may pass by itself leaves a run that can go on; everything else ends it. */
static bool
is_kept(const Migration *run, const Err *err)
{
    return run->is_resumable && !run->swapped && !run->abort_asked &&
           run->on_failure != FAILURE_REMOVE &&
           (run->on_failure == FAILURE_KEEP || err->kind == ERR_STOPPED || err->kind == ERR_LOST ||
            err->kind == ERR_CUTOVER || (err->kind == ERR_GONE && run->record != NULL));
}

/* May the run go on by itself?  Notes since when it cannot. */
static bool
has_patience(const Settings *settings, int64_t *lost_us)
{
    if (*lost_us == 0)
        *lost_us = clock_now_us();
    return clock_now_us() - *lost_us < settings->reconnect_timeout_s * 1000000;
}

static void
tell_kept(Migration *run, const Err *err)
{
    if (err->kind == ERR_GONE)
        return;
    if (err->kind == ERR_LOST && has_patience(run->settings, &run->lost_us))
        log_info("trying for %lld s to go on in new connections",
                 (long long)run->settings->reconnect_timeout_s);
    else if (err->kind != ERR_LOST)
        resume_leave(run);
}

static bool
tell_what_is_left(const Migration *run, const Err *failed)
{
    log_error(failed);
    if (failed->kind != ERR_LOST)
        log_warning("run walter cleanup to remove the rest");
    else
        log_warning("run walter cleanup as soon as the server can be reached: until then "
                    "replication slot \"%s\" may hold back its WAL",
                    run->names.slot);
    return false;
}

/* Remove what the run has made, unless it is kept.  False: something may be left. */
static bool
clean_up_after_failure(Migration *run, Err *err)
{
    Err failed = {0};

    migration_close_sessions(run);
    /* its last statement may still be under way, and must not make anything from here on */
    conn_close(run->control);
    run->control = NULL;
    tell(run, err);
    if (!run->started)
        return true;
    if (err->kind == ERR_UNKNOWN) {
        log_warning("nothing is removed before that is clear; then run walter cleanup");
        return false;
    }
    if (is_kept(run, err)) {
        tell_kept(run, err);
        return false;
    }
    log_info("removing what the run has made");
    if (!remove_when_back(run, &failed))
        return tell_what_is_left(run, &failed);
    if (run->swapped)
        log_info("all of it is removed");
    else if (run->definition_changed || strcmp(err->sqlstate, "42P01") == 0 ||
             strcmp(err->sqlstate, "3F000") == 0)
        log_info("all of it is removed, and walter has changed nothing of %s",
                 run->original.qualified);
    else
        log_info("all of it is removed, and %s is as it was", run->original.qualified);
    return true;
}

/*
 * A server that crashed is back before all sessions are missed, and has nothing of what they had: a
 * session opened since fails for want of a snapshot, which is not what has happened.  A full disk is.
 */
static void
explain_by_loss(Migration *run, Err *err)
{
    if (err->kind != ERR_FAILED || run->control == NULL || !conn_is_lost(run->control) ||
        strncmp(err->sqlstate, "53", 2) == 0)
        return;
    log_debug("%s", err->message);
    err_clear(err);
    (void)conn_explain_loss(run->control, err);
}

/*
 * The run has failed: true where it counts as done all the same.  That is when it was stopped after
 * the swap: the ALTER is in force, and whoever repeats what was stopped would run it twice.
 */
static bool
end_failed(Migration *run, Err *err)
{
    bool removed;
    bool stopped;

    explain_by_loss(run, err);
    walguard_explain_loss(run, err);
    removed = clean_up_after_failure(run, err);
    stopped = err->kind == ERR_STOPPED;
    if (!run->swapped || (!stopped && err->kind != ERR_LOST))
        return false;
    if (stopped && run->keeps_unfinished)
        cleanup_tell_unfinished(run->loop, &run->target, &run->names, run->arena);
    log_warning("%s, but the ALTER is done: do not run it again",
                stopped ? "stopped" : "the connection was lost");
    /* it is not for this to say that something was stopped, or that the same command goes on */
    err->kind = ERR_FAILED;
    return removed && stopped;
}

static void
log_summary(const Migration *run)
{
    const Counters *counters = &run->counters;
    BUF_AUTO(total);

    progress_add_duration(clock_now_us() - counters->started_us, &total);
    log_info(
        "done: %lld rows copied, %lld changes applied, %lld lock attempt%s, %.1f ms waited for "
        "the lock, %.1f ms held, %s in all",
        (long long)counters->rows_copied, (long long)counters->changes_applied,
        (long long)counters->lock_attempts, counters->lock_attempts == 1 ? "" : "s",
        (double)counters->lock_wait_us / 1000, (double)counters->lock_hold_us / 1000,
        buf_text(&total));
}

static bool
perform(Migration *run, Err *err)
{
    bool ok = migration_walk(run, err);

    if (!ok)
        ok = end_failed(run, err);
    else if (!run->is_finished)
        log_summary(run);
    migration_close_sessions(run);
    return ok;
}

/* ---- attempts ---- */

/* What outlives an attempt: when connections are lost, the run goes on in another one. */
typedef struct Attempts {
    const Settings *settings;
    Loop *loop;
    int64_t started_us;
    int64_t lost_us; /* since when nothing goes on, 0 = it does */
    char run[16];    /* what can be gone on with, or "" */
    int pid;         /* of the last control session that had the run's life sign */
} Attempts;

/* The memory of one attempt ends with it; what the next one needs is on the server. */
static bool
attempt(Attempts *attempts, Err *err)
{
    const Settings *settings = attempts->settings;
    Migration run = {.settings = settings,
                     .target = {settings->dbname, settings->host, settings->port, settings->user,
                                settings->password},
                     .loop = attempts->loop,
                     .arena = arena_new(),
                     .own_run = attempts->run[0] == '\0' ? NULL : attempts->run,
                     .own_pid = attempts->pid,
                     .lost_us = attempts->lost_us,
                     .counters = {.started_us = attempts->started_us}};
    bool ok = perform(&run, err);

    /* what has swapped is never tried again: that would alter the table twice */
    if (run.swapped)
        attempts->run[0] = '\0';
    else if (run.is_resumable)
        (void)snprintf(attempts->run, sizeof attempts->run, "%s", run.names.run);
    if (run.started)
        attempts->pid = run.control_pid;
    attempts->lost_us = run.lost_us;
    conn_close(run.control);
    free(run.original_digest);
    free(run.original_body);
    free(run.shadow_body);
    free(run.deferred_digest);
    free(run.original_column_rows);
    free(run.original_files);
    free(run.publication_mark);
    arena_free(run.arena);
    return ok;
}

/* A server that has just come back may refuse us for a moment, as one that has no connection free. */
static bool
is_passing(const Attempts *attempts, const Err *err)
{
    return attempts->run[0] != '\0' &&
           (err->kind == ERR_LOST || (err->kind == ERR_REFUSED && attempts->lost_us != 0));
}

bool
perform_run(const Settings *settings, Err *err)
{
    AUTO(Loop) *loop = loop_new();
    Attempts attempts = {.settings = settings, .loop = loop, .started_us = clock_now_us()};
    Err stopped = {0};

    for (;;) {
        if (attempt(&attempts, err))
            return true;
        if (!is_passing(&attempts, err) || !has_patience(settings, &attempts.lost_us) ||
            !loop_pause(loop, RECONNECT_PAUSE_US, &stopped))
            break;
        err_clear(err);
    }
    if (stopped.kind == ERR_NONE && !is_passing(&attempts, err))
        return false;
    if (stopped.kind != ERR_NONE)
        *err = stopped;
    else
        err->kind = ERR_LOST;
    log_warning("run %s is kept, and its replication slot holds back WAL: the same walter perform "
                "goes on with it, walter abort removes it",
                attempts.run);
    return false;
}
