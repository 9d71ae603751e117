/* Column references and texts of expressions; see ddl_expr.h. */
#include "ddl_expr.h"

#include <limits.h>
#include <string.h>

#include "ddl_scan.h"

typedef struct Search {
    const DdlScope *scope;
    DdlPatches *patches;
    DdlAction *action;
    const char **names;
} Search;

/* --- qualified references --- */

static bool
is_qualified_by_scope(const DdlScope *scope, json_t *fields, size_t count)
{
    const char *schema = count >= 3 ? ddl_tree_string(fields, count - 3) : NULL;
    const char *table = count >= 3 ? ddl_tree_string(fields, count - 2) : NULL;

    return schema != NULL && table != NULL && strcmp(table, scope->table) == 0 &&
           (scope->schema == NULL || strcmp(schema, scope->schema) == 0);
}

static DdlWalk
visit_qualified(const char *key, json_t *body, void *context, Err *err)
{
    const Search *search = context;
    const DdlTree *tree = search->scope->tree;
    json_t *fields = json_object_get(body, "fields");
    size_t count = json_array_size(fields);
    int offset = ddl_tree_int(body, "location");
    int table;

    if (strcmp(key, "ColumnRef") != 0 || !is_qualified_by_scope(search->scope, fields, count))
        return WALK_INTO;
    table = ddl_scan_part(tree, offset, (int)count - 2);
    if (table < 0) {
        (void)err_set(err, ERR_FAILED, "could not find a column reference in the text");
        return WALK_STOP;
    }
    ddl_edit_add(search->patches, (DdlPatch){offset, tree->tokens[table].start, ""},
                 search->scope->arena);
    return WALK_OVER;
}

bool
ddl_expr_unqualify(const DdlScope *scope, json_t *node, DdlPatches *patches, Err *err)
{
    Search search = {.scope = scope, .patches = patches};

    return ddl_tree_walk(node, visit_qualified, &search, err);
}

/* --- columns an expression uses --- */

static const char *const SYSTEM_COLUMNS[] = {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"};

bool
ddl_expr_is_system_column(const char *name)
{
    for (size_t i = 0; i < sizeof SYSTEM_COLUMNS / sizeof SYSTEM_COLUMNS[0]; i++)
        if (strcmp(name, SYSTEM_COLUMNS[i]) == 0)
            return true;
    return false;
}

static void
add_reference(Search *search, const char *name)
{
    DdlAction *action = search->action;
    Arena *arena = search->scope->arena;

    for (int i = 0; i < action->reference_count; i++)
        if (strcmp(search->names[i], name) == 0)
            return;
    search->names =
        ddl_tree_grow(arena, search->names, action->reference_count, sizeof *search->names);
    search->names[action->reference_count++] = arena_copy(arena, name, strlen(name));
}

static DdlWalk
visit_reference(const char *key, json_t *body, void *context, Err *err)
{
    Search *search = context;
    json_t *fields = json_object_get(body, "fields");
    size_t count = json_array_size(fields);
    const char *name;
    const char *table;

    if (strcmp(key, "ColumnRef") != 0)
        return WALK_INTO;
    if (count == 0) {
        (void)err_set(err, ERR_FAILED, "a column reference has no name");
        return WALK_STOP;
    }
    name = ddl_tree_string(fields, count - 1); /* NULL: it is a star */
    table = count > 1 ? ddl_tree_string(fields, count - 2) : search->scope->table;
    if (table == NULL || strcmp(table, search->scope->table) != 0)
        return WALK_OVER; /* a table of a sub-select */
    if (name == NULL || (count == 1 && strcmp(name, search->scope->table) == 0))
        search->action->references_row = true;
    if (name != NULL)
        add_reference(search, name);
    return WALK_OVER;
}

bool
ddl_expr_references(const DdlScope *scope, json_t *node, DdlAction *action, Err *err)
{
    Search search = {.scope = scope, .action = action};

    if (!ddl_tree_walk(node, visit_reference, &search, err))
        return false;
    action->references = search.names;
    return true;
}

/* --- texts --- */

/* The text from token `first` to its list item's end, or to the first token at or behind `limit`. */
static bool
cut(const DdlScope *scope, int first, int limit, DdlPatches *patches, DdlAction *action)
{
    const DdlTree *tree = scope->tree;
    int past = ddl_scan_item_end(tree, first);

    while (past > first && tree->tokens[past - 1].start >= limit)
        past--;
    if (past <= first)
        return false;
    action->expression = ddl_edit_apply(tree->text, tree->tokens[first].start,
                                        tree->tokens[past - 1].end, patches, scope->arena);
    return true;
}

/* Byte offset of the element of a column definition that follows the one at `offset`. */
static int
next_element(json_t *column, int offset)
{
    int next = ddl_tree_int(json_object_get(column, "collClause"), "location");
    size_t index;
    json_t *item;

    if (next <= offset)
        next = INT_MAX;
    json_array_foreach(json_object_get(column, "constraints"), index, item)
    {
        int at = ddl_tree_int(ddl_tree_body(item, "Constraint"), "location");

        if (at > offset && at < next)
            next = at;
    }
    return next;
}

/* The first DEFAULT among a column's constraints, NULL if there is none. */
static json_t *
find_default(json_t *column)
{
    size_t index;
    json_t *item;

    json_array_foreach(json_object_get(column, "constraints"), index, item)
    {
        json_t *constraint = ddl_tree_body(item, "Constraint");

        if (ddl_tree_is(constraint, "contype", "CONSTR_DEFAULT"))
            return constraint;
    }
    return NULL;
}

bool
ddl_expr_default(const DdlScope *scope, json_t *column, DdlPatches *patches, DdlAction *action,
                 Err *err)
{
    json_t *constraint = find_default(column);
    int offset = ddl_tree_int(constraint, "location");
    int first;

    if (constraint == NULL)
        return true;
    first = ddl_scan_find(scope->tree, offset);
    if (ddl_scan_is(scope->tree, first, "constraint")) /* CONSTRAINT name DEFAULT ... */
        first = ddl_scan_skip_name(scope->tree, first + 1);
    if (!ddl_scan_is(scope->tree, first, "default") ||
        !cut(scope, first + 1, next_element(column, offset), patches, action))
        return err_set(err, ERR_FAILED, "could not find a default expression in the text");
    return ddl_expr_references(scope, json_object_get(constraint, "raw_expr"), action, err);
}

static bool
check_no_system_column(const DdlAction *action, Err *err)
{
    for (int i = 0; i < action->reference_count; i++)
        if (ddl_expr_is_system_column(action->references[i])) {
            (void)err_set(err, ERR_REFUSED,
                          "system columns cannot be used in USING: \"%s\" of column \"%s\"",
                          action->references[i], action->column);
            return err_hint(err, "Changed rows come from the stream and have none. Use other "
                                 "columns, or run a plain ALTER TABLE.");
        }
    return true;
}

bool
ddl_expr_using(const DdlScope *scope, json_t *column, DdlPatches *patches, DdlAction *action,
               Err *err)
{
    json_t *expression = json_object_get(column, "raw_default");
    int type = ddl_tree_int(json_object_get(column, "typeName"), "location");
    int first;

    if (expression == NULL)
        return true;
    first = ddl_scan_find(scope->tree, type);
    first = ddl_scan_keyword(scope->tree, first, ddl_scan_item_end(scope->tree, first), "using");
    if (first < 0 || !cut(scope, first + 1, INT_MAX, patches, action))
        return err_set(err, ERR_FAILED, "could not find a USING expression in the text");
    return ddl_expr_references(scope, expression, action, err) &&
           check_no_system_column(action, err);
}
