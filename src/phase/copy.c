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
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/chunks.h"
#include "phase/others.h"
#include "phase/pace.h"
#include "phase/pipe.h"
#include "phase/renewal.h"
#include "phase/resume.h"
#include "phase/slotwait.h"

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
enum { BLOCK_BYTES = 8192, RESTARTS_MAX = 5 };

struct Copy {
    Pipe *pipes;
    int pipe_count;
    Chunks *chunks;
    Pace pace;
    int restarts;
    int64_t inserted_chunks;
    int64_t copied_chunks;
    int64_t most_open_bytes;
    SlotWait wait;    /* for a newer snapshot */
    int64_t renew_us; /* when the next one is due */
    bool is_resting;  /* no chunk begins, because the snapshot is about to be replaced */
};

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
choose_pipe_count(const Migration *run, const Copy *copy)
{
    int64_t chunks = chunks_count(copy->chunks);

    return chunks < others_most_jobs(run) ? (int)chunks : others_most_jobs(run);
}

/* By COPY or INSERT ... SELECT?  Values that travel as text need formats which only COPY's have. */
static void
choose_method(Migration *run, const Copy *copy)
{
    CopyMethod method = run->settings->copy_method;
    bool shuffled = false;
    bool can_insert;

    for (int i = 0; i < run->leaf_count; i++)
        shuffled = shuffled || run->leaves[i].order != NULL;
    run->footprint =
        footprint_of(&run->projection, &run->original, &run->shadow, shuffled, run->arena);
    can_insert = run->footprint.is_known && run->binary_copy;
    run->inserts =
        can_insert && (method == COPY_METHOD_INSERT ||
                       (method == COPY_METHOD_AUTO &&
                        footprint_prefers_insert(&run->footprint, chunks_row_bytes(copy->chunks))));
    if (method == COPY_METHOD_INSERT && !can_insert && !run->projection.is_copy_statement)
        log_info("rows are copied by COPY: %s",
                 run->binary_copy ? "how large they become is not known beforehand"
                                  : "a column's type has no binary format");
}

static void
say_what_comes(const Migration *run)
{
    const Copy *copy = run->copy;
    const char *how = run->inserts                                            ? ", by INSERT"
                      : run->binary_copy || run->projection.is_copy_statement ? ""
                                                                              : ", as text";

    if (run->leaf_count == 1)
        log_info("copying %lld blocks in chunks of %lld, %d at a time%s",
                 (long long)run->counters.blocks_total, (long long)chunks_blocks(copy->chunks, 0),
                 copy->pipe_count, how);
    else
        log_info("copying %lld blocks of %d partitions in chunks, %d at a time%s",
                 (long long)run->counters.blocks_total, run->leaf_count, copy->pipe_count, how);
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
    for (int i = 0; i < copy->pipe_count; i++) {
        if (copy->pipes[i].state != PIPE_IDLE &&
            (copy->pipes[i].rows_read > 0 || copy->pipes[i].rows_written > 0))
            chunks_note_seen(copy->chunks, copy->pipes[i].chunk.leaf);
        pipe_close(&copy->pipes[i]);
    }
    for (int i = 0; i < run->leaf_count; i++)
        sql_add(&sql, "%Sonly %S", i == 0 ? "begin; truncate " : ", ",
                run->leaves[i].shadow_qualified);
    sql_add(&sql, "; delete from %S; delete from %S; commit", run->names.copied,
            run->names.touched);
    if (!find_again(run, copy, err) || !resume_note_rewritten(run, err))
        return false;
    for (int i = 0; i < copy->pipe_count; i++)
        if (!pipe_open(run, &copy->pipes[i], err))
            return false;
    return query_exec(copy->pipes[0].writer, buf_text(&sql), err);
}

/* All chunks are committed. */
static Step
finish_copy(Migration *run, Err *err)
{
    log_debug("%lld chunks by INSERT, %lld by COPY", (long long)run->copy->inserted_chunks,
              (long long)run->copy->copied_chunks);
    FAULT_POINT("copy.done");
    if (!renewal_check_count(run, err))
        return STEP_FAILED;
    for (int i = 0; i < run->leaf_count; i++)
        if (chunks_lost_rows(run->copy->chunks, i))
            apply_expect_truncate(run->apply, i);
    return migration_check_step(run, STEP_DONE, err);
}

/* Begin the next chunk, if there is one and it is this pipe's turn. */
static bool
begin_chunk(Migration *run, Pipe *pipe, Err *err)
{
    Copy *copy = run->copy;

    if (copy->is_resting || pipe - copy->pipes >= others_jobs(run) ||
        clock_now_us() < pipe->next_us || !chunks_take(copy->chunks, &pipe->chunk))
        return true;
    FAULT_POINT("copy.chunk_taken");
    pipe->most_bytes = chunks_blocks(copy->chunks, pipe->chunk.leaf) * BLOCK_BYTES;
    pipe->most_open_bytes = copy->most_open_bytes;
    return pipe_start(run, pipe, err);
}

/* The chunk of a pipe is committed. */
static void
finish_chunk(Migration *run, Pipe *pipe)
{
    Copy *copy = run->copy;

    chunks_note_copied(run, copy->chunks, &pipe->chunk, pipe->rows_written);
    if (pipe->inserts)
        copy->inserted_chunks++;
    else
        copy->copied_chunks++;
    FAULT_POINT("copy.chunk_done");
    copy->pace.brake = walbudget_brake(&run->wal);
    pipe->next_us = pace_next(&copy->pace, pipe->bytes, pipe->began_us, clock_now_us());
    pipe->state = PIPE_IDLE;
}

static bool
advance(Migration *run, Pipe *pipe, Err *err)
{
    if (pipe->state == PIPE_IDLE)
        return begin_chunk(run, pipe, err);
    if (!pipe_advance(run, pipe, err))
        return false;
    if (pipe->state == PIPE_MOVED)
        return restart(run, pipe->chunk.leaf, err);
    if (pipe->state == PIPE_DONE)
        finish_chunk(run, pipe);
    return true;
}

/* When to look again though nothing has come: half a second at most, or when a pipe may go on. */
static int64_t
wake_us(const Copy *copy)
{
    int64_t now_us = clock_now_us();
    int64_t wake = now_us + 500000;

    for (int i = 0; i < copy->pipe_count; i++) {
        const Pipe *pipe = &copy->pipes[i];

        if (pipe->state == PIPE_IDLE && pipe->next_us > now_us && pipe->next_us < wake)
            wake = pipe->next_us;
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
open_pipes(Migration *run, Copy *copy, Err *err)
{
    copy->pipe_count = choose_pipe_count(run, copy);
    copy->pipes = mem_new((size_t)copy->pipe_count, sizeof *copy->pipes);
    for (int i = 0; i < copy->pipe_count; i++)
        if (!pipe_open(run, &copy->pipes[i], err))
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
    choose_method(run, copy);
    if (!open_pipes(run, copy, err) || !go_on_from_before(run, copy, err) || !others_look(run, err))
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
    for (int i = 0; i < copy->pipe_count; i++)
        pipe_close(&copy->pipes[i]);
    slotwait_done(&copy->wait);
    free(copy->pipes);
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
    bool moved = false; /* some pipe reached another state */
    bool busy = false;

    if (copy == NULL)
        return STEP_DONE;
    for (int i = 0; i < copy->pipe_count; i++) {
        PipeState before = copy->pipes[i].state;

        if (!advance(run, &copy->pipes[i], err)) {
            err_wrap(err, "copying %s", run->original.qualified);
            return STEP_FAILED;
        }
        moved = moved || copy->pipes[i].state != before;
        busy = busy || copy->pipes[i].state != PIPE_IDLE;
    }
    if (!busy && chunks_are_taken(copy->chunks))
        return finish_copy(run, err);
    if (!renew(run, copy, busy, err) || !migration_check_now_and_then(run, err) ||
        !others_look(run, err))
        return STEP_FAILED;
    return moved || loop_turn(run->loop, wake_us(copy), err) ? STEP_MORE : STEP_FAILED;
}
