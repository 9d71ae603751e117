/* Reader of pgoutput's messages; see pgoutput.h. */
#include "pgoutput.h"

#include <stdlib.h>
#include <string.h>

#include "cursor.h"
#include "relcache.h"

struct Pgoutput {
    TableSet set;
    RelCache *relations;
};

/* Which row a tuple is: what may be in it, and which of its columns count. */
typedef enum { TUPLE_INSERTED, TUPLE_UPDATED, TUPLE_OLD, TUPLE_OLD_KEY } TupleKind;

/* One message being read. */
typedef struct Reading {
    Pgoutput *reader;
    Arena *arena;
    Cursor in;
    Change change;
} Reading;

Pgoutput *
pgoutput_new(const TableSet *set)
{
    Pgoutput *reader = calloc(1, sizeof *reader);

    if (reader == NULL)
        abort();
    reader->set = *set;
    reader->relations = relcache_new();
    return reader;
}

void
pgoutput_free(Pgoutput *reader)
{
    if (reader == NULL)
        return;
    relcache_free(reader->relations);
    free(reader);
}

void
pgoutput_reset(Pgoutput *reader)
{
    relcache_clear(reader->relations);
}

static bool
read_begin(Reading *reading)
{
    reading->change.kind = CHANGE_BEGIN;
    reading->change.commit_lsn = cursor_u64(&reading->in);
    reading->change.commit_time_us = (int64_t)cursor_u64(&reading->in);
    reading->change.xid = cursor_u32(&reading->in);
    return true;
}

static bool
read_commit(Reading *reading, Err *err)
{
    uint8_t flags = cursor_u8(&reading->in);

    if (flags != 0)
        return err_set(err, ERR_FAILED, "pgoutput: unknown flags 0x%02x of a commit", flags);
    reading->change.kind = CHANGE_COMMIT;
    reading->change.commit_lsn = cursor_u64(&reading->in);
    reading->change.end_lsn = cursor_u64(&reading->in);
    reading->change.commit_time_us = (int64_t)cursor_u64(&reading->in);
    return true;
}

/* The next column of `table` at or behind `column` that the server has to send. */
static int
next_sent(const DecoderTable *table, int column)
{
    while (column < table->column_count && table_is_unsent(table, column))
        column++;
    return column;
}

/*
 * Find the column called `name`, which must be the next one the server has to send or one of the
 * unsent ones before it: PostgreSQL 18 may publish generated columns.  *next moves behind it.
 */
static bool
match_column(const DecoderTable *table, const char *name, int *next, Err *err)
{
    int expected = next_sent(table, *next);

    for (int column = *next; column <= expected && column < table->column_count; column++) {
        if (strcmp(table->columns[column], name) == 0) {
            *next = column + 1;
            return true;
        }
    }
    if (expected == table->column_count)
        return err_set(err, ERR_FAILED, "there is a new column \"%s\"", name) ||
               table_changed(table, err);
    return err_set(err, ERR_FAILED, "there is column \"%s\" where \"%s\" was expected", name,
                   table->columns[expected]) ||
           table_changed(table, err);
}

/* Read one column of a RELATION message; `table` is NULL for a table that is not ours. */
static bool
read_column(Cursor *in, const DecoderTable *table, int *next, RelationColumn *out, Err *err)
{
    uint8_t flags = cursor_u8(in);
    const char *name = cursor_text(in);
    uint32_t type_oid = cursor_u32(in);
    int column;

    (void)cursor_u32(in); /* the type modifier */
    *out = (RelationColumn){.target = -1, .is_key = (flags & 1) != 0};
    if (table == NULL || in->bad)
        return true;
    if (!match_column(table, name, next, err))
        return false;
    column = *next - 1;
    if (table_is_unsent(table, column))
        return true;
    if (!table_has_type(table, column, type_oid))
        return err_set(err, ERR_FAILED, "column \"%s\" has type %u instead of %u", name, type_oid,
                       table->type_oids[column]) ||
               table_changed(table, err);
    out->target = (int16_t)column;
    return true;
}

/* Read the columns of a RELATION message; `table` is NULL for a table that is not ours. */
static bool
read_columns(Cursor *in, const DecoderTable *table, const Relation *relation, Err *err)
{
    int next = 0;

    for (int i = 0; i < relation->column_count; i++)
        if (!read_column(in, table, &next, &relation->columns[i], err))
            return false;
    if (table == NULL || in->bad)
        return true;
    next = next_sent(table, next);
    if (next < table->column_count)
        return err_set(err, ERR_FAILED, "column \"%s\" is missing", table->columns[next]) ||
               table_changed(table, err);
    return true;
}

static bool
has_same_identity(const Relation *one, const Relation *other)
{
    if (one->identity != other->identity || one->column_count != other->column_count)
        return false;
    for (int i = 0; i < one->column_count; i++)
        if (one->columns[i].is_key != other->columns[i].is_key)
            return false;
    return true;
}

/* What a RELATION message says before its columns. */
static Relation
read_relation_head(Reading *reading)
{
    const TableSet *set = &reading->reader->set;
    Cursor *in = &reading->in;
    Relation relation = {.relid = cursor_u32(in)};
    const char *schema = cursor_text(in);
    const char *name = cursor_text(in);

    relation.identity = cursor_u8(in);
    relation.column_count = cursor_u16(in);
    if (schema[0] == '\0')
        schema = "pg_catalog"; /* the only one that the server does not spell out */
    relation.table = tableset_find(set, relation.relid, schema, name);
    if (relation.table >= 0)
        relation.row_columns = set->tables[relation.table].column_count;
    return relation;
}

static bool
read_relation(Reading *reading, Err *err)
{
    enum { COLUMN_BYTES = 1 + 1 + 4 + 4 }; /* of a column with an empty name */
    RelCache *relations = reading->reader->relations;
    Relation relation = read_relation_head(reading);
    const DecoderTable *table = NULL;
    const Relation *known;

    if (relation.column_count > cursor_left(&reading->in) / COLUMN_BYTES)
        reading->in.bad = true;
    if (reading->in.bad)
        return true;
    if (relation.table >= 0)
        table = &reading->reader->set.tables[relation.table];
    relation.columns =
        arena_alloc(reading->arena, relation.column_count * sizeof *relation.columns);
    if (!read_columns(&reading->in, table, &relation, err))
        return false;
    if (!cursor_is_done(&reading->in))
        return true; /* the caller says so; nothing of it is kept */
    known = relcache_find(relations, relation.relid);
    if (table != NULL && known != NULL && !has_same_identity(known, &relation))
        return err_set(err, ERR_FAILED, "it has another replica identity") ||
               table_changed(table, err);
    relcache_put(relations, &relation);
    return true;
}

static const Relation *
read_relid(Reading *reading, Err *err)
{
    uint32_t relid = cursor_u32(&reading->in);
    const Relation *relation = relcache_find(reading->reader->relations, relid);

    if (reading->in.bad)
        err_set(err, ERR_FAILED, "pgoutput: a row message is too short");
    else if (relation == NULL)
        err_set(err, ERR_FAILED, "pgoutput: change of relation %u, which was not announced", relid);
    return reading->in.bad ? NULL : relation;
}

static bool
read_datum(Cursor *in, TupleKind kind, Datum *out, Err *err)
{
    uint8_t letter = cursor_u8(in);

    switch (letter) {
    case 'n':
        out->kind = DATUM_NULL;
        return true;
    case 'u':
        out->kind = DATUM_UNCHANGED;
        if (kind != TUPLE_UPDATED)
            return err_set(err, ERR_FAILED, "pgoutput: unchanged value outside of an updated row");
        return true;
    case 't':
    case 'b':
        out->kind = letter == 't' ? DATUM_TEXT : DATUM_BINARY;
        out->len = cursor_u32(in);
        out->bytes = cursor_bytes(in, out->len);
        return true;
    default:
        if (in->bad)
            return err_set(err, ERR_FAILED, "pgoutput: a row message is too short");
        return err_set(err, ERR_FAILED, "pgoutput: unknown kind of value 0x%02x", letter);
    }
}

/* Read a tuple into `row`, the table's row of DATUM_ABSENT, or over it where that is NULL. */
static bool
read_values(Cursor *in, const Relation *relation, TupleKind kind, Datum *row, Err *err)
{
    uint16_t count = cursor_u16(in);

    if (count != relation->column_count)
        return err_set(err, ERR_FAILED, "pgoutput: a row of %u values where %u were announced",
                       count, relation->column_count);
    for (int i = 0; i < count; i++) {
        const RelationColumn *column = &relation->columns[i];
        Datum datum = {0};

        if (!read_datum(in, kind, &datum, err))
            return false;
        /* in a key tuple the other columns are sent as NULL, which they need not be */
        if (row != NULL && column->target >= 0 && (kind != TUPLE_OLD_KEY || column->is_key))
            row[column->target] = datum;
    }
    return true;
}

/* Read a tuple; *out stays NULL when the relation is not of one of our tables. */
static bool
read_row(Reading *reading, const Relation *relation, TupleKind kind, const Datum **out, Err *err)
{
    Datum *row = NULL;

    if (relation->table >= 0)
        row = arena_alloc(reading->arena, (size_t)relation->row_columns * sizeof *row);
    *out = row;
    return read_values(&reading->in, relation, kind, row, err);
}

/* Read the old row whose `letter` was just read. */
static bool
read_old_row(Reading *reading, const Relation *relation, uint8_t letter, Err *err)
{
    TupleKind kind = letter == 'O' ? TUPLE_OLD : TUPLE_OLD_KEY;

    reading->change.old_is_full = letter == 'O';
    return read_row(reading, relation, kind, &reading->change.old_row, err);
}

static bool
read_insert(Reading *reading, const Relation *relation, Err *err)
{
    if (cursor_u8(&reading->in) != 'N')
        return err_set(err, ERR_FAILED, "pgoutput: an insert without a new row");
    return read_row(reading, relation, TUPLE_INSERTED, &reading->change.new_row, err);
}

static bool
read_update(Reading *reading, const Relation *relation, Err *err)
{
    uint8_t letter = cursor_u8(&reading->in);

    if (letter == 'K' || letter == 'O') {
        if (!read_old_row(reading, relation, letter, err))
            return false;
        letter = cursor_u8(&reading->in);
    }
    if (letter != 'N')
        return err_set(err, ERR_FAILED, "pgoutput: an update without a new row");
    return read_row(reading, relation, TUPLE_UPDATED, &reading->change.new_row, err);
}

static bool
read_delete(Reading *reading, const Relation *relation, Err *err)
{
    uint8_t letter = cursor_u8(&reading->in);

    if (letter != 'K' && letter != 'O')
        return err_set(err, ERR_FAILED, "pgoutput: a delete without an old row");
    return read_old_row(reading, relation, letter, err);
}

/* Read the rest of a row message with the function for its kind. */
static bool
read_change(Reading *reading, ChangeKind kind,
            bool (*read)(Reading *, const Relation *relation, Err *err), Err *err)
{
    const Relation *relation = read_relid(reading, err);

    if (relation == NULL || !read(reading, relation, err))
        return false;
    if (relation->table < 0) {
        reading->change = (Change){0};
        return true;
    }
    reading->change.kind = kind;
    reading->change.table = relation->table;
    return true;
}

static bool
read_truncate(Reading *reading, Err *err)
{
    enum { CASCADE = 1, RESTART_IDENTITY = 2 };
    uint32_t count = cursor_u32(&reading->in);
    uint8_t flags = cursor_u8(&reading->in);
    Change *change = &reading->change;
    int *tables;

    if ((flags & ~(CASCADE | RESTART_IDENTITY)) != 0)
        return err_set(err, ERR_FAILED, "pgoutput: unknown flags 0x%02x of a truncate", flags);
    if (count > cursor_left(&reading->in) / sizeof(uint32_t)) {
        reading->in.bad = true;
        return true;
    }
    tables = arena_alloc(reading->arena, (size_t)count * sizeof *tables + 1);
    for (uint32_t i = 0; i < count; i++) {
        const Relation *relation = read_relid(reading, err);

        if (relation == NULL)
            return false;
        if (relation->table < 0)
            continue;
        if (change->truncated_count == 0 || relation->table < change->table)
            change->table = relation->table;
        tables[change->truncated_count++] = relation->table;
    }
    if (change->truncated_count == 0)
        return true;
    change->kind = CHANGE_TRUNCATE;
    change->truncated = tables;
    change->truncate_cascade = (flags & CASCADE) != 0;
    change->truncate_restart = (flags & RESTART_IDENTITY) != 0;
    return true;
}

/* Read over a TYPE, ORIGIN or MESSAGE message. */
static bool
skip_ignored(Cursor *in, uint8_t letter)
{
    if (letter == 'Y') {
        (void)cursor_u32(in); /* oid, schema, name */
        (void)cursor_text(in);
        (void)cursor_text(in);
    } else if (letter == 'O') {
        (void)cursor_u64(in); /* LSN, name */
        (void)cursor_text(in);
    } else {
        (void)cursor_u8(in); /* flags, LSN, prefix, content */
        (void)cursor_u64(in);
        (void)cursor_text(in);
        (void)cursor_bytes(in, cursor_u32(in));
    }
    return true;
}

/* Read the body of the message that began with `letter`. */
static bool
read_body(Reading *reading, uint8_t letter, Err *err)
{
    switch (letter) {
    case 'B':
        return read_begin(reading);
    case 'C':
        return read_commit(reading, err);
    case 'R':
        return read_relation(reading, err);
    case 'I':
        return read_change(reading, CHANGE_INSERT, read_insert, err);
    case 'U':
        return read_change(reading, CHANGE_UPDATE, read_update, err);
    case 'D':
        return read_change(reading, CHANGE_DELETE, read_delete, err);
    case 'T':
        return read_truncate(reading, err);
    case 'Y':
    case 'O':
    case 'M':
        return skip_ignored(&reading->in, letter);
    default:
        return err_set(err, ERR_FAILED, "pgoutput: unknown message 0x%02x", letter);
    }
}

bool
pgoutput_read(Pgoutput *reader, const Message *message, Change *out, Err *err)
{
    Reading reading = {
        .reader = reader, .arena = message->arena, .in = cursor_over(message->bytes, message->len)};
    uint8_t letter = cursor_u8(&reading.in);

    if (reading.in.bad)
        return err_set(err, ERR_FAILED, "pgoutput: empty message");
    if (!read_body(&reading, letter, err))
        return false;
    if (!cursor_is_done(&reading.in))
        return err_set(err, ERR_FAILED, "pgoutput: message '%c' of %zu bytes is too %s", letter,
                       message->len, reading.in.bad ? "short" : "long");
    *out = reading.change;
    return true;
}

ChangeKind
pgoutput_peek(const uint8_t *bytes, size_t len)
{
    switch (len == 0 ? 0 : bytes[0]) {
    case 'B':
        return CHANGE_BEGIN;
    case 'C':
        return CHANGE_COMMIT;
    case 'I':
        return CHANGE_INSERT;
    case 'U':
        return CHANGE_UPDATE;
    case 'D':
        return CHANGE_DELETE;
    case 'T':
        return CHANGE_TRUNCATE;
    default:
        return CHANGE_NONE;
    }
}
