/*
 * Security labels; see definition_internal.h.
 *
 * A label is set by its provider, a module of the server, which may object to the label, the role or
 * the object.  So all are set while the ALTER is rehearsed, those of dependents on their stand-ins:
 * what the provider refuses is refused before anything is created.
 */
#include "base/buf.h"
#include "pg/sql.h"
#include "phase/definition_internal.h"

/* For relation $2 (quoted) the labels of relation $1 and of its columns. */
static const char SQL_LABELS[] =
    "select pg_catalog.format('security label for %I on %s %s is %L', l.provider,"
    "         case when a.attname is not null then 'column' when c.relkind = 'S' then 'sequence'"
    "           when c.relkind = 'm' then 'materialized view' else 'table' end,"
    "         pg_catalog.concat_ws('.', $2::text, pg_catalog.quote_ident(a.attname)), l.label)"
    "  from pg_catalog.pg_seclabel l join pg_catalog.pg_class c on c.oid = l.objoid"
    "  left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = l.objsubid"
    "   and l.objsubid <> 0"
    " where l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and l.objoid = $1::pg_catalog.oid order by l.objsubid, l.provider";

/* The labels of function $1, for the function that is called like $2. */
static const char SQL_FUNCTION_LABELS[] =
    "select pg_catalog.format('security label for %I on %s %s is %L', l.provider,"
    "         case p.prokind when 'p' then 'procedure' else 'function' end,"
    "         $2::pg_catalog.oid::pg_catalog.regprocedure, l.label)"
    "  from pg_catalog.pg_seclabel l join pg_catalog.pg_proc p on p.oid = l.objoid"
    " where l.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass"
    "   and l.objoid = $1::pg_catalog.oid order by l.provider";

/* The identity sequences of table $1, and their successors in schema $2 (quoted). */
static const char SQL_SEQUENCES[] =
    "select s.oid, pg_catalog.format('%s.%I', $2::text, s.relname)"
    "  from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid"
    "   and s.relkind = 'S'"
    " where d.refobjid = $1::pg_catalog.oid and d.deptype = 'i'"
    "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass order by s.relname";

/* Which labels there are on table $1 and its sequences; compared with what REMOVE looks at. */
static const char SQL_LABELLED[] =
    "select coalesce(pg_catalog.array_agg(label order by label), '{}')::text from ("
    "  select pg_catalog.concat_ws(' ', c.relkind, c.relname, l.objsubid, l.provider) as label"
    "    from pg_catalog.pg_seclabel l join pg_catalog.pg_class c on c.oid = l.objoid"
    "   where l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "     and (c.oid = $1::pg_catalog.oid or c.oid in (select d.objid"
    "            from pg_catalog.pg_depend d where d.refobjid = $1::pg_catalog.oid"
    "             and d.deptype = 'i' and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "             and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass))) s";

/* Takes off the shadow what is not among the labels that it is to have.  Shadow, labels. */
static const char REMOVE[] =
    "declare x record; begin"
    "  for x in select c.oid, c.relkind, a.attname, l.provider"
    "     from pg_catalog.pg_seclabel l join pg_catalog.pg_class c on c.oid = l.objoid"
    "     left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = l.objsubid"
    "      and l.objsubid <> 0"
    "    where l.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "      and (c.oid = %L::pg_catalog.regclass or c.oid in (select d.objid"
    "             from pg_catalog.pg_depend d where d.refobjid = %L::pg_catalog.regclass"
    "              and d.deptype = 'i' and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "              and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass))"
    "      and pg_catalog.concat_ws(' ', c.relkind, c.relname, l.objsubid, l.provider)"
    "          <> all (%L::pg_catalog.text[])"
    "  loop execute pg_catalog.format('security label for %%I on %%s %%s is null', x.provider,"
    "         case when x.attname is not null then 'column' when x.relkind = 'S' then 'sequence'"
    "           else 'table' end, pg_catalog.concat_ws('.', x.oid::pg_catalog.regclass,"
    "             pg_catalog.quote_ident(x.attname))); end loop; end";

bool
definition_list_labels(Migration *run, Conn *conn, uint32_t oid, const char *name, SqlList *list,
                       Err *err)
{
    SUBJECT_AUTO(subject, oid, name, NULL);

    return definition_list(run, conn, SQL_LABELS, &subject, list, err);
}

bool
definition_list_function_labels(Migration *run, Conn *conn, uint32_t oid, uint32_t named_like,
                                SqlList *list, Err *err)
{
    AUTO(Text) *like = mem_format("%u", named_like);
    SUBJECT_AUTO(subject, oid, like, NULL);

    return definition_list(run, conn, SQL_FUNCTION_LABELS, &subject, list, err);
}

/* The labels of table `oid` and its identity sequences, for a table whose sequences have the same
 * names in the shadow's schema. */
static bool
list_all_labels(Migration *run, Conn *conn, uint32_t oid, SqlList *list, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, oid, schema, NULL);
    AUTO(Rows) *rows = NULL;

    if (!definition_list_labels(run, conn, oid, run->shadow_qualified, list, err) ||
        !query_run(conn, SQL_SEQUENCES, subject.params, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        if (!definition_list_labels(run, conn, (uint32_t)rows_int(rows, i, 0),
                                    rows_text(rows, i, 1), list, err))
            return false;
    return true;
}

bool
definition_try_labels(Conn *conn, const SqlList *list, Err *err)
{
    for (int i = 0; i < list->count; i++) {
        if (query_exec(conn, list->items[i], err))
            continue;
        if (err->kind == ERR_LOST || err->kind == ERR_STOPPED || err->kind == ERR_RETRY)
            return false;
        err->kind = ERR_REFUSED;
        err_hint(err, "A security label is set by its provider: it must be loaded for this role's "
                      "sessions, and allow the role to set the label.");
        return err_wrap(err, "carrying over a security label");
    }
    return true;
}

bool
definition_clone_labels(Migration *run, Conn *conn, Err *err)
{
    SqlList list = {0};

    return list_all_labels(run, conn, run->original.oid, &list, err) &&
           definition_try_labels(conn, &list, err);
}

/*
 * The shadow is written to as its owner, but a label that a superuser gave may be one that only a
 * superuser may give.
 */
static void
add_to_surface(Migration *run, const char *sql)
{
    AUTO(Text) *as_superuser =
        run->is_superuser
            ? sql_build("set local role none; %S; set local role %I", sql, run->original.owner)
            : NULL;

    sql_list_add(run, &run->definition.surface, as_superuser == NULL ? sql : as_superuser);
}

bool
definition_read_labels(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, NULL, NULL);
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *body = NULL;
    AUTO(Text) *remove = NULL;
    SqlList list = {0};

    if (!query_one(conn, SQL_LABELLED, subject.params, &rows, err) ||
        !list_all_labels(run, conn, run->shadow.oid, &list, err))
        return false;
    body = sql_build(REMOVE, run->shadow_qualified, run->shadow_qualified, rows_text(rows, 0, 0));
    remove = sql_build("do %L", body);
    add_to_surface(run, remove);
    for (int i = 0; i < list.count; i++)
        add_to_surface(run, list.items[i]);
    return true;
}
