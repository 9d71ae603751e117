/* How fast the copy may go. */

#include "phase/pace.h"
#include "unit.h"

enum { S = 1000000 };

START_TEST(goes_on_at_once_without_limits)
{
    Pace pace = {0};

    ck_assert_int_eq(pace_next(&pace, 1 << 30, 0, S), S);
    ck_assert_int_eq(pace_chunk_bytes(&pace, 77), 77);
}
END_TEST

START_TEST(sleeps_for_its_share_of_the_time)
{
    Pace half = {.nice = 50};
    Pace most = {.nice = 99};

    ck_assert_int_eq(pace_next(&half, 1, 10 * S, 12 * S), 14 * S);
    ck_assert_int_eq(pace_next(&most, 1, 0, S), 100 * S);
}
END_TEST

START_TEST(sleeps_for_more_when_it_is_slowed)
{
    Pace pace = {.nice = 50, .brake = 75};

    ck_assert_int_eq(pace_next(&pace, 1, 10 * S, 12 * S), 18 * S);
    pace.brake = 10;
    ck_assert_int_eq(pace_next(&pace, 1, 10 * S, 12 * S), 14 * S);
}
END_TEST

START_TEST(keeps_one_rate_for_all_pipes)
{
    Pace pace = {.max_rate = 1000};

    /* two chunks side by side, of a second's worth each */
    ck_assert_int_eq(pace_next(&pace, 1000, 0, S / 10), 1 * S);
    ck_assert_int_eq(pace_next(&pace, 1000, 0, S / 10), 2 * S);
    ck_assert_int_eq(pace_next(&pace, 500, 1 * S, 11 * S / 10), 5 * S / 2);
}
END_TEST

START_TEST(saves_nothing_up)
{
    Pace pace = {.max_rate = 1000};

    ck_assert_int_eq(pace_next(&pace, 1000, 0, S / 10), S);
    /* slower than allowed for a minute, and then not faster either */
    ck_assert_int_eq(pace_next(&pace, 1000, 60 * S, 61 * S), 61 * S);
    ck_assert_int_eq(pace_next(&pace, 2000, 61 * S, 61 * S + 1), 63 * S);
}
END_TEST

START_TEST(takes_the_longer_of_both)
{
    Pace pace = {.max_rate = 1000, .nice = 50};

    ck_assert_int_eq(pace_next(&pace, 1000, 0, 2 * S), 4 * S);
    ck_assert_int_eq(pace_next(&pace, 9000, 4 * S, 5 * S), 13 * S);
}
END_TEST

START_TEST(has_some_chunks_in_a_second)
{
    Pace pace = {.max_rate = 4000};

    ck_assert_int_eq(pace_chunk_bytes(&pace, 1 << 20), 1000);
    ck_assert_int_eq(pace_chunk_bytes(&pace, 10), 10);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("pace");
    TCase *tcase = tcase_create("pace");

    tcase_add_test(tcase, goes_on_at_once_without_limits);
    tcase_add_test(tcase, sleeps_for_its_share_of_the_time);
    tcase_add_test(tcase, sleeps_for_more_when_it_is_slowed);
    tcase_add_test(tcase, keeps_one_rate_for_all_pipes);
    tcase_add_test(tcase, saves_nothing_up);
    tcase_add_test(tcase, takes_the_longer_of_both);
    tcase_add_test(tcase, has_some_chunks_in_a_second);
    suite_add_tcase(suite, tcase);
    return suite;
}
