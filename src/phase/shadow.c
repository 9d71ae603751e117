/*
 * Phase "shadow": a table of the same name in a schema of its own, with the new shape.
 *
 * One transaction does it all - clone, rehearse the ALTER on the empty clone, read the result, strip
 * it for loading, record the run - so that a statement that PostgreSQL refuses leaves nothing.
 * The phase holds no lock on the original beyond the ACCESS SHARE of LIKE.
 */
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/definition.h"
#include "phase/migration.h"

/* A statement of the operator's is judged by the server; what it says is a refusal, not our bug. */
static bool
refuse(Err *err)
{
    if (err->kind != ERR_LOST && err->kind != ERR_STOPPED && err->kind != ERR_RETRY)
        err->kind = ERR_REFUSED;
    return false;
}

/* Names mean what they mean in psql, with the shadow in front of everything. */
static bool
use_operator_path(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *sql = sql_build(
        "set local search_path to %I, %I, %S", run->names.shadow_schema, run->settings->schema,
        conn_role_search_path(conn)[0] == '\0' ? "pg_catalog" : conn_role_search_path(conn));

    return query_exec(conn, sql, err);
}

static bool
use_pinned_path(Conn *conn, Err *err)
{
    return query_exec(conn, "set local search_path to pg_catalog, pg_temp", err);
}

/* Both schemas, the bare shadow, and the stand-in for the original that the projection reads. */
static bool
create_tables(Migration *run, Conn *conn, Err *err)
{
    const char *owner = run->original.owner;
    AUTO(Text) *sql = sql_build(
        "create schema %I authorization %I; create schema %I authorization %I;"
        "create schema %I authorization %I; set local role %I;"
        "create table %S (like %S including all excluding indexes excluding statistics);"
        "create table %I.source (like %S); alter table %I.source add column %I integer",
        run->names.schema, owner, run->names.shadow_schema, owner, run->names.rehearsal, owner,
        owner, run->shadow_qualified, run->original.qualified, run->names.rehearsal,
        run->original.qualified, run->names.rehearsal, run->projection.seq);
    AUTO(Rows) *rows = NULL;

    if (!query_exec(conn, sql, err) ||
        !query_one(conn, "select $1::pg_catalog.regclass::pg_catalog.oid",
                   (const char *const[]){run->shadow_qualified, NULL}, &rows, err))
        return err_wrap(err, "creating the shadow table");
    run->shadow.oid = (uint32_t)rows_int(rows, 0, 0);
    return true;
}

/* Where the statement's foreign keys point while it is rehearsed; NULL leaves a name as written. */
static bool
resolve_references(Migration *run, Conn *conn, const DdlStatement *statement, const char **names,
                   Err *err)
{
    for (int i = 0; i < statement->reference_count; i++) {
        const DdlReference *reference = &statement->references[i];
        AUTO(Text) *name = reference->schema == NULL
                               ? sql_build("%I", reference->name)
                               : sql_build("%I.%I", reference->schema, reference->name);
        AUTO(Rows) *rows = NULL;
        uint32_t oid;

        names[i] = NULL;
        if (!use_operator_path(run, conn, err) ||
            !query_one(conn, "select coalesce(pg_catalog.to_regclass($1), 0)::pg_catalog.oid",
                       (const char *const[]){name, NULL}, &rows, err) ||
            !use_pinned_path(conn, err))
            return false;
        oid = (uint32_t)rows_int(rows, 0, 0);
        if (oid == run->original.oid || oid == run->shadow.oid)
            names[i] = run->shadow_qualified;
        else if (oid != 0 && !definition_stand_in(run, conn, oid, &names[i], err))
            return false;
    }
    return true;
}

/*
 * The value that existing rows get for an added column.  The server decides, on a probe table:
 * a constant or stable default is evaluated once and kept as "missing value", a volatile one is not.
 */
static bool
probe_default(Migration *run, Conn *conn, const DdlAction *action, const Column *column,
              const char **value, Err *err)
{
    AUTO(Text) *create = sql_build(
        "create table %I.probe (); alter table %I.probe add column c %S default %S",
        run->names.rehearsal, run->names.rehearsal, column->base_type, action->expression);
    AUTO(Text) *read = sql_build(
        "select a.atthasmissing, (a.attmissingval::pg_catalog.text::pg_catalog.text[])[1]"
        "  from pg_catalog.pg_attribute a where a.attrelid = '%S.probe'::pg_catalog.regclass"
        "   and a.attname = 'c'",
        run->names.rehearsal);
    AUTO(Text) *drop = sql_build("drop table %I.probe", run->names.rehearsal);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(literal);

    if (!use_operator_path(run, conn, err) || !query_exec(conn, create, err))
        return refuse(err);
    if (!use_pinned_path(conn, err) || !query_one(conn, read, NULL, &rows, err) ||
        !query_exec(conn, drop, err))
        return false;
    if (rows_bool(rows, 0, 0))
        sql_add_literal(&literal, rows_text(rows, 0, 1));
    else
        buf_add_text(&literal, action->expression);
    *value = arena_copy(run->arena, buf_text(&literal), literal.len);
    return true;
}

static const DdlAction *
find_added(const DdlStatement *statement, const char *column)
{
    for (int i = 0; i < statement->action_count; i++)
        if (statement->actions[i].kind == ACTION_ADD_COLUMN &&
            strcmp(statement->actions[i].column, column) == 0)
            return &statement->actions[i];
    return NULL;
}

/* What existing rows get in the columns that the statement added. */
static bool
find_values(Migration *run, Conn *conn, const DdlStatement *statement, const TableShape *before,
            const TableShape *after, const char **values, Err *err)
{
    for (int i = 0; i < after->column_count; i++) {
        const Column *column = &after->columns[i];
        const DdlAction *action = find_added(statement, column->name);

        values[i] = NULL;
        if (catalog_find_attnum(before, column->attnum) >= 0 || action == NULL ||
            action->is_serial || action->is_identity || action->is_generated)
            continue;
        if (action->expression == NULL)
            values[i] = column->has_domain_default ? NULL : "null";
        else if (!probe_default(run, conn, action, column, &values[i], err))
            return false;
    }
    return true;
}

/* Run one statement of the operator's on the shadow and follow it with the projection. */
static bool
rehearse(Migration *run, Conn *conn, const DdlStatement *statement, TableShape *shape, Err *err)
{
    TableShape after;
    const char **names =
        arena_alloc(run->arena, sizeof *names * (size_t)(statement->reference_count + 1));
    const char **values;
    const char *text;

    if (!resolve_references(run, conn, statement, names, err))
        return false;
    text = ddl_rewrite(statement, run->shadow_qualified, names, run->arena);
    if (!use_operator_path(run, conn, err) || !query_exec(conn, text, err))
        return refuse(err);
    if (!use_pinned_path(conn, err) ||
        !catalog_read_table(conn, run->shadow.oid, run->arena, &after, err))
        return false;
    values = arena_alloc(run->arena, sizeof *values * (size_t)(after.column_count + 1));
    if (!find_values(run, conn, statement, shape, &after, values, err) ||
        !projection_add(&run->projection, shape, &after, statement, values, &run->original,
                        run->arena, err))
        return false;
    *shape = after;
    return true;
}

/* An owner's change of table owner needs the operator's own rights when these are a superuser's. */
static bool
choose_role(Migration *run, Conn *conn, Err *err)
{
    for (int i = 0; i < run->ddl.statement_count; i++)
        for (int j = 0; j < run->ddl.statements[i].action_count; j++)
            if (run->ddl.statements[i].actions[j].kind == ACTION_CHANGE_OWNER && run->is_superuser)
                return query_exec(conn, "reset role", err);
    return true;
}

static size_t
length_without_semicolon(const char *text)
{
    size_t len = strlen(text);

    while (len > 0 && strchr("; \n", text[len - 1]) != NULL)
        len--;
    return len;
}

/*
 * Let the server resolve every name in the projection once: as a view's definition it comes back
 * fully qualified, and means the same under the pinned search_path.
 */
static bool
resolve_projection(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *mark = mem_format("%s.source", run->names.rehearsal);
    AUTO(Text) *view = mem_format("%s.projection", run->names.rehearsal);
    BUF_AUTO(create);
    AUTO(Rows) *rows = NULL;
    const char *text;
    const char *at;

    sql_add(&create, "create view %I.projection (", run->names.rehearsal);
    for (int i = 0; i < run->projection.output_count; i++)
        sql_add(&create, "%I, ", run->projection.outputs[i].name);
    sql_add(&create, "%I) as %S%S%S", run->projection.seq, run->projection.head, mark,
            run->projection.tail);
    if (!use_operator_path(run, conn, err) || !query_exec(conn, buf_text(&create), err))
        return refuse(err);
    if (!query_exec(conn,
                    "set local search_path to pg_catalog, pg_temp; set local datestyle to "
                    "'ISO, MDY'; set local intervalstyle to postgres; set local "
                    "extra_float_digits to 3; set local bytea_output to hex",
                    err) ||
        !query_one(conn, "select pg_catalog.pg_get_viewdef($1::pg_catalog.regclass)",
                   (const char *const[]){view, NULL}, &rows, err))
        return false;
    text = rows_text(rows, 0, 0);
    at = strstr(text, mark);
    if (at == NULL || strstr(at + 1, mark) != NULL)
        return err_set(err, ERR_FAILED, "the resolved projection does not name its source once");
    run->projection.head = arena_copy(run->arena, text, (size_t)(at - text));
    at += strlen(mark);
    run->projection.tail = arena_copy(run->arena, at, length_without_semicolon(at));
    return true;
}

static bool
use_copy_statement(Migration *run, Err *err)
{
    CopyStatement copy;

    if (run->settings->copy_statement == NULL)
        return true;
    return ddl_parse_copy(run->settings->copy_statement, run->original.schema, run->original.name,
                          run->arena, &copy, err) &&
           projection_use_copy(&run->projection, &copy, &run->shadow, &run->original, run->arena,
                               err);
}

/* Rehearse all statements; leaves shadow, projection and key mapping filled. */
static bool
alter_shadow(Migration *run, Conn *conn, Err *err)
{
    TableShape shape;

    if (!catalog_read_table(conn, run->shadow.oid, run->arena, &shape, err) ||
        !choose_role(run, conn, err))
        return false;
    for (int i = 0; i < run->ddl.statement_count; i++)
        if (!rehearse(run, conn, &run->ddl.statements[i], &shape, err))
            return false;
    run->shadow = shape;
    run->shadow_key =
        arena_alloc(run->arena, sizeof *run->shadow_key * (size_t)(run->original.key_count + 1));
    return use_copy_statement(run, err) &&
           projection_map_key(&run->projection, &run->shadow, &run->original, run->shadow_key,
                              err) &&
           resolve_projection(run, conn, err);
}

/* The run's own records belong to the role that connected, not to the table's owner. */
static bool
record(Migration *run, Conn *conn, Err *err)
{
    const RunStart start = {.original_oid = run->original.oid,
                            .shadow_oid = run->shadow.oid,
                            .table = run->original.qualified,
                            .owner = run->original.owner,
                            .statement = run->settings->statement,
                            .plugin =
                                run->settings->plugin == PLUGIN_PGOUTPUT ? "pgoutput" : "wal2json"};

    if (!query_exec(conn, "reset role", err) || !state_prepare(conn, err) ||
        !state_start_run(conn, &run->names, &start, err))
        return false;
    /* from here on there may be something to clean up, whatever the answer is */
    run->started = true;
    return query_exec(conn, "commit", err);
}

/* Values go in binary between the copy's two ends only if every type on both sides can. */
static void
choose_formats(Migration *run)
{
    run->binary_copy = true;
    run->binary_stream =
        run->settings->plugin == PLUGIN_PGOUTPUT && conn_version(run->control) >= 140000;
    for (int i = 0; i < run->original.column_count; i++)
        run->binary_stream = run->binary_stream && run->original.columns[i].binary_io;
    for (int i = 0; i < run->projection.output_count; i++)
        run->binary_copy =
            run->binary_copy && run->shadow.columns[run->projection.outputs[i].column].binary_io;
}

/*
 * The ALTER chooses names for what it makes by what is taken in the table's schema; here it runs in
 * another one.  So names like the table's are taken here, too, while it runs.
 */
static bool
reserve_names(Migration *run, Conn *conn, Err *err)
{
    static const char SQL[] =
        "select coalesce(pg_catalog.string_agg(pg_catalog.format('create view %I.%I as select 1',"
        "         $3::text, o.relname), ';'), '')"
        "  from pg_catalog.pg_class o join pg_catalog.pg_namespace n on n.oid = o.relnamespace"
        /* a long name is cut to make room for what is added to it */
        " where n.nspname = $1 and pg_catalog.starts_with(o.relname, pg_catalog.left($2, 24))"
        "   and not exists (select from pg_catalog.pg_class s join pg_catalog.pg_namespace sn"
        "         on sn.oid = s.relnamespace where sn.nspname = $3 and s.relname = o.relname)";
    AUTO(Rows) *rows = NULL;

    return query_one(conn, SQL,
                     (const char *const[]){run->original.schema, run->original.name,
                                           run->names.shadow_schema, NULL},
                     &rows, err) &&
           (rows_text(rows, 0, 0)[0] == '\0' || query_exec(conn, rows_text(rows, 0, 0), err));
}

static bool
release_names(Migration *run, Conn *conn, Err *err)
{
    static const char SQL[] =
        "select coalesce(pg_catalog.string_agg(pg_catalog.format('drop view %I.%I', n.nspname,"
        "         c.relname), ';'), '')"
        "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = $1 and c.relkind = 'v'";
    AUTO(Rows) *rows = NULL;

    return query_one(conn, SQL, (const char *const[]){run->names.shadow_schema, NULL}, &rows,
                     err) &&
           (rows_text(rows, 0, 0)[0] == '\0' || query_exec(conn, rows_text(rows, 0, 0), err));
}

/* What moves to the table's schema must not meet its name there; the original's own things leave. */
static bool
check_names(Migration *run, Conn *conn, Err *err)
{
    static const char SQL[] =
        "select o.relname from pg_catalog.pg_class o"
        "  join pg_catalog.pg_namespace n on n.oid = o.relnamespace and n.nspname = $1"
        "  join pg_catalog.pg_class s on s.relname = o.relname"
        "  join pg_catalog.pg_namespace sn on sn.oid = s.relnamespace and sn.nspname = $2"
        " where o.oid <> $3::pg_catalog.oid"
        "   and not exists (select from pg_catalog.pg_index i where i.indexrelid = o.oid"
        "         and i.indrelid = $3::pg_catalog.oid)"
        "   and not exists (select from pg_catalog.pg_depend d where d.objid = o.oid"
        "         and d.refobjid = $3::pg_catalog.oid and d.deptype = 'i'"
        "         and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)";
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL,
                   (const char *const[]){run->original.schema, run->names.shadow_schema, oid, NULL},
                   &rows, err))
        return false;
    if (rows_count(rows) == 0)
        return true;
    return err_set(err, ERR_REFUSED, "relation \"%s\" already exists in schema \"%s\"",
                   rows_text(rows, 0, 0), run->original.schema);
}

static bool
build(Migration *run, Conn *conn, Err *err)
{
    return query_exec(conn, "begin; set local lock_timeout to '5s'", err) &&
           create_tables(run, conn, err) && definition_clone(run, conn, err) &&
           reserve_names(run, conn, err) && alter_shadow(run, conn, err) &&
           release_names(run, conn, err) && check_names(run, conn, err) &&
           definition_read(run, conn, err) && definition_strip(run, conn, err) &&
           record(run, conn, err);
}

bool
shadow_enter(Migration *run, Err *err)
{
    AUTO(Conn) *conn = migration_connect(run, CONN_EXPRESSIONS, "shadow", err);
    AUTO(Text) *qualified = NULL;

    if (conn == NULL)
        return false;
    projection_begin(&run->original, run->arena, &run->projection);
    qualified = sql_build("%I.%I", run->names.shadow_schema, run->original.name);
    run->shadow_qualified = arena_copy(run->arena, qualified, strlen(qualified));
    if (!build(run, conn, err)) {
        query_rollback(conn);
        return false;
    }
    choose_formats(run);
    log_info("shadow table %s created, %d of its %d columns are filled from the original",
             run->shadow_qualified, run->projection.output_count, run->shadow.column_count);
    return true;
}
