/* The log; see log.h. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "buf.h"
#include "mem.h"

/* So much is kept for a terminal or pipe that takes nothing, and written in pieces that fit. */
enum { HELD_MAX = 256 * 1024, PIECE = 512, LAST_PATIENCE_MS = 1000 };

static LogLevel lowest = LOG_INFO;
static bool progress_shown = false;
static Buf held;      /* what stderr has not taken yet */
static long lost = 0; /* lines for which there was no room */

static const char *const LEVEL_WORDS[] = {"debug", "info", "warning", "error"};

void
log_set_level(LogLevel level)
{
    lowest = level;
}

bool
log_is_terminal(void)
{
    return isatty(STDERR_FILENO) != 0;
}

/*
 * Somebody may have stopped his terminal, or the reader of the pipe: to wait for him would stop us,
 * too, with a lock in our hands or with a stream that the server soon gives up.
 */
static bool
is_taking(int patience_ms)
{
    struct pollfd stderr_fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    return poll(&stderr_fd, 1, patience_ms) > 0;
}

/* Write what is held, as far as it is taken. */
static void
flush(int patience_ms)
{
    size_t done = 0;

    while (done < held.len && is_taking(patience_ms)) {
        size_t left = held.len - done;
        ssize_t len = write(STDERR_FILENO, held.data + done, left < PIECE ? left : PIECE);

        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (len < 0) {
            done = held.len; /* nobody will ever read it */
            break;
        }
        done += (size_t)len;
    }
    if (done == 0)
        return;
    memmove(held.data, held.data + done, held.len - done);
    held.len -= done;
}

static void
flush_last(void)
{
    flush(LAST_PATIENCE_MS);
    buf_done(&held);
}

static void
emit(const char *text)
{
    static bool registered = false;

    if (!registered)
        registered = atexit(flush_last) == 0;
    buf_add_text(&held, text);
    flush(0);
}

static void
emit_line(const char *line)
{
    flush(0);
    if (held.len + strlen(line) > HELD_MAX) {
        lost++;
        return;
    }
    if (lost > 0 && held.len == 0) {
        AUTO(Text) *note = mem_format("(%ld lines are lost: nothing took them)\n", lost);

        lost = 0;
        emit(note);
    }
    emit(line);
}

static void
erase_progress(void)
{
    if (progress_shown)
        emit("\r\033[K");
    progress_shown = false;
}

static void
print(LogLevel level, const char *text)
{
    struct timeval now;
    struct tm parts;
    char stamp[32];
    AUTO(Text) *line = NULL;

    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &parts);
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &parts);
    erase_progress();
    line =
        mem_format("%s.%03d %s: %s\n", stamp, (int)(now.tv_usec / 1000), LEVEL_WORDS[level], text);
    emit_line(line);
}

void
log_line(LogLevel level, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    if (level < lowest)
        return;
    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0)
        return;
    print(level, text);
    free(text);
}

void
log_error(const Err *err)
{
    log_line(LOG_ERROR, "%s%s%s%s", err->message, err->sqlstate[0] == '\0' ? "" : " (SQLSTATE ",
             err->sqlstate, err->sqlstate[0] == '\0' ? "" : ")");
    if (err->hint[0] != '\0') {
        AUTO(Text) *hint = mem_format("hint: %s\n", err->hint);

        emit_line(hint);
    }
}

void
log_progress(const char *text)
{
    struct winsize window = {0};
    int columns = 80;
    AUTO(Text) *line = NULL;

    flush(0);
    if (!log_is_terminal()) {
        if (text != NULL)
            log_line(LOG_INFO, "%s", text);
        return;
    }
    erase_progress();
    if (text == NULL || lowest > LOG_INFO || held.len > 0)
        return;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 10)
        columns = window.ws_col;
    line = mem_format("%.*s", columns - 1, text);
    emit(line);
    progress_shown = true;
}
