/*
 * The one poll loop; see loop.h.
 *
 * The first SIGINT, SIGTERM or SIGHUP sets a flag and writes to a pipe that is polled with the rest; the
 * second one ends the process at once (what is left behind, `walter cleanup` removes).
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

struct Watch {
    int fd; /* -1 for a timer */
    short events;
    bool dead; /* removed while a turn was dispatching */
    int64_t rest_until_us;
    int64_t interval_us;
    int64_t next_us;
    WatchReady ready;
    void *owner;
};

struct Loop {
    Watch **watches;
    struct pollfd *polls; /* same order and length as watches, for the turn under way */
    size_t count;
    size_t size;
    int shields;
    bool turning;
};

static volatile sig_atomic_t stop_count = 0;
static volatile sig_atomic_t second_exit_code = 7;
static int stop_pipe[2] = {-1, -1};

static void
on_stop_signal(int number)
{
    int saved = errno;
    ssize_t written;

    if (stop_count > 0)
        _exit(second_exit_code);
    stop_count = 1;
    written = write(stop_pipe[1], &number, 1);
    (void)written;
    errno = saved;
}

static void
install_signals(void)
{
    struct sigaction action = {0};
    struct sigaction hangup = {0};

    if (stop_pipe[0] < 0 && pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        abort();
    action.sa_handler = on_stop_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* a lost terminal must not leave a slot behind; under nohup it is ignored and stays so */
    sigaction(SIGHUP, NULL, &hangup);
    if (hangup.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    /* a file that may not grow is an error like a full disk */
    sigaction(SIGXFSZ, &action, NULL);
}

Loop *
loop_new(void)
{
    install_signals();
    return mem_new(1, sizeof(Loop));
}

void
loop_free(Loop *loop)
{
    if (loop == NULL)
        return;
    for (size_t i = 0; i < loop->count; i++)
        free(loop->watches[i]);
    free(loop->watches);
    free(loop->polls);
    free(loop);
}

static Watch *
add(Loop *loop, Watch watch)
{
    Watch *added = mem_new(1, sizeof *added);

    *added = watch;
    if (loop->count == loop->size) {
        loop->size = loop->size == 0 ? 16 : loop->size * 2;
        loop->watches = mem_grow(loop->watches, loop->size, sizeof *loop->watches);
        loop->polls = mem_grow(loop->polls, loop->size + 1, sizeof *loop->polls);
    }
    loop->watches[loop->count++] = added;
    return added;
}

Watch *
loop_watch(Loop *loop, int fd, short events, WatchReady ready, void *owner)
{
    return add(loop, (Watch){.fd = fd, .events = events, .ready = ready, .owner = owner});
}

void
loop_watch_events(Watch *watch, short events)
{
    watch->events = events;
}

void
loop_rest(Watch *watch, int64_t until_us)
{
    watch->rest_until_us = until_us;
}

Watch *
loop_every(Loop *loop, int64_t interval_us, WatchReady ready, void *owner)
{
    return add(loop, (Watch){.fd = -1,
                             .interval_us = interval_us,
                             .next_us = clock_now_us() + interval_us,
                             .ready = ready,
                             .owner = owner});
}

static void
sweep(Loop *loop)
{
    size_t kept = 0;

    for (size_t i = 0; i < loop->count; i++) {
        if (loop->watches[i]->dead)
            free(loop->watches[i]);
        else
            loop->watches[kept++] = loop->watches[i];
    }
    loop->count = kept;
}

void
loop_unwatch(Loop *loop, Watch *watch)
{
    if (watch == NULL)
        return;
    watch->dead = true;
    if (!loop->turning)
        sweep(loop);
}

/*
 * Fill loop->polls; returns the moment the turn must end, the earliest timer and end of a rest
 * included.
 */
static int64_t
prepare(Loop *loop, int64_t deadline_us)
{
    int64_t now = clock_now_us();

    for (size_t i = 0; i < loop->count; i++) {
        const Watch *watch = loop->watches[i];

        loop->polls[i] = (struct pollfd){.fd = watch->fd, .events = watch->events};
        if (watch->events == 0)
            loop->polls[i].fd = -1;
        if (watch->rest_until_us > now) {
            loop->polls[i].fd = -1;
            deadline_us = watch->rest_until_us < deadline_us ? watch->rest_until_us : deadline_us;
        }
        if (watch->interval_us > 0 && watch->next_us < deadline_us)
            deadline_us = watch->next_us;
    }
    loop->polls[loop->count] = (struct pollfd){.fd = stop_pipe[0], .events = POLLIN};
    if (loop->shields > 0)
        loop->polls[loop->count].fd = -1;
    return deadline_us;
}

static bool
dispatch(Loop *loop, size_t count, Err *err)
{
    int64_t now = clock_now_us();

    for (size_t i = 0; i < count; i++) {
        Watch *watch = loop->watches[i];
        bool due = watch->interval_us > 0 && now >= watch->next_us;

        if (watch->dead || watch->ready == NULL || (!due && loop->polls[i].revents == 0))
            continue;
        if (due)
            watch->next_us = now + watch->interval_us;
        if (!watch->ready(watch->owner, loop->polls[i].revents, err))
            return false;
    }
    return true;
}

static struct timespec
time_until(int64_t until_us)
{
    int64_t left = until_us - clock_now_us();

    if (left > 3600 * INT64_C(1000000))
        left = 3600 * INT64_C(1000000);
    if (left < 0)
        left = 0;
    return (struct timespec){.tv_sec = left / 1000000, .tv_nsec = left % 1000000 * 1000};
}

bool
loop_turn(Loop *loop, int64_t deadline_us, Err *err)
{
    size_t count = loop->count;
    struct timespec wait;
    int ready;
    bool ok;

    if (loop->polls == NULL)
        loop->polls = mem_new(17, sizeof *loop->polls);
    wait = time_until(prepare(loop, deadline_us));
    ready = ppoll(loop->polls, (nfds_t)count + 1, &wait, NULL);
    if (ready < 0 && errno != EINTR)
        return err_set(err, ERR_FAILED, "could not poll: %s", strerror(errno));
    if (ready < 0)
        for (size_t i = 0; i < count; i++)
            loop->polls[i].revents = 0;
    if (stop_count > 0 && loop->shields == 0)
        return err_set(err, ERR_STOPPED, "stopped on request");
    loop->turning = true;
    ok = dispatch(loop, count, err);
    loop->turning = false;
    sweep(loop);
    return ok;
}

bool
loop_pause(Loop *loop, int64_t duration_us, Err *err)
{
    int64_t until_us = clock_now_us() + duration_us;

    while (clock_now_us() < until_us)
        if (!loop_turn(loop, until_us, err))
            return false;
    return true;
}

void
loop_shield(Loop *loop)
{
    loop->shields++;
}

void
loop_unshield(Loop *loop)
{
    loop->shields--;
}

bool
loop_is_stopping(const Loop *loop)
{
    (void)loop;
    return stop_count > 0;
}

void
loop_set_hard_exit(int code)
{
    second_exit_code = code;
}
