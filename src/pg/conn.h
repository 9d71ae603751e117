/*
 * Server sessions.  Everything is non-blocking and driven by the loop; opening a session, too.
 *
 * On connect each session pins every setting that a role or database default could turn against
 * us (timeouts, search_path, text formats); that happens here and nowhere else.
 * Only src/pg/ sees libpq.
 */
#ifndef WALTER_CONN_H
#define WALTER_CONN_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/loop.h"
#include "err.h"

/* Where to connect; NULL leaves the choice to libpq (environment, service file, .pgpass). */
typedef struct ConnTarget {
    const char *dbname; /* a name, a URI or a key=value string */
    const char *host;
    const char *port;
    const char *user;
    const char *password;
} ConnTarget;

typedef enum {
    CONN_SQL = 0,     /* ordinary session, text formats pinned */
    CONN_EXPRESSIONS, /* ordinary session that evaluates the operator's and owner's expressions:
                       * TimeZone, DateStyle and the like stay as the role has them, as they would
                       * for plain ALTER TABLE; only for values that travel in binary */
    CONN_REPLICATION  /* walsender session of the database (simple queries only) */
} ConnKind;

typedef struct Conn Conn;

/* Called from the loop after input was read or output was flushed.  Must not block. */
typedef bool (*ConnReady)(void *owner, Err *err);

/*
 * Open a session.  `purpose`: shown in application_name ("walter: copy").  New; close it with
 * conn_close.  NULL with ERR_LOST when the server cannot be reached, ERR_REFUSED when it does not
 * let us in.  Turns the loop.
 */
Conn *conn_open(Loop *loop, const ConnTarget *target, ConnKind kind, const char *purpose, Err *err);

/* Close a session.  A statement under way is not cancelled on the server.  NULL is allowed. */
void conn_close(Conn *conn);
AUTO_FREE_DEFINE(Conn, conn_close)

/* The loop that drives this session. */
Loop *conn_loop(const Conn *conn);

/* Process id of the server process behind the session. */
int conn_pid(const Conn *conn);

/* Server version as PQserverVersion gives it: 150020.  Only for pg/version, which compares it. */
int conn_version(const Conn *conn);

const char *conn_database(const Conn *conn);
const char *conn_user(const Conn *conn);

/*
 * From here on a value or row that the server objects to on this session (SQLSTATE classes 22, 23
 * and 44) is one of the table's that does not fit the new definition: ERR_DATA.  Without it such an
 * error comes from our own statements and is ERR_FAILED.
 */
void conn_judge_data(Conn *conn);

/* search_path as the connecting role would have it without us; borrowed. */
const char *conn_role_search_path(const Conn *conn);

/* SQL that sets TimeZone, DateStyle and the like to what the role has, for one transaction
 * ("set local ..."); borrowed. */
const char *conn_role_formats(const Conn *conn);

/*
 * SQL that lets text and local times mean what they mean to the role, while values still come out in
 * the formats that walter pins: TimeZone, and the order of day and month.  Borrowed.
 */
const char *conn_role_inputs(const Conn *conn);

/* Append SQL that sets them to what walter pins, for one transaction ("set local ..."). */
void conn_add_pinned_formats(Buf *sql);

/*
 * How long the operating system waits for an acknowledgement of what was sent before it gives the
 * connection up: tcp_user_timeout, which the connection string may change; 0 = its own default.
 */
int64_t conn_patience_us(const Conn *conn);

/* True once the connection is known to be gone. */
bool conn_is_lost(const Conn *conn);

/* Fill *err with why it is gone.  Always returns false. */
bool conn_explain_loss(Conn *conn, Err *err);

/* Call `ready` on every event of this session, from the loop; NULL ends that. */
void conn_on_ready(Conn *conn, ConnReady ready, void *owner);

/* Stop or resume reading from the session's socket (backpressure). */
void conn_set_reading(Conn *conn, bool reading);

/* Leave the session's socket alone for so long; what comes meanwhile waits. */
void conn_rest(Conn *conn, int64_t duration_us);

#endif
