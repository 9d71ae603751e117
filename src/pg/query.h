/*
 * Running statements.  "Wait for this statement" turns the loop, so everything else goes on.
 */
#ifndef WALTER_QUERY_H
#define WALTER_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "pg/conn.h"

/* The rows of one result, all values as text. */
typedef struct Rows Rows;

void rows_free(Rows *rows);
AUTO_FREE_DEFINE(Rows, rows_free)

int rows_count(const Rows *rows);
int rows_columns(const Rows *rows);
/* Rows that the statement inserted, updated or deleted; 0 for other statements. */
int64_t rows_affected(const Rows *rows);
/* Value as text, borrowed from `rows`; NULL for SQL NULL. */
const char *rows_text(const Rows *rows, int row, int column);
/* Value as a number; 0 for NULL and for text that is no number. */
int64_t rows_int(const Rows *rows, int row, int column);
/* Value of a boolean column; false for NULL. */
bool rows_bool(const Rows *rows, int row, int column);

/*
 * Run one statement with parameters (text, NULL-terminated array of at most 16; the array itself
 * may be NULL, a NULL parameter cannot be passed).  *out is new, free it with rows_free; `out` may
 * be NULL.  From its second run on a session the statement is a prepared one.
 */
NODISCARD bool query_run(Conn *conn, const char *sql, const char *const *params, Rows **out,
                         Err *err);

/* Run one statement without parameters through the simple protocol (also on a walsender). */
NODISCARD bool query_simple(Conn *conn, const char *sql, Rows **out, Err *err);

/* Run one or several statements through the simple protocol; their results are dropped. */
NODISCARD bool query_exec(Conn *conn, const char *sql, Err *err);

/* Like query_run for a statement that must give exactly one row. */
NODISCARD bool query_one(Conn *conn, const char *sql, const char *const *params, Rows **out,
                         Err *err);

/* Send statements without waiting; the session's ready callback or query_is_done tell the end. */
NODISCARD bool query_send(Conn *conn, const char *sql, Err *err);

/* True when query_finish would not wait. */
bool query_is_done(Conn *conn);

/* Pump the loop until query_is_done, or until `until_us`. */
NODISCARD bool query_wait(Conn *conn, int64_t until_us, Err *err);

/*
 * Wait for what query_send sent.  The last result goes to *out (may be NULL), the first error to
 * *err.  In the middle of a COPY it returns true as soon as the copy may begin.
 */
NODISCARD bool query_finish(Conn *conn, Rows **out, Err *err);

/*
 * Wait for the next result of what query_send sent: several statements give one each.  *out is NULL
 * after the last one.  Drain with query_finish after an error.
 */
NODISCARD bool query_next(Conn *conn, Rows **out, Err *err);

/*
 * Fill *err from the result of a session that has ended or broken off what it did, as far as it has
 * arrived; waits for nothing, and may be called from the loop.  The session is of no more use.
 * Always returns false.
 */
bool query_explain_end(Conn *conn, Err *err);

/* Roll back whatever transaction is open, ignoring errors (the connection may be gone). */
void query_rollback(Conn *conn);

/*
 * The statement will run more than once on this session: prepare it the first time already, and not
 * only when it comes again.
 */
void query_remember(Conn *conn, const char *sql);

/* The line at which the last COPY IN of the session failed, counted from 1; 0 when unknown. */
int64_t query_copy_line(const Conn *conn);

/* State of the transaction: true inside a transaction block, failed or not. */
bool query_in_transaction(const Conn *conn);

#endif
