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
#include "base/log.h"
#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/migration.h"
#include "phase/others.h"
#include "phase/tree.h"

/*
 * What all chunks in flight may take in the memory of a decoder: half of the default
 * logical_decoding_work_mem, so that no slot of the database spills our transactions to disk, which
 * costs it three times as much.  A decoder holds each row with about so many bytes around it.
 */
static const int64_t IN_FLIGHT_BYTES = 32 * INT64_C(1024) * 1024;
static const int64_t DECODED_ROW_BYTES = 110;
enum { BUFFER_BYTES = 128 * 1024, RESTARTS_MAX = 5 };

/*
 * No chunk waits for the disk: one that a crash of the server takes back is no loss, since the run
 * dies with its snapshot, and the swap's own commit flushes all WAL before it.
 */
static const char SQL_NO_WAIT[] = "set synchronous_commit to off";

typedef enum {
    WORKER_IDLE = 0,
    WORKER_OPENING,  /* both ends are told to begin */
    WORKER_PIPING,   /* rows go from one end to the other */
    WORKER_CHECKING, /* all rows are read: are the blocks still in place? */
    WORKER_CLOSING,  /* the writing end finishes */
    WORKER_COMMITTING
} WorkerState;

/* How far the copy of one leaf is. */
typedef struct Part {
    int64_t block_count; /* when the snapshot was taken, or later */
    int64_t chunk_blocks;
    int64_t next_block;
    bool assigned_last;
    int64_t rows_copied;
    bool saw_rows; /* before the copy began anew */
} Part;

/* One pipe: a session that reads the original and one that writes the shadow. */
typedef struct Worker {
    Conn *reader;
    Conn *writer;
    WorkerState state;
    int leaf;
    int64_t first_block;
    int64_t end_block; /* -1: to the end of the table */
    int64_t rows_read; /* in this chunk, for naming a row that does not fit */
    int64_t rows_written;
    Buf buffer;
} Worker;

struct Copy {
    Worker *workers;
    int worker_count;
    Part *parts; /* per leaf */
    int leaf;    /* which one chunks are taken from; all before it are assigned */
    int restarts;
    const char *outputs; /* quoted list of the shadow's columns that are written */
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

/* How many blocks make a chunk, out-of-line values included? */
static Part
new_part(const Migration *run, int64_t block_count, int64_t decoded_bytes, bool saw_rows)
{
    const int64_t chunk_bytes = IN_FLIGHT_BYTES / others_most_jobs(run);
    Part part = {.block_count = block_count, .chunk_blocks = block_count, .saw_rows = saw_rows};

    if (decoded_bytes > chunk_bytes)
        part.chunk_blocks =
            (int64_t)((double)block_count * (double)chunk_bytes / (double)decoded_bytes);
    if (part.chunk_blocks < 1)
        part.chunk_blocks = 1;
    return part;
}

/* How large are the leaves? */
static bool
measure(Migration *run, Copy *copy, Err *err)
{
    /* of a table that nobody has analyzed, 100 rows per block are assumed */
    static const char SQL[] =
        "select s.blocks, pg_catalog.pg_table_size(c.oid), greatest(c.reltuples, 0),"
        "       pg_catalog.round((case when c.reltuples > 0 and c.relpages > 0"
        "         then c.reltuples / c.relpages else 100 end * s.blocks)::numeric)"
        "  from pg_catalog.unnest($1::pg_catalog.oid[]) with ordinality l (oid, number)"
        "  join pg_catalog.pg_class c on c.oid = l.oid,"
        "       lateral (select pg_catalog.pg_relation_size(c.oid) /"
        "         pg_catalog.current_setting('block_size')::bigint as blocks) s"
        " order by l.number";
    Counters *counters = &run->counters;
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(oids);

    tree_add_oids(run, &oids);
    if (!query_run(run->control, SQL, (const char *const[]){buf_text(&oids), NULL}, &rows, err))
        return false;
    if (rows_count(rows) != run->leaf_count)
        return err_set(err, ERR_FAILED, "a partition is gone");
    counters->blocks_total = counters->rows_estimated = 0;
    counters->blocks_copied = counters->rows_copied = 0;
    for (int i = 0; i < run->leaf_count; i++) {
        copy->parts[i] = new_part(run, rows_int(rows, i, 0),
                                  rows_int(rows, i, 1) + rows_int(rows, i, 3) * DECODED_ROW_BYTES,
                                  copy->parts[i].saw_rows);
        counters->blocks_total += rows_int(rows, i, 0);
        counters->rows_estimated += rows_int(rows, i, 2);
    }
    return true;
}

/* As many as there are chunks, but not more than jobs. */
static int
choose_worker_count(const Migration *run, const Copy *copy)
{
    int64_t chunks = 0;

    for (int i = 0; i < run->leaf_count; i++)
        chunks += copy->parts[i].block_count / copy->parts[i].chunk_blocks + 1;
    return chunks < others_most_jobs(run) ? (int)chunks : others_most_jobs(run);
}

static void
say_what_comes(const Migration *run)
{
    const Copy *copy = run->copy;
    const char *how = run->binary_copy || uses_insert(run) ? "" : ", as text";

    if (run->leaf_count == 1)
        log_info("copying %lld blocks in chunks of %lld, %d at a time%s",
                 (long long)copy->parts[0].block_count, (long long)copy->parts[0].chunk_blocks,
                 copy->worker_count, how);
    else
        log_info("copying %lld blocks of %d partitions in chunks, %d at a time%s",
                 (long long)run->counters.blocks_total, run->leaf_count, copy->worker_count, how);
}

bool
copy_enter(Migration *run, Err *err)
{
    Copy *copy = mem_new(1, sizeof *copy);
    BUF_AUTO(outputs);

    run->copy = copy;
    copy->parts = mem_new((size_t)run->leaf_count, sizeof *copy->parts);
    for (int i = 0; i < run->projection.output_count; i++)
        sql_add(&outputs, "%S%I", i == 0 ? "" : ", ", run->projection.outputs[i].name);
    copy->outputs = arena_copy(run->arena, buf_text(&outputs), outputs.len);
    if (!measure(run, copy, err))
        return err_wrap(err, "measuring %s", run->original.qualified);
    copy->worker_count = choose_worker_count(run, copy);
    copy->workers = mem_new((size_t)copy->worker_count, sizeof *copy->workers);
    for (int i = 0; i < copy->worker_count; i++)
        if (!open_worker(run, &copy->workers[i], err))
            return false;
    if (!others_look(run, err))
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
    free(copy->workers);
    free(copy->parts);
    free(copy);
    run->copy = NULL;
    /* from here on the slot alone is enough, and vacuum is free again */
    conn_close(run->keeper);
    run->keeper = NULL;
}

/* The rows of a chunk as a FROM item; with `row` >= 0 only that row of it, in scan order. */
static void
add_chunk(const Migration *run, Buf *sql, const Worker *worker)
{
    buf_add_text(sql, "(select ");
    for (int i = 0; i < run->original.column_count; i++)
        sql_add(sql, "o.%I, ", run->original.columns[i].name);
    sql_add(sql, "null::integer as %I from only %S o where ", run->projection.seq,
            run->leaves[worker->leaf].qualified);
    if (conn_version(run->control) < 140000 && worker->end_block >= 0) {
        /* no TID range scan before 14, but a TID may be looked up in an array */
        sql_add(sql,
                "o.ctid = any (array(select pg_catalog.format('(%%s,%%s)', b, i)::tid from "
                "pg_catalog.generate_series(%D, %D) b, pg_catalog.generate_series(1, 291) i)))",
                worker->first_block, worker->end_block - 1);
        return;
    }
    sql_add(sql, "o.ctid >= '(%D,0)'::tid", worker->first_block);
    if (worker->end_block >= 0)
        sql_add(sql, " and o.ctid < '(%D,0)'::tid", worker->end_block);
    buf_add_text(sql, ")");
}

static void
add_select(const Migration *run, Buf *sql, const Worker *worker)
{
    buf_add_text(sql, "select ");
    for (int i = 0; i < run->projection.output_count; i++)
        sql_add(sql, "%Sp.%I", i == 0 ? "" : ", ", run->projection.outputs[i].name);
    sql_add(sql, " from (%S", run->projection.head);
    add_chunk(run, sql, worker);
    sql_add(sql, "%S) p", run->projection.tail);
}

static void
add_begin(const Migration *run, Buf *sql, bool read_only)
{
    sql_add(sql, "begin isolation level repeatable read%S; set transaction snapshot %L;",
            read_only ? " read only" : "", run->snapshot);
}

static bool
start_chunk(const Migration *run, Worker *worker, Err *err)
{
    const char *format = run->binary_copy ? " (format binary)" : "";
    const Leaf *leaf = &run->leaves[worker->leaf];
    BUF_AUTO(read);
    BUF_AUTO(write);

    worker->rows_read = 0;
    worker->state = WORKER_OPENING;
    if (uses_insert(run)) {
        add_begin(run, &write, false);
        sql_add(&write, "insert into %S (%S) overriding system value ", leaf->shadow_qualified,
                run->copy->outputs);
        add_select(run, &write, worker);
        return query_send(worker->writer, buf_text(&write), err);
    }
    /* not read only: a new column's default may take numbers from a sequence */
    add_begin(run, &read, false);
    if (!run->binary_copy)
        buf_add_text(&read, conn_role_inputs(worker->reader));
    buf_add_text(&read, "copy (");
    add_select(run, &read, worker);
    sql_add(&read, ") to stdout%S", format);
    sql_add(&write, "begin; copy %S (%S) from stdin%S", leaf->shadow_qualified, run->copy->outputs,
            format);
    return query_send(worker->reader, buf_text(&read), err) &&
           query_send(worker->writer, buf_text(&write), err);
}

/* Give the worker the next blocks; false when there are none left, or not for this worker now. */
static bool
assign_chunk(const Migration *run, Worker *worker)
{
    Copy *copy = run->copy;
    Part *part;

    if (worker - copy->workers >= others_jobs(run))
        return false;
    while (copy->leaf < run->leaf_count && copy->parts[copy->leaf].assigned_last)
        copy->leaf++;
    if (copy->leaf == run->leaf_count)
        return false;
    part = &copy->parts[copy->leaf];
    worker->leaf = copy->leaf;
    worker->first_block = part->next_block;
    part->next_block += part->chunk_blocks;
    /* the last chunk is open to the end, so that no block is missed by a measured size */
    part->assigned_last = part->next_block >= part->block_count;
    worker->end_block = part->assigned_last ? -1 : part->next_block;
    return true;
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
    add_begin(run, &sql, true);
    buf_add_text(&sql, "select ");
    for (int i = 0; i < run->original.key_count; i++)
        sql_add(&sql, "%Sc.%I::text", i == 0 ? "" : ", ",
                run->original.columns[run->original.key[i]].name);
    buf_add_text(&sql, " from ");
    add_chunk(run, &sql, worker);
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
        copydata_free(data);
        worker->rows_read++;
        if (worker->buffer.len >= BUFFER_BYTES && !flush_buffer(worker, err))
            return false;
    }
}

/* Is the original, which the reader still holds locked, what and where it was? */
static bool
check_place(Migration *run, Worker *worker, bool *moved, Err *err)
{
    Conn *holder = uses_insert(run) ? worker->writer : worker->reader;
    const Leaf *leaf = &run->leaves[worker->leaf];
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

/* Did the worker see a row of its leaf? */
static void
note_rows(Copy *copy, const Worker *worker)
{
    Part *part = &copy->parts[worker->leaf];

    part->saw_rows = part->saw_rows || (worker->state != WORKER_IDLE && worker->rows_read > 0);
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
        note_rows(copy, &copy->workers[i]);
        close_worker(&copy->workers[i]);
    }
    for (int i = 0; i < run->leaf_count; i++) {
        copy->parts[i].saw_rows = copy->parts[i].saw_rows || copy->parts[i].rows_copied > 0;
        sql_add(&sql, "%Sonly %S", i == 0 ? "truncate " : ", ", run->leaves[i].shadow_qualified);
    }
    if (!find_again(run, copy, err))
        return false;
    for (int i = 0; i < copy->worker_count; i++)
        if (!open_worker(run, &copy->workers[i], err))
            return false;
    copy->leaf = 0;
    return query_exec(copy->workers[0].writer, buf_text(&sql), err);
}

/* All chunks are committed. */
static Step
finish_copy(Migration *run, Err *err)
{
    for (int i = 0; i < run->leaf_count; i++)
        if (run->copy->parts[i].saw_rows && run->copy->parts[i].rows_copied == 0)
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
        return restart(run, worker->leaf, err);
    if (worker->reader != NULL && !query_exec(worker->reader, "commit", err))
        return false;
    worker->state = WORKER_CLOSING;
    return uses_insert(run) || copydata_end(worker->writer, NULL, err);
}

static bool
advance_closing(Migration *run, Worker *worker, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!uses_insert(run)) {
        if (!query_is_done(worker->writer))
            return true;
        if (!query_finish(worker->writer, &rows, err))
            return name_failed_row(run, worker, query_copy_line(worker->writer) - 1, err);
        worker->rows_written = rows_affected(rows);
    }
    worker->state = WORKER_COMMITTING;
    return query_send(worker->writer, "commit", err);
}

static bool
advance_committing(Migration *run, Worker *worker, Err *err)
{
    Part *part = &run->copy->parts[worker->leaf];
    int64_t end = worker->end_block < 0 ? part->block_count : worker->end_block;

    if (!query_is_done(worker->writer))
        return true;
    if (!query_finish(worker->writer, NULL, err))
        return false;
    run->others.own_writes++;
    part->rows_copied += worker->rows_written;
    run->counters.rows_copied += worker->rows_written;
    run->counters.blocks_copied += end > worker->first_block ? end - worker->first_block : 0;
    worker->state = WORKER_IDLE;
    return true;
}

static bool
advance_idle(Migration *run, Worker *worker, Err *err)
{
    return !assign_chunk(run, worker) || start_chunk(run, worker, err);
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
    case WORKER_CHECKING:
        return advance_checking(run, worker, err);
    case WORKER_CLOSING:
        return advance_closing(run, worker, err);
    case WORKER_COMMITTING:
        return advance_committing(run, worker, err);
    }
    return false;
}

Step
copy_step(Migration *run, Err *err)
{
    Copy *copy = run->copy;
    bool moved = false; /* some worker reached another state */
    bool busy = false;

    for (int i = 0; i < copy->worker_count; i++) {
        WorkerState before = copy->workers[i].state;

        if (!advance(run, &copy->workers[i], err)) {
            err_wrap(err, "copying %s", run->original.qualified);
            return STEP_FAILED;
        }
        moved = moved || copy->workers[i].state != before;
        busy = busy || copy->workers[i].state != WORKER_IDLE;
    }
    if (!busy && copy->leaf == run->leaf_count)
        return finish_copy(run, err);
    if (!migration_check_now_and_then(run, err) || !others_look(run, err))
        return STEP_FAILED;
    return moved || loop_turn(run->loop, clock_now_us() + 500000, err) ? STEP_MORE : STEP_FAILED;
}
