/* Fuzz input for a decoder; see stream_input.h. */
#include "stream_input.h"

#include <stdlib.h>
#include <string.h>

#include "../../decoder/cursor.h"

enum { MOST_TABLES = 4, MOST_COLUMNS = 64 };

typedef struct Tables {
    DecoderTable tables[MOST_TABLES];
    const char *columns[MOST_TABLES][MOST_COLUMNS];
    bool unsent[MOST_TABLES][MOST_COLUMNS];
    uint32_t type_oids[MOST_TABLES][MOST_COLUMNS];
    int count;
} Tables;

static void
demand(bool promise)
{
    if (!promise)
        abort();
}

static void
read_table(Cursor *in, Tables *out, int index)
{
    DecoderTable *table = &out->tables[index];

    table->relid = cursor_u32(in);
    table->schema = cursor_text(in);
    table->name = cursor_text(in);
    table->column_count = cursor_u8(in) % MOST_COLUMNS + 1;
    table->columns = out->columns[index];
    table->unsent = out->unsent[index];
    table->type_oids = out->type_oids[index];
    for (int i = 0; i < table->column_count; i++) {
        out->type_oids[index][i] = cursor_u32(in);
        out->unsent[index][i] = cursor_u8(in) != 0;
        out->columns[index][i] = cursor_text(in);
    }
}

static void
read_tables(Cursor *in, Tables *out)
{
    out->count = cursor_u8(in) % MOST_TABLES + 1;
    for (int i = 0; i < out->count; i++)
        read_table(in, out, i);
}

static void
check_datum(const Datum *datum)
{
    volatile uint8_t last = 0;

    demand(datum->kind <= DATUM_BINARY);
    if (datum->kind < DATUM_TEXT) {
        demand(datum->bytes == NULL && datum->len == 0);
        return;
    }
    if (datum->bytes == NULL)
        abort();
    for (uint32_t i = 0; i < datum->len; i++)
        last = datum->bytes[i];
    (void)last;
}

static void
check_row(const DecoderTable *table, const Datum *row, ChangeKind kind, bool is_whole)
{
    for (int i = 0; i < table->column_count; i++) {
        check_datum(&row[i]);
        if (table->unsent[i])
            demand(row[i].kind == DATUM_ABSENT);
        else if (is_whole)
            demand(row[i].kind != DATUM_ABSENT);
        if (kind != CHANGE_UPDATE)
            demand(row[i].kind != DATUM_UNCHANGED);
    }
}

static void
check_change(const Tables *tables, const Change *change)
{
    const DecoderTable *table;
    bool has_new = change->kind == CHANGE_INSERT || change->kind == CHANGE_UPDATE;

    demand(change->kind <= CHANGE_TRUNCATE);
    demand(change->table >= 0 && change->table < tables->count);
    table = &tables->tables[change->table];
    demand((change->new_row != NULL) == has_new);
    demand(change->kind != CHANGE_DELETE || change->old_row != NULL);
    demand(change->kind == CHANGE_UPDATE || change->kind == CHANGE_DELETE ||
           change->old_row == NULL);
    demand(!change->old_is_full || change->old_row != NULL);
    if (change->new_row != NULL)
        check_row(table, change->new_row, change->kind, true);
    if (change->old_row != NULL)
        check_row(table, change->old_row, CHANGE_DELETE, change->old_is_full);
}

static void
read_message(Decoder *decoder, Plugin plugin, const Tables *tables, Cursor *in, size_t len)
{
    const uint8_t *bytes = cursor_bytes(in, len);
    uint8_t *copy = malloc(len);
    Arena *arena = arena_new();
    Change change = {.kind = CHANGE_NONE, .table = -4711};
    Err err = {0};

    if (bytes == NULL || copy == NULL)
        abort();
    memcpy(copy, bytes, len);
    if (decoder_read(decoder, copy, len, 1, arena, &change, &err)) {
        demand(err.kind == ERR_NONE);
        check_change(tables, &change);
        if (change.kind != CHANGE_NONE)
            demand(change.kind == decoder_peek(plugin, copy, len));
    } else {
        demand(err.kind == ERR_FAILED && err.message[0] != '\0');
        demand(change.table == -4711);
    }
    arena_free(arena);
    free(copy);
}

void
stream_input_run(Plugin plugin, const uint8_t *data, size_t size)
{
    Cursor in = cursor_over(data, size);
    Tables *tables = calloc(1, sizeof *tables);
    Decoder *decoder;

    read_tables(&in, tables);
    decoder = decoder_new(plugin, tables->tables, tables->count);
    while (cursor_left(&in) > 0) {
        size_t len = cursor_u16(&in);

        if (len > cursor_left(&in))
            len = cursor_left(&in);
        if (len == 0)
            decoder_reset(decoder);
        else
            read_message(decoder, plugin, tables, &in, len);
    }
    decoder_free(decoder);
    free(tables);
}
