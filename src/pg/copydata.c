/* COPY data; see copydata.h. */
#include "pg/copydata.h"

#include <string.h>

#include "pg/internal.h"

bool
copydata_read(Conn *conn, CopyDataRead *what, char **data, int *len, Err *err)
{
    char *row = NULL;
    int got = PQgetCopyData(conn->pg, &row, 1);

    if (got == -2 || (got == 0 && conn_is_lost(conn)))
        return conn_error(conn, err);
    *data = row;
    *len = got;
    *what = got > 0 ? COPYDATA_ROW : got == 0 ? COPYDATA_WAIT : COPYDATA_END;
    return true;
}

void
copydata_free(char *data)
{
    PQfreemem(data);
}

bool
copydata_write(Conn *conn, const void *data, int len, bool *full, Err *err)
{
    int queued = PQputCopyData(conn->pg, data, len);

    if (queued < 0)
        return conn_error(conn, err);
    if (queued == 0)
        return err_set(err, ERR_FAILED, "could not queue %d bytes of copy data", len);
    *full = PQflush(conn->pg) != 0;
    conn_flush(conn);
    return true;
}

bool
copydata_is_full(Conn *conn)
{
    conn_flush(conn);
    return PQflush(conn->pg) > 0;
}

bool
copydata_end(Conn *conn, const char *failure, Err *err)
{
    int queued = PQputCopyEnd(conn->pg, failure);

    if (queued < 0)
        return conn_error(conn, err);
    if (queued == 0)
        return err_set(err, ERR_FAILED, "could not queue the end of the copy data");
    conn_flush(conn);
    return true;
}

/* What a COPY in binary begins with, and what ends it. */
static const char HEADER[19] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";
static const char TRAILER[2] = "\377\377";

void
copydata_add_header(Buf *buf)
{
    buf_add(buf, HEADER, sizeof HEADER);
}

bool
copydata_is_row(const char *data, int len)
{
    /* the header comes together with whatever is first */
    return (len != sizeof TRAILER && len != sizeof HEADER + sizeof TRAILER) ||
           memcmp(data + len - sizeof TRAILER, TRAILER, sizeof TRAILER) != 0;
}

/* Wait until `conn` takes more. */
static bool
wait_until_taken(Conn *conn, Err *err)
{
    while (copydata_is_full(conn)) {
        if (conn_is_lost(conn))
            return conn_explain_loss(conn, err);
        if (!loop_turn(conn_loop(conn), INT64_MAX / 2, err))
            return false;
    }
    return true;
}

/* Hand one message of a COPY on to the other; *end says that it was the last. */
static bool
pass_on(Conn *from, Conn *to, bool *end, Err *err)
{
    CopyDataRead what = COPYDATA_WAIT;
    char *data;
    int len;
    bool full;
    bool ok;

    if (!copydata_read(from, &what, &data, &len, err))
        return false;
    *end = what == COPYDATA_END;
    if (what == COPYDATA_WAIT)
        return loop_turn(conn_loop(from), INT64_MAX / 2, err);
    if (what == COPYDATA_END)
        return true;
    ok = copydata_write(to, data, len, &full, err);
    copydata_free(data);
    return ok && wait_until_taken(to, err);
}

/* Both ends finish; the receiving one says how many rows there were. */
static bool
end_pipe(Conn *to, int64_t *count, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!copydata_end(to, NULL, err) || !query_finish(to, &rows, err))
        return false;
    if (count != NULL)
        *count = rows_affected(rows);
    return true;
}

bool
copydata_pipe(Conn *from, const char *out, Conn *to, const char *in, int64_t *rows, Err *err)
{
    Err ignored = {0};
    bool end = false;

    if (!query_exec(from, out, err) || !query_exec(to, in, err))
        return false;
    while (!end && pass_on(from, to, &end, err))
        ;
    if (end && query_finish(from, NULL, err))
        return end_pipe(to, rows, err);
    if (copydata_end(to, "the other end has failed", &ignored) && query_finish(to, NULL, &ignored))
        err_clear(&ignored);
    return false;
}
