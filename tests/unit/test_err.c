/* Errors as values. */
#include <string.h>

#include "err.h"
#include "unit.h"

START_TEST(keeps_the_first_error)
{
    Err err = {0};

    ck_assert(!err_set(&err, ERR_RETRY, "first %d", 1));
    ck_assert(!err_set(&err, ERR_LOST, "second"));
    ck_assert_int_eq(err.kind, ERR_RETRY);
    ck_assert_str_eq(err.message, "first 1");
    ck_assert(!err_hint(&err, "do this"));
    ck_assert(!err_hint(&err, "do that"));
    ck_assert_str_eq(err.hint, "do this");
    err_clear(&err);
    ck_assert_int_eq(err.kind, ERR_NONE);
    err_set(&err, ERR_LOST, "third");
    ck_assert_str_eq(err.message, "third");
    ck_assert_str_eq(err.hint, "");
}
END_TEST

START_TEST(gives_no_hint_without_an_error)
{
    Err err = {0};

    err_hint(&err, "do this");
    ck_assert_str_eq(err.hint, "");
}
END_TEST

START_TEST(adds_context_in_front)
{
    Err err = {0};

    err_set(&err, ERR_FAILED, "no such file");
    ck_assert(!err_wrap(&err, "reading %s", "x"));
    ck_assert(!err_wrap(&err, "starting"));
    ck_assert_str_eq(err.message, "starting: reading x: no such file");
}
END_TEST

START_TEST(adds_no_context_to_a_stop)
{
    Err err = {0};

    err_set(&err, ERR_STOPPED, "stopped on request");
    err_wrap(&err, "copying");
    ck_assert_str_eq(err.message, "stopped on request");
}
END_TEST

START_TEST(makes_one_line_of_several)
{
    Err err = {0};

    err_set(&err, ERR_LOST, "one\ntwo\r\n\tthree\n\n");
    ck_assert_str_eq(err.message, "one two   three");
}
END_TEST

START_TEST(cuts_what_is_too_long)
{
    char text[3000];
    Err err = {0};

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    err_set(&err, ERR_FAILED, "%s", text);
    ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
    err_wrap(&err, "in %s", "front");
    ck_assert_int_eq(strncmp(err.message, "in front: xxx", 13), 0);
    ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
    err_hint(&err, "%s", text);
    ck_assert_uint_eq(strlen(err.hint), sizeof err.hint - 1);
}
END_TEST

static const struct {
    const char *sqlstate;
    ErrKind kind;
} STATES[] = {
    {"40001", ERR_RETRY},   {"40P01", ERR_RETRY},   {"55P03", ERR_RETRY},   {"57P01", ERR_LOST},
    {"57P02", ERR_LOST},    {"57P03", ERR_LOST},    {"57P05", ERR_LOST},    {"25P03", ERR_LOST},
    {"25P04", ERR_LOST},    {"08006", ERR_LOST},    {"08P01", ERR_LOST},    {"22003", ERR_DATA},
    {"23505", ERR_DATA},    {"44000", ERR_DATA},    {"54000", ERR_DATA},    {"P0001", ERR_DATA},
    {"42501", ERR_REFUSED}, {"28P01", ERR_REFUSED}, {"3D000", ERR_REFUSED}, {"57014", ERR_FAILED},
    {"53300", ERR_FAILED},  {"42P01", ERR_FAILED},  {"25001", ERR_FAILED},  {"XX000", ERR_FAILED},
    {"", ERR_LOST},         {NULL, ERR_LOST},
};

START_TEST(tells_what_can_be_done_about_a_sqlstate)
{
    ck_assert_int_eq(err_kind_of_sqlstate(STATES[_i].sqlstate), STATES[_i].kind);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("err");
    TCase *tcase = tcase_create("err");

    tcase_add_test(tcase, keeps_the_first_error);
    tcase_add_test(tcase, gives_no_hint_without_an_error);
    tcase_add_test(tcase, adds_context_in_front);
    tcase_add_test(tcase, adds_no_context_to_a_stop);
    tcase_add_test(tcase, makes_one_line_of_several);
    tcase_add_test(tcase, cuts_what_is_too_long);
    tcase_add_loop_test(tcase, tells_what_can_be_done_about_a_sqlstate, 0,
                        sizeof STATES / sizeof STATES[0]);
    suite_add_tcase(suite, tcase);
    return suite;
}
