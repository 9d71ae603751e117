/*
 * Expressions of a statement: their text, and the columns they name.
 *
 * Knows nothing of types and does not look a name up: whether a name is a column the catalog says.
 */
#ifndef WALTER_DDL_EXPR_H
#define WALTER_DDL_EXPR_H

#include <stdbool.h>

#include "arena.h"
#include "ddl.h"
#include "ddl_edit.h"
#include "ddl_tree.h"
#include "err.h"

/* Where a column reference is resolved: one table of one tree.  All borrowed. */
typedef struct DdlScope {
    const DdlTree *tree;
    Arena *arena;
    const char *schema; /* unquoted; NULL = any schema */
    const char *table;  /* unquoted */
} DdlScope;

/* No column of a table can be called so, and a row that is not read from a table has none of them. */
bool ddl_expr_is_system_column(const char *name);

/*
 * For every column reference below `node` that qualifies the scope's table by its schema (s.t.c),
 * add a patch that drops that: t.c.  Fails with ERR_FAILED when tree and tokens do not agree.
 */
NODISCARD bool ddl_expr_unqualify(const DdlScope *scope, json_t *node, DdlPatches *patches,
                                  Err *err);

/*
 * Fill `references`, `reference_count` and `references_row` of *action from the expression `node`.
 * Fails with ERR_FAILED on a column reference without a name.
 */
NODISCARD bool ddl_expr_references(const DdlScope *scope, json_t *node, DdlAction *action,
                                   Err *err);

/*
 * Set action->expression to the DEFAULT of an added column or to the USING of a change of type, if
 * there is one.  `column`: the ColumnDef.  `patches`: from ddl_expr_unqualify.
 * Fails with ERR_FAILED when tree and tokens do not agree, with ERR_REFUSED when a USING names a
 * system column.
 */
NODISCARD bool ddl_expr_default(const DdlScope *scope, json_t *column, DdlPatches *patches,
                                DdlAction *action, Err *err);
NODISCARD bool ddl_expr_using(const DdlScope *scope, json_t *column, DdlPatches *patches,
                              DdlAction *action, Err *err);

#endif
