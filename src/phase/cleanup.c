/*
 * Cleaning up: removes exactly what a run recorded, in an order that never hurts the application -
 * slot before publication, and no CASCADE anywhere.  Also the `cleanup` command.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/migration.h"

static const int64_t PATIENCE_US = 20 * INT64_C(1000000);

/* Sessions of the run that are still there: a worker of a killed process, an unread walsender. */
static bool
end_sessions(Conn *conn, const RunNames *names, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.count(pg_catalog.pg_terminate_backend(pid))"
        "  from pg_catalog.pg_stat_activity"
        " where (application_name like 'walter: ' || $1 || ' %'"
        "        or pid = (select active_pid from pg_catalog.pg_replication_slots"
        "                   where slot_name = $2))"
        "   and pid <> pg_catalog.pg_backend_pid()";
    int64_t until_us = clock_now_us() + PATIENCE_US;

    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!query_one(conn, SQL, (const char *const[]){names->run, names->slot, NULL}, &rows, err))
            return err_wrap(err, "ending the run's sessions");
        if (rows_int(rows, 0, 0) == 0)
            return true;
        if (clock_now_us() > until_us)
            return err_set(err, ERR_FAILED, "sessions of the run do not end");
        if (!loop_pause(conn_loop(conn), 20000, err))
            return false;
    }
}

static bool
drop_slot(Conn *conn, const RunNames *names, Err *err)
{
    static const char SQL[] = "select pg_catalog.pg_drop_replication_slot(slot_name)"
                              "  from pg_catalog.pg_replication_slots"
                              " where slot_name = $1 and database = pg_catalog.current_database()";
    int64_t until_us = clock_now_us() + PATIENCE_US;

    for (;;) {
        if (query_run(conn, SQL, (const char *const[]){names->slot, NULL}, NULL, err))
            return true;
        /* 55006: the walsender that we have just ended is still leaving */
        if (strcmp(err->sqlstate, "55006") != 0 || clock_now_us() > until_us)
            return err_wrap(err, "dropping the replication slot \"%s\"", names->slot);
        err_clear(err);
        if (!loop_pause(conn_loop(conn), 50000, err))
            return false;
    }
}

/* DDL that may meet a lock for a moment. */
static bool
run_ddl(Conn *conn, const char *sql, Err *err)
{
    AUTO(Text) *guarded = sql_build("begin; set local lock_timeout to '2s'; %S; commit", sql);
    int64_t until_us = clock_now_us() + PATIENCE_US;

    for (;;) {
        if (query_exec(conn, guarded, err))
            return true;
        query_rollback(conn);
        if (err->kind != ERR_RETRY || clock_now_us() > until_us)
            return false;
        err_clear(err);
        if (!loop_pause(conn_loop(conn), 100000, err))
            return false;
    }
}

/* Drop the shadow - the table with the recorded oid, wherever it is called what - unless it has
 * become the table itself. */
static bool
drop_shadow(Conn *conn, const RunNames *names, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('%I.%I', n.nspname, c.relname)"
        "  from walter.run r join pg_catalog.pg_class c on c.oid = r.shadow_oid"
        "  join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where r.run = $1 and n.nspname = $2";
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL, (const char *const[]){names->run, names->shadow_schema, NULL}, &rows,
                   err))
        return false;
    for (int i = 0; i < rows_count(rows); i++) {
        AUTO(Text) *drop = sql_build("drop table %S", rows_text(rows, i, 0));

        if (!run_ddl(conn, drop, err))
            return err_wrap(err, "dropping the shadow table");
    }
    return true;
}

static bool
drop_empty_schema(Conn *conn, const char *schema, Err *err)
{
    AUTO(Text) *drop = sql_build("drop schema if exists %I", schema);

    if (!run_ddl(conn, drop, err))
        return err_wrap(err, "dropping schema \"%s\"", schema);
    return true;
}

static bool
remove_run(Conn *conn, const RunNames *names, Err *err)
{
    AUTO(Text) *publication = sql_build("drop publication if exists %I", names->publication);
    AUTO(Rows) *rows = NULL;
    bool swapped;

    if (!query_run(conn, "select phase in ('swapped', 'done') from walter.run where run = $1",
                   (const char *const[]){names->run, NULL}, &rows, err))
        return false;
    swapped = rows_count(rows) == 1 && rows_bool(rows, 0, 0);
    if (!end_sessions(conn, names, err) || !drop_slot(conn, names, err) ||
        !run_ddl(conn, publication, err) || !drop_shadow(conn, names, err) ||
        !drop_empty_schema(conn, names->shadow_schema, err))
        return false;
    /* after the swap this schema holds the old table, which is the operator's */
    if (!swapped && !drop_empty_schema(conn, names->schema, err))
        return false;
    return state_end_run(conn, names, !swapped, err);
}

bool
cleanup_remove(Loop *loop, const ConnTarget *target, const RunNames *names, Err *err)
{
    Conn *conn;
    bool ok;

    loop_shield(loop);
    conn = conn_open(loop, target, CONN_SQL, "cleanup", err);
    ok = conn != NULL && remove_run(conn, names, err);
    conn_close(conn);
    loop_unshield(loop);
    return ok;
}

/* ---- the command ---- */

static bool
remove_dead(Loop *loop, const ConnTarget *target, const RunRecord *runs, int count, Err *err)
{
    for (int i = 0; i < count; i++) {
        if (runs[i].alive)
            continue;
        if (!cleanup_remove(loop, target, &runs[i].names, err))
            return err_wrap(err, "cleaning up run %s", runs[i].names.run);
        log_info("run %s is removed", runs[i].names.run);
    }
    return true;
}

static int
show_runs(const RunRecord *runs, int count)
{
    int dead = 0;

    for (int i = 0; i < count; i++) {
        const RunRecord *run = &runs[i];

        printf("run %s on %s, begun %s, phase %s: %s\n", run->names.run, run->table,
               run->started_at, run->phase, run->alive ? "alive, left alone" : "dead");
        if (run->alive)
            continue;
        dead++;
        printf("  statement          %s\n", run->statement);
        if (strcmp(run->phase, "swapped") == 0)
            printf("  the swap has happened; the old table stays in schema %s\n",
                   run->names.schema);
        printf("  replication slot   %s\n  publication        %s\n  schemas            %s, %s\n"
               "  helper tables      %s, %s\n",
               run->names.slot, run->names.publication, run->names.shadow_schema, run->names.schema,
               run->names.fence, run->names.position);
    }
    fflush(stdout);
    return dead;
}

static bool
cleanup_all(const Settings *settings, Loop *loop, const ConnTarget *target, Arena *arena, Err *err)
{
    AUTO(Conn) *control = conn_open(loop, target, CONN_SQL, "cleanup list", err);
    RunRecord *runs;
    int count;

    if (control == NULL || !state_list_unfinished(control, arena, &runs, &count, err))
        return false;
    if (show_runs(runs, count) == 0) {
        printf("nothing to clean up in database \"%s\"\n", conn_database(control));
        return true;
    }
    switch (settings->confirm(settings, "Remove all this?")) {
    case ANSWER_YES:
        return remove_dead(loop, target, runs, count, err);
    case ANSWER_NO:
        printf("nothing was removed\n");
        return true;
    case ANSWER_NOBODY:
        printf("nothing was removed; add --yes to remove it\n");
        return true;
    }
    return true;
}

bool
cleanup_run(const Settings *settings, Err *err)
{
    const ConnTarget target = {settings->dbname, settings->host, settings->port, settings->user,
                               settings->password};
    Arena *arena = arena_new();
    AUTO(Loop) *loop = loop_new();
    bool ok = cleanup_all(settings, loop, &target, arena, err);

    arena_free(arena);
    return ok;
}
