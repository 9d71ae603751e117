/*
 * Row level security and rules: what decides over rows that are read or written; see
 * definition_internal.h.
 *
 * Both may speak of the table itself in their expressions.  The server writes them, and the table's
 * name is replaced in the text: by the shadow's for the rehearsal, and back afterwards.  They are
 * made again after the tables have moved, when every name means what it will mean from then on.
 */
#include "phase/definition_internal.h"

/* $1 = the table, $2 = its name, $3 = the name of the table that gets them. */
static const char SQL_POLICIES[] =
    "select pg_catalog.format('create policy %I on %s as %s for %s to %s', polname, $2::text,"
    "         case when polpermissive then 'permissive' else 'restrictive' end,"
    "         case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'"
    "           when 'd' then 'delete' else 'all' end,"
    "         (select pg_catalog.string_agg(case r when 0 then 'public'"
    "             else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(r)) end, ', ')"
    "            from pg_catalog.unnest(polroles) r))"
    "         || coalesce(' using (' || pg_catalog.pg_get_expr(polqual, polrelid) || ')', '')"
    "         || coalesce(' with check (' || pg_catalog.pg_get_expr(polwithcheck, polrelid) || ')',"
    "              ''),"
    "       'comment on policy ' || pg_catalog.format('%I on %s is ', polname, $3::text)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(oid, 'pg_policy')), null"
    "  from pg_catalog.pg_policy where polrelid = $1::pg_catalog.oid order by polname";

static const char SQL_RULES[] =
    "select pg_catalog.pg_get_ruledef(oid),"
    "       case when ev_enabled <> 'O' then pg_catalog.format('alter table %s %s rule %I',"
    "         $3::text, case ev_enabled when 'D' then 'disable' when 'R' then 'enable replica'"
    "         else 'enable always' end, rulename) end,"
    "       'comment on rule ' || pg_catalog.format('%I on %s is ', rulename, $3)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(oid, 'pg_rewrite'))"
    "  from pg_catalog.pg_rewrite where ev_class = $1::pg_catalog.oid and $2::text is not null"
    " order by rulename";

static const char SQL_ROW_SECURITY[] =
    "select pg_catalog.format('alter table %s enable row level security', $2::text)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relrowsecurity"
    " union all"
    " select pg_catalog.format('alter table %s force row level security', $2)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relforcerowsecurity";

/*
 * The old table keeps neither: what they speak of could not be dropped any more, and it has no use
 * for them.  Where row level security is enabled, it lets nobody but the owner see anything then.
 */
static const char SQL_DROP_OLD[] =
    "select pg_catalog.format('drop policy %I on %s', polname, $2::text)"
    "  from pg_catalog.pg_policy where polrelid = $1::pg_catalog.oid"
    " union all"
    " select pg_catalog.format('drop rule %I on %s', rulename, $2)"
    "  from pg_catalog.pg_rewrite where ev_class = $1::pg_catalog.oid";

/* The texts of the query's rows, the first of each naming the new table in place of the old one. */
static bool
retarget(Migration *run, Conn *conn, const char *query, bool back, SqlList *list, Err *err)
{
    const char *from = back ? run->shadow_qualified : run->original.qualified;
    const char *to = back ? run->original.qualified : run->shadow_qualified;
    SUBJECT_AUTO(subject, back ? run->shadow.oid : run->original.oid, from, to);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, query, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const char *text = ddl_retarget(rows_text(rows, row, 0),
                                        back ? run->names.shadow_schema : run->original.schema,
                                        run->original.name, to, run->arena, err);

        if (text == NULL)
            return false;
        sql_list_add(run, list, text);
        definition_add(run, list, rows_text(rows, row, 1));
        definition_add(run, list, rows_text(rows, row, 2));
    }
    return true;
}

bool
definition_clone_rules(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);
    SqlList list = {0};

    if (!retarget(run, conn, SQL_POLICIES, false, &list, err) ||
        !retarget(run, conn, SQL_RULES, false, &list, err))
        return false;
    for (int i = 0; i < list.count; i++)
        if (!query_exec(conn, list.items[i], err)) {
            if (err->kind == ERR_REFUSED)
                err_hint(err,
                         "The role %s makes the table's policies and rules again and must be "
                         "allowed to name what they speak of; or connect as a superuser.",
                         conn_user(conn));
            return err_wrap(err, "rehearsing policies and rules");
        }
    return definition_run(conn, SQL_ROW_SECURITY, &subject, err);
}

bool
definition_read_rules(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->original.qualified, NULL);

    return definition_list(run, conn, SQL_DROP_OLD, &subject, &run->definition.swap, err) &&
           retarget(run, conn, SQL_POLICIES, true, &run->definition.moved, err) &&
           retarget(run, conn, SQL_RULES, true, &run->definition.moved, err);
}
