/* Apply; see apply.h. */
#include "phase/apply.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/apply_internal.h"

/* Shorter stretches between changes of the key are not worth a round of statements. */
enum { COALESCE_MIN = 500, RETRIES_MAX = 5, LOCKED_BATCH_MAX = 2000 };
/* While there is nothing to apply, the position is stored when so much WAL, or time, has gone by. */
static const Lsn IDLE_STEP_BYTES = INT64_C(1024) * 1024;
static const int64_t IDLE_STEP_US = 10 * INT64_C(1000000);
/* While the server has so much to send, a batch waits for so long to become a whole one. */
static const int64_t GATHER_LAG_BYTES = INT64_C(16) * 1024 * 1024;
static const int64_t GATHER_US = 100000;

/* Sessions that share the changes may have come to two positions: begin at the first one. */
static void
begin_at(Apply *apply)
{
    const Migration *run = apply->run;
    Position least = run->positions[0];
    bool differ = false;

    for (int i = 1; i < run->position_count; i++) {
        const Position *other = &run->positions[i];

        differ = differ || position_compare(other, &least) != 0;
        if (position_compare(other, &least) < 0)
            least = *other;
    }
    if (differ)
        batch_resume_divided(apply->reader, run->positions, run->position_count);
    apply->done.position = least;
    apply->committed_lsn = least.end_lsn;
    apply->run->counters.changes_applied = least.changes;
}

Apply *
apply_open(Migration *run, Stream *stream, Err *err)
{
    Apply *apply = mem_new(1, sizeof *apply);

    apply->run = run;
    apply->stream = stream;
    apply->key = (RowKey){run->original.key, run->original.key_count, run->original.column_count};
    apply->hashable = true;
    for (int i = 0; i < run->original.key_count; i++)
        apply->hashable = apply->hashable && run->original.columns[run->original.key[i]].byte_equal;
    apply->until_truncate =
        arena_alloc(run->arena, (size_t)run->leaf_count * sizeof *apply->until_truncate);
    apply->reader = batch_reader_new(run, stream_queue(stream));
    apply->now = mem_new(1, sizeof *apply->now);
    apply->ahead = mem_new(1, sizeof *apply->ahead);
    begin_at(apply);
    apply->conn = migration_connect_owner(run, run->binary_stream ? CONN_EXPRESSIONS : CONN_SQL,
                                          "apply", err);
    if (apply->conn != NULL)
        apply->stage = stage_open(run, apply->conn, err);
    if (apply->stage == NULL) {
        apply_close(apply);
        return NULL;
    }
    apply->workers = workers_open(run);
    return apply;
}

void
apply_close(Apply *apply)
{
    if (apply == NULL)
        return;
    workers_close(apply->workers);
    stage_free(apply->stage);
    conn_close(apply->conn);
    batch_reader_free(apply->reader);
    batch_done(apply->now);
    batch_done(apply->ahead);
    free(apply->now);
    free(apply->ahead);
    free(apply);
}

/* ---- applying it ---- */

typedef enum { SEGMENT_COALESCED, SEGMENT_ORDERED, SEGMENT_TRUNCATE } SegmentKind;

typedef struct Segment {
    SegmentKind kind;
    int first;
    int count;
} Segment;

static bool
needs_order(const Apply *apply, const Change *change)
{
    return !apply->hashable || coalesce_changes_key(change, &apply->key);
}

/*
 * The next stretch of changes of one leaf that can be applied in one way.  Changes of the key go in
 * order, and with them what lies between two of them that are close.
 */
static Segment
next_segment(const Apply *apply, int first, bool ordered)
{
    Segment segment = {.first = first, .kind = ordered ? SEGMENT_ORDERED : SEGMENT_COALESCED};
    int quiet = 0; /* changes since the last one that needs order */

    if (apply->now->changes[first].kind == CHANGE_TRUNCATE)
        return (Segment){.kind = SEGMENT_TRUNCATE, .first = first, .count = 1};
    if (needs_order(apply, &apply->now->changes[first]))
        segment.kind = SEGMENT_ORDERED;
    for (int i = first; i < apply->now->count && apply->now->changes[i].kind != CHANGE_TRUNCATE &&
                        apply->now->changes[i].table == apply->now->changes[first].table;
         i++) {
        bool order = needs_order(apply, &apply->now->changes[i]);

        if (segment.kind == SEGMENT_COALESCED && order)
            break;
        quiet = order ? 0 : quiet + 1;
        segment.count = i - first + 1;
        if (segment.kind == SEGMENT_ORDERED && !ordered && quiet == COALESCE_MIN) {
            segment.count -= quiet;
            break;
        }
    }
    return segment;
}

/* While the server applies a batch, read the next one, if there is a whole one. */
static bool
read_ahead(Apply *apply, Err *err)
{
    int64_t limit = apply->run->settings->pull_batch_count;

    if (apply->has_ahead || apply->holder != NULL ||
        queue_unread(stream_queue(apply->stream)) < limit)
        return true;
    apply->has_ahead = batch_read(apply->reader, apply->ahead, &apply->now->end, limit, err);
    return apply->has_ahead;
}

static StageBatch
stage_batch(const Apply *apply)
{
    return (StageBatch){.holder = apply->holder,
                        .xids = apply->now->xids,
                        .xid_count = apply->now->xid_count,
                        .arena = apply->now->arena};
}

/*
 * Give the workers their parts of a batch; *count is what is left for our own session.  Only a whole
 * batch is divided, which is committed by itself, and none that is in a hurry.
 */
static bool
divide(Apply *apply, const Segment *segment, NetOp *ops, int *count, Err *err)
{
    const StageBatch batch = stage_batch(apply);
    bool may;

    if (apply->alone || segment->count != apply->now->count ||
        apply->run->definition.has_deferrable || apply->holder != NULL || apply->deadline_us != 0)
        return true;
    return workers_may_divide(apply->workers, *count, &may, err) &&
           (!may || (query_exec(apply->conn, "set local lock_timeout to '10s'", err) &&
                     workers_send(apply->workers, &batch, ops, *count, count, err)));
}

/* Set all sessions to work, and meanwhile do what can be done without them. */
static bool
apply_net(Apply *apply, const NetOp *ops, int count, Err *err)
{
    if (count > 0 && !stage_send(apply->stage, ops, count, err))
        return false;
    return read_ahead(apply, err) && (count == 0 || stage_collect(apply->stage, err)) &&
           (!workers_are_busy(apply->workers) || workers_collect(apply->workers, err));
}

static bool
apply_coalesced(Apply *apply, const Segment *segment, Err *err)
{
    NetOp *ops;
    int count;

    return coalesce(&apply->now->changes[segment->first], segment->count, &apply->key,
                    apply->now->arena, &ops, &count, err) &&
           divide(apply, segment, ops, &count, err) && apply_net(apply, ops, count, err);
}

/* A row that does not fit when it comes alone and in order does not fit at all: name it. */
static bool
name_failed_row(Apply *apply, const Change *change, Err *err)
{
    const Datum *row = change->kind == CHANGE_INSERT ? change->new_row : coalesce_old_key(change);

    query_rollback(apply->conn);
    apply->in_transaction = false;
    return err_wrap(err, "row %s changed meanwhile does not fit the new definition",
                    stage_describe_key(apply->stage, row));
}

static bool
apply_ordered(Apply *apply, const Segment *segment, Err *err)
{
    int failed;

    if (stage_apply_ordered(apply->stage, &apply->now->changes[segment->first], segment->count,
                            &failed, err))
        return true;
    if (err->kind == ERR_DATA && failed >= 0)
        return name_failed_row(apply, &apply->now->changes[segment->first + failed], err);
    return false;
}

static bool
apply_truncate(Apply *apply, Err *err)
{
    AUTO(Text) *sql =
        sql_build("truncate only %S", apply->run->leaves[apply->leaf].shadow_qualified);

    apply->until_truncate[apply->leaf] = false;
    return query_exec(apply->conn, sql, err);
}

static bool
apply_segment(Apply *apply, const Segment *segment, Err *err)
{
    bool skip;

    apply->leaf = apply->now->changes[segment->first].table;
    stage_aim(apply->stage, &apply->run->leaves[apply->leaf]);
    skip = apply->until_truncate[apply->leaf];
    switch (segment->kind) {
    case SEGMENT_TRUNCATE:
        return apply_truncate(apply, err);
    case SEGMENT_COALESCED:
        return skip || apply_coalesced(apply, segment, err);
    case SEGMENT_ORDERED:
        return skip || apply_ordered(apply, segment, err);
    }
    return false;
}

/*
 * Deferred constraints are only known to hold where the application's transaction ends; until then
 * the batches of one are savepoints in one transaction of ours.
 */
static bool
begin(Apply *apply, Err *err)
{
    const StageBatch batch = stage_batch(apply);
    int64_t left_ms = (apply->deadline_us - clock_now_us()) / 1000;
    BUF_AUTO(sql);

    if (apply->in_transaction)
        buf_add_text(&sql, "savepoint batch; set local statement_timeout to 0");
    else
        buf_add_text(&sql, apply->run->definition.has_deferrable
                               ? "begin; set constraints all deferred"
                               : "begin");
    /* a single slow statement must not outlast the lock */
    if (apply->deadline_us != 0)
        sql_add(&sql, "; set local statement_timeout to %D", left_ms > 0 ? left_ms : 1);
    return query_exec(apply->conn, buf_text(&sql), err) &&
           stage_begin(apply->stage, &batch, apply->in_transaction, err);
}

/* As if the batch had not begun. */
static void
undo(Apply *apply)
{
    Err ignored = {0};

    workers_undo(apply->workers);
    if (apply->in_transaction &&
        query_exec(apply->conn, "rollback to savepoint batch; release savepoint batch", &ignored))
        return;
    query_rollback(apply->conn);
    apply->in_transaction = false;
}

static bool
run_segments(Apply *apply, bool ordered, Err *err)
{
    if (!begin(apply, err))
        return false;
    for (int i = 0; i < apply->now->count;) {
        Segment segment = next_segment(apply, i, ordered);

        if (!apply_segment(apply, &segment, err))
            return false;
        i += segment.count;
    }
    return true;
}

static bool
must_stay_open(const Apply *apply)
{
    return apply->run->definition.has_deferrable && apply->now->end.is_open;
}

static bool
commit(Apply *apply, Err *err)
{
    bool divided = workers_are_busy(apply->workers);
    AUTO(Text) *position = NULL;
    AUTO(Text) *sql = NULL;

    if (must_stay_open(apply)) {
        if (apply->in_transaction && !query_exec(apply->conn, "release savepoint batch", err))
            return false;
        apply->in_transaction = true;
        return true;
    }
    FAULT_POINT("apply.uncommitted");
    if (divided && !workers_commit(apply->workers, &apply->now->end.position, err))
        return false;
    if (divided)
        FAULT_POINT("apply.parts_committed");
    position = state_position_sql(&apply->run->names, divided ? 0 : POSITION_OF_ALL,
                                  &apply->now->end.position);
    sql = sql_build("%S; commit", position);
    if (!query_exec(apply->conn, sql, err)) {
        /* the workers' parts are in */
        if (divided && err->kind != ERR_LOST && err->kind != ERR_STOPPED)
            err->kind = ERR_FAILED;
        return false;
    }
    apply->in_transaction = false;
    return true;
}

/*
 * What failed may work in another way: values that clash only inside a coalesced batch do not clash
 * in stream order, which also tells the row that does not fit; a row that is missing because the
 * original was emptied under the copy does not matter once the TRUNCATE comes; a deadlock or
 * serialization failure is tried again.
 */
static bool
may_try_again(Apply *apply, bool *ordered, int tries, Err *err)
{
    if (err->kind == ERR_DATA && !*ordered) {
        *ordered = true;
    } else if (err->kind == ERR_MISMATCH && apply->run->leaves[apply->leaf].place_changed &&
               !apply->until_truncate[apply->leaf]) {
        log_info("%s was rewritten or emptied during the copy; changes wait for the TRUNCATE",
                 apply->run->leaves[apply->leaf].qualified);
        apply->until_truncate[apply->leaf] = true;
    } else if (err->kind != ERR_RETRY || err->sqlstate[0] == '\0' || tries >= RETRIES_MAX) {
        return false;
    }
    err_clear(err);
    return true;
}

static bool
write_batch(Apply *apply, Err *err)
{
    bool waited = apply->in_transaction;
    bool ordered = false;

    for (int tries = 0;; tries++) {
        apply->alone = tries > 0;
        if (run_segments(apply, ordered, err) && commit(apply, err))
            return true;
        undo(apply);
        if (apply->deadline_us != 0 && err_is_canceled(err)) {
            err_clear(err);
            err_set(err, ERR_RETRY, "the changes could not be applied in time");
        }
        if (waited && !apply->in_transaction) {
            /* with the transaction, the batches that waited in it are gone */
            err->kind = err->kind == ERR_RETRY ? ERR_FAILED : err->kind;
            return false;
        }
        if (!may_try_again(apply, &ordered, tries, err))
            return false;
    }
}

/* Take back what was read and is not applied: whoever tries again gets the same messages. */
static void
read_again(Apply *apply)
{
    queue_rewind(stream_queue(apply->stream));
    apply->has_ahead = false;
}

/* Under the lock the time is looked at between two batches, so these are small. */
static bool
take_batch(Apply *apply, Err *err)
{
    int64_t limit = apply->run->settings->pull_batch_count;
    Batch *ahead = apply->ahead;

    if (apply->has_ahead && apply->holder == NULL) {
        apply->ahead = apply->now;
        apply->now = ahead;
        apply->has_ahead = false;
        return true;
    }
    if (apply->has_ahead)
        read_again(apply);
    if (apply->holder != NULL && limit > LOCKED_BATCH_MAX)
        limit = LOCKED_BATCH_MAX;
    return batch_read(apply->reader, apply->now, &apply->done, limit, err);
}

static bool
has_work(const Apply *apply)
{
    return apply->has_ahead || !queue_is_drained(stream_queue(apply->stream));
}

/*
 * Is it worth waiting for more?  A batch has its price whatever its size, and of many changes of few
 * rows it makes one each; so a small one only keeps the processor from decoding the backlog.
 */
static bool
is_gathering(const Apply *apply)
{
    Queue *queue = stream_queue(apply->stream);

    return !apply->has_ahead && !stream_is_paused(apply->stream) &&
           queue_unread(queue) < apply->run->settings->pull_batch_count &&
           stream_unsent_bytes(apply->stream) > GATHER_LAG_BYTES &&
           clock_now_us() - apply->applied_us < GATHER_US;
}

static bool
gather(Apply *apply, Err *err)
{
    while (is_gathering(apply))
        if (!loop_turn(apply->run->loop, apply->applied_us + GATHER_US, err))
            return false;
    return true;
}

bool
apply_batch(Apply *apply, Conn *holder, Err *err)
{
    Queue *queue = stream_queue(apply->stream);
    bool writes;

    if (!has_work(apply))
        return true;
    apply->holder = holder;
    if (holder == NULL && !gather(apply, err))
        return false;
    if (!take_batch(apply, err))
        return false;
    queue_mark(queue);
    writes = apply->now->count > 0 || (apply->in_transaction && !must_stay_open(apply));
    if (writes && !write_batch(apply, err)) {
        read_again(apply); /* the decoder only caches relations */
        return false;
    }
    FAULT_POINT("apply.committed");
    apply->applied_us = clock_now_us();
    apply->done = apply->now->end;
    apply->run->counters.changes_applied = apply->done.position.changes;
    queue_release_marked(queue);
    /* what has no change of ours is not stored for its own sake; see apply_note_idle */
    if (writes && !apply->in_transaction)
        apply->committed_lsn = apply->done.position.end_lsn;
    stream_set_applied(apply->stream, apply->committed_lsn,
                       !apply->done.is_open && !apply->in_transaction);
    return true;
}

bool
apply_note_idle(Apply *apply, Err *err)
{
    Position position = apply->done.position;
    AUTO(Text) *sql = NULL;
    Lsn idle_lsn = stream_idle_lsn(apply->stream);

    if (apply->done.is_open || apply->in_transaction || has_work(apply) ||
        idle_lsn <= apply->committed_lsn ||
        (idle_lsn < apply->committed_lsn + IDLE_STEP_BYTES &&
         clock_now_us() - apply->idle_us < IDLE_STEP_US))
        return true;
    position.end_lsn = idle_lsn;
    sql = state_position_sql(&apply->run->names, POSITION_OF_ALL, &position);
    if (!query_exec(apply->run->control, sql, err))
        return err_wrap(err, "storing the position");
    apply->done.position = position;
    apply->committed_lsn = idle_lsn;
    apply->idle_us = clock_now_us();
    stream_set_applied(apply->stream, idle_lsn, true);
    return true;
}

int64_t
apply_outstanding(const Apply *apply)
{
    return queue_changes(stream_queue(apply->stream));
}

int64_t
apply_fence(const Apply *apply)
{
    return apply->done.fence;
}

bool
apply_write_fence(Apply *apply, int64_t *marker, Err *err)
{
    return state_write_fence(apply->run->control, &apply->run->names, marker, err);
}

static bool
drain(Apply *apply, int64_t marker, int64_t deadline_us, Conn *holder, Err *err)
{
    while (apply->done.fence < marker || apply->in_transaction) {
        if (clock_now_us() >= deadline_us)
            return err_set(err, ERR_RETRY, "the stream was not drained in time");
        if (has_work(apply)) {
            if (!apply_batch(apply, holder, err))
                return false;
        } else if (!loop_turn(apply->run->loop, deadline_us, err)) {
            return false;
        }
    }
    return true;
}

/* Has every leaf that was rewritten during the copy got the TRUNCATE that explains it? */
static bool
check_truncates(const Apply *apply, Err *err)
{
    for (int i = 0; i < apply->run->leaf_count; i++)
        if (apply->until_truncate[i])
            return err_set(
                err, ERR_MISMATCH,
                "%s was rewritten during the copy and changes do not fit what was copied",
                apply->run->leaves[i].qualified);
    return true;
}

bool
apply_drain(Apply *apply, int64_t marker, int64_t deadline_us, Conn *holder, Err *err)
{
    bool ok;

    apply->deadline_us = holder == NULL ? 0 : deadline_us;
    ok = drain(apply, marker, deadline_us, holder, err);
    apply->deadline_us = 0;
    return ok && check_truncates(apply, err);
}

bool
apply_meanwhile(Apply *apply, Conn *conn, int64_t until_us, Err *err)
{
    while (clock_now_us() < until_us && (conn == NULL || !query_is_done(conn))) {
        /* asked before the batch: what arrives during it must not wait */
        bool idle = apply_outstanding(apply) == 0;

        if (!apply_batch(apply, NULL, err) ||
            !loop_turn(apply->run->loop, idle ? until_us : clock_now_us(), err))
            return false;
    }
    return true;
}

void
apply_expect_truncate(Apply *apply, int leaf)
{
    apply->until_truncate[leaf] = true;
}

void
apply_expect_no_truncate(Apply *apply, int leaf)
{
    apply->until_truncate[leaf] = false;
}

bool
apply_check_session(const Apply *apply, Err *err)
{
    return !conn_is_lost(apply->conn) || conn_explain_loss(apply->conn, err);
}

const Position *
apply_position(const Apply *apply)
{
    return &apply->done.position;
}
