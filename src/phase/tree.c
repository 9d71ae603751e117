/* The tables of a run; see tree.h. */
#include "phase/tree.h"

#include <string.h>

#include "pg/sql.h"

/* Table $1 and all below it: oid, parent, bound, and how it is partitioned; parents come first. */
static const char SQL_TREE[] =
    "with recursive below as ("
    "  select $1::pg_catalog.oid as oid, null::pg_catalog.oid as parent, 0 as level"
    "  union all"
    "  select i.inhrelid, b.oid, b.level + 1 from below b"
    "    join pg_catalog.pg_inherits i on i.inhparent = b.oid"
    "    join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition"
    ")"
    "select b.oid, b.parent, pg_catalog.pg_get_expr(c.relpartbound, c.oid),"
    "       case c.relkind when 'p' then pg_catalog.pg_get_partkeydef(c.oid) end"
    "  from below b join pg_catalog.pg_class c on c.oid = b.oid order by b.level, b.oid";

/* What has become of the tables below $1, which were $2: the first that is new or gone. */
static const char SQL_DIFFERENCE[] =
    "with recursive below as ("
    "  select $1::pg_catalog.oid as oid"
    "  union all"
    "  select i.inhrelid from below b join pg_catalog.pg_inherits i on i.inhparent = b.oid"
    ")"
    "select pg_catalog.format('partition %s is new', oid::pg_catalog.regclass)"
    "  from below where oid <> $1::pg_catalog.oid and oid <> all ($2::pg_catalog.oid[])"
    " union all"
    " select case when c.oid is null then 'a partition was dropped' else"
    "         pg_catalog.format('partition %s was detached', c.oid::pg_catalog.regclass) end"
    "  from pg_catalog.unnest($2::pg_catalog.oid[]) b (oid)"
    "  left join pg_catalog.pg_class c on c.oid = b.oid"
    " where b.oid not in (select oid from below) limit 1";

static const char *
keep(Migration *run, const char *text)
{
    return text == NULL ? NULL : arena_copy(run->arena, text, strlen(text));
}

/* ---- leaves ---- */

/* What the decoder is to expect of a table, in the table's own order of columns. */
static const DecoderTable *
describe_stream(Migration *run, const TableShape *shape)
{
    size_t count = (size_t)shape->column_count;
    DecoderTable *table = arena_alloc(run->arena, sizeof *table);
    const char **names = arena_alloc(run->arena, count * sizeof *names);
    bool *unsent = arena_alloc(run->arena, count * sizeof *unsent);
    uint32_t *types = arena_alloc(run->arena, count * sizeof *types);

    for (size_t i = 0; i < count; i++) {
        names[i] = shape->columns[i].name;
        unsent[i] = shape->columns[i].generated;
        types[i] = shape->columns[i].type_oid;
    }
    *table = (DecoderTable){.relid = shape->oid,
                            .schema = shape->schema,
                            .name = shape->name,
                            .column_count = shape->column_count,
                            .columns = names,
                            .unsent = unsent,
                            .type_oids = types};
    return table;
}

static bool
read_leaf(Migration *run, const TableShape *shape, Leaf *leaf, Err *err)
{
    uint32_t oid_now;

    *leaf = (Leaf){.oid = shape->oid,
                   .schema = shape->schema,
                   .name = shape->name,
                   .qualified = shape->qualified,
                   .stream = describe_stream(run, shape)};
    return catalog_read_place(run->control, shape->qualified, &oid_now, &leaf->filenode, err);
}

/* Is a column the same in the partition, but for its place? */
static bool
is_same_column(const Column *one, const Column *other)
{
    return one->type_oid == other->type_oid && one->typmod == other->typmod &&
           one->collation_oid == other->collation_oid && one->generated == other->generated &&
           (!one->generated || strcmp(one->generation, other->generation) == 0);
}

/* Where the original's columns are in the partition; the server sees to names and types. */
static bool
find_columns(Migration *run, const TableShape *shape, Leaf *leaf, Err *err)
{
    const TableShape *original = &run->original;
    int *order = arena_alloc(run->arena, sizeof *order * (size_t)(original->column_count + 1));
    bool differs = false;

    for (int i = 0; i < original->column_count; i++) {
        const Column *column = &original->columns[i];

        order[i] = catalog_find_column(shape, column->name);
        if (order[i] < 0 || shape->column_count != original->column_count ||
            !is_same_column(column, &shape->columns[order[i]])) {
            err_set(err, ERR_REFUSED, "column \"%s\" is not the same in partition %s and in %s",
                    column->name, shape->qualified, original->qualified);
            return err_hint(err, "Make it the same, or use plain ALTER TABLE.");
        }
        differs = differs || order[i] != i;
    }
    if (differs)
        leaf->order = order;
    return true;
}

/* The key of a partition, in the original's columns. */
static void
translate_key(Migration *run, const TableShape *shape, TableShape *into)
{
    int *key = arena_alloc(run->arena, sizeof *key * (size_t)(shape->key_count + 1));

    for (int i = 0; i < shape->key_count; i++)
        key[i] = catalog_find_column(into, shape->columns[shape->key[i]].name);
    into->key = key;
    into->key_count = shape->key_count;
    into->key_index_oid = shape->key_index_oid;
    into->replica_identity = shape->replica_identity;
}

static bool
has_key_of(const TableShape *original, const TableShape *shape)
{
    if (original->key_count != shape->key_count ||
        (original->replica_identity == 'f') != (shape->replica_identity == 'f'))
        return false;
    for (int i = 0; i < shape->key_count; i++)
        if (strcmp(original->columns[original->key[i]].name, shape->columns[shape->key[i]].name) !=
            0)
            return false;
    return true;
}

/* Rows of all partitions are identified by the same columns. */
static bool
check_key(Migration *run, const TableShape *shape, Err *err)
{
    if (run->leaf_count == 0)
        translate_key(run, shape, &run->original);
    if (has_key_of(&run->original, shape))
        return true;
    err_set(err, ERR_REFUSED, "rows of partitions %s and %s are not identified by the same columns",
            run->leaves[0].qualified, shape->qualified);
    return err_hint(err, "Give them the same primary key, or the same replica identity.");
}

static bool
add_leaf(Migration *run, const TableShape *shape, Err *err)
{
    Leaf *leaf = &run->leaves[run->leaf_count];

    if (!check_key(run, shape, err) || !read_leaf(run, shape, leaf, err) ||
        !find_columns(run, shape, leaf, err))
        return false;
    run->leaf_count++;
    return true;
}

/* ---- branches ---- */

static int
find_branch(const Migration *run, uint32_t oid)
{
    for (int i = 0; i < run->branch_count; i++)
        if (run->branches[i].original.oid == oid)
            return i;
    return -1;
}

static bool
add_branch(Migration *run, const Rows *rows, int row, Err *err)
{
    Branch branch = {.parent = find_branch(run, (uint32_t)rows_int(rows, row, 1)),
                     .bound = keep(run, rows_text(rows, row, 2)),
                     .key = keep(run, rows_text(rows, row, 3))};

    if (!catalog_read_table(run->control, (uint32_t)rows_int(rows, row, 0), run->arena,
                            &branch.original, err) ||
        (branch.key == NULL && !add_leaf(run, &branch.original, err)))
        return false;
    run->branches[run->branch_count++] = branch;
    return true;
}

bool
tree_read(Migration *run, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;
    size_t count;

    if (!query_run(run->control, SQL_TREE, (const char *const[]){oid, NULL}, &rows, err))
        return err_wrap(err, "reading the partitions of %s", run->original.qualified);
    count = (size_t)rows_count(rows);
    run->leaf_count = run->branch_count = 0;
    run->leaves = arena_alloc(run->arena, (count + 1) * sizeof *run->leaves);
    run->branches = arena_alloc(run->arena, (count + 1) * sizeof *run->branches);
    run->partition_key = count == 0 ? NULL : keep(run, rows_text(rows, 0, 3));
    run->is_parent = run->partition_key != NULL;
    run->leaf_count = run->is_parent ? 0 : 1;
    if (!run->is_parent)
        return read_leaf(run, &run->original, &run->leaves[0], err);
    for (int row = 1; row < rows_count(rows); row++)
        if (!add_branch(run, rows, row, err))
            return false;
    return true;
}

/* ---- what the rest of the run asks ---- */

void
tree_add_oids(const Migration *run, Buf *oids)
{
    for (int i = 0; i < run->leaf_count; i++)
        buf_printf(oids, "%s%u", i == 0 ? "{" : ",", run->leaves[i].oid);
    buf_add_text(oids, "}");
}

static const char *
name_shadow(Migration *run, const char *table)
{
    AUTO(Text) *name = sql_build("%I.%I", run->names.shadow_schema, table);

    return keep(run, name);
}

void
tree_name_shadows(Migration *run)
{
    for (int i = 0; i < run->leaf_count; i++)
        run->leaves[i].shadow_qualified = name_shadow(run, run->leaves[i].name);
    for (int i = 0; i < run->branch_count; i++)
        run->branches[i].shadow_qualified = name_shadow(run, run->branches[i].original.name);
}

bool
tree_explain_change(Migration *run, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(oids);

    for (int i = 0; i < run->branch_count; i++)
        buf_printf(&oids, "%s%u", i == 0 ? "{" : ",", run->branches[i].original.oid);
    buf_add_text(&oids, "}");
    if (!query_run(run->control, SQL_DIFFERENCE, (const char *const[]){oid, buf_text(&oids), NULL},
                   &rows, err))
        return err_wrap(err, "reading the partitions of %s", run->original.qualified);
    err_set(err, ERR_FAILED,
            "the definition of %s was changed by somebody else while the run was on: %s",
            run->original.qualified,
            rows_count(rows) == 0 ? "what hangs on it or on one of its partitions (an index, a "
                                    "comment, a trigger ...) is not what it was"
                                  : rows_text(rows, 0, 0));
    return err_hint(err, "Nothing was swapped.  Start again; the new run begins from the new "
                         "definition.");
}
