/* What an interrupted run has built already; see resume.h. */
#include <string.h>

#include "base/log.h"
#include "pg/sql.h"
#include "phase/resume.h"

static bool
has(const Rows *rows, const char *statement)
{
    for (int i = 0; i < rows_count(rows); i++)
        if (strcmp(rows_text(rows, i, 0), statement) == 0)
            return true;
    return false;
}

static int
count_known(const SqlList *list, const Rows *rows)
{
    int known = 0;

    for (int i = 0; i < list->count; i++)
        known += has(rows, list->items[i]) ? 1 : 0;
    return known;
}

/* Constraints first, with their indexes; then the other indexes.  $1 = all shadows. */
static const char SQL_DROP_BUILT[] =
    "select coalesce(pg_catalog.string_agg(sql, '; ' order by n), '') from ("
    "  select 1 as n, pg_catalog.format('alter table %I.%I drop constraint %I', s.nspname,"
    "           c.relname, k.conname) as sql"
    "    from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid"
    "    join pg_catalog.pg_namespace s on s.oid = c.relnamespace"
    "   where s.nspname = $1 and k.contype in ('p', 'u', 'x') and k.conparentid = 0"
    "  union all"
    "  select 2, pg_catalog.format('drop index %I.%I', s.nspname, c.relname)"
    "    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid"
    "    join pg_catalog.pg_namespace s on s.oid = c.relnamespace"
    "   where s.nspname = $1 and not c.relispartition"
    "     and not exists (select from pg_catalog.pg_constraint k where k.conindid = c.oid"
    "           and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x'))) d";

static bool
drop_built(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *forget = sql_build("delete from %S", run->names.built);
    AUTO(Rows) *rows = NULL;

    log_info("indexes are not what they were when the run was interrupted; building all again");
    return query_one(conn, SQL_DROP_BUILT, (const char *const[]){run->names.shadow_schema, NULL},
                     &rows, err) &&
           query_exec(conn, rows_text(rows, 0, 0), err) && query_exec(conn, forget, err);
}

static void
list_missing(Migration *run, const SqlList *all, const Rows *built, SqlList *missing)
{
    for (int i = 0; i < all->count; i++)
        if (built == NULL || !has(built, all->items[i]))
            sql_list_add(run, missing, all->items[i]);
}

bool
resume_skip_built(Migration *run, Conn *conn, SqlList *indexes, SqlList *constraints, Err *err)
{
    const Definition *definition = &run->definition;
    AUTO(Text) *sql = sql_build("select distinct statement from %S", run->names.built);
    AUTO(Rows) *built = NULL;
    bool all = false;

    if (!query_simple(conn, sql, &built, err))
        return err_wrap(err, "reading what is built already");
    if (count_known(&definition->indexes, built) + count_known(&definition->constraints, built) <
        rows_count(built)) {
        if (!drop_built(run, conn, err))
            return err_wrap(err, "dropping indexes of the shadow table");
        all = true;
    }
    list_missing(run, &definition->indexes, all ? NULL : built, indexes);
    list_missing(run, &definition->constraints, all ? NULL : built, constraints);
    return true;
}
