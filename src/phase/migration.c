/*
 * The driver: walks the phase table and shows progress.  The only module that knows all phases.  What
 * a failure leaves behind, and whether there is another try, is for perform.c.
 */
#include "phase/migration.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/stream.h"
#include "phase/walguard.h"

static const int64_t TERMINAL_INTERVAL_US = 500000;
static const int64_t LOG_INTERVAL_US = 10 * INT64_C(1000000);
static const int64_t CHECK_INTERVAL_US = 2 * INT64_C(1000000);

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
    /*
     * The rows' own xmin: altered and altered back is altered, too.  Where the stream goes by names
     * this is so for them as well: RENAME and SET SCHEMA write the row type's row anew.
     */
    static const char SQL[] =
        "select coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin, r.oid,"
        "         r.xmin, r.prrelid), ',' order by r.oid), '')"
        "       || case when $2 then pg_catalog.concat('|', pg_catalog.string_agg("
        "           pg_catalog.concat_ws(' ', t.oid, t.xmin), ',' order by r.oid)) else '' end"
        "  from pg_catalog.pg_publication p"
        "  join pg_catalog.pg_publication_rel r on r.prpubid = p.oid"
        "  join pg_catalog.pg_class c on c.oid = r.prrelid"
        "  join pg_catalog.pg_type t on t.oid = c.reltype where p.pubname = $1";
    const char *by_name = run->settings->plugin == PLUGIN_WAL2JSON ? "true" : "false";
    AUTO(Rows) *rows = NULL;
    size_t same;

    if (!query_one(conn, SQL, (const char *const[]){run->names.publication, by_name, NULL}, &rows,
                   err))
        return err_wrap(err, "reading publication \"%s\"", run->names.publication);
    if (run->publication_mark == NULL)
        run->publication_mark = mem_copy_text(rows_text(rows, 0, 0));
    if (strcmp(run->publication_mark, rows_text(rows, 0, 0)) == 0)
        return true;
    same = strcspn(run->publication_mark, "|");
    if (strncmp(run->publication_mark, rows_text(rows, 0, 0), same + 1) == 0) {
        err_set(err, ERR_FAILED,
                "%s was given another name or schema while the run was on, be it for a moment; "
                "wal2json goes by names, and changes may be lost",
                run->original.qualified);
        return err_hint(err, "Nothing was swapped.  Start again.");
    }
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
migration_check_others(Migration *run, Err *err)
{
    int64_t now_us = clock_now_us();

    if (now_us - run->others_checked_us < CHECK_INTERVAL_US)
        return true;
    run->others_checked_us = now_us;
    return migration_check_abort(run, err) && capture_check_asynchronous(run, err);
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
        progress->blocks_before = counters->blocks_before;
        progress->rows_before = counters->rows_before;
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

bool
migration_walk(Migration *run, Err *err)
{
    Watcher watcher = {.run = run};
    Watch *timer = loop_every(run->loop, log_is_terminal() ? TERMINAL_INTERVAL_US : LOG_INTERVAL_US,
                              show_progress, &watcher);
    bool ok = walk(run, &watcher, err);

    loop_unwatch(run->loop, timer);
    log_progress(NULL);
    return ok;
}
