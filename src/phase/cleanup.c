/*
 * Cleaning up: removes exactly what a run recorded, in an order that never hurts the application -
 * slot before publication, and no CASCADE anywhere.  Also the `cleanup` command.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "ctl/orphans.h"
#include "pg/sql.h"
#include "phase/identity.h"
#include "phase/migration.h"
#include "phase/sessions.h"

static const int64_t PATIENCE_US = 20 * INT64_C(1000000);
/* Who has asked us to stop gets us within two seconds, and something to read about the rest. */
static const int64_t STOP_PATIENCE_US = 1500000;
static const int64_t LOCK_WAIT_US = 2 * INT64_C(1000000);
/* So long a statement waits before we look who is in its way. */
static const int64_t LOOK_US = 300000;

typedef struct Removal {
    const ConnTarget *target;
    Conn *conn;
} Removal;

/*
 * Sessions of the run that are still there: a worker of a killed process, an unread walsender, one
 * that builds an index or waits for a lock and has not noticed that nobody waits for it.
 */
bool
cleanup_end_sessions(Conn *conn, const RunNames *names, int spare_pid, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.count(pg_catalog.pg_terminate_backend(pid))"
        "  from pg_catalog.pg_stat_activity"
        /* in a copy of the database the same run seems dead */
        " where datname = pg_catalog.current_database()"
        /* anybody may call his session so; whom we may not end is none of ours */
        "   and (application_name like 'walter: ' || $1 || ' %'"
        "          and pg_catalog.pg_has_role(session_user, usesysid, 'member')"
        "        or pid = (select active_pid from pg_catalog.pg_replication_slots"
        "                   where slot_name = $2))"
        "   and pid not in (pg_catalog.pg_backend_pid(), $3::pg_catalog.int4)";
    AUTO(Text) *spare = mem_format("%d", spare_pid);
    const char *const params[] = {names->run, names->slot, spare, NULL};
    int64_t until_us = clock_now_us() + PATIENCE_US;

    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!query_one(conn, SQL, params, &rows, err))
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
        /* 55006: the walsender that we have just ended is still leaving; 42704: somebody else has
         * dropped it since this statement found it */
        if ((strcmp(err->sqlstate, "55006") != 0 && strcmp(err->sqlstate, "42704") != 0) ||
            clock_now_us() > until_us)
            return err_wrap(err, "dropping the replication slot \"%s\"", names->slot);
        err_clear(err);
        if (!loop_pause(conn_loop(conn), 50000, err))
            return false;
    }
}

/*
 * The statement under way waits for somebody: for whom?  In a session of its own, for ours is busy;
 * where there is none to be had, nobody is named.
 */
static void
look_who_is_in_the_way(const Removal *removal, char **in_the_way)
{
    Err ignored = {0};
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *list = NULL;
    AUTO(Conn) *conn =
        conn_open(conn_loop(removal->conn), removal->target, CONN_SQL, "cleanup watch", &ignored);

    if (conn == NULL || !sessions_in_the_way(conn, conn_pid(removal->conn), 0, &rows, &ignored) ||
        rows_count(rows) == 0) {
        err_clear(&ignored);
        return;
    }
    list = sessions_list(rows);
    if (*in_the_way == NULL)
        log_info("waiting for a lock; in the way: %s", list);
    mem_set_text(in_the_way, list);
}

static bool
try_ddl(const Removal *removal, const char *sql, int64_t wait_us, char **in_the_way, Err *err)
{
    AUTO(Text) *guarded = sql_build("begin; set local lock_timeout to %D; %S; commit",
                                    wait_us < 1000 ? 1 : wait_us / 1000, sql);
    Conn *conn = removal->conn;

    if (!query_send(conn, guarded, err) || !query_wait(conn, clock_now_us() + LOOK_US, err))
        return false;
    if (!query_is_done(conn))
        look_who_is_in_the_way(removal, in_the_way);
    if (query_finish(conn, NULL, err))
        return true;
    query_rollback(conn);
    return false;
}

static int64_t
patience_us(const Removal *removal)
{
    return loop_is_stopping(conn_loop(removal->conn)) ? STOP_PATIENCE_US : PATIENCE_US;
}

/* DDL that may meet a lock for a moment. */
static bool
run_ddl(const Removal *removal, const char *sql, Err *err)
{
    int64_t began_us = clock_now_us();
    AUTO(Text) *in_the_way = NULL;

    for (;;) {
        int64_t left_us = began_us + patience_us(removal) - clock_now_us();
        Err failed;

        if (try_ddl(removal, sql, left_us < LOCK_WAIT_US ? left_us : LOCK_WAIT_US, &in_the_way,
                    err))
            return true;
        if (err->kind != ERR_RETRY)
            return false;
        if (clock_now_us() - began_us >= patience_us(removal)) {
            failed = *err;
            err_clear(err);
            return err_set(
                err, ERR_RETRY, "%s%s%s", failed.message,
                in_the_way == NULL ? "" : "; in the way: ", in_the_way == NULL ? "" : in_the_way);
        }
        err_clear(err);
        if (!loop_pause(conn_loop(removal->conn), 100000, err))
            return false;
    }
}

/* Materialized views that were to replace those on the original; later ones may read earlier ones. */
static bool
drop_matviews(const Removal *removal, const RunNames *names, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('drop materialized view %I.%I', n.nspname, c.relname)"
        "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = $1 and c.relkind = 'm' order by c.oid desc";
    AUTO(Rows) *rows = NULL;

    if (!query_run(removal->conn, SQL, (const char *const[]){names->shadow_schema, NULL}, &rows,
                   err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        if (!run_ddl(removal, rows_text(rows, i, 0), err))
            return err_wrap(err, "dropping a new materialized view");
    return true;
}

bool
cleanup_drop_matviews(Conn *conn, const ConnTarget *target, const RunNames *names, Err *err)
{
    const Removal removal = {.target = target, .conn = conn};

    return drop_matviews(&removal, names, err);
}

/* Drop the shadow - the table with the recorded oid, wherever it is called what - unless it has
 * become the table itself. */
static bool
drop_shadow(const Removal *removal, const RunNames *names, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('%I.%I', n.nspname, c.relname)"
        "  from walter.run r join pg_catalog.pg_class c on c.oid = r.shadow_oid"
        "  join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where r.run = $1 and n.nspname = $2";
    AUTO(Rows) *rows = NULL;

    if (!query_run(removal->conn, SQL,
                   (const char *const[]){names->run, names->shadow_schema, NULL}, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++) {
        AUTO(Text) *drop = sql_build("drop table %S", rows_text(rows, i, 0));

        if (!run_ddl(removal, drop, err))
            return err_wrap(err, "dropping the shadow table");
    }
    return true;
}

static bool
drop_empty_schema(const Removal *removal, const char *schema, Err *err)
{
    AUTO(Text) *drop = sql_build("drop schema if exists %I", schema);

    if (!run_ddl(removal, drop, err))
        return err_wrap(err, "dropping schema \"%s\"", schema);
    return true;
}

/* What a session of the run was doing may have been the swap's COMMIT: only then is it certain. */
static bool
is_swapped(const char *phase)
{
    return strcmp(phase, "swapped") == 0 || strcmp(phase, "done") == 0;
}

/*
 * The state row is gone, or was never committed: whatever has one of the run's names is of no use to
 * anybody but the old table, if the swap has happened; its schema stays where there is something in it.
 */
static bool
remove_unrecorded(const Removal *removal, const RunNames *names, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('drop table if exists %I.%I', n.nspname, c.relname)"
        "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = $1 and c.relkind in ('r', 'p') and not c.relispartition"
        " union all"
        " select pg_catalog.format('drop table walter.%I', c.relname) from pg_catalog.pg_class c"
        "   join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        "  where n.nspname = 'walter' and c.relkind = 'r' and c.relname like '%\\_' || $3"
        " union all"
        " select pg_catalog.format('drop schema %I', nspname) from pg_catalog.pg_namespace n"
        "  where nspname = $2 and not exists (select from pg_catalog.pg_class"
        "          where relnamespace = n.oid)";
    AUTO(Rows) *rows = NULL;

    if (!drop_matviews(removal, names, err) ||
        !query_run(removal->conn, SQL,
                   (const char *const[]){names->shadow_schema, names->schema, names->run, NULL},
                   &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        if (!run_ddl(removal, rows_text(rows, i, 0), err))
            return err_wrap(err, "removing a run whose state is gone");
    return drop_empty_schema(removal, names->shadow_schema, err);
}

static bool
remove_run(const Removal *removal, const RunNames *names, int spare_pid, Arena *arena, Err *err)
{
    Conn *conn = removal->conn;
    AUTO(Text) *publication = sql_build("drop publication if exists %I", names->publication);
    Err identity = {0};
    const char *phase;

    FAULT_POINT("cleanup.begun");
    if (!cleanup_end_sessions(conn, names, spare_pid, err) || !drop_slot(conn, names, err) ||
        !state_read_phase(conn, names, arena, &phase, err))
        return false;
    FAULT_POINT("cleanup.slot_dropped");
    if (!run_ddl(removal, publication, err))
        return err_wrap(err, "dropping the publication \"%s\"", names->publication);
    FAULT_POINT("cleanup.publication_dropped");
    if (phase == NULL)
        return remove_unrecorded(removal, names, err);
    /* where a lock is in the way of this, the rest is removed all the same, and the row stays */
    if (!is_swapped(phase) && !identity_restore(conn, names, &identity) && conn_is_lost(conn)) {
        *err = identity;
        return false;
    }
    if (!drop_matviews(removal, names, err) || !drop_shadow(removal, names, err) ||
        !drop_empty_schema(removal, names->shadow_schema, err))
        return false;
    FAULT_POINT("cleanup.shadow_dropped");
    /* after the swap this schema holds the old table, which is the operator's */
    if (!is_swapped(phase) && !drop_empty_schema(removal, names->schema, err))
        return false;
    if (identity.kind != ERR_NONE) {
        *err = identity;
        return false;
    }
    FAULT_POINT("cleanup.schemas_dropped");
    return state_end_run(conn, names, !is_swapped(phase), err);
}

/* One row: what is left of a run, by name. */
static bool
find_what_is_left(Conn *conn, const RunNames *names, Rows **rows, Err *err)
{
    static const char SQL[] =
        "select coalesce(pg_catalog.string_agg(what, ', '), '') from ("
        "  select pg_catalog.format('replication slot %I, which holds back WAL', slot_name) what"
        "    from pg_catalog.pg_replication_slots"
        "   where slot_name = $1 and database = pg_catalog.current_database()"
        "  union all select pg_catalog.format('publication %I', pubname)"
        "    from pg_catalog.pg_publication where pubname = $2"
        "  union all select pg_catalog.format('schema %I', nspname)"
        "    from pg_catalog.pg_namespace n where nspname = $3"
        /* after the swap this one holds the old table, which is the operator's */
        "      or nspname = $4 and not exists (select from pg_catalog.pg_class"
        "           where relnamespace = n.oid)"
        "  union all (select pg_catalog.format('table walter.%s', c.relname)"
        "    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        "   where n.nspname = 'walter' and c.relkind = 'r' and c.relname like '%\\_' || $5"
        "   order by c.relname)) l";
    const char *const params[] = {names->slot,   names->publication, names->shadow_schema,
                                  names->schema, names->run,         NULL};

    return query_one(conn, SQL, params, rows, err);
}

/* Where not all of it could be removed, the operator is told what there is. */
static void
tell_what_is_left(Conn *conn, const RunNames *names)
{
    AUTO(Rows) *rows = NULL;
    Err ignored = {0};

    if (conn_is_lost(conn) || !find_what_is_left(conn, names, &rows, &ignored)) {
        err_clear(&ignored);
        return;
    }
    if (rows_text(rows, 0, 0)[0] != '\0')
        log_warning("of run %s there is still: %s", names->run, rows_text(rows, 0, 0));
}

bool
cleanup_remove(Loop *loop, const ConnTarget *target, const RunNames *names, int spare_pid, Err *err)
{
    Arena *arena = arena_new();
    Removal removal = {.target = target};
    bool ok;

    loop_shield(loop);
    removal.conn = conn_open(loop, target, CONN_SQL, "cleanup", err);
    ok = removal.conn != NULL && remove_run(&removal, names, spare_pid, arena, err);
    if (!ok && removal.conn != NULL)
        tell_what_is_left(removal.conn, names);
    conn_close(removal.conn);
    loop_unshield(loop);
    arena_free(arena);
    return ok;
}

/* ---- the command ---- */

/* A task without the settings that it begins with. */
static const char *
shown_task(const char *sql)
{
    const char *refresh = strstr(sql, "refresh materialized view ");

    return refresh == NULL ? sql : refresh;
}

void
cleanup_tell_unfinished(Loop *loop, const ConnTarget *target, const RunNames *names, Arena *arena)
{
    Err err = {0};
    const char **todo = NULL;
    int count = 0;
    Conn *conn;

    loop_shield(loop);
    conn = conn_open(loop, target, CONN_SQL, "cleanup", &err);
    if (conn == NULL || !state_read_todo(conn, names, arena, &todo, &count, &err))
        log_warning("what is still to be done could not be read: %s; run walter cleanup, which "
                    "shows and does it",
                    err.message);
    for (int i = 0; i < count; i++)
        log_warning("still to be done: %s", shown_task(todo[i]));
    if (count > 0)
        log_warning("walter cleanup does it");
    conn_close(conn);
    loop_unshield(loop);
}

/*
 * What the run was to do after its swap.  It may take as long as it takes, and be stopped.  What is
 * not there any more needs nothing: SQLSTATE 42P01 is a table, 42704 a constraint, 3F000 a schema.
 */
static bool
finish_one(const Removal *removal, const RunRecord *run, const char *sql, Err *err)
{
    Conn *conn = removal->conn;

    if (run_ddl(removal, sql, err)) {
        log_info("done: %s", shown_task(sql));
        return state_note_done(conn, &run->names, sql, err);
    }
    if (strcmp(err->sqlstate, "42P01") != 0 && strcmp(err->sqlstate, "42704") != 0 &&
        strcmp(err->sqlstate, "3F000") != 0)
        return err_wrap(err, "%s", shown_task(sql));
    log_warning("%s; left out: %s", err->message, shown_task(sql));
    err_clear(err);
    return state_note_done(conn, &run->names, sql, err);
}

/* Whatever can be done is done; the first error is the one that counts. */
static bool
finish_run(Loop *loop, const ConnTarget *target, const RunRecord *run, Arena *arena, Err *err)
{
    AUTO(Conn) *conn =
        run->is_unfinished ? conn_open(loop, target, CONN_SQL, "cleanup", err) : NULL;
    const Removal removal = {.target = target, .conn = conn};
    const char **todo;
    int count;

    if (conn == NULL || !state_check_writers(conn, err) ||
        !state_read_todo(conn, &run->names, arena, &todo, &count, err))
        return err->kind == ERR_NONE;
    for (int i = 0; i < count; i++) {
        Err failed = {0};

        if (finish_one(&removal, run, todo[i], &failed))
            continue;
        if (err->kind == ERR_NONE)
            *err = failed;
        else
            log_error(&failed);
        if (failed.kind == ERR_LOST || failed.kind == ERR_STOPPED)
            return false;
    }
    return err->kind == ERR_NONE;
}

bool
cleanup_finish(Loop *loop, const ConnTarget *target, const RunRecord *run, Arena *arena, Err *err)
{
    /* of one that is done only something that was to be done after the swap is left */
    if (strcmp(run->phase, "done") != 0) {
        if (!cleanup_remove(loop, target, &run->names, 0, err))
            return false;
        if (orphans_is_one(run))
            log_info("run %s is removed", run->names.run);
        else
            log_info("run %s on %s is removed", run->names.run, run->table);
    }
    return finish_run(loop, target, run, arena, err);
}

/* The question may have been open for a while: who has gone on with a run by now is left alone. */
static bool
look_again(Conn *control, Arena *arena, RunRecord *runs, int count, Err *err)
{
    RunRecord *now;
    int now_count;

    if (!state_list_unfinished(control, arena, &now, &now_count, err))
        return false;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < now_count; j++)
            if (now[j].alive && !runs[i].alive &&
                strcmp(now[j].names.run, runs[i].names.run) == 0) {
                log_warning("run %s has gone on in the meantime, and is left alone",
                            runs[i].names.run);
                runs[i].alive = true;
            }
    return true;
}

/* One run that cannot be removed, because it is another role's, does not keep the others. */
static bool
remove_dead(Loop *loop, const ConnTarget *target, const RunRecord *runs, int count, Arena *arena,
            Err *err)
{
    for (int i = 0; i < count; i++) {
        Err failed = {0};

        if (runs[i].alive || cleanup_finish(loop, target, &runs[i], arena, &failed))
            continue;
        err_wrap(&failed, "cleaning up run %s%s%s", runs[i].names.run,
                 orphans_is_one(&runs[i]) ? "" : " on ", runs[i].table);
        if (failed.kind == ERR_REFUSED)
            err_hint(&failed, "Run it as the role that ran the migration, or as a superuser.");
        if (err->kind == ERR_NONE)
            *err = failed;
        else
            log_error(&failed);
        if (failed.kind == ERR_STOPPED)
            break;
    }
    return err->kind == ERR_NONE;
}

/* What is left on the server. */
static void
show_machinery(const RunRecord *run)
{
    printf("  replication slot   %s\n  publication        %s\n", run->names.slot,
           run->names.publication);
    if (!is_swapped(run->phase))
        printf("  schemas            %s, %s\n", run->names.shadow_schema, run->names.schema);
    if (run->former_identity != NULL && !is_swapped(run->phase))
        printf("  replica identity   back to %s\n", run->former_identity);
    printf("  helper tables      %s, %s, %s, %s, %s\n", run->names.built, run->names.copied,
           run->names.fence, run->names.position, run->names.touched);
}

/* What has the run's names, for there is no record of what it made. */
static bool
show_orphan(Conn *conn, const RunNames *names, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!find_what_is_left(conn, names, &rows, err))
        return false;
    printf("  left               %s\n", rows_text(rows, 0, 0));
    return true;
}

static bool
show_dead(Conn *conn, const RunRecord *run, Arena *arena, Err *err)
{
    const char **todo;
    int count;

    if (orphans_is_one(run))
        return show_orphan(conn, &run->names, err);
    printf("  statement          %s\n", run->statement);
    if (strcmp(run->phase, "swapped") == 0)
        printf("  the swap has happened: %s has its new definition, and the old table stays in"
               " schema %s\n",
               run->table, run->names.schema);
    if (strcmp(run->phase, "done") != 0)
        show_machinery(run);
    if (!run->is_unfinished)
        return true;
    if (!state_read_todo(conn, &run->names, arena, &todo, &count, err))
        return false;
    for (int i = 0; i < count; i++)
        printf("  still to be run    %s\n", shown_task(todo[i]));
    return true;
}

static bool
show_runs(Conn *conn, const RunRecord *runs, int count, Arena *arena, int *dead, Err *err)
{
    *dead = 0;
    for (int i = 0; i < count; i++) {
        const RunRecord *run = &runs[i];

        if (orphans_is_one(run))
            printf("run %s, whose record in walter.run is gone", run->names.run);
        else
            printf("run %s on %s, begun %s, phase %s", run->names.run, run->table, run->started_at,
                   run->phase);
        printf(": %s\n", run->alive ? "alive, left alone" : "dead");
        if (run->alive)
            continue;
        (*dead)++;
        if (!show_dead(conn, run, arena, err))
            return false;
    }
    fflush(stdout);
    return true;
}

static bool
has_unfinished(const RunRecord *runs, int count)
{
    for (int i = 0; i < count; i++)
        if (!runs[i].alive && runs[i].is_unfinished)
            return true;
    return false;
}

/* All that there is to know of, and all that there is without being known of. */
static bool
list_runs(const Settings *settings, Conn *control, Arena *arena, RunRecord **runs, int *count,
          Err *err)
{
    RunRecord *known;
    RunRecord *orphans;
    int known_count;
    int orphan_count;

    if (!state_list_unfinished(control, arena, &known, &known_count, err) ||
        !orphans_list(control, arena, &orphans, &orphan_count, err))
        return false;
    *count = 0;
    *runs = arena_alloc(arena, sizeof **runs * (size_t)(known_count + orphan_count + 1));
    for (int i = 0; i < known_count + orphan_count; i++) {
        const RunRecord *run = i < known_count ? &known[i] : &orphans[i - known_count];

        if (settings->run == NULL || strcmp(settings->run, run->names.run) == 0)
            (*runs)[(*count)++] = *run;
    }
    return true;
}

static bool
cleanup_all(const Settings *settings, Loop *loop, const ConnTarget *target, Arena *arena, Err *err)
{
    AUTO(Conn) *control = conn_open(loop, target, CONN_SQL, "cleanup list", err);
    RunRecord *runs;
    Answer answer;
    int count;
    int dead;

    if (control == NULL || !list_runs(settings, control, arena, &runs, &count, err) ||
        !show_runs(control, runs, count, arena, &dead, err))
        return false;
    if (dead == 0) {
        if (settings->run == NULL)
            printf("nothing to clean up in database \"%s\"\n", conn_database(control));
        else
            printf("nothing to clean up of a run %s in database \"%s\"\n", settings->run,
                   conn_database(control));
        return true;
    }
    answer = settings->confirm(settings, has_unfinished(runs, count) ? "Remove and run all this?"
                                                                     : "Remove all this?");
    if (loop_is_stopping(loop))
        return err_set(err, ERR_STOPPED, "stopped on request; nothing was removed");
    switch (answer) {
    case ANSWER_YES:
        return look_again(control, arena, runs, count, err) &&
               remove_dead(loop, target, runs, count, arena, err);
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
