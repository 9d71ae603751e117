/*
 * Phase "catch-up": apply the stream until few changes are outstanding, and prove it with a fence:
 * what was committed before the fence is applied, and it took less than half of the time that the
 * cutover may hold its lock.  Then the rows must fit the foreign keys that the swap will make.
 */
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "phase/apply.h"
#include "phase/backlog.h"
#include "phase/keycheck.h"
#include "phase/matviews.h"
#include "phase/migration.h"

static const int64_t FENCE_INTERVAL_US = INT64_C(1000000);

/* From here on a snapshot sees all that was copied, and what was populated from it. */
static bool
note_copied(Migration *run, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_simple(run->control,
                      "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())", &rows,
                      err))
        return false;
    run->fence_tried_us = clock_now_us();
    run->copied_xid = arena_copy(run->arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
    return true;
}

bool
catchup_enter(Migration *run, Err *err)
{
    if (!note_copied(run, err))
        return false;
    FAULT_POINT("catchup.entered");
    log_info("catching up, %lld changes are waiting", (long long)apply_outstanding(run->apply));
    return true;
}

/* Would a drain under the lock be short?  Try one without it. */
static Step
try_fence(Migration *run, Err *err)
{
    int64_t half_hold_us = run->settings->lock_hold_ms * 1000 / 2;
    int64_t started_us = clock_now_us();
    int64_t marker;

    if (!apply_write_fence(run->apply, &marker, err))
        return STEP_FAILED;
    FAULT_POINT("catchup.fence");
    if (!apply_drain(run->apply, marker, started_us + half_hold_us, NULL, err)) {
        if (err->kind != ERR_RETRY)
            return STEP_FAILED;
        err_clear(err);
        return STEP_MORE;
    }
    if (clock_now_us() - started_us > half_hold_us)
        return STEP_MORE;
    backlog_is_gone(run);
    /* which may take a while, so catch up again */
    if (!run->keys_checked) {
        run->keys_checked = keycheck_run(run, err);
        return run->keys_checked ? STEP_MORE : STEP_FAILED;
    }
    if (!run->matviews_built) {
        run->matviews_built = matviews_build(run, err) && note_copied(run, err);
        return run->matviews_built ? STEP_MORE : STEP_FAILED;
    }
    FAULT_POINT("catchup.done");
    return migration_check_step(run, STEP_DONE, err);
}

Step
catchup_step(Migration *run, Err *err)
{
    if (!apply_batch(run->apply, NULL, err))
        return STEP_FAILED;
    /* a turn without waiting: takes what has arrived, and notices a stop request */
    if (!loop_turn(run->loop, clock_now_us(), err))
        return STEP_FAILED;
    if (!migration_check_now_and_then(run, err) || !backlog_look(run, err))
        return STEP_FAILED;
    /* a busy table never has so few; then the fence alone tells */
    if (apply_outstanding(run->apply) > run->settings->delta_count &&
        clock_now_us() - run->fence_tried_us < FENCE_INTERVAL_US)
        return STEP_MORE;
    run->fence_tried_us = clock_now_us();
    return try_fence(run, err);
}
