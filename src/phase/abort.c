/*
 * `walter abort`: runs are ended before their swap, and removed.  One that is at work does that
 * itself, when it finds the wish in its row; a dead one is cleaned up.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "phase/migration.h"

static const int64_t PATIENCE_US = 120 * INT64_C(1000000);
static const int64_t PAUSE_US = 200000;
/* A run that was asked shows no sign of life any more while it removes what it has made. */
static const int64_t REMOVAL_US = 10 * INT64_C(1000000);

static bool
is_meant(const Settings *settings, const RunRecord *run)
{
    return settings->run == NULL || strcmp(settings->run, run->names.run) == 0;
}

static bool
has_swapped(const RunRecord *run)
{
    return strcmp(run->phase, "swapped") == 0 || strcmp(run->phase, "done") == 0;
}

/* Show what there is; *count of them can be ended, and are first in `runs` afterwards. */
static void
show(const Settings *settings, RunRecord *runs, int *count)
{
    int kept = 0;

    for (int i = 0; i < *count; i++) {
        if (!is_meant(settings, &runs[i]))
            continue;
        printf("run %s on %s, begun %s, phase %s: %s\n", runs[i].names.run, runs[i].table,
               runs[i].started_at, runs[i].phase,
               has_swapped(&runs[i]) ? "has swapped, left to walter cleanup"
               : runs[i].alive       ? "alive"
                                     : "interrupted");
        printf("  statement          %s\n", runs[i].statement);
        if (!has_swapped(&runs[i]))
            runs[kept++] = runs[i];
    }
    fflush(stdout);
    *count = kept;
}

/* The run as it is now; NULL when it is gone. */
static bool
look_again(Conn *control, Arena *arena, const RunRecord *run, const RunRecord **now, Err *err)
{
    RunRecord *runs;
    int count;

    *now = NULL;
    if (!state_list_unfinished(control, arena, &runs, &count, err))
        return false;
    for (int i = 0; i < count; i++)
        if (strcmp(runs[i].names.run, run->names.run) == 0)
            *now = &runs[i];
    return true;
}

/* Ask a run that is at work, and wait until it has gone, or has died, or has swapped. */
static bool
wait_for_end(Conn *control, Arena *arena, const RunRecord *run, const RunRecord **now, Err *err)
{
    int64_t until_us = clock_now_us() + PATIENCE_US;
    int64_t alive_us = run->alive ? clock_now_us() : -REMOVAL_US;

    if (run->alive)
        log_info("run %s is asked to stop", run->names.run);
    if (run->alive && !state_ask_abort(control, &run->names, err))
        return false;
    for (;;) {
        if (!look_again(control, arena, run, now, err))
            return false;
        if (*now == NULL || has_swapped(*now))
            return true;
        if ((*now)->alive)
            alive_us = clock_now_us();
        else if (clock_now_us() - alive_us > REMOVAL_US)
            return true;
        if (clock_now_us() > until_us) {
            err_set(err, ERR_FAILED, "run %s does not stop", run->names.run);
            return err_hint(err, "Look at its log, or end its process; then run this again.");
        }
        if (!loop_pause(conn_loop(control), PAUSE_US, err))
            return false;
    }
}

static bool
abort_one(Conn *control, const ConnTarget *target, Arena *arena, const RunRecord *run, Err *err)
{
    const RunRecord *now;

    if (!wait_for_end(control, arena, run, &now, err))
        return false;
    if (now != NULL && has_swapped(now)) {
        err_set(err, ERR_FAILED, "run %s has swapped in the meantime: %s has its new definition",
                run->names.run, run->table);
        return err_hint(err, "Its old table is in schema %s.", run->names.schema);
    }
    if (now == NULL) {
        log_info("run %s has ended and is removed; %s is as it was", run->names.run, run->table);
        return true;
    }
    return cleanup_finish(conn_loop(control), target, now, arena, err);
}

static bool
abort_all(const Settings *settings, Loop *loop, const ConnTarget *target, Arena *arena, Err *err)
{
    AUTO(Conn) *control = conn_open(loop, target, CONN_SQL, "abort", err);
    RunRecord *runs;
    Answer answer;
    int count;

    if (control == NULL || !state_list_unfinished(control, arena, &runs, &count, err))
        return false;
    show(settings, runs, &count);
    if (count == 0) {
        if (settings->run == NULL)
            printf("nothing to abort in database \"%s\"\n", conn_database(control));
        else
            printf("nothing to abort of a run %s in database \"%s\"\n", settings->run,
                   conn_database(control));
        return true;
    }
    answer = settings->confirm(settings, "End and remove this?");
    if (loop_is_stopping(loop))
        return err_set(err, ERR_STOPPED, "stopped on request; nothing was removed");
    if (answer != ANSWER_YES) {
        printf("nothing was removed%s\n", answer == ANSWER_NO ? "" : "; add --yes to remove it");
        return true;
    }
    for (int i = 0; i < count; i++)
        if (!abort_one(control, target, arena, &runs[i], err))
            return false;
    return true;
}

bool
abort_run(const Settings *settings, Err *err)
{
    const ConnTarget target = {settings->dbname, settings->host, settings->port, settings->user,
                               settings->password};
    Arena *arena = arena_new();
    AUTO(Loop) *loop = loop_new();
    bool ok = abort_all(settings, loop, &target, arena, err);

    arena_free(arena);
    return ok;
}
