/* What a log may show of the view pg_stat_activity, as SQL. */
#ifndef WALTER_ACTIVITY_H
#define WALTER_ACTIVITY_H

/*
 * The beginning of the query of the session `a`, in one line.  It ends where the first literal begins,
 * because that may be anything: a value of a row, the password of a role.
 */
#define ACTIVITY_QUERY                                                     \
    "pg_catalog.left(pg_catalog.regexp_replace(pg_catalog.regexp_replace(" \
    "a.query, '(''|[$]\\w*[$]).*', '''...'), '\\s+', ' ', 'g'), 80)"

#endif
