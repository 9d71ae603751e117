/*
 * Phase "copy": the snapshot's rows, in chunks of consecutive blocks.
 *
 * Each chunk is read under the keeper's snapshot by one session and written by another, and is
 * committed by itself: every logical slot of the database must decode what we write, and a large
 * transaction would spill.  No lock on the original outlives its chunk; instead each chunk checks,
 * under its own lock, that the original's blocks are still where they were.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/chunks.h"
#include "phase/copy_sql.h"
#include "phase/others.h"
#include "phase/pace.h"
#include "phase/renewal.h"
#include "phase/resume.h"
#include "phase/slotwait.h"
#include "phase/tree.h"

/*
 * What all chunks in flight may take in the memory of a decoder: half of the default
 * logical_decoding_work_mem, so that no slot of the database spills our transactions to disk, which
 * costs it three times as much.
 */
static const int64_t IN_FLIGHT_BYTES = 32 * INT64_C(1024) * 1024;

/*
 * Where rows are larger than the table's size makes one expect, or where the server allows less, a
 * chunk is written in several transactions.  So much of logical_decoding_work_mem, in percent, may
 * be in flight.
 */
enum { MOST_PERCENT = 75 };
enum { BUFFER_BYTES = 128 * 1024, BLOCK_BYTES = 8192, RESTARTS_MAX = 5 };

/*
 * No chunk waits for the disk: one that a crash of the server takes back is no loss, since the run
 * dies with its snapshot, and the swap's own commit flushes all WAL before it.
 */
static const char SQL_NO_WAIT[] = "set synchronous_commit to off";

typedef enum {
    WORKER_IDLE = 0,
    WORKER_OPENING,  /* both ends are told to begin */
    WORKER_PIPING,   /* rows go from one end to the other */
    WORKER_ENDING,   /* the transaction is large enough: the writing end finishes it ... */
    WORKER_RENEWING, /* ... and begins the next one */
    WORKER_CHECKING, /* all rows are read: are the blocks still in place? */
    WORKER_CLOSING,  /* the writing end finishes */
    WORKER_COMMITTING
} WorkerState;

/* One pipe: a session that reads the original and one that writes the shadow. */
typedef struct Worker {
    Conn *reader;
    Conn *writer;
    WorkerState state;
    Chunk chunk;
    int64_t rows_read; /* in this chunk, for naming a row that does not fit */
    int64_t rows_written;
    int64_t bytes;      /* of the chunk, as the server sends them */
    int64_t open_bytes; /* what a decoder has to keep of the writer's transaction */
    int64_t began_us;   /* ... this chunk */
    int64_t next_us;    /* when the next one may begin */
    Buf buffer;
} Worker;

struct Copy {
    Worker *workers;
    int worker_count;
    Chunks *chunks;
    Pace pace;
    int restarts;
    int64_t most_open_bytes;
    SlotWait wait;    /* for a newer snapshot */
    int64_t renew_us; /* when the next one is due */
    bool is_resting;  /* no chunk begins, because the snapshot is about to be replaced */
};

static bool
uses_insert(const Migration *run)
{
    return run->projection.is_copy_statement;
}

static bool
open_worker(Migration *run, Worker *worker, Err *err)
{
    ConnKind kind = run->binary_copy || uses_insert(run) ? CONN_EXPRESSIONS : CONN_SQL;

    worker->state = WORKER_IDLE;
    worker->writer = migration_connect_owner(run, kind, "copy to", err);
    if (worker->writer == NULL || !query_exec(worker->writer, SQL_NO_WAIT, err))
        return false;
    if (uses_insert(run))
        return true;
    worker->reader = migration_connect_owner(run, kind, "copy from", err);
    return worker->reader != NULL;
}

static void
close_worker(Worker *worker)
{
    conn_close(worker->reader);
    conn_close(worker->writer);
    buf_done(&worker->buffer);
    *worker = (Worker){0};
}

/* How large is what is to be copied? */
static bool
measure(Migration *run, Copy *copy, Err *err)
{
    int64_t most_bytes = IN_FLIGHT_BYTES / others_most_jobs(run);

    return chunks_measure(run, copy->chunks, pace_chunk_bytes(&copy->pace, most_bytes), err);
}

/* How large may one writer's transaction become? */
static bool
limit_transactions(Migration *run, Copy *copy, Err *err)
{
    static const char SQL[] = "select pg_catalog.pg_size_bytes(pg_catalog.current_setting("
                              "'logical_decoding_work_mem'))";
    AUTO(Rows) *rows = NULL;
    int64_t most_bytes;

    if (!query_one(run->control, SQL, NULL, &rows, err))
        return false;
    most_bytes = rows_int(rows, 0, 0);
    /* whose slot allows more may not be ours */
    if (most_bytes > 2 * IN_FLIGHT_BYTES)
        most_bytes = 2 * IN_FLIGHT_BYTES;
    copy->most_open_bytes = most_bytes / 100 * MOST_PERCENT / others_most_jobs(run);
    return true;
}

/* As many as there are chunks, but not more than jobs. */
static int
choose_worker_count(const Migration *run, const Copy *copy)
{
    int64_t chunks = chunks_count(copy->chunks);

    return chunks < others_most_jobs(run) ? (int)chunks : others_most_jobs(run);
}

static void
say_what_comes(const Migration *run)
{
    const Copy *copy = run->copy;
    const char *how = run->binary_copy || uses_insert(run) ? "" : ", as text";

    if (run->leaf_count == 1)
        log_info("copying %lld blocks in chunks of %lld, %d at a time%s",
                 (long long)run->counters.blocks_total, (long long)chunks_blocks(copy->chunks, 0),
                 copy->worker_count, how);
    else
        log_info("copying %lld blocks of %d partitions in chunks, %d at a time%s",
                 (long long)run->counters.blocks_total, run->leaf_count, copy->worker_count, how);
}

static void
add_select(const Migration *run, Buf *sql, const Worker *worker)
{
    BUF_AUTO(chunk);

    copy_add_chunk(run, &chunk, &worker->chunk);
    copy_add_select(run, sql, buf_text(&chunk));
}

static bool
start_chunk(const Migration *run, Worker *worker, Err *err)
{
    BUF_AUTO(read);
    BUF_AUTO(write);

    worker->rows_read = worker->rows_written = worker->bytes = worker->open_bytes = 0;
    worker->began_us = clock_now_us();
    worker->state = WORKER_OPENING;
    if (uses_insert(run)) {
        copy_add_begin(run, &write);
        sql_add(&write, "insert into %S (%S) overriding system value ",
                run->leaves[worker->chunk.leaf].shadow_qualified, run->outputs);
        add_select(run, &write, worker);
        return query_send(worker->writer, buf_text(&write), err);
    }
    /* not read only: a new column's default may take numbers from a sequence */
    copy_add_begin(run, &read);
    if (!run->binary_copy)
        buf_add_text(&read, conn_role_inputs(worker->reader));
    buf_add_text(&read, "copy (");
    add_select(run, &read, worker);
    sql_add(&read, ") to stdout%S", run->binary_copy ? " (format binary)" : "");
    copy_add_write(run, &write, worker->chunk.leaf);
    return query_send(worker->reader, buf_text(&read), err) &&
           query_send(worker->writer, buf_text(&write), err);
}

/*
 * Which row of the chunk did not fit?  The scan order of a chunk is fixed, so its key can be read
 * again: the reader fails on the row after those it sent, the writer says the line (libpq shows a
 * writer's error only at the end of the COPY; until then the server drops what still comes).
 */
static bool
name_failed_row(Migration *run, const Worker *worker, int64_t row, Err *err)
{
    Err ignored = {0};
    BUF_AUTO(sql);
    AUTO(Conn) *conn = NULL;
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(names);
    BUF_AUTO(values);

    if (err->kind != ERR_DATA || row < 0)
        return false;
    copy_add_begin(run, &sql);
    buf_add_text(&sql, "select ");
    for (int i = 0; i < run->original.key_count; i++)
        sql_add(&sql, "%Sc.%I::text", i == 0 ? "" : ", ",
                run->original.columns[run->original.key[i]].name);
    buf_add_text(&sql, " from ");
    copy_add_chunk(run, &sql, &worker->chunk);
    sql_add(&sql, " c offset %D limit 1", row);
    conn = migration_connect_owner(run, CONN_SQL, "row", &ignored);
    if (conn == NULL || !query_simple(conn, buf_text(&sql), &rows, &ignored) ||
        rows_count(rows) != 1)
        return false;
    for (int i = 0; i < run->original.key_count; i++) {
        buf_printf(&names, "%s%s", i == 0 ? "" : ", ",
                   run->original.columns[run->original.key[i]].name);
        buf_printf(&values, "%s%.200s", i == 0 ? "" : ", ", rows_text(rows, 0, i));
    }
    return err_wrap(err, "row (%s)=(%s) does not fit the new definition", buf_text(&names),
                    buf_text(&values));
}

static bool
advance_opening(Migration *run, Worker *worker, Err *err)
{
    if (!query_is_done(worker->writer) ||
        (worker->reader != NULL && !query_is_done(worker->reader)))
        return true;
    if (uses_insert(run)) {
        AUTO(Rows) *rows = NULL;

        if (!query_finish(worker->writer, &rows, err))
            return false;
        worker->rows_written = rows_affected(rows);
        /* nobody has seen them; as much as there may be */
        worker->bytes = chunks_blocks(run->copy->chunks, worker->chunk.leaf) * BLOCK_BYTES;
        worker->state = WORKER_CHECKING;
        return true;
    }
    /* the reader may fail on its first row, before a COPY begins */
    if (!query_finish(worker->reader, NULL, err))
        return name_failed_row(run, worker, 0, err);
    if (!query_finish(worker->writer, NULL, err))
        return false;
    worker->state = WORKER_PIPING;
    return true;
}

static bool
flush_buffer(Worker *worker, Err *err)
{
    bool full;

    if (worker->buffer.len == 0)
        return true;
    if (!copydata_write(worker->writer, worker->buffer.data, (int)worker->buffer.len, &full, err))
        return false;
    buf_clear(&worker->buffer);
    return true;
}

static bool
end_reading(Migration *run, Worker *worker, Err *err)
{
    if (!query_finish(worker->reader, NULL, err))
        return name_failed_row(run, worker, worker->rows_read, err);
    if (!flush_buffer(worker, err))
        return false;
    worker->state = WORKER_CHECKING;
    return true;
}

/* The writer commits what it has; the reader goes on with the chunk, its lock and its snapshot. */
static bool
end_transaction(Worker *worker, Err *err)
{
    conn_set_reading(worker->reader, false);
    worker->state = WORKER_ENDING;
    return flush_buffer(worker, err) && copydata_end(worker->writer, NULL, err);
}

/* The writer has taken all that it was sent. */
static bool
count_written(Migration *run, Worker *worker, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_finish(worker->writer, &rows, err)) {
        int64_t line = query_copy_line(worker->writer);

        return line > 0 && name_failed_row(run, worker, worker->rows_written + line - 1, err);
    }
    worker->rows_written += rows_affected(rows);
    return true;
}

static bool
advance_ending(Migration *run, Worker *worker, Err *err)
{
    AUTO(Text) *note = NULL;
    BUF_AUTO(sql);

    if (!query_is_done(worker->writer))
        return true;
    if (!count_written(run, worker, err))
        return false;
    note = chunks_note_sql(run, &worker->chunk, worker->rows_written, false);
    sql_add(&sql, "%S; commit; ", note);
    copy_add_write(run, &sql, worker->chunk.leaf);
    worker->state = WORKER_RENEWING;
    return query_send(worker->writer, buf_text(&sql), err);
}

static bool
advance_renewing(Migration *run, Worker *worker, Err *err)
{
    if (!query_is_done(worker->writer))
        return true;
    if (!query_finish(worker->writer, NULL, err))
        return false;
    FAULT_POINT("copy.part_committed");
    run->others.own_writes++;
    worker->open_bytes = 0;
    if (run->binary_copy)
        copydata_add_header(&worker->buffer);
    worker->state = WORKER_PIPING;
    return true;
}

static bool
advance_piping(Migration *run, Worker *worker, Err *err)
{
    for (;;) {
        CopyDataRead what;
        char *data;
        int len;
        bool full = copydata_is_full(worker->writer);

        /* else libpq would go on buffering what the reader sends */
        conn_set_reading(worker->reader, !full);
        if (full)
            return true;
        if (!copydata_read(worker->reader, &what, &data, &len, err))
            return false;
        if (what == COPYDATA_WAIT)
            return true;
        if (what == COPYDATA_END)
            return end_reading(run, worker, err);
        buf_add(&worker->buffer, data, (size_t)len);
        worker->rows_read += copydata_is_row(data, len) ? 1 : 0;
        FAULT_POINT("copy.piping");
        copydata_free(data);
        worker->bytes += len;
        worker->open_bytes += len + CHUNKS_ROW_BYTES;
        if (worker->open_bytes >= run->copy->most_open_bytes)
            return end_transaction(worker, err);
        if (worker->buffer.len >= BUFFER_BYTES && !flush_buffer(worker, err))
            return false;
    }
}

/* Is the original, which the reader still holds locked, what and where it was? */
static bool
check_place(Migration *run, Worker *worker, bool *moved, Err *err)
{
    Conn *holder = uses_insert(run) ? worker->writer : worker->reader;
    const Leaf *leaf = &run->leaves[worker->chunk.leaf];
    uint32_t oid;
    uint32_t filenode;

    if (!catalog_read_place(holder, leaf->qualified, &oid, &filenode, err))
        return false;
    if (oid != leaf->oid)
        return err_set(err, ERR_FAILED, "table %s was replaced during the copy", leaf->qualified);
    *moved = filenode != leaf->filenode;
    return true;
}

static bool
find_leaves(Migration *run, Err *err)
{
    for (int i = 0; i < run->leaf_count; i++) {
        Leaf *leaf = &run->leaves[i];
        uint32_t before = leaf->filenode;
        uint32_t oid;

        if (!catalog_read_place(run->control, leaf->qualified, &oid, &leaf->filenode, err))
            return false;
        leaf->place_changed = leaf->place_changed || leaf->filenode != before;
    }
    return true;
}

/* Where are the leaves now, and how large?  A lock on one may be somebody's for a long time. */
static bool
find_again(Migration *run, Copy *copy, Err *err)
{
    while (!migration_follow_definition(run, run->control, err) || !find_leaves(run, err) ||
           !measure(run, copy, err)) {
        if (err->kind != ERR_RETRY)
            return false;
        err_clear(err);
        if (!loop_pause(run->loop, 200000, err))
            return false;
    }
    return true;
}

/*
 * VACUUM FULL and CLUSTER renumber all blocks: empty the shadow and copy again.  After a TRUNCATE
 * the snapshot sees no row any more; where it saw some before, only a TRUNCATE in the stream
 * justifies that.
 */
static bool
restart(Migration *run, int moved, Err *err)
{
    Copy *copy = run->copy;
    BUF_AUTO(sql);

    if (++copy->restarts > RESTARTS_MAX)
        return err_set(err, ERR_FAILED, "%s was rewritten again and again during the copy",
                       run->leaves[moved].qualified);
    log_warning("%s was rewritten or emptied during the copy; copying %s again",
                run->leaves[moved].qualified, run->leaf_count == 1 ? "it" : "all partitions");
    /* first our own locks: somebody may wait for them, and we for him */
    for (int i = 0; i < copy->worker_count; i++) {
        if (copy->workers[i].state != WORKER_IDLE && copy->workers[i].rows_read > 0)
            chunks_note_seen(copy->chunks, copy->workers[i].chunk.leaf);
        close_worker(&copy->workers[i]);
    }
    for (int i = 0; i < run->leaf_count; i++)
        sql_add(&sql, "%Sonly %S", i == 0 ? "begin; truncate " : ", ",
                run->leaves[i].shadow_qualified);
    sql_add(&sql, "; delete from %S; delete from %S; commit", run->names.copied,
            run->names.touched);
    if (!find_again(run, copy, err) || !resume_note_rewritten(run, err))
        return false;
    for (int i = 0; i < copy->worker_count; i++)
        if (!open_worker(run, &copy->workers[i], err))
            return false;
    return query_exec(copy->workers[0].writer, buf_text(&sql), err);
}

/* All chunks are committed. */
static Step
finish_copy(Migration *run, Err *err)
{
    FAULT_POINT("copy.done");
    if (!renewal_check_count(run, err))
        return STEP_FAILED;
    for (int i = 0; i < run->leaf_count; i++)
        if (chunks_lost_rows(run->copy->chunks, i))
            apply_expect_truncate(run->apply, i);
    return migration_check_step(run, STEP_DONE, err);
}

static bool
advance_checking(Migration *run, Worker *worker, Err *err)
{
    bool moved = false;

    if (!check_place(run, worker, &moved, err))
        return false;
    if (moved)
        return restart(run, worker->chunk.leaf, err);
    if (worker->reader != NULL && !query_exec(worker->reader, "commit", err))
        return false;
    worker->state = WORKER_CLOSING;
    return uses_insert(run) || copydata_end(worker->writer, NULL, err);
}

static bool
advance_closing(Migration *run, Worker *worker, Err *err)
{
    AUTO(Text) *note = NULL;
    AUTO(Text) *sql = NULL;

    if (!uses_insert(run)) {
        if (!query_is_done(worker->writer))
            return true;
        if (!count_written(run, worker, err))
            return false;
    }
    note = chunks_note_sql(run, &worker->chunk, worker->rows_written, true);
    sql = sql_build("%S; commit", note);
    FAULT_POINT("copy.chunk_uncommitted");
    worker->state = WORKER_COMMITTING;
    return query_send(worker->writer, sql, err);
}

static bool
advance_committing(Migration *run, Worker *worker, Err *err)
{
    FAULT_POINT("copy.commit_sent");
    if (!query_is_done(worker->writer))
        return true;
    if (!query_finish(worker->writer, NULL, err))
        return false;
    run->others.own_writes++;
    chunks_note_copied(run, run->copy->chunks, &worker->chunk, worker->rows_written);
    FAULT_POINT("copy.chunk_done");
    run->copy->pace.brake = walbudget_brake(&run->wal);
    worker->next_us = pace_next(&run->copy->pace, worker->bytes, worker->began_us, clock_now_us());
    worker->state = WORKER_IDLE;
    return true;
}

/* Begin the next chunk, if there is one and it is this worker's turn. */
static bool
advance_idle(Migration *run, Worker *worker, Err *err)
{
    if (run->copy->is_resting || worker - run->copy->workers >= others_jobs(run) ||
        clock_now_us() < worker->next_us || !chunks_take(run->copy->chunks, &worker->chunk))
        return true;
    FAULT_POINT("copy.chunk_taken");
    return start_chunk(run, worker, err);
}

static bool
advance(Migration *run, Worker *worker, Err *err)
{
    switch (worker->state) {
    case WORKER_IDLE:
        return advance_idle(run, worker, err);
    case WORKER_OPENING:
        return advance_opening(run, worker, err);
    case WORKER_PIPING:
        return advance_piping(run, worker, err);
    case WORKER_ENDING:
        return advance_ending(run, worker, err);
    case WORKER_RENEWING:
        return advance_renewing(run, worker, err);
    case WORKER_CHECKING:
        return advance_checking(run, worker, err);
    case WORKER_CLOSING:
        return advance_closing(run, worker, err);
    case WORKER_COMMITTING:
        return advance_committing(run, worker, err);
    }
    return false;
}

/* When to look again though nothing has come: half a second at most, or when a worker may go on. */
static int64_t
wake_us(const Copy *copy)
{
    int64_t now_us = clock_now_us();
    int64_t wake = now_us + 500000;

    for (int i = 0; i < copy->worker_count; i++) {
        const Worker *worker = &copy->workers[i];

        if (worker->state == WORKER_IDLE && worker->next_us > now_us && worker->next_us < wake)
            wake = worker->next_us;
    }
    return wake;
}

/* ---- a newer snapshot ---- */

/* The snapshot is replaced; a rewrite that is noticed only now begins the copy anew under it. */
static bool
settle(Migration *run, Copy *copy, Err *err)
{
    int moved = -1;

    if (!renewal_settle(run, copy->chunks, copy->most_open_bytes, &moved, err))
        return false;
    copy->renew_us = clock_now_us() + run->settings->snapshot_max_age_s * 1000000;
    return moved < 0 || restart(run, moved, err);
}

/* A run that goes on has a newer snapshot than the one that its rows were copied under. */
static bool
go_on_from_before(Migration *run, Copy *copy, Err *err)
{
    if (run->record == NULL)
        return true;
    if (!chunks_load(run, copy->chunks, err) || !settle(run, copy, err))
        return false;
    log_info("%lld of %lld blocks were copied before", (long long)run->counters.blocks_copied,
             (long long)run->counters.blocks_total);
    return true;
}

/* Is there enough left to copy? */
static bool
is_worth_a_snapshot(const Migration *run)
{
    const Counters *counters = &run->counters;

    return counters->blocks_total - counters->blocks_copied > counters->blocks_total / 20;
}

/* What keeps us from a newer snapshot is no reason to fail: the old one is as good, but for vacuum. */
static bool
do_without(Migration *run, Copy *copy, Err *err)
{
    if (err->kind == ERR_LOST || err->kind == ERR_STOPPED)
        return false;
    log_info("the copy keeps its snapshot, which holds back vacuum: %s", err->message);
    err_clear(err);
    slotwait_done(&copy->wait);
    copy->is_resting = false;
    copy->renew_us = clock_now_us() + run->settings->snapshot_max_age_s * 1000000;
    return true;
}

/* All chunks are committed, and the snapshot is there. */
static bool
take_snapshot(Migration *run, Copy *copy, Err *err)
{
    Snapshot snapshot;

    if (!slotwait_take(run, &copy->wait, &snapshot, err))
        return do_without(run, copy, err);
    slotwait_done(&copy->wait);
    renewal_adopt(run, &snapshot);
    copy->is_resting = false;
    return settle(run, copy, err);
}

/* Ask for a newer snapshot in time, and take it when it is there; the copy goes on meanwhile. */
static bool
renew(Migration *run, Copy *copy, bool busy, Err *err)
{
    if (copy->wait.conn == NULL) {
        if (run->settings->snapshot_max_age_s == 0 || clock_now_us() < copy->renew_us ||
            !is_worth_a_snapshot(run))
            return true;
        return slotwait_begin(run, &copy->wait, true, err) || do_without(run, copy, err);
    }
    if (!slotwait_is_ready(&copy->wait))
        return slotwait_report(run, &copy->wait, err) || do_without(run, copy, err);
    copy->is_resting = true;
    return busy || take_snapshot(run, copy, err);
}

static void
name_outputs(Migration *run)
{
    BUF_AUTO(outputs);

    for (int i = 0; i < run->projection.output_count; i++)
        sql_add(&outputs, "%S%I", i == 0 ? "" : ", ", run->projection.outputs[i].name);
    run->outputs = arena_copy(run->arena, buf_text(&outputs), outputs.len);
}

static bool
open_workers(Migration *run, Copy *copy, Err *err)
{
    copy->worker_count = choose_worker_count(run, copy);
    copy->workers = mem_new((size_t)copy->worker_count, sizeof *copy->workers);
    for (int i = 0; i < copy->worker_count; i++)
        if (!open_worker(run, &copy->workers[i], err))
            return false;
    return true;
}

bool
copy_enter(Migration *run, Err *err)
{
    Copy *copy;

    name_outputs(run);
    if (run->copy_is_done)
        return true;
    run->copy = copy = mem_new(1, sizeof *copy);
    copy->chunks = chunks_new(run);
    copy->pace = (Pace){.max_rate = run->settings->max_rate, .nice = run->settings->nice};
    copy->renew_us = clock_now_us() + run->settings->snapshot_max_age_s * 1000000;
    if (!measure(run, copy, err) || !limit_transactions(run, copy, err))
        return err_wrap(err, "measuring %s", run->original.qualified);
    if (!open_workers(run, copy, err) || !go_on_from_before(run, copy, err) ||
        !others_look(run, err))
        return false;
    say_what_comes(run);
    return true;
}

void
copy_leave(Migration *run)
{
    Copy *copy = run->copy;

    if (copy == NULL)
        return;
    for (int i = 0; i < copy->worker_count; i++)
        close_worker(&copy->workers[i]);
    slotwait_done(&copy->wait);
    free(copy->workers);
    chunks_free(copy->chunks);
    free(copy);
    run->copy = NULL;
    /* from here on the slot alone is enough, and vacuum is free again */
    conn_close(run->keeper);
    run->keeper = NULL;
}

Step
copy_step(Migration *run, Err *err)
{
    Copy *copy = run->copy;
    bool moved = false; /* some worker reached another state */
    bool busy = false;

    if (copy == NULL)
        return STEP_DONE;
    for (int i = 0; i < copy->worker_count; i++) {
        WorkerState before = copy->workers[i].state;

        if (!advance(run, &copy->workers[i], err)) {
            err_wrap(err, "copying %s", run->original.qualified);
            return STEP_FAILED;
        }
        moved = moved || copy->workers[i].state != before;
        busy = busy || copy->workers[i].state != WORKER_IDLE;
    }
    if (!busy && chunks_are_taken(copy->chunks))
        return finish_copy(run, err);
    if (!renew(run, copy, busy, err) || !migration_check_now_and_then(run, err) ||
        !others_look(run, err))
        return STEP_FAILED;
    return moved || loop_turn(run->loop, wake_us(copy), err) ? STEP_MORE : STEP_FAILED;
}
