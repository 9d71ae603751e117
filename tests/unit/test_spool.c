/* Records on disk, in a directory of the test's own. */
#include "phase/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "unit.h"

#define MEGABYTE INT64_C(1048576)

static char dir[] = "/tmp/test_spool_XXXXXX";

static void
make_dir(void)
{
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

/* Fails when a file has been left. */
static void
remove_dir(void)
{
    ck_assert_int_eq(rmdir(dir), 0);
}

static Spool *
open_spool(int64_t limit_bytes)
{
    Err err = {0};
    Spool *spool = spool_open(dir, limit_bytes, &err);

    ck_assert_msg(spool != NULL, "%s", err.message);
    return spool;
}

static uint8_t *
record(int number, size_t len)
{
    uint8_t *bytes = malloc(len + 1);

    ck_assert_ptr_nonnull(bytes);
    memset(bytes, number % 251, len);
    return bytes;
}

static bool
append(Spool *spool, int number, size_t len, Err *err)
{
    uint8_t *bytes = record(number, len);
    bool ok = spool_append(spool, bytes, len, err);

    free(bytes);
    return ok;
}

static void
expect_append(Spool *spool, int number, size_t len)
{
    Err err = {0};

    ck_assert_msg(append(spool, number, len, &err), "%s", err.message);
}

static void
expect_take(Spool *spool, int number, size_t len)
{
    uint8_t *expected = record(number, len);
    uint8_t *bytes = record(number + 1, len);
    size_t peeked;
    Err err = {0};

    ck_assert_msg(spool_peek(spool, &peeked, &err), "%s", err.message);
    ck_assert_uint_eq(peeked, len);
    ck_assert_msg(spool_take(spool, bytes, len, &err), "%s", err.message);
    ck_assert_mem_eq(bytes, expected, len);
    free(bytes);
    free(expected);
}

/*
 * How many files we have open in the directory, all without a name; adds up their sizes.  Sets *last
 * to one of them.
 */
static int
open_files(int *last, int64_t *bytes)
{
    DIR *fds = opendir("/proc/self/fd");
    int count = 0;

    ck_assert_ptr_nonnull(fds);
    for (struct dirent *entry; (entry = readdir(fds)) != NULL;) {
        char target[4096] = {0};
        struct stat file;
        int fd;

        if (readlinkat(dirfd(fds), entry->d_name, target, sizeof target - 1) > 0 &&
            strncmp(target, dir, strlen(dir)) == 0) {
            ck_assert_ptr_nonnull(strstr(target, "(deleted)"));
            fd = (int)strtol(entry->d_name, NULL, 10);
            ck_assert_int_eq(fstat(fd, &file), 0);
            count++;
            if (last != NULL)
                *last = fd;
            if (bytes != NULL)
                *bytes += file.st_size;
        }
    }
    (void)closedir(fds);
    return count;
}

/* What the files take on disk, those parts included that were taken already. */
static int64_t
file_bytes(void)
{
    int64_t bytes = 0;

    (void)open_files(NULL, &bytes);
    return bytes;
}

START_TEST(an_empty_spool_holds_one_nameless_private_file)
{
    AUTO(Spool) *spool = open_spool(MEGABYTE);
    struct stat file;
    int fd = -1;

    ck_assert(spool_is_empty(spool));
    ck_assert_int_eq(spool_bytes(spool), 0);
    ck_assert_str_eq(spool_dir(spool), dir);
    ck_assert_int_eq(open_files(&fd, NULL), 1);
    ck_assert_int_eq(fstat(fd, &file), 0);
    ck_assert_uint_eq(file.st_mode & 07777, 0600);
    ck_assert_uint_eq(file.st_nlink, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}
END_TEST

START_TEST(gives_records_in_order_and_frees_what_was_taken)
{
    AUTO(Spool) *spool = open_spool(40 * MEGABYTE);
    int fd;

    for (int i = 0; i < 300; i++)
        expect_append(spool, i, (size_t)(i * 997 % 200000));
    ck_assert_int_gt(spool_bytes(spool), 20 * MEGABYTE);
    ck_assert_int_gt(open_files(&fd, NULL), 20);
    for (int i = 0; i < 300; i++) {
        expect_take(spool, i, (size_t)(i * 997 % 200000));
        ck_assert_int_eq(file_bytes(), spool_bytes(spool));
    }
    ck_assert(spool_is_empty(spool));
    ck_assert_int_eq(spool_bytes(spool), 0);
    ck_assert_int_eq(open_files(&fd, NULL), 0);
}
END_TEST

START_TEST(is_used_again_and_again_within_its_limit)
{
    AUTO(Spool) *spool = open_spool(8 * MEGABYTE);
    int first = 0;

    for (int i = 0; i < 400; i++) {
        const size_t len = 100000;

        while (!spool_has_room(spool, len))
            expect_take(spool, first++, len);
        expect_append(spool, i, len);
        ck_assert_int_le(file_bytes(), 8 * MEGABYTE);
    }
    while (!spool_is_empty(spool))
        expect_take(spool, first++, 100000);
    ck_assert_int_eq(first, 400);
}
END_TEST

START_TEST(takes_records_larger_than_a_segment_and_empty_ones)
{
    static const size_t LENS[] = {0, 10, 5 * 1048576, 0, 1048576, 1, 3 * 1048576, 0};
    enum { COUNT = sizeof LENS / sizeof LENS[0] };
    AUTO(Spool) *spool = open_spool(20 * MEGABYTE);

    for (int i = 0; i < COUNT; i++)
        expect_append(spool, i, LENS[i]);
    for (int i = 0; i < COUNT; i++)
        expect_take(spool, i, LENS[i]);
    ck_assert(spool_is_empty(spool));
}
END_TEST

START_TEST(has_no_room_beyond_its_limit)
{
    AUTO(Spool) *spool = open_spool(2 * MEGABYTE);

    ck_assert_int_eq(spool_bound(spool), 2 * MEGABYTE);
    ck_assert(!spool_has_room(spool, 2 * MEGABYTE));
    ck_assert(spool_has_room(spool, MEGABYTE));
    expect_append(spool, 1, MEGABYTE);
    ck_assert(!spool_has_room(spool, MEGABYTE));
    ck_assert(spool_has_room(spool, MEGABYTE / 2));
    expect_take(spool, 1, MEGABYTE);
    ck_assert(spool_has_room(spool, MEGABYTE));
}
END_TEST

START_TEST(leaves_half_of_the_free_space_to_others)
{
    AUTO(Spool) *spool = open_spool(INT64_MAX);
    struct statvfs fs;

    ck_assert_int_eq(statvfs(dir, &fs), 0);
    /* others write there meanwhile */
    ck_assert_int_lt(spool_bound(spool), (int64_t)(fs.f_bavail * fs.f_frsize / 100 * 75));
    ck_assert_int_gt(spool_bound(spool), (int64_t)(fs.f_bavail * fs.f_frsize / 100 * 25));
}
END_TEST

START_TEST(a_directory_that_does_not_do_is_refused)
{
    Err err = {0};

    ck_assert_ptr_null(spool_open("/nonexistent/dir", MEGABYTE, &err));
    ck_assert_int_eq(err.kind, ERR_REFUSED);
    ck_assert_str_eq(err.message, "could not make a spool file in \"/nonexistent/dir\": "
                                  "No such file or directory");
    ck_assert_ptr_nonnull(strstr(err.hint, "--spool-dir"));
}
END_TEST

/* Every byte that matters, in the header and in the record. */
START_TEST(a_damaged_byte_is_noticed)
{
    AUTO(Spool) *spool = open_spool(MEGABYTE);
    uint8_t bytes[100];
    size_t len;
    int fd = -1;
    uint8_t byte;
    Err err = {0};

    expect_append(spool, 1, sizeof bytes);
    expect_append(spool, 2, sizeof bytes);
    ck_assert_int_eq(open_files(&fd, NULL), 1);
    ck_assert_int_eq(pread(fd, &byte, 1, _i), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, _i), 1);
    ck_assert(!spool_peek(spool, &len, &err) || !spool_take(spool, bytes, sizeof bytes, &err));
    ck_assert_int_eq(err.kind, ERR_FAILED);
    ck_assert_ptr_nonnull(strstr(err.message, "could not read back what was spooled"));
    ck_assert_ptr_nonnull(strstr(err.hint, "--spool-dir"));
}
END_TEST

START_TEST(a_file_cut_short_is_noticed)
{
    AUTO(Spool) *spool = open_spool(MEGABYTE);
    uint8_t bytes[100];
    size_t len;
    int fd = -1;
    Err err = {0};

    expect_append(spool, 1, sizeof bytes);
    ck_assert_int_eq(open_files(&fd, NULL), 1);
    ck_assert_int_eq(ftruncate(fd, _i), 0);
    ck_assert(!spool_peek(spool, &len, &err) || !spool_take(spool, bytes, sizeof bytes, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "could not read back what was spooled"));
}
END_TEST

/* As with a full disk, a write fails in the middle of a record. */
START_TEST(what_cannot_be_written_changes_nothing)
{
    AUTO(Spool) *spool = open_spool(100 * MEGABYTE);
    struct rlimit old;
    Err err = {0};

    ck_assert(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){500000, old.rlim_max}), 0);
    expect_append(spool, 1, 300000);
    ck_assert(!append(spool, 2, 300000, &err));
    ck_assert_int_eq(err.kind, ERR_FAILED);
    ck_assert_ptr_nonnull(strstr(err.message, "could not write to a spool file"));
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    expect_append(spool, 3, 300000);
    expect_take(spool, 1, 300000);
    expect_take(spool, 3, 300000);
    ck_assert(spool_is_empty(spool));
}
END_TEST

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("spool");
    TCase *tcase = tcase_create("spool");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_dir, remove_dir);
    tcase_add_test(tcase, an_empty_spool_holds_one_nameless_private_file);
    tcase_add_test(tcase, gives_records_in_order_and_frees_what_was_taken);
    tcase_add_test(tcase, is_used_again_and_again_within_its_limit);
    tcase_add_test(tcase, takes_records_larger_than_a_segment_and_empty_ones);
    tcase_add_test(tcase, has_no_room_beyond_its_limit);
    tcase_add_test(tcase, leaves_half_of_the_free_space_to_others);
    tcase_add_test(tcase, a_directory_that_does_not_do_is_refused);
    tcase_add_loop_test(tcase, a_damaged_byte_is_noticed, 0, 124);
    tcase_add_loop_test(tcase, a_file_cut_short_is_noticed, 0, 124);
    tcase_add_test(tcase, what_cannot_be_written_changes_nothing);
    suite_add_tcase(suite, tcase);
    return suite;
}
