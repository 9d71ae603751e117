/*
 * The driver: walks the phase table, shows progress, and decides at the end what a failure leaves
 * behind.  The only module that knows all phases.
 */
#include "phase/migration.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/resume.h"
#include "phase/stream.h"
#include "phase/walguard.h"

static const int64_t TERMINAL_INTERVAL_US = 500000;
static const int64_t LOG_INTERVAL_US = 10 * INT64_C(1000000);
static const int64_t CHECK_INTERVAL_US = 2 * INT64_C(1000000);
/* How long a server that went away may take to come back, for finishing and cleaning up. */
static const int64_t RETURN_PATIENCE_US = 10 * INT64_C(1000000);
static const int64_t RETURN_PAUSE_US = 300000;
static const int64_t RECONNECT_PAUSE_US = 1000000;
static const int64_t STEADY_US = 15 * INT64_C(1000000);

typedef enum {
    PHASE_PREFLIGHT = 0,
    PHASE_SHADOW,
    PHASE_SLOT,
    PHASE_COPY,
    PHASE_INDEX,
    PHASE_CATCHUP,
    PHASE_CUTOVER,
    PHASE_FINISH,
    PHASE_DONE
} Phase;

/*
 * The road.  `enter` prepares (and is all there is where `step` is NULL), `step` is one bounded
 * turn, `leave` frees what enter opened, also after a failure.
 */
static const struct {
    const char *name; /* in walter.run.phase */
    const char *says; /* in the log and the progress line */
    bool (*enter)(Migration *run, Err *err);
    Step (*step)(Migration *run, Err *err);
    void (*leave)(Migration *run);
    Phase next;
} PHASES[] = {
    [PHASE_PREFLIGHT] = {"preflight", "checking", preflight_run, NULL, NULL, PHASE_SHADOW},
    [PHASE_SHADOW] = {"shadow", "creating the shadow table", shadow_enter, NULL, NULL, PHASE_SLOT},
    [PHASE_SLOT] = {"slot", "creating the replication slot", capture_enter, capture_step,
                    capture_leave, PHASE_COPY},
    [PHASE_COPY] = {"copy", "copying", copy_enter, copy_step, copy_leave, PHASE_INDEX},
    [PHASE_INDEX] = {"index", "building indexes", index_enter, index_step, index_leave,
                     PHASE_CATCHUP},
    [PHASE_CATCHUP] = {"catchup", "catching up", catchup_enter, catchup_step, NULL, PHASE_CUTOVER},
    [PHASE_CUTOVER] = {"cutover", "cutting over", cutover_enter, cutover_step, cutover_leave,
                       PHASE_FINISH},
    [PHASE_FINISH] = {"swapped", "finishing", finish_enter, NULL, NULL, PHASE_DONE},
};

Conn *
migration_connect(Migration *run, ConnKind kind, const char *purpose, Err *err)
{
    AUTO(Text) *name = mem_format("%s %s", run->names.run, purpose);
    Conn *conn = conn_open(run->loop, &run->target, kind, name, err);

    if (conn == NULL)
        err_wrap(err, "opening the session for \"%s\"", purpose);
    return conn;
}

Conn *
migration_connect_owner(Migration *run, ConnKind kind, const char *purpose, Err *err)
{
    Conn *conn = migration_connect(run, kind, purpose, err);
    AUTO(Text) *sql = sql_build("set role %I", run->original.owner);

    if (conn == NULL)
        return NULL;
    if (!query_exec(conn, sql, err)) {
        conn_close(conn);
        return NULL;
    }
    conn_judge_data(conn);
    return conn;
}

bool
migration_limit_lock_waits(Conn *conn, Err *err)
{
    return query_exec(conn, "set lock_timeout to '1s'", err);
}

void
sql_list_add(Migration *run, SqlList *list, const char *text)
{
    if (list->count == list->size) {
        int size = list->size == 0 ? 16 : list->size * 2;
        const char **items = arena_alloc(run->arena, (size_t)size * sizeof *items);

        if (list->count > 0)
            memcpy(items, list->items, (size_t)list->count * sizeof *items);
        list->items = items;
        list->size = size;
    }
    list->items[list->count++] = arena_copy(run->arena, text, strlen(text));
}

void
sql_list_add_once(Migration *run, SqlList *list, const char *text)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return;
    sql_list_add(run, list, text);
}

/*
 * A rewrite changes rows without a word in the stream.  VACUUM FULL and CLUSTER do no harm and
 * TRUNCATE is in the stream, so only a new file together with new column rows is an ALTER TABLE.
 */
static bool
check_not_rewritten(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *column_rows = NULL;
    AUTO(Text) *files = NULL;

    if (!catalog_read_files(conn, run->original.oid, &files, err))
        return false;
    if (strcmp(files, run->original_files) == 0)
        return true;
    if (!catalog_read_column_rows(conn, run->original.oid, &column_rows, err))
        return false;
    if (strcmp(column_rows, run->original_column_rows) == 0)
        return true;
    err_set(err, ERR_FAILED,
            "the rows of %s were rewritten by an ALTER TABLE of somebody else while the run was on",
            run->original.qualified);
    return err_hint(err, "Nothing was swapped.  Start again.");
}

bool
migration_check_definition(Migration *run, Conn *conn, Err *err)
{
    char *digest = NULL;
    bool same;

    if (!catalog_read_digest(conn, run->original.oid, &digest, err))
        return false;
    same = strcmp(digest, run->original_digest) == 0;
    free(digest);
    if (same)
        return check_not_rewritten(run, conn, err);
    run->definition_changed = true;
    err_set(err, ERR_FAILED,
            "the definition of %s%s was changed by somebody else while the run was on",
            run->original.qualified, run->is_parent ? ", or of one of its partitions," : "");
    return err_hint(err, "Nothing was swapped.  Start again; the new run begins from the new "
                         "definition.");
}

bool
migration_follow_definition(Migration *run, Conn *conn, Err *err)
{
    run->definition_changed = false;
    if (migration_check_definition(run, conn, err))
        return true;
    if (!run->definition_changed)
        return false;
    err_clear(err);
    return refresh_definition(run, err);
}

bool
migration_check_publication(Migration *run, Conn *conn, Err *err)
{
    /* the rows' own xmin: altered and altered back is altered, too */
    static const char SQL[] =
        "select coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin, r.oid,"
        "         r.xmin, r.prrelid), ',' order by r.oid), '')"
        "  from pg_catalog.pg_publication p"
        "  join pg_catalog.pg_publication_rel r on r.prpubid = p.oid where p.pubname = $1";
    AUTO(Rows) *rows = NULL;

    if (run->settings->plugin != PLUGIN_PGOUTPUT)
        return true;
    if (!query_one(conn, SQL, (const char *const[]){run->names.publication, NULL}, &rows, err))
        return err_wrap(err, "reading publication \"%s\"", run->names.publication);
    if (run->publication_mark == NULL)
        run->publication_mark = mem_copy_text(rows_text(rows, 0, 0));
    if (strcmp(run->publication_mark, rows_text(rows, 0, 0)) == 0)
        return true;
    err_set(err, ERR_FAILED,
            "publication \"%s\" was dropped or altered by somebody else while the run was on, and "
            "changes may be lost",
            run->names.publication);
    return err_hint(err, "Nothing was swapped.  Start again.");
}

Step
migration_check_step(Migration *run, Step next, Err *err)
{
    if (migration_follow_definition(run, run->control, err))
        return next;
    if (err->kind != ERR_RETRY)
        return STEP_FAILED;
    err_clear(err);
    /* a change that cannot be followed yet may wait for us; the cutover looks again */
    if (run->definition_changed)
        return next;
    return loop_pause(run->loop, 100000, err) ? STEP_MORE : STEP_FAILED;
}

bool
migration_check_abort(Migration *run, Err *err)
{
    if (!state_is_abort_asked(run->control, &run->names, &run->abort_asked, err))
        return false;
    return !run->abort_asked || err_set(err, ERR_STOPPED, "stopped by walter abort");
}

bool
migration_check_now_and_then(Migration *run, Err *err)
{
    int64_t now_us = clock_now_us();

    if (!walguard_look(run, err))
        return false;
    if (now_us - run->definition_checked_us < CHECK_INTERVAL_US)
        return true;
    run->definition_checked_us = now_us;
    if (!migration_check_abort(run, err) ||
        (run->apply != NULL && !apply_note_idle(run->apply, err)))
        return false;
    if (migration_follow_definition(run, run->control, err) &&
        migration_check_publication(run, run->control, err) && capture_check_asynchronous(run, err))
        return true;
    /* somebody waits for a lock, perhaps for ours: go on, and ask again next time */
    if (err->kind != ERR_RETRY)
        return false;
    err_clear(err);
    return true;
}

void
migration_close_sessions(Migration *run)
{
    apply_close(run->apply);
    stream_close(run->stream);
    spool_close(run->spool);
    conn_close(run->keeper);
    run->apply = NULL;
    run->stream = NULL;
    run->spool = NULL;
    run->keeper = NULL;
}

/* ---- progress ---- */

/* What the progress timer needs. */
typedef struct Watcher {
    Migration *run;
    Phase phase;
    int64_t phase_started_us;
} Watcher;

static void
add_phase(const Watcher *watcher, Progress *progress)
{
    const Migration *run = watcher->run;
    const Counters *counters = &run->counters;

    if (watcher->phase == PHASE_COPY) {
        progress->blocks_done = counters->blocks_copied;
        progress->blocks_total = counters->blocks_total;
        progress->rows_copied = counters->rows_copied;
    }
    if (watcher->phase == PHASE_INDEX) {
        progress->indexes_done = counters->indexes_built;
        progress->indexes_total = run->definition.indexes.count;
    }
    if (watcher->phase == PHASE_CUTOVER)
        progress->attempts = counters->lock_attempts;
    if (watcher->phase == PHASE_CATCHUP)
        progress->lag_growth = rates_lag_growth(&run->backlog.rates);
    progress->falls_behind = rates_fall_behind(&run->backlog.rates);
}

static bool
show_progress(void *owner, short ready, Err *err)
{
    const Watcher *watcher = owner;
    const Migration *run = watcher->run;
    Progress progress = {.phase = PHASES[watcher->phase].says,
                         .elapsed_us = clock_now_us() - run->counters.started_us,
                         .phase_us = clock_now_us() - watcher->phase_started_us,
                         .has_stream = run->apply != NULL && run->stream != NULL,
                         .changes_applied = run->counters.changes_applied,
                         .lag_bytes = run->stream == NULL ? 0 : stream_lag_bytes(run->stream)};
    BUF_AUTO(line);

    (void)ready;
    (void)err;
    if (progress.has_stream) {
        progress.changes_waiting = apply_outstanding(run->apply);
        progress.spooled_bytes = stream_spooled_bytes(run->stream);
        progress.is_paused = stream_is_paused(run->stream);
        if (!run->swapped && run->wal.budget_bytes != WALBUDGET_NONE)
            progress.wal_budget_bytes = run->wal.budget_bytes;
        progress.wal_held_bytes = run->wal.held_bytes;
    }
    add_phase(watcher, &progress);
    progress_add(&progress, &line);
    log_progress(buf_text(&line));
    return true;
}

/* ---- the road ---- */

/* A session that idles is only noticed to be gone when somebody looks. */
static bool
check_sessions(const Migration *run, Err *err)
{
    if (run->control != NULL && conn_is_lost(run->control))
        return conn_explain_loss(run->control, err);
    if (run->keeper != NULL && conn_is_lost(run->keeper))
        return conn_explain_loss(run->keeper, err);
    return run->apply == NULL || apply_check_session(run->apply, err);
}

static bool
run_phase(Migration *run, Phase phase, Err *err)
{
    Step step = STEP_DONE;
    bool ok = PHASES[phase].enter(run, err);

    if (ok && PHASES[phase].step != NULL)
        do
            step = check_sessions(run, err) ? PHASES[phase].step(run, err) : STEP_FAILED;
        while (step == STEP_MORE);
    if (PHASES[phase].leave != NULL)
        PHASES[phase].leave(run);
    return ok && step == STEP_DONE;
}

/*
 * The swap notes its phase in its own transaction; and of a run that goes on it must not be forgotten
 * how far it had come.
 */
static bool
must_note(const Migration *run, Phase phase)
{
    return run->started && !run->swapped &&
           (run->record == NULL || phase > PHASE_COPY ||
            (phase == PHASE_COPY && !run->copy_is_done));
}

static bool
walk(Migration *run, Watcher *watcher, Err *err)
{
    for (Phase phase = PHASE_PREFLIGHT; phase != PHASE_DONE; phase = PHASES[phase].next) {
        watcher->phase = phase;
        watcher->phase_started_us = clock_now_us();
        run->phase = PHASES[phase].name;
        log_debug("phase %s", PHASES[phase].name);
        if (must_note(run, phase) &&
            !state_set_phase(run->control, &run->names, PHASES[phase].name, err))
            return false;
        if (phase == PHASE_COPY)
            run->streaming_us = clock_now_us();
        if (!run_phase(run, phase, err))
            return false;
        if (run->is_finished)
            return true;
        log_debug("phase %s took %.3f s", PHASES[phase].name,
                  (double)(clock_now_us() - watcher->phase_started_us) / 1e6);
    }
    return true;
}

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
 * lock, or that sessions, slots or memory are short just now.  (Not the disk: there it helps to remove.)
 */
static bool
is_of_the_moment(const Migration *run, const Err *err)
{
    return run->is_resumable && !run->swapped &&
           (err->kind == ERR_RETRY || strcmp(err->sqlstate, "53200") == 0 ||
            strcmp(err->sqlstate, "53300") == 0 || strcmp(err->sqlstate, "53400") == 0);
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
    Watcher watcher = {.run = run};
    Watch *timer = loop_every(run->loop, log_is_terminal() ? TERMINAL_INTERVAL_US : LOG_INTERVAL_US,
                              show_progress, &watcher);
    bool ok = walk(run, &watcher, err);

    loop_unwatch(run->loop, timer);
    log_progress(NULL);
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
