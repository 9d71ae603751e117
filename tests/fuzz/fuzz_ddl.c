/*
 * Any text as ALTER TABLE statements, as a copy statement and as a definition to retarget.
 *
 * What was accepted must parse again after it was rewritten, and must then name the new table.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "plan/ddl.h"
#include "plan/ddl_tree.h"

static void
demand(bool holds)
{
    if (!holds)
        abort();
}

static void
check_statement(const DdlStatement *statement, Arena *arena)
{
    const char **references =
        arena_alloc(arena, (size_t)statement->reference_count * sizeof *references);
    size_t len = strlen(statement->text);
    Ddl again = {0};
    Err err = {0};

    for (int i = 0; i < statement->reference_count; i++)
        references[i] = "w.\"quo\"\"ted\"";
    for (int i = 0; i < statement->edit_count; i++)
        demand(statement->edits[i].start >= 0 && statement->edits[i].len > 0 &&
               (size_t)statement->edits[i].start + (size_t)statement->edits[i].len <= len);
    demand(ddl_parse(ddl_rewrite(statement, "walter_x.t", references, arena), arena, &again, &err));
    demand(again.statement_count == 1 && strcmp(again.table, "t") == 0 &&
           strcmp(again.schema, "walter_x") == 0 &&
           again.statements[0].action_count == statement->action_count &&
           again.statements[0].reference_count == statement->reference_count);
    for (int i = 0; i < statement->reference_count; i++)
        demand(strcmp(again.statements[0].references[i].name, "quo\"ted") == 0);
}

static void
check_statements(const char *text, Arena *arena)
{
    Ddl ddl = {0};
    Err err = {0};

    if (!ddl_parse(text, arena, &ddl, &err)) {
        demand(err.kind == ERR_USAGE || err.kind == ERR_REFUSED);
        return;
    }
    for (int i = 0; i < ddl.statement_count; i++)
        check_statement(&ddl.statements[i], arena);
}

static void
check_copy(const char *text, Arena *arena)
{
    CopyStatement copy = {0};
    Err err = {0};
    DDL_TREE_AUTO(tree);

    if (!ddl_parse_copy(text, "public", "books", arena, &copy, &err)) {
        demand(err.kind == ERR_USAGE || err.kind == ERR_REFUSED);
        return;
    }
    demand(
        ddl_tree_parse(ddl_copy_select(&copy, "(SELECT 1)", "\"k\"", arena), arena, &tree, &err));
}

static void
check_definition(const char *text, Arena *arena)
{
    Err err = {0};
    const DdlMove moves[] = {{DDL_MOVE_RELATION, "t", "s", "walter_x"},
                             {DDL_MOVE_FUNCTION, "t", "s", "walter_x"}};
    const char *result = ddl_retarget(text, "s", "t", "walter_x.t", arena, &err);
    const char *moved;
    DDL_TREE_AUTO(tree);
    DDL_TREE_AUTO(moved_tree);

    demand(result != NULL || err.kind == ERR_FAILED);
    if (result != NULL)
        demand(ddl_tree_parse(result, arena, &tree, &err));
    err_clear(&err);
    moved = ddl_requalify(text, moves, 2, arena, &err);
    demand(moved != NULL || err.kind == ERR_REFUSED || err.kind == ERR_FAILED);
    if (moved != NULL)
        demand(ddl_tree_parse(moved, arena, &moved_tree, &err));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Arena *arena = arena_new();
    const char *text = arena_copy(arena, data, size);

    check_statements(text, arena);
    check_copy(text, arena);
    check_definition(text, arena);
    arena_free(arena);
    return 0;
}
