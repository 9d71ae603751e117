/* Statements as the operator writes them. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "plan/ddl.h"
#include "plan/ddl_tree.h"
#include "unit.h"

static Arena *arena;

static void
set_up(void)
{
    arena = arena_new();
}

static void
tear_down(void)
{
    arena_free(arena);
}

static Ddl
parse(const char *text)
{
    Ddl ddl = {0};
    Err err = {0};

    ck_assert_msg(ddl_parse(text, arena, &ddl, &err), "%s: %s (%s)", text, err.message, err.hint);
    return ddl;
}

/* --- names --- */

#define NAME_63 "abcdefghijklmnopqrstuvwxyz_abcdefghijklmnopqrstuvwxyz_123456789"

static const struct {
    const char *text;
    const char *schema;
    const char *table;
    const char *rewritten;
} NAMES[] = {
    {"ALTER TABLE t ADD c int", NULL, "t", "ALTER TABLE w.t ADD c int"},
    {"alter table T add C int", NULL, "t", "alter table w.t add C int"},
    {"ALTER TABLE s.t ADD c int", "s", "t", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE S . T ADD c int", "s", "t", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE s /* a.b */ . -- x\n t ADD c int", "s", "t", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"S\".\"T\" ADD c int", "S", "T", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE\"t\"ADD c int", NULL, "t", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"quo\"\"ted\" ADD c int", NULL, "quo\"ted", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"a.b\".\"c.d\" ADD c int", "a.b", "c.d", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"my-table\" ADD c int", NULL, "my-table", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"select\" ADD c int", NULL, "select", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"table\".\"order\" ADD c int", "table", "order", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE s.select ADD c int", "s", "select", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"a -- b\" ADD c int", NULL, "a -- b", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE \"a;b\" ADD c int", NULL, "a;b", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE täble ADD spölte int", NULL, "täble", "ALTER TABLE w.t ADD spölte int"},
    {"ALTER TABLE \"\xf0\x9f\x90\x98\" ADD c int", NULL, "\xf0\x9f\x90\x98",
     "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE U&\"d\\0061t\" ADD c int", NULL, "dat", "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE u&\"d!0061t\" UESCAPE '!' . U&\"q!0022\"uescape'!'ADD c int", "dat", "q\"",
     "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE " NAME_63 "." NAME_63 " ADD c int", NAME_63, NAME_63,
     "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE " NAME_63 "tail ADD c int", NULL, NAME_63, "ALTER TABLE w.t ADD c int"},
    {"ALTER TABLE IF EXISTS t ADD c int", NULL, "t", "ALTER TABLE IF EXISTS w.t ADD c int"},
    {"ALTER TABLE ONLY t ADD c int", NULL, "t", "ALTER TABLE ONLY w.t ADD c int"},
    {"ALTER TABLE ONLY (t) ADD c int", NULL, "t", "ALTER TABLE ONLY (w.t) ADD c int"},
    {"ALTER TABLE ONLY(\"t\")ADD c int", NULL, "t", "ALTER TABLE ONLY(w.t)ADD c int"},
    {"ALTER TABLE t * ADD c int", NULL, "t", "ALTER TABLE w.t * ADD c int"},
    {"ALTER TABLE t ADD t int, DROP t", NULL, "t", "ALTER TABLE w.t ADD t int, DROP t"},
    {"ALTER TABLE t ADD t text DEFAULT 't'", NULL, "t", "ALTER TABLE w.t ADD t text DEFAULT 't'"},
    {"ALTER TABLE t RENAME t TO s", NULL, "t", "ALTER TABLE w.t RENAME t TO s"},
    {"ALTER TABLE s.t RENAME COLUMN a TO b", "s", "t", "ALTER TABLE w.t RENAME COLUMN a TO b"},
    {"ALTER TABLE t RENAME CONSTRAINT t TO s", NULL, "t",
     "ALTER TABLE w.t RENAME CONSTRAINT t TO s"},
    {"/* x */ ALTER TABLE t DROP c -- why", NULL, "t", "ALTER TABLE w.t DROP c"},
    {" \n ALTER /* t */ TABLE t /* t */ DROP c ;\n", NULL, "t",
     "ALTER /* t */ TABLE w.t /* t */ DROP c"},
    {"ALTER TABLE s.t ADD CHECK (s.t.a > 0 AND t.b > 0 AND s . t . \"C\" > 1)", "s", "t",
     "ALTER TABLE w.t ADD CHECK (t.a > 0 AND t.b > 0 AND t . \"C\" > 1)"},
    {"ALTER TABLE t ADD CHECK (NOT\"s\".t.a)", NULL, "t", "ALTER TABLE w.t ADD CHECK (NOT t.a)"},
    {"ALTER TABLE s.t ADD CHECK (x.t.a > 0)", "s", "t", "ALTER TABLE w.t ADD CHECK (x.t.a > 0)"},
    {"ALTER TABLE s.t ALTER a TYPE int USING f(s.t.b, s.t.*)::int", "s", "t",
     "ALTER TABLE w.t ALTER a TYPE int USING f(t.b, t.*)::int"},
    {"ALTER TABLE s.t ADD g int GENERATED ALWAYS AS (s.t.a + 1) STORED", "s", "t",
     "ALTER TABLE w.t ADD g int GENERATED ALWAYS AS (t.a + 1) STORED"},
    {"ALTER TABLE s.t ADD EXCLUDE USING gist ((s.t.a + 1) WITH =) WHERE (s.t.b)", "s", "t",
     "ALTER TABLE w.t ADD EXCLUDE USING gist ((t.a + 1) WITH =) WHERE (t.b)"},
};

START_TEST(replaces_the_name_and_nothing_else)
{
    Ddl ddl = parse(NAMES[_i].text);
    const char *rewritten = ddl_rewrite(&ddl.statements[0], "w.t", NULL, arena);
    Ddl again = parse(rewritten);

    ck_assert_int_eq(ddl.statement_count, 1);
    ck_assert_pstr_eq(ddl.schema, NAMES[_i].schema);
    ck_assert_str_eq(ddl.table, NAMES[_i].table);
    ck_assert_str_eq(rewritten, NAMES[_i].rewritten);
    ck_assert_str_eq(again.schema, "w");
    ck_assert_str_eq(again.table, "t");
}
END_TEST

START_TEST(takes_any_text_for_the_new_name)
{
    Ddl ddl = parse("ALTER TABLE\"a\"DROP c");
    Ddl again = parse(ddl_rewrite(&ddl.statements[0], "\"w x\".\"quo\"\"ted\"", NULL, arena));

    ck_assert_str_eq(again.schema, "w x");
    ck_assert_str_eq(again.table, "quo\"ted");
}
END_TEST

/* --- foreign keys --- */

static const struct {
    const char *text;
    const char *schema[2];
    const char *name[2];
    const char *rewritten; /* references replaced by r.a and r.b */
    const char *kept;      /* references left as they are */
} FOREIGN_KEYS[] = {
    {"ALTER TABLE t ADD FOREIGN KEY (x) REFERENCES o",
     {NULL},
     {"o"},
     "ALTER TABLE w.t ADD FOREIGN KEY (x) REFERENCES r.a",
     "ALTER TABLE w.t ADD FOREIGN KEY (x) REFERENCES o"},
    {"ALTER TABLE t ADD CONSTRAINT o FOREIGN KEY (o) REFERENCES \"S\".\"O\"(o) ON DELETE CASCADE",
     {"S"},
     {"O"},
     "ALTER TABLE w.t ADD CONSTRAINT o FOREIGN KEY (o) REFERENCES r.a(o) ON DELETE CASCADE",
     "ALTER TABLE w.t ADD CONSTRAINT o FOREIGN KEY (o) REFERENCES \"S\".\"O\"(o) ON DELETE "
     "CASCADE"},
    {"ALTER TABLE t ADD x int REFERENCES\"o\"NOT NULL",
     {NULL},
     {"o"},
     "ALTER TABLE w.t ADD x int REFERENCES r.a NOT NULL",
     "ALTER TABLE w.t ADD x int REFERENCES\"o\"NOT NULL"},
    {"ALTER TABLE t ADD x int DEFAULT 4 CONSTRAINT k REFERENCES s . o (id) DEFERRABLE, "
     "ADD CONSTRAINT y FOREIGN KEY (a, b) REFERENCES t (a, b) NOT VALID",
     {"s", NULL},
     {"o", "t"},
     "ALTER TABLE w.t ADD x int DEFAULT 4 CONSTRAINT k REFERENCES r.a (id) DEFERRABLE, "
     "ADD CONSTRAINT y FOREIGN KEY (a, b) REFERENCES r.b (a, b) NOT VALID",
     "ALTER TABLE w.t ADD x int DEFAULT 4 CONSTRAINT k REFERENCES s . o (id) DEFERRABLE, "
     "ADD CONSTRAINT y FOREIGN KEY (a, b) REFERENCES t (a, b) NOT VALID"},
};

START_TEST(lists_and_replaces_the_tables_of_foreign_keys)
{
    static const char *const NEW[] = {"r.a", "r.b"};
    Ddl ddl = parse(FOREIGN_KEYS[_i].text);
    const DdlStatement *statement = &ddl.statements[0];
    Ddl again = parse(ddl_rewrite(statement, "w.t", NEW, arena));
    int expected = FOREIGN_KEYS[_i].name[1] == NULL ? 1 : 2;

    ck_assert_int_eq(statement->reference_count, expected);
    ck_assert_int_eq(again.statements[0].reference_count, expected);
    for (int i = 0; i < expected; i++) {
        ck_assert_pstr_eq(statement->references[i].schema, FOREIGN_KEYS[_i].schema[i]);
        ck_assert_str_eq(statement->references[i].name, FOREIGN_KEYS[_i].name[i]);
        ck_assert_str_eq(again.statements[0].references[i].schema, "r");
    }
    ck_assert_str_eq(ddl_rewrite(statement, "w.t", NEW, arena), FOREIGN_KEYS[_i].rewritten);
    ck_assert_str_eq(ddl_rewrite(statement, "w.t", NULL, arena), FOREIGN_KEYS[_i].kept);
    ck_assert_str_eq(ddl_rewrite(statement, "w.t", (const char *const[]){NULL, NULL}, arena),
                     FOREIGN_KEYS[_i].kept);
}
END_TEST

START_TEST(orders_edits_by_their_place)
{
    Ddl ddl =
        parse("ALTER TABLE s.t ADD CHECK (s.t.a > 0), ADD x int CHECK (s.t.x > 1) REFERENCES o,"
              " ALTER b TYPE int USING s.t.b::int, ADD FOREIGN KEY (b) REFERENCES p");
    static const int KINDS[] = {EDIT_TABLE, EDIT_DROP, EDIT_DROP, 0, EDIT_DROP, 1};
    const DdlStatement *statement = &ddl.statements[0];

    ck_assert_int_eq(statement->edit_count, 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(statement->edits[i].reference, KINDS[i]);
        if (i > 0)
            ck_assert_int_gt(statement->edits[i].start,
                             statement->edits[i - 1].start + statement->edits[i - 1].len);
    }
}
END_TEST

/* --- several statements --- */

START_TEST(reads_several_statements)
{
    Ddl ddl = parse(";; -- first; of all\nALTER TABLE t ADD \"ü;\" text DEFAULT ';' ; ;\n"
                    "/* ; */ ALTER TABLE s.t RENAME a TO b;ALTER TABLE \"t\" DROP c -- end;\n;");

    ck_assert_int_eq(ddl.statement_count, 3);
    ck_assert_str_eq(ddl.schema, "s");
    ck_assert_str_eq(ddl.table, "t");
    ck_assert_str_eq(ddl.statements[0].text, "ALTER TABLE t ADD \"ü;\" text DEFAULT ';'");
    ck_assert_str_eq(ddl.statements[1].text, "ALTER TABLE s.t RENAME a TO b");
    ck_assert_str_eq(ddl.statements[2].text, "ALTER TABLE \"t\" DROP c");
    ck_assert_str_eq(ddl_rewrite(&ddl.statements[1], "w.t", NULL, arena),
                     "ALTER TABLE w.t RENAME a TO b");
    ck_assert_str_eq(ddl_rewrite(&ddl.statements[2], "w.t", NULL, arena), "ALTER TABLE w.t DROP c");
    ck_assert_int_eq(ddl.statements[1].actions[0].kind, ACTION_RENAME_COLUMN);
    ck_assert_str_eq(ddl.statements[1].actions[0].column, "a");
    ck_assert_str_eq(ddl.statements[1].actions[0].new_name, "b");
}
END_TEST

/* --- actions --- */

static const struct {
    const char *command;
    ActionKind kind;
    const char *column;
    const char *expression;
    const char *references; /* each followed by a blank */
    bool row;
    const char *flags; /* s serial, i identity, g generated */
} ACTIONS[] = {
    {"ADD c int", ACTION_ADD_COLUMN, "c", NULL, "", false, ""},
    {"ADD COLUMN IF NOT EXISTS \"C c\" int", ACTION_ADD_COLUMN, "C c", NULL, "", false, ""},
    {"ADD IF NOT EXISTS c int DEFAULT 5", ACTION_ADD_COLUMN, "c", "5", "", false, ""},
    {"ADD c int DEFAULT 5 NOT NULL", ACTION_ADD_COLUMN, "c", "5", "", false, ""},
    {"ADD c int DEFAULT 5 NULL", ACTION_ADD_COLUMN, "c", "5", "", false, ""},
    {"ADD c int DEFAULT NULL", ACTION_ADD_COLUMN, "c", "NULL", "", false, ""},
    {"ADD c int NOT NULL DEFAULT (5, 6) UNIQUE", ACTION_ADD_COLUMN, "c", "(5, 6)", "", false, ""},
    {"ADD c int DEFAULT 5 CONSTRAINT x CHECK (c > 0)", ACTION_ADD_COLUMN, "c", "5", "", false, ""},
    {"ADD c int CONSTRAINT \"default\" DEFAULT 5 CONSTRAINT y NOT NULL", ACTION_ADD_COLUMN, "c",
     "5", "", false, ""},
    {"ADD c text DEFAULT 'a' COLLATE \"C\" NOT NULL", ACTION_ADD_COLUMN, "c", "'a'", "", false, ""},
    {"ADD c text COLLATE \"C\" DEFAULT 'a'", ACTION_ADD_COLUMN, "c", "'a'", "", false, ""},
    {"ADD c text DEFAULT ('a' COLLATE \"C\")", ACTION_ADD_COLUMN, "c", "('a' COLLATE \"C\")", "",
     false, ""},
    {"ADD c int DEFAULT 5 REFERENCES o DEFERRABLE INITIALLY DEFERRED", ACTION_ADD_COLUMN, "c", "5",
     "", false, ""},
    {"ADD c int REFERENCES o ON DELETE SET DEFAULT DEFAULT 5", ACTION_ADD_COLUMN, "c", "5", "",
     false, ""},
    {"ADD c int DEFAULT 5 PRIMARY KEY", ACTION_ADD_COLUMN, "c", "5", "", false, ""},
    {"ADD c int DEFAULT 5 -- five, not null\n NOT NULL", ACTION_ADD_COLUMN, "c", "5", "", false,
     ""},
    {"ADD c int DEFAULT /* , */ 5 /* ) */ + /* a */ 6 /* last */", ACTION_ADD_COLUMN, "c",
     "5 /* ) */ + /* a */ 6", "", false, ""},
    {"ADD c int DEFAULT 5/* tight */", ACTION_ADD_COLUMN, "c", "5", "", false, ""},
    {"ADD c text DEFAULT 'it''s, (not null'", ACTION_ADD_COLUMN, "c", "'it''s, (not null'", "",
     false, ""},
    {"ADD c text DEFAULT E'\\',)' || $$,'($$ || $x$ $$ , $x$", ACTION_ADD_COLUMN, "c",
     "E'\\',)' || $$,'($$ || $x$ $$ , $x$", "", false, ""},
    {"ADD c text DEFAULT U&'!0061' UESCAPE '!' NOT NULL", ACTION_ADD_COLUMN, "c",
     "U&'!0061' UESCAPE '!'", "", false, ""},
    {"ADD c text DEFAULT 'a'\n 'b'", ACTION_ADD_COLUMN, "c", "'a'\n 'b'", "", false, ""},
    {"ADD c int[] DEFAULT ARRAY[1,2]::int[]", ACTION_ADD_COLUMN, "c", "ARRAY[1,2]::int[]", "",
     false, ""},
    {"ADD c numeric(10,2) DEFAULT round(1.5, 2)::numeric(10,2)", ACTION_ADD_COLUMN, "c",
     "round(1.5, 2)::numeric(10,2)", "", false, ""},
    {"ADD c timestamptz DEFAULT now() - interval '1 day'", ACTION_ADD_COLUMN, "c",
     "now() - interval '1 day'", "", false, ""},
    {"ADD c int DEFAULT CASE WHEN true THEN 1 ELSE 2 END", ACTION_ADD_COLUMN, "c",
     "CASE WHEN true THEN 1 ELSE 2 END", "", false, ""},
    {"ADD c regclass DEFAULT 'x'::regclass, DROP d", ACTION_ADD_COLUMN, "c", "'x'::regclass", "",
     false, ""},
    {"ADD c bigint DEFAULT nextval('s'), ADD d int DEFAULT 7", ACTION_ADD_COLUMN, "c",
     "nextval('s')", "", false, ""},
    {"ADD c serial", ACTION_ADD_COLUMN, "c", NULL, "", false, "s"},
    {"ADD c SmallSerial", ACTION_ADD_COLUMN, "c", NULL, "", false, "s"},
    {"ADD c bigserial", ACTION_ADD_COLUMN, "c", NULL, "", false, "s"},
    {"ADD c serial2", ACTION_ADD_COLUMN, "c", NULL, "", false, "s"},
    {"ADD c serial4", ACTION_ADD_COLUMN, "c", NULL, "", false, "s"},
    {"ADD c \"serial8\"", ACTION_ADD_COLUMN, "c", NULL, "", false, "s"},
    {"ADD c my.serial", ACTION_ADD_COLUMN, "c", NULL, "", false, ""},
    {"ADD serial int", ACTION_ADD_COLUMN, "serial", NULL, "", false, ""},
    {"ADD c int GENERATED BY DEFAULT AS IDENTITY (START 4 RESTART 5)", ACTION_ADD_COLUMN, "c", NULL,
     "", false, "i"},
    {"ADD c int GENERATED ALWAYS AS (a + 1) STORED", ACTION_ADD_COLUMN, "c", NULL, "", false, "g"},
    {"DROP c", ACTION_DROP_COLUMN, "c", NULL, "", false, ""},
    {"DROP COLUMN IF EXISTS \"C\" CASCADE", ACTION_DROP_COLUMN, "C", NULL, "", false, ""},
    {"ALTER c TYPE bigint", ACTION_ALTER_TYPE, "c", NULL, "", false, ""},
    {"ALTER COLUMN c SET DATA TYPE text COLLATE \"C\"", ACTION_ALTER_TYPE, "c", NULL, "", false,
     ""},
    {"ALTER c TYPE int USING c::int", ACTION_ALTER_TYPE, "c", "c::int", "c ", false, ""},
    {"ALTER \"C\" SET DATA TYPE int USING (\"C\" + b)", ACTION_ALTER_TYPE, "C", "(\"C\" + b)",
     "C b ", false, ""},
    {"ALTER c TYPE text COLLATE \"using\" USING c", ACTION_ALTER_TYPE, "c", "c", "c ", false, ""},
    {"ALTER \"using\" TYPE s.using USING \"using\"", ACTION_ALTER_TYPE, "using", "\"using\"",
     "using ", false, ""},
    {"ALTER c TYPE int USING a + a + b", ACTION_ALTER_TYPE, "c", "a + a + b", "a b ", false, ""},
    {"ALTER c TYPE int USING round(c, 2)::int, ALTER d TYPE int USING d", ACTION_ALTER_TYPE, "c",
     "round(c, 2)::int", "c ", false, ""},
    {"ALTER c TYPE int USING CASE WHEN a IN (1, 2) THEN b ELSE d[1:e] END", ACTION_ALTER_TYPE, "c",
     "CASE WHEN a IN (1, 2) THEN b ELSE d[1:e] END", "a b d e ", false, ""},
    {"ALTER c TYPE int[] USING ARRAY[a, b]", ACTION_ALTER_TYPE, "c", "ARRAY[a, b]", "a b ", false,
     ""},
    {"ALTER c TYPE int USING (SELECT x.y FROM x, z WHERE x.a = t.b)", ACTION_ALTER_TYPE, "c",
     "(SELECT x.y FROM x, z WHERE x.a = t.b)", "b ", false, ""},
    {"ALTER c TYPE int USING (c).f + (c).g[1]", ACTION_ALTER_TYPE, "c", "(c).f + (c).g[1]", "c ",
     false, ""},
    {"ALTER c TYPE int USING c -- the same, old\n + 1 -- end", ACTION_ALTER_TYPE, "c",
     "c -- the same, old\n + 1", "c ", false, ""},
    {"ALTER c TYPE int USING t.c + s.t.d + \"s\" /* , */ . \"t\" . \"E e\"", ACTION_ALTER_TYPE, "c",
     "t.c + t.d + \"t\" . \"E e\"", "c d E e ", false, ""},
    {"ALTER c TYPE text USING f(t)", ACTION_ALTER_TYPE, "c", "f(t)", "t ", true, ""},
    {"ALTER c TYPE text USING f(t.*)", ACTION_ALTER_TYPE, "c", "f(t.*)", "", true, ""},
    {"ALTER c TYPE text USING f(s.t.*)", ACTION_ALTER_TYPE, "c", "f(t.*)", "", true, ""},
    {"ALTER c TYPE text USING 't' || \"T\"", ACTION_ALTER_TYPE, "c", "'t' || \"T\"", "T ", false,
     ""},
    {"ALTER c TYPE text USING 'x'", ACTION_ALTER_TYPE, "c", "'x'", "", false, ""},
    {"ALTER c TYPE timestamptz USING c AT TIME ZONE 'UTC'", ACTION_ALTER_TYPE, "c",
     "c AT TIME ZONE 'UTC'", "c ", false, ""},
    {"ALTER c TYPE bool USING c IS DISTINCT FROM d", ACTION_ALTER_TYPE, "c", "c IS DISTINCT FROM d",
     "c d ", false, ""},
    {"RENAME c TO d", ACTION_RENAME_COLUMN, "c", NULL, "", false, ""},
    {"RENAME CONSTRAINT c TO d", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"OWNER TO CURRENT_USER", ACTION_CHANGE_OWNER, NULL, NULL, "", false, ""},
    {"SET UNLOGGED", ACTION_SET_UNLOGGED, NULL, NULL, "", false, ""},
    {"SET LOGGED", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"ALTER c RESTART", ACTION_RESTART_IDENTITY, "c", NULL, "", false, ""},
    {"ALTER c RESTART WITH 4", ACTION_RESTART_IDENTITY, "c", NULL, "", false, ""},
    {"ALTER c SET GENERATED ALWAYS SET START 1 RESTART", ACTION_RESTART_IDENTITY, "c", NULL, "",
     false, ""},
    {"ALTER c ADD GENERATED ALWAYS AS IDENTITY (RESTART 3)", ACTION_RESTART_IDENTITY, "c", NULL, "",
     false, ""},
    {"ALTER c SET GENERATED ALWAYS", ACTION_OTHER, "c", NULL, "", false, ""},
    {"ALTER c ADD GENERATED ALWAYS AS IDENTITY", ACTION_OTHER, "c", NULL, "", false, ""},
    {"ALTER c SET DEFAULT 7", ACTION_OTHER, "c", NULL, "", false, ""},
    {"ALTER c DROP DEFAULT", ACTION_OTHER, "c", NULL, "", false, ""},
    {"ALTER c SET NOT NULL", ACTION_OTHER, "c", NULL, "", false, ""},
    {"ALTER c SET STORAGE EXTERNAL", ACTION_OTHER, "c", NULL, "", false, ""},
    {"DROP CONSTRAINT c", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"ADD CONSTRAINT c UNIQUE (a)", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"SET (fillfactor = 70)", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"SET TABLESPACE x", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"SET ACCESS METHOD heap", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"REPLICA IDENTITY FULL", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"ENABLE ROW LEVEL SECURITY", ACTION_OTHER, NULL, NULL, "", false, ""},
    {"CLUSTER ON i", ACTION_OTHER, NULL, NULL, "", false, ""},
};

static const char *
list_references(const DdlAction *action)
{
    BUF_AUTO(text);

    for (int i = 0; i < action->reference_count; i++)
        buf_printf(&text, "%s ", action->references[i]);
    return arena_copy(arena, buf_text(&text), text.len);
}

static void
check_action(const char *text, int row)
{
    Ddl ddl = parse(text);
    const DdlAction *action = &ddl.statements[0].actions[0];

    ck_assert_int_eq(action->kind, ACTIONS[row].kind);
    ck_assert_pstr_eq(action->column, ACTIONS[row].column);
    ck_assert_pstr_eq(action->expression, ACTIONS[row].expression);
    ck_assert_str_eq(list_references(action), ACTIONS[row].references);
    ck_assert_int_eq(action->references_row, ACTIONS[row].row);
    ck_assert_int_eq(action->is_serial, strchr(ACTIONS[row].flags, 's') != NULL);
    ck_assert_int_eq(action->is_identity, strchr(ACTIONS[row].flags, 'i') != NULL);
    ck_assert_int_eq(action->is_generated, strchr(ACTIONS[row].flags, 'g') != NULL);
}

START_TEST(reads_each_sub_command)
{
    AUTO(Text) *text = mem_format("ALTER TABLE t %s", ACTIONS[_i].command);
    Ddl ddl = parse(text);

    check_action(text, _i);
    /* the same must come out of the rewritten statement */
    check_action(ddl_rewrite(&ddl.statements[0], "w.t", NULL, arena), _i);
}
END_TEST

START_TEST(reads_all_sub_commands_in_order)
{
    Ddl ddl = parse("ALTER TABLE t ADD a int DEFAULT f(1, 2), ALTER b TYPE int USING (b, 1), "
                    "ADD c text DEFAULT ',' NOT NULL, DROP d, ALTER e TYPE x USING e");
    static const ActionKind KINDS[] = {ACTION_ADD_COLUMN, ACTION_ALTER_TYPE, ACTION_ADD_COLUMN,
                                       ACTION_DROP_COLUMN, ACTION_ALTER_TYPE};
    static const char *const EXPRESSIONS[] = {"f(1, 2)", "(b, 1)", "','", NULL, "e"};
    static const char *const COLUMNS[] = {"a", "b", "c", "d", "e"};

    ck_assert_int_eq(ddl.statements[0].action_count, 5);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(ddl.statements[0].actions[i].kind, KINDS[i]);
        ck_assert_str_eq(ddl.statements[0].actions[i].column, COLUMNS[i]);
        ck_assert_pstr_eq(ddl.statements[0].actions[i].expression, EXPRESSIONS[i]);
    }
}
END_TEST

/* --- refusals --- */

static const struct {
    const char *text;
    ErrKind kind;
    const char *message; /* a part of it */
    const char *hint;    /* a part of it */
} BAD[] = {
    {"", ERR_USAGE, "no statement", "ALTER TABLE"},
    {" ;; -- nothing\n", ERR_USAGE, "no statement", "ALTER TABLE"},
    {"ALTER TABLE t ADD", ERR_REFUSED, "syntax error at end of input", "line 1, column 18"},
    {"ALTER TABLE t\n  ADD \"ü\" int,\n ü frm x y", ERR_REFUSED, "syntax error at or near \"ü\"",
     "line 3, column 2;"},
    {"ALTER TABLE t ADD c text DEFAULT 'a", ERR_REFUSED, "unterminated quoted string",
     "line 1, column 34"},
    {"ALTER TABLE t ADD c int /*", ERR_REFUSED, "unterminated /* comment", "line 1"},
    {"ALTER TABLE t ADD \"c\xff\" int", ERR_REFUSED, "not valid UTF-8", ""},
    {"ALTER TABLE select ADD c int", ERR_REFUSED, "syntax error at or near \"select\"",
     "column 13"},
    {"CREATE INDEX i ON t (a)", ERR_REFUSED, "not \"CREATE INDEX\"", "ALTER TABLE"},
    {"DROP TABLE t", ERR_REFUSED, "not \"DROP TABLE\"", "ALTER TABLE"},
    {"VACUUM", ERR_REFUSED, "not \"VACUUM\"", "ALTER TABLE"},
    {"SELECT 1", ERR_REFUSED, "only ALTER TABLE", "ALTER TABLE"},
    {"UPDATE t SET a = 1", ERR_REFUSED, "only ALTER TABLE", "ALTER TABLE"},
    {"BEGIN; ALTER TABLE t DROP a; COMMIT", ERR_REFUSED, "statement 1: only ALTER TABLE",
     "ALTER TABLE"},
    {"ALTER INDEX t RENAME TO b", ERR_REFUSED, "not \"ALTER INDEX\"", "ALTER"},
    {"ALTER INDEX t SET (fillfactor = 70)", ERR_REFUSED, "not \"ALTER INDEX\"", "ALTER TABLE"},
    {"ALTER VIEW t RENAME a TO b", ERR_REFUSED, "not \"ALTER VIEW\"", "ALTER TABLE"},
    {"ALTER VIEW t SET SCHEMA s", ERR_REFUSED, "not \"ALTER VIEW\"", "ALTER TABLE"},
    {"ALTER VIEW t ALTER a SET DEFAULT 1", ERR_REFUSED, "not \"ALTER VIEW\"", "ALTER TABLE"},
    {"ALTER MATERIALIZED VIEW t RENAME a TO b", ERR_REFUSED, "not \"ALTER MATERIALIZED\"", "ALTER"},
    {"ALTER FOREIGN TABLE t ADD a int", ERR_REFUSED, "not \"ALTER FOREIGN\"", "ALTER TABLE"},
    {"ALTER FOREIGN TABLE t RENAME a TO b", ERR_REFUSED, "not \"ALTER FOREIGN\"", "ALTER TABLE"},
    {"ALTER TYPE t ADD ATTRIBUTE b int", ERR_REFUSED, "not \"ALTER TYPE\"", "ALTER TABLE"},
    {"ALTER SEQUENCE t OWNED BY a.b", ERR_REFUSED, "not \"ALTER SEQUENCE\"", "ALTER TABLE"},
    {"ALTER INDEX ALL IN TABLESPACE a SET TABLESPACE b", ERR_REFUSED, "not \"ALTER INDEX\"",
     "ALTER"},
    {"ALTER TABLE t ALTER b TYPE text USING tableoid::regclass::text", ERR_REFUSED,
     "system columns cannot be used in USING: \"tableoid\" of column \"b\"", "plain ALTER TABLE"},
    {"ALTER TABLE s.t ALTER b TYPE text USING concat(b, s.t.ctid)", ERR_REFUSED, "\"ctid\" of",
     "plain ALTER TABLE"},
    {"ALTER TABLE t RENAME TO u", ERR_REFUSED, "RENAME TO",
     "Run it as a plain ALTER TABLE ... RENAME TO: it needs no rewrite and takes a moment."},
    {"ALTER TABLE t SET SCHEMA u", ERR_REFUSED, "SET SCHEMA", "plain ALTER TABLE ... SET SCHEMA"},
    {"ALTER TABLE t INHERIT u", ERR_REFUSED, "... INHERIT", "plain ALTER TABLE ... INHERIT"},
    {"ALTER TABLE t NO INHERIT u", ERR_REFUSED, "NO INHERIT", "plain"},
    {"ALTER TABLE t ADD a int, INHERIT u", ERR_REFUSED, "INHERIT", "plain"},
    {"ALTER TABLE t ATTACH PARTITION u DEFAULT", ERR_REFUSED, "ATTACH PARTITION", "plain"},
    {"ALTER TABLE t ATTACH PARTITION u FOR VALUES IN (1)", ERR_REFUSED, "ATTACH", "plain"},
    {"ALTER TABLE t DETACH PARTITION u", ERR_REFUSED, "DETACH PARTITION", "plain"},
    {"ALTER TABLE t DETACH PARTITION u CONCURRENTLY", ERR_REFUSED, "DETACH", "plain"},
    {"ALTER TABLE t DETACH PARTITION u FINALIZE", ERR_REFUSED, "FINALIZE", "plain"},
    {"ALTER TABLE t OF u", ERR_REFUSED, "ALTER TABLE ... OF", "plain"},
    {"ALTER TABLE t NOT OF", ERR_REFUSED, "NOT OF", "plain"},
    {"ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b", ERR_REFUSED, "ALL IN TABLESPACE",
     "SET TABLESPACE for one table"},
    {"ALTER TABLE d.s.t DROP a", ERR_REFUSED, "\"t\" is qualified by a database", "schema.table"},
    {"ALTER TABLE t ADD a int REFERENCES d.s.o", ERR_REFUSED, "\"o\" is qualified by a database",
     "schema.table"},
    {"ALTER TABLE t DROP a; ALTER TABLE u DROP a", ERR_REFUSED, "\"t\" and \"u\"", "one table"},
    {"ALTER TABLE t DROP a; ALTER TABLE \"T\" DROP a", ERR_REFUSED, "\"t\" and \"T\"", "one table"},
    {"ALTER TABLE s.t DROP a; ALTER TABLE t DROP b; ALTER TABLE r.t DROP c", ERR_REFUSED,
     "statement 3: the statements alter different tables: \"s.t\" and \"r.t\"", "one table"},
    {"ALTER TABLE t DROP a; DROP TABLE t", ERR_REFUSED, "statement 2: only ALTER TABLE", "ALTER"},
};

START_TEST(refuses_what_it_cannot_run)
{
    Ddl ddl = {.table = "untouched"};
    Err err = {0};

    ck_assert_msg(!ddl_parse(BAD[_i].text, arena, &ddl, &err), "%s", BAD[_i].text);
    ck_assert_str_eq(ddl.table, "untouched");
    ck_assert_int_eq(err.kind, BAD[_i].kind);
    ck_assert_msg(strstr(err.message, BAD[_i].message) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.hint, BAD[_i].hint) != NULL, "%s", err.hint);
}
END_TEST

static const struct {
    const char *before;
    const char *unit;
    const char *after;
    int times;
    const char *message; /* NULL = it is read */
} LONG[] = {
    {"ALTER TABLE t ", "ADD c int DEFAULT 1,", "DROP d", 1600, NULL},
    {"ALTER TABLE t ALTER c TYPE int USING c", " + 1", "", 900, NULL},
    {"ALTER TABLE t ALTER c TYPE int USING c", " + 1", "", 5000, "nested too deeply"},
    {"ALTER TABLE t ALTER c TYPE int USING c", " + 1", "", 100000, "more than 30000 words"},
    {"ALTER TABLE t ALTER c TYPE int USING ", "(", "", 25000, "memory exhausted"},
};

START_TEST(survives_long_statements)
{
    BUF_AUTO(text);
    Ddl ddl;
    Err err = {0};

    buf_add_text(&text, LONG[_i].before);
    for (int i = 0; i < LONG[_i].times; i++)
        buf_add_text(&text, LONG[_i].unit);
    buf_add_text(&text, LONG[_i].after);
    ck_assert_int_eq(ddl_parse(buf_text(&text), arena, &ddl, &err), LONG[_i].message == NULL);
    if (LONG[_i].message != NULL) {
        ck_assert_int_eq(err.kind, ERR_REFUSED);
        ck_assert_msg(strstr(err.message, LONG[_i].message) != NULL, "%s", err.message);
    }
}
END_TEST

/* --- definitions written by the server --- */

static const struct {
    const char *text;
    const char *expected; /* for s."T" replaced by w."T"; NULL = refused */
} DEFINITIONS[] = {
    {"CREATE TRIGGER x AFTER UPDATE OF \"T\" ON s.\"T\" REFERENCING NEW TABLE AS \"T\" "
     "FOR EACH STATEMENT EXECUTE FUNCTION s.\"T\"('s.\"T\"')",
     "CREATE TRIGGER x AFTER UPDATE OF \"T\" ON w.\"T\" REFERENCING NEW TABLE AS \"T\" "
     "FOR EACH STATEMENT EXECUTE FUNCTION s.\"T\"('s.\"T\"')"},
    {"CREATE CONSTRAINT TRIGGER x AFTER INSERT ON s.\"T\" FROM s.\"T\" DEFERRABLE FOR EACH ROW "
     "EXECUTE FUNCTION f()",
     "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON w.\"T\" FROM w.\"T\" DEFERRABLE FOR EACH ROW "
     "EXECUTE FUNCTION f()"},
    {"CREATE RULE r AS ON DELETE TO s.\"T\" DO ALSO (INSERT INTO s.log SELECT 1 FROM ONLY s.\"T\" "
     "\"T\"; DELETE FROM s.\"T\")",
     "CREATE RULE r AS ON DELETE TO w.\"T\" DO ALSO (INSERT INTO s.log SELECT 1 FROM ONLY w.\"T\" "
     "\"T\"; DELETE FROM w.\"T\")"},
    {"CREATE UNIQUE INDEX \"T\" ON ONLY s.\"T\" USING btree (s)",
     "CREATE UNIQUE INDEX \"T\" ON ONLY w.\"T\" USING btree (s)"},
    {"CREATE STATISTICS s.\"T\" (mcv) ON a, b FROM s.\"T\"",
     "CREATE STATISTICS s.\"T\" (mcv) ON a, b FROM w.\"T\""},
    {"CREATE POLICY p ON s.\"T\" USING ((EXISTS ( SELECT 1 FROM s.\"T\" x WHERE x.a = 1)))",
     "CREATE POLICY p ON w.\"T\" USING ((EXISTS ( SELECT 1 FROM w.\"T\" x WHERE x.a = 1)))"},
    {"ALTER TABLE s.\"T\" ADD FOREIGN KEY (a) REFERENCES s.\"T\"(b);",
     "ALTER TABLE w.\"T\" ADD FOREIGN KEY (a) REFERENCES w.\"T\"(b);"},
    {"CREATE INDEX i ON s.t (a)", NULL},
    {"CREATE INDEX i ON \"T\" (a)", NULL},
    {"CREATE INDEX i ON r.\"T\" (a)", NULL},
    {"CREATE INDEX i ON", NULL},
};

START_TEST(retargets_definitions)
{
    Err err = {0};
    const char *result = ddl_retarget(DEFINITIONS[_i].text, "s", "T", "w.\"T\"", arena, &err);

    ck_assert_pstr_eq(result, DEFINITIONS[_i].expected);
    ck_assert_int_eq(err.kind, result == NULL ? ERR_FAILED : ERR_NONE);
}
END_TEST

/* What is mapped: relation s."T" (and its row type) and function s.f to schema w, s.g to "W w". */
static const DdlMove MOVES[] = {{DDL_MOVE_RELATION, "T", "s", "w"},
                                {DDL_MOVE_FUNCTION, "f", "s", "w"},
                                {DDL_MOVE_RELATION, "g", "s", "W w"}};

static const struct {
    const char *text;
    const char *expected; /* NULL = refused */
} MOVED[] = {
    {"SELECT \"T\".a, \"T\" FROM s.\"T\", r.\"T\" x JOIN ONLY s.\"T\" \"T_1\" USING (a)",
     "SELECT \"T\".a, \"T\" FROM \"w\".\"T\", r.\"T\" x JOIN ONLY \"w\".\"T\" \"T_1\" USING (a)"},
    {"SELECT s.f(\"T\".*), s.g(1), f(2), NULL::s.\"T\", NULL::s.\"T\"[], 's.\"T\"'::regclass, s.f.x"
     " FROM s.g, s.f(3) f, LATERAL s.f(g.*) \"T\"(a)",
     "SELECT \"w\".f(\"T\".*), s.g(1), f(2), NULL::\"w\".\"T\", NULL::\"w\".\"T\"[],"
     " 's.\"T\"'::regclass, s.f.x FROM \"W w\".g, \"w\".f(3) f, LATERAL \"w\".f(g.*) \"T\"(a)"},
    {"WITH \"T\" AS (SELECT 1 FROM s.\"T\") SELECT * FROM \"T\" WHERE EXISTS (SELECT FROM s.\"T\")",
     "WITH \"T\" AS (SELECT 1 FROM \"w\".\"T\") SELECT * FROM \"T\" WHERE EXISTS (SELECT FROM"
     " \"w\".\"T\")"},
    {"CREATE OR REPLACE FUNCTION s.f(r s.\"T\", s.\"T\"[] DEFAULT s.f())\n RETURNS SETOF s.\"T\"\n"
     " LANGUAGE sql\nAS $function$ select * from s.\"T\" $function$",
     "CREATE OR REPLACE FUNCTION \"w\".f(r \"w\".\"T\", \"w\".\"T\"[] DEFAULT \"w\".f())\n RETURNS"
     " SETOF \"w\".\"T\"\n LANGUAGE sql\nAS $function$ select * from s.\"T\" $function$"},
    {"CREATE OR REPLACE PROCEDURE s.f()\n LANGUAGE sql\nBEGIN ATOMIC\n INSERT INTO s.\"T\" (a)"
     " SELECT s.f(1);\n UPDATE s.\"T\" SET a = 1;\n DELETE FROM s.g;\nEND",
     "CREATE OR REPLACE PROCEDURE \"w\".f()\n LANGUAGE sql\nBEGIN ATOMIC\n INSERT INTO \"w\".\"T\""
     " (a) SELECT \"w\".f(1);\n UPDATE \"w\".\"T\" SET a = 1;\n DELETE FROM \"W w\".g;\nEND"},
    {"CREATE OR REPLACE RULE s AS\n ON INSERT TO s.\"T\" DO INSTEAD INSERT INTO s.o (f) VALUES "
     "(new.s)"
     " RETURNING o.f",
     "CREATE OR REPLACE RULE s AS\n ON INSERT TO \"w\".\"T\" DO INSTEAD INSERT INTO s.o (f) VALUES"
     " (new.s) RETURNING o.f"},
    {"alter policy p on s.g using ((id IN ( SELECT \"T\".id FROM s.\"T\")))",
     "alter policy p on \"W w\".g using ((id IN ( SELECT \"T\".id FROM \"w\".\"T\")))"},
    {"SELECT 1", "SELECT 1"},
    {"SELECT FROM WHERE", NULL},
};

START_TEST(gives_objects_other_schemas)
{
    Err err = {0};
    const char *result = ddl_requalify(MOVED[_i].text, MOVES, 3, arena, &err);

    ck_assert_pstr_eq(result, MOVED[_i].expected);
    ck_assert_int_eq(err.kind, result == NULL ? ERR_REFUSED : ERR_NONE);
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("ddl");
    TCase *tests = tcase_create("ddl");

    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, replaces_the_name_and_nothing_else, 0, COUNT(NAMES));
    tcase_add_test(tests, takes_any_text_for_the_new_name);
    tcase_add_loop_test(tests, lists_and_replaces_the_tables_of_foreign_keys, 0,
                        COUNT(FOREIGN_KEYS));
    tcase_add_test(tests, orders_edits_by_their_place);
    tcase_add_test(tests, reads_several_statements);
    tcase_add_loop_test(tests, reads_each_sub_command, 0, COUNT(ACTIONS));
    tcase_add_test(tests, reads_all_sub_commands_in_order);
    tcase_add_loop_test(tests, refuses_what_it_cannot_run, 0, COUNT(BAD));
    tcase_add_loop_test(tests, survives_long_statements, 0, COUNT(LONG));
    tcase_add_loop_test(tests, retargets_definitions, 0, COUNT(DEFINITIONS));
    tcase_add_loop_test(tests, gives_objects_other_schemas, 0, COUNT(MOVED));
    return suite;
}
