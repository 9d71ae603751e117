/* The replication commands; see repl.h. */
#include "pg/repl.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "frame.h"
#include "pg/copydata.h"
#include "pg/sql.h"

static const char *const PLUGIN_NAMES[] = {"pgoutput", "wal2json"};

bool
repl_send_create_slot(Conn *conn, const char *slot, Plugin plugin, bool temporary, Err *err)
{
    /* the keyword form: 13 and 14 do not know the parenthesised one */
    AUTO(Text) *command = sql_build("CREATE_REPLICATION_SLOT %S%S LOGICAL %S EXPORT_SNAPSHOT", slot,
                                    temporary ? " TEMPORARY" : "", PLUGIN_NAMES[plugin]);

    return query_send(conn, command, err);
}

bool
repl_finish_slot(Conn *conn, Lsn *consistent_lsn, char **snapshot, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_finish(conn, &rows, err)) {
        if (strstr(err->message, "output_plugin_libraries") != NULL ||
            strstr(err->message, "output plugin") != NULL) {
            err->kind = ERR_REFUSED;
            /* the server's own hint does not say how to quote */
            err->hint[0] = '\0';
            err_hint(err, "Use --plugin=pgoutput, or have a superuser list the plugin: "
                          "output_plugin_libraries = 'pgoutput','wal2json' (each name quoted).");
        }
        return err_wrap(err, "creating the replication slot");
    }
    if (rows_count(rows) != 1 || rows_columns(rows) < 4 ||
        !lsn_parse(rows_text(rows, 0, 1), consistent_lsn) || rows_text(rows, 0, 2) == NULL)
        return err_set(err, ERR_FAILED,
                       "the server's answer to CREATE_REPLICATION_SLOT is unknown");
    *snapshot = mem_copy_text(rows_text(rows, 0, 2));
    return true;
}

void
repl_add_table(Buf *list, const char *schema, const char *name)
{
    const char *const parts[] = {schema, name};

    if (list->len > 0)
        buf_add_byte(list, ',');
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            buf_add_byte(list, '.');
        for (const char *at = parts[i]; *at != '\0'; at++) {
            if (strchr(" ,.*'\\", *at) != NULL)
                buf_add_byte(list, '\\');
            buf_add_byte(list, *at);
        }
    }
}

/* Option values are quoted SQL-style, but the replication grammar knows no E'' strings. */
static void
add_value(Buf *command, const char *value)
{
    buf_add_byte(command, '\'');
    for (; *value != '\0'; value++) {
        if (*value == '\'')
            buf_add_byte(command, '\'');
        buf_add_byte(command, *value);
    }
    buf_add_byte(command, '\'');
}

bool
repl_start(Conn *conn, const ReplStart *start, Err *err)
{
    char lsn[LSN_TEXT_SIZE];
    BUF_AUTO(command);

    sql_add(&command, "START_REPLICATION SLOT %S LOGICAL %S (", start->slot,
            lsn_text(start->from_lsn, lsn));
    if (start->plugin == PLUGIN_PGOUTPUT) {
        buf_add_text(&command, "proto_version '1', publication_names ");
        add_value(&command, start->publication);
        if (start->binary)
            buf_add_text(&command, ", binary 'true'");
    } else {
        buf_add_text(&command, "\"format-version\" '2', \"include-lsn\" 'true', "
                               "\"include-xids\" 'true', \"include-types\" 'false', "
                               "\"include-type-oids\" 'true', \"add-tables\" ");
        add_value(&command, start->tables);
        if (start->numeric_as_string)
            buf_add_text(&command, ", \"numeric-data-types-as-string\" 'true'");
    }
    buf_add_text(&command, ")");
    return query_exec(conn, buf_text(&command), err);
}

bool
repl_send_status(Conn *conn, Lsn received_lsn, Lsn flushed_lsn, bool want_reply, Err *err)
{
    uint8_t message[FRAME_STATUS_SIZE];
    bool full;

    frame_write_status(message, received_lsn, flushed_lsn, clock_postgres_us(), want_reply);
    return copydata_write(conn, message, sizeof message, &full, err);
}
