/* The tables of a run; see tree.h. */
#include "phase/tree.h"

#include <string.h>

#include "pg/sql.h"

static const char *
keep(Migration *run, const char *text)
{
    return arena_copy(run->arena, text, strlen(text));
}

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

void
tree_add_oids(const Migration *run, Buf *oids)
{
    for (int i = 0; i < run->leaf_count; i++)
        buf_printf(oids, "%s%u", i == 0 ? "{" : ",", run->leaves[i].oid);
    buf_add_text(oids, "}");
}

void
tree_name_shadows(Migration *run)
{
    for (int i = 0; i < run->leaf_count; i++) {
        AUTO(Text) *name = sql_build("%I.%I", run->names.shadow_schema, run->leaves[i].name);

        run->leaves[i].shadow_qualified = keep(run, name);
    }
}

bool
tree_read(Migration *run, Err *err)
{
    run->leaf_count = 1;
    run->leaves = arena_alloc(run->arena, sizeof *run->leaves);
    return read_leaf(run, &run->original, &run->leaves[0], err);
}
