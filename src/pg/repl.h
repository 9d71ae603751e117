/*
 * The replication commands: their own small grammar, built here and nowhere else.
 * Source: PostgreSQL manual, "Streaming Replication Protocol" and "Logical Streaming Replication
 * Parameters".  All names given here are ours and consist of [a-z0-9_].
 */
#ifndef WALTER_REPL_H
#define WALTER_REPL_H

#include "base/buf.h"
#include "decoder.h"
#include "pg/query.h"

/*
 * Send CREATE_REPLICATION_SLOT ... EXPORT_SNAPSHOT; it waits for running writers, possibly long.
 * Then query_is_done / repl_finish_slot.  The snapshot lives until the next command on `conn`; a
 * temporary slot goes with the session.
 */
NODISCARD bool repl_send_create_slot(Conn *conn, const char *slot, Plugin plugin, bool temporary,
                                     Err *err);

/*
 * The answer: the consistent point and the exported snapshot's name (new, free()).
 * ERR_REFUSED with a hint when the server does not allow the plugin or has no free slot.
 */
NODISCARD bool repl_finish_slot(Conn *conn, Lsn *consistent_lsn, char **snapshot, Err *err);

typedef struct ReplStart {
    const char *slot;
    Plugin plugin;
    const char *publication; /* pgoutput */
    const char *tables;      /* wal2json: its add-tables list, escaped by repl_add_table */
    bool binary;             /* pgoutput from PostgreSQL 14 on */
    bool numeric_as_string;  /* wal2json from 2.6 on */
    Lsn from_lsn;            /* the end LSN of the last transaction already applied */
} ReplStart;

/* Start streaming; from here on only copydata_read and repl_send_status. */
NODISCARD bool repl_start(Conn *conn, const ReplStart *start, Err *err);

/* Append schema.name to wal2json's comma-separated list, with its escapes. */
void repl_add_table(Buf *list, const char *schema, const char *name);

/* Tell the server how far we have read and durably applied. */
NODISCARD bool repl_send_status(Conn *conn, Lsn received_lsn, Lsn flushed_lsn, bool want_reply,
                                Err *err);

#endif
