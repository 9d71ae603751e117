/* The progress line. */

#include "ctl/progress.h"
#include "unit.h"

#define SECONDS(n) ((n)*INT64_C(1000000))
#define MB(n) ((n)*INT64_C(1024) * 1024)

static const struct {
    Progress progress;
    const char *line;
} LINES[] = {
    {{.phase = "creating the replication slot", .elapsed_us = SECONDS(7)},
     "creating the replication slot, 7.0 s"},
    /* nothing copied yet: no share to reckon with */
    {{.phase = "copying", .blocks_total = 1000, .has_stream = true},
     "copying 0.0%, 0 changes applied, lag 0 B, 0 ms"},
    {{.phase = "copying",
      .phase_us = SECONDS(10),
      .elapsed_us = SECONDS(12),
      .blocks_done = 250,
      .blocks_total = 1000,
      .rows_copied = 50000,
      .has_stream = true,
      .changes_waiting = 17,
      .lag_bytes = MB(3)},
     "copying 25.0%, 5000 rows/s, ETA 30.0 s, 0 changes applied, 17 waiting, lag 3.0 MB, 12.0 s"},
    {{.phase = "building indexes",
      .indexes_total = 1,
      .has_stream = true,
      .changes_waiting = 5000000,
      .spooled_bytes = MB(1229),
      .lag_bytes = MB(2048)},
     "building indexes, 0 of 1 done, 0 changes applied, 5000000 waiting, spooled 1.2 GB, "
     "lag 2.0 GB, 0 ms"},
    {{.phase = "building indexes",
      .indexes_total = 1,
      .has_stream = true,
      .changes_waiting = 1000,
      .is_paused = true},
     "building indexes, 0 of 1 done, 0 changes applied, 1000 waiting, reading paused, lag 0 B, "
     "0 ms"},
    {{.phase = "building indexes",
      .indexes_total = 1,
      .has_stream = true,
      .lag_bytes = MB(1100),
      .wal_held_bytes = MB(1229),
      .wal_budget_bytes = MB(10240)},
     "building indexes, 0 of 1 done, 0 changes applied, lag 1.1 GB, WAL held 1.2 GB of 10.0 GB, "
     "0 ms"},
    /* three quarters were copied by an earlier attempt */
    {{.phase = "copying",
      .phase_us = SECONDS(10),
      .elapsed_us = SECONDS(12),
      .blocks_done = 800,
      .blocks_before = 750,
      .blocks_total = 1000,
      .rows_copied = 80000,
      .rows_before = 75000,
      .has_stream = true},
     "copying 80.0%, 500 rows/s, ETA 40.0 s, 0 changes applied, lag 0 B, 12.0 s"},
    /* the table grew meanwhile */
    {{.phase = "copying",
      .phase_us = SECONDS(10),
      .elapsed_us = SECONDS(10),
      .blocks_done = 1003,
      .blocks_total = 1000,
      .rows_copied = 10,
      .has_stream = true},
     "copying 100.0%, 1 rows/s, 0 changes applied, lag 0 B, 10.0 s"},
    {{.phase = "building indexes",
      .indexes_done = 1,
      .indexes_total = 3,
      .has_stream = true,
      .elapsed_us = SECONDS(200)},
     "building indexes, 1 of 3 done, 0 changes applied, lag 0 B, 3 min 20 s"},
    {{.phase = "catching up",
      .phase_us = SECONDS(20),
      .elapsed_us = SECONDS(90),
      .has_stream = true,
      .changes_applied = 123456,
      .changes_waiting = 99,
      .lag_growth = -1.25 * MB(1),
      .lag_bytes = MB(75)},
     "catching up, ETA 1 min 00 s, 123456 changes applied, 99 waiting, lag 75.0 MB, 1 min 30 s"},
    {{.phase = "catching up",
      .phase_us = SECONDS(60),
      .elapsed_us = SECONDS(3600),
      .has_stream = true,
      .changes_applied = 5,
      .falls_behind = true,
      .lag_growth = -MB(1),
      .lag_bytes = MB(2)},
     "catching up, never at this rate, 5 changes applied, lag 2.0 MB, 1 h 00 min"},
    /* not a word of that as long as nobody knows, nor where it grows for a moment */
    {{.phase = "catching up",
      .phase_us = SECONDS(1),
      .elapsed_us = SECONDS(1),
      .has_stream = true,
      .lag_growth = MB(1),
      .lag_bytes = MB(2)},
     "catching up, 0 changes applied, lag 2.0 MB, 1.0 s"},
    {{.phase = "cutting over", .attempts = 1, .has_stream = true, .elapsed_us = SECONDS(1)},
     "cutting over, 1 attempt, 0 changes applied, lag 0 B, 1.0 s"},
    {{.phase = "cutting over", .attempts = 12, .has_stream = true, .elapsed_us = SECONDS(1)},
     "cutting over, 12 attempts, 0 changes applied, lag 0 B, 1.0 s"},
};

START_TEST(says_where_the_run_stands)
{
    BUF_AUTO(line);

    progress_add(&LINES[_i].progress, &line);
    ck_assert_str_eq(buf_text(&line), LINES[_i].line);
}
END_TEST

static const struct {
    int64_t us;
    const char *text;
} DURATIONS[] = {
    {0, "0 ms"},
    {999, "0 ms"},
    {999999, "999 ms"},
    {SECONDS(1), "1.0 s"},
    {SECONDS(59) + 949999, "59.9 s"},
    {SECONDS(60), "1 min 00 s"},
    {SECONDS(3599), "59 min 59 s"},
    {SECONDS(3600), "1 h 00 min"},
    {SECONDS(100000), "27 h 46 min"},
};

START_TEST(writes_durations_as_people_do)
{
    BUF_AUTO(text);

    progress_add_duration(DURATIONS[_i].us, &text);
    ck_assert_str_eq(buf_text(&text), DURATIONS[_i].text);
}
END_TEST

static const struct {
    int64_t bytes;
    const char *text;
} SIZES[] = {
    {0, "0 B"},        {1023, "1023 B"},     {1024, "1.0 kB"},
    {MB(1), "1.0 MB"}, {MB(1536), "1.5 GB"}, {MB(1024) * 1024 * 1024 * 5, "5120.0 TB"},
};

START_TEST(writes_sizes_as_people_do)
{
    BUF_AUTO(text);

    progress_add_bytes(SIZES[_i].bytes, &text);
    ck_assert_str_eq(buf_text(&text), SIZES[_i].text);
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("progress");
    TCase *tcase = tcase_create("progress");

    tcase_add_loop_test(tcase, says_where_the_run_stands, 0, sizeof LINES / sizeof LINES[0]);
    tcase_add_loop_test(tcase, writes_durations_as_people_do, 0,
                        sizeof DURATIONS / sizeof DURATIONS[0]);
    tcase_add_loop_test(tcase, writes_sizes_as_people_do, 0, sizeof SIZES / sizeof SIZES[0]);
    suite_add_tcase(suite, tcase);
    return suite;
}
