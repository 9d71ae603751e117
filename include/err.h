/*
 * Errors as values: a fallible function returns bool (or a pointer) and takes `Err *err` last.
 *
 * The struct is fixed in size, so failing never allocates.  The first error wins: filling an Err
 * that already holds one changes nothing.  `kind` says what the caller can do about it, never where
 * it came from.  This module does not log and does not exit.
 */
#ifndef WALTER_ERR_H
#define WALTER_ERR_H

#include <stdbool.h>

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

typedef enum {
    ERR_NONE = 0,
    ERR_USAGE,    /* the command line is wrong; nothing was touched */
    ERR_REFUSED,  /* preflight says no; nothing was touched */
    ERR_RETRY,    /* try again later: lock timeout, deadlock, serialization failure */
    ERR_LOST,     /* a connection is gone, or the server is going down */
    ERR_STOPPED,  /* the operator asked us to stop */
    ERR_DATA,     /* the data does not fit the new definition */
    ERR_MISMATCH, /* original and shadow have diverged; a cutover would lose data */
    ERR_CUTOVER,  /* the cutover was not reached within its limits */
    ERR_UNKNOWN,  /* the outcome of a COMMIT cannot be found out */
    ERR_GONE,     /* the run cannot go on, ever: its slot, server history or definition is gone */
    ERR_FAILED    /* anything else: stop and report */
} ErrKind;

typedef struct Err {
    ErrKind kind;
    char sqlstate[6];   /* the server's SQLSTATE, or "" */
    char message[1024]; /* one line, lower case, no full stop */
    char hint[512];     /* what to do about it, a sentence, or "" */
    bool told;          /* the operator has read it: it is not logged again */
} Err;

/* Fill *err unless it already holds an error.  Always returns false, so callers can return it. */
bool err_set(Err *err, ErrKind kind, const char *format, ...) PRINTF_LIKE(3, 4);

/*
 * Put "context: " before the message of a filled *err, unless it is ERR_STOPPED.  Always returns
 * false.
 */
bool err_wrap(Err *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* Set the hint of a filled *err unless it already has one.  Always returns false. */
bool err_hint(Err *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* Empty *err, so that it can be filled again. */
void err_clear(Err *err);

/*
 * The kind that a SQLSTATE stands for; the only place that compares SQLSTATEs.
 * Source: PostgreSQL manual, appendix A "PostgreSQL Error Codes".  `sqlstate` may be NULL
 * (libpq's own errors), which is ERR_LOST.
 */
ErrKind err_kind_of_sqlstate(const char *sqlstate);

/* True for query_canceled: statement_timeout, or somebody's pg_cancel_backend. */
bool err_is_canceled(const Err *err);

/* True for internal_error: also what the server says when two sessions alter one catalog row. */
bool err_is_internal(const Err *err);

#endif
