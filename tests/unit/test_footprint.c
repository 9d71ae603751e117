/* How much the shadow's rows take, and how they are best copied. */

#include <string.h>

#include "plan/footprint.h"
#include "unit.h"

enum { MOST = 4 };

/* One table of up to MOST columns in both shapes, each column filled from the same one. */
typedef struct Case {
    Arena *arena;
    Column before[MOST];
    Column after[MOST];
    Output outputs[MOST];
    int origin[MOST];
    TableShape original;
    TableShape shadow;
    Projection projection;
} Case;

static Column
column(const char *name, const char *type, int length)
{
    return (Column){.name = name, .base_type = type, .stage_type = type, .length = length};
}

static void
begin(Case *c, const Column *columns, int count)
{
    *c = (Case){.arena = arena_new()};
    for (int i = 0; i < count; i++) {
        c->before[i] = c->after[i] = columns[i];
        c->outputs[i] = (Output){.column = i, .name = columns[i].name, .source = i};
        c->origin[i] = i;
    }
    c->original = (TableShape){.columns = c->before, .column_count = count};
    c->shadow = (TableShape){.columns = c->after, .column_count = count};
    c->projection = (Projection){.outputs = c->outputs, .output_count = count, .origin = c->origin};
}

static Footprint
footprint(const Case *c)
{
    return footprint_of(&c->projection, &c->original, &c->shadow, false, c->arena);
}

START_TEST(rows_of_fixed_length)
{
    const Column columns[] = {column("a", "bigint", 8), column("b", "integer", 4),
                              column("c", "smallint", 2), column("d", "boolean", 1)};
    Case c;
    Footprint it;

    begin(&c, columns, 4);
    it = footprint(&c);
    ck_assert(it.is_known);
    ck_assert_int_eq(it.fixed_bytes, 8 + 4 + 2 + 1);
    ck_assert_str_eq(it.varying, "0");
    ck_assert_int_eq(it.column_count, 4);
    ck_assert_int_eq(it.varying_count, 0);
    arena_free(c.arena);
}
END_TEST

START_TEST(rows_with_gaps)
{
    const Column columns[] = {column("a", "boolean", 1), column("b", "bigint", 8)};
    Case c;

    begin(&c, columns, 2);
    ck_assert_int_eq(footprint(&c).fixed_bytes, 1 + 7 + 8);
    arena_free(c.arena);
}
END_TEST

START_TEST(values_that_vary_are_asked_for)
{
    const Column columns[] = {column("a", "integer", 4), column("b", "text", -1),
                              column("C d", "jsonb", -1)};
    Case c;
    Footprint it;

    begin(&c, columns, 3);
    c.after[1] = column("b", "character varying", -1);
    c.after[1].stage_type = "character varying(9)";
    it = footprint(&c);
    ck_assert(it.is_known);
    ck_assert_int_eq(it.fixed_bytes, 4 + 3 + 3);
    ck_assert_str_eq(it.varying, "coalesce(pg_catalog.octet_length(o.\"b\"), 0)"
                                 " + coalesce(pg_catalog.pg_column_size(o.\"C d\"), 0)");
    ck_assert_int_eq(it.varying_count, 2);
    arena_free(c.arena);
}
END_TEST

START_TEST(a_number_as_text)
{
    const Column columns[] = {column("a", "integer", 4)};
    Case c;
    Footprint it;

    begin(&c, columns, 1);
    c.after[0] = column("a", "text", -1);
    it = footprint(&c);
    ck_assert(it.is_known);
    ck_assert_int_eq(it.fixed_bytes, 64);
    ck_assert_str_eq(it.varying, "0");
    arena_free(c.arena);
}
END_TEST

START_TEST(a_constant_is_as_long_as_it_is)
{
    const Column columns[] = {column("a", "integer", 4), column("b", "text", -1)};
    Case c;
    Footprint it;

    begin(&c, columns, 2);
    c.outputs[1] =
        (Output){.column = 1, .name = "b", .is_new = true, .source = -1, .constant = "'0123'"};
    c.origin[1] = -1;
    it = footprint(&c);
    ck_assert(it.is_known);
    ck_assert_int_eq(it.fixed_bytes, 4 + 3 + 4 * 6);
    arena_free(c.arena);
}
END_TEST

START_TEST(what_is_computed_is_known_by_its_type_alone)
{
    const Column columns[] = {column("a", "integer", 4), column("b", "text", -1)};
    Case c;

    begin(&c, columns, 2);
    c.outputs[0].source = -1;
    ck_assert(footprint(&c).is_known);
    c.outputs[1].source = -1;
    ck_assert(!footprint(&c).is_known);
    arena_free(c.arena);
}
END_TEST

START_TEST(what_is_cast_is_unpacked)
{
    const Column columns[] = {column("a", "text", -1), column("b", "numeric", -1)};
    Case c;

    begin(&c, columns, 2);
    c.after[0].stage_type = c.after[0].base_type = "character varying";
    c.after[1].stage_type = "numeric(10,2)";
    ck_assert(footprint(&c).is_known);
    ck_assert_str_eq(footprint(&c).varying, "coalesce(pg_catalog.octet_length(o.\"a\"), 0)"
                                            " + coalesce(pg_catalog.pg_column_size(o.\"b\"), 0)");
    arena_free(c.arena);
}
END_TEST

START_TEST(what_is_stored_otherwise_is_unpacked)
{
    const Column columns[] = {column("a", "text", -1), column("b", "jsonb", -1)};
    Case c;

    begin(&c, columns, 2);
    c.after[0].storage = 'e';
    ck_assert(footprint(&c).is_known);
    ck_assert_ptr_nonnull(strstr(footprint(&c).varying, "octet_length(o.\"a\")"));
    c.after[1].storage = 'e';
    ck_assert(!footprint(&c).is_known);
    arena_free(c.arena);
}
END_TEST

START_TEST(what_is_filled_up)
{
    const Column columns[] = {column("a", "text", -1), column("b", "integer", 4),
                              column("c", "bpchar", -1)};
    Case c;

    begin(&c, columns, 3);
    for (int i = 0; i < 3; i++) {
        c.after[i] = column(columns[i].name, "bpchar", -1);
        c.after[i].stage_type = "character(2000)";
    }
    c.before[2].stage_type = "character(2000)";
    ck_assert(footprint(&c).is_known);
    ck_assert_int_eq(footprint(&c).padding_bytes, 2 * 2000);
    ck_assert_int_eq(footprint(&c).fixed_bytes, 3 + 3 + 2 * 2000 + 64);
    c.outputs[1].source = -1;
    c.outputs[1].constant = "'x'";
    ck_assert_int_eq(footprint(&c).padding_bytes, 2 * 2000);
    arena_free(c.arena);
}
END_TEST

START_TEST(what_comes_of_a_cast_is_not_known)
{
    const Column columns[] = {column("a", "box", 32), column("b", "json", -1)};
    Case c;

    begin(&c, columns, 2);
    ck_assert(footprint(&c).is_known);
    c.after[0] = column("a", "polygon", -1);
    ck_assert(!footprint(&c).is_known);
    c.after[0] = column("a", "text", -1);
    ck_assert(footprint(&c).is_known);
    c.after[1] = column("b", "text", -1);
    ck_assert(!footprint(&c).is_known);
    arena_free(c.arena);
}
END_TEST

START_TEST(what_is_stored_nowhere)
{
    const Column columns[] = {column("a", "integer", 4), column("b", "text", -1),
                              column("c", "integer", 4)};
    Case c;

    begin(&c, columns, 3);
    c.after[1].is_virtual = c.after[1].generated = true;
    ck_assert(footprint(&c).is_known);
    ck_assert_str_eq(footprint(&c).varying, "0");
    ck_assert_int_eq(footprint(&c).fixed_bytes, 8);
    arena_free(c.arena);
}
END_TEST

START_TEST(leaves_of_another_order)
{
    const Column columns[] = {column("a", "bigint", 8), column("b", "integer", 4),
                              column("c", "boolean", 1), column("d", "uuid", 16)};
    Case c;

    begin(&c, columns, 4);
    ck_assert_int_eq(footprint_of(&c.projection, &c.original, &c.shadow, true, c.arena).fixed_bytes,
                     8 + 4 + 1 + 16 + 7 + 3 + 0 + 7);
    arena_free(c.arena);
}
END_TEST

START_TEST(what_a_decoder_holds)
{
    const Footprint it = {.varying_count = 3};

    ck_assert_int_eq(footprint_decoded(&it, 10, 100, 0), 100 + 10 * 128);
    ck_assert_int_eq(footprint_decoded(&it, 2, 19960, 1), 19960 + 2 * 128 + (10 + 3) * 140);
}
END_TEST

START_TEST(what_the_table_computes)
{
    const Column columns[] = {column("a", "integer", 4), column("b", "text", -1)};
    Case c;

    begin(&c, columns, 2);
    c.projection.output_count = 1;
    c.after[1].generated = true;
    ck_assert(footprint(&c).is_known);
    ck_assert_int_eq(footprint(&c).column_count, 1);
    c.origin[1] = -1;
    ck_assert(!footprint(&c).is_known);
    arena_free(c.arena);
}
END_TEST

START_TEST(nothing_is_known_of_a_copy_statement)
{
    const Column columns[] = {column("a", "integer", 4)};
    Case c;

    begin(&c, columns, 1);
    c.projection.is_copy_statement = true;
    ck_assert(!footprint(&c).is_known);
    arena_free(c.arena);
}
END_TEST

START_TEST(which_way_is_cheaper)
{
    const Footprint few = {.is_known = true, .column_count = 4, .varying_count = 1};
    const Footprint many = {.is_known = true, .column_count = 16, .varying_count = 6};
    const Footprint unknown = {.column_count = 16, .varying_count = 6};

    ck_assert(!footprint_prefers_insert(&few, 130));
    ck_assert(footprint_prefers_insert(&few, 2000));
    ck_assert(footprint_prefers_insert(&many, 130));
    ck_assert(!footprint_prefers_insert(&unknown, 2000));
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("footprint");
    TCase *tcase = tcase_create("footprint");

    tcase_add_test(tcase, rows_of_fixed_length);
    tcase_add_test(tcase, rows_with_gaps);
    tcase_add_test(tcase, values_that_vary_are_asked_for);
    tcase_add_test(tcase, a_number_as_text);
    tcase_add_test(tcase, a_constant_is_as_long_as_it_is);
    tcase_add_test(tcase, what_is_computed_is_known_by_its_type_alone);
    tcase_add_test(tcase, what_is_cast_is_unpacked);
    tcase_add_test(tcase, what_is_stored_otherwise_is_unpacked);
    tcase_add_test(tcase, what_is_filled_up);
    tcase_add_test(tcase, what_comes_of_a_cast_is_not_known);
    tcase_add_test(tcase, what_is_stored_nowhere);
    tcase_add_test(tcase, leaves_of_another_order);
    tcase_add_test(tcase, what_a_decoder_holds);
    tcase_add_test(tcase, what_the_table_computes);
    tcase_add_test(tcase, nothing_is_known_of_a_copy_statement);
    tcase_add_test(tcase, which_way_is_cheaper);
    suite_add_tcase(suite, tcase);
    return suite;
}
