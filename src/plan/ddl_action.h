/*
 * One sub-command of an ALTER TABLE: refused, or read into a DdlAction.
 *
 * Knows the kinds of sub-commands, not the statement around them.
 */
#ifndef WALTER_DDL_ACTION_H
#define WALTER_DDL_ACTION_H

#include <stdbool.h>

#include "ddl.h"
#include "ddl_edit.h"
#include "ddl_expr.h"
#include "ddl_tree.h"
#include "err.h"

/*
 * Read an AlterTableCmd into *action, which must be zeroed.
 *
 * `patches`: from ddl_expr_unqualify on the whole statement.  Fails with ERR_REFUSED and a hint for
 * a sub-command that cannot be run here, with ERR_FAILED when tree and tokens do not agree; *action
 * may then be filled in part.
 */
NODISCARD bool ddl_action_read(const DdlScope *scope, json_t *command, DdlPatches *patches,
                               DdlAction *action, Err *err);

/* Refuse a form of ALTER TABLE that takes a moment anyway; always returns false. */
bool ddl_action_refuse(const char *form, Err *err);

#endif
