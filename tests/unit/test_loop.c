/* The poll loop: watches, timers, stop requests.  check runs every test in a process of its own. */
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "unit.h"

#define MS(n) ((n)*INT64_C(1000))

static Loop *loop;
static int ends[2];

static void
set_up(void)
{
    /* as it is where nobody runs us under nohup */
    signal(SIGHUP, SIG_DFL);
    loop = loop_new();
    ck_assert_int_eq(pipe(ends), 0);
}

static void
tear_down(void)
{
    loop_free(loop);
}

/* What a callback saw, and what it is to do. */
typedef struct Seen {
    int calls;
    short ready;
    bool fail;
    Watch *remove; /* a watch to remove */
    int add;       /* so many watches to add */
} Seen;

static bool
on_ready(void *owner, short ready, Err *err)
{
    Seen *seen = owner;

    seen->calls++;
    seen->ready = ready;
    loop_unwatch(loop, seen->remove);
    seen->remove = NULL;
    for (; seen->add > 0; seen->add--)
        loop_watch(loop, ends[1], POLLIN, NULL, NULL);
    return !seen->fail || err_set(err, ERR_FAILED, "as told");
}

static bool
turn(int64_t wait_us, Err *err)
{
    return loop_turn(loop, clock_now_us() + wait_us, err);
}

static void
write_byte(void)
{
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
}

START_TEST(ends_a_turn_at_its_deadline)
{
    int64_t begun_us = clock_now_us();
    Err err = {0};

    ck_assert(turn(MS(30), &err));
    ck_assert_int_ge(clock_now_us() - begun_us, MS(30));
    ck_assert_int_lt(clock_now_us() - begun_us, MS(2000));
    begun_us = clock_now_us();
    ck_assert(turn(MS(-5), &err));
    ck_assert_int_lt(clock_now_us() - begun_us, MS(500));
}
END_TEST

START_TEST(calls_who_can_read)
{
    Seen seen = {0};
    Err err = {0};
    Watch *watch = loop_watch(loop, ends[0], POLLIN, on_ready, &seen);

    ck_assert(turn(0, &err));
    ck_assert_int_eq(seen.calls, 0);
    write_byte();
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(seen.calls, 1);
    ck_assert_int_eq(seen.ready, POLLIN);
    /* no events, no call: the way to leave unread what is there */
    loop_watch_events(watch, 0);
    ck_assert(turn(MS(10), &err));
    ck_assert_int_eq(seen.calls, 1);
    loop_watch_events(watch, POLLIN);
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(seen.calls, 2);
    loop_unwatch(loop, watch);
    ck_assert(turn(0, &err));
    ck_assert_int_eq(seen.calls, 2);
}
END_TEST

START_TEST(lets_a_watch_rest)
{
    int64_t begun_us = clock_now_us();
    Seen seen = {0};
    Err err = {0};
    Watch *watch = loop_watch(loop, ends[0], POLLIN, on_ready, &seen);

    write_byte();
    loop_rest(watch, begun_us + MS(30));
    /* the turn ends with the rest, long before its deadline */
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(seen.calls, 0);
    ck_assert_int_ge(clock_now_us() - begun_us, MS(30));
    ck_assert_int_lt(clock_now_us() - begun_us, MS(4000));
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(seen.calls, 1);
}
END_TEST

START_TEST(tells_that_the_other_end_is_closed)
{
    Seen seen = {0};
    Err err = {0};

    loop_watch(loop, ends[0], POLLIN, on_ready, &seen);
    close(ends[1]);
    ck_assert(turn(MS(5000), &err));
    ck_assert(seen.ready & POLLHUP);
}
END_TEST

START_TEST(calls_timers_at_their_interval)
{
    Seen seen = {0};
    Err err = {0};
    int64_t begun_us = clock_now_us();
    Watch *timer = loop_every(loop, MS(20), on_ready, &seen);

    while (seen.calls < 3)
        ck_assert(turn(MS(5000), &err));
    ck_assert_int_ge(clock_now_us() - begun_us, MS(60));
    ck_assert_int_eq(seen.ready, 0);
    loop_unwatch(loop, timer);
    ck_assert(turn(MS(50), &err));
    ck_assert_int_eq(seen.calls, 3);
}
END_TEST

START_TEST(pauses_and_serves_the_others)
{
    Seen seen = {0};
    Err err = {0};
    int64_t begun_us = clock_now_us();

    loop_every(loop, MS(10), on_ready, &seen);
    ck_assert(loop_pause(loop, MS(100), &err));
    ck_assert_int_ge(clock_now_us() - begun_us, MS(100));
    ck_assert_int_ge(seen.calls, 3);
}
END_TEST

START_TEST(ends_the_turn_with_the_error_of_a_callback)
{
    Seen seen = {.fail = true};
    Err err = {0};

    loop_watch(loop, ends[0], POLLIN, on_ready, &seen);
    write_byte();
    ck_assert(!turn(MS(5000), &err));
    ck_assert_str_eq(err.message, "as told");
    err_clear(&err);
    seen.fail = false;
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(seen.calls, 2);
}
END_TEST

START_TEST(lets_callbacks_remove_watches)
{
    Seen first = {0};
    Seen second = {0};
    Err err = {0};
    Watch *watch = loop_watch(loop, ends[0], POLLIN, on_ready, &first);

    first.remove = loop_watch(loop, ends[0], POLLIN, on_ready, &second);
    write_byte();
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(first.calls, 1);
    ck_assert_int_eq(second.calls, 0);
    /* itself, too */
    first.remove = watch;
    ck_assert(turn(MS(5000), &err));
    ck_assert(turn(0, &err));
    ck_assert_int_eq(first.calls, 2);
}
END_TEST

START_TEST(lets_callbacks_add_watches)
{
    Seen first = {.add = 100};
    Seen second = {0};
    Err err = {0};

    loop_watch(loop, ends[0], POLLIN, on_ready, &first);
    loop_watch(loop, ends[0], POLLIN, on_ready, &second);
    write_byte();
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(first.calls, 1);
    ck_assert_int_eq(second.calls, 1);
    ck_assert(turn(MS(5000), &err));
    ck_assert_int_eq(second.calls, 2);
}
END_TEST

START_TEST(stops_when_asked_to)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    Err err = {0};

    ck_assert(!loop_is_stopping(loop));
    raise(signals[_i]);
    ck_assert(loop_is_stopping(loop));
    ck_assert(!turn(MS(5000), &err));
    ck_assert_int_eq(err.kind, ERR_STOPPED);
    err_clear(&err);
    ck_assert(!loop_pause(loop, MS(5000), &err));
    ck_assert_int_eq(err.kind, ERR_STOPPED);
}
END_TEST

START_TEST(survives_a_hangup_under_nohup)
{
    Err err = {0};

    signal(SIGHUP, SIG_IGN);
    loop_free(loop);
    loop = loop_new();
    raise(SIGHUP);
    ck_assert(turn(0, &err));
}
END_TEST

START_TEST(wakes_up_to_stop)
{
    int64_t begun_us = clock_now_us();
    Err err = {0};
    pid_t us = getpid();
    pid_t child = fork();

    if (child == 0) {
        usleep(50000);
        kill(us, SIGTERM);
        _exit(0);
    }
    while (turn(MS(20000), &err))
        ;
    ck_assert_int_eq(err.kind, ERR_STOPPED);
    ck_assert_int_lt(clock_now_us() - begun_us, MS(10000));
    waitpid(child, NULL, 0);
}
END_TEST

START_TEST(goes_on_behind_a_shield)
{
    int64_t begun_us;
    Err err = {0};

    loop_shield(loop);
    loop_shield(loop);
    raise(SIGTERM);
    begun_us = clock_now_us();
    ck_assert(turn(MS(30), &err));
    /* and waits, instead of turning as fast as it can */
    ck_assert_int_ge(clock_now_us() - begun_us, MS(30));
    ck_assert(loop_is_stopping(loop));
    loop_unshield(loop);
    ck_assert(turn(0, &err));
    loop_unshield(loop);
    ck_assert(!turn(0, &err));
    ck_assert_int_eq(err.kind, ERR_STOPPED);
}
END_TEST

START_TEST(ends_at_once_when_asked_twice)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        loop_shield(loop);
        raise(SIGINT);
        raise(SIGTERM);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 7);
}
END_TEST

START_TEST(survives_a_broken_pipe)
{
    close(ends[0]);
    ck_assert_int_eq(write(ends[1], "x", 1), -1);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("loop");
    TCase *tcase = tcase_create("loop");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, ends_a_turn_at_its_deadline);
    tcase_add_test(tcase, calls_who_can_read);
    tcase_add_test(tcase, lets_a_watch_rest);
    tcase_add_test(tcase, tells_that_the_other_end_is_closed);
    tcase_add_test(tcase, calls_timers_at_their_interval);
    tcase_add_test(tcase, pauses_and_serves_the_others);
    tcase_add_test(tcase, ends_the_turn_with_the_error_of_a_callback);
    tcase_add_test(tcase, lets_callbacks_remove_watches);
    tcase_add_test(tcase, lets_callbacks_add_watches);
    tcase_add_loop_test(tcase, stops_when_asked_to, 0, 3);
    tcase_add_test(tcase, survives_a_hangup_under_nohup);
    tcase_add_test(tcase, wakes_up_to_stop);
    tcase_add_test(tcase, goes_on_behind_a_shield);
    tcase_add_test(tcase, ends_at_once_when_asked_twice);
    tcase_add_test(tcase, survives_a_broken_pipe);
    suite_add_tcase(suite, tcase);
    return suite;
}
