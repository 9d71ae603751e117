/* Golden streams; see golden.h. */
#include "golden.h"

#include <check.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

enum { MOST_COLUMNS = 100 };

static glob_t cases;

static void
find_cases(void)
{
    if (cases.gl_pathc == 0 && glob(GOLDEN_DIR "/cases/*.sql", 0, NULL, &cases) != 0)
        ck_abort_msg("no cases in " GOLDEN_DIR "/cases");
}

int
golden_case_count(void)
{
    find_cases();
    return (int)cases.gl_pathc;
}

const char *
golden_case_name(int index)
{
    static char name[256];
    const char *file;

    find_cases();
    file = strrchr(cases.gl_pathv[index], '/') + 1;
    (void)snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - strlen(".sql")), file);
    return name;
}

/* The content of a file, new; NULL when it cannot be read. */
static char *
read_file(const char *directory, const char *name, const char *ending)
{
    AUTO(Text) *path = mem_format("%s/%s/%s%s", GOLDEN_DIR, directory, name, ending);
    FILE *file = fopen(path, "rb");
    Buf content = {0};
    size_t got;

    if (file == NULL)
        return NULL;
    do {
        got = fread(buf_reserve(&content, 65536), 1, 65536, file);
        content.len += got;
    } while (got > 0);
    fclose(file);
    buf_add(&content, "", 0);
    return buf_take(&content);
}

bool
golden_case_differs(const char *name)
{
    AUTO(Text) *text = read_file("cases", name, ".sql");

    ck_assert_msg(text != NULL, "%s.sql is not there", name);
    return strstr(text, "\n-- differs: ") != NULL;
}

static void
add_table(Golden *golden, char *fields)
{
    DecoderTable *table = &golden->tables[golden->table_count++];
    const char *relid = strsep(&fields, "\t");
    const char *schema = strsep(&fields, "\t");

    ck_assert(fields != NULL);
    golden->columns = arena_alloc(golden->arena, MOST_COLUMNS * sizeof *golden->columns);
    golden->unsent = arena_alloc(golden->arena, MOST_COLUMNS * sizeof *golden->unsent);
    golden->type_oids = arena_alloc(golden->arena, MOST_COLUMNS * sizeof *golden->type_oids);
    *table = (DecoderTable){
        .relid = (uint32_t)strtoul(relid, NULL, 10),
        .schema = arena_copy(golden->arena, schema, strlen(schema)),
        .name = arena_copy(golden->arena, fields, strlen(fields)),
        .columns = golden->columns,
        .unsent = golden->unsent,
        .type_oids = golden->type_oids,
    };
}

static void
add_column(Golden *golden, char *fields)
{
    int column = golden->tables[golden->table_count - 1].column_count++;
    const char *type_oid = strsep(&fields, "\t");
    const char *sent = strsep(&fields, "\t");

    ck_assert(fields != NULL && column < MOST_COLUMNS);
    golden->type_oids[column] = (uint32_t)strtoul(type_oid, NULL, 10);
    golden->unsent[column] = strcmp(sent, "unsent") == 0;
    golden->columns[column] = arena_copy(golden->arena, fields, strlen(fields));
}

static uint8_t *
from_hex(const char *hex, size_t *len)
{
    uint8_t *bytes;

    *len = strlen(hex) / 2;
    bytes = mem_new(*len, 1);
    for (size_t i = 0; i < *len; i++) {
        const char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return bytes;
}

static void
add_message(Golden *golden, char *fields)
{
    GoldenMessage *message = &golden->messages[golden->message_count++];
    const char *lsn = strsep(&fields, "\t");

    ck_assert(fields != NULL && lsn_parse(lsn, &message->lsn));
    message->bytes = from_hex(fields, &message->len);
}

static size_t
count_lines(const char *text)
{
    size_t count = 1;

    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

Golden *
golden_load(const char *variant, const char *name)
{
    AUTO(Text) *text = read_file(variant, name, ".stream");
    Golden *golden = mem_new(1, sizeof *golden);
    char *rest = text;

    ck_assert_msg(text != NULL, "%s/%s.stream is not there", variant, name);
    golden->arena = arena_new();
    golden->messages = arena_alloc(golden->arena, count_lines(text) * sizeof *golden->messages);
    golden->tables = arena_alloc(golden->arena, count_lines(text) * sizeof *golden->tables);
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *word = strsep(&line, "\t");

        if (strcmp(word, "table") == 0)
            add_table(golden, line);
        else if (strcmp(word, "column") == 0)
            add_column(golden, line);
        else if (strcmp(word, "message") == 0)
            add_message(golden, line);
        else
            ck_assert_msg(word[0] == '#' || word[0] == '\0', "%s/%s: %s", variant, name, word);
    }
    ck_assert_msg(golden->message_count > 0, "%s/%s is empty", variant, name);
    return golden;
}

void
golden_free(Golden *golden)
{
    for (size_t i = 0; i < golden->message_count; i++)
        free(golden->messages[i].bytes);
    arena_free(golden->arena);
    free(golden);
}

static void
print_text(const Datum *datum, Buf *out)
{
    buf_add_byte(out, '"');
    for (uint32_t i = 0; i < datum->len; i++) {
        uint8_t byte = datum->bytes[i];

        if (byte < ' ' || byte == '"' || byte == '\\')
            buf_printf(out, "\\x%02x", byte);
        else
            buf_add_byte(out, (char)byte);
    }
    buf_add_byte(out, '"');
}

/* A long value as its length and a checksum (FNV-1a), for people. */
static void
print_long(const Datum *datum, Buf *out)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325);

    for (uint32_t i = 0; i < datum->len; i++)
        sum = (sum ^ datum->bytes[i]) * UINT64_C(0x100000001b3);
    buf_printf(out, "%u bytes %02x..%02x sum %016llx", datum->len, datum->bytes[0],
               datum->bytes[datum->len - 1], (unsigned long long)sum);
}

static void
print_datum(const Datum *datum, Buf *out)
{
    switch (datum->kind) {
    case DATUM_ABSENT:
        buf_add_text(out, "absent");
        break;
    case DATUM_NULL:
        buf_add_text(out, "null");
        break;
    case DATUM_UNCHANGED:
        buf_add_text(out, "unchanged");
        break;
    case DATUM_TEXT:
        buf_add_text(out, "text ");
        if (datum->len > 1000)
            print_long(datum, out);
        else
            print_text(datum, out);
        break;
    case DATUM_BINARY:
        buf_add_text(out, "binary ");
        if (datum->len > 1000)
            print_long(datum, out);
        for (uint32_t i = 0; i < datum->len && datum->len <= 1000; i++)
            buf_printf(out, "%02x", datum->bytes[i]);
        break;
    }
}

/* One line for each column that is there. */
static void
print_row(const DecoderTable *table, const char *which, const Datum *row, Buf *out)
{
    for (int i = 0; row != NULL && i < table->column_count; i++) {
        if (row[i].kind == DATUM_ABSENT)
            continue;
        buf_printf(out, "  %s %s = ", which, table->columns[i]);
        print_datum(&row[i], out);
        buf_add_byte(out, '\n');
    }
}

static void
print_change(const Golden *golden, const Change *change, Buf *out)
{
    static const char *const KINDS[] = {"none",   "begin",  "commit",  "insert",
                                        "update", "delete", "truncate"};
    char commit_lsn[LSN_TEXT_SIZE];
    char end_lsn[LSN_TEXT_SIZE];
    const DecoderTable *table = &golden->tables[change->table];

    buf_add_text(out, KINDS[change->kind]);
    if (change->kind == CHANGE_BEGIN || change->kind == CHANGE_COMMIT)
        buf_printf(out, " xid=%u commit=%s end=%s time=%lld", change->xid,
                   lsn_text(change->commit_lsn, commit_lsn), lsn_text(change->end_lsn, end_lsn),
                   (long long)change->commit_time_us);
    else if (change->kind != CHANGE_NONE)
        buf_printf(out, " %s.%s%s%s%s", table->schema, table->name,
                   change->old_is_full ? " old_is_full" : "",
                   change->truncate_cascade ? " cascade" : "",
                   change->truncate_restart ? " restart" : "");
    buf_add_byte(out, '\n');
    print_row(table, "old", change->old_row, out);
    print_row(table, "new", change->new_row, out);
}

static void
print_error(const Err *err, bool comparable, Buf *out)
{
    const char *how = comparable ? strstr(err->message, " changed: ") : NULL;
    int len = (int)(how == NULL ? strlen(err->message) : (size_t)(how - err->message));

    buf_printf(out, "error %.*s\n", len, err->message);
}

void
golden_print(const Golden *golden, Plugin plugin, bool comparable, Buf *out)
{
    Decoder *decoder = decoder_new(plugin, golden->tables, golden->table_count);
    Arena *arena = arena_new();
    size_t begin = SIZE_MAX; /* where an empty transaction begins */
    Change change;
    Err err = {0};

    for (size_t i = 0; i < golden->message_count; i++) {
        const GoldenMessage *message = &golden->messages[i];

        if (!decoder_read(decoder, message->bytes, message->len, message->lsn, arena, &change,
                          &err)) {
            print_error(&err, comparable, out);
            break;
        }
        if (comparable && change.kind == CHANGE_NONE)
            continue;
        if (change.kind == CHANGE_BEGIN)
            begin = out->len;
        else if (change.kind != CHANGE_COMMIT)
            begin = SIZE_MAX;
        print_change(golden, &change, out);
        if (comparable && change.kind == CHANGE_COMMIT && begin != SIZE_MAX)
            out->data[out->len = begin] = '\0';
    }
    arena_free(arena);
    decoder_free(decoder);
}

static void
write_changes(const char *variant, const char *name, const Buf *changes)
{
    AUTO(Text) *path = mem_format("%s/%s/%s.changes", GOLDEN_DIR, variant, name);
    FILE *file = fopen(path, "wb");

    ck_assert_msg(file != NULL, "could not write %s", path);
    fwrite(changes->data, 1, changes->len, file);
    fclose(file);
    ck_abort_msg("%s was written, read it", path);
}

void
golden_check(const char *variant, Plugin plugin, const char *name)
{
    Golden *golden = golden_load(variant, name);
    AUTO(Text) *expected = read_file(variant, name, ".changes");
    BUF_AUTO(changes);

    golden_print(golden, plugin, false, &changes);
    golden_free(golden);
    if (getenv("GOLDEN_WRITE") != NULL)
        write_changes(variant, name, &changes);
    ck_assert_msg(expected != NULL, "%s/%s.changes is not there", variant, name);
    ck_assert_msg(strcmp(expected, buf_text(&changes)) == 0, "%s/%s: expected\n%sgot\n%s", variant,
                  name, expected, buf_text(&changes));
}

/* Whether the first `len` bytes of `bytes`, copied so that nothing lies behind them, are taken. */
static bool
is_taken(Decoder *decoder, const GoldenMessage *message, size_t len, Arena *arena)
{
    uint8_t *copy = mem_new(len, 1);
    Change change = {.kind = CHANGE_NONE, .xid = 4711};
    Err err = {0};
    bool taken;

    memcpy(copy, message->bytes, len < message->len ? len : message->len);
    taken = decoder_read(decoder, copy, len, message->lsn, arena, &change, &err);
    ck_assert_int_eq(err.kind, taken ? ERR_NONE : ERR_FAILED);
    ck_assert(taken || change.xid == 4711);
    free(copy);
    return taken;
}

void
golden_check_lengths(const char *variant, Plugin plugin, const char *name)
{
    Golden *golden = golden_load(variant, name);
    Decoder *decoder = decoder_new(plugin, golden->tables, golden->table_count);
    Arena *arena = arena_new();

    for (size_t i = 0; i < golden->message_count; i++) {
        const GoldenMessage *message = &golden->messages[i];
        bool is_unread =
            plugin == PLUGIN_WAL2JSON && memcmp(message->bytes, "{\"action\":\"M\"", 13) == 0;

        for (size_t len = 0; len < message->len && !is_unread; len++)
            ck_assert_msg(!is_taken(decoder, message, len, arena),
                          "%s/%s: %zu of the %zu bytes of message %zu were taken", variant, name,
                          len, message->len, i);
        ck_assert_msg(is_unread || !is_taken(decoder, message, message->len + 1, arena),
                      "%s/%s: message %zu was taken with a byte more", variant, name, i);
        if (!is_taken(decoder, message, message->len, arena))
            break;
        arena_reset(arena);
    }
    arena_free(arena);
    decoder_free(decoder);
    golden_free(golden);
}
