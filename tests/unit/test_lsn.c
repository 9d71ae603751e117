/* Text form of log sequence numbers. */

#include "lsn.h"
#include "unit.h"

static const struct {
    const char *text;
    Lsn lsn;
} PAIRS[] = {
    {"0/0", 0},
    {"0/1", 1},
    {"16/B374D848", (Lsn)0x16 << 32 | 0xB374D848},
    {"FFFFFFFF/FFFFFFFF", UINT64_MAX},
};

START_TEST(reads_what_it_writes)
{
    char text[LSN_TEXT_SIZE];
    Lsn lsn;

    ck_assert_str_eq(lsn_text(PAIRS[_i].lsn, text), PAIRS[_i].text);
    ck_assert(lsn_parse(PAIRS[_i].text, &lsn));
    ck_assert_uint_eq(lsn, PAIRS[_i].lsn);
}
END_TEST

START_TEST(reads_small_letters_and_leading_zeros)
{
    Lsn lsn;

    ck_assert(lsn_parse("0000000a/00ffFF00", &lsn));
    ck_assert_uint_eq(lsn, (Lsn)0xA << 32 | 0xFFFF00);
}
END_TEST

static const char *const BAD[] = {
    "",     "/",    "0",   "0/",          "/0",          "0/0/0", "0/0 ",  " 0/0",
    "-1/0", "0/-1", "g/0", "123456789/0", "0/123456789", "0x1/0", "0/1\n",
};

START_TEST(refuses_anything_else)
{
    Lsn lsn = 42;

    ck_assert(!lsn_parse(BAD[_i], &lsn));
    ck_assert_uint_eq(lsn, 42);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("lsn");
    TCase *tcase = tcase_create("lsn");

    tcase_add_loop_test(tcase, reads_what_it_writes, 0, sizeof PAIRS / sizeof PAIRS[0]);
    tcase_add_test(tcase, reads_small_letters_and_leading_zeros);
    tcase_add_loop_test(tcase, refuses_anything_else, 0, sizeof BAD / sizeof BAD[0]);
    suite_add_tcase(suite, tcase);
    return suite;
}
