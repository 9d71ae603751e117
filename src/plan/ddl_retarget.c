/* Another name for a table in a statement written by the server; see ddl.h. */
#include <string.h>

#include "ddl.h"
#include "ddl_edit.h"
#include "ddl_scan.h"
#include "ddl_tree.h"

typedef struct Search {
    const DdlTree *tree;
    const char *schema;
    const char *name;
    const char *replacement;
    DdlPatches patches;
    Arena *arena;
} Search;

/* A RangeVar stands under its kind or under the name of a field; its fields tell. */
static DdlWalk
visit_range(const char *key, json_t *body, void *context, Err *err)
{
    Search *search = context;
    int first = 0;
    int past = 0;

    (void)key;
    if (!ddl_tree_is(body, "relname", search->name) ||
        !ddl_tree_is(body, "schemaname", search->schema))
        return WALK_INTO;
    if (!ddl_scan_table(search->tree, body, &first, &past)) {
        (void)err_set(err, ERR_FAILED, "could not find table \"%s\" in the text", search->name);
        return WALK_STOP;
    }
    ddl_edit_add(&search->patches,
                 (DdlPatch){search->tree->tokens[first].start, search->tree->tokens[past - 1].end,
                            search->replacement},
                 search->arena);
    return WALK_INTO;
}

const char *
ddl_retarget(const char *text, const char *schema, const char *name, const char *replacement,
             Arena *arena, Err *err)
{
    DDL_TREE_AUTO(tree);
    Search search = {&tree, schema, name, replacement, {0}, arena};
    Err syntax = {0};

    if (!ddl_tree_parse(text, arena, &tree, &syntax)) {
        (void)err_set(err, ERR_FAILED, "could not read a definition: %s", syntax.message);
        (void)err_hint(err, "%s", syntax.hint);
        return NULL;
    }
    if (!ddl_tree_walk(tree.root, visit_range, &search, err))
        return NULL;
    if (search.patches.count == 0) {
        (void)err_set(err, ERR_FAILED, "a definition does not name table \"%s\".\"%s\"", schema,
                      name);
        return NULL;
    }
    return ddl_edit_apply(text, 0, (int)strlen(text), &search.patches, arena);
}
