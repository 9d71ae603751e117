/*
 * Membership in publications, with column lists and row filters; see definition_internal.h.
 *
 * A publication of the schema has the new table as soon as the swap has moved it, and one FOR ALL
 * TABLES has the shadow from the beginning: for these there is nothing to do.  The run's own
 * publication stays out of all this.
 */
#include "pg/sql.h"
#include "pg/version.h"
#include "phase/definition_internal.h"

/* $1 = the table, $2 = the one that is to be added, quoted. */
#define MEMBERS(members)                                                               \
    "select pg_catalog.format('alter publication %I add table only %s%s', p.pubname, " \
    "$2::text, " members "),"                                                          \
    "       pg_catalog.format('alter publication %I drop table only %s', p.pubname,"   \
    "         r.prrelid::pg_catalog.regclass)"                                         \
    "  from pg_catalog.pg_publication_rel r"                                           \
    "  join pg_catalog.pg_publication p on p.oid = r.prpubid"                          \
    " where r.prrelid = $1::pg_catalog.oid and p.pubname !~ '^walter_[0-9a-f]{8}$'"    \
    " order by p.pubname"

static const char SQL_MEMBERS_PLAIN[] = MEMBERS("''");
static const char SQL_MEMBERS[] = MEMBERS(
    "coalesce((select ' (' || pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', '"
    "             order by a.attnum) || ')' from pg_catalog.pg_attribute a"
    "           where a.attrelid = r.prrelid and a.attnum = any (r.prattrs::pg_catalog.int2[])),"
    "          '')"
    " || coalesce(' where (' || pg_catalog.pg_get_expr(r.prqual, r.prrelid) || ')', '')");

/* $1 = the shadow: a publication FOR ALL TABLES lets nobody update it without an identity. */
static const char SQL_NO_IDENTITY[] =
    "select pg_catalog.min(p.pubname::text) from pg_catalog.pg_publication p"
    " where p.puballtables and (p.pubupdate or p.pubdelete) and not exists ("
    "   select from pg_catalog.pg_index x where x.indrelid = $1::pg_catalog.oid and x.indimmediate"
    "      and (x.indisprimary or x.indisreplident))";

static bool
read_members(Conn *conn, uint32_t oid, const char *target, Rows **rows, Err *err)
{
    SUBJECT_AUTO(subject, oid, target, NULL);

    return query_run(conn, version_has_publication_filters(conn) ? SQL_MEMBERS : SQL_MEMBERS_PLAIN,
                     subject.params, rows, err);
}

/* Publications are the connected role's business, not that of the table's owner. */
static bool
run_as_connected(const Migration *run, Conn *conn, const char *sql, Err *err)
{
    AUTO(Text) *text = run->is_superuser ? sql_build("%S", sql)
                                         : sql_build("set local role none;%S;set local role %I",
                                                     sql, run->original.owner);

    return query_exec(conn, text, err);
}

bool
definition_clone_publications(Migration *run, Conn *conn, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!read_members(conn, run->original.oid, run->shadow_qualified, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        if (!run_as_connected(run, conn, rows_text(rows, row, 0), err))
            return err_wrap(err, "rehearsing publications");
    return true;
}

static bool
check_identity(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_NO_IDENTITY, subject.params, &rows, err))
        return false;
    if (rows_text(rows, 0, 0) == NULL)
        return true;
    err_set(err, ERR_REFUSED,
            "without a primary key the table could not be updated any more: publication \"%s\" is "
            "FOR ALL TABLES and publishes updates",
            rows_text(rows, 0, 0));
    return err_hint(err, "Replace it by a publication that lists its tables.");
}

bool
definition_read_publications(Migration *run, Conn *conn, Err *err)
{
    AUTO(Rows) *before = NULL;
    AUTO(Rows) *after = NULL;

    if (!check_identity(run, conn, err) ||
        !read_members(conn, run->original.oid, run->original.qualified, &before, err) ||
        !read_members(conn, run->shadow.oid, run->original.qualified, &after, err))
        return false;
    for (int row = 0; row < rows_count(before); row++)
        sql_list_add(run, &run->definition.swap, rows_text(before, row, 1));
    for (int row = 0; row < rows_count(after); row++) {
        sql_list_add(run, &run->definition.moved, rows_text(after, row, 0));
        /* the shadow is not to be published before */
        if (!run_as_connected(run, conn, rows_text(after, row, 1), err))
            return err_wrap(err, "ending the rehearsal of publications");
    }
    return true;
}
