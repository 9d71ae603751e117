/*
 * The net effect of a run of changes.
 *
 * Changes are written as text: "I 1 a x y" inserts a row of two key columns and two others, "U" and
 * "D" likewise; "U 2 a x y < 1 a" also has an old key.  "?" is a value that was not sent, "~" NULL.
 */
#include "phase/coalesce.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "unit.h"

enum { COLUMNS = 4, CHANGES_MAX = 16 };

static const int KEY_COLUMNS[] = {0, 1};
static const RowKey KEY = {.columns = KEY_COLUMNS, .count = 2, .column_count = COLUMNS};

/* The next word of *at, up to the next blank; NULL at the end. */
static const char *
next_word(const char **at, Arena *arena)
{
    size_t len;
    const char *word;

    while (**at == ' ')
        (*at)++;
    len = strcspn(*at, " ");
    if (len == 0)
        return NULL;
    word = arena_copy(arena, *at, len);
    *at += len;
    return word;
}

static Datum
datum_of(const char *word)
{
    if (strcmp(word, "?") == 0)
        return (Datum){.kind = DATUM_UNCHANGED};
    if (strcmp(word, "~") == 0)
        return (Datum){.kind = DATUM_NULL};
    if (strcmp(word, "''") == 0)
        return (Datum){.kind = DATUM_TEXT, .bytes = (const uint8_t *)""};
    return (Datum){
        .kind = DATUM_TEXT, .len = (uint32_t)strlen(word), .bytes = (const uint8_t *)word};
}

/* Read values up to the end or "<"; columns that are not mentioned stay absent. */
static Datum *
read_row(const char **at, Arena *arena)
{
    Datum *row = arena_alloc(arena, COLUMNS * sizeof *row);
    const char *word;

    for (int i = 0; (word = next_word(at, arena)) != NULL && strcmp(word, "<") != 0; i++)
        row[i] = datum_of(word);
    return row;
}

static Change
change_of(const char *text, Arena *arena)
{
    const char letter = text[0];
    const char *at = text + 1;
    Datum *row = read_row(&at, arena);
    Change change = {0};

    switch (letter) {
    case 'I':
        change = (Change){.kind = CHANGE_INSERT, .new_row = row};
        break;
    case 'U':
        change = (Change){.kind = CHANGE_UPDATE, .new_row = row};
        break;
    default:
        change = (Change){.kind = CHANGE_DELETE, .old_row = row};
    }
    if (*at != '\0')
        change.old_row = read_row(&at, arena);
    return change;
}

static void
add_datum(Buf *text, const Datum *datum)
{
    switch (datum->kind) {
    case DATUM_ABSENT:
        return;
    case DATUM_NULL:
        buf_add_text(text, " ~");
        return;
    case DATUM_UNCHANGED:
        buf_add_text(text, " ?");
        return;
    case DATUM_TEXT:
    case DATUM_BINARY:
        buf_printf(text, " %.*s", (int)datum->len, (const char *)datum->bytes);
    }
}

/* Coalesce `changes`, separated by ";"; the result as text in the same form, or "mismatch". */
static const char *
net_of(const char *changes, Arena *arena)
{
    Change list[CHANGES_MAX];
    NetOp *ops = NULL;
    int count = 0;
    int op_count = 0;
    Err err = {0};
    BUF_AUTO(text);

    for (const char *at = changes; *at != '\0';) {
        size_t len = strcspn(at, ";");

        ck_assert_int_lt(count, CHANGES_MAX);
        list[count++] = change_of(arena_copy(arena, at, len), arena);
        at += len + (at[len] == ';' ? 1 : 0);
    }
    if (!coalesce(list, count, &KEY, arena, &ops, &op_count, &err)) {
        ck_assert_int_eq(err.kind, ERR_MISMATCH);
        return "mismatch";
    }
    for (int i = 0; i < op_count; i++) {
        buf_printf(&text, "%s%c", i == 0 ? "" : ";", "?DUI"[ops[i].kind]);
        for (int j = 0; j < (ops[i].kind == NET_DELETE ? KEY.count : COLUMNS); j++)
            add_datum(&text, &ops[i].row[j]);
    }
    return arena_copy(arena, buf_text(&text), text.len);
}

typedef struct Case {
    const char *name;
    const char *changes;
    const char *net;
} Case;

static const Case CASES[] = {
    {"nothing", "", ""},
    {"insert", "I 1 a x y", "I 1 a x y"},
    {"update", "U 1 a x y", "U 1 a x y"},
    {"delete", "D 1 a", "D 1 a"},
    {"insert of nulls", "I 1 a ~ ~", "I 1 a ~ ~"},

    {"insert, update", "I 1 a x y;U 1 a x2 y2", "I 1 a x2 y2"},
    {"insert, update of part", "I 1 a x y;U 1 a ? y2", "I 1 a x y2"},
    {"insert, update to null", "I 1 a x y;U 1 a ~ ?", "I 1 a ~ y"},
    {"insert, delete", "I 1 a x y;D 1 a", ""},
    {"insert, delete, insert", "I 1 a x y;D 1 a;I 1 a x2 y2", "I 1 a x2 y2"},
    {"insert, delete, insert, delete", "I 1 a x y;D 1 a;I 1 a x2 y2;D 1 a", ""},
    {"insert, update, delete", "I 1 a x y;U 1 a ? z;D 1 a", ""},

    {"two updates", "U 1 a x y;U 1 a x2 y2", "U 1 a x2 y2"},
    {"unsent after sent", "U 1 a x y;U 1 a ? y2", "U 1 a x y2"},
    {"sent after unsent", "U 1 a ? y;U 1 a x2 ?", "U 1 a x2 y"},
    {"never sent", "U 1 a ? y;U 1 a ? y2", "U 1 a ? y2"},
    {"null after sent, then unsent", "U 1 a x y;U 1 a ~ y;U 1 a ? y3", "U 1 a ~ y3"},
    {"update, delete", "U 1 a x y;D 1 a", "D 1 a"},
    {"update, delete, insert", "U 1 a x y;D 1 a;I 1 a x2 y2", "D 1 a;I 1 a x2 y2"},

    {"delete, insert", "D 1 a;I 1 a x y", "D 1 a;I 1 a x y"},
    {"delete, insert, unsent update", "D 1 a;I 1 a x y;U 1 a ? y2", "D 1 a;I 1 a x y2"},
    {"delete, insert, delete", "D 1 a;I 1 a x y;D 1 a", "D 1 a"},
    {"delete, insert, delete, insert", "D 1 a;I 1 a x y;D 1 a;I 1 a x3 y3", "D 1 a;I 1 a x3 y3"},
    {"update, delete, insert, update", "U 1 a ? q;D 1 a;I 1 a x y;U 1 a ? y2", "D 1 a;I 1 a x y2"},

    {"deletes, updates, inserts, each by key",
     "I 9 a x y;D 5 a;U 3 a x y;I 2 a x y;D 4 a;U 1 a x y",
     "D 4 a;D 5 a;U 1 a x y;U 3 a x y;I 2 a x y;I 9 a x y"},
    {"keys that are prefixes", "I 1 a x y;I 11 a x y;D 1 ab;U 1 aa x y",
     "D 1 ab;U 1 aa x y;I 1 a x y;I 11 a x y"},
    {"columns that join alike", "I 1 11 x y;D 11 1", "D 11 1;I 1 11 x y"},
    {"empty key columns", "I '' a x y;D a ''", "D a ;I  a x y"},
    {"one column equal", "I 1 a x y;D 1 b;U 2 a x y", "D 1 b;U 2 a x y;I 1 a x y"},

    {"old key that is the same", "U 1 a x y < 1 a;U 1 a x2 ? < 1 a", "U 1 a x2 y"},
    {"key out of line, in the old row only", "U 1 ? x y < 1 a", "U 1 a x y"},
    {"the same row with and without it", "U 1 a x y;U 1 ? ? y2 < 1 a", "U 1 a x y2"},
    {"insert, then key in the old row only", "I 1 a x y;U 1 ? x2 ? < 1 a", "I 1 a x2 y"},
    {"whole old rows", "U 1 a x y < 1 a o p;D 1 a x y;I 1 a z z", "D 1 a;I 1 a z z"},

    {"insert twice", "I 1 a x y;I 1 a x y", "mismatch"},
    {"insert of an updated row", "U 1 a x y;I 1 a x y", "mismatch"},
    {"delete twice", "D 1 a;D 1 a", "mismatch"},
    {"update of a deleted row", "D 1 a;U 1 a x y", "mismatch"},
    {"delete, insert, insert", "D 1 a;I 1 a x y;I 1 a x y", "mismatch"},
    {"delete, insert, delete, delete", "D 1 a;I 1 a x y;D 1 a;D 1 a", "mismatch"},
    {"delete, insert, delete, update", "D 1 a;I 1 a x y;D 1 a;U 1 a x y", "mismatch"},
    /* these leave an operation that finds no row, which apply notices */
    {"insert, delete, delete", "I 1 a x y;D 1 a;D 1 a", "D 1 a"},
    {"insert, delete, update", "I 1 a x y;D 1 a;U 1 a x y", "U 1 a x y"},
};

START_TEST(nets_what_a_table_can_do)
{
    Arena *arena = arena_new();
    const Case *one = &CASES[_i];

    ck_assert_msg(strcmp(net_of(one->changes, arena), one->net) == 0, "%s: %s gives %s, not %s",
                  one->name, one->changes, net_of(one->changes, arena), one->net);
    arena_free(arena);
}
END_TEST

/* What `changes` do to a table with or without the row, one after the other; false: impossible. */
static bool
replay(const char *kinds, bool *exists)
{
    for (; *kinds != '\0'; kinds++) {
        if ((*kinds == 'I') == *exists)
            return false;
        *exists = *kinds != 'D';
    }
    return true;
}

/* What the net operations do to it; each must find what it needs. */
static bool
replay_net(const char *net, bool *exists)
{
    for (const char *at = net; *at != '\0'; at += strcspn(at, ";"), at += *at == ';' ? 1 : 0) {
        if ((*at == 'I') == *exists)
            return false;
        *exists = *at != 'D';
    }
    return true;
}

/* Sequence `number` of `len` kinds, and the changes that it stands for. */
static void
write_sequence(int number, int len, char *kinds, Buf *changes)
{
    for (int i = 0; i < len; i++, number /= 3) {
        kinds[i] = "IUD"[number % 3];
        buf_printf(changes, "%s%c 1 a", i == 0 ? "" : ";", kinds[i]);
        if (kinds[i] != 'D')
            buf_printf(changes, " v%d w%d", i, i);
    }
    kinds[len] = '\0';
}

/* All sequences of up to six changes of one row agree with what a table would do. */
START_TEST(agrees_with_every_sequence_that_a_table_allows)
{
    Arena *arena = arena_new();
    int total = 1;

    for (int len = 1; len <= 6; len++) {
        total *= 3;
        for (int number = 0; number < total; number++)
            for (int before = 0; before < 2; before++) {
                bool wanted = before == 1;
                bool got = before == 1;
                char kinds[8];
                const char *net;
                BUF_AUTO(changes);

                write_sequence(number, len, kinds, &changes);
                if (!replay(kinds, &wanted))
                    continue;
                net = net_of(buf_text(&changes), arena);
                ck_assert_msg(replay_net(net, &got) && got == wanted, "%s gives %s", kinds, net);
                arena_reset(arena);
            }
    }
    arena_free(arena);
}
END_TEST

typedef struct KeyCase {
    const char *change;
    bool changes_key;
} KeyCase;

static const KeyCase KEY_CASES[] = {
    {"I 1 a x y", false},           {"D 1 a", false},
    {"U 1 a x y", false},           {"U 1 a x y < 1 a", false},
    {"U 1 ? x y < 1 a", false},     {"U 2 a x y < 1 a", true},
    {"U 1 A x y < 1 a", true},      {"U 2 ? x y < 1 a", true},
    {"U 1 a x y < 1 a o p", false}, {"U 1 '' x y < 1 a", true},
    {"U 1.0 a x y < 1 a", true},
};

START_TEST(knows_a_change_of_the_key)
{
    Arena *arena = arena_new();
    const KeyCase *one = &KEY_CASES[_i];
    Change change = change_of(one->change, arena);

    ck_assert_msg(coalesce_changes_key(&change, &KEY) == one->changes_key, "%s", one->change);
    arena_free(arena);
}
END_TEST

START_TEST(a_row_is_known_by_its_old_key)
{
    Arena *arena = arena_new();
    Change with = change_of("U 2 a x y < 1 b", arena);
    Change without = change_of("U 2 a x y", arena);

    ck_assert_ptr_eq(coalesce_old_key(&with), with.old_row);
    ck_assert_ptr_eq(coalesce_old_key(&without), without.new_row);
    arena_free(arena);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("coalesce");
    TCase *tests = tcase_create("coalesce");

    suite_add_tcase(suite, tests);
    tcase_add_loop_test(tests, nets_what_a_table_can_do, 0, (int)(sizeof CASES / sizeof CASES[0]));
    tcase_add_test(tests, agrees_with_every_sequence_that_a_table_allows);
    tcase_add_loop_test(tests, knows_a_change_of_the_key, 0,
                        (int)(sizeof KEY_CASES / sizeof KEY_CASES[0]));
    tcase_add_test(tests, a_row_is_known_by_its_old_key);
    return suite;
}
