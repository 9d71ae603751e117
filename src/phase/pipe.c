/* One chunk's way from the original to the shadow; see pipe.h. */
#include "phase/pipe.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/copy_sql.h"

enum { BUFFER_BYTES = 128 * 1024 };

/*
 * No chunk waits for the disk: one that a crash of the server takes back is no loss, since the run
 * dies with its snapshot, and the swap's own commit flushes all WAL before it.
 */
static const char SQL_NO_WAIT[] = "set synchronous_commit to off";

bool
pipe_open(Migration *run, Pipe *pipe, Err *err)
{
    bool is_statement = run->projection.is_copy_statement;
    ConnKind kind = run->binary_copy || is_statement ? CONN_EXPRESSIONS : CONN_SQL;

    pipe->state = PIPE_IDLE;
    pipe->writer = migration_connect_owner(run, kind, "copy to", err);
    if (pipe->writer == NULL || !query_exec(pipe->writer, SQL_NO_WAIT, err))
        return false;
    if (is_statement)
        return true;
    pipe->reader = migration_connect_owner(run, kind, "copy from", err);
    return pipe->reader != NULL;
}

void
pipe_close(Pipe *pipe)
{
    conn_close(pipe->reader);
    conn_close(pipe->writer);
    buf_done(&pipe->buffer);
    *pipe = (Pipe){0};
}

/* The chunk by COPY, from one session to the other. */
static bool
start_piping(const Migration *run, Pipe *pipe, Err *err)
{
    BUF_AUTO(chunk);
    BUF_AUTO(read);
    BUF_AUTO(write);

    pipe->inserts = false;
    pipe->state = PIPE_OPENING;
    copy_add_chunk(run, &chunk, &pipe->chunk);
    /* not read only: a new column's default may take numbers from a sequence */
    copy_add_begin(run, &read);
    if (!run->binary_copy)
        buf_add_text(&read, conn_role_inputs(pipe->reader));
    buf_add_text(&read, "copy (");
    copy_add_typed_select(run, &read, buf_text(&chunk));
    sql_add(&read, ") to stdout%S", run->binary_copy ? " (format binary)" : "");
    copy_add_write(run, &write, pipe->chunk.leaf);
    return query_send(pipe->reader, buf_text(&read), err) &&
           query_send(pipe->writer, buf_text(&write), err);
}

/* The chunk by one statement, in the open transaction of the writer. */
static bool
start_inserting(const Migration *run, Pipe *pipe, Err *err)
{
    BUF_AUTO(sql);

    pipe->state = PIPE_INSERTING;
    copy_add_insert(run, &sql, &pipe->chunk);
    if (!query_send(pipe->writer, buf_text(&sql), err))
        return false;
    FAULT_POINT("copy.inserting");
    return true;
}

bool
pipe_start(const Migration *run, Pipe *pipe, Err *err)
{
    BUF_AUTO(sql);

    pipe->rows_read = pipe->rows_written = pipe->bytes = pipe->open_bytes = 0;
    pipe->began_us = clock_now_us();
    pipe->inserts = run->inserts || run->projection.is_copy_statement;
    if (!pipe->inserts)
        return start_piping(run, pipe, err);
    copy_add_begin(run, &sql);
    if (run->inserts) {
        copy_add_measure(run, &sql, &pipe->chunk);
        pipe->state = PIPE_MEASURING;
    } else {
        copy_add_insert(run, &sql, &pipe->chunk);
        pipe->state = PIPE_INSERTING;
    }
    return query_send(pipe->writer, buf_text(&sql), err);
}

/* The chunk by COPY after all, which can commit in the middle and tells the row that does not fit. */
static bool
turn_to_piping(const Migration *run, Pipe *pipe, Err *err)
{
    pipe->rows_read = pipe->bytes = 0;
    return query_exec(pipe->writer, "rollback", err) && start_piping(run, pipe, err);
}

/* One statement is one transaction: is that small enough for every decoder? */
static bool
advance_measuring(const Migration *run, Pipe *pipe, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_is_done(pipe->writer))
        return true;
    if (!query_finish(pipe->writer, &rows, err))
        return false;
    pipe->rows_read = rows_int(rows, 0, 0);
    pipe->bytes = pipe->rows_read * run->footprint.fixed_bytes + rows_int(rows, 0, 1);
    if (footprint_decoded(&run->footprint, pipe->rows_read, pipe->bytes, rows_int(rows, 0, 2)) >
        pipe->most_open_bytes)
        return turn_to_piping(run, pipe, err);
    return start_inserting(run, pipe, err);
}

static bool
advance_inserting(const Migration *run, Pipe *pipe, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_is_done(pipe->writer))
        return true;
    if (!query_finish(pipe->writer, &rows, err)) {
        if (err->kind != ERR_DATA || !run->inserts)
            return false;
        err_clear(err);
        return turn_to_piping(run, pipe, err);
    }
    pipe->rows_written = rows_affected(rows);
    pipe->state = PIPE_CHECKING;
    if (run->inserts && pipe->rows_written != pipe->rows_read)
        return err_set(err, ERR_FAILED, "%lld rows were copied of %lld",
                       (long long)pipe->rows_written, (long long)pipe->rows_read);
    /* of a copy statement's rows nobody knows the size; as much as there may be */
    if (!run->inserts)
        pipe->bytes = pipe->most_bytes;
    return true;
}

/*
 * Which row of the chunk did not fit?  The scan order of a chunk is fixed, so its key can be read
 * again: the reader fails on the row after those it sent, the writer says the line (libpq shows a
 * writer's error only at the end of the COPY; until then the server drops what still comes).
 */
static bool
name_failed_row(Migration *run, const Pipe *pipe, int64_t row, Err *err)
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
    copy_add_chunk(run, &sql, &pipe->chunk);
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
advance_opening(Migration *run, Pipe *pipe, Err *err)
{
    if (!query_is_done(pipe->writer) || !query_is_done(pipe->reader))
        return true;
    /* the reader may fail on its first row, before a COPY begins */
    if (!query_finish(pipe->reader, NULL, err))
        return name_failed_row(run, pipe, 0, err);
    if (!query_finish(pipe->writer, NULL, err))
        return false;
    pipe->state = PIPE_PIPING;
    return true;
}

static bool
flush_buffer(Pipe *pipe, Err *err)
{
    bool full;

    if (pipe->buffer.len == 0)
        return true;
    if (!copydata_write(pipe->writer, pipe->buffer.data, (int)pipe->buffer.len, &full, err))
        return false;
    buf_clear(&pipe->buffer);
    return true;
}

static bool
end_reading(Migration *run, Pipe *pipe, Err *err)
{
    if (!query_finish(pipe->reader, NULL, err))
        return name_failed_row(run, pipe, pipe->rows_read, err);
    if (!flush_buffer(pipe, err))
        return false;
    pipe->state = PIPE_CHECKING;
    return true;
}

/* The writer commits what it has; the reader goes on with the chunk, its lock and its snapshot. */
static bool
end_transaction(Pipe *pipe, Err *err)
{
    conn_set_reading(pipe->reader, false);
    pipe->state = PIPE_ENDING;
    return flush_buffer(pipe, err) && copydata_end(pipe->writer, NULL, err);
}

/* The writer has taken all that it was sent. */
static bool
count_written(Migration *run, Pipe *pipe, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_finish(pipe->writer, &rows, err)) {
        int64_t line = query_copy_line(pipe->writer);

        return line > 0 && name_failed_row(run, pipe, pipe->rows_written + line - 1, err);
    }
    pipe->rows_written += rows_affected(rows);
    return true;
}

static bool
advance_ending(Migration *run, Pipe *pipe, Err *err)
{
    AUTO(Text) *note = NULL;
    BUF_AUTO(sql);

    if (!query_is_done(pipe->writer))
        return true;
    if (!count_written(run, pipe, err))
        return false;
    note = chunks_note_sql(run, &pipe->chunk, pipe->rows_written, false);
    sql_add(&sql, "%S; commit; ", note);
    copy_add_write(run, &sql, pipe->chunk.leaf);
    pipe->state = PIPE_RENEWING;
    return query_send(pipe->writer, buf_text(&sql), err);
}

static bool
advance_renewing(Migration *run, Pipe *pipe, Err *err)
{
    if (!query_is_done(pipe->writer))
        return true;
    if (!query_finish(pipe->writer, NULL, err))
        return false;
    FAULT_POINT("copy.part_committed");
    run->others.own_writes++;
    pipe->open_bytes = 0;
    if (run->binary_copy)
        copydata_add_header(&pipe->buffer);
    pipe->state = PIPE_PIPING;
    return true;
}

/* What a decoder holds of a row that is sent with so many bytes. */
static int64_t
decoded_bytes(const Migration *run, int len)
{
    int64_t bytes = len + run->footprint.padding_bytes;

    return footprint_decoded(&run->footprint, 1, bytes, bytes > FOOTPRINT_LONG_ROW ? 1 : 0);
}

static bool
advance_piping(Migration *run, Pipe *pipe, Err *err)
{
    for (;;) {
        CopyDataRead what;
        char *data;
        int len;
        bool full = copydata_is_full(pipe->writer);

        /* else libpq would go on buffering what the reader sends */
        conn_set_reading(pipe->reader, !full);
        if (full)
            return true;
        if (!copydata_read(pipe->reader, &what, &data, &len, err))
            return false;
        if (what == COPYDATA_WAIT)
            return true;
        if (what == COPYDATA_END)
            return end_reading(run, pipe, err);
        buf_add(&pipe->buffer, data, (size_t)len);
        pipe->rows_read += copydata_is_row(data, len) ? 1 : 0;
        FAULT_POINT("copy.piping");
        copydata_free(data);
        pipe->bytes += len;
        pipe->open_bytes += decoded_bytes(run, len);
        if (pipe->open_bytes >= pipe->most_open_bytes)
            return end_transaction(pipe, err);
        if (pipe->buffer.len >= BUFFER_BYTES && !flush_buffer(pipe, err))
            return false;
    }
}

/* Is the original, which the reader still holds locked, what and where it was? */
static bool
check_place(Migration *run, Pipe *pipe, bool *moved, Err *err)
{
    Conn *holder = pipe->inserts ? pipe->writer : pipe->reader;
    const Leaf *leaf = &run->leaves[pipe->chunk.leaf];
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
advance_checking(Migration *run, Pipe *pipe, Err *err)
{
    bool moved = false;

    if (!check_place(run, pipe, &moved, err))
        return false;
    if (moved) {
        pipe->state = PIPE_MOVED;
        return true;
    }
    pipe->state = PIPE_CLOSING;
    return pipe->inserts ||
           (query_exec(pipe->reader, "commit", err) && copydata_end(pipe->writer, NULL, err));
}

static bool
advance_closing(Migration *run, Pipe *pipe, Err *err)
{
    AUTO(Text) *note = NULL;
    AUTO(Text) *sql = NULL;

    if (!pipe->inserts) {
        if (!query_is_done(pipe->writer))
            return true;
        if (!count_written(run, pipe, err))
            return false;
    }
    note = chunks_note_sql(run, &pipe->chunk, pipe->rows_written, true);
    sql = sql_build("%S; commit", note);
    FAULT_POINT("copy.chunk_uncommitted");
    pipe->state = PIPE_COMMITTING;
    return query_send(pipe->writer, sql, err);
}

static bool
advance_committing(Migration *run, Pipe *pipe, Err *err)
{
    FAULT_POINT("copy.commit_sent");
    if (!query_is_done(pipe->writer))
        return true;
    if (!query_finish(pipe->writer, NULL, err))
        return false;
    run->others.own_writes++;
    pipe->state = PIPE_DONE;
    return true;
}

bool
pipe_advance(Migration *run, Pipe *pipe, Err *err)
{
    switch (pipe->state) {
    case PIPE_MEASURING:
        return advance_measuring(run, pipe, err);
    case PIPE_INSERTING:
        return advance_inserting(run, pipe, err);
    case PIPE_OPENING:
        return advance_opening(run, pipe, err);
    case PIPE_PIPING:
        return advance_piping(run, pipe, err);
    case PIPE_ENDING:
        return advance_ending(run, pipe, err);
    case PIPE_RENEWING:
        return advance_renewing(run, pipe, err);
    case PIPE_CHECKING:
        return advance_checking(run, pipe, err);
    case PIPE_CLOSING:
        return advance_closing(run, pipe, err);
    case PIPE_COMMITTING:
        return advance_committing(run, pipe, err);
    case PIPE_IDLE:
    case PIPE_MOVED:
    case PIPE_DONE:
        return true;
    }
    return false;
}
