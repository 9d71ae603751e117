/* The log; see log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"

static LogLevel lowest = LOG_INFO;
static bool progress_shown = false;

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

static void
erase_progress(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

static void
print(LogLevel level, const char *text)
{
    struct timeval now;
    struct tm parts;
    char stamp[32];

    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &parts);
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &parts);
    erase_progress();
    fprintf(stderr, "%s.%03d %s: %s\n", stamp, (int)(now.tv_usec / 1000), LEVEL_WORDS[level], text);
    fflush(stderr);
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
    if (err->hint[0] != '\0')
        fprintf(stderr, "hint: %s\n", err->hint);
}

void
log_progress(const char *text)
{
    struct winsize window = {0};
    int columns = 80;

    if (!log_is_terminal()) {
        if (text != NULL)
            log_line(LOG_INFO, "%s", text);
        return;
    }
    erase_progress();
    if (text == NULL || lowest > LOG_INFO)
        return;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 10)
        columns = window.ws_col;
    fprintf(stderr, "%.*s", columns - 1, text);
    fflush(stderr);
    progress_shown = true;
}
