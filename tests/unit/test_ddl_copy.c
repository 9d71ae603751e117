/* Copy statements, cut and put together again over another source. */
#include <string.h>

#include "base/buf.h"
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

#define INTO "INSERT INTO %{shadow_table} (a, \"B b\") "

static const struct {
    const char *text;
    const char *alias;
    const char *select; /* over (S), passing "k" on */
} STATEMENTS[] = {
    {INTO "SELECT x, y FROM books", "\"books\"", "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
    {INTO "SELECT x, y FROM books;", "\"books\"",
     "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
    {INTO "SELECT x, y FROM Books AS T ; -- end\n", "\"t\"",
     "SELECT x, y, \"t\".\"k\" FROM (S) \"t\""},
    {INTO "SELECT x, y FROM books t", "\"t\"", "SELECT x, y, \"t\".\"k\" FROM (S) \"t\""},
    {INTO "SELECT x, y FROM public.books \"T\"\"x\" WHERE true", "\"T\"\"x\"",
     "SELECT x, y, \"T\"\"x\".\"k\" FROM (S) \"T\"\"x\" WHERE true"},
    {INTO "SELECT x, y FROM \"public\" . \"books\"as\"t\"WHERE true", "\"t\"",
     "SELECT x, y, \"t\".\"k\" FROM (S) \"t\" WHERE true"},
    {INTO "SELECT x, y FROM ONLY books", "\"books\"",
     "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
    {INTO "SELECT x, y FROM only(books)t WHERE x > 0", "\"t\"",
     "SELECT x, y, \"t\".\"k\" FROM (S) \"t\" WHERE x > 0"},
    {INTO "SELECT x, y FROM ONLY /* 1 */ ( -- 2\n public.books /* 3 */ ) AS t", "\"t\"",
     "SELECT x, y, \"t\".\"k\" FROM (S) \"t\""},
    {INTO "SELECT x, y FROM books * t", "\"t\"", "SELECT x, y, \"t\".\"k\" FROM (S) \"t\""},
    {INTO "SELECT x, y FROM books *", "\"books\"",
     "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
    {INTO "SELECT ALL x AS from, t.from FROM books t", "\"t\"",
     "SELECT ALL x AS from, t.from, \"t\".\"k\" FROM (S) \"t\""},
    {INTO "SELECT x IS NOT DISTINCT FROM y, extract(year FROM y) FROM books", "\"books\"",
     "SELECT x IS NOT DISTINCT FROM y, extract(year FROM y), \"books\".\"k\" FROM (S) \"books\""},
    {INTO "SELECT (SELECT max(m) FROM books), 'FROM books' FROM books t", "\"t\"",
     "SELECT (SELECT max(m) FROM books), 'FROM books', \"t\".\"k\" FROM (S) \"t\""},
    {INTO "SELECT x, y -- FROM books\n FROM -- it\n books", "\"books\"",
     "SELECT x, y, \"books\".\"k\" FROM -- it\n (S) \"books\""},
    {INTO "SELECT r.x, books.y FROM rentals r, books WHERE r.id = books.id ORDER BY 1", "\"books\"",
     "SELECT r.x, books.y, \"books\".\"k\" FROM rentals r, (S) \"books\" WHERE r.id = books.id "
     "ORDER BY 1"},
    {INTO "SELECT r.x, public.books.y FROM public.books JOIN public.rentals r "
          "ON public . \"books\" . id = r.id WHERE other.books.z AND NOT\"public\".books.w",
     "\"books\"",
     "SELECT r.x, books.y, \"books\".\"k\" FROM (S) \"books\" JOIN public.rentals r "
     "ON \"books\" . id = r.id WHERE other.books.z AND NOT books.w"},
    {INTO "SELECT b.x, b.y FROM other.books o JOIN public.books b USING (id)", "\"b\"",
     "SELECT b.x, b.y, \"b\".\"k\" FROM other.books o JOIN (S) \"b\" USING (id)"},
    {INTO "SELECT b.x, b.y FROM rentals r RIGHT JOIN books b ON r.id = b.id", "\"b\"",
     "SELECT b.x, b.y, \"b\".\"k\" FROM rentals r RIGHT JOIN (S) \"b\" ON r.id = b.id"},
    {INTO "SELECT b.x, l.y FROM (books b CROSS JOIN LATERAL (SELECT sum(y) AS y FROM s "
          "WHERE s.id = b.id) l)",
     "\"b\"",
     "SELECT b.x, l.y, \"b\".\"k\" FROM ((S) \"b\" CROSS JOIN LATERAL (SELECT sum(y) AS y FROM s "
     "WHERE s.id = b.id) l)"},
    {"INSERT INTO \"%{shadow_table}\"(a, \"B b\")SELECT x, y FROM books", "\"books\"",
     "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
    {"INSERT INTO public.%{shadow_table} AS n (a, \"B b\") OVERRIDING SYSTEM VALUE "
     "SELECT x, y FROM books",
     "\"books\"", "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
    {"INSERT INTO w.\"pgosc_st_books\" (a, \"B b\") SELECT x, y FROM books", "\"books\"",
     "SELECT x, y, \"books\".\"k\" FROM (S) \"books\""},
};

START_TEST(puts_another_source_in_place_of_the_table)
{
    CopyStatement copy = {0};
    Err err = {0};
    const char *select;
    DDL_TREE_AUTO(tree);

    ck_assert_msg(ddl_parse_copy(STATEMENTS[_i].text, "public", "books", arena, &copy, &err),
                  "%s: %s (%s)", STATEMENTS[_i].text, err.message, err.hint);
    ck_assert_int_eq(copy.column_count, 2);
    ck_assert_str_eq(copy.columns[0], "a");
    ck_assert_str_eq(copy.columns[1], "B b");
    ck_assert_str_eq(copy.alias, STATEMENTS[_i].alias);
    ck_assert_str_eq(ddl_copy_select(&copy, "(S)", "\"k\"", arena), STATEMENTS[_i].select);
    ck_assert(!copy.references_row);
    select = ddl_copy_select(&copy, "(SELECT 1 AS id)", NULL, arena);
    ck_assert_ptr_null(strstr(select, "\"k\""));
    ck_assert_msg(ddl_tree_parse(select, arena, &tree, &err), "%s: %s", select, err.message);
}
END_TEST

static const char PG_OSC[] = "INSERT INTO %{shadow_table}(foo, bar, baz, rental_id, tenant_id)\n"
                             "SELECT a.foo,a.bar,a.baz,a.rental_id,r.tenant_id AS tenant_id\n"
                             "FROM ONLY examples a\n"
                             "LEFT OUTER JOIN rentals r\n"
                             "ON a.rental_id = r.id\n";

START_TEST(reads_the_example_of_pg_osc)
{
    static const char *const COLUMNS[] = {"foo", "bar", "baz", "rental_id", "tenant_id"};
    CopyStatement copy = {0};
    Err err = {0};

    ck_assert_msg(ddl_parse_copy(PG_OSC, "public", "examples", arena, &copy, &err), "%s",
                  err.message);
    ck_assert_int_eq(copy.column_count, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(copy.columns[i], COLUMNS[i]);
    ck_assert_str_eq(copy.head, "SELECT a.foo,a.bar,a.baz,a.rental_id,r.tenant_id AS tenant_id");
    ck_assert_str_eq(copy.before, " FROM ");
    ck_assert_str_eq(copy.after, " LEFT OUTER JOIN rentals r\nON a.rental_id = r.id");
    ck_assert_str_eq(ddl_copy_select(&copy, "(select 1)", "\"id\"", arena),
                     "SELECT a.foo,a.bar,a.baz,a.rental_id,r.tenant_id AS tenant_id, \"a\".\"id\""
                     " FROM (select 1) \"a\" LEFT OUTER JOIN rentals r\nON a.rental_id = r.id");
}
END_TEST

START_TEST(tells_which_columns_are_taken_as_they_are)
{
    static const char TEXT[] = "INSERT INTO %{shadow_table} (a, b, c, d, e, f, g) SELECT b.id, "
                               "\"X y\", b.id::bigint::text, cast(n as int), b.id + 1, r.id, 5 "
                               "FROM books b LEFT JOIN rentals r ON r.id = b.id";
    static const char *const SOURCES[] = {"id", "X y", "id", "n", NULL, NULL, NULL};
    CopyStatement copy = {0};
    Err err = {0};

    ck_assert_msg(ddl_parse_copy(TEXT, "public", "books", arena, &copy, &err), "%s", err.message);
    for (int i = 0; i < copy.column_count; i++) {
        if (SOURCES[i] == NULL)
            ck_assert_ptr_null(copy.sources[i]);
        else
            ck_assert_pstr_eq(copy.sources[i], SOURCES[i]);
    }
}
END_TEST

START_TEST(takes_names_that_need_quotes)
{
    CopyStatement copy = {0};
    Err err = {0};

    ck_assert(ddl_parse_copy("INSERT INTO %{shadow_table} (\"a\"\"\") SELECT \"q\"\" t\".x FROM "
                             "U&\"q!0022 t\" UESCAPE '!' /* x */",
                             "S", "q\" t", arena, &copy, &err));
    ck_assert_str_eq(copy.columns[0], "a\"");
    ck_assert_str_eq(ddl_copy_select(&copy, "(S)", "\"k\"", arena),
                     "SELECT \"q\"\" t\".x, \"q\"\" t\".\"k\" FROM (S) \"q\"\" t\"");
}
END_TEST

static const char *const ROWS[] = {
    "SELECT x, f(b) FROM books b",
    "SELECT x, f(b.*) FROM books b",
    "SELECT x, y FROM books WHERE books IS NOT NULL",
    "SELECT x, y FROM books WHERE f(public.books.*)",
};

START_TEST(tells_of_the_whole_row)
{
    BUF_AUTO(text);
    CopyStatement copy = {0};
    Err err = {0};

    buf_printf(&text, "%s%s", INTO, ROWS[_i]);
    ck_assert(ddl_parse_copy(buf_text(&text), "public", "books", arena, &copy, &err));
    ck_assert(copy.references_row);
}
END_TEST

static const struct {
    const char *text;
    ErrKind kind;
    const char *message; /* a part of it */
} BAD[] = {
    {"", ERR_REFUSED, "one statement"},
    {INTO "SELECT x y z FROM books", ERR_REFUSED,
     "reading the copy statement: syntax error at or near \"z\""},
    {"INSERT INTO %{other} (a) SELECT x FROM books", ERR_REFUSED, "syntax error at or near \"%\""},
    {"SELECT x FROM books", ERR_REFUSED, "not an INSERT"},
    {INTO "SELECT x, y FROM books; SELECT 1", ERR_REFUSED, "one statement"},
    {INTO "VALUES (1, 2)", ERR_REFUSED, "does not insert a SELECT"},
    {"INSERT INTO %{shadow_table} DEFAULT VALUES", ERR_REFUSED, "does not insert a SELECT"},
    {"INSERT INTO %{shadow_table} SELECT x, y FROM books", ERR_REFUSED, "no column list"},
    {"INSERT INTO %{shadow_table} (a.b) SELECT x FROM books", ERR_REFUSED, "part of a column"},
    {"INSERT INTO %{shadow_table} (a[1]) SELECT x FROM books", ERR_REFUSED, "part of a column"},
    {INTO "OVERRIDING USER VALUE SELECT x, y FROM books", ERR_REFUSED, "OVERRIDING USER VALUE"},
    {INTO "SELECT x, y FROM books ON CONFLICT DO NOTHING", ERR_REFUSED, "has ON CONFLICT"},
    {INTO "SELECT x, y FROM books RETURNING a", ERR_REFUSED, "has RETURNING"},
    {"WITH c AS (SELECT 1) " INTO "SELECT x, y FROM books", ERR_REFUSED, "has WITH"},
    {INTO "WITH c AS (SELECT 1) SELECT x, y FROM books", ERR_REFUSED, "has WITH"},
    {INTO "SELECT DISTINCT x, y FROM books", ERR_REFUSED, "has DISTINCT"},
    {INTO "SELECT DISTINCT ON (x) x, y FROM books", ERR_REFUSED, "has DISTINCT"},
    {INTO "SELECT x, y FROM books GROUP BY x, y", ERR_REFUSED, "has GROUP BY"},
    {INTO "SELECT 1, 2 FROM books HAVING true", ERR_REFUSED, "has HAVING"},
    {INTO "SELECT x, y FROM books LIMIT 4", ERR_REFUSED, "has LIMIT"},
    {INTO "SELECT x, y FROM books FETCH FIRST ROW ONLY", ERR_REFUSED, "has LIMIT"},
    {INTO "SELECT x, y FROM books OFFSET 4", ERR_REFUSED, "has OFFSET"},
    {INTO "SELECT x, y FROM books FOR UPDATE", ERR_REFUSED, "locks rows"},
    {INTO "SELECT x, y FROM books WINDOW w AS (ORDER BY x)", ERR_REFUSED, "has WINDOW"},
    {INTO "SELECT x, y FROM books UNION ALL SELECT 1, 2", ERR_REFUSED, "several SELECTs"},
    {INTO "SELECT x, y FROM books EXCEPT SELECT 1, 2", ERR_REFUSED, "several SELECTs"},
    {INTO "SELECT x, row_number() OVER () FROM books", ERR_REFUSED, "aggregate or a window"},
    {INTO "SELECT x, 1 + count(*) FROM books", ERR_REFUSED, "aggregate or a window"},
    {INTO "SELECT x, pg_catalog.max(y) FROM books", ERR_REFUSED, "aggregate or a window"},
    {INTO "SELECT x, my_agg(y ORDER BY x) FROM books", ERR_REFUSED, "aggregate or a window"},
    {INTO "SELECT x, my_agg(DISTINCT y) FROM books", ERR_REFUSED, "aggregate or a window"},
    {INTO "SELECT x, mode() WITHIN GROUP (ORDER BY y) FROM books", ERR_REFUSED, "aggregate or"},
    {INTO "SELECT x, f(y) FILTER (WHERE x > 0) FROM books", ERR_REFUSED, "aggregate or a window"},
    {INTO "SELECT * FROM books", ERR_REFUSED, "selects *"},
    {INTO "SELECT x, b.* FROM books b", ERR_REFUSED, "selects *"},
    {INTO "TABLE books", ERR_REFUSED, "selects *"},
    {INTO "SELECT x FROM books", ERR_REFUSED, "inserts 2 columns but selects 1 expressions"},
    {INTO "SELECT x, y, z FROM books", ERR_REFUSED, "inserts 2 columns but selects 3"},
    {INTO "SELECT x, ctid FROM books", ERR_REFUSED, "system column \"ctid\""},
    {INTO "SELECT x, b.tableoid::regclass FROM books b", ERR_REFUSED, "system column \"tableoid\""},
    {INTO "SELECT x, y FROM rentals r JOIN books b ON b.xmin = r.x", ERR_REFUSED,
     "column \"xmin\""},
    {INTO "SELECT x, y", ERR_REFUSED, "\"books\" not in its FROM"},
    {INTO "SELECT x, y FROM rentals", ERR_REFUSED, "\"books\" not in its FROM"},
    {INTO "SELECT x, y FROM \"Books\"", ERR_REFUSED, "\"books\" not in its FROM"},
    {INTO "SELECT x, y FROM other.books", ERR_REFUSED, "\"books\" not in its FROM"},
    {INTO "SELECT x, y FROM (SELECT * FROM books) s", ERR_REFUSED, "\"books\" not in its FROM"},
    {INTO "SELECT x, y FROM books a, books b", ERR_REFUSED, "more than once"},
    {INTO "SELECT a.x, b.y FROM books a JOIN public.books b USING (id)", ERR_REFUSED, "more than"},
    {INTO "SELECT x, y FROM books AS b (x, y)", ERR_REFUSED, "list of columns"},
    {INTO "SELECT x, y FROM d.public.books", ERR_REFUSED, "by a database"},
    {INTO "SELECT x, y FROM books TABLESAMPLE system (5)", ERR_REFUSED, "TABLESAMPLE"},
    {INTO "SELECT x, y FROM rentals LEFT JOIN books USING (id)", ERR_REFUSED, "outer join"},
    {INTO "SELECT x, y FROM books RIGHT JOIN rentals USING (id)", ERR_REFUSED, "outer join"},
    {INTO "SELECT x, y FROM books FULL JOIN rentals USING (id)", ERR_REFUSED, "outer join"},
    {INTO "SELECT x, y FROM (a JOIN books USING (id)) RIGHT JOIN c USING (id)", ERR_REFUSED,
     "outer join"},
    {INTO "SELECT x, y FROM (books JOIN rentals USING (id)) j", ERR_REFUSED, "alias of a join"},
    {INTO "(SELECT x, y FROM books)", ERR_REFUSED, "SELECT in parentheses"},
    {INTO "SELECT x, y FROM books WHERE id NOT IN (SELECT id FROM %{shadow_table})", ERR_REFUSED,
     "%{shadow_table} more than once"},
};

START_TEST(refuses_what_is_not_a_row_for_a_row)
{
    CopyStatement copy = {.column_count = 77};
    Err err = {0};

    ck_assert_msg(!ddl_parse_copy(BAD[_i].text, "public", "books", arena, &copy, &err), "%s",
                  BAD[_i].text);
    ck_assert_int_eq(copy.column_count, 77);
    ck_assert_msg(err.kind == BAD[_i].kind, "%s", err.message);
    ck_assert_msg(strstr(err.message, BAD[_i].message) != NULL, "%s", err.message);
    ck_assert_str_ne(err.hint, "");
}
END_TEST

#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("ddl_copy");
    TCase *tests = tcase_create("copy statement");

    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, puts_another_source_in_place_of_the_table, 0, COUNT(STATEMENTS));
    tcase_add_test(tests, reads_the_example_of_pg_osc);
    tcase_add_test(tests, tells_which_columns_are_taken_as_they_are);
    tcase_add_test(tests, takes_names_that_need_quotes);
    tcase_add_loop_test(tests, tells_of_the_whole_row, 0, COUNT(ROWS));
    tcase_add_loop_test(tests, refuses_what_is_not_a_row_for_a_row, 0, COUNT(BAD));
    return suite;
}
