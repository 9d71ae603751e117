/* What depends on the table from outside; see dependents.h. */
#include "phase/dependents.h"

#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "pg/dependents.h"
#include "pg/sql.h"
#include "pg/tree.h"
#include "phase/definition.h"
#include "phase/matviews.h"

/* Kinds of dependents, as the queries call them. */
enum { VIEW = 'v', MATVIEW = 'm', RULE = 'r', POLICY = 'p', BODY = 'f', SIGNATURE = 'F' };

/*
 * All dependents: what is renewed in the order in which it is made, then views, then the rest, for
 * rules may be those of views.  A view's text is its query, the others' are whole statements.
 */
static const char SQL_DEPENDENTS[] = WITH_DEPENDENTS
    ", found as ("
    "  select case c.relkind when 'm' then 'm' end as kind, n.depth, c.oid, c.relnamespace as ns,"
    "         c.relname as name, null::name as part, "
    "pg_catalog.rtrim(pg_catalog.pg_get_viewdef(c.oid), ';') as text"
    "    from renewed n join ids i on n.classid = i.rel"
    "    join pg_catalog.pg_class c on c.oid = n.objid and c.relkind = 'm'"
    "  union all"
    "  select case when t.objid is null then 'F' else 'f' end, n.depth, p.oid, p.pronamespace,"
    "         p.proname, null, pg_catalog.pg_get_functiondef(p.oid)"
    "    from ids i join pg_catalog.pg_proc p on true"
    "    left join renewed n on n.classid = i.proc and n.objid = p.oid"
    "    left join touched t on t.classid = i.proc and t.objid = p.oid"
    "   where (n.objid is not null or t.objid is not null) and p.prokind <> 'a'"
    "  union all"
    "  select case when r.rulename = '_RETURN' then 'v' else 'r' end, null,"
    "         case when r.rulename = '_RETURN' then c.oid else r.oid end, c.relnamespace,"
    "         c.relname, r.rulename,"
    "         case when r.rulename = '_RETURN' then "
    "pg_catalog.rtrim(pg_catalog.pg_get_viewdef(c.oid), ';')"
    "           else pg_catalog.pg_get_ruledef(r.oid) end"
    "    from touched t join ids i on t.classid = i.rule"
    "    join pg_catalog.pg_rewrite r on r.oid = t.objid"
    "    join pg_catalog.pg_class c on c.oid = r.ev_class"
    "  union all"
    "  select 'p', null, p.oid, c.relnamespace, c.relname, p.polname,"
    "         pg_catalog.format('create policy %I on %I.%I', p.polname, s.nspname, c.relname)"
    "         || coalesce(' using (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', '')"
    "         || coalesce(' with check (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)"
    "                     || ')', '')"
    "    from touched t join ids i on t.classid = i.pol"
    "    join pg_catalog.pg_policy p on p.oid = t.objid"
    "    join pg_catalog.pg_class c on c.oid = p.polrelid"
    "    join pg_catalog.pg_namespace s on s.oid = c.relnamespace"
    ")"
    "select f.kind, f.oid, s.nspname, f.name, coalesce(f.part, ''), f.text,"
    "       $2::text || s.oid, pg_catalog.format('%I.%I', s.nspname, f.name)"
    "  from found f join pg_catalog.pg_namespace s on s.oid = f.ns"
    " order by pg_catalog.array_position(array['v', 'r', 'p'], f.kind) nulls first, f.depth"
    "       nulls last, f.oid";

/* The other functions of that name; calls in a stand-in find their own one among them. */
static const char SQL_OVERLOADS[] =
    "select pg_catalog.pg_get_functiondef(p.oid)"
    "  from pg_catalog.pg_proc f join pg_catalog.pg_proc p on p.pronamespace = f.pronamespace"
    "   and p.proname = f.proname and p.oid <> f.oid and p.prokind <> 'a'"
    " where f.oid = $1::pg_catalog.oid";

/* The stand-in just made: $1 kind, $2 its schema, $3 its name, $4 rule or policy, $5 those known. */
static const char SQL_FIND_STAND_IN[] =
    "select case when $1 in ('v', 'm') then c.oid"
    "         when $1 = 'r' then (select r.oid from pg_catalog.pg_rewrite r"
    "            where r.ev_class = c.oid and r.rulename = $4)"
    "         when $1 = 'p' then (select p.oid from pg_catalog.pg_policy p"
    "            where p.polrelid = c.oid and p.polname = $4)"
    "         else (select p.oid from pg_catalog.pg_proc p where p.pronamespace = n.oid"
    "            and p.proname = $3 and p.oid <> all ($5::pg_catalog.oid[])) end"
    "  from pg_catalog.pg_namespace n"
    "  left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = $3"
    " where n.nspname = $2";

/* What has become of a stand-in, NULL when it is gone.  $1 its kind, $2 its oid. */
static const char SQL_READ_STAND_IN[] =
    "select case $1"
    "  when 'v' then (select pg_catalog.rtrim(pg_catalog.pg_get_viewdef(oid), ';') from "
    "pg_catalog.pg_class"
    "    where oid = $2::pg_catalog.oid)"
    "  when 'm' then (select pg_catalog.rtrim(pg_catalog.pg_get_viewdef(oid), ';') from "
    "pg_catalog.pg_class"
    "    where oid = $2::pg_catalog.oid)"
    "  when 'r' then (select 'CREATE OR REPLACE' || pg_catalog.substr("
    "      pg_catalog.pg_get_ruledef(oid), pg_catalog.length('CREATE') + 1)"
    "     from pg_catalog.pg_rewrite where oid = $2::pg_catalog.oid)"
    "  when 'p' then (select pg_catalog.format('alter policy %I on %I.%I', p.polname, s.nspname,"
    "        c.relname)"
    "      || coalesce(' using (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', '')"
    "      || coalesce(' with check (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)"
    "                  || ')', '')"
    "     from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid"
    "     join pg_catalog.pg_namespace s on s.oid = c.relnamespace where p.oid = "
    "$2::pg_catalog.oid)"
    "  else (select pg_catalog.pg_get_functiondef(oid) from pg_catalog.pg_proc"
    "    where oid = $2::pg_catalog.oid) end";

/* How CREATE OR REPLACE VIEW begins, with the options, which it would take away otherwise. */
static const char SQL_VIEW_HEAD[] =
    "select pg_catalog.format('create or replace view %I.%I', n.nspname, c.relname)"
    "       || coalesce((select ' with (' || pg_catalog.string_agg(pg_catalog.format('%I = %L',"
    "            option_name, option_value), ', ') || ')'"
    "            from pg_catalog.pg_options_to_table(c.reloptions)), '') || ' as '"
    "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    " where c.oid = $1::pg_catalog.oid";

/*
 * A function whose signature names the row type: out of the way before the new one is made under its
 * name; then the new one's owner, privileges and comment, and the end of the old one.
 * $1 = the function, $2 = the schema where it goes.
 */
static const char SQL_SIGNATURE[] =
    "with p as (select p.*, p.oid::pg_catalog.regprocedure::text as sig, n.nspname,"
    "         case p.prokind when 'p' then 'procedure' else 'function' end as what,"
    "         pg_catalog.pg_get_userbyid(p.proowner) as owner,"
    /* where default privileges say nothing, no word is needed about what is as usual */
    "         p.proacl is not null or exists (select from pg_catalog.pg_default_acl"
    "           where defaclobjtype = 'f') as says_acl"
    "    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace"
    "   where p.oid = $1::pg_catalog.oid)"
    "select pg_catalog.format('do %L', pg_catalog.format('begin execute ''alter %s '' ||"
    " %s::pg_catalog.oid::pg_catalog.regprocedure || '' set schema %I''; end', what, oid, "
    "$2::text)),"
    "       pg_catalog.concat_ws(';', pg_catalog.format('alter %s %s owner to %I', what, sig, "
    "owner),"
    "         case when says_acl then pg_catalog.format('do %L', pg_catalog.format("
    "           'declare x record; begin for x in select distinct grantee from pg_catalog.pg_proc "
    "p,"
    "             pg_catalog.aclexplode(coalesce(p.proacl,"
    "               pg_catalog.acldefault(''f'', p.proowner)))"
    "             where p.oid = %L::pg_catalog.regprocedure"
    "            loop execute pg_catalog.format(''revoke all on %s %%s from %%s'', %L,"
    "             case x.grantee when 0 then ''public'' else pg_catalog.quote_ident("
    "               pg_catalog.pg_get_userbyid(x.grantee)) end); end loop; end',"
    "           sig, what, sig)) end,"
    "         (select pg_catalog.string_agg(pg_catalog.format('%sgrant execute on %s %s to %s%s%s',"
    "             case when x.grantor <> proowner then pg_catalog.format('set local role %I;',"
    "               pg_catalog.pg_get_userbyid(x.grantor)) end, what, sig,"
    "             case x.grantee when 0 then 'public'"
    "               else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end,"
    "             case when x.is_grantable then ' with grant option' end,"
    "             case when x.grantor <> proowner then ';reset role' end), ';'"
    "             order by x.grantor <> proowner, x.is_grantable desc)"
    "            from pg_catalog.aclexplode(case when says_acl then coalesce(proacl,"
    "              pg_catalog.acldefault('f', proowner)) end) x),"
    "         'comment on ' || what || ' ' || sig || ' is ' ||"
    "           pg_catalog.quote_literal(pg_catalog.obj_description(oid, 'pg_proc'))),"
    "       pg_catalog.format('do %L', pg_catalog.format('begin execute ''drop %s '' ||"
    " %s::pg_catalog.oid::pg_catalog.regprocedure; end', what, oid))"
    "  from p";

/* What function $1 depends on by ALTER FUNCTION: CREATE OR REPLACE takes that away, too. */
static const char SQL_EXTENSIONS[] =
    "select pg_catalog.format('alter %s %s depends on extension %I',"
    "         case p.prokind when 'p' then 'procedure' else 'function' end,"
    "         p.oid::pg_catalog.regprocedure, e.extname)"
    "  from pg_catalog.pg_proc p join pg_catalog.pg_depend d on d.objid = p.oid"
    "   and d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.deptype = 'x'"
    "   and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
    "  join pg_catalog.pg_extension e on e.oid = d.refobjid"
    " where p.oid = $1::pg_catalog.oid order by e.extname";

/* What CASCADE has taken away.  $1 its kind, $2 its oid, $3 relation (quoted), $4 rule or policy. */
static const char SQL_DROP[] =
    "select case $1 when 'v' then pg_catalog.format('drop view if exists %s cascade', $3::text)"
    "         when 'r' then pg_catalog.format('drop rule if exists %I on %s cascade', $4::text, $3)"
    "         when 'p' then pg_catalog.format('drop policy if exists %I on %s cascade', $4, $3)"
    "         else pg_catalog.format('drop routine if exists %s cascade',"
    "           $2::pg_catalog.oid::pg_catalog.regprocedure) end";

/*
 * The relations to lock: views and matviews first, for who reads through a view locks it before its
 * tables, then the tables of rules and policies.
 */
static const char SQL_LOCKS[] = WITH_DEPENDENTS
    "select pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind in ('v', 'm')"
    "  from (select r.ev_class as oid from touched t join ids i on t.classid = i.rule"
    "          join pg_catalog.pg_rewrite r on r.oid = t.objid"
    "        union select p.polrelid from touched t join ids i on t.classid = i.pol"
    "          join pg_catalog.pg_policy p on p.oid = t.objid"
    "        union select n.objid from renewed n join ids i on n.classid = i.rel"
    "         where n.objid <> $1::pg_catalog.oid) x"
    "  join pg_catalog.pg_class c on c.oid = x.oid"
    "  join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    " order by c.oid";

/* The names of what gets another row type. */
static const char SQL_RENEWED_NAMES[] = WITH_DEPENDENTS
    "select pg_catalog.array_agg(c.relname::text) from pg_catalog.pg_class c"
    " where c.oid = any (array(select n.objid from renewed n join ids i on n.classid = i.rel))"
    "    or c.oid in " TREE_OIDS;

/* PL/pgSQL that mentions the table by name, and whether the role may alter it. */
static const char SQL_WARM[] =
    "select coalesce(pg_catalog.string_agg(case when mine then oid::text end, ','), ''),"
    "       pg_catalog.string_agg(case when not mine then name end, ', ')"
    "  from (select p.oid, p.oid::pg_catalog.regprocedure::text as name,"
    "               pg_catalog.pg_has_role(p.proowner, 'usage') as mine"
    "          from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang"
    "           and l.lanname = 'plpgsql'"
    "          join pg_catalog.pg_namespace n on n.oid = p.pronamespace"
    "         where n.nspname not in ('pg_catalog', 'information_schema')"
    "           and exists (select from pg_catalog.unnest($1::pg_catalog.text[]) t"
    "             where case when t ~ '^\\w+$' then p.prosrc ~* ('\\m' || t || '\\M')"
    "               else pg_catalog.strpos(p.prosrc, t) > 0 end)"
    "         order by p.oid) f";

/*
 * Altered to what they are; procedures have no COST to do that with.  Somebody else may be at work on such
 * a function; then the swap is tried again.
 */
static const char REFRESH[] =
    "declare f record; begin"
    "  for f in select p.oid::pg_catalog.regprocedure as name, case when p.prosecdef then 'definer'"
    "                  else 'invoker' end as rights from pg_catalog.pg_proc p where p.oid in (%S)"
    "  loop execute pg_catalog.format('alter routine %%s security %%s', f.name, f.rights);"
    "  end loop;"
    " exception when internal_error then"
    "  raise exception using errcode = 'lock_not_available', message = sqlerrm; end";

static const char *
keep(Migration *run, const char *text)
{
    return text == NULL ? NULL : arena_copy(run->arena, text, strlen(text));
}

/* ---- names: where the texts find what, and where they are to find it ---- */

static void
add_move(Migration *run, Moves *moves, DdlMove move)
{
    for (int i = 0; i < moves->count; i++)
        if (moves->items[i].kind == move.kind && strcmp(moves->items[i].name, move.name) == 0 &&
            strcmp(moves->items[i].schema, move.schema) == 0)
            return;
    if (moves->count == moves->size) {
        int size = moves->size == 0 ? 8 : 2 * moves->size;
        DdlMove *items = arena_alloc(run->arena, (size_t)size * sizeof *items);

        if (moves->count > 0)
            memcpy(items, moves->items, (size_t)moves->count * sizeof *items);
        moves->items = items;
        moves->size = size;
    }
    moves->items[moves->count++] = move;
}

static DdlMoveKind
move_kind(const Dependent *dependent)
{
    return dependent->kind == BODY || dependent->kind == SIGNATURE ? DDL_MOVE_FUNCTION
                                                                   : DDL_MOVE_RELATION;
}

/* From the real names to the stand-ins', and back. */
static void
map_names(Migration *run, const Dependent *dependent, bool forth)
{
    const DdlMove to = {move_kind(dependent), dependent->name, dependent->schema,
                        dependent->stand_in_schema};
    const DdlMove fro = {to.kind, to.name, to.new_schema, to.schema};

    if (forth)
        add_move(run, &run->dependents.forth, to);
    add_move(run, &run->dependents.back, fro);
}

/* ---- before the ALTER ---- */

static bool
list_dependents(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    Dependents *dependents = &run->dependents;
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_DEPENDENTS, (const char *const[]){oid, run->names.rehearsal, NULL},
                   &rows, err))
        return err_wrap(err, "reading what depends on %s", run->original.qualified);
    dependents->count = rows_count(rows);
    dependents->items =
        arena_alloc(run->arena, (size_t)(dependents->count + 1) * sizeof *dependents->items);
    for (int i = 0; i < dependents->count; i++)
        dependents->items[i] = (Dependent){.kind = rows_text(rows, i, 0)[0],
                                           .oid = (uint32_t)rows_int(rows, i, 1),
                                           .schema = keep(run, rows_text(rows, i, 2)),
                                           .name = keep(run, rows_text(rows, i, 3)),
                                           .part = keep(run, rows_text(rows, i, 4)),
                                           .text = keep(run, rows_text(rows, i, 5)),
                                           .stand_in_schema = keep(run, rows_text(rows, i, 6)),
                                           .qualified = keep(run, rows_text(rows, i, 7))};
    return true;
}

/* The relation that a rule or policy belongs to, unless it has a stand-in already. */
static bool
stand_in_for_event(Migration *run, Conn *conn, const Dependent *dependent, Err *err)
{
    AUTO(Text) *create =
        sql_build("create table if not exists %I.%I (like %S)", dependent->stand_in_schema,
                  dependent->name, dependent->qualified);

    (void)run;
    return query_exec(conn, create, err);
}

static bool
clone_overloads(Migration *run, Conn *conn, const Dependent *dependent, Err *err)
{
    const Moves *forth = &run->dependents.forth;
    AUTO(Text) *oid = mem_format("%u", dependent->oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_OVERLOADS, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++) {
        const char *text =
            ddl_requalify(rows_text(rows, i, 0), forth->items, forth->count, run->arena, err);

        if (text == NULL || !query_exec(conn, text, err))
            return false;
    }
    return true;
}

static const char *
known_stand_ins(const Migration *run, Buf *list)
{
    for (int i = 0; i < run->dependents.count; i++)
        if (run->dependents.items[i].stand_in_oid != 0)
            buf_printf(list, "%s%u", list->len == 0 ? "{" : ",",
                       run->dependents.items[i].stand_in_oid);
    buf_add_text(list, list->len == 0 ? "{}" : "}");
    return buf_text(list);
}

static bool
find_stand_in(Migration *run, Conn *conn, Dependent *dependent, Err *err)
{
    const char kind[] = {dependent->kind, '\0'};
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(known);
    const char *const params[] = {kind,
                                  dependent->stand_in_schema,
                                  dependent->name,
                                  dependent->part,
                                  known_stand_ins(run, &known),
                                  NULL};

    if (!query_one(conn, SQL_FIND_STAND_IN, params, &rows, err))
        return false;
    dependent->stand_in_oid = (uint32_t)rows_int(rows, 0, 0);
    if (dependent->stand_in_oid == 0)
        return err_set(err, ERR_FAILED, "the stand-in was not found");
    return true;
}

/* The statement that makes a stand-in, of the text whose names are replaced already. */
static char *
build_stand_in(const Dependent *dependent, const char *text)
{
    switch (dependent->kind) {
    case VIEW:
        return sql_build("create view %I.%I as %S", dependent->stand_in_schema, dependent->name,
                         text);
    case MATVIEW:
        return sql_build("create materialized view %I.%I as %S with no data",
                         dependent->stand_in_schema, dependent->name, text);
    default:
        return sql_build("%S", text);
    }
}

/* Rules and policies are made on a stand-in, functions in the schema of one; views name theirs. */
static const char *
text_of_stand_in(Migration *run, const Dependent *dependent, Err *err)
{
    const Moves *forth = &run->dependents.forth;
    Moves moves = {0};

    for (int i = 0; i < forth->count; i++)
        add_move(run, &moves, forth->items[i]);
    if (dependent->kind != VIEW && dependent->kind != MATVIEW)
        add_move(run, &moves,
                 (DdlMove){move_kind(dependent), dependent->name, dependent->schema,
                           dependent->stand_in_schema});
    return ddl_requalify(dependent->text, moves.items, moves.count, run->arena, err);
}

/* What is made anew gets its labels anew: will their providers have it? */
static bool
try_labels(Migration *run, Conn *conn, const Dependent *dependent, Err *err)
{
    AUTO(Text) *name = sql_build("%I.%I", dependent->stand_in_schema, dependent->name);
    SqlList list = {0};

    switch (dependent->kind) {
    case MATVIEW:
        return definition_list_labels(run, conn, dependent->oid, name, &list, err) &&
               definition_try_labels(conn, &list, err);
    case SIGNATURE:
        return definition_list_function_labels(run, conn, dependent->oid, dependent->stand_in_oid,
                                               &list, err) &&
               definition_try_labels(conn, &list, err);
    default:
        return true;
    }
}

/* The connected role may create schemas; the table's owner, as whom it acts here, need not. */
static bool
make_schema(const Migration *run, Conn *conn, const char *schema, Err *err)
{
    const char *owner = run->original.owner;
    AUTO(Text) *sql =
        run->is_superuser
            ? sql_build("create schema if not exists %I", schema)
            : sql_build("set local role none; create schema if not exists %I authorization %I;"
                        "set local role %I",
                        schema, owner, owner);

    return query_exec(conn, sql, err);
}

static bool
make_stand_in(Migration *run, Conn *conn, Dependent *dependent, Err *err)
{
    AUTO(Text) *create = NULL;
    const char *text;

    map_names(run, dependent, dependent->kind == MATVIEW || dependent->kind == SIGNATURE);
    text = text_of_stand_in(run, dependent, err);
    if (text == NULL)
        return false;
    create = build_stand_in(dependent, text);
    if (!make_schema(run, conn, dependent->stand_in_schema, err))
        return false;
    if ((dependent->kind == RULE || dependent->kind == POLICY) &&
        !stand_in_for_event(run, conn, dependent, err))
        return false;
    return query_exec(conn, create, err) && find_stand_in(run, conn, dependent, err) &&
           try_labels(run, conn, dependent, err) &&
           (dependent->kind != SIGNATURE || clone_overloads(run, conn, dependent, err));
}

bool
dependents_clone(Migration *run, Conn *conn, Err *err)
{
    const DdlMove to = {DDL_MOVE_RELATION, run->original.name, run->original.schema,
                        run->names.shadow_schema};
    const DdlMove fro = {DDL_MOVE_RELATION, to.name, to.new_schema, to.schema};

    if (!list_dependents(run, conn, err))
        return false;
    if (run->dependents.count == 0)
        return true;
    add_move(run, &run->dependents.forth, to);
    add_move(run, &run->dependents.back, fro);
    if (!query_exec(conn, "set local check_function_bodies to off", err))
        return false;
    for (int i = 0; i < run->dependents.count; i++)
        if (!make_stand_in(run, conn, &run->dependents.items[i], err))
            return err_wrap(err, "rehearsing %s", run->dependents.items[i].qualified);
    return query_exec(conn, "set local check_function_bodies to on", err);
}

/* ---- after the ALTER ---- */

/* The stand-in's definition in real names, NULL when CASCADE has taken it away. */
static bool
read_stand_in(Migration *run, Conn *conn, const Dependent *dependent, const char **text, Err *err)
{
    const Moves *back = &run->dependents.back;
    const char kind[] = {dependent->kind, '\0'};
    AUTO(Text) *oid = mem_format("%u", dependent->stand_in_oid);
    AUTO(Rows) *rows = NULL;

    *text = NULL;
    if (!query_one(conn, SQL_READ_STAND_IN, (const char *const[]){kind, oid, NULL}, &rows, err))
        return false;
    if (rows_text(rows, 0, 0) == NULL)
        return true;
    *text = ddl_requalify(rows_text(rows, 0, 0), back->items, back->count, run->arena, err);
    return *text != NULL;
}

/* One more statement of the swap, of which `head` was asked from the server. */
static bool
read_view(Migration *run, Conn *conn, const Dependent *dependent, const char *text, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", dependent->oid);
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *sql = NULL;

    if (!query_one(conn, SQL_VIEW_HEAD, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    sql = sql_build("%S%S", rows_text(rows, 0, 0), text);
    sql_list_add(run, &run->definition.moved, sql);
    return true;
}

static bool
read_extensions(Migration *run, Conn *conn, const Dependent *dependent, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", dependent->oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_EXTENSIONS, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        sql_list_add(run, &run->definition.moved, rows_text(rows, i, 0));
    return true;
}

static bool
read_signature(Migration *run, Conn *conn, const Dependent *dependent, const char *text,
               SqlList *drops, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", dependent->oid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_SIGNATURE, (const char *const[]){oid, run->names.schema, NULL}, &rows,
                   err))
        return false;
    sql_list_add(run, &run->definition.swap, rows_text(rows, 0, 0));
    if (text != NULL) {
        sql_list_add(run, &run->definition.moved, text);
        sql_list_add(run, &run->definition.moved, rows_text(rows, 0, 1));
        if (!read_extensions(run, conn, dependent, err) ||
            !definition_list_function_labels(run, conn, dependent->oid, dependent->oid,
                                             &run->definition.moved, err))
            return false;
    }
    sql_list_add(run, drops, rows_text(rows, 0, 2));
    return true;
}

static bool
read_drop(Migration *run, Conn *conn, const Dependent *dependent, SqlList *drops, Err *err)
{
    const char kind[] = {dependent->kind, '\0'};
    AUTO(Text) *oid = mem_format("%u", dependent->oid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_DROP,
                   (const char *const[]){kind, oid, dependent->qualified, dependent->part, NULL},
                   &rows, err))
        return false;
    sql_list_add(run, drops, rows_text(rows, 0, 0));
    return true;
}

static bool
read_dependent(Migration *run, Conn *conn, const Dependent *dependent, SqlList *drops, Err *err)
{
    const char *text;

    if (!read_stand_in(run, conn, dependent, &text, err))
        return false;
    if (dependent->kind == MATVIEW)
        return matviews_read(run, conn, dependent, text, drops, err);
    if (dependent->kind == SIGNATURE)
        return read_signature(run, conn, dependent, text, drops, err);
    if (text == NULL)
        return read_drop(run, conn, dependent, drops, err);
    if (dependent->kind == VIEW)
        return read_view(run, conn, dependent, text, err);
    sql_list_add(run, &run->definition.moved, text);
    return dependent->kind != BODY || read_extensions(run, conn, dependent, err);
}

/* What the swap locks: views before all tables, then the tables of rules and policies. */
static bool
read_locks(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_LOCKS, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        sql_list_add_once(
            run, rows_bool(rows, i, 1) ? &run->definition.views : &run->definition.partners,
            rows_text(rows, i, 0));
    return true;
}

static bool
drop_stand_ins(Migration *run, Conn *conn, Err *err)
{
    BUF_AUTO(sql);

    for (int i = 0; i < run->dependents.count; i++)
        sql_add(&sql, "drop schema if exists %I cascade;",
                run->dependents.items[i].stand_in_schema);
    return sql.len == 0 || query_exec(conn, buf_text(&sql), err);
}

bool
dependents_read(Migration *run, Conn *conn, Err *err)
{
    SqlList drops = {0};

    /* a body may mean what its caller's search_path says */
    if (run->dependents.count > 0)
        sql_list_add(run, &run->definition.swap, "set local check_function_bodies to off");
    for (int i = 0; i < run->dependents.count; i++)
        if (!read_dependent(run, conn, &run->dependents.items[i], &drops, err))
            return err_wrap(err, "reading the definition of %s",
                            run->dependents.items[i].qualified);
    /* what reads them has been replaced by then, or was taken away with them */
    for (int i = drops.count - 1; i >= 0; i--)
        sql_list_add(run, &run->definition.moved, drops.items[i]);
    /* stand-ins first: a constant such as 't'::regclass in one depends on the original */
    return drop_stand_ins(run, conn, err) && read_locks(run, conn, err);
}

bool
dependents_refresh_functions(Migration *run, Conn *conn, char **sql, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *body = NULL;
    AUTO(Rows) *names = NULL;

    if (!query_one(conn, SQL_RENEWED_NAMES, (const char *const[]){oid, NULL}, &names, err) ||
        !query_one(conn, SQL_WARM, (const char *const[]){rows_text(names, 0, 0), NULL}, &rows, err))
        return err_wrap(err, "looking for functions that mention %s", run->original.qualified);
    if (rows_text(rows, 0, 1) != NULL)
        log_warning("functions that this role may not alter mention the table: %s; where they have "
                    "variables of its row type, sessions that used them before the swap must "
                    "reconnect or run DISCARD PLANS",
                    rows_text(rows, 0, 1));
    if (rows_text(rows, 0, 0)[0] != '\0')
        body = sql_build(REFRESH, rows_text(rows, 0, 0));
    *sql = body == NULL ? mem_copy_text("") : sql_build("do %L", body);
    return true;
}
