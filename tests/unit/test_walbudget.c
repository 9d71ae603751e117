/* How much WAL the slot may hold back. */

#include "phase/walbudget.h"
#include "unit.h"

#define MB(n) ((n)*INT64_C(1024) * 1024)
#define GB(n) MB((n)*INT64_C(1024))

static unsigned
look(WalBudget *budget, int64_t held_bytes, bool is_copying)
{
    return walbudget_judge(budget, &(WalLook){.held_bytes = held_bytes,
                                              .limit_bytes = WALBUDGET_NONE,
                                              .is_copying = is_copying});
}

START_TEST(warns_at_half_and_when_it_has_grown_much)
{
    WalBudget budget = {.max_bytes = MB(1000)};

    ck_assert_uint_eq(look(&budget, MB(499), false), 0);
    ck_assert_uint_eq(look(&budget, MB(500), false), WALBUDGET_WARN);
    ck_assert_uint_eq(look(&budget, MB(500), false), 0);
    ck_assert_uint_eq(look(&budget, MB(749), false), 0);
    ck_assert_uint_eq(look(&budget, MB(750), false), WALBUDGET_WARN);
    ck_assert_uint_eq(look(&budget, MB(999), false), 0);
    ck_assert_uint_eq(look(&budget, MB(1000), false), WALBUDGET_STOP);
}
END_TEST

START_TEST(warns_again_only_of_what_had_gone)
{
    WalBudget budget = {.max_bytes = MB(1000)};

    ck_assert_uint_eq(look(&budget, MB(550), false), WALBUDGET_WARN);
    ck_assert_uint_eq(look(&budget, MB(300), false), 0);
    ck_assert_uint_eq(look(&budget, MB(550), false), 0);
    ck_assert_uint_eq(look(&budget, MB(200), false), 0);
    ck_assert_uint_eq(look(&budget, MB(550), false), WALBUDGET_WARN);
}
END_TEST

START_TEST(slows_the_copy_and_lets_it_go_again)
{
    WalBudget budget = {.max_bytes = MB(1000)};

    ck_assert_uint_eq(look(&budget, MB(799), true), WALBUDGET_WARN);
    ck_assert_int_eq(walbudget_brake(&budget), 0);
    ck_assert_uint_eq(look(&budget, MB(800), true), WALBUDGET_SLOW);
    ck_assert_int_eq(walbudget_brake(&budget), 50);
    ck_assert_uint_eq(look(&budget, MB(900), true), 0);
    ck_assert_int_eq(walbudget_brake(&budget), 70);
    ck_assert_uint_eq(look(&budget, MB(700), true), 0);
    ck_assert_int_eq(walbudget_brake(&budget), 50);
    ck_assert_uint_eq(look(&budget, MB(699), true), WALBUDGET_UNSLOW);
    ck_assert_int_eq(walbudget_brake(&budget), 0);
    ck_assert_uint_eq(look(&budget, MB(799), true), 0);
}
END_TEST

START_TEST(says_that_it_slows_in_place_of_a_warning)
{
    WalBudget budget = {.max_bytes = MB(1000)};

    ck_assert_uint_eq(look(&budget, MB(850), true), WALBUDGET_SLOW);
    ck_assert_uint_eq(look(&budget, MB(990), true), 0);
}
END_TEST

START_TEST(slows_nothing_but_the_copy)
{
    WalBudget budget = {.max_bytes = MB(1000)};

    ck_assert_uint_eq(look(&budget, MB(850), true), WALBUDGET_SLOW);
    ck_assert_uint_eq(look(&budget, MB(950), false), 0);
    ck_assert_int_eq(walbudget_brake(&budget), 0);
}
END_TEST

static const struct {
    int64_t max_bytes;
    int64_t limit_bytes;
    int64_t budget_bytes;
    bool is_servers;
} BUDGETS[] = {
    {MB(100), WALBUDGET_NONE, MB(100), false},
    {WALBUDGET_NONE, MB(100), MB(100), true},
    {MB(100), MB(200), MB(100), false},
    {MB(200), MB(100), MB(100), true},
    {WALBUDGET_NONE, WALBUDGET_NONE, WALBUDGET_NONE, false},
};

START_TEST(takes_the_smaller_limit)
{
    WalBudget budget = {.max_bytes = BUDGETS[_i].max_bytes};

    ck_assert_uint_eq(walbudget_judge(&budget, &(WalLook){.held_bytes = MB(10),
                                                          .limit_bytes = BUDGETS[_i].limit_bytes}),
                      0);
    ck_assert_int_eq(budget.budget_bytes, BUDGETS[_i].budget_bytes);
    ck_assert(budget.is_servers == BUDGETS[_i].is_servers);
}
END_TEST

START_TEST(goes_by_a_limit_that_is_changed)
{
    WalBudget budget = {.max_bytes = WALBUDGET_NONE};
    WalLook tight = {.held_bytes = MB(90), .limit_bytes = MB(100), .is_copying = true};
    WalLook wide = {.held_bytes = MB(90), .limit_bytes = MB(1000), .is_copying = true};
    WalLook none = {.held_bytes = MB(90), .limit_bytes = 0, .is_copying = true};

    ck_assert_uint_eq(walbudget_judge(&budget, &tight), WALBUDGET_SLOW);
    ck_assert_uint_eq(walbudget_judge(&budget, &wide), WALBUDGET_UNSLOW);
    ck_assert_uint_eq(walbudget_judge(&budget, &none), WALBUDGET_STOP);
}
END_TEST

START_TEST(without_a_limit_only_says_what_was_not_expected)
{
    WalBudget small = {.max_bytes = WALBUDGET_NONE, .expected_bytes = MB(1)};
    WalBudget large = {.max_bytes = WALBUDGET_NONE, .expected_bytes = GB(10)};

    ck_assert_uint_eq(look(&small, GB(1) - 1, true), 0);
    ck_assert_uint_eq(look(&small, GB(1), true), WALBUDGET_WARN);
    ck_assert_uint_eq(look(&small, GB(2) - 1, true), 0);
    ck_assert_uint_eq(look(&small, GB(2), true), WALBUDGET_WARN);
    ck_assert_uint_eq(look(&large, GB(20) - 1, true), 0);
    ck_assert_uint_eq(look(&large, GB(20), true), WALBUDGET_WARN);
    ck_assert_uint_eq(look(&large, GB(100000), true), WALBUDGET_WARN);
    ck_assert_int_eq(walbudget_percent(&large), 0);
    ck_assert_int_eq(walbudget_brake(&large), 0);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("walbudget");
    TCase *tcase = tcase_create("walbudget");

    tcase_add_test(tcase, warns_at_half_and_when_it_has_grown_much);
    tcase_add_test(tcase, warns_again_only_of_what_had_gone);
    tcase_add_test(tcase, slows_the_copy_and_lets_it_go_again);
    tcase_add_test(tcase, says_that_it_slows_in_place_of_a_warning);
    tcase_add_test(tcase, slows_nothing_but_the_copy);
    tcase_add_loop_test(tcase, takes_the_smaller_limit, 0, sizeof BUDGETS / sizeof BUDGETS[0]);
    tcase_add_test(tcase, goes_by_a_limit_that_is_changed);
    tcase_add_test(tcase, without_a_limit_only_says_what_was_not_expected);
    suite_add_tcase(suite, tcase);
    return suite;
}
