/* Reader of wal2json's messages; see wal2json.h. */
#include "wal2json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "jsontext.h"
#include "timestamp.h"

static const uint32_t BYTEA_OID = 17;

struct Wal2json {
    TableSet set;
    Arena *scratch; /* one message's text */
};

/* One row message being read. */
typedef struct Reading {
    const json_t *root;
    const DecoderTable *table;
    Arena *arena;
} Reading;

Wal2json *
wal2json_new(const TableSet *set)
{
    Wal2json *reader = calloc(1, sizeof *reader);

    if (reader == NULL)
        abort();
    reader->set = *set;
    reader->scratch = arena_new();
    return reader;
}

void
wal2json_free(Wal2json *reader)
{
    if (reader == NULL)
        return;
    arena_free(reader->scratch);
    free(reader);
}

static json_t *
parse(Wal2json *reader, const Message *message, Err *err)
{
    json_error_t problem = {0};
    json_t *root;
    size_t len;
    const char *text;

    arena_reset(reader->scratch);
    text = jsontext_quote_numbers(message->bytes, message->len, reader->scratch, &len);
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);
    if (root != NULL)
        return root;
    /* jansson's own text quotes the message, which may hold a row's values */
    if (json_error_code(&problem) == json_error_invalid_utf8) {
        err_set(err, ERR_FAILED, "wal2json: a message of %zu bytes is not UTF-8", message->len);
        err_hint(err, "wal2json needs a database with the encoding UTF8; use pgoutput.");
        return NULL;
    }
    err_set(err, ERR_FAILED, "wal2json: a message of %zu bytes is not JSON (jansson error %d)",
            message->len, (int)json_error_code(&problem));
    return NULL;
}

/* The text of a member; NULL when there is none or it is no text. */
static const char *
text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* Read the LSN in a member of BEGIN or COMMIT; *out stays as it is when there is none. */
static bool
read_lsn(const json_t *root, const char *key, Lsn *out, Err *err)
{
    const json_t *value = json_object_get(root, key);

    if (value == NULL || (json_is_string(value) && lsn_parse(json_string_value(value), out)))
        return true;
    return err_set(err, ERR_FAILED, "wal2json: \"%s\" is not an LSN", key);
}

/* The unsigned decimal number at `text`, a minus folded in: oids are printed with a sign. */
static bool
read_u32(const char *text, uint32_t *out)
{
    bool negative = text != NULL && text[0] == '-';
    uint64_t value = 0;

    if (text == NULL || text[negative ? 1 : 0] == '\0')
        return false;
    for (const char *at = text + (negative ? 1 : 0); *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || value > UINT32_MAX)
            return false;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (value > UINT32_MAX)
        return false;
    *out = negative ? 0 - (uint32_t)value : (uint32_t)value;
    return true;
}

static bool
read_transaction(const json_t *root, ChangeKind kind, Lsn wal_end_lsn, Change *out, Err *err)
{
    const char *xid = text_of(root, "xid");
    const char *timestamp = text_of(root, "timestamp");
    Lsn end_lsn = wal_end_lsn;

    if (!read_lsn(root, "lsn", &out->commit_lsn, err) || !read_lsn(root, "nextlsn", &end_lsn, err))
        return false;
    if (kind == CHANGE_BEGIN && json_object_get(root, "xid") != NULL && !read_u32(xid, &out->xid))
        return err_set(err, ERR_FAILED, "wal2json: \"xid\" is not a transaction id");
    if (timestamp != NULL)
        (void)timestamp_parse(timestamp, &out->commit_time_us);
    out->kind = kind;
    if (kind == CHANGE_COMMIT)
        out->end_lsn = end_lsn;
    return true;
}

/* The column called `name`; `guess` is looked at first.  -1 when there is none. */
static int
find_column(const DecoderTable *table, const char *name, int guess)
{
    if (guess < table->column_count && strcmp(table->columns[guess], name) == 0)
        return guess;
    for (int i = 0; i < table->column_count; i++)
        if (strcmp(table->columns[i], name) == 0)
            return i;
    return -1;
}

/* Find out whether the value was printed as a bytea, and that its type is the one expected. */
static bool
read_type(const Reading *reading, const json_t *entry, int column, bool *out_is_bytea, Err *err)
{
    const DecoderTable *table = reading->table;
    const json_t *typeoid = json_object_get(entry, "typeoid");
    const char *type = text_of(entry, "type");
    uint32_t oid = table->type_oids == NULL ? 0 : table->type_oids[column];

    if (typeoid != NULL && !read_u32(json_string_value(typeoid), &oid))
        return err_set(err, ERR_FAILED, "wal2json: \"typeoid\" is not an oid");
    if (!table_has_type(table, column, oid))
        return err_set(err, ERR_FAILED, "column \"%s\" has type %u instead of %u",
                       table->columns[column], oid, table->type_oids[column]) ||
               table_changed(table, err);
    *out_is_bytea = typeoid == NULL && type != NULL ? strcmp(type, "bytea") == 0 : oid == BYTEA_OID;
    return true;
}

static Datum
text_datum(const char *bytes, size_t len)
{
    return (Datum){.kind = DATUM_TEXT, .len = (uint32_t)len, .bytes = (const uint8_t *)bytes};
}

/* The bytes of a JSON string as a value, with the \x that wal2json leaves out of a bytea. */
static Datum
string_datum(const json_t *value, bool is_bytea, Arena *arena)
{
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    char *bytes;

    if (!is_bytea)
        return text_datum(arena_copy(arena, text, len), len);
    bytes = arena_alloc(arena, 2 + len);
    bytes[0] = '\\';
    bytes[1] = 'x';
    memcpy(bytes + 2, text, len);
    return text_datum(bytes, 2 + len);
}

static bool
read_value(const json_t *value, bool is_bytea, Arena *arena, Datum *out, Err *err)
{
    if (json_is_null(value))
        *out = (Datum){.kind = DATUM_NULL};
    else if (json_is_boolean(value))
        *out = text_datum(json_is_true(value) ? "t" : "f", 1);
    else if (json_is_string(value) && json_string_length(value) < UINT32_MAX - 2)
        *out = string_datum(value, is_bytea, arena);
    else
        return err_set(err, ERR_FAILED, "wal2json: a column has no value");
    return true;
}

/* Read one {"name", "value", ...} into its place in `row`; *guess is where it may well go. */
static bool
read_entry(const Reading *reading, const json_t *entry, int *guess, Datum *row, Err *err)
{
    const DecoderTable *table = reading->table;
    const char *name = text_of(entry, "name");
    bool is_bytea = false;
    int column;

    if (name == NULL)
        return err_set(err, ERR_FAILED, "wal2json: a column has no name");
    column = find_column(table, name, *guess);
    if (column < 0)
        return err_set(err, ERR_FAILED, "there is a new column \"%s\"", name) ||
               table_changed(table, err);
    *guess = column + 1;
    if (table_is_unsent(table, column))
        return true;
    if (row[column].kind != DATUM_ABSENT)
        return err_set(err, ERR_FAILED, "wal2json: column \"%s\" comes twice", name);
    if (!read_type(reading, entry, column, &is_bytea, err))
        return false;
    return read_value(json_object_get(entry, "value"), is_bytea, reading->arena, &row[column], err);
}

/* Read the row in the member `key`; columns that it does not have stay DATUM_ABSENT. */
static Datum *
read_row(const Reading *reading, const char *key, Err *err)
{
    const json_t *entries = json_object_get(reading->root, key);
    Datum *row = arena_alloc(reading->arena, (size_t)reading->table->column_count * sizeof *row);
    int guess = 0;

    if (!json_is_array(entries)) {
        err_set(err, ERR_FAILED, "wal2json: a change has no \"%s\"", key);
        return NULL;
    }
    for (size_t i = 0; i < json_array_size(entries); i++)
        if (!read_entry(reading, json_array_get(entries, i), &guess, row, err))
            return NULL;
    return row;
}

static const Datum *
read_new_row(const Reading *reading, ChangeKind kind, Err *err)
{
    const DecoderTable *table = reading->table;
    Datum *row = read_row(reading, "columns", err);

    for (int i = 0; row != NULL && i < table->column_count; i++) {
        if (row[i].kind != DATUM_ABSENT || table_is_unsent(table, i))
            continue;
        if (kind == CHANGE_INSERT) {
            err_set(err, ERR_FAILED, "column \"%s\" is missing", table->columns[i]);
            table_changed(table, err);
            return NULL;
        }
        row[i].kind = DATUM_UNCHANGED;
    }
    return row;
}

/* Read the identity; *out_is_full tells whether it has every column of the table. */
static const Datum *
read_old_row(const Reading *reading, bool *out_is_full, Err *err)
{
    const DecoderTable *table = reading->table;
    Datum *row = read_row(reading, "identity", err);
    bool is_full = true;
    bool is_empty = true;

    for (int i = 0; row != NULL && i < table->column_count; i++) {
        if (row[i].kind != DATUM_ABSENT)
            is_empty = false;
        else if (!table_is_unsent(table, i))
            is_full = false;
    }
    if (row != NULL && is_empty) {
        err_set(err, ERR_FAILED, "wal2json: a change has an empty identity");
        return NULL;
    }
    *out_is_full = is_full;
    return row;
}

static bool
is_same_datum(const Datum *one, const Datum *other)
{
    return one->kind == other->kind && one->len == other->len &&
           (one->len == 0 || memcmp(one->bytes, other->bytes, one->len) == 0);
}

/* True when the new row has the same key as the old one. */
static bool
has_same_key(const Change *change, int column_count)
{
    for (int i = 0; i < column_count; i++)
        if (change->old_row[i].kind != DATUM_ABSENT &&
            !is_same_datum(&change->old_row[i], &change->new_row[i]))
            return false;
    return true;
}

static bool
read_rows(const Reading *reading, Change *out, Err *err)
{
    if (out->kind != CHANGE_DELETE) {
        out->new_row = read_new_row(reading, out->kind, err);
        if (out->new_row == NULL)
            return false;
    }
    if (out->kind != CHANGE_INSERT) {
        out->old_row = read_old_row(reading, &out->old_is_full, err);
        if (out->old_row == NULL)
            return false;
    }
    if (out->kind == CHANGE_UPDATE && !out->old_is_full &&
        has_same_key(out, reading->table->column_count))
        out->old_row = NULL;
    return true;
}

static bool
read_change(const TableSet *set, Reading *reading, ChangeKind kind, Change *out, Err *err)
{
    const char *schema = text_of(reading->root, "schema");
    const char *name = text_of(reading->root, "table");
    int table;
    int *truncated;

    if (schema == NULL || name == NULL)
        return err_set(err, ERR_FAILED, "wal2json: a change does not name its table");
    table = tableset_find_name(set, schema, name);
    if (table < 0)
        return true;
    reading->table = &set->tables[table];
    out->kind = kind;
    out->table = table;
    if (kind != CHANGE_TRUNCATE)
        return read_rows(reading, out, err);
    truncated = arena_alloc(reading->arena, sizeof *truncated);
    *truncated = table;
    out->truncated = truncated;
    out->truncated_count = 1;
    return true;
}

/* The letter of a message: wal2json writes its action first, and without spaces. */
static char
action_of(const uint8_t *bytes, size_t len)
{
    static const char START[] = "{\"action\":\"";
    const size_t start_len = sizeof START - 1;

    if (len < start_len + 2 || memcmp(bytes, START, start_len) != 0 || bytes[start_len + 1] != '"')
        return '\0';
    return (char)bytes[start_len];
}

bool
wal2json_read(Wal2json *reader, const Message *message, Change *out, Err *err)
{
    ChangeKind kind = wal2json_peek(message->bytes, message->len);
    json_auto_t *root = NULL;
    Reading reading = {.arena = message->arena};
    Change change = {0};
    bool ok;

    /* anybody may put any bytes into a MESSAGE: it must not stop us */
    if (action_of(message->bytes, message->len) == 'M') {
        *out = change;
        return true;
    }
    if (kind == CHANGE_NONE)
        return err_set(err, ERR_FAILED, "wal2json: unknown message of %zu bytes", message->len);
    root = parse(reader, message, err);
    if (root == NULL)
        return false;
    reading.root = root;
    if (kind == CHANGE_BEGIN || kind == CHANGE_COMMIT)
        ok = read_transaction(root, kind, message->wal_end_lsn, &change, err);
    else
        ok = read_change(&reader->set, &reading, kind, &change, err);
    if (ok)
        *out = change;
    return ok;
}

ChangeKind
wal2json_peek(const uint8_t *bytes, size_t len)
{
    switch (action_of(bytes, len)) {
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
