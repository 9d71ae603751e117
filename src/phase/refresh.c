/*
 * The original's definition was changed by somebody while the run was on.
 *
 * Rows depend on columns, types, defaults and checks: where one of these changed, rows copied before
 * may be wrong, and the run ends.  Everything else - indexes, comments, triggers, foreign keys, ... -
 * is only built or said later, and so it can be read once more.  For that the shadow is made again,
 * in a transaction that is rolled back: with the live one's schema out of the way under another
 * name, which nobody else ever sees.
 */
#include "phase/refresh.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pg/sql.h"
#include "phase/keycheck.h"
#include "phase/resume.h"
#include "phase/tree.h"

/* The definition was changed, and that is the end.  `what`: which part of it. */
static bool
give_up(const Migration *run, const char *what, Err *err)
{
    err_set(err, ERR_FAILED,
            "the definition of %s was changed by somebody else while the run was on: %s",
            run->original.qualified, what);
    return err_hint(err, "Nothing was swapped.  Start again; the new run begins from the new "
                         "definition.");
}

/* An error of the second rehearsal says what is wrong with the new definition. */
static bool
explain(const Migration *run, Err *err)
{
    Err why = *err;

    if (err->kind == ERR_RETRY || err->kind == ERR_LOST || err->kind == ERR_STOPPED)
        return false;
    err_clear(err);
    return give_up(run, why.message, err);
}

bool
refresh_step_aside(const Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *old = mem_format("%s_live", run->names.schema);
    AUTO(Text) *shadow = mem_format("%s_live", run->names.shadow_schema);
    AUTO(Text) *sql = sql_build("begin; set local lock_timeout to '1s';"
                                "alter schema %I rename to %I; alter schema %I rename to %I",
                                run->names.schema, old, run->names.shadow_schema, shadow);

    return query_exec(conn, sql, err);
}

/* Leaves in *fresh what the run would be if it had begun now. */
static bool
rehearse(Migration *run, Migration *fresh, Err *err)
{
    AUTO(Conn) *conn = migration_connect(run, CONN_EXPRESSIONS, "refresh", err);
    bool ok;

    *fresh = *run;
    fresh->definition = (Definition){0};
    fresh->dependents = (Dependents){0};
    fresh->original_digest = fresh->original_body = fresh->shadow_body = NULL;
    fresh->original_column_rows = fresh->original_files = NULL;
    if (conn == NULL)
        return false;
    ok = preflight_read_table(fresh, err) && refresh_step_aside(run, conn, err) &&
         shadow_build(fresh, conn, err);
    query_rollback(conn);
    return ok || explain(run, err);
}

static void
discard(Migration *fresh)
{
    free(fresh->original_digest);
    free(fresh->original_body);
    free(fresh->shadow_body);
    free(fresh->original_column_rows);
    free(fresh->original_files);
}

/* ---- what has changed ---- */

static bool
contains(const SqlList *list, const char *item)
{
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->items[i], item) == 0)
            return true;
    return false;
}

/* True when `list` has all items of `part`. */
static bool
contains_all(const SqlList *list, const SqlList *part)
{
    for (int i = 0; i < part->count; i++)
        if (!contains(list, part->items[i]))
            return false;
    return true;
}

static bool
is_same(const SqlList *one, const SqlList *other)
{
    return one->count == other->count && contains_all(one, other);
}

/* The index behind it may be another one: REINDEX CONCURRENTLY makes a new one. */
static bool
is_same_key(const TableShape *one, const TableShape *other)
{
    if (one->key_count != other->key_count)
        return false;
    for (int i = 0; i < one->key_count; i++)
        if (one->key[i] != other->key[i])
            return false;
    return true;
}

/* Are the rows, as they were copied, still right? */
static bool
check_rows(const Migration *run, const Migration *fresh, Err *err)
{
    if (strcmp(run->original.qualified, fresh->original.qualified) != 0)
        return give_up(run, "it has another name", err);
    if (strcmp(run->original_body, fresh->original_body) != 0 ||
        strcmp(run->shadow_body, fresh->shadow_body) != 0 ||
        strcmp(run->projection.head, fresh->projection.head) != 0 ||
        strcmp(run->projection.tail, fresh->projection.tail) != 0 ||
        run->original.replica_identity != fresh->original.replica_identity ||
        !is_same_key(&run->original, &fresh->original))
        return give_up(run, "its columns, checks, key or options are not what they were", err);
    if (run->indexes == INDEXES_BUILT &&
        (!contains_all(&fresh->definition.indexes, &run->definition.indexes) ||
         !contains_all(&fresh->definition.constraints, &run->definition.constraints)))
        return give_up(run, "an index is gone, or is not what it was", err);
    if (run->matviews_built && !is_same(&run->definition.matviews, &fresh->definition.matviews))
        return give_up(run, "a materialized view is new, gone, or not what it was", err);
    return true;
}

/* ---- taking it over ---- */

/* Run the items of `list` that `known` does not have.  `names`: note them as built; NULL = do not. */
static bool
run_new(Conn *conn, const SqlList *list, const SqlList *known, const RunNames *names, Err *err)
{
    for (int i = 0; i < list->count; i++) {
        AUTO(Text) *sql =
            names == NULL ? mem_copy_text(list->items[i]) : state_built_sql(names, list->items[i]);

        if (known != NULL && contains(known, list->items[i]))
            continue;
        if (!query_exec(conn, sql, err))
            return false;
        log_info("carried over: %s", list->items[i]);
    }
    return true;
}

/* Indexes that were built must be joined by those that are new. */
static bool
build_new(Migration *run, const Definition *fresh, Conn *conn, Err *err)
{
    const Definition *known = &run->definition;
    AUTO(Text) *unmark = sql_build("alter table %S set without cluster, replica identity default",
                                   run->shadow_qualified);

    if (run->indexes != INDEXES_BUILT)
        return true;
    if (!run_new(conn, &fresh->indexes, &known->indexes, &run->names, err) ||
        !run_new(conn, &fresh->constraints, &known->constraints, &run->names, err))
        return false;
    return is_same(&fresh->marks, &known->marks) ||
           (query_exec(conn, unmark, err) && run_new(conn, &fresh->marks, NULL, NULL, err));
}

/* One transaction: after ERR_RETRY nothing of it is done, and the next try begins anew. */
static bool
bring_shadow_up(Migration *run, const Definition *fresh, Err *err)
{
    AUTO(Conn) *conn = migration_connect_owner(run, CONN_SQL, "refresh", err);
    bool ok = conn != NULL && migration_limit_lock_waits(conn, err) &&
              query_exec(conn, "begin", err) &&
              run_new(conn, &fresh->surface, &run->definition.surface, NULL, err) &&
              build_new(run, fresh, conn, err) && query_exec(conn, "commit", err);

    if (conn != NULL && !ok)
        query_rollback(conn);
    return ok;
}

/* New foreign keys must fit the rows, too, if the others were looked at already. */
static bool
check_new_keys(Migration *run, const Definition *fresh, Err *err)
{
    SqlList before = run->definition.key_checks;
    Partition partition = run->definition.partition;

    if (!run->keys_checked || (contains_all(&before, &fresh->key_checks) &&
                               contains_all(&partition.key_checks, &fresh->partition.key_checks)))
        return true;
    run->definition.key_checks = fresh->key_checks;
    run->definition.partition = fresh->partition;
    if (keycheck_run(run, err))
        return true;
    run->definition.key_checks = before;
    run->definition.partition = partition;
    return false;
}

static void
swap_texts(char **one, char **other)
{
    char *kept = *one;

    *one = *other;
    *other = kept;
}

static void
adopt(Migration *run, Migration *fresh)
{
    /* oids of sequences on the live shadow, not on the one that was rolled back */
    fresh->definition.identity_sequences = run->definition.identity_sequences;
    run->definition = fresh->definition;
    run->dependents = fresh->dependents;
    swap_texts(&run->original_digest, &fresh->original_digest);
    if (strcmp(fresh->original_files, run->original_files) == 0)
        swap_texts(&run->original_column_rows, &fresh->original_column_rows);
    run->definition_renewed = true;
    log_info("the definition of %s was changed by somebody else; what is new is carried over",
             run->original.qualified);
}

static bool
take_over(Migration *run, Migration *fresh, Err *err)
{
    if (!check_rows(run, fresh, err))
        return false;
    if (run->indexes == INDEXES_BUILDING) {
        mem_set_text(&run->deferred_digest, fresh->original_digest);
        return true;
    }
    if (!bring_shadow_up(run, &fresh->definition, err))
        return err->kind == ERR_DATA ? false : explain(run, err);
    if (!check_new_keys(run, &fresh->definition, err))
        return false;
    adopt(run, fresh);
    return resume_note_definition(run, err);
}

/* While indexes are built a change that is known to be harmless waits. */
static bool
is_deferred(Migration *run, bool *deferred, Err *err)
{
    AUTO(Text) *digest = NULL;

    *deferred = false;
    if (run->indexes != INDEXES_BUILDING || run->deferred_digest == NULL)
        return true;
    if (!catalog_read_digest(run->control, run->original.oid, &digest, err))
        return false;
    *deferred = strcmp(digest, run->deferred_digest) == 0;
    return true;
}

bool
refresh_definition(Migration *run, Err *err)
{
    Migration fresh;
    bool deferred;
    bool ok;

    if (run->branch_count > 0)
        return tree_explain_change(run, err);
    if (!is_deferred(run, &deferred, err) || deferred)
        return err->kind == ERR_NONE;
    ok = rehearse(run, &fresh, err) && take_over(run, &fresh, err);
    discard(&fresh);
    return ok;
}
