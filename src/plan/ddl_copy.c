/* The copy statement, cut around the original's name; see ddl.h. */
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "ddl.h"
#include "ddl_edit.h"
#include "ddl_expr.h"
#include "ddl_scan.h"
#include "ddl_tree.h"

static const char PLACEHOLDER[] = "%{shadow_table}";
static const char STAND_IN[] = "shadow_table___"; /* a name of the same length */

typedef struct Reading {
    DdlScope scope; /* the original */
    json_t *insert; /* fields of the InsertStmt */
    json_t *select; /* fields of its SelectStmt */
    json_t *range;  /* the original's RangeVar */
    int range_count;
    int select_at;     /* token SELECT */
    int from_at;       /* token FROM */
    const char *alias; /* unquoted */
    bool references_row;
} Reading;

static bool
refuse(Err *err, const char *what, const char *hint)
{
    (void)err_set(err, ERR_REFUSED, "the copy statement %s", what);
    return err_hint(err, "%s", hint);
}

static const char FORM_HINT[] = "Write INSERT INTO %{shadow_table} (column, ...) SELECT ... FROM "
                                "the table with plain joins and WHERE only.";
static const char ONE_ROW_HINT[] =
    "It is run for single rows too: every row of the table must give at most one row by itself.";

/* --- the statement --- */

/* The text with a stand-in for the placeholder, so that it parses and no offset moves. */
static bool
fill_placeholder(char *text, Err *err)
{
    char *at = strstr(text, PLACEHOLDER);

    if (at == NULL)
        return true;
    memcpy(at, STAND_IN, sizeof STAND_IN - 1);
    if (strstr(at, PLACEHOLDER) != NULL)
        return refuse(err, "names %{shadow_table} more than once",
                      "It may only be the target of the INSERT.");
    return true;
}

static bool
find_insert(Reading *reading, Err *err)
{
    json_t *list = json_object_get(reading->scope.tree->root, "stmts");
    json_t *statement = json_object_get(json_array_get(list, 0), "stmt");

    if (json_array_size(list) != 1)
        return refuse(err, "must be one statement", FORM_HINT);
    reading->insert = ddl_tree_body(statement, "InsertStmt");
    if (reading->insert == NULL)
        return refuse(err, "is not an INSERT", FORM_HINT);
    reading->select = ddl_tree_body(json_object_get(reading->insert, "selectStmt"), "SelectStmt");
    if (reading->select == NULL || json_object_get(reading->select, "valuesLists") != NULL)
        return refuse(err, "does not insert a SELECT", FORM_HINT);
    return true;
}

/* A clause that a plain INSERT or SELECT does not have, by its field in the tree. */
typedef struct Clause {
    const char *field;
    const char *what;
} Clause;

static const Clause INSERT_CLAUSES[] = {
    {"onConflictClause", "has ON CONFLICT"},
    {"returningList", "has RETURNING"},
    {"withClause", "has WITH"},
};

static const Clause SELECT_CLAUSES[] = {
    {"distinctClause", "has DISTINCT"}, {"groupClause", "has GROUP BY"},
    {"havingClause", "has HAVING"},     {"windowClause", "has WINDOW"},
    {"limitCount", "has LIMIT"},        {"limitOffset", "has OFFSET"},
    {"lockingClause", "locks rows"},    {"withClause", "has WITH"},
    {"intoClause", "has INTO"},
};

static bool
check_clauses(json_t *body, const Clause *clauses, size_t count, Err *err)
{
    for (size_t i = 0; i < count; i++)
        if (json_object_get(body, clauses[i].field) != NULL)
            return refuse(err, clauses[i].what, ONE_ROW_HINT);
    return true;
}

static bool
check_form(const Reading *reading, Err *err)
{
    const char *operation = ddl_tree_text(reading->select, "op");

    if (!check_clauses(reading->insert, INSERT_CLAUSES,
                       sizeof INSERT_CLAUSES / sizeof INSERT_CLAUSES[0], err) ||
        !check_clauses(reading->select, SELECT_CLAUSES,
                       sizeof SELECT_CLAUSES / sizeof SELECT_CLAUSES[0], err))
        return false;
    if (operation != NULL && strcmp(operation, "SETOP_NONE") != 0)
        return refuse(err, "combines several SELECTs", ONE_ROW_HINT);
    if (ddl_tree_is(reading->insert, "override", "OVERRIDING_USER_VALUE"))
        return refuse(err, "has OVERRIDING USER VALUE",
                      "Leave the identity column out of both lists instead.");
    return true;
}

/* --- the lists --- */

static bool
read_columns(const Reading *reading, CopyStatement *copy, Err *err)
{
    json_t *list = json_object_get(reading->insert, "cols");
    size_t count = json_array_size(list);
    const char **columns = arena_alloc(reading->scope.arena, count * sizeof *columns);

    if (count == 0)
        return refuse(err, "has no column list", FORM_HINT);
    for (size_t i = 0; i < count; i++) {
        json_t *target = ddl_tree_body(json_array_get(list, i), "ResTarget");
        const char *name = ddl_tree_text(target, "name");

        if (name == NULL || json_object_get(target, "indirection") != NULL)
            return refuse(err, "fills a part of a column", "List whole columns.");
        columns[i] = arena_copy(reading->scope.arena, name, strlen(name));
    }
    copy->columns = columns;
    copy->column_count = (int)count;
    return true;
}

static bool
is_star(json_t *target)
{
    json_t *ref = ddl_tree_body(json_object_get(target, "val"), "ColumnRef");
    json_t *fields = json_object_get(ref, "fields");
    size_t count = json_array_size(fields);

    return count > 0 && ddl_tree_body(json_array_get(fields, count - 1), "A_Star") != NULL;
}

static bool
check_targets(const Reading *reading, int column_count, Err *err)
{
    json_t *list = json_object_get(reading->select, "targetList");
    size_t index;
    json_t *item;

    json_array_foreach(list, index, item)
    {
        if (is_star(ddl_tree_body(item, "ResTarget")))
            return refuse(err, "selects *", "List the columns by their names.");
    }
    if (json_array_size(list) != (size_t)column_count) {
        (void)err_set(err, ERR_REFUSED,
                      "the copy statement inserts %d columns but selects %d expressions",
                      column_count, (int)json_array_size(list));
        return err_hint(err, "Give one expression for each column of the INSERT.");
    }
    return true;
}

/* The column of the original that an expression is, casts aside; NULL when it is anything else. */
static const char *
plain_column(const Reading *reading, json_t *value)
{
    json_t *cast;
    json_t *fields;
    size_t count;
    const char *name;

    while ((cast = ddl_tree_body(value, "TypeCast")) != NULL)
        value = json_object_get(cast, "arg");
    fields = json_object_get(ddl_tree_body(value, "ColumnRef"), "fields");
    count = json_array_size(fields);
    if (count == 0 || (name = ddl_tree_string(fields, count - 1)) == NULL)
        return NULL;
    if (count > 1 && strcmp(ddl_tree_string(fields, count - 2), reading->alias) != 0)
        return NULL;
    return arena_copy(reading->scope.arena, name, strlen(name));
}

static void
read_sources(const Reading *reading, CopyStatement *copy)
{
    json_t *list = json_object_get(reading->select, "targetList");
    const char **sources =
        arena_alloc(reading->scope.arena, (size_t)copy->column_count * sizeof *sources);

    for (size_t i = 0; i < (size_t)copy->column_count; i++) {
        json_t *target = ddl_tree_body(json_array_get(list, i), "ResTarget");

        sources[i] = plain_column(reading, json_object_get(target, "val"));
    }
    copy->sources = sources;
}

/* --- expressions --- */

/* The server's aggregates that are in use most; the fields below tell only of some calls. */
static const char *const AGGREGATES[] = {
    "array_agg", "avg",      "bit_and",   "bit_or",          "bool_and",
    "bool_or",   "count",    "every",     "json_agg",        "jsonb_agg",
    "max",       "min",      "range_agg", "string_agg",      "sum",
    "stddev",    "variance", "xmlagg",    "json_object_agg", "jsonb_object_agg",
};

static const char *const AGGREGATE_FIELDS[] = {"agg_star",   "agg_distinct",     "agg_order",
                                               "agg_filter", "agg_within_group", "over"};

static bool
is_aggregate(json_t *call)
{
    json_t *names = json_object_get(call, "funcname");
    size_t count = json_array_size(names);
    const char *schema = count == 2 ? ddl_tree_string(names, 0) : "pg_catalog";
    const char *name = count == 0 ? NULL : ddl_tree_string(names, count - 1);

    for (size_t i = 0; i < sizeof AGGREGATE_FIELDS / sizeof AGGREGATE_FIELDS[0]; i++)
        if (json_object_get(call, AGGREGATE_FIELDS[i]) != NULL)
            return true;
    if (name == NULL || schema == NULL || strcmp(schema, "pg_catalog") != 0)
        return false;
    for (size_t i = 0; i < sizeof AGGREGATES / sizeof AGGREGATES[0]; i++)
        if (strcmp(name, AGGREGATES[i]) == 0)
            return true;
    return false;
}

/* Sub-selects are left alone: what they count is theirs. */
static DdlWalk
visit_call(const char *key, json_t *body, void *context, Err *err)
{
    (void)context;
    if (strcmp(key, "SubLink") == 0)
        return WALK_OVER;
    if (strcmp(key, "FuncCall") != 0 || !is_aggregate(body))
        return WALK_INTO;
    (void)refuse(err, "has an aggregate or a window function", ONE_ROW_HINT);
    return WALK_STOP;
}

/* Look at references to the original: a row that is not read from the table has no ctid. */
static DdlWalk
visit_column(const char *key, json_t *body, void *context, Err *err)
{
    Reading *reading = context;
    json_t *fields = json_object_get(body, "fields");
    size_t count = json_array_size(fields);
    const char *name = count > 0 ? ddl_tree_string(fields, count - 1) : NULL;
    const char *table = count > 1 ? ddl_tree_string(fields, count - 2) : reading->alias;

    if (strcmp(key, "ColumnRef") != 0)
        return WALK_INTO;
    if (table == NULL || strcmp(table, reading->alias) != 0)
        return WALK_OVER;
    if (name == NULL || (count == 1 && strcmp(name, reading->alias) == 0))
        reading->references_row = true;
    if (name == NULL || !ddl_expr_is_system_column(name))
        return WALK_OVER;
    (void)err_set(err, ERR_REFUSED, "the copy statement uses the system column \"%s\"", name);
    (void)err_hint(err, "Only the columns of the table itself can be used.");
    return WALK_STOP;
}

static bool
check_expressions(Reading *reading, Err *err)
{
    static const char *const parts[] = {"targetList", "whereClause", "sortClause"};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!ddl_tree_walk(json_object_get(reading->select, parts[i]), visit_call, NULL, err))
            return false;
    return ddl_tree_walk(reading->select, visit_column, reading, err);
}

/* --- the original in FROM --- */

static bool
is_original(const DdlScope *scope, json_t *range)
{
    const char *schema = ddl_tree_text(range, "schemaname");

    return ddl_tree_is(range, "relname", scope->table) &&
           (schema == NULL || scope->schema == NULL || strcmp(schema, scope->schema) == 0);
}

static bool find_in_item(Reading *reading, json_t *item, Err *err);

/* `is_kept`: the join keeps every row of the other side, so it makes rows without the original. */
static bool
find_in_side(Reading *reading, json_t *item, bool is_kept, Err *err)
{
    int before = reading->range_count;

    if (!find_in_item(reading, item, err))
        return false;
    if (is_kept && reading->range_count > before)
        return refuse(err, "joins the table on the side that an outer join may leave empty",
                      "Put the table on the left of LEFT JOIN.");
    return true;
}

static bool
find_in_join(Reading *reading, json_t *join, Err *err)
{
    int before = reading->range_count;
    bool is_full = ddl_tree_is(join, "jointype", "JOIN_FULL");
    bool is_left = ddl_tree_is(join, "jointype", "JOIN_LEFT");
    bool is_right = ddl_tree_is(join, "jointype", "JOIN_RIGHT");

    if (!find_in_side(reading, json_object_get(join, "larg"), is_full || is_right, err) ||
        !find_in_side(reading, json_object_get(join, "rarg"), is_full || is_left, err))
        return false;
    if (json_object_get(join, "alias") != NULL && reading->range_count > before)
        return refuse(err, "hides the table behind the alias of a join",
                      "Leave out the alias of the join.");
    return true;
}

static bool
find_in_item(Reading *reading, json_t *item, Err *err)
{
    json_t *join = ddl_tree_body(item, "JoinExpr");
    json_t *sample = ddl_tree_body(item, "RangeTableSample");
    json_t *range = ddl_tree_body(item, "RangeVar");

    if (join != NULL)
        return find_in_join(reading, join, err);
    if (sample != NULL &&
        is_original(&reading->scope,
                    ddl_tree_body(json_object_get(sample, "relation"), "RangeVar")))
        return refuse(err, "has TABLESAMPLE", ONE_ROW_HINT);
    if (range != NULL && is_original(&reading->scope, range)) {
        reading->range = range;
        reading->range_count++;
    }
    return true;
}

static bool
find_original(Reading *reading, Err *err)
{
    json_t *alias;
    size_t index;
    json_t *item;

    json_array_foreach(json_object_get(reading->select, "fromClause"), index, item)
    {
        if (!find_in_item(reading, item, err))
            return false;
    }
    if (reading->range_count != 1) {
        (void)err_set(err, ERR_REFUSED, "the copy statement has table \"%s\" %s in its FROM",
                      reading->scope.table, reading->range_count == 0 ? "not" : "more than once");
        return err_hint(err, "Name the table itself in FROM once, not inside a sub-select.");
    }
    alias = json_object_get(reading->range, "alias");
    if (json_object_get(alias, "colnames") != NULL)
        return refuse(err, "gives the table an alias with a list of columns",
                      "Give the table a plain alias.");
    if (ddl_tree_text(reading->range, "catalogname") != NULL)
        return refuse(err, "qualifies the table by a database", "Write schema.table.");
    reading->alias = ddl_tree_text(alias, "aliasname");
    if (reading->alias == NULL)
        reading->alias = reading->scope.table;
    return true;
}

/* --- the pieces --- */

/* Set where SELECT and FROM stand. */
static bool
find_clauses(Reading *reading, Err *err)
{
    const DdlTree *tree = reading->scope.tree;
    json_t *columns = json_object_get(reading->insert, "cols");
    json_t *last =
        ddl_tree_body(json_array_get(columns, json_array_size(columns) - 1), "ResTarget");
    int at = ddl_scan_item_end(tree, ddl_scan_find(tree, ddl_tree_int(last, "location"))) + 1;

    if (ddl_scan_is(tree, at, "overriding"))
        at += 3;
    if (ddl_scan_is(tree, at, "("))
        return refuse(err, "has its SELECT in parentheses", "Leave out these parentheses.");
    reading->select_at = at;
    reading->from_at = ddl_scan_keyword(tree, at, tree->token_count, "from");
    if (!ddl_scan_is(tree, at, "select") || reading->from_at < 0)
        return refuse(err, "is not a plain SELECT", FORM_HINT);
    return true;
}

/* The tokens [*first, *past) of the original in FROM, with ONLY, star and alias. */
static bool
find_source(const Reading *reading, int *first, int *past, Err *err)
{
    const DdlTree *tree = reading->scope.tree;
    int start;
    int end;

    if (!ddl_scan_table(tree, reading->range, &start, &end))
        return err_set(err, ERR_FAILED, "could not find the table in the copy statement");
    if (ddl_scan_is(tree, start - 1, "only")) {
        start -= 1;
    } else if (ddl_scan_is(tree, start - 1, "(") && ddl_scan_is(tree, start - 2, "only")) {
        start -= 2;
        end += 1;
    } else if (ddl_scan_is(tree, end, "*")) {
        end += 1;
    }
    if (json_object_get(reading->range, "alias") != NULL) {
        end += ddl_scan_is(tree, end, "as");
        end = ddl_scan_skip_name(tree, end);
    }
    *first = start;
    *past = end;
    return true;
}

/* The text of the tokens [first, past), with a blank before it. */
static const char *
piece(const Reading *reading, int start, int end, DdlPatches *patches)
{
    BUF_AUTO(text);

    buf_add_byte(&text, ' ');
    buf_add_text(&text, ddl_edit_apply(reading->scope.tree->text, start, end, patches,
                                       reading->scope.arena));
    return arena_copy(reading->scope.arena, buf_text(&text), text.len);
}

static bool
cut_pieces(const Reading *reading, CopyStatement *copy, Err *err)
{
    const DdlTree *tree = reading->scope.tree;
    const DdlToken *tokens = tree->tokens;
    DdlPatches patches = {0};
    int past_all = tree->token_count;
    int first = 0;
    int past = 0;

    while (ddl_scan_is(tree, past_all - 1, ";"))
        past_all--;
    if (!ddl_expr_unqualify(&reading->scope, reading->select, &patches, err) ||
        !find_source(reading, &first, &past, err))
        return false;
    if (past > past_all || first <= reading->from_at)
        return err_set(err, ERR_FAILED, "could not find the table in the copy statement");
    copy->head = piece(reading, tokens[reading->select_at].start, tokens[reading->from_at - 1].end,
                       &patches) +
                 1;
    copy->before = piece(reading, tokens[reading->from_at].start, tokens[first].start, &patches);
    copy->after = past < past_all
                      ? piece(reading, tokens[past].start, tokens[past_all - 1].end, &patches)
                      : "";
    copy->alias = ddl_edit_quote(reading->alias, reading->scope.arena);
    copy->references_row = reading->references_row;
    return true;
}

bool
ddl_parse_copy(const char *text, const char *schema, const char *table, Arena *arena,
               CopyStatement *out, Err *err)
{
    DDL_TREE_AUTO(tree);
    char *filled = arena_copy(arena, text, strlen(text));
    Reading reading = {.scope = {.tree = &tree, .arena = arena, .schema = schema, .table = table}};
    CopyStatement copy = {0};

    if (!fill_placeholder(filled, err))
        return false;
    if (!ddl_tree_parse(filled, arena, &tree, err))
        return err_wrap(err, "reading the copy statement");
    if (!find_insert(&reading, err) || !check_form(&reading, err) ||
        !read_columns(&reading, &copy, err) || !check_targets(&reading, copy.column_count, err) ||
        !find_original(&reading, err) || !check_expressions(&reading, err) ||
        !find_clauses(&reading, err) || !cut_pieces(&reading, &copy, err))
        return false;
    read_sources(&reading, &copy);
    *out = copy;
    return true;
}

const char *
ddl_copy_select(const CopyStatement *copy, const char *source, const char *passthrough,
                Arena *arena)
{
    BUF_AUTO(text);

    buf_add_text(&text, copy->head);
    if (passthrough != NULL)
        buf_printf(&text, ", %s.%s", copy->alias, passthrough);
    buf_printf(&text, "%s%s %s%s", copy->before, source, copy->alias, copy->after);
    return arena_copy(arena, buf_text(&text), text.len);
}
