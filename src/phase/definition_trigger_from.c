/*
 * Constraint triggers of other tables that name this one in their FROM clause; see
 * definition_internal.h.
 *
 * They name it by its oid, and no ALTER changes them, so they are not rehearsed: the swap drops them,
 * under a lock on their table, and makes them again when the new table has the name.
 */
#include "phase/definition_internal.h"

/* Per trigger: how it goes, how it comes again with all that is set on it, and its table. */
static const char SQL_TRIGGERS_FROM[] =
    "select pg_catalog.format('drop trigger %I on %s', g.tgname, o.name),"
    "       pg_catalog.concat_ws(';', pg_catalog.pg_get_triggerdef(g.oid),"
    "         case when g.tgenabled <> 'O' then pg_catalog.format('alter table %s %s trigger %I',"
    "           o.name, case g.tgenabled when 'D' then 'disable' when 'R' then 'enable replica'"
    "           else 'enable always' end, g.tgname) end,"
    "         (select pg_catalog.string_agg(pg_catalog.format("
    "            'alter trigger %I on %s depends on extension %I', g.tgname, o.name, e.extname),"
    "            ';') from pg_catalog.pg_depend d"
    "            join pg_catalog.pg_extension e on e.oid = d.refobjid"
    "           where d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and d.objid = g.oid"
    "             and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
    "             and d.deptype = 'x'),"
    "         'comment on trigger ' || pg_catalog.format('%I on %s is ', g.tgname, o.name)"
    "           || pg_catalog.quote_literal(pg_catalog.obj_description(g.oid, 'pg_trigger'))),"
    "       o.name"
    "  from pg_catalog.pg_trigger g"
    "  join (select c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) as name"
    "          from pg_catalog.pg_class c"
    "          join pg_catalog.pg_namespace n on n.oid = c.relnamespace) o on o.oid = g.tgrelid"
    " where g.tgconstrrelid = $1::pg_catalog.oid and g.tgrelid <> $1::pg_catalog.oid"
    "   and not g.tgisinternal order by o.oid, g.tgname";

bool
definition_read_triggers_from(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_TRIGGERS_FROM, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        sql_list_add(run, &run->definition.swap, rows_text(rows, row, 0));
        sql_list_add(run, &run->definition.moved, rows_text(rows, row, 1));
        sql_list_add_once(run, &run->definition.partners, rows_text(rows, row, 2));
    }
    return true;
}
