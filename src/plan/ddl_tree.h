/*
 * The parse tree and the tokens of a text, as libpg_query gives them; helpers to read the tree.
 *
 * The only module that calls libpg_query.  The tree is its JSON: a node is an object with one key,
 * its kind; a field that is zero, false or empty is left out.  Locations are byte offsets into the
 * text.  This module knows no statement.
 */
#ifndef WALTER_DDL_TREE_H
#define WALTER_DDL_TREE_H

#include <jansson.h>
#include <stdbool.h>

#include "arena.h"
#include "err.h"

typedef struct DdlToken {
    int start; /* byte offset of the first byte */
    int end;   /* byte offset behind the last byte; no blank stands before it */
} DdlToken;

typedef struct DdlTree {
    const char *text;       /* borrowed */
    json_t *root;           /* owned: {"version": ..., "stmts": [...]} */
    const DdlToken *tokens; /* in the arena; comments are left out */
    int token_count;
} DdlTree;

/*
 * Parse `text`.  *out borrows `text` and `arena`; release it with ddl_tree_done.
 * Fails with ERR_REFUSED on a syntax error (PostgreSQL's message, the position as hint), on a text
 * that is not UTF-8 and on one too long or nested too deeply to be parsed safely.
 */
NODISCARD bool ddl_tree_parse(const char *text, Arena *arena, DdlTree *out, Err *err);

/* Release what the tree owns.  A zeroed one is allowed. */
void ddl_tree_done(DdlTree *tree);

/* Declare an empty tree that is released at the closing brace: DDL_TREE_AUTO(name); */
#define DDL_TREE_AUTO(name) __attribute__((cleanup(ddl_tree_done))) DdlTree name = {0}

/* Field `key` of `object` as text, borrowed from the tree; NULL when it is left out. */
const char *ddl_tree_text(json_t *object, const char *key);

/* Field `key` of `object` as text is `text`. */
bool ddl_tree_is(json_t *object, const char *key, const char *text);

/* Field `key` of `object` as number; 0 when it is left out. */
int ddl_tree_int(json_t *object, const char *key);

/* Field `key` of `object` is there and true. */
bool ddl_tree_flag(json_t *object, const char *key);

/* The kind of a node ("ColumnRef"), with its fields in *body; NULL when `node` is none. */
const char *ddl_tree_kind(json_t *node, json_t **body);

/* The fields of `node` when it is of `kind`, else NULL. */
json_t *ddl_tree_body(json_t *node, const char *kind);

/* Text of the String node number `index` of `list`; NULL when that is something else. */
const char *ddl_tree_string(json_t *list, size_t index);

typedef enum {
    WALK_INTO = 0, /* go on with what is inside */
    WALK_OVER,     /* go on behind it */
    WALK_STOP      /* *err is filled */
} DdlWalk;

/* Called for the object `body` that stands under `key`: a node's kind, or the name of a field. */
typedef DdlWalk DdlVisit(const char *key, json_t *body, void *context, Err *err);

/* Visit every object below `node`.  False when `visit` stopped the walk. */
NODISCARD bool ddl_tree_walk(json_t *node, DdlVisit *visit, void *context, Err *err);

/*
 * Room for one more item behind the `count` items of an array in `arena` that is only ever grown
 * by this function, starting from NULL.  Returns the array, moved when it was full.
 */
void *ddl_tree_grow(Arena *arena, void *items, int count, size_t item_bytes);

#endif
