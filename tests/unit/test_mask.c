/* What must not be shown is left out. */

#include "base/mask.h"
#include "unit.h"

static const struct {
    const char *message;
    const char *masked;
} MESSAGES[] = {
    {"", ""},
    {"division by zero", "division by zero"},
    {"invalid input syntax for type integer: \"secret\"",
     "invalid input syntax for type integer: \"...\""},
    {"invalid input syntax for type integer: \"a \"secret\" word\"",
     "invalid input syntax for type integer: \"...\""},
    {"invalid input syntax for type integer: \"\"",
     "invalid input syntax for type integer: \"...\""},
    {"value \"99999\" is out of range for type smallint",
     "value \"...\" is out of range for type smallint"},
    /* a mark alone hides nothing behind it, but what it would is not known either */
    {"one \" mark", "one \"...\" mark"},
    {"null value in column \"n\" of relation \"t\" violates not-null constraint",
     "null value in column \"n\" of relation \"t\" violates not-null constraint"},
    {"column \"n\" is of type \"x\" but \"secret\" is not",
     "column \"n\" is of type \"x\" but \"...\" is not"},
    {"supercolumn \"secret\"", "supercolumn \"...\""},
    {"column \"never closed", "column \"never closed"},
    {"invalid byte sequence for encoding \"UTF8\": 0x00",
     "invalid byte sequence for encoding \"UTF8\": 0x00"},
    {"ung\u00fcltige Eingabesyntax f\u00fcr Typ integer: \u00bbsecret\u00ab",
     "ung\u00fcltige Eingabesyntax f\u00fcr Typ integer: \"...\""},
    {"syntaxe en entr\u00e9e invalide : \u00ab secret \u00bb.",
     "syntaxe en entr\u00e9e invalide : \"...\"."},
    {"\u201esecret\u201d", "\"...\""},
};

START_TEST(leaves_out_what_is_quoted_and_no_name)
{
    BUF_AUTO(out);

    mask_add(MESSAGES[_i].message, &out);
    ck_assert_str_eq(buf_text(&out), MESSAGES[_i].masked);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("mask");
    TCase *tcase = tcase_create("mask");

    tcase_add_loop_test(tcase, leaves_out_what_is_quoted_and_no_name, 0,
                        sizeof MESSAGES / sizeof MESSAGES[0]);
    suite_add_tcase(suite, tcase);
    return suite;
}
