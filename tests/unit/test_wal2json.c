/* Changes from wal2json's messages: golden streams, and messages that no server sends. */
#include <string.h>

#include "../golden/golden.h"
#include "unit.h"

static const char *const COLUMNS[] = {"id", "twice", "v"};
static const bool UNSENT[] = {false, true, false};
static const uint32_t TYPES[] = {23, 23, 17};
static const DecoderTable TYPED = {.schema = "public",
                                   .name = "t",
                                   .column_count = 3,
                                   .columns = COLUMNS,
                                   .unsent = UNSENT,
                                   .type_oids = TYPES};
static const DecoderTable UNTYPED = {
    .schema = "public", .name = "t", .column_count = 3, .columns = COLUMNS, .unsent = UNSENT};

static Arena *arena;
static Change change;
static Err err;

static void
set_up(void)
{
    arena = arena_new();
    err_clear(&err);
}

static void
tear_down(void)
{
    arena_free(arena);
}

static bool
read_as(const DecoderTable *table, const char *text)
{
    Decoder *decoder = decoder_new(PLUGIN_WAL2JSON, table, 1);
    bool ok;

    err_clear(&err);
    ok = decoder_read(decoder, (const uint8_t *)text, strlen(text), 99, arena, &change, &err);
    decoder_free(decoder);
    ck_assert_int_eq(err.kind, ok ? ERR_NONE : ERR_FAILED);
    return ok;
}

static void
assert_refused(const char *text, const char *says)
{
    ck_assert_msg(!read_as(&UNTYPED, text), "%s", text);
    ck_assert_msg(strstr(err.message, says) != NULL, "%s", err.message);
}

static void
assert_text(const Datum *datum, const char *text)
{
    ck_assert_int_eq(datum->kind, DATUM_TEXT);
    ck_assert_msg(datum->len == strlen(text) && memcmp(datum->bytes, text, datum->len) == 0,
                  "\"%.*s\" instead of \"%s\"", (int)datum->len, (const char *)datum->bytes, text);
}

#define TABLE "\"schema\":\"public\",\"table\":\"t\""
#define INSERT(values) "{\"action\":\"I\"," TABLE ",\"columns\":[" values "]}"
#define UPDATE(values, identity) \
    "{\"action\":\"U\"," TABLE ",\"columns\":[" values "],\"identity\":[" identity "]}"
#define DELETE(identity) "{\"action\":\"D\"," TABLE ",\"identity\":[" identity "]}"
#define COLUMN(name, value) "{\"name\":\"" name "\",\"value\":" value "}"
#define ID COLUMN("id", "1")

START_TEST(decodes_golden_streams)
{
    golden_check("wal2json", PLUGIN_WAL2JSON, golden_case_name(_i));
}
END_TEST

START_TEST(decodes_golden_streams_with_oids)
{
    golden_check("wal2json-oids", PLUGIN_WAL2JSON, golden_case_name(_i));
}
END_TEST

START_TEST(refuses_every_other_length_of_golden_messages)
{
    golden_check_lengths("wal2json", PLUGIN_WAL2JSON, golden_case_name(_i));
    golden_check_lengths("wal2json-oids", PLUGIN_WAL2JSON, golden_case_name(_i));
}
END_TEST

static void
print_comparable(const char *variant, Plugin plugin, const char *name, Buf *out)
{
    Golden *golden = golden_load(variant, name);

    golden_print(golden, plugin, true, out);
    golden_free(golden);
}

START_TEST(agrees_with_pgoutput)
{
    const char *name = golden_case_name(_i);
    BUF_AUTO(pgoutput);
    BUF_AUTO(names);
    BUF_AUTO(oids);

    print_comparable("pgoutput", PLUGIN_PGOUTPUT, name, &pgoutput);
    print_comparable("wal2json", PLUGIN_WAL2JSON, name, &names);
    print_comparable("wal2json-oids", PLUGIN_WAL2JSON, name, &oids);
    /* an exception must be one, or its line in the case has to go */
    ck_assert_msg((strcmp(buf_text(&pgoutput), buf_text(&oids)) != 0) == golden_case_differs(name),
                  "%s: pgoutput\n%swal2json\n%s", name, buf_text(&pgoutput), buf_text(&oids));
    /* with type names alone a changed type goes unnoticed */
    if (strcmp(name, "type_changed") != 0)
        ck_assert_str_eq(buf_text(&names), buf_text(&oids));
}
END_TEST

START_TEST(keeps_the_text_of_numbers)
{
    static const char *const NUMBERS[] = {
        "0",
        "-0",
        "1.10",
        "-12.3400",
        "1e400",
        "1E-7",
        "2.5e+300",
        "98765432109876543210987654321098765432109876543210",
        "0.1000000000000000055511151231257827021181583404541015625"};

    for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++) {
        BUF_AUTO(text);

        buf_printf(&text, INSERT(COLUMN("id", "%s") "," COLUMN("v", "null")), NUMBERS[i]);
        ck_assert(read_as(&UNTYPED, text.data));
        assert_text(&change.new_row[0], NUMBERS[i]);
        ck_assert_int_eq(change.new_row[2].kind, DATUM_NULL);
    }
}
END_TEST

START_TEST(leaves_numbers_inside_strings_alone)
{
    ck_assert(read_as(&UNTYPED, INSERT(ID "," COLUMN("v", "\"a\\\\\\\":1.50,\\\\\""))));
    assert_text(&change.new_row[2], "a\\\":1.50,\\");
}
END_TEST

START_TEST(refuses_numbers_that_are_none)
{
    static const char *const WORDS[] = {"+1",  "1-2", "-",   "1.",  ".5",  "1e",
                                        "0x1", "1a",  "NaN", "1 2", "[1]", "{}"};

    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
        BUF_AUTO(text);

        buf_printf(&text, INSERT(COLUMN("id", "%s") "," COLUMN("v", "null")), WORDS[i]);
        ck_assert_msg(!read_as(&UNTYPED, text.data), "%s", text.data);
    }
}
END_TEST

START_TEST(reads_booleans_as_the_server_prints_them)
{
    ck_assert(read_as(&UNTYPED, INSERT(COLUMN("id", "true") "," COLUMN("v", "false"))));
    assert_text(&change.new_row[0], "t");
    assert_text(&change.new_row[2], "f");
}
END_TEST

START_TEST(gives_a_bytea_its_prefix)
{
    /* by oid, by name, by what we were told; an oid comes before all others */
    ck_assert(read_as(&UNTYPED, INSERT(ID ",{\"name\":\"v\",\"typeoid\":17,\"value\":\"00ff\"}")));
    assert_text(&change.new_row[2], "\\x00ff");
    ck_assert(read_as(&UNTYPED, INSERT(ID ",{\"name\":\"v\",\"type\":\"bytea\",\"value\":\"\"}")));
    assert_text(&change.new_row[2], "\\x");
    ck_assert(read_as(&TYPED, INSERT(ID "," COLUMN("v", "\"00\""))));
    assert_text(&change.new_row[2], "\\x00");
    ck_assert(read_as(&UNTYPED, INSERT(ID "," COLUMN("v", "\"00\""))));
    assert_text(&change.new_row[2], "00");
    ck_assert(
        read_as(&UNTYPED, INSERT(ID ",{\"name\":\"v\",\"type\":\"blob\",\"value\":\"\\\\x00\"}")));
    assert_text(&change.new_row[2], "\\x00");
}
END_TEST

START_TEST(tells_a_changed_type_by_its_oid)
{
    ck_assert(!read_as(&TYPED, INSERT("{\"name\":\"id\",\"typeoid\":20,\"value\":1}")));
    ck_assert_ptr_nonnull(strstr(err.message, "definition of table \"public.t\" changed"));
    /* oids above 2^31 are printed as negative numbers */
    ck_assert(read_as(&UNTYPED,
                      INSERT("{\"name\":\"id\",\"typeoid\":-5,\"value\":1}," COLUMN("v", "null"))));
    assert_refused(INSERT("{\"name\":\"id\",\"typeoid\":99999999999,\"value\":1}"), "typeoid");
}
END_TEST

START_TEST(refuses_a_type_name_that_breaks_the_message)
{
    /* as sent by wal2json 2.5 for a column of type "Sch".by */
    assert_refused(INSERT(ID ",{\"name\":\"v\",\"type\":\"Sch\".by,\"value\":\"00\"}"), "not JSON");
}
END_TEST

START_TEST(takes_a_missing_column_of_an_update_for_unchanged)
{
    ck_assert(read_as(&UNTYPED, UPDATE(COLUMN("id", "2") "," COLUMN("twice", "4"), ID)));
    assert_text(&change.new_row[0], "2");
    ck_assert_int_eq(change.new_row[1].kind, DATUM_ABSENT);
    ck_assert_int_eq(change.new_row[2].kind, DATUM_UNCHANGED);
    assert_text(&change.old_row[0], "1");
    ck_assert_int_eq(change.old_row[2].kind, DATUM_ABSENT);
    ck_assert(!change.old_is_full);
}
END_TEST

START_TEST(leaves_out_an_identity_that_did_not_change)
{
    ck_assert(read_as(&UNTYPED, UPDATE(ID "," COLUMN("v", "null"), ID)));
    ck_assert_ptr_null(change.old_row);
    /* but not a whole old row, nor a key whose new value was not sent */
    ck_assert(read_as(&UNTYPED, UPDATE(ID "," COLUMN("v", "null"), ID "," COLUMN("v", "null"))));
    ck_assert(change.old_row != NULL && change.old_is_full);
    ck_assert(read_as(&UNTYPED, UPDATE(COLUMN("v", "null"), ID)));
    ck_assert(change.old_row != NULL && !change.old_is_full);
}
END_TEST

START_TEST(refuses_columns_that_do_not_fit_the_table)
{
    static const char CHANGED[] = "definition of table \"public.t\" changed";

    assert_refused(INSERT(ID), CHANGED);
    assert_refused(INSERT(ID "," COLUMN("v", "null") "," COLUMN("w", "null")), CHANGED);
    assert_refused(UPDATE(COLUMN("w", "null"), ID), CHANGED);
    assert_refused(DELETE(COLUMN("w", "null")), CHANGED);
    assert_refused(INSERT(ID "," ID "," COLUMN("v", "null")), "comes twice");
}
END_TEST

START_TEST(refuses_incomplete_changes)
{
    assert_refused("{\"action\":\"I\"," TABLE "}", "no \"columns\"");
    assert_refused("{\"action\":\"U\"," TABLE ",\"columns\":[]}", "no \"identity\"");
    assert_refused("{\"action\":\"D\"," TABLE "}", "no \"identity\"");
    assert_refused(DELETE(""), "empty identity");
    assert_refused(UPDATE(ID, ""), "empty identity");
    assert_refused(DELETE("1"), "no name");
    assert_refused(DELETE("{\"name\":\"id\"}"), "no value");
    assert_refused("{\"action\":\"T\",\"schema\":\"public\"}", "does not name its table");
    assert_refused("{\"action\":\"T\",\"schema\":\"public\",\"table\":1.5e}", "not JSON");
    assert_refused("{\"action\":\"T\"," TABLE "," TABLE "}", "not JSON");
}
END_TEST

START_TEST(refuses_unknown_messages)
{
    assert_refused("", "unknown message");
    assert_refused("{}", "unknown message");
    assert_refused("{\"action\":\"S\"}", "unknown message");
    assert_refused("{\"action\":\"BB\"}", "unknown message");
    assert_refused("[\"action\",\"B\"]", "unknown message");
}
END_TEST

START_TEST(refuses_bytes_that_are_not_utf8)
{
    assert_refused(INSERT(ID "," COLUMN("v", "\"\xe9\"")), "not UTF-8");
    ck_assert_ptr_nonnull(strstr(err.hint, "UTF8"));
}
END_TEST

START_TEST(does_not_look_into_messages_of_others)
{
    ck_assert(read_as(&UNTYPED, "{\"action\":\"M\",\"content\":\"\xff\"\"}"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
}
END_TEST

START_TEST(skips_other_tables)
{
    ck_assert(read_as(&UNTYPED, "{\"action\":\"T\",\"schema\":\"other\",\"table\":\"t\"}"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ck_assert(read_as(&UNTYPED, "{\"action\":\"I\",\"schema\":\"public\",\"table\":\"u\","
                                "\"columns\":[{\"name\":\"x\",\"value\":1}]}"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
}
END_TEST

START_TEST(reads_positions)
{
    ck_assert(read_as(&UNTYPED, "{\"action\":\"B\",\"xid\":4294967295,\"lsn\":\"1/A\","
                                "\"nextlsn\":\"1/B\"}"));
    ck_assert_int_eq(change.kind, CHANGE_BEGIN);
    ck_assert_uint_eq(change.xid, UINT32_MAX);
    ck_assert_uint_eq(change.commit_lsn, UINT64_C(0x10000000a));
    ck_assert_uint_eq(change.end_lsn, 0);
    ck_assert(read_as(&UNTYPED, "{\"action\":\"C\",\"lsn\":\"1/A\",\"nextlsn\":\"1/B\"}"));
    ck_assert_int_eq(change.kind, CHANGE_COMMIT);
    ck_assert_uint_eq(change.commit_lsn, UINT64_C(0x10000000a));
    ck_assert_uint_eq(change.end_lsn, UINT64_C(0x10000000b));
    ck_assert(read_as(&UNTYPED, "{\"action\":\"C\"}"));
    ck_assert_uint_eq(change.end_lsn, 99); /* the frame's */
    assert_refused("{\"action\":\"C\",\"nextlsn\":\"1/G\"}", "not an LSN");
    assert_refused("{\"action\":\"B\",\"lsn\":10}", "not an LSN");
    assert_refused("{\"action\":\"B\",\"xid\":4294967296}", "transaction id");
    assert_refused("{\"action\":\"B\",\"xid\":true}", "transaction id");
}
END_TEST

START_TEST(reads_commit_times)
{
    static const struct {
        const char *text;
        int64_t expected_us;
    } CASES[] = {
        {"2000-01-01 00:00:00+00", 0},
        {"2000-01-01 05:30:00.000001+05:30", 1},
        {"1999-12-31 23:59:59.5-00:00:01", 500000},
        {"2024-02-29 12:00:00.25+00", INT64_C(762523200250000)},
        {"2000-03-01 00:00:00+00", INT64_C(60) * 86400 * 1000000},
        /* not understood: no time */
        {"", 0},
        {"Thu Feb 29 12:00:00 2024 UTC", 0},
        {"2024-02-29 12:00:00.25", 0},
        {"2024-13-01 00:00:00+00", 0},
        {"2024-00-01 00:00:00+00", 0},
        {"2024-01-01 24:00:00+00", 0},
        {"2024-01-01 00:00:00.1234567+00", 0},
        {"2024-01-01 00:00:00+00 BC", 0},
    };

    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        BUF_AUTO(text);

        buf_printf(&text, "{\"action\":\"C\",\"timestamp\":\"%s\"}", CASES[i].text);
        ck_assert(read_as(&UNTYPED, text.data));
        ck_assert_msg(change.commit_time_us == CASES[i].expected_us, "%s: %lld", CASES[i].text,
                      (long long)change.commit_time_us);
    }
}
END_TEST

START_TEST(peeks_at_the_kind)
{
    static const struct {
        const char *message;
        ChangeKind kind;
    } CASES[] = {
        {"{\"action\":\"B\"", CHANGE_BEGIN},
        {"{\"action\":\"C\"}", CHANGE_COMMIT},
        {"{\"action\":\"I\",", CHANGE_INSERT},
        {"{\"action\":\"U\",", CHANGE_UPDATE},
        {"{\"action\":\"D\",", CHANGE_DELETE},
        {"{\"action\":\"T\",", CHANGE_TRUNCATE},
        {"{\"action\":\"M\",", CHANGE_NONE},
        {"{\"action\":\"I", CHANGE_NONE},
        {"", CHANGE_NONE},
        {"I", CHANGE_NONE},
    };

    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        ck_assert_int_eq(decoder_peek(PLUGIN_WAL2JSON, (const uint8_t *)CASES[i].message,
                                      strlen(CASES[i].message)),
                         CASES[i].kind);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("wal2json");
    TCase *golden = tcase_create("golden");
    TCase *tests = tcase_create("messages");
    int cases = golden_case_count();

    suite_add_tcase(suite, golden);
    tcase_set_timeout(golden, 60);
    tcase_add_loop_test(golden, decodes_golden_streams, 0, cases);
    tcase_add_loop_test(golden, decodes_golden_streams_with_oids, 0, cases);
    tcase_add_loop_test(golden, refuses_every_other_length_of_golden_messages, 0, cases);
    tcase_add_loop_test(golden, agrees_with_pgoutput, 0, cases);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, keeps_the_text_of_numbers);
    tcase_add_test(tests, leaves_numbers_inside_strings_alone);
    tcase_add_test(tests, refuses_numbers_that_are_none);
    tcase_add_test(tests, reads_booleans_as_the_server_prints_them);
    tcase_add_test(tests, gives_a_bytea_its_prefix);
    tcase_add_test(tests, tells_a_changed_type_by_its_oid);
    tcase_add_test(tests, refuses_a_type_name_that_breaks_the_message);
    tcase_add_test(tests, takes_a_missing_column_of_an_update_for_unchanged);
    tcase_add_test(tests, leaves_out_an_identity_that_did_not_change);
    tcase_add_test(tests, refuses_columns_that_do_not_fit_the_table);
    tcase_add_test(tests, refuses_incomplete_changes);
    tcase_add_test(tests, refuses_unknown_messages);
    tcase_add_test(tests, refuses_bytes_that_are_not_utf8);
    tcase_add_test(tests, does_not_look_into_messages_of_others);
    tcase_add_test(tests, skips_other_tables);
    tcase_add_test(tests, reads_positions);
    tcase_add_test(tests, reads_commit_times);
    tcase_add_test(tests, peeks_at_the_kind);
    return suite;
}
