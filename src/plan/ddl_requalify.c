/* Other schemas for objects in a definition written by the server; see ddl.h. */
#include <string.h>

#include "ddl.h"
#include "ddl_edit.h"
#include "ddl_scan.h"
#include "ddl_tree.h"

typedef struct Search {
    const DdlTree *tree;
    const DdlMove *moves;
    int move_count;
    DdlPatches patches;
    Arena *arena;
} Search;

/* Where the object is to be found from now on, or NULL when it is none of those that move. */
static const char *
find_move(const Search *search, DdlMoveKind kind, const char *schema, const char *name)
{
    if (schema == NULL || name == NULL)
        return NULL;
    for (int i = 0; i < search->move_count; i++) {
        const DdlMove *move = &search->moves[i];

        if (move->kind == kind && strcmp(move->schema, schema) == 0 &&
            strcmp(move->name, name) == 0)
            return move->new_schema;
    }
    return NULL;
}

/* Another schema for the qualified name whose first token is number `index`. */
static bool
patch_schema(Search *search, int index, const char *new_schema, Err *err)
{
    const DdlTree *tree = search->tree;
    int past = ddl_scan_skip_name(tree, index);

    if (index < 0 || !ddl_scan_is(tree, past, "."))
        return err_set(err, ERR_FAILED, "could not find a qualified name in the text");
    ddl_edit_add(&search->patches,
                 (DdlPatch){tree->tokens[index].start, tree->tokens[past - 1].end,
                            ddl_edit_quote(new_schema, search->arena)},
                 search->arena);
    return true;
}

/* A name that is a list of strings ("funcname", "names"), at the node's location. */
static bool
visit_names(Search *search, json_t *body, json_t *names, DdlMoveKind kind, Err *err)
{
    const char *schema = ddl_tree_string(names, 0);
    const char *name = ddl_tree_string(names, 1);
    const char *new_schema =
        json_array_size(names) == 2 ? find_move(search, kind, schema, name) : NULL;

    return new_schema == NULL ||
           patch_schema(search, ddl_scan_part(search->tree, ddl_tree_int(body, "location"), 0),
                        new_schema, err);
}

/* A RangeVar, a TypeName and a FuncCall are told by their fields. */
static DdlWalk
visit(const char *key, json_t *body, void *context, Err *err)
{
    Search *search = context;
    const char *new_schema = find_move(search, DDL_MOVE_RELATION, ddl_tree_text(body, "schemaname"),
                                       ddl_tree_text(body, "relname"));
    json_t *names = json_object_get(body, "names");
    json_t *function = json_object_get(body, "funcname");
    int first = 0;
    int past = 0;
    bool ok = true;

    if (new_schema != NULL) {
        ok = ddl_scan_table(search->tree, body, &first, &past)
                 ? patch_schema(search, first, new_schema, err)
                 : err_set(err, ERR_FAILED, "could not find a table's name in the text");
    } else if (names != NULL) {
        ok = visit_names(search, body, names, DDL_MOVE_RELATION, err);
    } else if (function != NULL && strcmp(key, "CreateFunctionStmt") == 0) {
        new_schema = find_move(search, DDL_MOVE_FUNCTION, ddl_tree_string(function, 0),
                               ddl_tree_string(function, 1));
        /* CREATE [OR REPLACE] FUNCTION name: the tree does not say where it stands */
        ok = new_schema == NULL ||
             patch_schema(search, ddl_scan_is(search->tree, 1, "or") ? 4 : 2, new_schema, err);
    } else if (function != NULL) {
        ok = visit_names(search, body, function, DDL_MOVE_FUNCTION, err);
    }
    return ok ? WALK_INTO : WALK_STOP;
}

const char *
ddl_requalify(const char *text, const DdlMove *moves, int move_count, Arena *arena, Err *err)
{
    DDL_TREE_AUTO(tree);
    Search search = {&tree, moves, move_count, {0}, arena};
    Err syntax = {0};

    if (!ddl_tree_parse(text, arena, &tree, &syntax)) {
        (void)err_set(err, ERR_REFUSED, "could not read a definition: %s", syntax.message);
        (void)err_hint(err, "%s", syntax.hint);
        return NULL;
    }
    if (!ddl_tree_walk(tree.root, visit, &search, err))
        return NULL;
    return ddl_edit_apply(text, 0, (int)strlen(text), &search.patches, arena);
}
