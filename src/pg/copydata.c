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
    if (PQputCopyEnd(conn->pg, failure) < 0)
        return conn_error(conn, err);
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
