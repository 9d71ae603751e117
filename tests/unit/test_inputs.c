/* The files behind --file and --copy-statement. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/inputs.h"
#include "unit.h"

static char directory[] = "/tmp/walter-inputs-XXXXXX";
static Arena *arena;

static void
set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chdir(directory), 0);
    ck_assert_int_eq(setenv("HOME", directory, 1), 0);
    arena = arena_new();
}

static void
tear_down(void)
{
    (void)unlink("file.sql");
    (void)rmdir(directory);
    arena_free(arena);
}

static void
write_file(const char *bytes, size_t len)
{
    FILE *file = fopen("file.sql", "we");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(reads_the_statement_from_a_file)
{
    Settings settings = {.statement_file = "file.sql"};
    Err err = {0};

    write_file("ALTER TABLE t ADD c int;\n", 25);
    ck_assert_msg(inputs_load(&settings, arena, &err), "%s", err.message);
    ck_assert_str_eq(settings.statement, "ALTER TABLE t ADD c int;\n");
}
END_TEST

START_TEST(leaves_out_a_byte_order_mark)
{
    Settings settings = {.statement_file = "file.sql"};
    Err err = {0};

    write_file("\xEF\xBB\xBFx", 4);
    ck_assert_msg(inputs_load(&settings, arena, &err), "%s", err.message);
    ck_assert_str_eq(settings.statement, "x");
}
END_TEST

START_TEST(reads_standard_input_for_a_dash)
{
    Settings settings = {.statement_file = "-"};
    Err err = {0};

    write_file("from stdin", 10);
    ck_assert_ptr_nonnull(freopen("file.sql", "re", stdin));
    ck_assert_msg(inputs_load(&settings, arena, &err), "%s", err.message);
    ck_assert_str_eq(settings.statement, "from stdin");
}
END_TEST

START_TEST(reads_more_than_one_block)
{
    const size_t len = 300001;
    AUTO(Text) *bytes = mem_new(len, 1);
    Settings settings = {.statement_file = "file.sql"};
    Err err = {0};

    memset(bytes, 'y', len);
    write_file(bytes, len);
    ck_assert_msg(inputs_load(&settings, arena, &err), "%s", err.message);
    ck_assert_uint_eq(strlen(settings.statement), len);
    ck_assert_uint_eq(strspn(settings.statement, "y"), len);
}
END_TEST

START_TEST(refuses_a_file_beyond_the_limit)
{
    Settings settings = {.statement_file = "file.sql"};
    Err err = {0};

    write_file("y", 1);
    ck_assert_int_eq(truncate("file.sql", 16 * 1024 * 1024 + 1), 0);
    ck_assert(!inputs_load(&settings, arena, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "larger than 16 MB"));
}
END_TEST

static const struct {
    const char *bytes;
    size_t len;
    const char *message;
} BAD_FILES[] = {
    {"", 0, "it is empty"},
    {" \n\t\r\n", 5, "it is empty"},
    {"\xEF\xBB\xBF\n", 4, "it is empty"},
    {"a\0b", 3, "it contains a NUL byte"},
};

START_TEST(refuses_a_file_without_a_text)
{
    Settings settings = {.statement_file = "file.sql"};
    Settings copy = {.copy_statement = "file.sql"};
    Err err = {0};
    Err copy_err = {0};

    write_file(BAD_FILES[_i].bytes, BAD_FILES[_i].len);
    ck_assert(!inputs_load(&settings, arena, &err));
    ck_assert_int_eq(err.kind, ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "option --file: could not read \"file.sql\""));
    ck_assert_ptr_nonnull(strstr(err.message, BAD_FILES[_i].message));
    ck_assert(!inputs_load(&copy, arena, &copy_err));
    ck_assert_ptr_nonnull(strstr(copy_err.message, "option --copy-statement (-c)"));
    ck_assert_ptr_nonnull(strstr(copy_err.message, BAD_FILES[_i].message));
}
END_TEST

START_TEST(refuses_what_is_no_file)
{
    Settings missing = {.statement_file = "missing.sql"};
    Settings folder = {.statement_file = "/"};
    Err missing_err = {0};
    Err folder_err = {0};

    ck_assert(!inputs_load(&missing, arena, &missing_err));
    ck_assert_ptr_nonnull(strstr(missing_err.message, "No such file"));
    ck_assert(!inputs_load(&folder, arena, &folder_err));
    ck_assert_ptr_nonnull(strstr(folder_err.message, "Is a directory"));
}
END_TEST

static const char *const COPY_PATHS[] = {"file.sql", "./file.sql", "~/file.sql"};

START_TEST(reads_the_copy_statement_from_a_file)
{
    Settings settings = {.statement = "x", .copy_statement = COPY_PATHS[_i]};
    Err err = {0};

    write_file("INSERT", 6);
    ck_assert_msg(inputs_load(&settings, arena, &err), "%s", err.message);
    ck_assert_str_eq(settings.copy_statement, "INSERT");
    ck_assert_str_eq(settings.statement, "x");
}
END_TEST

START_TEST(takes_the_copy_statement_itself)
{
    const char *text = "INSERT INTO %{shadow_table} SELECT * FROM t";
    Settings settings = {.copy_statement = text};
    Err err = {0};

    ck_assert_msg(inputs_load(&settings, arena, &err), "%s", err.message);
    ck_assert_str_eq(settings.copy_statement, text);
}
END_TEST

START_TEST(refuses_a_copy_statement_that_is_neither)
{
    Settings settings = {.copy_statement = "INSERT INTO t SELECT 1"};
    Err err = {0};

    ck_assert(!inputs_load(&settings, arena, &err));
    ck_assert_int_eq(err.kind, ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "%{shadow_table}"));
}
END_TEST

Suite *
unit_suite(void)
{
    const int bad_count = (int)(sizeof BAD_FILES / sizeof BAD_FILES[0]);
    const int path_count = (int)(sizeof COPY_PATHS / sizeof COPY_PATHS[0]);
    Suite *suite = suite_create("inputs");
    TCase *tests = tcase_create("files");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, reads_the_statement_from_a_file);
    tcase_add_test(tests, leaves_out_a_byte_order_mark);
    tcase_add_test(tests, reads_standard_input_for_a_dash);
    tcase_add_test(tests, reads_more_than_one_block);
    tcase_add_test(tests, refuses_a_file_beyond_the_limit);
    tcase_add_loop_test(tests, refuses_a_file_without_a_text, 0, bad_count);
    tcase_add_test(tests, refuses_what_is_no_file);
    tcase_add_loop_test(tests, reads_the_copy_statement_from_a_file, 0, path_count);
    tcase_add_test(tests, takes_the_copy_statement_itself);
    tcase_add_test(tests, refuses_a_copy_statement_that_is_neither);
    suite_add_tcase(suite, tests);
    return suite;
}
