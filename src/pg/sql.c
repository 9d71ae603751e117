/* Names and literals in SQL text; see sql.h. */
#include "pg/sql.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
sql_add_identifier(Buf *sql, const char *name)
{
    buf_add_byte(sql, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            buf_add_byte(sql, '"');
        buf_add_byte(sql, *name);
    }
    buf_add_byte(sql, '"');
}

/* A backslash is only special in E'' strings, so that form is used exactly when there is one. */
void
sql_add_literal(Buf *sql, const char *value)
{
    if (value == NULL) {
        buf_add_text(sql, "NULL");
        return;
    }
    buf_add_text(sql, strchr(value, '\\') != NULL ? " E'" : "'");
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            buf_add_byte(sql, *value);
        buf_add_byte(sql, *value);
    }
    buf_add_byte(sql, '\'');
}

static void
add_one(Buf *sql, char directive, va_list *args)
{
    switch (directive) {
    case 'I':
        sql_add_identifier(sql, va_arg(*args, const char *));
        return;
    case 'L':
        sql_add_literal(sql, va_arg(*args, const char *));
        return;
    case 'D':
        buf_printf(sql, "%" PRId64, va_arg(*args, int64_t));
        return;
    case 'S':
        buf_add_text(sql, va_arg(*args, const char *));
        return;
    case '%':
        buf_add_byte(sql, '%');
        return;
    }
    fprintf(stderr, "walter: unknown directive %%%c in an SQL template\n", directive);
    abort();
}

static void
add_all(Buf *sql, const char *template, va_list *args)
{
    for (const char *at = template; *at != '\0'; at++) {
        if (*at != '%')
            buf_add_byte(sql, *at);
        else
            add_one(sql, *++at, args);
    }
}

void
sql_add(Buf *sql, const char *template, ...)
{
    va_list args;

    va_start(args, template);
    add_all(sql, template, &args);
    va_end(args);
}

char *
sql_build(const char *template, ...)
{
    Buf sql = {0};
    va_list args;

    va_start(args, template);
    add_all(&sql, template, &args);
    va_end(args);
    return buf_take(&sql);
}
