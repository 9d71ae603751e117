/*
 * Phase "shadow": a table of the same name in a schema of its own, with the new shape.
 *
 * One transaction does it all - clone, rehearse the ALTER on the empty clone, read the result, strip
 * it for loading, record the run - so that a statement that PostgreSQL refuses leaves nothing.
 * The phase holds no lock on the original beyond the ACCESS SHARE of LIKE.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "pg/tree.h"
#include "pg/version.h"
#include "phase/definition.h"
#include "phase/identity.h"
#include "phase/instant.h"
#include "phase/migration.h"
#include "phase/resume.h"
#include "phase/stage.h"
#include "phase/tree.h"

enum { REHEARSALS_MAX = 100, COLUMNS_MAX = 1600 };

/* A statement of the operator's is judged by the server; what it says is a refusal, not our bug. */
static bool
refuse(Err *err)
{
    if (err->kind != ERR_LOST && err->kind != ERR_STOPPED && err->kind != ERR_RETRY)
        err->kind = ERR_REFUSED;
    return false;
}

/* Replace all of `from` in `text` by `to`, as far as there is room. */
static void
replace_all(char *text, size_t size, const char *from, const char *to)
{
    BUF_AUTO(result);
    const char *at = text;

    for (const char *hit; (hit = strstr(at, from)) != NULL; at = hit + strlen(from)) {
        buf_add(&result, at, (size_t)(hit - at));
        buf_add_text(&result, to);
    }
    buf_add_text(&result, at);
    (void)snprintf(text, size, "%s", buf_text(&result));
}

/* "walter_<run>_r2200.v" plays "v" of the schema with that oid. */
static void
name_real_schemas(const Migration *run, Err *err)
{
    const char *at;

    while ((at = strstr(err->message, run->names.rehearsal)) != NULL) {
        size_t len = strlen(run->names.rehearsal);
        AUTO(Text) *stand_in = NULL;

        len += strspn(at + len, "0123456789");
        if (at[len] != '.')
            return;
        stand_in = mem_format("%.*s.", (int)len, at);
        replace_all(err->message, sizeof err->message, stand_in, "");
    }
}

/* PostgreSQL speaks of the shadow and of stand-ins; the operator knows the tables they play. */
static void
name_real_tables(Migration *run, Err *err)
{
    AUTO(Text) *shadow = mem_format("%s.", run->names.shadow_schema);
    AUTO(Text) *rehearsal = mem_format("%s.", run->names.rehearsal);
    Err ignored = {0};
    const char *at;

    replace_all(err->message, sizeof err->message, shadow, "");
    replace_all(err->message, sizeof err->message, rehearsal, "");
    name_real_schemas(run, err);
    /* bounded: a table may be called like a stand-in */
    for (int i = 0; i < 8 && (at = strstr(err->message, "other_")) != NULL; i++) {
        size_t digits = strspn(at + strlen("other_"), "0123456789");
        AUTO(Text) *stand_in = mem_format("%.*s", (int)(strlen("other_") + digits), at);
        AUTO(Rows) *rows = NULL;

        if (digits == 0 || conn_is_lost(run->control) ||
            !query_one(run->control, "select relname from pg_catalog.pg_class where oid = $1",
                       (const char *const[]){stand_in + strlen("other_"), NULL}, &rows, &ignored))
            return;
        replace_all(err->message, sizeof err->message, stand_in, rows_text(rows, 0, 0));
    }
}

/* Names and values mean what they mean in psql, with the shadow in front of everything. */
static bool
think_as_operator(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *sql = sql_build(
        "%S set local search_path to %I, %I, %S", conn_role_formats(conn), run->names.shadow_schema,
        run->settings->schema,
        conn_role_search_path(conn)[0] == '\0' ? "pg_catalog" : conn_role_search_path(conn));

    return query_exec(conn, sql, err);
}

/* What the server writes for us means the same in every session. */
static bool
think_as_walter(Conn *conn, Err *err)
{
    return query_exec(conn,
                      "set local search_path to pg_catalog, pg_temp;"
                      "set local datestyle to 'ISO, MDY'; set local intervalstyle to postgres;"
                      "set local extra_float_digits to 3; set local bytea_output to hex",
                      err);
}

/* Our lock was not granted, or the owner cannot even read what is his: both have a cure. */
static bool
explain_refusal(const Migration *run, Err *err)
{
    if (err->kind == ERR_RETRY) {
        err->kind = ERR_REFUSED;
        err_hint(err,
                 "Another session keeps a lock on %s that forbids even reading it; try again "
                 "when its ALTER TABLE, VACUUM FULL or the like is over.",
                 run->original.qualified);
    } else if (err->kind == ERR_REFUSED) {
        err_hint(err,
                 "Rows are copied with the owner's rights: GRANT USAGE ON SCHEMA \"%s\" and "
                 "SELECT ON TABLE %s TO \"%s\";",
                 run->original.schema, run->original.qualified, run->original.owner);
    }
    return err_wrap(err, "creating the shadow table");
}

/*
 * The schemas, the bare shadow, and the stand-in for the original that the projection reads; these
 * belong to the table's owner.  All DDL that follows is the operator's.
 */
static bool
create_tables(Migration *run, Conn *conn, Err *err)
{
    const char *owner = run->original.owner;
    AUTO(Text) *sql = sql_build(
        "create schema %I authorization %I; create schema %I authorization %I;"
        "create schema %I authorization %I; set local role %I;"
        "create table %S (like %S including all excluding indexes excluding statistics excluding"
        " identity)%S%S;"
        /* default privileges may even take from the owner */
        "grant all on table %S to %I;"
        "create table %I.source (like %S); alter table %I.source add column %I integer;%S",
        run->names.schema, owner, run->names.shadow_schema, owner, run->names.rehearsal, owner,
        owner, run->shadow_qualified, run->original.qualified,
        run->is_parent ? " partition by " : "", run->is_parent ? run->partition_key : "",
        run->shadow_qualified, owner, run->names.rehearsal, run->original.qualified,
        run->names.rehearsal, run->projection.seq, run->is_superuser ? "reset role" : "");
    AUTO(Rows) *rows = NULL;

    if (!query_exec(conn, sql, err))
        return explain_refusal(run, err);
    if (!query_one(conn, "select $1::pg_catalog.regclass::pg_catalog.oid",
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
        if (!think_as_operator(run, conn, err) ||
            !query_one(conn, "select coalesce(pg_catalog.to_regclass($1), 0)::pg_catalog.oid",
                       (const char *const[]){name, NULL}, &rows, err) ||
            !think_as_walter(conn, err))
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
probe_default(Migration *run, Conn *conn, const char *expression, const Column *column,
              NewValue *value, Err *err)
{
    AUTO(Text) *create =
        sql_build("create table %I.probe (); alter table %I.probe add column c %S default %S",
                  run->names.rehearsal, run->names.rehearsal, column->base_type, expression);
    AUTO(Text) *read = sql_build(
        "select a.atthasmissing, (a.attmissingval::pg_catalog.text::pg_catalog.text[])[1]"
        "  from pg_catalog.pg_attribute a where a.attrelid = '%S.probe'::pg_catalog.regclass"
        "   and a.attname = 'c'",
        run->names.rehearsal);
    AUTO(Text) *drop = sql_build("drop table %I.probe", run->names.rehearsal);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(literal);

    if (!think_as_operator(run, conn, err) || !query_exec(conn, create, err))
        return refuse(err);
    if (!think_as_walter(conn, err) || !query_one(conn, read, NULL, &rows, err) ||
        !query_exec(conn, drop, err))
        return false;
    value->is_constant = rows_bool(rows, 0, 0);
    if (value->is_constant)
        sql_add_literal(&literal, rows_text(rows, 0, 1));
    else
        buf_add_text(&literal, expression);
    value->sql = arena_copy(run->arena, buf_text(&literal), literal.len);
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
            const TableShape *after, NewValue *values, Err *err)
{
    for (int i = 0; i < after->column_count; i++) {
        const Column *column = &after->columns[i];
        const DdlAction *action = find_added(statement, column->name);
        const char *expression;

        values[i] = (NewValue){0};
        if (catalog_find_attnum(before, column->attnum) >= 0 || action == NULL ||
            action->is_serial || action->is_identity || action->is_generated)
            continue;
        expression = action->expression != NULL ? action->expression : column->domain_default;
        if (expression == NULL)
            values[i] = (NewValue){.sql = "null", .is_constant = true};
        else if (!probe_default(run, conn, expression, column, &values[i], err))
            return false;
    }
    return true;
}

/* The sequence of an identity column that is restarted does not go on where the original's is. */
static void
note_restarts(Migration *run, const DdlStatement *statement, const TableShape *after)
{
    for (int i = 0; i < statement->action_count; i++) {
        const DdlAction *action = &statement->actions[i];
        int column = action->kind == ACTION_RESTART_IDENTITY
                         ? catalog_find_column(after, action->column)
                         : -1;

        if (column >= 0) {
            AUTO(Text) *attnum = mem_format("%d", after->columns[column].attnum);

            sql_list_add(run, &run->definition.restarted, attnum);
        }
    }
}

/* Run one statement of the operator's on the shadow and follow it with the projection. */
static bool
rehearse(Migration *run, Conn *conn, const DdlStatement *statement, TableShape *shape, Err *err)
{
    TableShape after;
    const char **names =
        arena_alloc(run->arena, sizeof *names * (size_t)(statement->reference_count + 1));
    NewValue *values;
    const char *text;

    if (!resolve_references(run, conn, statement, names, err))
        return false;
    text = ddl_rewrite(statement, run->shadow_qualified, names, run->arena);
    if (!think_as_operator(run, conn, err) || !query_exec(conn, text, err))
        return refuse(err);
    if (!think_as_walter(conn, err) ||
        !catalog_read_table(conn, run->shadow.oid, run->arena, &after, err))
        return false;
    values = arena_alloc(run->arena, sizeof *values * (size_t)(after.column_count + 1));
    if (!find_values(run, conn, statement, shape, &after, values, err) ||
        !projection_add(&run->projection, shape, &after, statement, values, &run->original,
                        run->arena, err))
        return false;
    note_restarts(run, statement, &after);
    *shape = after;
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

/* A view cannot have more, and has one of ours. */
static bool
check_width(const Migration *run, Err *err)
{
    if (run->projection.output_count < COLUMNS_MAX)
        return true;
    err_set(err, ERR_REFUSED, "the altered table has %d columns, and walter can fill at most %d",
            run->projection.output_count, COLUMNS_MAX - 1);
    return err_hint(err, "Use plain ALTER TABLE.");
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
    if (!check_width(run, err))
        return false;
    if (!think_as_operator(run, conn, err) || !query_exec(conn, buf_text(&create), err))
        return refuse(err);
    if (!think_as_walter(conn, err) ||
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

/*
 * Rows that exist get a new serial's numbers from its default; if a later statement took that away
 * they would get none.
 */
static bool
check_all_filled(const Migration *run, Err *err)
{
    for (int i = 0; i < run->shadow.column_count; i++) {
        const Column *column = &run->shadow.columns[i];

        if (column->generated || column->has_default || column->identity != '\0' ||
            projection_find(&run->projection, i) != NULL)
            continue;
        err_set(err, ERR_REFUSED,
                "the rows' values of the new column \"%s\" come from a sequence that a later "
                "statement takes away",
                column->name);
        return err_hint(err, "Make it two runs.");
    }
    return true;
}

static bool
changes_owner(const Migration *run)
{
    for (int i = 0; i < run->ddl.statement_count; i++)
        for (int j = 0; j < run->ddl.statements[i].action_count; j++)
            if (run->ddl.statements[i].actions[j].kind == ACTION_CHANGE_OWNER)
                return true;
    return false;
}

/* A new owner must be allowed to create in the schema, which for now is the shadow's. */
static bool
admit_new_owner(const Migration *run, Conn *conn, bool admit, Err *err)
{
    AUTO(Text) *sql =
        admit ? sql_build("grant create on schema %I to public", run->names.shadow_schema)
              : sql_build("revoke create on schema %I from public", run->names.shadow_schema);

    return !changes_owner(run) || query_exec(conn, sql, err);
}

/* And later the same in the schema of the original. */
static bool
check_new_owner(const Migration *run, Conn *conn, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (run->is_superuser || strcmp(run->shadow.owner, run->original.owner) == 0)
        return true;
    if (!query_one(conn, "select pg_catalog.has_schema_privilege($1, $2, 'create')",
                   (const char *const[]){run->shadow.owner, run->original.schema, NULL}, &rows,
                   err))
        return false;
    if (rows_bool(rows, 0, 0))
        return true;
    err_set(err, ERR_REFUSED, "permission denied for schema %s", run->original.schema);
    return err_hint(err, "The new owner needs it: GRANT CREATE ON SCHEMA \"%s\" TO \"%s\";",
                    run->original.schema, run->shadow.owner);
}

/* Run the operator's statements on the shadow; leaves its shape and the projection to it. */
static bool
rehearse_all(Migration *run, Conn *conn, Err *err)
{
    TableShape shape;

    projection_begin(&run->original, &run->ddl, run->arena, &run->projection);
    run->definition.restarted.count = 0;
    if (!catalog_read_table(conn, run->shadow.oid, run->arena, &shape, err) ||
        !admit_new_owner(run, conn, true, err))
        return false;
    for (int i = 0; i < run->ddl.statement_count; i++)
        if (!rehearse(run, conn, &run->ddl.statements[i], &shape, err))
            return false;
    run->shadow = shape;
    return check_all_filled(run, err) && check_new_owner(run, conn, err) &&
           admit_new_owner(run, conn, false, err);
}

/*
 * SQL that keeps names taken in the shadow's schema: those which the ALTER has used for a new index,
 * sequence or constraint, and which the original's schema has already.
 * $1 original, $2 shadow, $3 columns of the original that stay.  What leaves with the original is
 * not in the way.
 */
static const char SQL_TAKEN_NAMES[] =
    "with o as (select * from pg_catalog.pg_class where oid = $1::pg_catalog.oid),"
    "s as (select c.*, n.nspname from pg_catalog.pg_class c join pg_catalog.pg_namespace n"
    "        on n.oid = c.relnamespace where c.oid = $2::pg_catalog.oid),"
    "tree as " TREE_OIDS ","
    "leaving as ("
    "  select oid from tree"
    "  union all select indexrelid from pg_catalog.pg_index where indrelid in (select oid from "
    "tree)"
    "  union all select objid from pg_catalog.pg_depend where refobjid = $1::pg_catalog.oid"
    "     and classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "     and refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "     and (deptype = 'i' or (deptype = 'a' and refobjsubid <> all ($3::pg_catalog.int2[])))"
    ")"
    "select pg_catalog.format('create table %I.%I ()', s.nspname, x.relname)"
    "  from s join pg_catalog.pg_class x on x.relnamespace = s.relnamespace"
    "   and x.relkind in ('i', 'I', 'S')"
    "  join o on true join pg_catalog.pg_class y on y.relnamespace = o.relnamespace"
    "   and y.relname = x.relname and y.oid not in (select oid from leaving)"
    " union all "
    "select pg_catalog.format('create table %I.%I (constraint %I check (true))', s.nspname,"
    "         'walter_' || pg_catalog.md5(k.conname), k.conname)"
    "  from s join pg_catalog.pg_constraint k on k.conrelid = s.oid"
    "  join o on exists (select from pg_catalog.pg_constraint y"
    "     where y.connamespace = o.relnamespace and y.conname = k.conname"
    "      and y.conrelid not in (select oid from tree))"
    "   and not exists (select from pg_catalog.pg_constraint y"
    "     where y.conname = k.conname and (y.conrelid in (select oid from tree)"
    "        or (y.connamespace = s.relnamespace and y.conrelid <> s.oid)))";

static bool
find_taken_names(Migration *run, Conn *conn, Rows **rows, Err *err)
{
    AUTO(Text) *original = mem_format("%u", run->original.oid);
    AUTO(Text) *shadow = mem_format("%u", run->shadow.oid);
    BUF_AUTO(originals);
    BUF_AUTO(shadows);

    definition_shared_columns(run, &originals, &shadows);
    return query_run(conn, SQL_TAKEN_NAMES,
                     (const char *const[]){original, shadow, buf_text(&originals), NULL}, rows,
                     err);
}

/*
 * Names are given by the server, and must be those that it would give in the original's schema.
 * Where one of them is taken there, rehearse again with that name taken here, too: then the server
 * chooses the next one, or says what it would say of a name that the operator chose.
 */
static bool
rehearse_until_named(Migration *run, Conn *conn, Err *err)
{
    for (int round = 0; round < REHEARSALS_MAX; round++) {
        AUTO(Rows) *taken = NULL;

        if (!query_exec(conn, "savepoint rehearsal", err) || !rehearse_all(run, conn, err) ||
            !find_taken_names(run, conn, &taken, err))
            return false;
        if (rows_count(taken) == 0)
            return true;
        if (!query_exec(conn, "rollback to rehearsal", err))
            return false;
        for (int i = 0; i < rows_count(taken); i++)
            if (!query_exec(conn, rows_text(taken, i, 0), err))
                return err_wrap(err, "keeping a name taken");
    }
    return err_set(err, ERR_FAILED, "found no free names for what the ALTER creates");
}

/* Leaves shadow, projection and key mapping filled. */
static bool
alter_shadow(Migration *run, Conn *conn, Err *err)
{
    int64_t before = 0;
    int64_t after = 0;

    run->shadow_key =
        arena_alloc(run->arena, sizeof *run->shadow_key * (size_t)(run->original.key_count + 1));
    if (!instant_read_file(run, conn, &before, err) || !rehearse_until_named(run, conn, err) ||
        !instant_read_file(run, conn, &after, err))
        return false;
    run->keeps_file = before == after;
    return use_copy_statement(run, err) &&
           projection_map_key(&run->projection, &run->shadow, &run->original, run->shadow_key,
                              err) &&
           resolve_projection(run, conn, err);
}

static const char *
key_columns(const Migration *run, Buf *sql, bool with_types)
{
    stage_add_key_columns(&run->original, sql, with_types);
    return buf_text(sql);
}

/* The run's own records belong to the role that connected, not to the table's owner. */
static bool
record(Migration *run, Conn *conn, Err *err)
{
    BUF_AUTO(typed);
    BUF_AUTO(names);
    const RunStart start = {.original_oid = run->original.oid,
                            .shadow_oid = run->shadow.oid,
                            .table = run->original.qualified,
                            .owner = run->original.owner,
                            .statement = run->settings->statement,
                            .plugin =
                                run->settings->plugin == PLUGIN_PGOUTPUT ? "pgoutput" : "wal2json",
                            .apply_jobs = run->settings->apply_jobs,
                            .key_columns = key_columns(run, &typed, true),
                            .key_names = key_columns(run, &names, false)};

    if (!query_exec(conn, "reset role", err) ||
        !state_prepare(conn, &run->keeps_unfinished, &run->keeps_facts, err) ||
        !state_start_run(conn, &run->names, &start, err) || !identity_record(run, conn, err))
        return false;
    /* from here on there may be something to clean up, whatever the answer is */
    run->started = true;
    FAULT_POINT("shadow.uncommitted");
    return query_exec(conn, "commit", err);
}

void
shadow_choose_formats(Migration *run)
{
    run->binary_copy = true;
    run->binary_stream =
        run->settings->plugin == PLUGIN_PGOUTPUT && version_has_binary_stream(run->control);
    for (int i = 0; i < run->original.column_count; i++)
        run->binary_stream = run->binary_stream && run->original.columns[i].binary_io;
    for (int i = 0; i < run->projection.output_count; i++)
        run->binary_copy =
            run->binary_copy && run->shadow.columns[run->projection.outputs[i].column].binary_io;
}

/* What PostgreSQL says of the clones, in the operator's words. */
static bool
explain(Migration *run, Err *err)
{
    name_real_tables(run, err);
    /* no row was touched: what looks like a data error is one of a statement of ours */
    if (err->kind == ERR_DATA)
        err->kind = ERR_FAILED;
    return false;
}

bool
shadow_build(Migration *run, Conn *conn, Err *err)
{
    if (think_as_walter(conn, err) && create_tables(run, conn, err) &&
        definition_clone(run, conn, err) && alter_shadow(run, conn, err) &&
        definition_read(run, conn, err) && definition_strip(run, conn, err) &&
        catalog_read_body(conn, run->shadow.oid, &run->shadow_body, err))
        return true;
    query_rollback(conn);
    return explain(run, err);
}

void
shadow_name(Migration *run)
{
    AUTO(Text) *qualified = sql_build("%I.%I", run->names.shadow_schema, run->original.name);

    projection_begin(&run->original, &run->ddl, run->arena, &run->projection);
    run->shadow_qualified = arena_copy(run->arena, qualified, strlen(qualified));
    tree_name_shadows(run);
}

/* How many columns get what the original has, or what is made of that? */
static int
count_filled(const Projection *projection)
{
    int count = 0;

    for (int i = 0; i < projection->output_count; i++)
        count += projection->outputs[i].is_new ? 0 : 1;
    return count;
}

static bool
make(Migration *run, Err *err)
{
    AUTO(Conn) *conn = migration_connect(run, CONN_EXPRESSIONS, "shadow", err);

    if (conn == NULL || !catalog_prefer_indexes(conn, err))
        return false;
    shadow_name(run);
    if (!query_exec(conn, "begin; set local lock_timeout to '5s'", err) ||
        !shadow_build(run, conn, err))
        return false;
    if (!record(run, conn, err)) {
        query_rollback(conn);
        return explain(run, err);
    }
    FAULT_POINT("shadow.committed");
    shadow_choose_formats(run);
    log_info("shadow table %s created, %d of its %d columns are filled from the original",
             run->shadow_qualified, count_filled(&run->projection), run->shadow.column_count);
    instant_tell(run);
    return true;
}

bool
shadow_enter(Migration *run, Err *err)
{
    return run->record != NULL ? resume_prepare(run, err) : make(run, err);
}
