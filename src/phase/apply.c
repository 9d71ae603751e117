/* Apply; see apply.h. */
#include "phase/apply.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/stage.h"

/* A batch ends at this many bytes of messages, or of what they became, whatever their number. */
static const size_t BATCH_BYTES = 8UL * 1024 * 1024;
static const size_t DECODED_BYTES = 16UL * 1024 * 1024;
/* Shorter stretches between changes of the key are not worth a round of statements. */
enum { COALESCE_MIN = 500, XIDS_MAX = 10000, RETRIES_MAX = 5, LOCKED_BATCH_MAX = 2000 };

/* Where reading stands, in the batch being read. */
typedef struct Cursor {
    Position position;
    int64_t fence;
    int64_t seen_fence; /* fence marker of the transaction being read */
    int64_t skip;       /* changes of a re-sent transaction that are applied already */
    uint32_t xid;       /* of the transaction being read */
    bool is_open;       /* inside a transaction */
} Cursor;

struct Apply {
    Migration *run;
    Conn *conn;
    Conn *holder;        /* see apply_batch */
    int64_t deadline_us; /* of a drain under the lock, 0 = no hurry */
    Stream *stream;
    Decoder *decoder;
    DecoderTable *tables; /* those of the leaves, and the fence */
    int leaf;             /* which one is worked on */
    Stage *stage;
    Arena *arena;
    RowKey key;
    bool hashable;   /* equal keys have equal bytes */
    Change *changes; /* the batch: row changes and truncates of the leaves */
    int count;
    int size;
    uint32_t xids[XIDS_MAX]; /* whose changes they are */
    int xid_count;
    Cursor done;          /* applied */
    Cursor next;          /* at the end of the batch */
    Lsn committed_lsn;    /* end of the last transaction whose changes are all committed */
    bool in_transaction;  /* batches wait for the end of the application's transaction */
    bool *until_truncate; /* per leaf: its shadow is wrong until a TRUNCATE comes */
    int64_t last_marker;
};

static void
describe_tables(Apply *apply)
{
    static const char *const fence_columns[] = {"marker"};
    const Migration *run = apply->run;
    size_t count = (size_t)run->leaf_count;

    apply->tables = arena_alloc(run->arena, (count + 1) * sizeof *apply->tables);
    apply->until_truncate = arena_alloc(run->arena, count * sizeof *apply->until_truncate);
    for (size_t i = 0; i < count; i++)
        apply->tables[i] = *run->leaves[i].stream;
    apply->tables[count] = (DecoderTable){.schema = "walter",
                                          .name = run->names.fence_name,
                                          .column_count = 1,
                                          .columns = fence_columns};
}

Apply *
apply_open(Migration *run, Stream *stream, Err *err)
{
    Apply *apply = mem_new(1, sizeof *apply);

    apply->run = run;
    apply->stream = stream;
    apply->arena = arena_new();
    apply->key = (RowKey){run->original.key, run->original.key_count, run->original.column_count};
    apply->hashable = true;
    for (int i = 0; i < run->original.key_count; i++)
        apply->hashable = apply->hashable && run->original.columns[run->original.key[i]].byte_equal;
    describe_tables(apply);
    apply->decoder = decoder_new(run->settings->plugin, apply->tables, run->leaf_count + 1);
    apply->done.position.end_lsn = run->consistent_lsn;
    apply->next = apply->done;
    apply->committed_lsn = run->consistent_lsn;
    apply->conn = migration_connect_owner(run, run->binary_stream ? CONN_EXPRESSIONS : CONN_SQL,
                                          "apply", err);
    if (apply->conn != NULL)
        apply->stage = stage_open(run, apply->conn, err);
    if (apply->stage == NULL) {
        apply_close(apply);
        return NULL;
    }
    return apply;
}

void
apply_close(Apply *apply)
{
    if (apply == NULL)
        return;
    stage_free(apply->stage);
    conn_close(apply->conn);
    decoder_free(apply->decoder);
    arena_free(apply->arena);
    free(apply->changes);
    free(apply);
}

/* ---- reading a batch ---- */

static void
keep_change(Apply *apply, const Change *change)
{
    if (apply->count == apply->size) {
        apply->size = apply->size == 0 ? 1024 : apply->size * 2;
        apply->changes = mem_grow(apply->changes, (size_t)apply->size, sizeof *apply->changes);
    }
    apply->changes[apply->count++] = *change;
}

/* A bigint in text or binary; the fence's marker. */
static int64_t
marker_of(const Datum *datum)
{
    char text[24] = {0};
    uint64_t value = 0;

    if (datum->kind == DATUM_BINARY && datum->len == 8) {
        for (int i = 0; i < 8; i++)
            value = value << 8 | datum->bytes[i];
        return (int64_t)value;
    }
    if (datum->kind != DATUM_TEXT || datum->len >= sizeof text)
        return 0;
    memcpy(text, datum->bytes, datum->len);
    return strtoll(text, NULL, 10);
}

/* A row with its values where the original's columns are. */
static const Datum *
arrange(const Apply *apply, const int *order, const Datum *row)
{
    size_t count = (size_t)apply->key.column_count;
    Datum *arranged;

    if (order == NULL || row == NULL)
        return row;
    arranged = arena_alloc(apply->arena, count * sizeof *arranged);
    for (size_t i = 0; i < count; i++)
        arranged[i] = row[order[i]];
    return arranged;
}

/* A change of a leaf, unless it is applied already. */
static void
take_leaf_change(Apply *apply, const Change *change, int leaf)
{
    const int *order = apply->run->leaves[leaf].order;
    Cursor *next = &apply->next;
    Change arranged = *change;

    next->position.ordinal++;
    if (next->position.ordinal <= next->skip)
        return;
    arranged.table = leaf;
    arranged.new_row = arrange(apply, order, change->new_row);
    arranged.old_row = arrange(apply, order, change->old_row);
    keep_change(apply, &arranged);
}

static bool
is_fence(const Apply *apply, int table)
{
    return table == apply->run->leaf_count;
}

static void
take_row_change(Apply *apply, const Change *change)
{
    if (!is_fence(apply, change->table))
        take_leaf_change(apply, change, change->table);
    else if (change->kind == CHANGE_UPDATE)
        apply->next.seen_fence = marker_of(&change->new_row[0]);
}

static void
take_truncate(Apply *apply, const Change *change)
{
    for (int i = 0; i < change->truncated_count; i++)
        if (!is_fence(apply, change->truncated[i]))
            take_leaf_change(apply, change, change->truncated[i]);
}

static void
take_change(Apply *apply, const Change *change)
{
    Cursor *next = &apply->next;

    switch (change->kind) {
    case CHANGE_NONE:
        return;
    case CHANGE_BEGIN:
        next->skip = next->position.open_lsn == change->commit_lsn ? next->position.ordinal : 0;
        next->position.open_lsn = change->commit_lsn;
        next->position.ordinal = 0;
        next->is_open = true;
        next->seen_fence = 0;
        next->xid = change->xid;
        apply->xids[apply->xid_count++] = change->xid;
        return;
    case CHANGE_COMMIT:
        next->position.end_lsn = change->end_lsn;
        next->position.open_lsn = LSN_INVALID;
        next->position.ordinal = 0;
        next->is_open = false;
        if (next->seen_fence > next->fence)
            next->fence = next->seen_fence;
        return;
    case CHANGE_INSERT:
    case CHANGE_UPDATE:
    case CHANGE_DELETE:
        take_row_change(apply, change);
        return;
    case CHANGE_TRUNCATE:
        take_truncate(apply, change);
        return;
    }
}

static bool
has_room(const Apply *apply, int64_t limit, size_t bytes)
{
    return apply->count < limit && apply->xid_count < XIDS_MAX && bytes < BATCH_BYTES &&
           arena_bytes(apply->arena) < DECODED_BYTES;
}

/*
 * Bring the changes of each leaf together, in their order.  Leaves have no constraint in common, for
 * a unique one of all of them contains what decides which leaf a row is in; so it does not matter
 * which leaf is first.
 */
static void
sort_by_leaf(Apply *apply)
{
    size_t bytes = (size_t)apply->count * sizeof *apply->changes;
    Change *before;
    int *ends;

    if (apply->run->leaf_count == 1 || apply->count == 0)
        return;
    ends = arena_alloc(apply->arena, (size_t)(apply->run->leaf_count + 1) * sizeof *ends);
    before = memcpy(arena_alloc(apply->arena, bytes), apply->changes, bytes);
    for (int i = 0; i < apply->count; i++)
        ends[before[i].table + 1]++;
    for (int leaf = 0; leaf < apply->run->leaf_count; leaf++)
        ends[leaf + 1] += ends[leaf];
    for (int i = 0; i < apply->count; i++)
        apply->changes[ends[before[i].table]++] = before[i];
}

static bool
read_batch(Apply *apply, int64_t limit, Err *err)
{
    Queue *queue = stream_queue(apply->stream);
    size_t bytes = 0;
    QueueRecord record;

    apply->count = 0;
    apply->next = apply->done;
    apply->xid_count = 0;
    if (apply->done.is_open)
        apply->xids[apply->xid_count++] = apply->done.xid;
    while (has_room(apply, limit, bytes) && queue_read(queue, &record)) {
        Change change;

        if (!decoder_read(apply->decoder, record.bytes, record.len, record.wal_end_lsn,
                          apply->arena, &change, err))
            return err_wrap(err, "decoding the stream");
        take_change(apply, &change);
        bytes += record.len;
    }
    apply->next.position.changes += apply->count;
    sort_by_leaf(apply);
    return true;
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

    if (apply->changes[first].kind == CHANGE_TRUNCATE)
        return (Segment){.kind = SEGMENT_TRUNCATE, .first = first, .count = 1};
    if (needs_order(apply, &apply->changes[first]))
        segment.kind = SEGMENT_ORDERED;
    for (int i = first; i < apply->count && apply->changes[i].kind != CHANGE_TRUNCATE &&
                        apply->changes[i].table == apply->changes[first].table;
         i++) {
        bool order = needs_order(apply, &apply->changes[i]);

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

static bool
apply_coalesced(Apply *apply, const Segment *segment, Err *err)
{
    NetOp *ops;
    int count;

    return coalesce(&apply->changes[segment->first], segment->count, &apply->key, apply->arena,
                    &ops, &count, err) &&
           (count == 0 || stage_apply(apply->stage, ops, count, err));
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

    if (stage_apply_ordered(apply->stage, &apply->changes[segment->first], segment->count, &failed,
                            err))
        return true;
    if (err->kind == ERR_DATA && failed >= 0)
        return name_failed_row(apply, &apply->changes[segment->first + failed], err);
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

    apply->leaf = apply->changes[segment->first].table;
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
    const StageBatch batch = {.holder = apply->holder,
                              .xids = apply->xids,
                              .xid_count = apply->xid_count,
                              .arena = apply->arena};
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
    for (int i = 0; i < apply->count;) {
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
    return apply->run->definition.has_deferrable && apply->next.is_open;
}

static bool
commit(Apply *apply, Err *err)
{
    AUTO(Text) *position = NULL;
    AUTO(Text) *sql = NULL;

    if (must_stay_open(apply)) {
        if (apply->in_transaction && !query_exec(apply->conn, "release savepoint batch", err))
            return false;
        apply->in_transaction = true;
        return true;
    }
    position = state_position_sql(&apply->run->names, &apply->next.position);
    sql = sql_build("%S; commit", position);
    if (!query_exec(apply->conn, sql, err))
        return false;
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

bool
apply_batch(Apply *apply, Conn *holder, Err *err)
{
    Queue *queue = stream_queue(apply->stream);
    int64_t limit = apply->run->settings->pull_batch_count;

    if (queue_is_drained(queue))
        return true;
    if (!queue_load(queue, err))
        return false;
    arena_reset(apply->arena);
    apply->holder = holder;
    /* under the lock the time is looked at between two batches */
    if (holder != NULL && limit > LOCKED_BATCH_MAX)
        limit = LOCKED_BATCH_MAX;
    if (!read_batch(apply, limit, err))
        return false;
    if ((apply->count > 0 || (apply->in_transaction && !must_stay_open(apply))) &&
        !write_batch(apply, err)) {
        /* whoever tries again gets the same messages; the decoder only caches relations */
        queue_rewind(queue);
        return false;
    }
    apply->done = apply->next;
    apply->run->counters.changes_applied = apply->done.position.changes;
    queue_release(queue);
    if (!apply->in_transaction)
        apply->committed_lsn = apply->done.position.end_lsn;
    stream_set_applied(apply->stream, apply->committed_lsn,
                       !apply->done.is_open && !apply->in_transaction);
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
    *marker = ++apply->last_marker;
    return state_write_fence(apply->run->control, &apply->run->names, *marker, err);
}

static bool
drain(Apply *apply, int64_t marker, int64_t deadline_us, Conn *holder, Err *err)
{
    while (apply->done.fence < marker || apply->in_transaction) {
        if (clock_now_us() >= deadline_us)
            return err_set(err, ERR_RETRY, "the stream was not drained in time");
        if (!queue_is_drained(stream_queue(apply->stream))) {
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
