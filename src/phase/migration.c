/*
 * The driver: walks the phase table, shows progress, and decides at the end what a failure leaves
 * behind.  The only module that knows all phases.
 */
#include "phase/migration.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/stream.h"

static const int64_t TERMINAL_INTERVAL_US = 500000;
static const int64_t LOG_INTERVAL_US = 10 * INT64_C(1000000);

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
    [PHASE_SLOT] = {"slot", "creating the replication slot", capture_enter, capture_step, NULL,
                    PHASE_COPY},
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

    if (conn != NULL && !query_exec(conn, sql, err)) {
        conn_close(conn);
        return NULL;
    }
    return conn;
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
        return true;
    err_set(err, ERR_FAILED,
            "the definition of %s was changed by somebody else while the run was on",
            run->original.qualified);
    return err_hint(err, "Nothing was swapped.  Start again; the new run begins from the new "
                         "definition.");
}

/* ---- progress ---- */

/* What the progress timer needs. */
typedef struct Watcher {
    Migration *run;
    Phase phase;
    int64_t phase_started_us;
} Watcher;

static bool
show_progress(void *owner, short ready, Err *err)
{
    const Watcher *watcher = owner;
    const Migration *run = watcher->run;
    Progress progress = {.phase = PHASES[watcher->phase].says,
                         .elapsed_us = clock_now_us() - run->counters.started_us,
                         .phase_us = clock_now_us() - watcher->phase_started_us,
                         .changes_applied = run->counters.changes_applied};
    BUF_AUTO(line);

    (void)ready;
    (void)err;
    if (watcher->phase == PHASE_COPY) {
        progress.blocks_done = run->counters.blocks_copied;
        progress.blocks_total = run->counters.blocks_total;
        progress.rows_copied = run->counters.rows_copied;
    }
    if (run->apply != NULL) {
        Lsn end_lsn = apply_position(run->apply)->end_lsn;

        progress.changes_waiting = apply_outstanding(run->apply);
        if (stream_server_lsn(run->stream) > end_lsn)
            progress.lag_bytes = (int64_t)(stream_server_lsn(run->stream) - end_lsn);
    }
    progress_add(&progress, &line);
    log_progress(buf_text(&line));
    return true;
}

/* ---- the road ---- */

static bool
run_phase(Migration *run, Phase phase, Err *err)
{
    Step step = STEP_DONE;
    bool ok = PHASES[phase].enter(run, err);

    while (ok && PHASES[phase].step != NULL && (step = PHASES[phase].step(run, err)) == STEP_MORE)
        ;
    if (PHASES[phase].leave != NULL)
        PHASES[phase].leave(run);
    return ok && step == STEP_DONE;
}

static bool
walk(Migration *run, Watcher *watcher, Err *err)
{
    for (Phase phase = PHASE_PREFLIGHT; phase != PHASE_DONE; phase = PHASES[phase].next) {
        watcher->phase = phase;
        watcher->phase_started_us = clock_now_us();
        run->phase = PHASES[phase].name;
        log_debug("phase %s", PHASES[phase].name);
        /* the swap notes its phase in its own transaction */
        if (run->started && !run->swapped &&
            !state_set_phase(run->control, &run->names, PHASES[phase].name, err))
            return false;
        if (!run_phase(run, phase, err))
            return false;
        log_debug("phase %s took %.3f s", PHASES[phase].name,
                  (double)(clock_now_us() - watcher->phase_started_us) / 1e6);
    }
    return true;
}

static void
close_sessions(Migration *run)
{
    apply_close(run->apply);
    stream_close(run->stream);
    conn_close(run->keeper);
    run->apply = NULL;
    run->stream = NULL;
    run->keeper = NULL;
}

/* Give a failure its words, and remove what the run has made; before the swap nothing may stay. */
static void
clean_up_after_failure(Migration *run, Err *err)
{
    Err failed = {0};

    close_sessions(run);
    if (!run->started || err->kind == ERR_UNKNOWN)
        return;
    if (run->swapped && err->kind == ERR_STOPPED)
        return;
    log_progress(NULL);
    log_info("removing what the run has made");
    if (cleanup_remove(run->loop, &run->target, &run->names, &failed)) {
        if (!run->swapped)
            log_info("the original table %s is as it was", run->original.qualified);
        return;
    }
    log_error(&failed);
    log_warning(
        "replication slot \"%s\" may be left behind and hold back WAL: run walter cleanup, or "
        "SELECT pg_drop_replication_slot('%s');",
        run->names.slot, run->names.slot);
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
    if (ok)
        log_summary(run);
    else
        clean_up_after_failure(run, err);
    close_sessions(run);
    return ok;
}

bool
perform_run(const Settings *settings, Err *err)
{
    AUTO(Loop) *loop = loop_new();
    Migration run = {.settings = settings,
                     .target = {settings->dbname, settings->host, settings->port, settings->user,
                                settings->password},
                     .loop = loop,
                     .arena = arena_new(),
                     .counters = {.started_us = clock_now_us()}};
    bool ok = perform(&run, err);

    conn_close(run.control);
    free(run.original_digest);
    arena_free(run.arena);
    return ok;
}
