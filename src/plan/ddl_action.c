/* Sub-commands of ALTER TABLE; see ddl_action.h. */
#include "ddl_action.h"

#include <string.h>

/* --- what is refused --- */

static const char PLAIN_HINT[] = "Run it as a plain %s: it needs no rewrite and takes a moment.";

static const struct {
    const char *subtype;
    const char *form;
} REFUSED_ACTIONS[] = {
    {"AT_AddInherit", "ALTER TABLE ... INHERIT"},
    {"AT_DropInherit", "ALTER TABLE ... NO INHERIT"},
    {"AT_AttachPartition", "ALTER TABLE ... ATTACH PARTITION"},
    {"AT_DetachPartition", "ALTER TABLE ... DETACH PARTITION"},
    {"AT_DetachPartitionFinalize", "ALTER TABLE ... DETACH PARTITION ... FINALIZE"},
    {"AT_AddOf", "ALTER TABLE ... OF"},
    {"AT_DropOf", "ALTER TABLE ... NOT OF"},
};

bool
ddl_action_refuse(const char *form, Err *err)
{
    (void)err_set(err, ERR_REFUSED, "%s is not a change of a table's definition", form);
    return err_hint(err, PLAIN_HINT, form);
}

static bool
check_subtype(const char *subtype, Err *err)
{
    for (size_t i = 0; i < sizeof REFUSED_ACTIONS / sizeof REFUSED_ACTIONS[0]; i++)
        if (strcmp(subtype, REFUSED_ACTIONS[i].subtype) == 0)
            return ddl_action_refuse(REFUSED_ACTIONS[i].form, err);
    return true;
}

/* --- what is read --- */

static const char *
keep(Arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_copy(arena, text, strlen(text));
}

/* The sub-commands whose `name` is a column. */
static const struct {
    const char *subtype;
    ActionKind kind;
} COLUMN_ACTIONS[] = {
    {"AT_DropColumn", ACTION_DROP_COLUMN}, {"AT_AlterColumnType", ACTION_ALTER_TYPE},
    {"AT_ColumnDefault", ACTION_OTHER},    {"AT_DropNotNull", ACTION_OTHER},
    {"AT_SetNotNull", ACTION_OTHER},       {"AT_DropExpression", ACTION_OTHER},
    {"AT_SetStatistics", ACTION_OTHER},    {"AT_SetOptions", ACTION_OTHER},
    {"AT_ResetOptions", ACTION_OTHER},     {"AT_SetStorage", ACTION_OTHER},
    {"AT_SetCompression", ACTION_OTHER},   {"AT_AddIdentity", ACTION_OTHER},
    {"AT_SetIdentity", ACTION_OTHER},      {"AT_DropIdentity", ACTION_OTHER},
};

/* Sub-commands that change the catalog and never look at a row. */
static const char *const CATALOG_ONLY[] = {
    "AT_DropColumn",    "AT_ColumnDefault",  "AT_DropNotNull",  "AT_DropExpression",
    "AT_SetStatistics", "AT_SetOptions",     "AT_ResetOptions", "AT_SetIdentity",
    "AT_DropIdentity",  "AT_DropConstraint", "AT_ChangeOwner"};

static bool
is_catalog_only(const char *subtype)
{
    for (size_t i = 0; i < sizeof CATALOG_ONLY / sizeof CATALOG_ONLY[0]; i++)
        if (strcmp(subtype, CATALOG_ONLY[i]) == 0)
            return true;
    return false;
}

/* Types that parse analysis turns into an integer with a sequence, when not qualified. */
static const char *const SERIAL_TYPES[] = {"serial",  "smallserial", "bigserial",
                                           "serial2", "serial4",     "serial8"};

static bool
is_serial(json_t *type)
{
    json_t *names = json_object_get(type, "names");
    const char *name = json_array_size(names) == 1 ? ddl_tree_string(names, 0) : NULL;

    for (size_t i = 0; name != NULL && i < sizeof SERIAL_TYPES / sizeof SERIAL_TYPES[0]; i++)
        if (strcmp(name, SERIAL_TYPES[i]) == 0)
            return true;
    return false;
}

static bool
read_added_column(const DdlScope *scope, json_t *column, DdlPatches *patches, DdlAction *action,
                  Err *err)
{
    size_t index;
    json_t *item;

    action->kind = ACTION_ADD_COLUMN;
    action->column = keep(scope->arena, ddl_tree_text(column, "colname"));
    action->is_serial = is_serial(json_object_get(column, "typeName"));
    action->is_catalog_only = true;
    json_array_foreach(json_object_get(column, "constraints"), index, item)
    {
        json_t *constraint = ddl_tree_body(item, "Constraint");

        action->is_identity |= ddl_tree_is(constraint, "contype", "CONSTR_IDENTITY");
        action->is_generated |= ddl_tree_is(constraint, "contype", "CONSTR_GENERATED");
        action->is_catalog_only &= ddl_tree_is(constraint, "contype", "CONSTR_DEFAULT") ||
                                   ddl_tree_is(constraint, "contype", "CONSTR_NULL");
    }
    return ddl_expr_default(scope, column, patches, action, err);
}

static DdlWalk
visit_option(const char *key, json_t *body, void *context, Err *err)
{
    DdlAction *action = context;

    (void)err;
    if (strcmp(key, "DefElem") == 0 && ddl_tree_is(body, "defname", "restart"))
        action->kind = ACTION_RESTART_IDENTITY;
    return WALK_INTO;
}

static void
read_column_action(const char *subtype, json_t *command, Arena *arena, DdlAction *action)
{
    for (size_t i = 0; i < sizeof COLUMN_ACTIONS / sizeof COLUMN_ACTIONS[0]; i++)
        if (strcmp(subtype, COLUMN_ACTIONS[i].subtype) == 0) {
            action->kind = COLUMN_ACTIONS[i].kind;
            action->column = keep(arena, ddl_tree_text(command, "name"));
        }
}

bool
ddl_action_read(const DdlScope *scope, json_t *command, DdlPatches *patches, DdlAction *action,
                Err *err)
{
    const char *subtype = ddl_tree_text(command, "subtype");
    json_t *definition = json_object_get(command, "def");

    if (subtype == NULL)
        return err_set(err, ERR_FAILED, "a sub-command of the statement has no kind");
    if (!check_subtype(subtype, err))
        return false;
    if (strcmp(subtype, "AT_AddColumn") == 0)
        return read_added_column(scope, ddl_tree_body(definition, "ColumnDef"), patches, action,
                                 err);
    action->is_catalog_only = is_catalog_only(subtype);
    read_column_action(subtype, command, scope->arena, action);
    if (strcmp(subtype, "AT_ChangeOwner") == 0)
        action->kind = ACTION_CHANGE_OWNER;
    if (strcmp(subtype, "AT_SetUnLogged") == 0)
        action->kind = ACTION_SET_UNLOGGED;
    if (strcmp(subtype, "AT_SetIdentity") == 0 || strcmp(subtype, "AT_AddIdentity") == 0)
        return ddl_tree_walk(definition, visit_option, action, err);
    if (action->kind == ACTION_ALTER_TYPE)
        return ddl_expr_using(scope, ddl_tree_body(definition, "ColumnDef"), patches, action, err);
    return true;
}
