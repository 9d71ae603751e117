/*
 * The tables below a partitioned one; see definition_internal.h.
 *
 * The shadow is a tree of the same names and bounds, and stays one while it is loaded; the ALTER runs
 * on its root, and the server takes it to all the others.  What hangs on one of these tables is
 * cloned and read by the functions that do so for the original: each is given the run as it would be
 * if the branch were its table.
 *
 * What a branch has from its parent - columns, constraints, triggers - the server makes when the
 * parent gets it.  Only indexes are built on the leaves first, and then attached to those of their
 * parents, so that none is built twice.
 */
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/definition_internal.h"

/*
 * Which indexes of table $1 belong to its parent's: SQL that says so of those of the same names in
 * schema $2 (quoted).
 */
static const char SQL_ATTACH_INDEXES[] =
    "select pg_catalog.format('alter index %s.%I attach partition %s.%I', $2::text, p.relname, $2,"
    "         c.relname)"
    "  from pg_catalog.pg_index x join pg_catalog.pg_inherits i on i.inhrelid = x.indexrelid"
    "  join pg_catalog.pg_class c on c.oid = x.indexrelid"
    "  join pg_catalog.pg_class p on p.oid = i.inhparent"
    " where x.indrelid = $1::pg_catalog.oid order by p.relname";

/*
 * What table $1 says of the triggers that it has from its parent, for table $2, where that is not
 * what it gets with them.
 */
static const char SQL_TRIGGER_STATES[] =
    "select pg_catalog.concat_ws(';', case when g.tgenabled <> 'O' or p.tgenabled <> 'O' then"
    "         pg_catalog.format('alter table %s %s trigger %I', $2::text, case g.tgenabled"
    "           when 'D' then 'disable' when 'R' then 'enable replica'"
    "           when 'A' then 'enable always' else 'enable' end, g.tgname) end,"
    "         pg_catalog.format('comment on trigger %I on %s is ', g.tgname, $2)"
    "           || pg_catalog.quote_literal(pg_catalog.obj_description(g.oid, 'pg_trigger')))"
    "  from pg_catalog.pg_trigger g join pg_catalog.pg_trigger p on p.oid = g.tgparentid"
    " where g.tgrelid = $1::pg_catalog.oid and not exists (select from pg_catalog.pg_constraint k"
    "         where k.oid = g.tgconstraint and k.contype = 'f')"
    " order by g.tgname";

/* Keys of table $1 to itself or to another partitioned table.  $2 = rehearsal schema. */
static const char SQL_UNSUITABLE_KEYS[] =
    "select k.conname from pg_catalog.pg_constraint k"
    "  join pg_catalog.pg_class o on o.oid = k.confrelid"
    "  join pg_catalog.pg_namespace n on n.oid = o.relnamespace"
    "  left join pg_catalog.pg_class p on n.nspname = $2 and p.oid = case"
    "    when o.relname ~ '^other_[0-9]+$' then pg_catalog.substr(o.relname, 7)::pg_catalog.oid end"
    " where k.contype = 'f' and k.conrelid = $1::pg_catalog.oid and p.relkind is distinct from 'r'";

/* The run as it would be if the branch were its table.  What is found goes to run->definition. */
static Migration
as_own_run(const Migration *run, const Branch *branch)
{
    Migration own = *run;

    own.original = branch->original;
    own.original.key = run->original.key;
    own.original.key_count = run->original.key_count;
    own.shadow = branch->shadow;
    own.shadow_qualified = branch->shadow_qualified;
    own.projection.origin = branch->origin;
    own.shadow_key = branch->shadow_key;
    own.is_parent = branch->key != NULL;
    own.branch_count = 0;
    return own;
}

typedef bool Visit(Migration *run, Conn *conn, Err *err);

/* Do the same for each branch. */
static bool
for_each(Migration *run, Conn *conn, Visit *visit, Err *err)
{
    for (int i = 0; i < run->branch_count; i++) {
        Migration own = as_own_run(run, &run->branches[i]);
        bool ok = visit(&own, conn, err);

        run->definition = own.definition;
        if (!ok)
            return err_wrap(err, "partition %s", run->branches[i].original.qualified);
    }
    return true;
}

/* ---- clones ---- */

static bool
create_table(Migration *run, Conn *conn, Branch *branch, Err *err)
{
    const char *name = branch->shadow_qualified;
    AUTO(Text) *create = sql_build(
        "set local role %I;"
        "create table %S (like %S including all excluding indexes excluding statistics excluding"
        " identity)%S%S;"
        /* default privileges may even take from the owner */
        "grant all on table %S to %I;%S",
        run->original.owner, name, branch->original.qualified,
        branch->key == NULL ? "" : " partition by ", branch->key == NULL ? "" : branch->key, name,
        run->original.owner, run->is_superuser ? "reset role" : "");
    AUTO(Rows) *rows = NULL;

    if (!query_exec(conn, create, err) ||
        !query_one(conn, "select $1::pg_catalog.regclass::pg_catalog.oid",
                   (const char *const[]){name, NULL}, &rows, err))
        return false;
    branch->shadow.oid = (uint32_t)rows_int(rows, 0, 0);
    return true;
}

static bool
create_branch(Migration *run, Conn *conn, Branch *branch, Err *err)
{
    const char *parent =
        branch->parent < 0 ? run->shadow_qualified : run->branches[branch->parent].shadow_qualified;
    AUTO(Text) *attach = sql_build("alter table %S attach partition %S %S", parent,
                                   branch->shadow_qualified, branch->bound);
    Migration own;

    if (!create_table(run, conn, branch, err))
        return false;
    own = as_own_run(run, branch);
    return definition_clone_columns(&own, conn, err) && query_exec(conn, attach, err);
}

bool
definition_create_branches(Migration *run, Conn *conn, Err *err)
{
    for (int i = 0; i < run->branch_count; i++)
        if (!create_branch(run, conn, &run->branches[i], err))
            return err_wrap(err, "rehearsing partition %s", run->branches[i].original.qualified);
    return true;
}

static bool
attach_cloned_indexes(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, run->original.oid, schema, NULL);

    return definition_run(conn, SQL_ATTACH_INDEXES, &subject, err);
}

bool
definition_clone_branch_indexes(Migration *run, Conn *conn, Err *err)
{
    return for_each(run, conn, definition_clone_indexes, err) &&
           for_each(run, conn, attach_cloned_indexes, err);
}

/*
 * Those of the branches come before those of their parents, which then take them over: so each keeps
 * the name that it has.
 */
bool
definition_clone_branch_keys(Migration *run, Conn *conn, Err *err)
{
    for (int i = run->branch_count - 1; i >= 0; i--) {
        Migration own = as_own_run(run, &run->branches[i]);

        if (!definition_clone_keys(&own, conn, err))
            return err_wrap(err, "partition %s", run->branches[i].original.qualified);
    }
    return true;
}

static bool
clone_branch(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);

    return definition_clone_triggers(run, conn, err) &&
           definition_run(conn, SQL_TRIGGER_STATES, &subject, err) &&
           definition_clone_own_not_null(run, conn, err) &&
           definition_clone_rules(run, conn, err) && definition_clone_statistics(run, conn, err) &&
           definition_clone_publications(run, conn, err) && definition_clone_labels(run, conn, err);
}

bool
definition_clone_branches(Migration *run, Conn *conn, Err *err)
{
    return for_each(run, conn, clone_branch, err);
}

/* ---- what came of them ---- */

/* Which column of the branch each of the original's has become, by way of the names on the shadow. */
static void
map_branch(Migration *run, Branch *branch)
{
    size_t count = (size_t)branch->shadow.column_count + 1;
    int *origin = arena_alloc(run->arena, count * sizeof *origin);

    for (int i = 0; i < branch->shadow.column_count; i++) {
        int column = catalog_find_column(&run->shadow, branch->shadow.columns[i].name);
        int from = column < 0 ? -1 : run->projection.origin[column];

        origin[i] = from < 0
                        ? -1
                        : catalog_find_column(&branch->original, run->original.columns[from].name);
    }
    branch->origin = origin;
}

static void
map_branch_key(Migration *run, Branch *branch)
{
    int *key = arena_alloc(run->arena, sizeof *key * (size_t)(run->original.key_count + 1));

    for (int i = 0; i < run->original.key_count; i++)
        key[i] = catalog_find_column(&branch->shadow, run->shadow.columns[run->shadow_key[i]].name);
    branch->shadow_key = key;
}

bool
definition_read_branch_shapes(Migration *run, Conn *conn, Err *err)
{
    for (int i = 0; i < run->branch_count; i++) {
        Branch *branch = &run->branches[i];

        if (!catalog_read_table(conn, branch->shadow.oid, run->arena, &branch->shadow, err))
            return false;
        map_branch(run, branch);
        map_branch_key(run, branch);
    }
    return true;
}

bool
definition_read_branch_indexes(Migration *run, Conn *conn, Err *err)
{
    if (!for_each(run, conn, definition_read_own_indexes, err))
        return false;
    for (int i = 0; i < run->branch_count; i++) {
        Migration own = as_own_run(run, &run->branches[i]);

        if (run->branches[i].key != NULL)
            continue;
        if (!definition_ensure_key_index(&own, conn, err))
            return err_wrap(err, "partition %s", run->branches[i].original.qualified);
        run->definition = own.definition;
    }
    return true;
}

static bool
attach_indexes(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, run->shadow.oid, schema, NULL);

    return definition_list(run, conn, SQL_ATTACH_INDEXES, &subject, &run->definition.constraints,
                           err);
}

bool
definition_attach_branch_indexes(Migration *run, Conn *conn, Err *err)
{
    return for_each(run, conn, attach_indexes, err);
}

/* The keys of a leaf, those from its parent included. */
static bool
read_leaf_keys(Migration *run, Conn *conn, Err *err)
{
    return definition_drop_own_keys(run, conn, err) && definition_read_keys(run, conn, err) &&
           definition_read_key_checks(run, conn, err);
}

/* Those of a partitioned table itself wait until those of all leaves are validated. */
static bool
read_parent_keys(Migration *run, Conn *conn, Err *err)
{
    return !run->is_parent || definition_read_parent_keys(run, conn, err);
}

/* What there was is refused by preflight; a key that the ALTER makes is, here. */
static bool
check_new_keys(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->names.rehearsal, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_UNSUITABLE_KEYS, subject.params, &rows, err))
        return false;
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_REFUSED,
            "foreign key \"%s\" of the partitioned table would reference a partitioned table",
            rows_text(rows, 0, 0));
    return err_hint(err, "Add it by plain ALTER TABLE.");
}

bool
definition_read_tree_keys(Migration *run, Conn *conn, Err *err)
{
    return (!run->is_parent || check_new_keys(run, conn, err)) &&
           for_each(run, conn, read_leaf_keys, err) && read_parent_keys(run, conn, err) &&
           for_each(run, conn, read_parent_keys, err);
}

/* What a branch does not get from its parent in the swap. */
static bool
read_branch(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL);
    SqlList *swap = &run->definition.swap;

    return definition_read_surface(run, conn, err) && definition_read_flags(run, conn, err) &&
           definition_read_triggers(run, conn, err) &&
           definition_list(run, conn, SQL_TRIGGER_STATES, &subject, swap, err) &&
           definition_read_own_not_null(run, conn, run->shadow_qualified, swap, err) &&
           definition_read_rules(run, conn, err) && definition_read_statistics(run, conn, err) &&
           definition_read_publications(run, conn, err) && definition_read_labels(run, conn, err);
}

bool
definition_read_branches(Migration *run, Conn *conn, Err *err)
{
    return for_each(run, conn, read_branch, err);
}

bool
definition_strip_branches(Migration *run, Conn *conn, Err *err)
{
    return for_each(run, conn, definition_strip_table, err);
}

/* ---- in the swap ---- */

/* Those of the branches $1 (oids) which, or whose shadows $2, have privileges of their own. */
static const char SQL_WITH_PRIVILEGES[] =
    "select x.number - 1 from rows from (pg_catalog.unnest($1::pg_catalog.oid[]),"
    "         pg_catalog.unnest($2::pg_catalog.oid[])) with ordinality x (old, new, number)"
    " where exists (select from pg_catalog.pg_class c where c.oid in (x.old, x.new)"
    "                  and c.relacl is not null)"
    "    or exists (select from pg_catalog.pg_attribute a where a.attrelid = x.old"
    "                  and a.attacl is not null)"
    " order by x.number";

static void
add_oid(Buf *list, uint32_t oid)
{
    buf_printf(list, "%s%u", list->len == 0 ? "{" : ",", oid);
}

bool
definition_read_tree_grants(Migration *run, Conn *conn, Buf *sql, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(originals);
    BUF_AUTO(shadows);

    if (run->branch_count == 0)
        return true;
    for (int i = 0; i < run->branch_count; i++) {
        add_oid(&originals, run->branches[i].original.oid);
        add_oid(&shadows, run->branches[i].shadow.oid);
    }
    buf_add_text(&originals, "}");
    buf_add_text(&shadows, "}");
    if (!query_run(conn, SQL_WITH_PRIVILEGES,
                   (const char *const[]){buf_text(&originals), buf_text(&shadows), NULL}, &rows,
                   err))
        return err_wrap(err, "reading the privileges of partitions");
    for (int row = 0; row < rows_count(rows); row++) {
        Migration own = as_own_run(run, &run->branches[rows_int(rows, row, 0)]);
        AUTO(Text) *grants = NULL;

        if (!definition_read_grants(&own, conn, &grants, err))
            return false;
        buf_add_text(sql, grants);
    }
    return true;
}
