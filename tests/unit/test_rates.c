/* Whether changes come faster than they are applied. */
#include "phase/rates.h"

#include "unit.h"

enum { S = 1000000, MB = 1024 * 1024 };

/* What one second brings. */
typedef struct Second {
    int64_t written;
    int64_t applied;
    int64_t lag;
} Second;

/* Look once a second for some of them, beginning where the rates stand. */
static void
pass(Rates *rates, int seconds, Second second)
{
    for (int i = 0; i < seconds; i++) {
        RateSample sample = {.lag_bytes = 100 * MB};

        if (rates->count > 0)
            sample = rates->samples[rates->count - 1];
        sample.at_us += S;
        sample.written_rows += second.written;
        sample.applied_rows += second.applied;
        sample.lag_bytes += second.lag;
        rates_add(rates, &sample);
    }
}

static const Second BEHIND = {.written = 120000, .applied = 45000, .lag = 10 * MB};
static const Second AHEAD = {.written = 30000, .applied = 45000, .lag = -MB};
static const Second TRANSACTION = {.applied = 45000, .lag = MB}; /* a big one, being applied */

START_TEST(knows_nothing_at_first)
{
    Rates rates = {0};

    ck_assert(!rates_fall_behind(&rates) && !rates_catch_up(&rates));
    ck_assert(rates_written(&rates) == 0 && rates_lag_growth(&rates) == 0);
    pass(&rates, 3, BEHIND);
    ck_assert(rates_written(&rates) == 0 && rates_applied(&rates) == 0);
    ck_assert(!rates_fall_behind(&rates));
}
END_TEST

START_TEST(tells_the_rates_of_the_last_seconds)
{
    Rates rates = {0};

    pass(&rates, 30, AHEAD);
    pass(&rates, 11, BEHIND);
    ck_assert(rates_written(&rates) == 120000 && rates_applied(&rates) == 45000);
    ck_assert(rates_lag_growth(&rates) == 10 * MB);
}
END_TEST

START_TEST(falls_behind_where_it_lasts)
{
    Rates rates = {0};

    pass(&rates, 5, BEHIND);
    ck_assert(!rates_fall_behind(&rates));
    pass(&rates, 5, BEHIND);
    ck_assert(rates_fall_behind(&rates) && !rates_catch_up(&rates));
    pass(&rates, 4, AHEAD);
    ck_assert(!rates_fall_behind(&rates));
}
END_TEST

START_TEST(catches_up_when_the_rates_that_are_told_say_so)
{
    Rates rates = {0};

    pass(&rates, 12, BEHIND);
    for (int i = 0; i < 12; i++) {
        pass(&rates, 1, AHEAD);
        ck_assert(!rates_catch_up(&rates) || rates_applied(&rates) > rates_written(&rates));
    }
    ck_assert(rates_catch_up(&rates));
}
END_TEST

START_TEST(begins_anew_when_the_counts_are_reset)
{
    Rates rates = {0};

    pass(&rates, 12, BEHIND);
    pass(&rates, 1, (Second){.written = -1000000, .applied = 45000, .lag = 10 * MB});
    ck_assert_int_eq(rates.count, 1);
    ck_assert(!rates_catch_up(&rates));
    pass(&rates, 5, BEHIND);
    ck_assert(rates_written(&rates) == 120000);
}
END_TEST

START_TEST(takes_no_big_transaction_for_the_writers_pace)
{
    Rates rates = {0};

    pass(&rates, 5, TRANSACTION);
    pass(&rates, 1, (Second){.written = 5000000, .applied = 45000, .lag = 10 * MB});
    for (int i = 0; i < 12; i++) {
        pass(&rates, 1, TRANSACTION);
        ck_assert(!rates_fall_behind(&rates));
    }
}
END_TEST

START_TEST(a_small_backlog_is_none)
{
    Rates rates = {.count = 1};

    pass(&rates, 12, (Second){.written = 200, .applied = 100, .lag = MB / 100});
    ck_assert(!rates_fall_behind(&rates));
}
END_TEST

START_TEST(begins_anew_after_a_gap)
{
    Rates rates = {0};
    RateSample later;

    pass(&rates, 12, BEHIND);
    later = rates.samples[rates.count - 1];
    later.at_us += 60 * S;
    rates_add(&rates, &later);
    ck_assert_int_eq(rates.count, 1);
    ck_assert(!rates_fall_behind(&rates));
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("rates");
    TCase *tcase = tcase_create("rates");

    tcase_add_test(tcase, knows_nothing_at_first);
    tcase_add_test(tcase, tells_the_rates_of_the_last_seconds);
    tcase_add_test(tcase, falls_behind_where_it_lasts);
    tcase_add_test(tcase, catches_up_when_the_rates_that_are_told_say_so);
    tcase_add_test(tcase, begins_anew_when_the_counts_are_reset);
    tcase_add_test(tcase, takes_no_big_transaction_for_the_writers_pace);
    tcase_add_test(tcase, a_small_backlog_is_none);
    tcase_add_test(tcase, begins_anew_after_a_gap);
    suite_add_tcase(suite, tcase);
    return suite;
}
