/* Materialized views that read the table; see matviews.h. */
#include "phase/matviews.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/dependents.h"
#include "pg/sql.h"
#include "phase/definition.h"
#include "phase/walguard.h"

/*
 * Everything on matview $1, for its successor: what stands before the query; how columns are stored
 * and whose it is, for $2 (quoted) while it is empty; whether it is populated; whether its owner
 * is another than that of the original $3, may see less than all of it, may read anything of it.
 */
static const char SQL_MATVIEW[] =
    "select coalesce(' using ' || pg_catalog.quote_ident(am.amname), '')"
    "       || coalesce(' with (' || (select pg_catalog.string_agg(pg_catalog.format('%s%I = %L',"
    "            x.prefix, x.option_name, x.option_value), ', ') from ("
    "            select '' as prefix, o.* from pg_catalog.pg_options_to_table(c.reloptions) o"
    "            union all"
    "            select 'toast.', o.* from pg_catalog.pg_class t,"
    "                   pg_catalog.pg_options_to_table(t.reloptions) o where t.oid = "
    "c.reltoastrelid"
    "          ) x) || ')', '')"
    "       || coalesce(' tablespace ' || pg_catalog.quote_ident(ts.spcname), ''),"
    "       pg_catalog.concat_ws(';', (select pg_catalog.string_agg(pg_catalog.concat_ws(';',"
    "           case when a.attstorage <> ty.typstorage then pg_catalog.format("
    "             'alter table %s alter column %I set storage %s', $2::text, a.attname,"
    "             case a.attstorage when 'p' then 'plain' when 'e' then 'external'"
    "               when 'm' then 'main' else 'extended' end) end,"
    "           case when pg_catalog.to_jsonb(a) ->> 'attcompression' <> '' then pg_catalog.format("
    "             'alter table %s alter column %I set compression %s', $2, a.attname,"
    "             case pg_catalog.to_jsonb(a) ->> 'attcompression' when 'l' then 'lz4'"
    "               else 'pglz' end) end), ';')"
    "           from pg_catalog.pg_attribute a join pg_catalog.pg_type ty on ty.oid = a.atttypid"
    "          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),"
    "         pg_catalog.format('alter materialized view %s owner to %I', $2, o.rolname)),"
    "       c.relispopulated, o.rolname, c.relowner <> t.relowner,"
    "       c.relowner <> t.relowner and not (o.rolsuper or (o.rolbypassrls or not "
    "t.relrowsecurity)"
    "         and (pg_catalog.has_table_privilege(c.relowner, t.oid, 'select')"
    "           or not pg_catalog.has_any_column_privilege(c.relowner, t.oid, 'select'))),"
    "       pg_catalog.has_any_column_privilege(c.relowner, t.oid, 'select')"
    "  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner"
    "  join pg_catalog.pg_class t on t.oid = $3::pg_catalog.oid"
    "  left join pg_catalog.pg_am am on am.oid = c.relam"
    "  left join pg_catalog.pg_tablespace ts on ts.oid = c.reltablespace"
    " where c.oid = $1::pg_catalog.oid";

/* What is set on matview $1 beside its data, for $2. */
static const char SQL_SETTINGS[] =
    "select pg_catalog.format('comment on materialized view %s is %L', $2::text,"
    "         pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class'))"
    " where pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class') is not null"
    " union all "
    "select pg_catalog.format('alter materialized view %s depends on extension %I', $2, e.extname)"
    "  from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid"
    " where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = $1::pg_catalog.oid"
    "   and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'x'"
    " union all "
    "select pg_catalog.concat_ws(';',"
    "         'comment on column ' || $2 || '.' || pg_catalog.quote_ident(a.attname) || ' is '"
    "           || pg_catalog.quote_literal(pg_catalog.col_description(a.attrelid, a.attnum)),"
    "         case when a.attstattarget >= 0 then pg_catalog.format('alter table %s alter column %I"
    " set statistics %s', $2, a.attname, a.attstattarget) end,"
    "         (select pg_catalog.format('alter table %s alter column %I set (%s)', $2, a.attname,"
    "             pg_catalog.string_agg(pg_catalog.format('%I = %L', option_name, option_value),"
    "               ', ')) from pg_catalog.pg_options_to_table(a.attoptions)"
    "           where option_name in ('n_distinct', 'n_distinct_inherited')"
    "          having pg_catalog.count(*) > 0))"
    "  from pg_catalog.pg_attribute a"
    " where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped";

/*
 * The privileges of matview $1, for $2, which has been given some by default.  Whoever passed
 * something on does so again.
 */
static const char SQL_GRANTS[] =
    "with g as ("
    "  select c.relowner as owner, null::name as col, x.* from pg_catalog.pg_class c,"
    "         pg_catalog.aclexplode(coalesce(c.relacl,"
    "           pg_catalog.acldefault('r', c.relowner))) x"
    "   where c.oid = $1::pg_catalog.oid"
    "  union all"
    "  select c.relowner, a.attname, x.* from pg_catalog.pg_class c"
    "    join pg_catalog.pg_attribute a on a.attrelid = c.oid and not a.attisdropped,"
    "         pg_catalog.aclexplode(a.attacl) x where c.oid = $1::pg_catalog.oid"
    ")"
    "select pg_catalog.format('do %L', pg_catalog.format('declare x record; begin for x in select"
    " distinct grantee from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl)"
    "   where c.oid = %L::pg_catalog.regclass"
    " loop execute pg_catalog.format(''revoke all on %%s from %%s'', %L, case x.grantee when 0"
    "   then ''public'' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end);"
    " end loop; end', $2::text, $2)), -1 as step"
    " union all "
    "select pg_catalog.format('%sgrant %s%s on %s to %s%s%s', case when grantor <> owner then"
    "         pg_catalog.format('set local role %I;', pg_catalog.pg_get_userbyid(grantor)) end,"
    "         privilege_type, ' (' || pg_catalog.quote_ident(col) || ')', $2,"
    "         case grantee when 0 then 'public'"
    "           else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) end,"
    "         case when is_grantable then ' with grant option' end,"
    "         case when grantor <> owner then ';reset role' end),"
    "       case when grantor = owner then 0 when is_grantable then 1 else 2 end"
    "  from g order by 2, 1";

/*
 * Matviews of others, among $2, which matview $1 reads because its owner may read them, as grants on
 * their successors in schema $3.  A right that is about some columns only is not given: what the swap
 * sets again are the rights on the whole.
 */
static const char SQL_READS[] =
    "select pg_catalog.format('grant select on %I.%I to %I', $3::text, m.relname, o.rolname)"
    "  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner"
    "  join pg_catalog.pg_class m on m.oid = any($2::pg_catalog.oid[]) and m.relkind = 'm'"
    "   and m.relowner <> c.relowner and m.oid in ("
    "    select d.refobjid from pg_catalog.pg_rewrite r"
    "      join pg_catalog.pg_depend d on d.objid = r.oid"
    "       and d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
    "       and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "     where r.ev_class = c.oid)"
    " where c.oid = $1::pg_catalog.oid"
    "   and pg_catalog.has_table_privilege(c.relowner, m.oid, 'select')";

/* Functions with the row type in their signature that a matview calls: these come with the swap. */
static const char SQL_CALLED[] =
    WITH_DEPENDENTS "select p.oid::pg_catalog.regprocedure"
                    "  from pg_catalog.pg_rewrite r join ids i on true"
                    "  join pg_catalog.pg_depend d on d.classid = i.rule and d.objid = r.oid"
                    "   and d.refclassid = i.proc"
                    "  join renewed n on n.classid = i.proc and n.objid = d.refobjid"
                    "  join pg_catalog.pg_proc p on p.oid = n.objid"
                    " where r.ev_class = $2::pg_catalog.oid";

static const char REFRESH[] = "refresh materialized view ";

/* A matview on its way. */
typedef struct Successor {
    const Dependent *old;
    char *oid;
    const char *place;  /* quoted name where it is made */
    const char *schema; /* quoted schema of that */
    const char *query;  /* of what is there when it is made */
    bool populate;
} Successor;

static void
successor_done(Successor *successor)
{
    free(successor->oid);
}

static bool
refuse_called_functions(Migration *run, Conn *conn, const Successor *successor, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_CALLED, (const char *const[]){oid, successor->oid, NULL}, &rows, err))
        return false;
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_REFUSED,
            "materialized view %s calls function %s, which is made anew for the table's new row "
            "type in the swap",
            successor->old->qualified, rows_text(rows, 0, 0));
    return err_hint(err, "Use --matviews=after, to have it refreshed after the swap.");
}

/*
 * A constant such as 't'::regclass would mean the old table for ever: it is an oid by the time when
 * the names change places.
 */
static bool
refuse_constants(Migration *run, const Successor *successor, Err *err)
{
    const char *const original = run->original.qualified;

    for (int i = -1; i < run->dependents.count; i++) {
        const Dependent *other = i < 0 ? NULL : &run->dependents.items[i];
        const char *name = other == NULL ? original : other->qualified;
        AUTO(Text) *constant = sql_build("%L::regclass", name);

        if ((other != NULL && other->kind != 'm') || strstr(successor->query, constant) == NULL)
            continue;
        err_set(err, ERR_REFUSED, "materialized view %s contains the constant %s",
                successor->old->qualified, constant);
        return err_hint(err, "Use --matviews=after, to have it refreshed after the swap.");
    }
    return true;
}

/* Everything on it but its data. */
static bool
add_settings(Migration *run, Conn *conn, const Successor *successor, SqlList *list, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_SETTINGS,
                   (const char *const[]){successor->oid, successor->place, NULL}, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        if (rows_text(rows, i, 0)[0] != '\0')
            sql_list_add(run, list, rows_text(rows, i, 0));
    return definition_list_labels(run, conn, successor->old->oid, successor->place, list, err) &&
           definition_list_statistics(run, conn, successor->old, successor->place, list, err) &&
           definition_list_indexes(run, conn, successor->old->oid, successor->place,
                                   successor->schema, list, err);
}

static bool
add_grants(Migration *run, Conn *conn, const Successor *successor, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_GRANTS,
                   (const char *const[]){successor->oid, successor->old->qualified, NULL}, &rows,
                   err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        sql_list_add(run, &run->definition.moved, rows_text(rows, i, 0));
    return true;
}

/*
 * The owner reads the shadow as he reads the original, with his own rights.  He is given no matview
 * where he may not create.
 */
static void
admit_to_shadow(Migration *run, const char *owner, bool reads, SqlList *list)
{
    AUTO(Text) *enter =
        sql_build("grant usage, create on schema %I to %I", run->names.shadow_schema, owner);
    AUTO(Text) *read = sql_build("grant select on %S to %I", run->shadow_qualified, owner);

    sql_list_add(run, list, enter);
    if (reads)
        sql_list_add(run, list, read);
}

/*
 * ... and the new matviews that it reads as he reads the old ones.  Their own privileges come with
 * the swap.
 */
static bool
admit_to_matviews(Migration *run, Conn *conn, const Successor *successor, SqlList *list, Err *err)
{
    BUF_AUTO(others);
    AUTO(Rows) *rows = NULL;

    for (int i = 0; i < run->dependents.count; i++)
        buf_printf(&others, "%c%u", i == 0 ? '{' : ',', run->dependents.items[i].oid);
    buf_add_text(&others, "}");
    if (!query_run(conn, SQL_READS,
                   (const char *const[]){successor->oid, buf_text(&others),
                                         run->names.shadow_schema, NULL},
                   &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        sql_list_add(run, list, rows_text(rows, i, 0));
    return true;
}

/* All the statements that make it, in `list`. */
static bool
add_creation(Migration *run, Conn *conn, const Successor *successor, SqlList *list, Err *err)
{
    AUTO(Text) *original = mem_format("%u", run->original.oid);
    const char *const params[] = {successor->oid, successor->place, original, NULL};
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *create = NULL;
    AUTO(Text) *refresh = sql_build("%S%S", REFRESH, successor->place);
    AUTO(Text) *analyze = sql_build("analyze %S", successor->place);

    if (!query_one(conn, SQL_MATVIEW, params, &rows, err))
        return false;
    if (successor->populate && rows_bool(rows, 0, 5)) {
        err_set(err, ERR_REFUSED,
                "materialized view %s belongs to %s, who may not see all of the table, and nobody "
                "is kept from seeing the new one",
                successor->old->qualified, rows_text(rows, 0, 3));
        return err_hint(err, "Use --matviews=after: it is then filled after the swap.");
    }
    create = sql_build("create materialized view %S%S as %S with no data", successor->place,
                       rows_text(rows, 0, 0), successor->query);
    if (successor->populate && rows_bool(rows, 0, 4))
        admit_to_shadow(run, rows_text(rows, 0, 3), rows_bool(rows, 0, 6), list);
    if (successor->populate && !admit_to_matviews(run, conn, successor, list, err))
        return false;
    sql_list_add(run, list, create);
    sql_list_add(run, list, rows_text(rows, 0, 1));
    if (successor->populate)
        sql_list_add(run, list, refresh);
    if (!add_settings(run, conn, successor, list, err))
        return false;
    if (successor->populate)
        sql_list_add(run, list, analyze);
    return true;
}

/* Made in the shadow's schema, from what is there; moved in the swap. */
static bool
plan_before(Migration *run, Conn *conn, Successor *successor, Err *err)
{
    const Dependent *old = successor->old;
    AUTO(Text) *place = sql_build("%I.%I", run->names.shadow_schema, old->name);
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    AUTO(Text) *move = sql_build("alter materialized view %S set schema %I", place, old->schema);
    DdlMove *moves = arena_alloc(run->arena, sizeof *moves * (size_t)(run->dependents.count + 1));
    int count = 0;

    moves[count++] = (DdlMove){DDL_MOVE_RELATION, run->original.name, run->original.schema,
                               run->names.shadow_schema};
    for (int i = 0; i < run->dependents.count; i++)
        if (run->dependents.items[i].kind == 'm')
            moves[count++] = (DdlMove){DDL_MOVE_RELATION, run->dependents.items[i].name,
                                       run->dependents.items[i].schema, run->names.shadow_schema};
    if (!refuse_constants(run, successor, err))
        return false;
    successor->place = place;
    successor->schema = schema;
    successor->query = ddl_requalify(successor->query, moves, count, run->arena, err);
    if (successor->query == NULL || !refuse_called_functions(run, conn, successor, err) ||
        !add_creation(run, conn, successor, &run->definition.matviews, err))
        return false;
    sql_list_add(run, &run->definition.moved, move);
    /* an autovacuum of it would be in the way of the swap */
    sql_list_add(run, &run->definition.views, place);
    return true;
}

/* Made in the swap without data; not even then where the old one has none. */
static bool
plan_after(Migration *run, Conn *conn, Successor *successor, bool refresh, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", successor->old->schema);
    AUTO(Text) *sql = sql_build("%S%S", REFRESH, successor->old->qualified);

    successor->place = successor->old->qualified;
    successor->schema = schema;
    if (!add_creation(run, conn, successor, &run->definition.moved, err))
        return false;
    if (refresh)
        sql_list_add(run, &run->definition.refreshes, sql);
    return true;
}

static bool
is_populated(Conn *conn, const Successor *successor, bool *populated, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, "select relispopulated from pg_catalog.pg_class where oid = $1",
                   (const char *const[]){successor->oid, NULL}, &rows, err))
        return false;
    *populated = rows_bool(rows, 0, 0);
    return true;
}

bool
matviews_read(Migration *run, Conn *conn, const Dependent *dependent, const char *text,
              SqlList *drops, Err *err)
{
    __attribute__((cleanup(successor_done))) Successor successor = {
        .old = dependent, .oid = mem_format("%u", dependent->oid), .query = text};
    AUTO(Text) *away = sql_build("alter materialized view %S set schema %I", dependent->qualified,
                                 run->names.schema);
    AUTO(Text) *drop = sql_build("drop materialized view %I.%I%S", run->names.schema,
                                 dependent->name, text == NULL ? " cascade" : "");
    bool populated;
    bool ok;

    sql_list_add(run, &run->definition.swap, away);
    sql_list_add(run, drops, drop);
    if (text == NULL)
        return true;
    if (!is_populated(conn, &successor, &populated, err))
        return false;
    successor.populate = populated && run->settings->matviews == MATVIEWS_BEFORE;
    ok = successor.populate ? plan_before(run, conn, &successor, err)
                            : plan_after(run, conn, &successor, populated, err);
    return ok && add_grants(run, conn, &successor, err);
}

char *
matviews_refresh_sql(const Migration *run, const Conn *conn, const char *refresh)
{
    const char *path = conn_role_search_path(conn);

    /* as in a REFRESH of their owner's: a policy filters, and is no error */
    return sql_build("%S set local row_security to on; set local search_path to %I, %S; %S",
                     conn_role_formats(conn), run->settings->schema,
                     path[0] == '\0' ? "pg_catalog" : path, refresh);
}

static bool
run_step(Migration *run, Conn *conn, const char *step, Err *err)
{
    AUTO(Text) *refresh = matviews_refresh_sql(run, conn, step);
    AUTO(Text) *sql = sql_build("begin; %S; commit", refresh);

    /* the other statements are the server's words under our own search_path */
    return walguard_exec(run, conn, strncmp(step, REFRESH, strlen(REFRESH)) == 0 ? sql : step, err);
}

bool
matviews_build(Migration *run, Err *err)
{
    const SqlList *list = &run->definition.matviews;
    int64_t started_us = clock_now_us();
    AUTO(Conn) *conn = NULL;

    if (list->count == 0)
        return true;
    log_info("populating materialized views; changes wait meanwhile");
    conn = migration_connect(run, CONN_SQL, "matviews", err);
    if (conn == NULL)
        return false;
    for (int i = 0; i < list->count; i++)
        if (!run_step(run, conn, list->items[i], err))
            return err_wrap(err, "populating a materialized view");
    log_info("materialized views are populated, %.1f s",
             (double)(clock_now_us() - started_us) / 1e6);
    return true;
}
