/*
 * Extended statistics; see definition_internal.h.
 *
 * Their names are those of a schema, and need not be in the table's.  On the shadow the object that
 * plays number 4711 is "stx_4711" in the shadow's schema, and is built there by ANALYZE; the swap
 * gives it the name and the schema of the other, which goes where the old table goes.
 */
#include "phase/definition_internal.h"

/*
 * $1 original, $2 its name, $3 the shadow's schema, unquoted.  pg_get_statisticsobjdef names the
 * object right behind "CREATE STATISTICS", so that name is cut out by position.
 */
static const char SQL_CLONE_STATISTICS[] =
    "select pg_catalog.format('create statistics %I.stx_%s', $3::text, s.oid)"
    "         || pg_catalog.substr(pg_catalog.pg_get_statisticsobjdef(s.oid), 1"
    "              + pg_catalog.length('CREATE STATISTICS '"
    "                  || pg_catalog.format('%I.%I', n.nspname, s.stxname))),"
    "       case when (pg_catalog.to_jsonb(s)->>'stxstattarget')::int >= 0 then"
    "         pg_catalog.format('alter statistics %I.stx_%s set statistics %s', $3, s.oid,"
    "           pg_catalog.to_jsonb(s)->>'stxstattarget') end,"
    "       case when pg_catalog.pg_get_userbyid(s.stxowner) <> current_user then"
    "         pg_catalog.format('alter statistics %I.stx_%s owner to %I', $3, s.oid,"
    "           pg_catalog.pg_get_userbyid(s.stxowner)) end,"
    "       'comment on statistics ' || pg_catalog.format('%I.stx_%s is ', $3, s.oid)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(s.oid, 'pg_statistic_ext'))"
    "  from pg_catalog.pg_statistic_ext s"
    "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
    " where s.stxrelid = $1::pg_catalog.oid and $2::text is not null order by s.oid";

/*
 * $1 original, $2 shadow (quoted), $3 the old table's schema, unquoted.  Those of the original must
 * have gone before those of the shadow take their names.
 */
static const char SQL_STATISTICS[] =
    "with o as ("
    "  select s.oid, n.nspname, s.stxname, pg_catalog.row_number() over ("
    "           partition by s.stxname order by s.oid) as number"
    "    from pg_catalog.pg_statistic_ext s"
    "    join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
    "   where s.stxrelid = $1::pg_catalog.oid"
    ")"
    "select sql from ("
    "  select 1, o.oid, case when number > 1 then pg_catalog.format("
    "           'alter statistics %I.%I rename to stx_%s', nspname, stxname, oid) end"
    "    from o"
    "  union all"
    "  select 2, o.oid, pg_catalog.format('alter statistics %I.%I set schema %I', nspname,"
    "           case when number > 1 then 'stx_' || oid else stxname end, $3::text)"
    "    from o"
    "  union all"
    "  select 3, o.oid, pg_catalog.format('alter statistics %I.%I owner to %I;"
    "alter statistics %I.%I rename to %I; alter statistics %I.%I set schema %I', n.nspname,"
    "           s.stxname, pg_catalog.pg_get_userbyid(s.stxowner), n.nspname, s.stxname, o.stxname,"
    "           n.nspname, o.stxname, o.nspname)"
    "    from pg_catalog.pg_statistic_ext s"
    "    join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
    "    join o on s.stxname = 'stx_' || o.oid"
    "   where s.stxrelid = $2::text::pg_catalog.regclass"
    ") s (step, oid, sql) where sql is not null order by step, oid";

/*
 * Those of matview $1, for its successor: made in schema $2 (unquoted) as "stx_4711", or, where that
 * is empty, under their own names; with what is set on them; how the old one goes to schema $3; and
 * how the new one gets its name and schema.
 */
static const char SQL_MATVIEW_STATISTICS[] =
    "select 'create statistics ' || x.made"
    "         || pg_catalog.substr(pg_catalog.pg_get_statisticsobjdef(s.oid), 1"
    "              + pg_catalog.length('CREATE STATISTICS ' || x.own)),"
    "       pg_catalog.concat_ws(';',"
    "         case when (pg_catalog.to_jsonb(s)->>'stxstattarget')::int >= 0 then"
    "           pg_catalog.format('alter statistics %s set statistics %s', x.made,"
    "             pg_catalog.to_jsonb(s)->>'stxstattarget') end,"
    "         'comment on statistics ' || x.made || ' is ' || pg_catalog.quote_literal("
    "           pg_catalog.obj_description(s.oid, 'pg_statistic_ext')),"
    /* the owner must be able to create where it is */
    "         case when x.made <> x.own then pg_catalog.format("
    "           'grant usage, create on schema %I to %I', $2, x.owner) end,"
    "         pg_catalog.format('alter statistics %s owner to %I', x.made, x.owner)),"
    "       pg_catalog.format('alter statistics %s rename to stx_%s;"
    "alter statistics %I.stx_%s set schema %I', x.own, s.oid, n.nspname, s.oid, $3::text),"
    "       case when x.made <> x.own then pg_catalog.format('alter statistics %s rename to %I;"
    "alter statistics %I.%I set schema %I', x.made, s.stxname, $2, s.stxname, n.nspname) end"
    "  from pg_catalog.pg_statistic_ext s"
    "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace, lateral ("
    "    select pg_catalog.format('%I.%I', n.nspname, s.stxname),"
    "           case when $2::text <> '' then pg_catalog.format('%I.stx_%s', $2, s.oid) else"
    "             pg_catalog.format('%I.%I', n.nspname, s.stxname) end,"
    "           pg_catalog.pg_get_userbyid(s.stxowner)) x (own, made, owner)"
    " where s.stxrelid = $1::pg_catalog.oid order by s.oid";

/* Objects that were made meanwhile.  $1 = the altered shadow. */
static const char SQL_SURFACE[] =
    "select pg_catalog.pg_get_statisticsobjdef(oid) from pg_catalog.pg_statistic_ext"
    " where stxrelid = $1::pg_catalog.oid"
    " union all"
    " select pg_catalog.format('alter statistics %I.%I set statistics %s', n.nspname, s.stxname,"
    "         coalesce(pg_catalog.to_jsonb(s)->>'stxstattarget', '-1'))"
    "  from pg_catalog.pg_statistic_ext s"
    "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
    " where s.stxrelid = $1::pg_catalog.oid"
    " union all"
    " select pg_catalog.format('comment on statistics %I.%I is %s', n.nspname, s.stxname,"
    "         pg_catalog.quote_nullable(pg_catalog.obj_description(s.oid, 'pg_statistic_ext')))"
    "  from pg_catalog.pg_statistic_ext s"
    "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
    " where s.stxrelid = $1::pg_catalog.oid";

/* Those of objects that were dropped meanwhile stay behind, and would keep the schema.  $1 = it. */
static const char SQL_DROP_REST[] =
    "select pg_catalog.format('do %L', pg_catalog.format("
    "  'declare s record; begin for s in select stxname from pg_catalog.pg_statistic_ext"
    "     where stxnamespace = pg_catalog.to_regnamespace(%L)"
    "   loop execute pg_catalog.format(%L, s.stxname); end loop; end',"
    "  pg_catalog.quote_ident($1::text),"
    "  pg_catalog.format('drop statistics %I.', $1::text) || '%I'))";

bool
definition_clone_statistics(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->original.qualified, run->names.shadow_schema);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_CLONE_STATISTICS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const char *create =
            ddl_retarget(rows_text(rows, row, 0), run->original.schema, run->original.name,
                         run->shadow_qualified, run->arena, err);

        if (create == NULL || !query_exec(conn, create, err))
            return err_wrap(err, "rehearsing extended statistics");
        for (int column = 1; column < rows_columns(rows); column++)
            if (rows_text(rows, row, column) != NULL &&
                !query_exec(conn, rows_text(rows, row, column), err))
                return err_wrap(err, "rehearsing extended statistics");
    }
    return true;
}

bool
definition_read_statistics(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, run->names.schema);
    SUBJECT_AUTO(shadow, run->shadow.oid, NULL, NULL);

    return definition_list(run, conn, SQL_SURFACE, &shadow, &run->definition.surface, err) &&
           definition_list(run, conn, SQL_STATISTICS, &subject, &run->definition.swap, err);
}

bool
definition_drop_other_statistics(Migration *run, Conn *conn, Err *err)
{
    const Subject schema = {.params = {run->names.shadow_schema}};

    return definition_list(run, conn, SQL_DROP_REST, &schema, &run->definition.swap, err);
}

bool
definition_list_statistics(Migration *run, Conn *conn, const Dependent *matview, const char *place,
                           SqlList *list, Err *err)
{
    bool in_swap = place == matview->qualified;
    SUBJECT_AUTO(subject, matview->oid, in_swap ? "" : run->names.shadow_schema, run->names.schema);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_MATVIEW_STATISTICS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const char *create = ddl_retarget(rows_text(rows, row, 0), matview->schema, matview->name,
                                          place, run->arena, err);

        if (create == NULL)
            return err_wrap(err, "reading extended statistics");
        sql_list_add(run, list, create);
        sql_list_add(run, list, rows_text(rows, row, 1));
        /* before what is left in the shadow's schema is dropped */
        definition_add(run, &run->definition.swap, rows_text(rows, row, 2));
        definition_add(run, &run->definition.swap, rows_text(rows, row, 3));
    }
    return true;
}
