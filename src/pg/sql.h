/*
 * The only place that puts names and literals into SQL text.
 *
 * Directives: %I a quoted identifier, %L a quoted literal (NULL gives NULL), %D a number (int64_t),
 * %S a piece of SQL that the server or this module wrote (a quoted qualified name, an expression
 * list) - never anything that came from the operator or from data, %% a percent sign.
 * Values of a statement travel as parameters, not as %L, wherever the server accepts parameters.
 */
#ifndef WALTER_SQL_H
#define WALTER_SQL_H

#include "base/buf.h"

/* Append the filled template to `sql`.  An unknown directive aborts: it is a bug of ours. */
void sql_add(Buf *sql, const char *template, ...);

/* The filled template as new text; free it with free(). */
char *sql_build(const char *template, ...);

/* Append `name` as a quoted identifier, or `value` as a quoted literal. */
void sql_add_identifier(Buf *sql, const char *name);
void sql_add_literal(Buf *sql, const char *value);

#endif
