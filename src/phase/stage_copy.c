/* Rows into the staging tables, with COPY; see stage.h. */
#include <stdint.h>

#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/stage_internal.h"

/* Bytes per message to the server: small values are collected, large ones go in pieces. */
enum { MESSAGE_BYTES = 256 * 1024 };

bool
stage_is_sent(const Stage *stage, int column)
{
    return !stage->run->original.columns[column].generated;
}

const char *
stage_copy_format(const Stage *stage)
{
    return stage->run->binary_stream ? " (format binary)" : "";
}

void
stage_add_copy_settings(const Stage *stage, Buf *sql)
{
    if (!stage->run->binary_stream)
        conn_add_pinned_formats(sql);
}

bool
stage_end_copy_settings(Stage *stage, Err *err)
{
    return stage->run->binary_stream ||
           query_exec(stage->conn, conn_role_formats(stage->conn), err);
}

/* Send a message, and wait until the server has taken it. */
static bool
send_bytes(Stage *stage, const void *bytes, size_t len, Err *err)
{
    bool full = false;

    if (!copydata_write(stage->conn, bytes, (int)len, &full, err))
        return false;
    while (copydata_is_full(stage->conn)) {
        if (conn_is_lost(stage->conn))
            return conn_explain_loss(stage->conn, err);
        if (!loop_turn(conn_loop(stage->conn), INT64_MAX / 2, err))
            return false;
    }
    return true;
}

static bool
flush(Stage *stage, Err *err)
{
    if (stage->data.len > 0 && !send_bytes(stage, stage->data.data, stage->data.len, err))
        return false;
    buf_clear(&stage->data);
    return true;
}

static bool
flush_if_large(Stage *stage, Err *err)
{
    return stage->data.len < MESSAGE_BYTES || flush(stage, err);
}

static bool
add_bytes(Stage *stage, const uint8_t *bytes, size_t len, Err *err)
{
    if (len < MESSAGE_BYTES) {
        buf_add(&stage->data, bytes, len);
        return true;
    }
    for (size_t done = 0; done < len;) {
        size_t piece = len - done < MESSAGE_BYTES ? len - done : MESSAGE_BYTES;

        if (!flush(stage, err) || !send_bytes(stage, bytes + done, piece, err))
            return false;
        done += piece;
    }
    return true;
}

/* What stands behind the backslash for a byte that means something to COPY; '\0' for any other. */
static char
escape_of(uint8_t byte)
{
    switch (byte) {
    case '\\':
        return '\\';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return '\0';
    }
}

static bool
add_text_value(Stage *stage, const Datum *datum, Err *err)
{
    size_t plain = 0; /* bytes before the one looked at that need no escape */

    for (size_t i = 0; i < datum->len; i++) {
        char escape = escape_of(datum->bytes[i]);

        if (escape == '\0') {
            plain++;
            continue;
        }
        if (!add_bytes(stage, datum->bytes + i - plain, plain, err) || !flush_if_large(stage, err))
            return false;
        buf_add_byte(&stage->data, '\\');
        buf_add_byte(&stage->data, escape);
        plain = 0;
    }
    return add_bytes(stage, datum->bytes + datum->len - plain, plain, err);
}

static bool
add_binary(Stage *stage, const Datum *datum, Err *err)
{
    if (datum->kind == DATUM_TEXT)
        return err_set(err, ERR_FAILED, "the server sent text where binary was agreed");
    if (datum->kind != DATUM_BINARY) {
        buf_add_u32(&stage->data, UINT32_MAX);
        return true;
    }
    buf_add_u32(&stage->data, datum->len);
    return add_bytes(stage, datum->bytes, datum->len, err);
}

static bool
add_text(Stage *stage, const Datum *datum, Err *err)
{
    if (datum->kind == DATUM_BINARY)
        return err_set(err, ERR_FAILED, "the server sent binary where text was agreed");
    buf_add_byte(&stage->data, '\t');
    if (datum->kind == DATUM_TEXT)
        return add_text_value(stage, datum, err);
    buf_add(&stage->data, "\\N", 2);
    return true;
}

/* What stands before the values: how many there are (binary), the row's number and its set. */
static void
add_row_head(Stage *stage, int seq, int set)
{
    Buf *data = &stage->data;
    int fields = 2;

    if (!stage->run->binary_stream) {
        buf_printf(data, "%d\t%d", seq, set);
        return;
    }
    for (int i = 0; i < stage->key.column_count; i++)
        fields += stage_is_sent(stage, i) ? 1 : 0;
    buf_add_u16(data, (uint16_t)fields);
    buf_add_u32(data, sizeof(uint32_t));
    buf_add_u32(data, (uint32_t)seq);
    buf_add_u32(data, sizeof(uint32_t));
    buf_add_u32(data, (uint32_t)set);
}

bool
stage_add_row(Stage *stage, int seq, int set, const Datum *row, Err *err)
{
    bool binary = stage->run->binary_stream;

    add_row_head(stage, seq, set);
    for (int i = 0; i < stage->key.column_count; i++) {
        if (!stage_is_sent(stage, i))
            continue;
        if (binary ? !add_binary(stage, &row[i], err) : !add_text(stage, &row[i], err))
            return false;
    }
    if (!binary)
        buf_add_byte(&stage->data, '\n');
    return flush_if_large(stage, err);
}

bool
stage_begin_copy(Stage *stage, const char *table, Err *err)
{
    BUF_AUTO(sql);

    stage_add_copy_settings(stage, &sql);
    sql_add(&sql, "copy %S (%I, %I%S) from stdin%S", table, stage->run->projection.seq,
            stage->set_name, stage->columns, stage_copy_format(stage));
    buf_clear(&stage->data);
    if (stage->run->binary_stream)
        copydata_add_header(&stage->data);
    return query_exec(stage->conn, buf_text(&sql), err);
}

bool
stage_end_copy(Stage *stage, Err *err)
{
    if (stage->run->binary_stream)
        buf_add_u16(&stage->data, UINT16_MAX);
    return flush(stage, err) && copydata_end(stage->conn, NULL, err) &&
           query_finish(stage->conn, NULL, err) && stage_end_copy_settings(stage, err);
}
