/* The statements of a run: what they alter, and where they name what; see ddl.h. */
#include "ddl.h"

#include <string.h>

#include "base/buf.h"
#include "ddl_action.h"
#include "ddl_edit.h"
#include "ddl_expr.h"
#include "ddl_scan.h"
#include "ddl_tree.h"

/* One statement while it is read. */
typedef struct Draft {
    DdlScope scope;         /* its altered table */
    json_t *body;           /* fields of the statement's node */
    int first;              /* its first token, without semicolons */
    int past;               /* the token behind its last one */
    DdlPatches unqualified; /* offsets count from the whole text, as `edits` do until the end */
    DdlEdit *edits;
    int edit_count;
    DdlReference *references;
    int reference_count;
} Draft;

/* --- what is refused --- */

/* A statement of another kind is named by its first two words. */
static bool
refuse_statement(const DdlTree *tree, int first, int past, Err *err)
{
    int last = first + 1 < past ? first + 1 : first;
    int start = tree->tokens[first].start;
    int len = tree->tokens[last].end - start;

    (void)err_set(err, ERR_REFUSED, "only ALTER TABLE can be run, not \"%.*s\"",
                  len < 100 ? len : 100, tree->text + start);
    return err_hint(err, "Give one or several ALTER TABLE statements on one table; run other "
                         "statements by themselves.");
}

static bool
check_rename(const Draft *draft, Err *err)
{
    if (ddl_tree_is(draft->body, "renameType", "OBJECT_TABLE"))
        return ddl_action_refuse("ALTER TABLE ... RENAME TO", err);
    if (ddl_tree_is(draft->body, "renameType", "OBJECT_TABCONSTRAINT") ||
        (ddl_tree_is(draft->body, "renameType", "OBJECT_COLUMN") &&
         ddl_tree_is(draft->body, "relationType", "OBJECT_TABLE")))
        return true;
    return refuse_statement(draft->scope.tree, draft->first, draft->past, err);
}

static bool
check_statement(const Draft *draft, const char *kind, Err *err)
{
    if (strcmp(kind, "AlterTableStmt") == 0 && ddl_tree_is(draft->body, "objtype", "OBJECT_TABLE"))
        return true;
    if (strcmp(kind, "RenameStmt") == 0)
        return check_rename(draft, err);
    if (strcmp(kind, "AlterObjectSchemaStmt") == 0 &&
        ddl_tree_is(draft->body, "objectType", "OBJECT_TABLE"))
        return ddl_action_refuse("ALTER TABLE ... SET SCHEMA", err);
    if (strcmp(kind, "AlterTableMoveAllStmt") == 0 &&
        ddl_tree_is(draft->body, "objtype", "OBJECT_TABLE")) {
        (void)err_set(err, ERR_REFUSED, "ALTER TABLE ALL IN TABLESPACE alters many tables");
        return err_hint(err, "Give ALTER TABLE ... SET TABLESPACE for one table at a time.");
    }
    return refuse_statement(draft->scope.tree, draft->first, draft->past, err);
}

/* --- edits --- */

static const char *
keep(Arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_copy(arena, text, strlen(text));
}

static void
add_edit(Draft *draft, DdlEdit edit)
{
    draft->edits = ddl_tree_grow(draft->scope.arena, draft->edits, draft->edit_count, sizeof edit);
    draft->edits[draft->edit_count++] = edit;
}

/* Add an edit for the name of `range`, a RangeVar. */
static bool
add_name(Draft *draft, json_t *range, int reference, Err *err)
{
    const DdlTree *tree = draft->scope.tree;
    const char *name = ddl_tree_text(range, "relname");
    int first = 0;
    int past = 0;
    int start;

    if (!ddl_scan_table(tree, range, &first, &past))
        return err_set(err, ERR_FAILED, "could not find a table's name in the text");
    if (ddl_tree_text(range, "catalogname") != NULL) {
        (void)err_set(err, ERR_REFUSED, "table \"%s\" is qualified by a database", name);
        return err_hint(err, "Write schema.table; the connection says which database it is.");
    }
    start = tree->tokens[first].start;
    add_edit(draft, (DdlEdit){start, tree->tokens[past - 1].end - start, reference});
    return true;
}

static DdlWalk
visit_reference(const char *key, json_t *body, void *context, Err *err)
{
    Draft *draft = context;
    Arena *arena = draft->scope.arena;

    if (strcmp(key, "pktable") != 0)
        return WALK_INTO;
    if (!add_name(draft, body, draft->reference_count, err))
        return WALK_STOP;
    draft->references =
        ddl_tree_grow(arena, draft->references, draft->reference_count, sizeof(DdlReference));
    draft->references[draft->reference_count++] =
        (DdlReference){.schema = keep(arena, ddl_tree_text(body, "schemaname")),
                       .name = keep(arena, ddl_tree_text(body, "relname"))};
    return WALK_OVER;
}

/* Bring the edits into the order of the text and let them count from the statement's start. */
static void
finish_edits(Draft *draft, int base)
{
    for (int i = 0; i < draft->unqualified.count; i++) {
        const DdlPatch *patch = &draft->unqualified.items[i];

        add_edit(draft, (DdlEdit){patch->start, patch->end - patch->start, EDIT_DROP});
    }
    for (int i = 0; i < draft->edit_count; i++) {
        DdlEdit edit = draft->edits[i];
        int at = i;

        edit.start -= base;
        for (; at > 0 && draft->edits[at - 1].start > edit.start; at--)
            draft->edits[at] = draft->edits[at - 1];
        draft->edits[at] = edit;
    }
}

static bool
read_edits(Draft *draft, Err *err)
{
    return add_name(draft, json_object_get(draft->body, "relation"), EDIT_TABLE, err) &&
           ddl_tree_walk(draft->body, visit_reference, draft, err) &&
           ddl_expr_unqualify(&draft->scope, draft->body, &draft->unqualified, err);
}

/* --- actions --- */

/* A RenameStmt has one action, an AlterTableStmt one for each sub-command. */
static bool
read_actions(Draft *draft, DdlStatement *out, Err *err)
{
    json_t *commands = json_object_get(draft->body, "cmds");
    size_t count = commands == NULL ? 1 : json_array_size(commands);
    Arena *arena = draft->scope.arena;
    DdlAction *actions = arena_alloc(arena, count * sizeof *actions);

    if (ddl_tree_is(draft->body, "renameType", "OBJECT_COLUMN"))
        actions[0] = (DdlAction){.kind = ACTION_RENAME_COLUMN,
                                 .column = keep(arena, ddl_tree_text(draft->body, "subname")),
                                 .new_name = keep(arena, ddl_tree_text(draft->body, "newname"))};
    if (commands == NULL)
        actions[0].is_catalog_only = true; /* a column or a constraint is renamed */
    for (size_t i = 0; i < json_array_size(commands); i++)
        if (!ddl_action_read(&draft->scope,
                             ddl_tree_body(json_array_get(commands, i), "AlterTableCmd"),
                             &draft->unqualified, &actions[i], err))
            return false;
    out->actions = actions;
    out->action_count = (int)count;
    return true;
}

/* --- statements --- */

/* Set the tokens of the statement `raw`; its location includes what stands before it. */
static void
find_statement(Draft *draft, json_t *raw)
{
    const DdlTree *tree = draft->scope.tree;
    int start = ddl_tree_int(raw, "stmt_location");
    int len = ddl_tree_int(raw, "stmt_len");

    draft->first = ddl_scan_find(tree, start);
    draft->past = len == 0 ? tree->token_count : ddl_scan_find(tree, start + len);
    while (ddl_scan_is(tree, draft->first, ";"))
        draft->first++;
    while (draft->past > draft->first && ddl_scan_is(tree, draft->past - 1, ";"))
        draft->past--;
}

static bool
read_statement(Draft *draft, json_t *raw, DdlStatement *out, Err *err)
{
    const DdlTree *tree = draft->scope.tree;
    Arena *arena = draft->scope.arena;
    const char *kind = ddl_tree_kind(json_object_get(raw, "stmt"), &draft->body);
    json_t *relation = json_object_get(draft->body, "relation");
    int start;

    find_statement(draft, raw);
    if (kind == NULL || draft->first >= draft->past)
        return err_set(err, ERR_FAILED, "could not find a statement in the text");
    if (!check_statement(draft, kind, err))
        return false;
    draft->scope.schema = keep(arena, ddl_tree_text(relation, "schemaname"));
    draft->scope.table = keep(arena, ddl_tree_text(relation, "relname"));
    if (draft->scope.table == NULL)
        return err_set(err, ERR_FAILED, "a statement names no table");
    if (!read_edits(draft, err) || !read_actions(draft, out, err))
        return false;
    start = tree->tokens[draft->first].start;
    finish_edits(draft, start);
    out->text =
        arena_copy(arena, tree->text + start, (size_t)(tree->tokens[draft->past - 1].end - start));
    out->edits = draft->edits;
    out->edit_count = draft->edit_count;
    out->references = draft->references;
    out->reference_count = draft->reference_count;
    return true;
}

static const char *
qualified(const char *schema, const char *table, Arena *arena)
{
    BUF_AUTO(name);

    buf_printf(&name, "%s%s%s", schema == NULL ? "" : schema, schema == NULL ? "" : ".", table);
    return arena_copy(arena, buf_text(&name), name.len);
}

/* The table of the run so far, or of `draft` when that says it more exactly. */
static bool
agree_on_table(const Draft *draft, Ddl *ddl, Err *err)
{
    const DdlScope *scope = &draft->scope;
    bool same = ddl->table == NULL || strcmp(ddl->table, scope->table) == 0;

    if (ddl->schema != NULL && scope->schema != NULL && strcmp(ddl->schema, scope->schema) != 0)
        same = false;
    if (!same) {
        (void)err_set(err, ERR_REFUSED, "the statements alter different tables: \"%s\" and \"%s\"",
                      qualified(ddl->schema, ddl->table, scope->arena),
                      qualified(scope->schema, scope->table, scope->arena));
        return err_hint(err, "Alter one table in one run.");
    }
    ddl->table = scope->table;
    ddl->schema = ddl->schema == NULL ? scope->schema : ddl->schema;
    return true;
}

bool
ddl_parse(const char *text, Arena *arena, Ddl *out, Err *err)
{
    DDL_TREE_AUTO(tree);
    Ddl ddl = {0};
    DdlStatement *statements;
    json_t *list;

    if (!ddl_tree_parse(text, arena, &tree, err))
        return false;
    list = json_object_get(tree.root, "stmts");
    if (json_array_size(list) == 0) {
        (void)err_set(err, ERR_USAGE, "there is no statement to run");
        return err_hint(err, "Give one or several ALTER TABLE statements on one table.");
    }
    ddl.statement_count = (int)json_array_size(list);
    ddl.statements = statements = arena_alloc(arena, json_array_size(list) * sizeof *statements);
    for (int i = 0; i < ddl.statement_count; i++) {
        Draft draft = {.scope = {.tree = &tree, .arena = arena}};

        if (!read_statement(&draft, json_array_get(list, (size_t)i), &statements[i], err) ||
            !agree_on_table(&draft, &ddl, err))
            return ddl.statement_count == 1 ? false : err_wrap(err, "statement %d", i + 1);
    }
    *out = ddl;
    return true;
}

const char *
ddl_rewrite(const DdlStatement *statement, const char *table, const char *const *references,
            Arena *arena)
{
    DdlPatches patches = {0};

    for (int i = 0; i < statement->edit_count; i++) {
        const DdlEdit *edit = &statement->edits[i];
        const char *with = edit->reference == EDIT_TABLE ? table : "";

        if (edit->reference >= 0)
            with = references == NULL ? NULL : references[edit->reference];
        ddl_edit_add(&patches, (DdlPatch){edit->start, edit->start + edit->len, with}, arena);
    }
    return ddl_edit_apply(statement->text, 0, (int)strlen(statement->text), &patches, arena);
}
