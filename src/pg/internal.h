/* Shared inside src/pg only: what the modules that speak libpq know of a session. */
#ifndef WALTER_PG_INTERNAL_H
#define WALTER_PG_INTERNAL_H

#include <libpq-fe.h>
#include <stdint.h>

#include "pg/conn.h"

/* A statement that ran with parameters; from its second run on it is prepared on the server. */
typedef struct KnownStatement {
    char *sql;
    bool prepared;
} KnownStatement;

enum { KNOWN_STATEMENTS_MAX = 128 };

struct Conn {
    PGconn *pg;
    Loop *loop;
    Watch *watch;
    ConnKind kind;
    char *role_search_path;
    char *role_formats;
    char *role_inputs;
    bool lost;
    char *farewell; /* the FATAL message that the server sent while the session was idle, or NULL */
    bool judges_data;  /* see conn_judge_data */
    int64_t copy_line; /* where the last COPY IN failed, 0 = unknown */
    bool reading;
    KnownStatement known[KNOWN_STATEMENTS_MAX];
    int known_count;
    ConnReady ready;
    void *owner;
};

/* Fill *err from libpq's last error on the connection; ERR_LOST when it is gone. */
bool conn_error(Conn *conn, Err *err);

/* The connection is gone: its socket, which libpq has closed or will close, is polled no more. */
void conn_note_lost(Conn *conn);

/* Tell the loop what to wait for after something was sent. */
void conn_flush(Conn *conn);

#endif
