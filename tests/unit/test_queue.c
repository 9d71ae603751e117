/* Messages between arrival and apply. */
#include "phase/queue.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "unit.h"

enum { MEGABYTE = 1024 * 1024 };

/* Drop everything read so far. */
static void
release_read(Queue *queue)
{
    queue_mark(queue);
    queue_release_marked(queue);
}

/* Push a message whose bytes tell its number. */
static void
push_number(Queue *queue, int number, size_t len, bool is_change)
{
    uint8_t *bytes = malloc(len);

    ck_assert_ptr_nonnull(bytes);
    memset(bytes, number % 251, len);
    queue_push(queue, (Lsn)number, bytes, len, is_change);
    free(bytes);
}

static void
expect_number(Queue *queue, int number, size_t len)
{
    QueueRecord record;

    ck_assert(queue_read(queue, &record));
    ck_assert_uint_eq(record.wal_end_lsn, (Lsn)number);
    ck_assert_uint_eq(record.len, len);
    if (len > 0) {
        ck_assert_int_eq(record.bytes[0], number % 251);
        ck_assert_int_eq(record.bytes[len - 1], number % 251);
    }
}

static void
expect_nothing(Queue *queue)
{
    QueueRecord record;

    ck_assert(queue_is_drained(queue));
    ck_assert(!queue_read(queue, &record));
}

START_TEST(an_empty_queue_gives_nothing)
{
    AUTO(Queue) *queue = queue_new(NULL);

    expect_nothing(queue);
    release_read(queue);
    queue_rewind(queue);
    expect_nothing(queue);
    ck_assert(!queue_drop_newest(queue));
    ck_assert_uint_eq(queue_bytes(queue), 0);
    ck_assert_int_eq(queue_changes(queue), 0);
}
END_TEST

/* Across blocks, to the end, and to the end of a queue whose last block was used again. */
START_TEST(releases_up_to_the_mark_and_no_further)
{
    static const int ahead[] = {1, 1500, 3000};
    AUTO(Queue) *queue = queue_new(NULL);

    queue_mark(queue); /* of nothing: means nothing */
    for (int i = 0; i < 5000; i++)
        push_number(queue, i, 999, true);
    queue_release_marked(queue);
    ck_assert_int_eq(queue_changes(queue), 5000);
    ck_assert_int_eq(queue_unread(queue), 5000);
    for (int i = 0; i < 2000; i++)
        expect_number(queue, i, 999);
    queue_mark(queue);
    for (int i = 0; i < ahead[_i]; i++)
        expect_number(queue, 2000 + i, 999);
    queue_release_marked(queue);
    ck_assert_int_eq(queue_changes(queue), 3000);
    ck_assert_int_eq(queue_unread(queue), 3000 - ahead[_i]);
    /* what was read behind the mark can be read again */
    queue_rewind(queue);
    for (int i = 2000; i < 5000; i++)
        expect_number(queue, i, 999);
    /* a rewind has taken the mark back */
    queue_release_marked(queue);
    ck_assert_int_eq(queue_changes(queue), 3000);
    release_read(queue);
    ck_assert_int_eq(queue_changes(queue), 0);
    expect_nothing(queue);
    push_number(queue, 7, 10, true);
    queue_mark(queue);
    expect_number(queue, 7, 10);
    queue_release_marked(queue);
    ck_assert_int_eq(queue_changes(queue), 1);
    ck_assert_int_eq(queue_unread(queue), 0);
}
END_TEST

START_TEST(gives_messages_in_order_across_blocks)
{
    AUTO(Queue) *queue = queue_new(NULL);

    for (int i = 0; i < 5000; i++)
        push_number(queue, i, (size_t)(i % 1999), true);
    ck_assert_uint_gt(queue_bytes(queue), 4 * MEGABYTE);
    for (int i = 0; i < 5000; i++)
        expect_number(queue, i, (size_t)(i % 1999));
    expect_nothing(queue);
}
END_TEST

START_TEST(keeps_a_message_larger_than_a_block_in_its_place)
{
    AUTO(Queue) *queue = queue_new(NULL);

    push_number(queue, 1, 10, true);
    push_number(queue, 2, 5 * MEGABYTE, true);
    push_number(queue, 3, 10, true);
    push_number(queue, 4, MEGABYTE, true);
    expect_number(queue, 1, 10);
    expect_number(queue, 2, 5 * MEGABYTE);
    expect_number(queue, 3, 10);
    expect_number(queue, 4, MEGABYTE);
    expect_nothing(queue);
    release_read(queue);
    ck_assert_uint_le(queue_bytes(queue), MEGABYTE);
}
END_TEST

START_TEST(bytes_stay_where_they_are_until_released)
{
    AUTO(Queue) *queue = queue_new(NULL);
    QueueRecord first;

    push_number(queue, 7, 100, true);
    ck_assert(queue_read(queue, &first));
    for (int i = 0; i < 3000; i++)
        push_number(queue, i, 1000, true);
    for (int i = 0; i < 3000; i++)
        expect_number(queue, i, 1000);
    ck_assert_int_eq(first.bytes[0], 7);
    ck_assert_int_eq(first.bytes[99], 7);
}
END_TEST

START_TEST(rewind_gives_what_was_not_released_again)
{
    AUTO(Queue) *queue = queue_new(NULL);

    for (int i = 0; i < 3000; i++)
        push_number(queue, i, 1000, true);
    for (int i = 0; i < 1500; i++)
        expect_number(queue, i, 1000);
    release_read(queue);
    for (int times = 0; times < 3; times++) {
        for (int i = 1500; i < 2900; i++)
            expect_number(queue, i, 1000);
        queue_rewind(queue);
    }
    ck_assert_int_eq(queue_changes(queue), 1500);
    for (int i = 1500; i < 3000; i++)
        expect_number(queue, i, 1000);
    expect_nothing(queue);
    queue_rewind(queue);
    expect_number(queue, 1500, 1000);
}
END_TEST

START_TEST(counts_changes_until_they_are_released)
{
    AUTO(Queue) *queue = queue_new(NULL);

    for (int i = 0; i < 10; i++)
        push_number(queue, i, 10, i % 2 == 0);
    ck_assert_int_eq(queue_changes(queue), 5);
    for (int i = 0; i < 4; i++)
        expect_number(queue, i, 10);
    ck_assert_int_eq(queue_changes(queue), 5);
    release_read(queue);
    ck_assert_int_eq(queue_changes(queue), 3);
    queue_rewind(queue);
    ck_assert_int_eq(queue_changes(queue), 3);
    for (int i = 4; i < 10; i++)
        expect_number(queue, i, 10);
    release_read(queue);
    ck_assert_int_eq(queue_changes(queue), 0);
    push_number(queue, 10, 10, true);
    ck_assert_int_eq(queue_changes(queue), 1);
}
END_TEST

START_TEST(memory_is_given_back_when_all_is_released)
{
    AUTO(Queue) *queue = queue_new(NULL);

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++)
            push_number(queue, i, MEGABYTE / 10, true);
        ck_assert_uint_gt(queue_bytes(queue), 9 * MEGABYTE);
        for (int i = 0; i < 100; i++)
            expect_number(queue, i, MEGABYTE / 10);
        release_read(queue);
        ck_assert_uint_le(queue_bytes(queue), MEGABYTE);
        ck_assert(queue_is_drained(queue));
    }
}
END_TEST

START_TEST(release_in_the_middle_of_a_block_keeps_the_rest)
{
    AUTO(Queue) *queue = queue_new(NULL);

    for (int i = 0; i < 10; i++)
        push_number(queue, i, 10, true);
    for (int i = 0; i < 10; i++) {
        expect_number(queue, i, 10);
        release_read(queue);
        push_number(queue, 100 + i, 20, true);
    }
    for (int i = 0; i < 10; i++)
        expect_number(queue, 100 + i, 20);
    expect_nothing(queue);
}
END_TEST

START_TEST(the_newest_message_can_be_taken_back_once)
{
    AUTO(Queue) *queue = queue_new(NULL);

    push_number(queue, 1, 10, true);
    push_number(queue, 2, 10, true);
    ck_assert(queue_drop_newest(queue));
    ck_assert(!queue_drop_newest(queue));
    ck_assert_int_eq(queue_changes(queue), 1);
    push_number(queue, 3, 10, true);
    expect_number(queue, 1, 10);
    expect_number(queue, 3, 10);
    expect_nothing(queue);
}
END_TEST

START_TEST(a_message_that_was_read_is_not_taken_back)
{
    AUTO(Queue) *queue = queue_new(NULL);

    push_number(queue, 1, 10, false);
    expect_number(queue, 1, 10);
    ck_assert(!queue_drop_newest(queue));
    release_read(queue);
    ck_assert(!queue_drop_newest(queue));
    push_number(queue, 2, 10, false);
    ck_assert(queue_drop_newest(queue));
    expect_nothing(queue);
}
END_TEST

START_TEST(taking_back_works_where_a_block_begins)
{
    AUTO(Queue) *queue = queue_new(NULL);

    push_number(queue, 1, MEGABYTE - 100, false);
    push_number(queue, 2, 1000, false);
    ck_assert(queue_drop_newest(queue));
    expect_number(queue, 1, MEGABYTE - 100);
    expect_nothing(queue);
    push_number(queue, 3, 1000, false);
    ck_assert(!queue_is_drained(queue));
    ck_assert(queue_drop_newest(queue));
    release_read(queue);
    push_number(queue, 4, 1000, true);
    expect_number(queue, 4, 1000);
    ck_assert_int_eq(queue_changes(queue), 1);
}
END_TEST

/* As while a batch is on its way: what comes meanwhile begins a block, and the mark ends the one before. */
START_TEST(what_is_pushed_between_mark_and_release_can_be_read)
{
    AUTO(Queue) *queue = queue_new(NULL);

    for (int round = 0; round < 3; round++) {
        int number = 0;

        while (number < 500)
            push_number(queue, number++, 9999, true);
        for (int i = 0; i < 500; i++)
            expect_number(queue, i, 9999);
        queue_mark(queue);
        push_number(queue, number, 2 * MEGABYTE, true);
        queue_release_marked(queue);
        ck_assert_int_eq(queue_changes(queue), 1);
        expect_number(queue, number, 2 * MEGABYTE);
        release_read(queue);
        ck_assert_int_eq(queue_changes(queue), 0);
    }
}
END_TEST

/* ---- with a spool ---- */

static Queue *
new_spooling(int64_t limit_bytes)
{
    Err err = {0};
    Spool *spool = spool_open("/tmp", limit_bytes, &err);

    ck_assert_msg(spool != NULL, "%s", err.message);
    return queue_new(spool);
}

static int64_t
spooled(const Queue *queue)
{
    return spool_bytes(queue_spool(queue));
}

static void
expect_load(Queue *queue)
{
    Err err = {0};

    ck_assert_msg(queue_load(queue, &err), "%s", err.message);
}

/* As apply reads: fetch, read what is there, release it.  Returns the number after the last one. */
static int
consume(Queue *queue, int number, size_t len)
{
    QueueRecord found;

    expect_load(queue);
    ck_assert_uint_le(queue_bytes(queue), QUEUE_MEMORY_BYTES + QUEUE_AHEAD_BYTES + 2 * MEGABYTE);
    while (queue_read(queue, &found)) {
        ck_assert_uint_eq(found.wal_end_lsn, (Lsn)number);
        ck_assert_uint_eq(found.len, len);
        ck_assert_int_eq(found.bytes[len - 1], number % 251);
        number++;
    }
    release_read(queue);
    return number;
}

START_TEST(nothing_is_spooled_while_memory_has_room)
{
    AUTO(Queue) *queue = new_spooling(100 * MEGABYTE);

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300; i++)
            push_number(queue, i, 100000, true);
        ck_assert_int_eq(consume(queue, 0, 100000), 300);
        ck_assert_int_eq(spooled(queue), 0);
    }
    ck_assert(!queue_is_full(queue));
}
END_TEST

START_TEST(what_has_no_room_goes_to_disk_and_comes_back_in_order)
{
    AUTO(Queue) *queue = new_spooling(200 * MEGABYTE);
    int next = 0;

    for (int i = 0; i < 10000; i++) {
        push_number(queue, i, 10000, i % 2 == 0);
        ck_assert_uint_le(queue_bytes(queue), QUEUE_MEMORY_BYTES + 2 * MEGABYTE);
    }
    ck_assert_int_gt(spooled(queue), 60 * MEGABYTE);
    ck_assert_int_eq(queue_changes(queue), 5000);
    ck_assert(!queue_is_full(queue));
    while (!queue_is_drained(queue)) {
        int before = next;

        next = consume(queue, next, 10000);
        ck_assert_int_gt(next, before);
        ck_assert_int_eq(queue_changes(queue), 5000 - (next + 1) / 2);
    }
    ck_assert_int_eq(next, 10000);
    ck_assert_int_eq(spooled(queue), 0);
    ck_assert_uint_le(queue_bytes(queue), MEGABYTE);
}
END_TEST

/* Reader and writer take turns, in steps that meet everywhere in the blocks. */
START_TEST(reading_and_writing_meet_anywhere)
{
    AUTO(Queue) *queue = new_spooling(200 * MEGABYTE);
    int pushed = 0;
    int next = 0;

    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < (round < 30 ? 700 : 150); i++)
            push_number(queue, pushed++, 7777, true);
        for (int i = 0; i < round % 7 + 1; i++)
            push_number(queue, pushed++, 7777, true);
        if (round % 3 == 0)
            next = consume(queue, next, 7777);
        expect_load(queue);
        for (int i = 0; i < 10 * round && next + i < pushed; i++)
            expect_number(queue, next + i, 7777);
        queue_rewind(queue);
    }
    while (!queue_is_drained(queue))
        next = consume(queue, next, 7777);
    ck_assert_int_eq(next, pushed);
}
END_TEST

START_TEST(a_message_larger_than_memory_is_spooled_like_others)
{
    AUTO(Queue) *queue = new_spooling(300 * MEGABYTE);

    push_number(queue, 1, 40 * MEGABYTE, true);
    push_number(queue, 2, 50 * MEGABYTE, true);
    push_number(queue, 3, 40 * MEGABYTE, true);
    push_number(queue, 4, 10, true);
    ck_assert_int_gt(spooled(queue), 89 * MEGABYTE);
    for (int i = 1; i <= 4; i++) {
        expect_load(queue);
        expect_number(queue, i, i == 4 ? 10 : (size_t)(i == 2 ? 50 : 40) * MEGABYTE);
        release_read(queue);
    }
    expect_nothing(queue);
    ck_assert_int_eq(spooled(queue), 0);
}
END_TEST

START_TEST(the_newest_message_can_be_taken_back_behind_what_is_spooled)
{
    AUTO(Queue) *queue = new_spooling(200 * MEGABYTE);
    int next = 0;

    for (int i = 0; i < 6000; i++) {
        push_number(queue, i, 10000, true);
        push_number(queue, 77777, 10, true);
        ck_assert(queue_drop_newest(queue));
    }
    ck_assert_int_gt(spooled(queue), 20 * MEGABYTE);
    while (!queue_is_drained(queue))
        next = consume(queue, next, 10000);
    ck_assert_int_eq(next, 6000);
}
END_TEST

START_TEST(without_a_spool_it_is_full_when_memory_is)
{
    AUTO(Queue) *queue = queue_new(NULL);
    int count = 0;

    while (!queue_is_full(queue))
        push_number(queue, count++, 100000, true);
    ck_assert_uint_gt(queue_bytes(queue), QUEUE_MEMORY_BYTES);
    ck_assert(!queue_has_room(queue));
    for (int i = 0; i < count * 2 / 3; i++)
        expect_number(queue, i, 100000);
    release_read(queue);
    ck_assert(queue_has_room(queue));
}
END_TEST

/* Pushes until the queue says it is full; some more may be under way then. */
static int
fill(Queue *queue, int number)
{
    while (!queue_is_full(queue))
        push_number(queue, number++, 10000, true);
    for (int i = 0; i < 10; i++)
        push_number(queue, number++, 10000, true);
    return number;
}

START_TEST(at_its_limit_the_spool_makes_the_queue_full_until_there_is_room)
{
    AUTO(Queue) *queue = new_spooling(8 * MEGABYTE);
    int pushed = 0;
    int next = 0;

    for (int round = 0; round < 5; round++) {
        pushed = fill(queue, pushed);
        ck_assert_int_le(spooled(queue), 8 * MEGABYTE);
        ck_assert_int_gt(spooled(queue), 5 * MEGABYTE);
        ck_assert(!queue_has_room(queue));
        while (!queue_has_room(queue))
            next = consume(queue, next, 10000);
        ck_assert(!queue_is_full(queue));
    }
    while (!queue_is_drained(queue))
        next = consume(queue, next, 10000);
    ck_assert_int_eq(next, pushed);
    ck_assert_int_eq(queue_spool_failure(queue)->kind, ERR_NONE);
}
END_TEST

/* The limit on the size of a file makes the first segment fail in its middle, as a full disk does. */
START_TEST(a_spool_that_fails_is_given_up_and_nothing_is_lost)
{
    AUTO(Queue) *queue = new_spooling(100 * MEGABYTE);
    struct rlimit old;
    int pushed;
    int next = 0;

    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    for (pushed = 0; spooled(queue) < 3 * MEGABYTE; pushed++)
        push_number(queue, pushed, 10000, true);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){500000, old.rlim_max}), 0);
    pushed = fill(queue, pushed);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_ptr_nonnull(
        strstr(queue_spool_failure(queue)->message, "could not write to a spool file"));
    for (int round = 0; round < 5; round++) {
        ck_assert(!queue_has_room(queue));
        while (!queue_has_room(queue))
            next = consume(queue, next, 10000);
        pushed = fill(queue, pushed);
    }
    while (!queue_is_drained(queue))
        next = consume(queue, next, 10000);
    ck_assert_int_eq(next, pushed);
    ck_assert_int_eq(spooled(queue), 0);
}
END_TEST

/* What apply and the stream have done to a queue whose message `n` has the number n. */
typedef struct Model {
    Queue *queue;
    int pushed;
    int read;
    int marked;
    int released;
} Model;

/* Most are small, some larger than a block; every third is a change. */
static size_t
length_of(int number)
{
    unsigned mixed = (unsigned)number * 2654435761U >> 16;

    return mixed % 97 == 0 ? (size_t)3 * MEGABYTE + mixed % 9 : mixed % 60000;
}

static int
changes_before(int number)
{
    return (number + 2) / 3;
}

static void
push_some(Model *model, int count)
{
    for (int i = 0; i < count && !queue_is_full(model->queue); i++) {
        push_number(model->queue, model->pushed, length_of(model->pushed), model->pushed % 3 == 0);
        model->pushed++;
        if (i % 5 != 0)
            continue;
        push_number(model->queue, 99999, length_of(99999 + i), true);
        ck_assert(queue_drop_newest(model->queue));
        ck_assert(!queue_drop_newest(model->queue));
    }
}

static void
read_some(Model *model, int count)
{
    for (int i = 0; i < count && model->read < model->pushed; i++) {
        expect_load(model->queue);
        expect_number(model->queue, model->read, length_of(model->read));
        model->read++;
    }
}

static void
do_something(Model *model)
{
    int choice = rand() % 8;

    if (choice <= 1) {
        push_some(model, rand() % 200);
    } else if (choice <= 3) {
        read_some(model, rand() % 150);
    } else if (choice == 4) {
        queue_mark(model->queue);
        model->marked = model->read;
    } else if (choice == 5) {
        queue_release_marked(model->queue);
        model->released = model->marked;
    } else if (choice == 6) {
        release_read(model->queue);
        model->released = model->marked = model->read;
    } else {
        queue_rewind(model->queue);
        model->read = model->marked = model->released;
    }
    ck_assert_int_eq(queue_changes(model->queue),
                     changes_before(model->pushed) - changes_before(model->released));
    ck_assert_int_eq(queue_unread(model->queue),
                     changes_before(model->pushed) - changes_before(model->read));
    ck_assert_int_eq(queue_is_drained(model->queue), model->read == model->pushed);
}

START_TEST(whatever_is_done_in_whatever_order_nothing_is_lost)
{
    AUTO(Queue) *queue = _i % 3 == 0 ? queue_new(NULL) : new_spooling((_i % 3) * 30 * MEGABYTE);
    Model model = {.queue = queue};

    srand((unsigned)_i);
    for (int i = 0; i < 300; i++)
        do_something(&model);
    while (model.read < model.pushed)
        read_some(&model, 20);
    release_read(queue);
    expect_nothing(queue);
    ck_assert_uint_le(queue_bytes(queue), MEGABYTE);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("queue");
    TCase *tcase = tcase_create("queue");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, an_empty_queue_gives_nothing);
    tcase_add_loop_test(tcase, releases_up_to_the_mark_and_no_further, 0, 3);
    tcase_add_test(tcase, gives_messages_in_order_across_blocks);
    tcase_add_test(tcase, keeps_a_message_larger_than_a_block_in_its_place);
    tcase_add_test(tcase, bytes_stay_where_they_are_until_released);
    tcase_add_test(tcase, rewind_gives_what_was_not_released_again);
    tcase_add_test(tcase, counts_changes_until_they_are_released);
    tcase_add_test(tcase, memory_is_given_back_when_all_is_released);
    tcase_add_test(tcase, release_in_the_middle_of_a_block_keeps_the_rest);
    tcase_add_test(tcase, the_newest_message_can_be_taken_back_once);
    tcase_add_test(tcase, a_message_that_was_read_is_not_taken_back);
    tcase_add_test(tcase, taking_back_works_where_a_block_begins);
    tcase_add_test(tcase, what_is_pushed_between_mark_and_release_can_be_read);
    tcase_add_test(tcase, nothing_is_spooled_while_memory_has_room);
    tcase_add_test(tcase, what_has_no_room_goes_to_disk_and_comes_back_in_order);
    tcase_add_test(tcase, reading_and_writing_meet_anywhere);
    tcase_add_test(tcase, a_message_larger_than_memory_is_spooled_like_others);
    tcase_add_test(tcase, the_newest_message_can_be_taken_back_behind_what_is_spooled);
    tcase_add_test(tcase, without_a_spool_it_is_full_when_memory_is);
    tcase_add_test(tcase, at_its_limit_the_spool_makes_the_queue_full_until_there_is_room);
    tcase_add_test(tcase, a_spool_that_fails_is_given_up_and_nothing_is_lost);
    tcase_add_loop_test(tcase, whatever_is_done_in_whatever_order_nothing_is_lost, 0, 9);
    suite_add_tcase(suite, tcase);
    return suite;
}
