/*
 * Phase "finish": after the swap.  Validate what the swap made NOT VALID, remove the machinery, and
 * drop the old table if that was asked for.
 */
#include <string.h>

#include "base/clock.h"
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

/* A foreign key that does not validate stays NOT VALID: say so, the swap itself is done. */
static bool
validate(Migration *run, Err *err)
{
    const SqlList *list = &run->definition.finish;

    for (int i = 0; i < list->count; i++) {
        int64_t started_us = clock_now_us();

        if (run->settings->skip_foreign_key_validation) {
            log_warning("not validated, as asked; later run: %s", list->items[i]);
            continue;
        }
        if (run_patiently(run, list->items[i], err)) {
            log_info("validated a foreign key in %.1f s: %s",
                     (double)(clock_now_us() - started_us) / 1e6, list->items[i]);
            continue;
        }
        if (err->kind == ERR_LOST)
            return false;
        log_warning("the new table is in place, but a foreign key is not validated: %s; run: %s",
                    err->message, list->items[i]);
        if (err->kind == ERR_STOPPED)
            return false;
        err_clear(err);
    }
    return true;
}

/* A materialized view that is not refreshed stays empty, and who reads it gets an error: say so. */
static bool
refresh_matviews(Migration *run, Err *err)
{
    const SqlList *list = &run->definition.refreshes;

    for (int i = 0; i < list->count; i++) {
        AUTO(Text) *refresh = matviews_refresh_sql(run, run->control, list->items[i]);
        int64_t started_us = clock_now_us();

        if (run_patiently(run, refresh, err)) {
            log_info("populated a materialized view in %.1f s: %s",
                     (double)(clock_now_us() - started_us) / 1e6, list->items[i]);
            continue;
        }
        if (err->kind == ERR_LOST)
            return false;
        log_warning("the new table is in place, but a materialized view is empty: %s; run: %s",
                    err->message, list->items[i]);
        if (err->kind == ERR_STOPPED)
            return false;
        err_clear(err);
    }
    return true;
}

static bool
drop_old_table(Migration *run, Err *err)
{
    AUTO(Text) *sql = sql_build("drop table if exists %I.%I; drop schema if exists %I",
                                run->names.schema, run->original.name, run->names.schema);

    if (!run->settings->drop) {
        log_info("the old table is kept as %s.\"%s\"; drop it when you no longer need it",
                 run->names.schema, run->original.name);
        return true;
    }
    if (run_patiently(run, sql, err)) {
        log_info("the old table is dropped");
        return true;
    }
    log_warning("could not drop the old table: %s; run: %s", err->message, sql);
    if (err->kind == ERR_LOST || err->kind == ERR_STOPPED)
        return false;
    err_clear(err);
    return true;
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
    ok = remove_machinery(run, err);
    loop_unshield(run->loop);
    return ok && refresh_matviews(run, err) && drop_old_table(run, err) && validate(run, err);
}

bool
finish_enter(Migration *run, Err *err)
{
    for (int tries = 1; !finish(run, err); tries++) {
        Err lost = *err;

        if (lost.kind != ERR_LOST || tries == RECONNECT_TRIES)
            return err_wrap(err, "the new table is in place, but not all is finished");
        log_warning("%s; trying to finish in a new session", lost.message);
        err_clear(err);
        if (!migration_reconnect(run, err))
            return err_wrap(err, "the new table is in place, but not all is finished");
    }
    return true;
}
