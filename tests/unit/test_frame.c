/* Frames of a replication stream. */
#include "frame.h"

#include <stdlib.h>
#include <string.h>

#include "unit.h"

static const uint8_t DATA[] = {'w', 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0, 0, 0,   0,
                               0,   0, 3, 0, 2, 3, 4, 5, 6, 7,    8, 9, 'B', 0};
static const uint8_t KEEPALIVE[] = {'k',  0,    0,    0,    1,    0,    0,    0,    2,
                                    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 1};

START_TEST(reads_data)
{
    Frame frame;
    Err err = {0};

    ck_assert(frame_read(DATA, sizeof DATA, &frame, &err));
    ck_assert_int_eq(frame.kind, FRAME_DATA);
    ck_assert_uint_eq(frame.start_lsn, UINT64_C(0x100000002));
    ck_assert_uint_eq(frame.end_lsn, UINT64_C(0xff00000000000003));
    ck_assert_int_eq(frame.sent_us, INT64_C(0x0002030405060708));
    ck_assert_uint_eq(frame.payload_len, 3);
    ck_assert_ptr_eq(frame.payload, DATA + 25);
}
END_TEST

START_TEST(reads_a_keepalive)
{
    uint8_t quiet[sizeof KEEPALIVE];
    Frame frame;
    Err err = {0};

    ck_assert(frame_read(KEEPALIVE, sizeof KEEPALIVE, &frame, &err));
    ck_assert_int_eq(frame.kind, FRAME_KEEPALIVE);
    ck_assert_uint_eq(frame.end_lsn, UINT64_C(0x100000002));
    ck_assert_int_eq(frame.sent_us, -2);
    ck_assert(frame.reply_requested);
    ck_assert_ptr_null(frame.payload);

    memcpy(quiet, KEEPALIVE, sizeof quiet);
    quiet[sizeof quiet - 1] = 0;
    ck_assert(frame_read(quiet, sizeof quiet, &frame, &err));
    ck_assert(!frame.reply_requested);
}
END_TEST

/* Reads a copy of exactly `len` bytes, so that a sanitizer sees every overrun. */
static bool
is_refused(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len == 0 ? 1 : len);
    Frame frame = {.sent_us = 4711};
    Err err = {0};
    bool ok;

    memcpy(copy, bytes, len);
    ok = frame_read(copy, len, &frame, &err);
    free(copy);
    ck_assert_int_eq(err.kind, ok ? ERR_NONE : ERR_FAILED);
    ck_assert(ok || frame.sent_us == 4711);
    return !ok;
}

START_TEST(refuses_every_shorter_prefix)
{
    for (size_t len = 0; len < sizeof KEEPALIVE; len++)
        ck_assert_msg(is_refused(KEEPALIVE, len), "%zu bytes", len);
    for (size_t len = 0; len < 25; len++)
        ck_assert_msg(is_refused(DATA, len), "%zu bytes", len);
    ck_assert(!is_refused(DATA, 25)); /* an empty payload is the plugin's matter */
}
END_TEST

START_TEST(refuses_a_longer_keepalive)
{
    uint8_t longer[sizeof KEEPALIVE + 1] = {0};

    memcpy(longer, KEEPALIVE, sizeof KEEPALIVE);
    ck_assert(is_refused(longer, sizeof longer));
}
END_TEST

START_TEST(refuses_unknown_messages)
{
    for (int letter = 0; letter < 256; letter++) {
        uint8_t message[64] = {(uint8_t)letter};

        if (letter != 'w' && letter != 'k')
            ck_assert_msg(is_refused(message, sizeof message), "letter %d", letter);
    }
}
END_TEST

START_TEST(writes_a_status)
{
    static const uint8_t EXPECTED[FRAME_STATUS_SIZE] = {
        'r', 0, 0, 0, 0x16, 0xb3, 0x74, 0xd8, 0x48, 0,    0,    0,    1,    0,    0,    0,    2,
        0,   0, 0, 1, 0,    0,    0,    2,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    uint8_t status[FRAME_STATUS_SIZE];

    frame_write_status(status, UINT64_C(0x16b374d848), UINT64_C(0x100000002), -1, true);
    ck_assert_mem_eq(status, EXPECTED, sizeof status);
    frame_write_status(status, UINT64_C(0x16b374d848), UINT64_C(0x100000002), -1, false);
    ck_assert_mem_eq(status, EXPECTED, sizeof status - 1);
    ck_assert_uint_eq(status[sizeof status - 1], 0);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("frame");
    TCase *tests = tcase_create("frame");

    suite_add_tcase(suite, tests);
    tcase_add_test(tests, reads_data);
    tcase_add_test(tests, reads_a_keepalive);
    tcase_add_test(tests, refuses_every_shorter_prefix);
    tcase_add_test(tests, refuses_a_longer_keepalive);
    tcase_add_test(tests, refuses_unknown_messages);
    tcase_add_test(tests, writes_a_status);
    return suite;
}
