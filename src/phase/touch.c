/*
 * Changes that are not applied, because their rows are going to be copied under a newer snapshot: what
 * counts is only which keys they are about.  See apply.h, and renewal.h for why.
 */
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "pg/sql.h"
#include "phase/apply_internal.h"

static const int64_t WAIT_US = 500000;
static const int64_t CHECK_US = 2 * INT64_C(1000000);

/* The key columns of a row, all others NULL.  A value that was not sent is the old row's. */
static const Datum *
key_row(const Apply *apply, const Datum *row, const Datum *old)
{
    size_t count = (size_t)apply->key.column_count;
    Datum *alone = arena_alloc(apply->now->arena, count * sizeof *alone);

    for (size_t i = 0; i < count; i++)
        alone[i] = (Datum){.kind = DATUM_NULL};
    for (int i = 0; i < apply->key.count; i++) {
        int column = apply->key.columns[i];
        bool is_sent = row[column].kind != DATUM_UNCHANGED && row[column].kind != DATUM_ABSENT;

        alone[column] = is_sent || old == NULL ? row[column] : old[column];
    }
    return alone;
}

static bool
stage_key(Apply *apply, int *seq, const Datum *row, const Datum *old, Err *err)
{
    return stage_add_key(apply->stage, (*seq)++, key_row(apply, row, old), err);
}

/* A change of the key touches two rows; with REPLICA IDENTITY FULL both may be the same. */
static bool
stage_change(Apply *apply, int *seq, const Change *change, Err *err)
{
    if (change->old_row != NULL && !stage_key(apply, seq, change->old_row, NULL, err))
        return false;
    return change->new_row == NULL || stage_key(apply, seq, change->new_row, change->old_row, err);
}

/* Changes of one leaf, up to the next TRUNCATE. */
static int
count_stretch(const Batch *batch, int first)
{
    int end = first;

    while (end < batch->count && batch->changes[end].kind != CHANGE_TRUNCATE &&
           batch->changes[end].table == batch->changes[first].table)
        end++;
    return end - first;
}

static bool
note_stretch(Apply *apply, int first, int count, Err *err)
{
    const Leaf *leaf = &apply->run->leaves[apply->now->changes[first].table];
    int seq = 0;

    stage_aim(apply->stage, leaf);
    if (!stage_begin_keys(apply->stage, err))
        return false;
    for (int i = first; i < first + count; i++)
        if (!stage_change(apply, &seq, &apply->now->changes[i], err))
            return false;
    return stage_forget_keys(apply->stage, err);
}

/* The leaf is empty from here on, and so is its shadow. */
static bool
note_truncate(Apply *apply, int leaf, bool *truncated, Err *err)
{
    const RunNames *names = &apply->run->names;
    AUTO(Text) *sql = sql_build("truncate only %S; delete from %S where leaf = %D;"
                                "delete from %S where walter_leaf = %D",
                                apply->run->leaves[leaf].shadow_qualified, names->copied,
                                (int64_t)apply->run->leaves[leaf].oid, names->touched,
                                (int64_t)apply->run->leaves[leaf].oid);

    truncated[leaf] = true;
    return query_exec(apply->conn, sql, err);
}

static bool
note_batch(Apply *apply, bool *truncated, Err *err)
{
    const Batch *batch = apply->now;
    AUTO(Text) *position =
        state_position_sql(&apply->run->names, POSITION_OF_ALL, &batch->end.position);
    AUTO(Text) *commit = sql_build("%S; commit", position);

    if (!query_exec(apply->conn, "begin", err))
        return false;
    for (int i = 0; i < batch->count;) {
        int count = count_stretch(batch, i);

        if (count == 0 ? !note_truncate(apply, batch->changes[i].table, truncated, err)
                       : !note_stretch(apply, i, count, err))
            return false;
        i += count == 0 ? 1 : count;
    }
    return query_exec(apply->conn, commit, err);
}

/* One batch; *reached tells that the transactions to come are not ours to note. */
static bool
step(Apply *apply, bool *truncated, bool *reached, Err *err)
{
    Queue *queue = stream_queue(apply->stream);

    if (queue_is_drained(queue))
        return loop_turn(apply->run->loop, clock_now_us() + WAIT_US, err);
    if (!batch_read(apply->reader, apply->now, &apply->done, apply->run->settings->pull_batch_count,
                    err))
        return false;
    *reached = batch_has_stopped(apply->reader);
    queue_mark(queue);
    if (apply->now->count > 0 && !note_batch(apply, truncated, err)) {
        query_rollback(apply->conn);
        queue_rewind(queue);
        return false;
    }
    FAULT_POINT("renewal.touched");
    apply->done = apply->now->end;
    apply->run->counters.changes_applied = apply->done.position.changes;
    queue_release_marked(queue);
    if (apply->now->count > 0)
        apply->committed_lsn = apply->done.position.end_lsn;
    stream_set_applied(apply->stream, apply->committed_lsn, !apply->done.is_open);
    return loop_turn(apply->run->loop, clock_now_us(), err);
}

/* A fence that somebody has taken out of the publication never comes. */
static bool
check_now_and_then(Apply *apply, int64_t *checked_us, Err *err)
{
    Migration *run = apply->run;

    if (clock_now_us() - *checked_us < CHECK_US)
        return true;
    *checked_us = clock_now_us();
    return migration_check_abort(run, err) && migration_check_publication(run, run->control, err);
}

/*
 * Behind them the fence is waiting, perhaps alone.  What has no change of ours need not wait for the
 * end of the copy, and with it the server's WAL.
 */
static bool
pass_fence(Apply *apply, Err *err)
{
    Queue *queue = stream_queue(apply->stream);

    if (!batch_read(apply->reader, apply->now, &apply->done, 1, err))
        return false;
    if (apply->now->count > 0 || apply->now->end.is_open) {
        queue_rewind(queue);
        return true;
    }
    queue_mark(queue);
    apply->done = apply->now->end;
    queue_release_marked(queue);
    stream_set_applied(apply->stream, apply->committed_lsn, true);
    return true;
}

bool
apply_touch(Apply *apply, Lsn until_lsn, bool *truncated, Err *err)
{
    int64_t marker;
    int64_t checked_us = clock_now_us();
    bool reached = false;
    bool ok = apply_write_fence(apply, &marker, err);

    (void)marker;
    batch_stop_at(apply->reader, until_lsn);
    while (ok && !reached)
        ok = step(apply, truncated, &reached, err) && check_now_and_then(apply, &checked_us, err);
    batch_stop_at(apply->reader, LSN_INVALID);
    ok = ok && pass_fence(apply, err);
    return ok || err_wrap(err, "noting what was changed since the last snapshot");
}

bool
apply_forget(Apply *apply, int leaf, Conn *from, const char *query, const char *also, Err *err)
{
    AUTO(Text) *commit = sql_build("%S; commit", also);

    stage_aim(apply->stage, &apply->run->leaves[leaf]);
    if (query_exec(apply->conn, "begin", err) && stage_pipe_keys(apply->stage, from, query, err) &&
        query_exec(apply->conn, commit, err))
        return true;
    query_rollback(apply->conn);
    return false;
}
