/* What hangs on a table, as SQL; see definition.h. */
#include "phase/definition.h"

#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/definition_internal.h"
#include "phase/dependents.h"
#include "phase/identity.h"

/* Names are the same on both tables at this point, so columns are matched by name. */
static const char SQL_CLONE_COLUMNS[] =
    "select pg_catalog.format('alter table only %s alter column %I set statistics %s', $2::text,"
    "         attname, attstattarget)"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attnum > 0"
    "   and not attisdropped and attstattarget >= 0"
    " union all"
    " select pg_catalog.format('alter table only %s alter column %I set (%s)', $2, attname,"
    "         (select pg_catalog.string_agg(pg_catalog.format('%I = %L', option_name, "
    "option_value),"
    "                 ', ') from pg_catalog.pg_options_to_table(attoptions)"
    "           where option_name in ('n_distinct', 'n_distinct_inherited')))"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attnum > 0"
    "   and not attisdropped and exists (select from pg_catalog.pg_options_to_table(attoptions)"
    "           where option_name in ('n_distinct', 'n_distinct_inherited'))"
    " union all"
    " select pg_catalog.format('alter table %s set (%s)', $2, o.list)"
    "  from (select pg_catalog.string_agg(pg_catalog.format('%s%I = %L', x.prefix, x.option_name,"
    "                 x.option_value), ', ') as list from ("
    "          select '' as prefix, p.* from pg_catalog.pg_class c,"
    "                 pg_catalog.pg_options_to_table(c.reloptions) p where c.oid = "
    "$1::pg_catalog.oid"
    "          union all"
    "          select 'toast.', p.* from pg_catalog.pg_class c"
    "            join pg_catalog.pg_class t on t.oid = c.reltoastrelid,"
    "                 pg_catalog.pg_options_to_table(t.reloptions) p"
    "           where c.oid = $1::pg_catalog.oid) x) o where o.list is not null"
    " union all"
    " select pg_catalog.format('alter table %s set tablespace %I', $2, s.spcname)"
    "  from pg_catalog.pg_class c join pg_catalog.pg_tablespace s on s.oid = c.reltablespace"
    " where c.oid = $1::pg_catalog.oid"
    " union all"
    " select pg_catalog.format('comment on table %s is %L', $2,"
    "         pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class'))"
    "  where pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class') is not null"
    " union all"
    " select case relreplident when 'f' then pg_catalog.format('alter table %s replica identity"
    " full', $2) else pg_catalog.format('alter table %s replica identity nothing', $2) end"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relreplident in ('f', 'n')";

/* LIKE makes a NOT VALID check (or NOT NULL, from 18 on) valid and knows no NO INHERIT. */
static const char SQL_CLONE_CHECKS[] =
    "select pg_catalog.format('alter table %s drop constraint %I', $2::text, conname),"
    "       pg_catalog.format('alter table %s add constraint %I %s', $2, conname,"
    "         pg_catalog.pg_get_constraintdef(oid)),"
    "       'comment on constraint ' || pg_catalog.format('%I on %s is ', conname, $2)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(oid, 'pg_constraint'))"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and (contype in ('c', 'n') and not convalidated"
    "        or contype = 'c' and connoinherit)";

/*
 * A trigger, its state and the extensions it depends on, its comment; and its name.  Not those that a
 * partition's parent gives it.
 */
static const char SQL_TRIGGERS[] =
    "select pg_catalog.pg_get_triggerdef(oid),"
    "       pg_catalog.concat_ws(';',"
    "         case when tgenabled <> 'O' then pg_catalog.format('alter table %s %s trigger %I',"
    "           $2::text, case tgenabled when 'D' then 'disable' when 'R' then 'enable replica'"
    "           else 'enable always' end, tgname) end,"
    "         (select pg_catalog.string_agg(pg_catalog.format("
    "            'alter trigger %I on %s depends on extension %I', tgname, $2, e.extname), ';')"
    "            from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid"
    "           where d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and d.objid = g.oid"
    "             and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
    "             and d.deptype = 'x')),"
    "       'comment on trigger ' || pg_catalog.format('%I on %s is ', tgname, $2)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(oid, 'pg_trigger')), tgname"
    "  from pg_catalog.pg_trigger g where tgrelid = $1::pg_catalog.oid and not tgisinternal"
    "   and tgparentid = 0"
    " order by tgname";

/*
 * What can be said of a table at any time and changes no row; said in full, so that what is not set
 * is unset.
 */
static const char SQL_SURFACE[] =
    "select pg_catalog.format('comment on table %s is %s', $2::text, pg_catalog.quote_nullable("
    "         pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class')))"
    " union all"
    " select pg_catalog.format('comment on column %s.%I is %s', $2, attname,"
    "         pg_catalog.quote_nullable(pg_catalog.col_description(attrelid, attnum)))"
    "  from pg_catalog.pg_attribute"
    " where attrelid = $1::pg_catalog.oid and attnum > 0 and not attisdropped"
    " union all"
    " select pg_catalog.format('alter table only %s alter column %I set statistics %s', $2,"
    "         attname, coalesce(attstattarget, -1))"
    "  from pg_catalog.pg_attribute"
    " where attrelid = $1::pg_catalog.oid and attnum > 0 and not attisdropped"
    " union all"
    " select pg_catalog.format('comment on constraint %I on %s is %s', conname, $2,"
    "         pg_catalog.quote_nullable(pg_catalog.obj_description(oid, 'pg_constraint')))"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and contype = 'c' and convalidated"
    " union all"
    " select pg_catalog.format('comment on sequence %I.%I is %s', n.nspname, s.relname,"
    "         pg_catalog.quote_nullable(pg_catalog.obj_description(s.oid, 'pg_class')))"
    "  from pg_catalog.pg_depend d"
    "  join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'"
    "  join pg_catalog.pg_namespace n on n.oid = s.relnamespace"
    " where d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refobjid = $1::pg_catalog.oid and d.deptype in ('a', 'i')";

/*
 * What the load must not meet, dropped from the shadow, and what else is in its schema: the tables
 * that only kept names taken.  Foreign keys go first, for one to the table itself needs its index.
 */
static const char SQL_STRIP[] =
    "select sql from ("
    "  select case contype when 'f' then 1 else 2 end,"
    "         pg_catalog.format('alter table %s drop constraint %I', $2::text, conname)"
    "    from pg_catalog.pg_constraint where conrelid = $1::pg_catalog.oid"
    "     and (contype in ('f', 'p', 'u', 'x') or (contype in ('c', 'n') and not convalidated))"
    "  union all"
    "  select 3, pg_catalog.format('drop trigger %I on %s', tgname, $2)"
    "    from pg_catalog.pg_trigger where tgrelid = $1::pg_catalog.oid and not tgisinternal"
    "  union all"
    "  select 3, pg_catalog.format('drop policy %I on %s', polname, $2)"
    "    from pg_catalog.pg_policy where polrelid = $1::pg_catalog.oid"
    "  union all"
    "  select 3, pg_catalog.format('drop rule %I on %s', rulename, $2)"
    "    from pg_catalog.pg_rewrite where ev_class = $1::pg_catalog.oid"
    "  union all"
    "  select 4, pg_catalog.format('drop index %I.%I', n.nspname, ic.relname)"
    "    from pg_catalog.pg_index x join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    "    join pg_catalog.pg_namespace n on n.oid = ic.relnamespace"
    "   where x.indrelid = $1::pg_catalog.oid and not exists ("
    "     select from pg_catalog.pg_constraint k where k.conindid = ic.oid"
    "        and k.conrelid = x.indrelid and k.contype in ('p', 'u', 'x'))"
    "  union all"
    "  select 5, pg_catalog.format('alter table %s alter column %I set generated by default', $2,"
    "         attname)"
    "    from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attidentity = 'a'"
    "     and not attisdropped"
    "  union all"
    "  select 6, pg_catalog.format('alter table %s replica identity default', $2)"
    "    from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relreplident in ('f', 'n')"
    "  union all"
    "  select 7, pg_catalog.format('alter table %s disable row level security, no force row level"
    " security', $2) from pg_catalog.pg_class"
    "   where oid = $1::pg_catalog.oid and (relrowsecurity or relforcerowsecurity)"
    "  union all"
    "  select 8, pg_catalog.format('drop table %I.%I', n.nspname, c.relname)"
    "    from pg_catalog.pg_class t join pg_catalog.pg_class c on c.relnamespace = t.relnamespace"
    "     and c.relkind = 'r' and c.oid <> t.oid"
    "    join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "   where t.oid = $1::pg_catalog.oid and not c.relispartition"
    ") s (step, sql) order by step";

/* The counterpart of SQL_STRIP for what is neither index, key nor trigger. */
static const char SQL_FLAGS[] =
    "select pg_catalog.format('alter table %s add constraint %I %s', $2::text, conname,"
    "         pg_catalog.pg_get_constraintdef(oid))"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and contype in ('c', 'n') and not convalidated"
    /* in a tree it comes with the parent's, which is in the same schema */
    "   and not (coninhcount > 0 and exists (select from pg_catalog.pg_inherits i"
    "     join pg_catalog.pg_class p on p.oid = i.inhparent"
    "     join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relnamespace = p.relnamespace"
    "    where i.inhrelid = conrelid))"
    " union all"
    " select pg_catalog.format('comment on constraint %I on %s is %L', conname, $2,"
    "         pg_catalog.obj_description(oid, 'pg_constraint'))"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and contype in ('c', 'n') and not convalidated"
    "   and pg_catalog.obj_description(oid, 'pg_constraint') is not null"
    " union all"
    /* from 17 on a partition's column may have its parent's identity, and no sequence of its own */
    " select pg_catalog.format('alter table %s alter column %I set generated always', $2, attname)"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attidentity = 'a'"
    "   and not attisdropped and exists (select from pg_catalog.pg_depend d"
    "     where d.refobjid = attrelid and d.refobjsubid = attnum and d.deptype = 'i'"
    "        and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "        and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)"
    " union all"
    " select pg_catalog.format('alter table %s replica identity %s', $2,"
    "         case relreplident when 'f' then 'full' else 'nothing' end)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relreplident in ('f', 'n')"
    " union all"
    /* all options, because one that is set alone goes behind the others */
    " select coalesce((select pg_catalog.format('alter table %s set (%s)', $2,"
    "           pg_catalog.string_agg(pg_catalog.format('%I = %L', o.option_name, o.option_value),"
    "             ', ' order by o.ordinality)) from pg_catalog.pg_class c,"
    "           rows from (pg_catalog.pg_options_to_table(c.reloptions)) with ordinality o"
    "          where c.oid = $1::pg_catalog.oid"
    "          having pg_catalog.bool_or(o.option_name = 'autovacuum_enabled')),"
    "         pg_catalog.format('alter table %s reset (autovacuum_enabled)', $2))"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relkind <> 'p'"
    " union all"
    " select pg_catalog.format('alter table %s enable row level security', $2)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relrowsecurity"
    " union all"
    " select pg_catalog.format('alter table %s force row level security', $2)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relforcerowsecurity";

void
definition_subject_done(Subject *subject)
{
    free(subject->oid);
}

bool
definition_run(Conn *conn, const char *query, const Subject *subject, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(sql);

    if (!query_run(conn, query, subject->params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        for (int column = 0; column < rows_columns(rows); column++)
            if (rows_text(rows, row, column) != NULL && rows_text(rows, row, column)[0] != '\0')
                sql_add(&sql, "%S;", rows_text(rows, row, column));
    return sql.len == 0 || query_exec(conn, buf_text(&sql), err);
}

bool
definition_list(Migration *run, Conn *conn, const char *query, const Subject *subject,
                SqlList *list, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, query, subject->params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        sql_list_add(run, list, rows_text(rows, row, 0));
    return true;
}

void
definition_add(Migration *run, SqlList *list, const char *text)
{
    if (text != NULL && text[0] != '\0')
        sql_list_add(run, list, text);
}

void
definition_shared_columns(const Migration *run, Buf *originals, Buf *shadows)
{
    for (int i = 0; i < run->shadow.column_count; i++) {
        int origin = run->projection.origin[i];
        const char *separator = originals->len == 0 ? "{" : ",";

        if (origin < 0)
            continue;
        buf_printf(originals, "%s%d", separator, run->original.columns[origin].attnum);
        buf_printf(shadows, "%s%d", separator, run->shadow.columns[i].attnum);
    }
    buf_add_text(originals, originals->len == 0 ? "{}" : "}");
    buf_add_text(shadows, shadows->len == 0 ? "{}" : "}");
}

bool
definition_clone_triggers(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_TRIGGERS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const char *def = ddl_retarget(rows_text(rows, row, 0), run->original.schema,
                                       run->original.name, run->shadow_qualified, run->arena, err);

        if (def == NULL || !query_exec(conn, def, err))
            return err_wrap(err, "rehearsing trigger \"%s\"", rows_text(rows, row, 3));
        for (int column = 1; column < 3; column++) {
            const char *sql = rows_text(rows, row, column);

            if (sql != NULL && sql[0] != '\0' && !query_exec(conn, sql, err))
                return false;
        }
    }
    return true;
}

bool
definition_clone_columns(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);

    return definition_run(conn, SQL_CLONE_COLUMNS, &subject, err) &&
           definition_run(conn, SQL_CLONE_CHECKS, &subject, err);
}

bool
definition_clone(Migration *run, Conn *conn, Err *err)
{
    if (definition_clone_columns(run, conn, err) && definition_create_branches(run, conn, err) &&
        definition_clone_sequences(run, conn, err) && definition_clone_indexes(run, conn, err) &&
        definition_clone_branch_indexes(run, conn, err) &&
        definition_clone_branch_keys(run, conn, err) && definition_clone_keys(run, conn, err) &&
        definition_clone_triggers(run, conn, err) &&
        definition_clone_hidden_triggers(run, conn, err) &&
        definition_clone_rules(run, conn, err) && definition_clone_statistics(run, conn, err) &&
        definition_clone_publications(run, conn, err) && identity_clone(run, conn, err) &&
        definition_clone_labels(run, conn, err) && dependents_clone(run, conn, err) &&
        definition_clone_partition(run, conn, err) && definition_clone_branches(run, conn, err))
        return true;
    return err_wrap(err, "cloning the definition of %s", run->original.qualified);
}

bool
definition_read_triggers(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_TRIGGERS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        for (int column = 0; column < 3; column++)
            definition_add(run, &run->definition.swap, rows_text(rows, row, column));
    return true;
}

/*
 * The shadow belongs to the original's owner until the swap, so that one role can load it.  A new
 * owner comes last: what it owns by then, and what its grants say, follow as they do in plain ALTER.
 */
static void
read_owner(Migration *run)
{
    if (strcmp(run->shadow.owner, run->original.owner) != 0) {
        AUTO(Text) *sql =
            sql_build("alter table %S owner to %I", run->original.qualified, run->shadow.owner);

        sql_list_add(run, &run->definition.moved, sql);
    }
}

bool
definition_read_surface(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL);

    return definition_list(run, conn, SQL_SURFACE, &subject, &run->definition.surface, err);
}

bool
definition_read_flags(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL);

    return definition_list(run, conn, SQL_FLAGS, &subject, &run->definition.swap, err);
}

bool
definition_read(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *identity = identity_restore_sql(run);

    definition_add(run, &run->definition.swap, identity);
    if (definition_read_surface(run, conn, err) && definition_read_indexes(run, conn, err) &&
        definition_drop_old_keys(run, conn, err) && definition_read_flags(run, conn, err) &&
        definition_read_keys(run, conn, err) && definition_read_key_checks(run, conn, err) &&
        definition_read_tree_keys(run, conn, err) && definition_read_triggers(run, conn, err) &&
        definition_read_triggers_from(run, conn, err) &&
        definition_read_hidden_triggers(run, conn, err) &&
        definition_read_partition(run, conn, err) && definition_read_sequences(run, conn, err) &&
        dependents_read(run, conn, err) && definition_read_rules(run, conn, err) &&
        definition_read_statistics(run, conn, err) &&
        definition_read_publications(run, conn, err) && definition_read_labels(run, conn, err) &&
        definition_read_extensions(run, conn, err) && definition_check_sequences(run, conn, err) &&
        definition_read_branches(run, conn, err) &&
        definition_drop_other_statistics(run, conn, err)) {
        read_owner(run);
        return true;
    }
    return err_wrap(err, "reading the altered definition");
}

bool
definition_strip_table(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL);

    return definition_run(conn, SQL_STRIP, &subject, err);
}

bool
definition_strip(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *drop = sql_build("drop schema %I cascade; alter table %S owner to %I",
                                 run->names.rehearsal, run->shadow_qualified, run->original.owner);

    /* the cascade ends in the rehearsal schema and the shadow's foreign keys into it */
    if (definition_strip_partition(run, conn, err) && query_exec(conn, drop, err) &&
        definition_strip_table(run, conn, err) && definition_strip_branches(run, conn, err))
        return true;
    return err_wrap(err, "preparing the shadow table for the load");
}
