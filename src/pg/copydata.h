/*
 * COPY data in and out of a session, without blocking.
 * Source: PostgreSQL manual, "Functions Associated with the COPY Command".
 */
#ifndef WALTER_COPYDATA_H
#define WALTER_COPYDATA_H

#include "base/buf.h"
#include "pg/query.h"

typedef enum {
    COPYDATA_ROW,  /* *data, *len hold one message */
    COPYDATA_WAIT, /* nothing more to read now */
    COPYDATA_END   /* end of the copy: call query_finish for its result */
} CopyDataRead;

/*
 * Read the next message of a COPY OUT or of a replication stream.  *data is new, free it with
 * copydata_free.  False when the connection is gone.  Never blocks.
 */
NODISCARD bool copydata_read(Conn *conn, CopyDataRead *what, char **data, int *len, Err *err);
void copydata_free(char *data);
/* False for the message that ends a COPY in binary, which has no row. */
bool copydata_is_row(const char *data, int len);

/*
 * Queue bytes for a COPY IN or a replication stream.  *full becomes true when the socket is not
 * taking more for now: stop producing until the session is ready again.  Never blocks.
 */
NODISCARD bool copydata_write(Conn *conn, const void *data, int len, bool *full, Err *err);

/* True while queued output has not left. */
bool copydata_is_full(Conn *conn);

/*
 * Finish a COPY IN; with `failure` (a reason) it is aborted on the server.  Then query_finish gives
 * the result.
 */
NODISCARD bool copydata_end(Conn *conn, const char *failure, Err *err);

/*
 * Two COPY statements, the output of `out` on `from` being the input of `in` on `to`; turns the loop
 * until both are done.  Each may have other statements before it.  *rows (may be NULL): how many went
 * over.
 */
NODISCARD bool copydata_pipe(Conn *from, const char *out, Conn *to, const char *in, int64_t *rows,
                             Err *err);

/* Append what a COPY IN in binary begins with. */
void copydata_add_header(Buf *buf);

#endif
