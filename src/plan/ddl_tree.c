/* libpg_query's two calls and jansson over their result; see ddl_tree.h. */
#include "ddl_tree.h"

#include <limits.h>
#include <pg_query.h>
#include <stdint.h>
#include <string.h>

/*
 * libpg_query writes its tree by recursion without a check of the stack: it dies beyond some 65,000
 * levels on a stack of 8 MB.  A level costs at least one token.
 */
enum { MAX_TOKENS = 30000 };

void *
ddl_tree_grow(Arena *arena, void *items, int count, size_t item_bytes)
{
    const int first = 4;
    size_t used = (size_t)count * item_bytes;
    void *grown;

    if (count != 0 && (count < first || (count & (count - 1)) != 0))
        return items;
    grown = arena_alloc(arena, count == 0 ? (size_t)first * item_bytes : 2 * used);
    if (used > 0)
        memcpy(grown, items, used);
    return grown;
}

/* --- errors --- */

/* The hint of a syntax error.  `position`: in characters, from 1, as the parser counts. */
static bool
hint_position(const char *text, int position, Err *err)
{
    int line = 1;
    int column = 1;

    if (position <= 0)
        return err_hint(err, "The text is read by the grammar of PostgreSQL %s.", PG_MAJORVERSION);
    for (const char *at = text; *at != '\0' && position > 1; position--) {
        line += *at == '\n';
        column = *at == '\n' ? 1 : column + 1;
        for (at++; ((unsigned char)*at & 0xc0) == 0x80; at++)
            continue;
    }
    return err_hint(err,
                    "The position is line %d, column %d; read by the grammar of PostgreSQL %s.",
                    line, column, PG_MAJORVERSION);
}

static bool
fail_parse(const char *text, const PgQueryError *error, Err *err)
{
    (void)err_set(err, ERR_REFUSED, "%s", error->message);
    return hint_position(text, error->cursorpos, err);
}

/* --- tokens --- */

typedef struct Cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad; /* the bytes were not what they should be */
} Cursor;

static uint64_t
read_varint(Cursor *cursor)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && cursor->at < cursor->end; shift += 7) {
        uint8_t byte = *cursor->at++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    cursor->bad = true;
    return 0;
}

/* A length-delimited field, which the cursor then stands behind. */
static Cursor
read_block(Cursor *cursor)
{
    uint64_t len = read_varint(cursor);
    Cursor block = {cursor->at, cursor->at, false};

    if (len > (uint64_t)(cursor->end - cursor->at))
        cursor->bad = true;
    else
        block.end = cursor->at += len;
    return block;
}

/*
 * Where a token starts.  Its end is not read: libpg_query tells it wrong for U&"...".
 * Source: pg_query.proto, message ScanToken (all fields are varints, start is number 1).
 */
static int
read_token_start(Cursor *cursor)
{
    uint64_t start = 0;

    while (cursor->at < cursor->end && !cursor->bad) {
        uint64_t key = read_varint(cursor);
        uint64_t value = read_varint(cursor);

        if (key == (1 << 3))
            start = value;
    }
    if (start > INT_MAX)
        cursor->bad = true;
    return cursor->bad ? 0 : (int)start;
}

/* Source: pg_query.proto, message ScanResult (version is number 1, tokens are number 2). */
static bool
read_tokens(Cursor *cursor, Arena *arena, DdlTree *tree, Err *err)
{
    DdlToken *tokens = NULL;
    int count = 0;

    while (cursor->at < cursor->end && !cursor->bad) {
        uint64_t key = read_varint(cursor);

        if (key == (2 << 3 | 2)) {
            Cursor block = read_block(cursor);

            tokens = ddl_tree_grow(arena, tokens, count, sizeof *tokens);
            tokens[count++].start = read_token_start(&block);
            cursor->bad = cursor->bad || block.bad;
        } else if (key == (1 << 3)) {
            (void)read_varint(cursor);
        } else {
            cursor->bad = true;
        }
        if (count > MAX_TOKENS)
            return err_set(err, ERR_REFUSED, "the text has more than %d words", MAX_TOKENS);
    }
    if (cursor->bad)
        return err_set(err, ERR_FAILED, "could not read the tokens of libpg_query");
    tree->tokens = tokens;
    tree->token_count = count;
    return true;
}

static bool
is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Set the ends of all tokens and drop the comments: between two tokens there are only blanks. */
static bool
finish_tokens(Arena *arena, DdlTree *tree, Err *err)
{
    DdlToken *kept = arena_alloc(arena, (size_t)tree->token_count * sizeof *kept);
    int len = (int)strlen(tree->text);
    int count = 0;

    for (int i = 0; i < tree->token_count; i++) {
        int start = tree->tokens[i].start;
        int end = i + 1 < tree->token_count ? tree->tokens[i + 1].start : len;

        if (start >= end || end > len)
            return err_set(err, ERR_FAILED, "could not read the tokens of libpg_query");
        while (end > start + 1 && is_blank(tree->text[end - 1]))
            end--;
        if (strncmp(tree->text + start, "--", 2) != 0 && strncmp(tree->text + start, "/*", 2) != 0)
            kept[count++] = (DdlToken){start, end};
    }
    tree->tokens = kept;
    tree->token_count = count;
    return true;
}

static bool
scan(Arena *arena, DdlTree *tree, Err *err)
{
    PgQueryScanResult result = pg_query_scan(tree->text);
    bool ok = false;

    if (result.error != NULL) {
        (void)fail_parse(tree->text, result.error, err);
    } else {
        const uint8_t *bytes = (const uint8_t *)result.pbuf.data;
        Cursor cursor = {bytes, bytes + result.pbuf.len, false};

        ok = read_tokens(&cursor, arena, tree, err) && finish_tokens(arena, tree, err);
    }
    pg_query_free_scan_result(result);
    return ok;
}

/* --- tree --- */

static bool
load_json(const char *json, DdlTree *tree, Err *err)
{
    json_error_t error;

    tree->root = json_loads(json, 0, &error);
    if (tree->root != NULL)
        return true;
    if (json_error_code(&error) == json_error_stack_overflow)
        return err_set(err, ERR_REFUSED, "an expression is nested too deeply");
    if (json_error_code(&error) == json_error_invalid_utf8)
        return err_set(err, ERR_REFUSED, "the text is not valid UTF-8");
    return err_set(err, ERR_FAILED, "could not read the parse tree: %s", error.text);
}

static bool
parse(DdlTree *tree, Err *err)
{
    PgQueryParseResult result = pg_query_parse(tree->text);
    bool ok = false;

    if (result.error != NULL)
        (void)fail_parse(tree->text, result.error, err);
    else
        ok = load_json(result.parse_tree, tree, err);
    pg_query_free_parse_result(result);
    return ok;
}

bool
ddl_tree_parse(const char *text, Arena *arena, DdlTree *out, Err *err)
{
    DdlTree tree = {.text = text};

    if (strlen(text) > INT_MAX / 8)
        return err_set(err, ERR_REFUSED, "the text is too long");
    /* tokens first: their number bounds the depth of the tree */
    if (!scan(arena, &tree, err) || !parse(&tree, err))
        return false;
    *out = tree;
    return true;
}

void
ddl_tree_done(DdlTree *tree)
{
    json_decref(tree->root);
    *tree = (DdlTree){0};
}

const char *
ddl_tree_text(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

bool
ddl_tree_is(json_t *object, const char *key, const char *text)
{
    const char *value = ddl_tree_text(object, key);

    return value != NULL && strcmp(value, text) == 0;
}

int
ddl_tree_int(json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value < INT_MIN || value > INT_MAX ? 0 : (int)value;
}

bool
ddl_tree_flag(json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

const char *
ddl_tree_kind(json_t *node, json_t **body)
{
    void *only = json_object_size(node) == 1 ? json_object_iter(node) : NULL;

    if (only == NULL || !json_is_object(json_object_iter_value(only)))
        return NULL;
    *body = json_object_iter_value(only);
    return json_object_iter_key(only);
}

json_t *
ddl_tree_body(json_t *node, const char *kind)
{
    json_t *body = NULL;
    const char *is = ddl_tree_kind(node, &body);

    return is != NULL && strcmp(is, kind) == 0 ? body : NULL;
}

const char *
ddl_tree_string(json_t *list, size_t index)
{
    return ddl_tree_text(ddl_tree_body(json_array_get(list, index), "String"), "sval");
}

static bool
walk_array(json_t *array, DdlVisit *visit, void *context, Err *err)
{
    size_t index;
    json_t *item;

    json_array_foreach(array, index, item)
    {
        if (!ddl_tree_walk(item, visit, context, err))
            return false;
    }
    return true;
}

static bool
walk_field(const char *key, json_t *value, DdlVisit *visit, void *context, Err *err)
{
    DdlWalk way = json_is_object(value) ? visit(key, value, context, err) : WALK_INTO;

    return way == WALK_OVER || (way == WALK_INTO && ddl_tree_walk(value, visit, context, err));
}

bool
ddl_tree_walk(json_t *node, DdlVisit *visit, void *context, Err *err)
{
    const char *key;
    json_t *value;

    if (json_is_array(node))
        return walk_array(node, visit, context, err);
    if (!json_is_object(node))
        return true;
    json_object_foreach(node, key, value)
    {
        if (!walk_field(key, value, visit, context, err))
            return false;
    }
    return true;
}
