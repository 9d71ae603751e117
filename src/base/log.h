/*
 * The log: one line per event on stderr, with a time stamp, and one progress line that is redrawn
 * in place on a terminal.  Never given row values or passwords.  Only the migration driver, the
 * phases' event lines and cli/ log; libraries below return errors instead.
 *
 * Never waits for stderr, but for a second at the end of the process: what a stopped terminal or a
 * full pipe does not take is kept and written later, up to 256 kB of it.
 */
#ifndef WALTER_LOG_H
#define WALTER_LOG_H

#include <stdbool.h>

#include "err.h"

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;

/* The lowest level that is printed; LOG_INFO at start. */
void log_set_level(LogLevel level);

/* Print one line; on a terminal it goes above the progress line. */
void log_line(LogLevel level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)

/* Print an error and, below it, its hint. */
void log_error(const Err *err);

/* True when stderr is a terminal, so that log_progress redraws one line. */
bool log_is_terminal(void);

/* Show `text` as the progress line: in place on a terminal, else as a log line.  NULL removes it. */
void log_progress(const char *text);

#endif
