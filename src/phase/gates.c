/*
 * The gates before the cutover: is an attempt worth what it costs the others?  See
 * cutover_internal.h.
 */
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "phase/apply.h"
#include "phase/cutover_internal.h"
#include "phase/definition.h"
#include "phase/sessions.h"

static const int64_t SNAPSHOT_AGE_US = 1000000;
/* So many descriptions go into one log line. */
enum { BLOCKERS_SHOWN = 5 };
/* A drain that needs such a part of the hold is short, however many changes it is about. */
enum { SHORT_DRAIN = 8 };

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

bool
gates_check_snapshots(Migration *run, bool locked, Err *err)
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
    return err_hint(err, "End these transactions (--kill-backends does not), or use "
                         "--old-snapshots=ignore.");
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
bool
gates_measure_distance(Migration *run, bool *close, Err *err)
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

bool
gates_look_before_locking(Migration *run, Err *err)
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
