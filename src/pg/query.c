/* Running statements; see query.h. */
#include "pg/query.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mask.h"
#include "pg/internal.h"

struct Rows {
    PGresult *result;
};

enum { PARAM_MAX = 16 };

/* syntax_error, which is not only about SQL: tsvector and others say so of text */
static const char UNPARSABLE[] = "42601";

void
rows_free(Rows *rows)
{
    if (rows == NULL)
        return;
    PQclear(rows->result);
    free(rows);
}

int
rows_count(const Rows *rows)
{
    assert(rows != NULL);
    return PQntuples(rows->result);
}

int
rows_columns(const Rows *rows)
{
    return PQnfields(rows->result);
}

int64_t
rows_affected(const Rows *rows)
{
    return strtoll(PQcmdTuples(rows->result), NULL, 10);
}

const char *
rows_text(const Rows *rows, int row, int column)
{
    if (PQgetisnull(rows->result, row, column))
        return NULL;
    return PQgetvalue(rows->result, row, column);
}

int64_t
rows_int(const Rows *rows, int row, int column)
{
    const char *text = rows_text(rows, row, column);

    return text == NULL ? 0 : strtoll(text, NULL, 10);
}

bool
rows_bool(const Rows *rows, int row, int column)
{
    const char *text = rows_text(rows, row, column);

    return text != NULL && text[0] == 't';
}

/*
 * May a message of that SQLSTATE quote a value of a row?  Data exceptions (22) do, and what tsvector
 * and the like say of text that they cannot read (42601).  A session that rehearses the operator's
 * statement sees no rows: what is quoted there is his own; and a walsender quotes options.
 */
static bool
may_quote_values(const Conn *conn, const char *state)
{
    if (conn->kind == CONN_REPLICATION || (conn->kind == CONN_EXPRESSIONS && !conn->judges_data))
        return false;
    return strncmp(state, "22", 2) == 0 || (conn->judges_data && strcmp(state, UNPARSABLE) == 0);
}

/* XML has SQLSTATEs like 2200M, and a DETAIL that shows the document. */
static bool
is_about_xml(const char *state)
{
    return strncmp(state, "2200", 4) == 0 && state[4] >= 'A';
}

/*
 * The server's DETAIL may hold a whole row ("Failing row contains ..."), and a function's whatever
 * its author put there; of those about constraints only the one that names a key goes on.
 */
static const char *
harmless_detail(const PGresult *result, const char *state)
{
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);

    if (detail == NULL || strncmp(state, "P0", 2) == 0 || strncmp(state, "38", 2) == 0 ||
        strncmp(state, "39", 2) == 0 || strncmp(state, "44", 2) == 0 || is_about_xml(state))
        return NULL;
    if (strncmp(state, "23", 2) == 0 && strncmp(detail, "Key (", 5) != 0)
        return NULL;
    return detail;
}

/* "message: detail", without values of rows. */
static void
add_reason(const Conn *conn, const PGresult *result, const char *state, Buf *reason)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = harmless_detail(result, state);
    bool mask = may_quote_values(conn, state);

    if (mask)
        mask_add(message, reason);
    else
        buf_add_text(reason, message);
    if (detail == NULL)
        return;
    buf_add_text(reason, ": ");
    if (mask)
        mask_add(detail, reason);
    else
        buf_add_text(reason, detail);
}

/* "COPY t, line 5, column a: ..." in an error's context; 0 when it says something else. */
static int64_t
line_of_context(const PGresult *result)
{
    const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
    const char *line = context == NULL ? NULL : strstr(context, ", line ");

    return line == NULL ? 0 : strtoll(line + strlen(", line "), NULL, 10);
}

static bool
result_error(Conn *conn, const PGresult *result, Err *err)
{
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *state = code == NULL ? "" : code;
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    BUF_AUTO(reason);
    ErrKind kind;

    if (PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) == NULL)
        return conn_error(conn, err);
    conn->copy_line = line_of_context(result);
    kind = err_kind_of_sqlstate(state);
    if (kind == ERR_DATA && !conn->judges_data)
        kind = ERR_FAILED;
    /* our own statements have been rehearsed: it is a value that cannot be parsed */
    if (kind == ERR_FAILED && conn->judges_data && strcmp(state, UNPARSABLE) == 0)
        kind = ERR_DATA;
    add_reason(conn, result, state, &reason);
    err_set(err, kind, "%s", buf_text(&reason));
    if (err->sqlstate[0] == '\0')
        (void)snprintf(err->sqlstate, sizeof err->sqlstate, "%.5s", state);
    if (hint != NULL)
        err_hint(err, "%s", hint);
    if (kind == ERR_LOST)
        conn_note_lost(conn);
    return false;
}

static bool
is_error(ExecStatusType status)
{
    return status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE ||
           status == PGRES_NONFATAL_ERROR;
}

static bool
is_copy(ExecStatusType status)
{
    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static bool
wait_until_readable(Conn *conn, Err *err)
{
    conn_flush(conn);
    while (PQisBusy(conn->pg) != 0) {
        if (conn->lost)
            return conn_error(conn, err);
        if (!loop_turn(conn->loop, clock_now_us() + 1000000, err))
            return false;
        if (conn->lost && PQisBusy(conn->pg) != 0 && PQconsumeInput(conn->pg) == 0)
            return conn_error(conn, err);
    }
    return true;
}

bool
query_send(Conn *conn, const char *sql, Err *err)
{
    if (PQsendQuery(conn->pg, sql) == 0)
        return conn_error(conn, err);
    conn_flush(conn);
    return true;
}

bool
query_is_done(Conn *conn)
{
    return conn->lost || PQisBusy(conn->pg) == 0;
}

bool
query_wait(Conn *conn, int64_t until_us, Err *err)
{
    while (!query_is_done(conn) && clock_now_us() < until_us)
        if (!loop_turn(conn->loop, until_us, err))
            return false;
    return true;
}

static Rows *
rows_of(PGresult *result)
{
    Rows *rows = mem_new(1, sizeof *rows);

    rows->result = result;
    return rows;
}

/* Read what follows a result that was an error, so that the session can be used again. */
static bool
drain(Conn *conn, Err *err)
{
    PGresult *result;

    while (wait_until_readable(conn, err) && (result = PQgetResult(conn->pg)) != NULL)
        PQclear(result);
    return false;
}

bool
query_next(Conn *conn, Rows **out, Err *err)
{
    PGresult *result;

    if (!wait_until_readable(conn, err))
        return false;
    result = PQgetResult(conn->pg);
    if (result != NULL && is_error(PQresultStatus(result))) {
        result_error(conn, result, err);
        PQclear(result);
        return drain(conn, err);
    }
    *out = result == NULL ? NULL : rows_of(result);
    return true;
}

bool
query_finish(Conn *conn, Rows **out, Err *err)
{
    PGresult *last = NULL;
    bool ok = true;

    for (;;) {
        PGresult *result;
        ExecStatusType status;

        if (!wait_until_readable(conn, err)) {
            PQclear(last);
            return false;
        }
        result = PQgetResult(conn->pg);
        if (result == NULL)
            break;
        status = PQresultStatus(result);
        if (is_error(status))
            ok = result_error(conn, result, err);
        PQclear(last);
        last = result;
        if (is_copy(status))
            break;
    }
    if (ok && last == NULL && (out != NULL || conn_is_lost(conn)))
        ok = conn_error(conn, err);
    if (ok && out != NULL) {
        *out = rows_of(last);
        return true;
    }
    PQclear(last);
    return ok;
}

/*
 * Find the statement among those that have run before; *number is its place, or -1 for one that is
 * new or for which there is no more room.
 */
static bool
is_known(Conn *conn, const char *sql, int *number)
{
    *number = -1;
    for (int i = 0; i < conn->known_count; i++)
        if (strcmp(conn->known[i].sql, sql) == 0) {
            *number = i;
            return true;
        }
    if (conn->known_count < KNOWN_STATEMENTS_MAX)
        conn->known[conn->known_count++] = (KnownStatement){.sql = mem_copy_text(sql)};
    return false;
}

void
query_remember(Conn *conn, const char *sql)
{
    int number;

    (void)is_known(conn, sql, &number);
}

/* What runs again is prepared: planning the catalog queries takes longer than running them. */
static bool
send_with_params(Conn *conn, const char *sql, int count, const char *const *values, Err *err)
{
    int number;
    char name[32];

    if (!is_known(conn, sql, &number))
        return PQsendQueryParams(conn->pg, sql, count, NULL, values, NULL, NULL, 0) != 0 ||
               conn_error(conn, err);
    (void)snprintf(name, sizeof name, "walter_known_%d", number);
    if (!conn->known[number].prepared) {
        if (PQsendPrepare(conn->pg, name, sql, 0, NULL) == 0)
            return conn_error(conn, err);
        if (!query_finish(conn, NULL, err))
            return false;
        conn->known[number].prepared = true;
    }
    return PQsendQueryPrepared(conn->pg, name, count, values, NULL, NULL, 0) != 0 ||
           conn_error(conn, err);
}

bool
query_explain_end(Conn *conn, Err *err)
{
    PGresult *result = PQisBusy(conn->pg) != 0 ? NULL : PQgetResult(conn->pg);

    if (result != NULL && is_error(PQresultStatus(result)))
        result_error(conn, result, err);
    PQclear(result);
    return err_set(err, ERR_LOST, "the server gives no reason");
}

bool
query_run(Conn *conn, const char *sql, const char *const *params, Rows **out, Err *err)
{
    const char *values[PARAM_MAX];
    int count = 0;

    if (conn->lost)
        return conn_error(conn, err);
    while (params != NULL && params[count] != NULL) {
        if (count == PARAM_MAX)
            abort();
        values[count] = params[count];
        count++;
    }
    return send_with_params(conn, sql, count, values, err) && query_finish(conn, out, err);
}

bool
query_simple(Conn *conn, const char *sql, Rows **out, Err *err)
{
    return query_send(conn, sql, err) && query_finish(conn, out, err);
}

bool
query_exec(Conn *conn, const char *sql, Err *err)
{
    return query_simple(conn, sql, NULL, err);
}

bool
query_one(Conn *conn, const char *sql, const char *const *params, Rows **out, Err *err)
{
    Rows *rows = NULL;

    if (!query_run(conn, sql, params, &rows, err))
        return false;
    if (rows_count(rows) != 1) {
        int count = rows_count(rows);

        rows_free(rows);
        return err_set(err, ERR_FAILED, "expected one row, got %d", count);
    }
    *out = rows;
    return true;
}

void
query_rollback(Conn *conn)
{
    Err ignored = {0};

    if (conn == NULL || conn_is_lost(conn) || !query_in_transaction(conn))
        return;
    loop_shield(conn->loop);
    /* a statement may be under way; who was told to stop does not wait for it */
    if (PQtransactionStatus(conn->pg) == PQTRANS_ACTIVE && !loop_is_stopping(conn->loop) &&
        !query_finish(conn, NULL, &ignored))
        err_clear(&ignored);
    if (!query_exec(conn, "rollback", &ignored))
        err_clear(&ignored);
    loop_unshield(conn->loop);
}

int64_t
query_copy_line(const Conn *conn)
{
    return conn->copy_line;
}

bool
query_in_transaction(const Conn *conn)
{
    return PQtransactionStatus(conn->pg) != PQTRANS_IDLE;
}
