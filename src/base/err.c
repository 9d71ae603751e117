/* Errors as values; see err.h. */
#include "err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages are one line: a newline of the server's becomes a space. */
static void
flatten(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    for (char *at = text; *at != '\0'; at++)
        if (*at == '\n' || *at == '\r' || *at == '\t')
            *at = ' ';
}

bool
err_set(Err *err, ErrKind kind, const char *format, ...)
{
    va_list args;

    if (err->kind != ERR_NONE)
        return false;
    err->kind = kind;
    err->told = false;
    err->sqlstate[0] = '\0';
    err->hint[0] = '\0';
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    flatten(err->message);
    return false;
}

bool
err_wrap(Err *err, const char *format, ...)
{
    char inner[sizeof err->message];
    va_list args;
    size_t used;

    /* where it was when the operator stopped it is nobody's fault */
    if (err->kind == ERR_STOPPED)
        return false;
    memcpy(inner, err->message, sizeof inner);
    va_start(args, format);
    (void)vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    used = strlen(err->message);
    (void)snprintf(err->message + used, sizeof err->message - used, ": %s", inner);
    return false;
}

bool
err_hint(Err *err, const char *format, ...)
{
    va_list args;

    if (err->kind == ERR_NONE || err->hint[0] != '\0')
        return false;
    va_start(args, format);
    (void)vsnprintf(err->hint, sizeof err->hint, format, args);
    va_end(args);
    flatten(err->hint);
    return false;
}

void
err_clear(Err *err)
{
    memset(err, 0, sizeof *err);
}

/* A SQLSTATE or, where shorter, the class it begins with. */
static const struct {
    const char *prefix;
    ErrKind kind;
} KINDS[] = {
    {"40001", ERR_RETRY},   /* serialization_failure */
    {"40P01", ERR_RETRY},   /* deadlock_detected */
    {"55P03", ERR_RETRY},   /* lock_not_available */
    {"57P01", ERR_LOST},    /* admin_shutdown */
    {"57P02", ERR_LOST},    /* crash_shutdown */
    {"57P03", ERR_LOST},    /* cannot_connect_now */
    {"57P05", ERR_LOST},    /* idle_session_timeout */
    {"25P03", ERR_LOST},    /* idle_in_transaction_session_timeout */
    {"25P04", ERR_LOST},    /* transaction_timeout */
    {"08", ERR_LOST},       /* connection exceptions */
    {"22", ERR_DATA},       /* data exceptions */
    {"23", ERR_DATA},       /* integrity constraint violations */
    {"44", ERR_DATA},       /* with check option violation */
    {"54000", ERR_DATA},    /* program_limit_exceeded: a value too large for an index */
    {"P0", ERR_DATA},       /* raised by a function of the owner's */
    {"42501", ERR_REFUSED}, /* insufficient_privilege */
    {"28", ERR_REFUSED},    /* invalid authorization: wrong password, no such role */
    {"3D", ERR_REFUSED},    /* no such database */
};

ErrKind
err_kind_of_sqlstate(const char *sqlstate)
{
    if (sqlstate == NULL || sqlstate[0] == '\0')
        return ERR_LOST;
    for (size_t i = 0; i < sizeof KINDS / sizeof KINDS[0]; i++)
        if (strncmp(sqlstate, KINDS[i].prefix, strlen(KINDS[i].prefix)) == 0)
            return KINDS[i].kind;
    return ERR_FAILED;
}

bool
err_is_canceled(const Err *err)
{
    return strcmp(err->sqlstate, "57014") == 0;
}

bool
err_is_internal(const Err *err)
{
    return strcmp(err->sqlstate, "XX000") == 0;
}
