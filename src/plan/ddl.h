/*
 * What only the text of a statement knows, read with libpg_query (the server's own grammar).
 *
 * Pure: text in, structure out; no connection.  It decides nothing about columns and types - the
 * catalog of the shadow does, after the server has run the statement.  Locations come from the
 * parse tree, so text is edited by replacing whole names and never by searching for words.
 */
#ifndef WALTER_DDL_H
#define WALTER_DDL_H

#include <stdbool.h>

#include "arena.h"
#include "err.h"

typedef enum {
    ACTION_OTHER = 0,
    ACTION_ADD_COLUMN,
    ACTION_DROP_COLUMN,
    ACTION_ALTER_TYPE,
    ACTION_RENAME_COLUMN,
    ACTION_CHANGE_OWNER,
    ACTION_RESTART_IDENTITY, /* ALTER COLUMN ... RESTART [WITH n], also inside SET/ADD GENERATED */
    ACTION_SET_UNLOGGED
} ActionKind;

/* One sub-command that the projection or the swap must know of.  All texts live in the arena. */
typedef struct DdlAction {
    ActionKind kind;
    const char *column;   /* unquoted name of the column as the statement calls it, or NULL */
    const char *new_name; /* RENAME_COLUMN: unquoted new name */
    /* ADD_COLUMN: text of the DEFAULT expression; ALTER_TYPE: text of the USING expression; or NULL.
     * A column reference that is qualified by schema and table has lost its schema. */
    const char *expression;
    /* unquoted names of columns used in `expression`, each once.  A name that is no column of the
     * table may be a function in attribute notation (t.f) and then uses the whole row. */
    const char *const *references;
    int reference_count;
    /* `expression` uses the whole row (t.*, t, f(t)).  Also set, with the name among the references,
     * for a bare name that is the table's: it means the row unless there is such a column. */
    bool references_row;
    bool is_serial;    /* ADD_COLUMN of type serial, smallserial, bigserial (and serial2/4/8) */
    bool is_identity;  /* ADD_COLUMN ... GENERATED ... AS IDENTITY */
    bool is_generated; /* ADD_COLUMN ... GENERATED ALWAYS AS (...) STORED */
    /* Never looks at a row, unless it rewrites the table (ADD_COLUMN with a volatile DEFAULT).  Also
     * false where rows are left as they are but walter writes them anew (SET STORAGE). */
    bool is_catalog_only;
} DdlAction;

/* A table that a foreign key of the statement references, the altered table itself included. */
typedef struct DdlReference {
    const char *schema; /* unquoted, NULL when not qualified */
    const char *name;   /* unquoted */
} DdlReference;

/* What an edit replaces, when it is no reference. */
enum {
    EDIT_TABLE = -1, /* the name of the altered table */
    EDIT_DROP = -2   /* the schema of a column reference (CHECK (s.t.c > 0)): left out */
};

typedef struct DdlEdit {
    int start;     /* byte offset in the statement's text */
    int len;       /* bytes to replace */
    int reference; /* index into references, or one of EDIT_... */
} DdlEdit;

typedef struct DdlStatement {
    const char *text;     /* as written, without the semicolon, outer blanks and outer comments */
    const DdlEdit *edits; /* ascending by start */
    int edit_count;
    const DdlAction *actions;
    int action_count;
    const DdlReference *references;
    int reference_count;
} DdlStatement;

/* All statements of one run; every one of them alters the same table. */
typedef struct Ddl {
    const char *schema; /* unquoted, NULL when no statement qualifies the table */
    const char *table;  /* unquoted */
    const DdlStatement *statements;
    int statement_count;
} Ddl;

/*
 * Parse and check the operator's statements.
 *
 * `text`: one or several statements separated by semicolons.  *out and all it points to live in
 * `arena` and are written only on success.
 * Fails with ERR_USAGE: no statement at all.  Fails with ERR_REFUSED: syntax error (PostgreSQL's
 * message, and the position in the hint); and, with a hint that says what to do instead: a statement
 * other than ALTER TABLE; statements that name different tables (unqualified and qualified names of
 * the same table agree); RENAME TO; SET SCHEMA; [NO] INHERIT; ATTACH/DETACH PARTITION; OF/NOT OF;
 * ALTER TABLE ALL IN TABLESPACE; SET UNLOGGED is not refused here but reported as an action.
 * A table called db.schema.table is refused, the altered one or a referenced one.  Of several
 * statements the message says which one it is about.
 */
NODISCARD bool ddl_parse(const char *text, Arena *arena, Ddl *out, Err *err);

/*
 * The statement with its names replaced, in `arena`.
 *
 * `table`: SQL text to put in place of the altered table ("walter_x.t", already quoted).
 * `references`: per reference the text to put in its place, or NULL to leave it as written.
 */
const char *ddl_rewrite(const DdlStatement *statement, const char *table,
                        const char *const *references, Arena *arena);

/*
 * Replace a table's name wherever a statement written by the server (pg_get_triggerdef, ...) names
 * it as a relation.  `schema`, `name`: unquoted, as the statement must qualify it.  `replacement`:
 * SQL text.  Returns the new text in `arena`, or NULL with ERR_FAILED when the text does not parse
 * or names the table nowhere.
 */
const char *ddl_retarget(const char *text, const char *schema, const char *name,
                         const char *replacement, Arena *arena, Err *err);

typedef enum { DDL_MOVE_RELATION = 0, DDL_MOVE_FUNCTION } DdlMoveKind;

/* A relation (with its row type) or function of that name is to be found in another schema. */
typedef struct DdlMove {
    DdlMoveKind kind;
    const char *name;       /* unquoted */
    const char *schema;     /* unquoted: where the text finds it */
    const char *new_schema; /* unquoted: where it is to be found */
} DdlMove;

/*
 * Replace the schemas of objects wherever a definition written by the server (pg_get_viewdef,
 * pg_get_functiondef, ...) names them, qualified, as relation, type or function.  Names themselves
 * stay, so that columns qualified by them and aliases mean what they meant.  Text within quotes
 * ('s.t'::regclass, the body of a function) is not looked at.
 * Returns the new text in `arena`, or NULL: ERR_REFUSED when the text does not parse.
 */
const char *ddl_requalify(const char *text, const DdlMove *moves, int move_count, Arena *arena,
                          Err *err);

/* A `--copy-statement`: INSERT INTO %{shadow_table} (columns) SELECT ... FROM [ONLY] table ... */
typedef struct CopyStatement {
    const char *const *columns; /* unquoted names of the INSERT's column list */
    /* per column: the original's column that it takes as it is, but for a cast; unquoted, or NULL */
    const char *const *sources;
    int column_count;
    const char *head;   /* SELECT list: "SELECT a.x, b.y" */
    const char *alias;  /* SQL text by which the select refers to the original: its alias or name */
    const char *before; /* " FROM " and what stands before the original's name */
    const char *after;  /* what follows the original's name and alias: joins, WHERE, ... */
    /* the select uses the whole row of the original (f(a.*), f(a)), so that its source must have
     * exactly the original's columns; also set when a bare name is the alias */
    bool references_row;
} CopyStatement;

/*
 * Parse a copy statement.  `text`: with or without %{shadow_table} already replaced; the
 * placeholder is allowed quoted or not.  `schema`, `table`: the original, unquoted; a reference to
 * it may be qualified or not, with ONLY or without, aliased or not.
 * Fails with ERR_REFUSED on a syntax error, and with a hint when it is not one INSERT of a
 * plain SELECT with a column list, when the original is not in the top-level FROM exactly once, or
 * with DISTINCT, GROUP BY, HAVING, LIMIT, OFFSET, set operations, WITH, window or aggregate-like
 * clauses that libpg_query shows (ON CONFLICT and RETURNING are refused too): every row of the
 * original must give at most one row.  For the same reason the original must not be on the side of
 * an outer join that may be empty.  Refused also: * in the select list, system columns, a SELECT in
 * parentheses, OVERRIDING USER VALUE, and %{shadow_table} at any second place.
 */
NODISCARD bool ddl_parse_copy(const char *text, const char *schema, const char *table, Arena *arena,
                              CopyStatement *out, Err *err);

/*
 * The copy statement's SELECT over another source: `source` is SQL text for a FROM item without
 * alias ("(select ...)"); `passthrough` is a quoted column of it that is added at the end of the
 * select list, or NULL.  In `arena`.
 */
const char *ddl_copy_select(const CopyStatement *copy, const char *source, const char *passthrough,
                            Arena *arena);

#endif
