/* Server sessions; see conn.h. */
#include "pg/conn.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mask.h"
#include "pg/internal.h"
#include "pg/query.h"
#include "pg/sql.h"

static const int64_t CONNECT_TIMEOUT_US = 30 * INT64_C(1000000);

/*
 * Settings that every session pins.  `text` marks those that change how values look as text or
 * what text means; sessions that evaluate expressions keep the role's own.
 * Names unknown to a server version are skipped by the query below.
 */
static const struct {
    const char *name;
    const char *value;
    bool text;
} PINS[] = {
    {"statement_timeout", "0", false},
    {"lock_timeout", "0", false},
    {"idle_in_transaction_session_timeout", "0", false},
    {"idle_session_timeout", "0", false},
    {"transaction_timeout", "0", false},
    {"wal_sender_timeout", "60s", false},
    /* else the sessions of a client that vanished keep their locks and snapshots for two hours */
    {"tcp_keepalives_idle", "30", false},
    {"tcp_keepalives_interval", "10", false},
    {"tcp_keepalives_count", "3", false},
    {"search_path", "pg_catalog, pg_temp", false},
    {"default_transaction_isolation", "read committed", false},
    {"default_transaction_read_only", "off", false},
    {"default_transaction_deferrable", "off", false},
    {"row_security", "off", false},
    {"synchronous_commit", "local", false},
    {"standard_conforming_strings", "on", false},
    {"check_function_bodies", "off", false},
    {"default_table_access_method", "heap", false},
    {"default_tablespace", "", false},
    /* only catalog look-ups by oid and apply's single-row statements are ever prepared */
    {"plan_cache_mode", "force_generic_plan", false},
    {"jit", "off", false},
    /* it decides what an xml value may be that is read, in binary, too */
    {"xmloption", "content", false},
    {"datestyle", "ISO, MDY", true},
    {"intervalstyle", "postgres", true},
    {"timezone", "UTC", true},
    {"extra_float_digits", "3", true},
    {"bytea_output", "hex", true},
    {"xmlbinary", "base64", true},
    {"lc_monetary", "C", true},
    /* off: a NULL in an array that is read as text becomes the string */
    {"array_nulls", "on", true},
    {"quote_all_identifiers", "off", false},
};

void
conn_note_lost(Conn *conn)
{
    conn->lost = true;
    if (conn->watch != NULL)
        loop_watch_events(conn->watch, 0);
}

bool
conn_error(Conn *conn, Err *err)
{
    const char *reason = PQerrorMessage(conn->pg);

    if (PQstatus(conn->pg) == CONNECTION_BAD)
        conn_note_lost(conn);
    if (!conn->lost)
        return err_set(err, ERR_FAILED, "%s", reason);
    if (conn->farewell != NULL)
        reason = conn->farewell;
    /* what libpq adds in further lines is guesswork */
    return err_set(err, ERR_LOST, "lost the connection to the server%s%.*s",
                   reason[0] == '\0' ? "" : ": ", (int)strcspn(reason, "\n"), reason);
}

static short
wanted_events(const Conn *conn, bool unsent)
{
    int events = (conn->reading ? POLLIN : 0) | (unsent ? POLLOUT : 0);

    return (short)(conn->lost ? 0 : events);
}

void
conn_flush(Conn *conn)
{
    int left = conn->lost ? 0 : PQflush(conn->pg);

    if (left < 0)
        conn_note_lost(conn);
    loop_watch_events(conn->watch, wanted_events(conn, left > 0));
}

static bool
on_socket(void *owner, short ready, Err *err)
{
    Conn *conn = owner;

    if ((ready & POLLNVAL) != 0 ||
        ((ready & (POLLIN | POLLHUP | POLLERR)) != 0 && PQconsumeInput(conn->pg) == 0))
        conn_note_lost(conn);
    /* what comes while no statement is under way: notices, or the server's farewell */
    if (PQtransactionStatus(conn->pg) != PQTRANS_ACTIVE)
        (void)PQisBusy(conn->pg);
    conn_flush(conn);
    return conn->ready == NULL || conn->ready(conn->owner, err);
}

/*
 * The SQLSTATE in a message of libpq's, which has no other way to tell it before there is a session:
 * with PQERRORS_VERBOSE it stands behind the severity, "FATAL:  57P03: the database system ...".
 * "" where there is none, because it is not the server that speaks.
 */
static void
find_sqlstate(const char *message, char state[6])
{
    state[0] = '\0';
    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  "))
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':') {
            memcpy(state, at + 3, 5);
            state[5] = '\0';
        }
}

/* Why is there no session?  Wrong password or database: a refusal; no room just now: not. */
static bool
connect_error(Conn *conn, Err *err)
{
    const char *reason = PQerrorMessage(conn->pg);
    char state[6];
    ErrKind kind;

    find_sqlstate(reason, state);
    kind = err_kind_of_sqlstate(state);
    /* nobody has a password to send: no later try will either */
    if (PQconnectionNeedsPassword(conn->pg) != 0)
        kind = ERR_REFUSED;
    else if (kind != ERR_REFUSED)
        kind = ERR_LOST;
    /* the server's further lines are for its developers; libpq's are about the other hosts */
    return err_set(err, kind, "could not connect: %.*s",
                   (int)(state[0] == '\0' ? strlen(reason) : strcspn(reason, "\n")), reason);
}

/* Drive the connection attempt to its end. */
static bool
finish_connecting(Conn *conn, Err *err)
{
    int64_t deadline_us = clock_now_us() + CONNECT_TIMEOUT_US;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (status != PGRES_POLLING_OK) {
        Watch *watch;
        bool ok;

        if (status == PGRES_POLLING_FAILED || PQsocket(conn->pg) < 0)
            return connect_error(conn, err);
        if (clock_now_us() >= deadline_us)
            return err_set(err, ERR_LOST, "could not connect: the server did not answer in time");
        watch = loop_watch(conn->loop, PQsocket(conn->pg),
                           status == PGRES_POLLING_READING ? POLLIN : POLLOUT, NULL, NULL);
        ok = loop_turn(conn->loop, deadline_us, err);
        loop_unwatch(conn->loop, watch);
        if (!ok)
            return false;
        status = PQconnectPoll(conn->pg);
    }
    return true;
}

static bool
is_uri(const char *dbname)
{
    return strncmp(dbname, "postgresql://", 13) == 0 || strncmp(dbname, "postgres://", 11) == 0;
}

/* libpq's own rule: does a database name stand for more than a name? */
static bool
is_connection_string(const char *dbname)
{
    return is_uri(dbname) || strchr(dbname, '=') != NULL;
}

/* A number, or one for each host; none is the default's. */
static bool
is_port_list(const char *ports)
{
    while (*ports != '\0') {
        size_t digits = strspn(ports, "0123456789");

        if (digits > 5 || (ports[digits] != '\0' && ports[digits] != ','))
            return false;
        ports += digits + (ports[digits] == ',');
    }
    return true;
}

/*
 * In a URI whose password has characters that should have been encoded, libpq finds the parts
 * elsewhere: "u:a/b@h" has host "u" and database "b@h".  What it would say of them is said aloud.
 */
static bool
has_stray_at(const char *uri)
{
    const char *at = strstr(uri, "://") + 3;
    size_t len = strcspn(at, "?");
    const char *first = memchr(at, '@', len);
    const char *slash = memchr(at, '/', len);

    if (first == NULL)
        return false;
    return (slash != NULL && slash < first) ||
           memchr(first + 1, '@', len - (size_t)(first + 1 - at)) != NULL;
}

static bool
refuse_target(const char *dbname, const char *why, Err *err)
{
    BUF_AUTO(text);

    /* any word in it may be a part of the password, but for that of an option */
    if (strstr(dbname, "pass") == NULL && strncmp(why, "invalid connection option", 25) == 0)
        buf_add_text(&text, why);
    else
        mask_add(why, &text);
    (void)err_set(err, ERR_USAGE, "could not read the connection string: %s", buf_text(&text));
    return err_hint(err, "%s",
                    is_uri(dbname)
                        ? "In a URI, characters like @ / : % # in a password are written "
                          "as %40 %2F %3A %25 %23."
                        : "A value with blanks or quotation marks in it is written in "
                          "single quotation marks.");
}

/* What no server will ever make sense of is a mistake on the command line, not a lost connection. */
static bool
check_target(const ConnTarget *target, Err *err)
{
    char *message = NULL;
    PQconninfoOption *options;
    bool ok = true;

    if (target->dbname == NULL || !is_connection_string(target->dbname))
        return true;
    if (is_uri(target->dbname) && has_stray_at(target->dbname))
        return refuse_target(target->dbname, "there is an @ where none belongs", err);
    options = PQconninfoParse(target->dbname, &message);
    if (options == NULL) {
        ok = refuse_target(target->dbname, message == NULL ? "out of memory" : message, err);
        PQfreemem(message);
        return ok;
    }
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
        if (strcmp(option->keyword, "port") == 0 && option->val != NULL &&
            !is_port_list(option->val))
            ok = refuse_target(target->dbname, "the port is no number", err);
    PQconninfoFree(options);
    return ok;
}

static PGconn *
start_connecting(const ConnTarget *target, ConnKind kind, const char *purpose)
{
    const char *keywords[16] = {0};
    const char *values[16] = {0};
    char *name = mem_format("walter: %s", purpose);
    PGconn *pg;
    int n = 0;
    const struct {
        const char *keyword;
        const char *value;
    } all[] = {
        /* a later keyword wins over what a URI in dbname says, so what was given comes last */
        {"connect_timeout", "30"},
        {"keepalives_idle", "30"},
        {"keepalives_interval", "10"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "60000"},
        {"dbname", target->dbname},
        {"host", target->host},
        {"port", target->port},
        {"user", target->user},
        {"password", target->password},
        {"application_name", name},
        {"replication", kind == CONN_REPLICATION ? "database" : NULL},
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].value != NULL) {
            keywords[n] = all[i].keyword;
            values[n++] = all[i].value;
        }
    pg = PQconnectStartParams(keywords, values, 1);
    free(name);
    return pg;
}

/* One query that remembers what the role has and then pins what we need. */
static void
build_pin_query(Buf *sql, ConnKind kind)
{
    bool first = true;

    buf_add_text(sql, "select pg_catalog.set_config(p.name, p.value, false) from (values ");
    for (size_t i = 0; i < sizeof PINS / sizeof PINS[0]; i++) {
        if (kind == CONN_EXPRESSIONS && PINS[i].text)
            continue;
        if (!first)
            buf_add_text(sql, ", ");
        sql_add(sql, "(%L, %L)", PINS[i].name, PINS[i].value);
        first = false;
    }
    /* every role may set them; not from pg_settings, which computes all there are */
    buf_add_text(sql, ") p (name, value)"
                      " where pg_catalog.current_setting(p.name, true) is not null");
}

/* What text means to the role, in output that every setting reads alike. */
static void
add_role_input(Buf *sql, const char *name, const char *value)
{
    const char *order = strchr(value, ',');

    if (strcmp(name, "timezone") == 0)
        sql_add(sql, "set local timezone to %L;", value);
    else if (strcmp(name, "datestyle") == 0 && order != NULL) {
        AUTO(Text) *style = mem_format("ISO%s", order);

        sql_add(sql, "set local datestyle to %L;", style);
    }
}

/* Remember search_path and, as "set local" statements, the role's text formats. */
static bool
remember_role_settings(Conn *conn, Err *err)
{
    BUF_AUTO(sql);
    BUF_AUTO(formats);
    BUF_AUTO(inputs);
    AUTO(Rows) *rows = NULL;

    buf_add_text(&sql, "select name, pg_catalog.current_setting(name)"
                       "  from (values ('search_path')");
    for (size_t i = 0; i < sizeof PINS / sizeof PINS[0]; i++)
        if (PINS[i].text)
            sql_add(&sql, ", (%L)", PINS[i].name);
    buf_add_text(&sql, ") v(name)");
    if (!query_simple(conn, buf_text(&sql), &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++) {
        const char *name = rows_text(rows, i, 0);

        if (strcmp(name, "search_path") == 0)
            mem_set_text(&conn->role_search_path, rows_text(rows, i, 1));
        else
            sql_add(&formats, "set local %I to %L;", name, rows_text(rows, i, 1));
        add_role_input(&inputs, name, rows_text(rows, i, 1));
    }
    conn->role_formats = buf_take(&formats);
    conn->role_inputs = buf_take(&inputs);
    return true;
}

static bool
pin_settings(Conn *conn, Err *err)
{
    const char *encoding = PQparameterStatus(conn->pg, "server_encoding");
    BUF_AUTO(sql);

    if (!remember_role_settings(conn, err))
        return false;
    build_pin_query(&sql, conn->kind);
    sql_add(&sql, "; set client_encoding to %L",
            encoding != NULL && strcmp(encoding, "SQL_ASCII") == 0 ? "SQL_ASCII" : "UTF8");
    return query_exec(conn, buf_text(&sql), err);
}

/* Notices are ignored; what ends an idle session comes as one, too, and explains the loss later. */
static void
on_notice(void *owner, const PGresult *result)
{
    Conn *conn = owner;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    if (severity != NULL && message != NULL && strcmp(severity, "FATAL") == 0)
        mem_set_text(&conn->farewell, message);
}

Conn *
conn_open(Loop *loop, const ConnTarget *target, ConnKind kind, const char *purpose, Err *err)
{
    Conn *conn;

    if (!check_target(target, err))
        return NULL;
    conn = mem_new(1, sizeof *conn);
    conn->loop = loop;
    conn->kind = kind;
    conn->reading = true;
    conn->pg = start_connecting(target, kind, purpose);
    if (conn->pg == NULL)
        abort();
    (void)PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE);
    if (PQstatus(conn->pg) == CONNECTION_BAD ? !connect_error(conn, err)
                                             : !finish_connecting(conn, err)) {
        conn_close(conn);
        return NULL;
    }
    (void)PQsetErrorVerbosity(conn->pg, PQERRORS_DEFAULT);
    (void)PQsetnonblocking(conn->pg, 1);
    (void)PQsetNoticeReceiver(conn->pg, on_notice, conn);
    conn->watch = loop_watch(loop, PQsocket(conn->pg), POLLIN, on_socket, conn);
    if (!pin_settings(conn, err)) {
        err_wrap(err, "preparing a session");
        conn_close(conn);
        return NULL;
    }
    return conn;
}

void
conn_close(Conn *conn)
{
    if (conn == NULL)
        return;
    loop_unwatch(conn->loop, conn->watch);
    PQfinish(conn->pg);
    for (int i = 0; i < conn->known_count; i++)
        free(conn->known[i].sql);
    free(conn->farewell);
    free(conn->role_search_path);
    free(conn->role_formats);
    free(conn->role_inputs);
    free(conn);
}

Loop *
conn_loop(const Conn *conn)
{
    return conn->loop;
}

int
conn_pid(const Conn *conn)
{
    return PQbackendPID(conn->pg);
}

int
conn_version(const Conn *conn)
{
    return PQserverVersion(conn->pg);
}

const char *
conn_database(const Conn *conn)
{
    return PQdb(conn->pg);
}

const char *
conn_user(const Conn *conn)
{
    return PQuser(conn->pg);
}

void
conn_judge_data(Conn *conn)
{
    conn->judges_data = true;
}

const char *
conn_role_search_path(const Conn *conn)
{
    return conn->role_search_path;
}

const char *
conn_role_formats(const Conn *conn)
{
    return conn->role_formats;
}

const char *
conn_role_inputs(const Conn *conn)
{
    return conn->role_inputs;
}

void
conn_add_pinned_formats(Buf *sql)
{
    for (size_t i = 0; i < sizeof PINS / sizeof PINS[0]; i++)
        if (PINS[i].text)
            sql_add(sql, "set local %I to %L;", PINS[i].name, PINS[i].value);
}

int64_t
conn_patience_us(const Conn *conn)
{
    PQconninfoOption *options = PQconninfo(conn->pg);
    int64_t patience_ms = 0;

    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL;
         option++)
        if (strcmp(option->keyword, "tcp_user_timeout") == 0 && option->val != NULL)
            patience_ms = strtoll(option->val, NULL, 10);
    PQconninfoFree(options);
    return patience_ms < 0 ? 0 : patience_ms * 1000;
}

bool
conn_is_lost(const Conn *conn)
{
    return conn->lost || PQstatus(conn->pg) == CONNECTION_BAD;
}

bool
conn_explain_loss(Conn *conn, Err *err)
{
    conn_note_lost(conn);
    return conn_error(conn, err);
}

void
conn_on_ready(Conn *conn, ConnReady ready, void *owner)
{
    conn->ready = ready;
    conn->owner = owner;
}

void
conn_set_reading(Conn *conn, bool reading)
{
    conn->reading = reading;
    conn_flush(conn);
}

void
conn_rest(Conn *conn, int64_t duration_us)
{
    loop_rest(conn->watch, clock_now_us() + duration_us);
}
