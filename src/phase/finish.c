/*
 * Phase "finish": after the swap.  Validate what the swap made NOT VALID, remove the machinery, and
 * drop the old table if that was asked for.
 */
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/matviews.h"
#include "phase/migration.h"

enum { LOCK_TRIES = 60, RECONNECT_TRIES = 3 };

/*
 * Run DDL under a lock_timeout, again and again, bounded.  Used for what may wait for the
 * application, never the other way round.
 */
static bool
run_patiently(Migration *run, const char *sql, Err *err)
{
    AUTO(Text) *guarded = sql_build("begin; set local lock_timeout to '1s'; %S; commit", sql);

    for (int tries = 1;; tries++) {
        if (query_exec(run->control, guarded, err))
            return true;
        query_rollback(run->control);
        if (err->kind != ERR_RETRY || tries == LOCK_TRIES)
            return false;
        err_clear(err);
        if (!loop_pause(run->loop, 500000, err))
            return false;
    }
}

/* Something that is to be done after the swap, on its own. */
typedef struct Task {
    const char *sql;    /* as the state row has it */
    const char *shown;  /* as the operator would write it */
    const char *done;   /* what to say when it is done */
    const char *failed; /* and when it is not */
} Task;

static bool
note_done(Migration *run, const char *sql, Err *err)
{
    return !run->keeps_unfinished || state_note_done(run->control, &run->names, sql, err);
}

/* What fails is named and left to the operator; the swap itself is done. */
static bool
do_task(Migration *run, const Task *task, Err *err)
{
    int64_t started_us = clock_now_us();

    FAULT_POINT("finish.task_begun");
    if (run_patiently(run, task->sql, err)) {
        FAULT_POINT("finish.task_done");
        log_info("%s in %.1f s: %s", task->done, (double)(clock_now_us() - started_us) / 1e6,
                 task->shown);
        return note_done(run, task->sql, err);
    }
    if (err->kind == ERR_LOST)
        return false;
    log_warning("the new table is in place, but %s: %s; run: %s%s", task->failed, err->message,
                task->shown, run->keeps_unfinished ? "; or walter cleanup" : "");
    if (err->kind == ERR_STOPPED)
        return false;
    err_clear(err);
    return true;
}

/* A foreign key that does not validate stays NOT VALID. */
static bool
validate(Migration *run, Err *err)
{
    const SqlList *list = &run->definition.finish;

    for (int i = 0; i < list->count; i++) {
        const Task task = {list->items[i], list->items[i], "validated a foreign key",
                           "a foreign key is not validated"};

        if (run->settings->skip_foreign_key_validation)
            log_warning("not validated, as asked; later run: %s", list->items[i]);
        else if (!do_task(run, &task, err))
            return false;
    }
    return true;
}

/* A materialized view that is not refreshed stays empty, and who reads it gets an error. */
static bool
refresh_matviews(Migration *run, Err *err)
{
    const SqlList *list = &run->definition.refreshes;

    for (int i = 0; i < list->count; i++) {
        AUTO(Text) *refresh = matviews_refresh_sql(run, run->control, list->items[i]);
        const Task task = {refresh, list->items[i], "populated a materialized view",
                           "a materialized view is empty"};

        if (!do_task(run, &task, err))
            return false;
    }
    return true;
}

static char *
drop_sql(const Migration *run)
{
    return sql_build("drop table if exists %I.%I; drop schema if exists %I", run->names.schema,
                     run->original.name, run->names.schema);
}

static bool
drop_old_table(Migration *run, Err *err)
{
    AUTO(Text) *sql = drop_sql(run);

    if (!run->settings->drop) {
        AUTO(Text) *kept = sql_build("%I.%I", run->names.schema, run->original.name);

        log_info("the old table is kept as %s; drop it when you no longer need it", kept);
        return true;
    }
    if (run_patiently(run, sql, err)) {
        log_info("the old table is dropped");
        return note_done(run, sql, err);
    }
    log_warning("the new table is in place, but the old one could not be dropped: %s; run: %s%s",
                err->message, sql, run->keeps_unfinished ? "; or walter cleanup" : "");
    if (err->kind == ERR_LOST || err->kind == ERR_STOPPED)
        return false;
    err_clear(err);
    return true;
}

void
finish_list(Migration *run, SqlList *list)
{
    for (int i = 0; i < run->definition.refreshes.count; i++) {
        AUTO(Text) *refresh =
            matviews_refresh_sql(run, run->control, run->definition.refreshes.items[i]);

        sql_list_add(run, list, refresh);
    }
    if (run->settings->drop) {
        AUTO(Text) *drop = drop_sql(run);

        sql_list_add(run, list, drop);
    }
    if (!run->settings->skip_foreign_key_validation)
        for (int i = 0; i < run->definition.finish.count; i++)
            sql_list_add(run, list, run->definition.finish.items[i]);
}

static bool
remove_machinery(Migration *run, Err *err)
{
    migration_close_sessions(run);
    return cleanup_remove(run->loop, &run->target, &run->names, conn_pid(run->control), err);
}

/* Every step may be done again: the connection may have been lost behind it. */
static bool
finish(Migration *run, Err *err)
{
    bool ok;

    /* first what costs the server something, then what may take long */
    loop_shield(run->loop);
    /* after that tables are read */
    ok = remove_machinery(run, err) && catalog_plan_freely(run->control, err);
    loop_unshield(run->loop);
    FAULT_POINT("finish.machinery_removed");
    return ok && refresh_matviews(run, err) && drop_old_table(run, err) && validate(run, err);
}

/* The swap is done, so what went wrong is wrong with the rest. */
static bool
leave_the_rest(Migration *run, Err *err)
{
    err_wrap(err, "the new table is in place, but not all is finished");
    if (run->keeps_unfinished)
        err_hint(err, "walter cleanup shows what is left, and finishes it.");
    return false;
}

bool
finish_enter(Migration *run, Err *err)
{
    for (int tries = 1; !finish(run, err); tries++) {
        Err lost = *err;

        if (lost.kind != ERR_LOST || tries == RECONNECT_TRIES)
            return leave_the_rest(run, err);
        log_warning("%s; trying to finish in a new session", lost.message);
        err_clear(err);
        if (!migration_reconnect(run, err))
            return leave_the_rest(run, err);
    }
    return true;
}
