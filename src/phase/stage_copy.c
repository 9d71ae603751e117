/* Rows into the staging table, with COPY; see stage.h. */
#include <limits.h>
#include <stdint.h>

#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/stage_internal.h"

enum { FLUSH_BYTES = 256 * 1024 };

bool
stage_is_sent(const Stage *stage, int column)
{
    return !stage->run->original.columns[column].generated;
}

static void
add_text_value(Buf *data, const Datum *datum)
{
    for (uint32_t i = 0; i < datum->len; i++) {
        char byte = (char)datum->bytes[i];

        switch (byte) {
        case '\\':
            buf_add(data, "\\\\", 2);
            break;
        case '\n':
            buf_add(data, "\\n", 2);
            break;
        case '\r':
            buf_add(data, "\\r", 2);
            break;
        case '\t':
            buf_add(data, "\\t", 2);
            break;
        default:
            buf_add_byte(data, byte);
        }
    }
}

static bool
add_value(const Stage *stage, Buf *data, const Datum *datum, Err *err)
{
    if (stage->run->binary_stream) {
        if (datum->kind == DATUM_TEXT)
            return err_set(err, ERR_FAILED, "the server sent text where binary was agreed");
        if (datum->kind != DATUM_BINARY) {
            buf_add_u32(data, UINT32_MAX);
            return true;
        }
        buf_add_u32(data, datum->len);
        buf_add(data, datum->bytes, datum->len);
        return true;
    }
    if (datum->kind == DATUM_BINARY)
        return err_set(err, ERR_FAILED, "the server sent binary where text was agreed");
    buf_add_byte(data, '\t');
    if (datum->kind == DATUM_TEXT)
        add_text_value(data, datum);
    else
        buf_add(data, "\\N", 2);
    return true;
}

bool
stage_add_row(Stage *stage, int seq, int set, const Datum *row, Err *err)
{
    Buf *data = &stage->data;
    int fields = 2;

    for (int i = 0; i < stage->key.column_count; i++)
        fields += stage_is_sent(stage, i) ? 1 : 0;
    if (stage->run->binary_stream) {
        buf_add_u16(data, (uint16_t)fields);
        buf_add_u32(data, 4);
        buf_add_u32(data, (uint32_t)seq);
        buf_add_u32(data, 4);
        buf_add_u32(data, (uint32_t)set);
    } else {
        buf_printf(data, "%d\t%d", seq, set);
    }
    for (int i = 0; i < stage->key.column_count; i++)
        if (stage_is_sent(stage, i) && !add_value(stage, data, &row[i], err))
            return false;
    if (!stage->run->binary_stream)
        buf_add_byte(data, '\n');
    return true;
}

static bool
flush_data(Stage *stage, Err *err)
{
    bool full = false;

    if (stage->data.len > INT_MAX)
        return err_set(err, ERR_FAILED, "a staged row is larger than 2 GB");
    if (!copydata_write(stage->conn, stage->data.data, (int)stage->data.len, &full, err))
        return false;
    buf_clear(&stage->data);
    while (copydata_is_full(stage->conn)) {
        if (conn_is_lost(stage->conn))
            return err_set(err, ERR_LOST, "lost the connection while staging changes");
        if (!loop_turn(conn_loop(stage->conn), INT64_MAX / 2, err))
            return false;
    }
    return true;
}

bool
stage_flush_if_large(Stage *stage, Err *err)
{
    return stage->data.len < FLUSH_BYTES || flush_data(stage, err);
}

bool
stage_begin_copy(Stage *stage, const char *table, Err *err)
{
    static const char HEADER[19] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0";
    bool binary = stage->run->binary_stream;
    AUTO(Text) *sql =
        sql_build("copy %S (%I, %I%S) from stdin%S", table, stage->run->projection.seq,
                  stage->set_name, stage->columns, binary ? " (format binary)" : "");

    buf_clear(&stage->data);
    if (binary)
        buf_add(&stage->data, HEADER, sizeof HEADER);
    return query_exec(stage->conn, sql, err);
}

bool
stage_end_copy(Stage *stage, Err *err)
{
    if (stage->run->binary_stream)
        buf_add_u16(&stage->data, UINT16_MAX);
    return flush_data(stage, err) && copydata_end(stage->conn, NULL, err) &&
           query_finish(stage->conn, NULL, err);
}
