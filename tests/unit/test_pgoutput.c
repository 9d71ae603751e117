/* Changes from pgoutput's messages: golden streams, and messages that no server sends. */
#include <stdlib.h>
#include <string.h>

#include "../golden/golden.h"
#include "unit.h"

/* The table of most tests: (id int, twice int generated, v text). */
static const char *const COLUMNS[] = {"id", "twice", "v"};
static const bool UNSENT[] = {false, true, false};
static const uint32_t TYPES[] = {23, 23, 25};
static const DecoderTable TABLES[] = {
    {.relid = 100,
     .schema = "public",
     .name = "t",
     .column_count = 3,
     .columns = COLUMNS,
     .unsent = UNSENT,
     .type_oids = TYPES},
    {.relid = 0, .schema = "walter", .name = "fence", .column_count = 1, .columns = COLUMNS},
};

static Decoder *decoder;
static Arena *arena;
static Change change;
static Err err;

static void
set_up(void)
{
    decoder = decoder_new(PLUGIN_PGOUTPUT, TABLES, 2);
    arena = arena_new();
    err_clear(&err);
}

static void
tear_down(void)
{
    arena_free(arena);
    decoder_free(decoder);
}

static bool
read_bytes(const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    bool ok;

    /* what the change borrows is looked at after the return, so the copy is the arena's */
    memcpy(copy, bytes, len);
    err_clear(&err);
    ok = decoder_read(decoder, copy, len, 0, arena, &change, &err);
    free(copy);
    if (ok)
        ok = decoder_read(decoder, (const uint8_t *)arena_copy(arena, bytes, len), len, 0, arena,
                          &change, &err);
    ck_assert_int_eq(err.kind, ok ? ERR_NONE : ERR_FAILED);
    return ok;
}

/* Read a message written as a literal, its NUL at the end not included. */
#define READ(literal) read_bytes(literal, sizeof(literal) - 1)

#define ASSERT_REFUSED(literal, says)                                        \
    do {                                                                     \
        ck_assert(!READ(literal));                                           \
        ck_assert_msg(strstr(err.message, says) != NULL, "%s", err.message); \
    } while (0)

/* Pieces of messages. */
#define RELID "\0\0\0\x64"
#define OTHER "\0\0\0\x65"
#define INT "\0\0\0\x17\xff\xff\xff\xff"
#define BIGINT "\0\0\0\x14\xff\xff\xff\xff"
#define TEXT "\0\0\0\x19\xff\xff\xff\xff"
#define KEY "\1"
#define NOT_KEY "\0"
#define RELATION "R" RELID "public\0t\0d\0\2" KEY "id\0" INT NOT_KEY "v\0" TEXT
#define FENCE "R" OTHER "walter\0fence\0d\0\1" KEY "id\0" INT

START_TEST(decodes_golden_text)
{
    golden_check("pgoutput", PLUGIN_PGOUTPUT, golden_case_name(_i));
}
END_TEST

START_TEST(decodes_golden_binary)
{
    golden_check("pgoutput-binary", PLUGIN_PGOUTPUT, golden_case_name(_i));
}
END_TEST

START_TEST(refuses_every_other_length_of_golden_messages)
{
    golden_check_lengths("pgoutput", PLUGIN_PGOUTPUT, golden_case_name(_i));
    golden_check_lengths("pgoutput-binary", PLUGIN_PGOUTPUT, golden_case_name(_i));
}
END_TEST

START_TEST(refuses_unknown_messages)
{
    for (int letter = 0; letter < 256; letter++) {
        const uint8_t message[64] = {(uint8_t)letter};

        if (letter == 0 || strchr("BCROYIUDTM", letter) == NULL)
            ck_assert_msg(!read_bytes(message, sizeof message), "letter %d", letter);
    }
    ASSERT_REFUSED("", "empty message");
    ASSERT_REFUSED("S\0\0\0\1\1", "unknown message 0x53"); /* the start of a streamed transaction */
}
END_TEST

START_TEST(refuses_rows_of_relations_never_announced)
{
    ASSERT_REFUSED("I" RELID "N\0\2nn", "relation 100, which was not announced");
    ASSERT_REFUSED("U" RELID "N\0\2nn", "not announced");
    ASSERT_REFUSED("D" RELID "K\0\2nn", "not announced");
    ASSERT_REFUSED("T\0\0\0\1\0" RELID, "not announced");
}
END_TEST

START_TEST(forgets_relations_on_reset)
{
    ck_assert(READ(RELATION));
    ck_assert(READ("I" RELID "N\0\2nn"));
    decoder_reset(decoder);
    ASSERT_REFUSED("I" RELID "N\0\2nn", "not announced");
}
END_TEST

START_TEST(does_not_keep_a_refused_relation)
{
    ASSERT_REFUSED(RELATION "x", "too long");
    ASSERT_REFUSED("I" RELID "N\0\2nn", "not announced");
}
END_TEST

START_TEST(fills_rows_in_the_order_of_the_table)
{
    ck_assert(READ(RELATION));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ck_assert(READ("I" RELID "N\0\2t\0\0\0\2"
                   "42b\0\0\0\0"));
    ck_assert_int_eq(change.kind, CHANGE_INSERT);
    ck_assert_int_eq(change.table, 0);
    ck_assert_ptr_null(change.old_row);
    ck_assert_int_eq(change.new_row[0].kind, DATUM_TEXT);
    ck_assert_uint_eq(change.new_row[0].len, 2);
    ck_assert_mem_eq(change.new_row[0].bytes, "42", 2);
    ck_assert_int_eq(change.new_row[1].kind, DATUM_ABSENT);
    ck_assert_int_eq(change.new_row[2].kind, DATUM_BINARY);
    ck_assert_uint_eq(change.new_row[2].len, 0);
    ck_assert_ptr_nonnull(change.new_row[2].bytes);
}
END_TEST

START_TEST(skips_generated_columns_that_are_sent)
{
    ck_assert(
        READ("R" RELID "public\0t\0d\0\3" KEY "id\0" INT NOT_KEY "twice\0" INT NOT_KEY "v\0" TEXT));
    ck_assert(READ("I" RELID "N\0\3t\0\0\0\1"
                   "1t\0\0\0\1"
                   "2n"));
    ck_assert_mem_eq(change.new_row[0].bytes, "1", 1);
    ck_assert_int_eq(change.new_row[1].kind, DATUM_ABSENT);
    ck_assert_int_eq(change.new_row[2].kind, DATUM_NULL);
}
END_TEST

START_TEST(keeps_only_the_key_of_a_key_tuple)
{
    ck_assert(READ(RELATION));
    ck_assert(READ("U" RELID "K\0\2t\0\0\0\1"
                   "1nN\0\2t\0\0\0\1"
                   "2u"));
    ck_assert_int_eq(change.kind, CHANGE_UPDATE);
    ck_assert(!change.old_is_full);
    ck_assert_int_eq(change.old_row[0].kind, DATUM_TEXT);
    ck_assert_int_eq(change.old_row[2].kind, DATUM_ABSENT);
    ck_assert_int_eq(change.new_row[2].kind, DATUM_UNCHANGED);
    ck_assert(READ("D" RELID "O\0\2t\0\0\0\1"
                   "1n"));
    ck_assert_int_eq(change.kind, CHANGE_DELETE);
    ck_assert(change.old_is_full);
    ck_assert_int_eq(change.old_row[2].kind, DATUM_NULL);
    ck_assert_ptr_null(change.new_row);
}
END_TEST

START_TEST(refuses_unchanged_values_where_they_mean_nothing)
{
    ck_assert(READ(RELATION));
    ASSERT_REFUSED("I" RELID "N\0\2nu", "unchanged value");
    ASSERT_REFUSED("D" RELID "K\0\2un", "unchanged value");
    ASSERT_REFUSED("U" RELID "O\0\2nuN\0\2nn", "unchanged value");
}
END_TEST

START_TEST(refuses_counts_that_overrun)
{
    ASSERT_REFUSED("R" RELID "public\0t\0d\xff\xff" KEY "id\0" INT, "too short");
    ck_assert_uint_lt(arena_bytes(arena), 65536 * 2); /* nothing was made for the 65535 columns */
    ck_assert(READ(RELATION));
    ASSERT_REFUSED("I" RELID "N\xff\xffnn", "65535 values where 2 were announced");
    ASSERT_REFUSED("I" RELID "N\0\1n", "1 values where 2 were announced");
    ASSERT_REFUSED("I" RELID "N\0\2t\x7f\xff\xff\xffxn", "too short");
    ASSERT_REFUSED("I" RELID "N\0\2t\xff\xff\xff\xffxn", "too short");
    ASSERT_REFUSED("T\xff\xff\xff\xff\0" RELID RELID, "too short");
    ASSERT_REFUSED("M\0\0\0\0\0\0\0\0\0p\0\xff\xff\xff\xff.", "too short");
}
END_TEST

START_TEST(refuses_broken_rows)
{
    ck_assert(READ(RELATION));
    ASSERT_REFUSED("I" RELID "K\0\2nn", "insert without a new row");
    ASSERT_REFUSED("U" RELID "K\0\2nnK\0\2nn", "update without a new row");
    ASSERT_REFUSED("D" RELID "N\0\2nn", "delete without an old row");
    ASSERT_REFUSED("I" RELID "N\0\2nx", "unknown kind of value 0x78");
    ASSERT_REFUSED("C\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "flags 0x01");
    ASSERT_REFUSED("T\0\0\0\1\4" RELID, "flags 0x04");
}
END_TEST

START_TEST(refuses_a_changed_definition)
{
    static const char CHANGED[] = "definition of table \"public.t\" changed";

    ASSERT_REFUSED("R" RELID "public\0t\0d\0\2" KEY "id\0" INT NOT_KEY "w\0" TEXT, CHANGED);
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\2" KEY "id\0" BIGINT NOT_KEY "v\0" TEXT, CHANGED);
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\1" KEY "id\0" INT, CHANGED);
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\0", CHANGED);
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\2" NOT_KEY "v\0" TEXT KEY "id\0" INT, CHANGED);
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\3" KEY "id\0" INT NOT_KEY "v\0" TEXT NOT_KEY "x\0" INT,
                   CHANGED);
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\3" KEY "id\0" INT NOT_KEY "v\0" TEXT NOT_KEY
                   "twice\0" INT,
                   CHANGED);
    ck_assert(READ(RELATION));
    ck_assert(READ(RELATION));
    ASSERT_REFUSED("R" RELID "public\0t\0f\0\2" KEY "id\0" INT KEY "v\0" TEXT,
                   "another replica identity");
    ASSERT_REFUSED("R" RELID "public\0t\0d\0\2" KEY "id\0" INT KEY "v\0" TEXT,
                   "another replica identity");
}
END_TEST

START_TEST(knows_a_table_by_its_oid_before_its_name)
{
    ck_assert(READ("R" RELID "elsewhere\0renamed\0d\0\2" KEY "id\0" INT NOT_KEY "v\0" TEXT));
    ck_assert(READ("I" RELID "N\0\2nn"));
    ck_assert_int_eq(change.kind, CHANGE_INSERT);
    /* another table took the name */
    ck_assert(READ("R" OTHER "public\0t\0d\0\1" KEY "x\0" INT));
    ck_assert(READ("I" OTHER "N\0\1n"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
}
END_TEST

START_TEST(knows_a_table_without_oid_by_its_name)
{
    ck_assert(READ(FENCE));
    ck_assert(READ("U" OTHER "N\0\1n"));
    ck_assert_int_eq(change.kind, CHANGE_UPDATE);
    ck_assert_int_eq(change.table, 1);
}
END_TEST

START_TEST(checks_rows_of_unknown_tables)
{
    ck_assert(READ("R" OTHER "\0pg_something\0d\0\2" KEY "x\0" INT NOT_KEY "y\0" TEXT));
    ck_assert(READ("D" OTHER "K\0\2nn"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ck_assert_ptr_null(change.old_row);
    ck_assert(READ("T\0\0\0\1\3" OTHER));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ASSERT_REFUSED("D" OTHER "K\0\1n", "1 values where 2 were announced");
    ASSERT_REFUSED("D" OTHER "K\0\2nnn", "too long");
}
END_TEST

START_TEST(reports_all_truncated_tables)
{
    ck_assert(READ(RELATION));
    ck_assert(READ(FENCE));
    ck_assert(READ("T\0\0\0\2\1" OTHER RELID));
    ck_assert_int_eq(change.kind, CHANGE_TRUNCATE);
    ck_assert_int_eq(change.table, 0);
    ck_assert_int_eq(change.truncated_count, 2);
    ck_assert_int_eq(change.truncated[0], 1);
    ck_assert_int_eq(change.truncated[1], 0);
    ck_assert(change.truncate_cascade && !change.truncate_restart);
    ck_assert(READ("T\0\0\0\1\2" OTHER));
    ck_assert_int_eq(change.table, 1);
    ck_assert_int_eq(change.truncated_count, 1);
    ck_assert(!change.truncate_cascade && change.truncate_restart);
}
END_TEST

START_TEST(reads_transaction_marks)
{
    ck_assert(READ("B\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0\3\0\0\2\1"));
    ck_assert_int_eq(change.kind, CHANGE_BEGIN);
    ck_assert_uint_eq(change.commit_lsn, UINT64_C(0x100000002));
    ck_assert_int_eq(change.commit_time_us, 3);
    ck_assert_uint_eq(change.xid, 513);
    ck_assert(READ("C\0\0\0\0\1\0\0\0\2\0\0\0\1\0\0\0\5\xff\xff\xff\xff\xff\xff\xff\xff"));
    ck_assert_int_eq(change.kind, CHANGE_COMMIT);
    ck_assert_uint_eq(change.commit_lsn, UINT64_C(0x100000002));
    ck_assert_uint_eq(change.end_lsn, UINT64_C(0x100000005));
    ck_assert_int_eq(change.commit_time_us, -1);
}
END_TEST

START_TEST(reads_over_what_carries_no_change)
{
    ck_assert(READ("Y\0\0\1\0public\0mood\0"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ck_assert(READ("O\0\0\0\0\0\0\0\1origin\0"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ck_assert(READ("M\1\0\0\0\0\0\0\0\1prefix\0\0\0\0\3a\0b"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ASSERT_REFUSED("Y\0\0\1\0public\0mood", "too short");
}
END_TEST

START_TEST(keeps_many_relations_apart)
{
    /* announced in an order that fills the cache from both ends */
    for (int i = 0; i < 1000; i++) {
        uint8_t relation[] = "R\0\1\0\0other\0t\0d\0\1\0x\0" INT;
        int number = i % 2 == 0 ? i : 2000 - i;

        relation[3] = (uint8_t)(number >> 8);
        relation[4] = (uint8_t)number;
        ck_assert(read_bytes(relation, sizeof relation - 1));
    }
    ck_assert(READ(RELATION));
    ck_assert(READ("I\0\1\1\0N\0\1n"));
    ck_assert(READ("I\0\1\7\xcfN\0\1n"));
    ck_assert_int_eq(change.kind, CHANGE_NONE);
    ck_assert(READ("I" RELID "N\0\2nn"));
    ck_assert_int_eq(change.kind, CHANGE_INSERT);
    ASSERT_REFUSED("I\0\1\0\1N\0\1n", "not announced");
}
END_TEST

START_TEST(peeks_at_the_kind)
{
    static const struct {
        const char *message;
        ChangeKind kind;
    } CASES[] = {{"B", CHANGE_BEGIN},  {"C", CHANGE_COMMIT}, {"I", CHANGE_INSERT},
                 {"U", CHANGE_UPDATE}, {"D", CHANGE_DELETE}, {"T", CHANGE_TRUNCATE},
                 {"R", CHANGE_NONE},   {"\xff", CHANGE_NONE}};

    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        ck_assert_int_eq(decoder_peek(PLUGIN_PGOUTPUT, (const uint8_t *)CASES[i].message, 1),
                         CASES[i].kind);
    ck_assert_int_eq(decoder_peek(PLUGIN_PGOUTPUT, NULL, 0), CHANGE_NONE);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("pgoutput");
    TCase *golden = tcase_create("golden");
    TCase *tests = tcase_create("messages");
    int cases = golden_case_count();

    suite_add_tcase(suite, golden);
    tcase_set_timeout(golden, 60);
    tcase_add_loop_test(golden, decodes_golden_text, 0, cases);
    tcase_add_loop_test(golden, decodes_golden_binary, 0, cases);
    tcase_add_loop_test(golden, refuses_every_other_length_of_golden_messages, 0, cases);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, refuses_unknown_messages);
    tcase_add_test(tests, refuses_rows_of_relations_never_announced);
    tcase_add_test(tests, forgets_relations_on_reset);
    tcase_add_test(tests, does_not_keep_a_refused_relation);
    tcase_add_test(tests, fills_rows_in_the_order_of_the_table);
    tcase_add_test(tests, skips_generated_columns_that_are_sent);
    tcase_add_test(tests, keeps_only_the_key_of_a_key_tuple);
    tcase_add_test(tests, refuses_unchanged_values_where_they_mean_nothing);
    tcase_add_test(tests, refuses_counts_that_overrun);
    tcase_add_test(tests, refuses_broken_rows);
    tcase_add_test(tests, refuses_a_changed_definition);
    tcase_add_test(tests, knows_a_table_by_its_oid_before_its_name);
    tcase_add_test(tests, knows_a_table_without_oid_by_its_name);
    tcase_add_test(tests, checks_rows_of_unknown_tables);
    tcase_add_test(tests, reports_all_truncated_tables);
    tcase_add_test(tests, reads_transaction_marks);
    tcase_add_test(tests, reads_over_what_carries_no_change);
    tcase_add_test(tests, keeps_many_relations_apart);
    tcase_add_test(tests, peeks_at_the_kind);
    return suite;
}
