/*
 * The swap, under the lock: fence, drain, compare, and the statements that make the shadow the
 * table, in one transaction.  See cutover_internal.h.
 */
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/cutover_internal.h"
#include "phase/definition.h"
#include "phase/sessions.h"

static const int64_t OUTCOME_PATIENCE_US = 60 * INT64_C(1000000);
enum { INTERNAL_ERRORS_MAX = 20 };

static void
add_list(Buf *sql, const SqlList *list)
{
    for (int i = 0; i < list->count; i++)
        sql_add(sql, "%S;", list->items[i]);
}

/* All the old ones go before any new one comes: a name may have gone from one table to another. */
static void
add_moves(const Migration *run, Buf *sql)
{
    sql_add(sql, "alter table %S set schema %I;", run->original.qualified, run->names.schema);
    for (int i = 0; i < run->branch_count; i++)
        sql_add(sql, "alter table %S set schema %I;", run->branches[i].original.qualified,
                run->names.schema);
    sql_add(sql, "alter table %S set schema %I;", run->shadow_qualified, run->original.schema);
    for (int i = 0; i < run->branch_count; i++)
        sql_add(sql, "alter table %S set schema %I;", run->branches[i].shadow_qualified,
                run->branches[i].original.schema);
}

/* Everything between the drained stream and COMMIT, in one message. */
static bool
build_swap(Migration *run, Buf *sql, Err *err)
{
    AUTO(Text) *grants = NULL;
    AUTO(Text) *phase = NULL;
    SqlList todo = {0};
    BUF_AUTO(tree_grants);

    if (run->keeps_unfinished)
        finish_list(run, &todo);
    phase = state_swapped_sql(&run->names, todo.items, todo.count);
    if (!definition_read_grants(run, run->cutover->conn, &grants, err) ||
        !definition_read_tree_grants(run, run->cutover->conn, &tree_grants, err))
        return false;
    /* no SET ROLE: partners may have other owners, and a member of all of them may do all of it */
    add_list(sql, &run->definition.swap);
    /* whoever granted something grants it again, and must find the table for that */
    if (grants[0] != '\0' || tree_grants.len > 0)
        sql_add(sql, "grant usage on schema %I to public;", run->names.shadow_schema);
    sql_add(sql, "%S%S", grants, buf_text(&tree_grants));
    add_moves(run, sql);
    add_list(sql, &run->definition.moved);
    if (run->cutover->refresh[0] != '\0')
        sql_add(sql, "%S;", run->cutover->refresh);
    buf_add_text(sql, phase);
    return true;
}

/*
 * The server says which table carries the name now, once the lost session is gone for certain: two
 * statements, for what the first one sees of sessions is newer than what it sees of tables.  Where
 * the network has swallowed the answer, the server does not know that we are gone, and ends the
 * session for us: then no COMMIT can come any more.
 */
static bool
ask_outcome(Migration *run, Conn *conn, bool *certain, Err *err)
{
    static const char SQL_SESSION[] =
        "select pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) > 0"
        "  from pg_catalog.pg_stat_activity"
        " where application_name = $1 and usename = session_user"
        "   and datname = pg_catalog.current_database()";
    static const char SQL_PLACE[] =
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n"
        "         on n.oid = c.relnamespace where c.oid = $1::pg_catalog.oid and n.nspname = $2)";
    AUTO(Text) *name = mem_format("walter: %s cutover", run->names.run);
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *session = NULL;
    AUTO(Rows) *place = NULL;

    *certain = false;
    if (!query_one(conn, SQL_SESSION, (const char *const[]){name, NULL}, &session, err))
        return false;
    if (rows_bool(session, 0, 0))
        return true;
    if (!query_one(conn, SQL_PLACE, (const char *const[]){oid, run->original.schema, NULL}, &place,
                   err))
        return false;
    *certain = true;
    run->swapped = rows_bool(place, 0, 0);
    return true;
}

/*
 * The answer to COMMIT did not come: ask the server, until it can say.  Never guess.  All sessions
 * may be gone; the one that brings the answer becomes the run's control session.
 */
static bool
find_outcome(Migration *run, Err *lost)
{
    int64_t until_us = clock_now_us() + OUTCOME_PATIENCE_US;

    log_warning("%s at COMMIT of the swap; asking the server whether it has happened",
                lost->message);
    conn_close(run->cutover->conn);
    run->cutover->conn = NULL;
    migration_close_sessions(run);
    while (clock_now_us() < until_us && !loop_is_stopping(run->loop)) {
        Err err = {0};
        bool certain = false;
        Conn *conn = migration_connect(run, CONN_SQL, "outcome", &err);

        if (conn != NULL && ask_outcome(run, conn, &certain, &err) && certain) {
            conn_close(run->control);
            run->control = conn;
            log_warning("the server says that the swap has %s",
                        run->swapped ? "happened" : "not happened");
            if (run->swapped)
                err_clear(lost);
            return run->swapped;
        }
        conn_close(conn);
        err_clear(&err);
        if (!loop_pause(run->loop, 200000, &err))
            break;
    }
    lost->kind = ERR_UNKNOWN;
    err_wrap(lost, "the swap may have happened or not");
    return err_hint(lost, "Look whether %s has the new shape before doing anything else.",
                    run->original.qualified);
}

static bool
commit_swap(Migration *run, Err *err)
{
    Conn *conn = run->cutover->conn;
    bool ok;

    loop_shield(run->loop);
    loop_set_hard_exit(8);
    FAULT_POINT("swap.uncommitted");
    ok = query_send(conn, "commit", err);
    FAULT_POINT("swap.commit_sent");
    ok = ok && query_finish(conn, NULL, err);
    if (ok)
        run->swapped = true;
    /* an error that is not the server's answer says nothing about the COMMIT */
    else if (conn_is_lost(conn) || !query_is_done(conn))
        ok = find_outcome(run, err);
    /* nor may a second request after the swap pass for a run that left the table as it was */
    if (!run->swapped && err->kind != ERR_UNKNOWN)
        loop_set_hard_exit(7);
    FAULT_POINT("swap.committed");
    loop_unshield(run->loop);
    return ok;
}

/* Many statements, each of which the server's timeout knows alone; so the whole is watched here. */
static bool
run_until(Migration *run, const char *sql, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;

    if (!query_send(conn, sql, err) || !query_wait(conn, deadline_us, err))
        return false;
    if (!query_is_done(conn) && !sessions_cancel(run->control, conn_pid(conn), err))
        return false;
    return query_finish(conn, NULL, err);
}

/*
 * The statements that make the shadow the table.  GRANT and REVOKE do not mind the original's lock:
 * privileges are read before the statements are made and again when they have run, for from then on
 * such a statement waits for us.
 */
static bool
run_swap(Migration *run, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;
    uint32_t oid = run->original.oid;
    AUTO(Text) *before = NULL;
    AUTO(Text) *after = NULL;
    BUF_AUTO(sql);

    FAULT_POINT("cutover.drained");
    if (!catalog_read_privileges(conn, oid, &before, err) || !build_swap(run, &sql, err) ||
        !run_until(run, buf_text(&sql), deadline_us, err) ||
        !catalog_read_privileges(conn, oid, &after, err))
        return false;
    if (strcmp(before, after) != 0)
        return err_set(err, ERR_RETRY, "privileges were changed in the last moment");
    return true;
}

/* Drain, compare, swap.  ERR_RETRY when it takes too long; the server watches the time, too. */
static bool
swap_until(Migration *run, int64_t deadline_us, Err *err)
{
    Conn *conn = run->cutover->conn;
    int64_t marker;

    FAULT_POINT("cutover.locked");
    if (!apply_write_fence(run->apply, &marker, err) ||
        !apply_drain(run->apply, marker, deadline_us, run->cutover->conn, err) ||
        !migration_check_definition(run, conn, err) ||
        !migration_check_publication(run, conn, err) || !gates_check_snapshots(run, true, err) ||
        !run_swap(run, deadline_us, err))
        return false;
    if (clock_now_us() > deadline_us)
        return err_set(err, ERR_RETRY, "the swap took longer than --lock-hold");
    return commit_swap(run, err);
}

/* The attempt needed more time than it has; the operator decides whether it may have more. */
static void
tell_too_slow(const Migration *run, Err *err)
{
    const Err failed = *err;
    bool canceled = err_is_canceled(err);

    err_clear(err);
    err_set(err, ERR_RETRY, "%s; the lock was held for %.0f ms: if that goes on, raise --lock-hold",
            canceled ? "the swap took longer than --lock-hold" : failed.message,
            (double)run->cutover->held_us / 1000);
}

bool
swap_run(Migration *run, Err *err)
{
    Cutover *cutover = run->cutover;
    int64_t granted_us = cutover->locks.granted_us;
    int64_t hold_us = run->settings->lock_hold_ms * 1000;

    run->definition_changed = false;
    if (swap_until(run, granted_us + hold_us, err)) {
        run->counters.lock_hold_us = clock_now_us() - granted_us;
        return true;
    }
    cutover->held_us = clock_now_us() - granted_us;
    if (err_is_canceled(err) || (err->kind == ERR_RETRY && cutover->held_us >= hold_us))
        tell_too_slow(run, err);
    /* what is beyond that is not the swap's: walter was stopped, and the server took the lock back */
    if (cutover->held_us > hold_us)
        cutover->held_us = hold_us;
    /* in the last moment: looked at again before the next attempt */
    if (run->definition_changed && err->kind == ERR_FAILED)
        err->kind = ERR_RETRY;
    /* "tuple concurrently updated": a GRANT met the swap */
    if (err_is_internal(err) && ++cutover->internal_errors < INTERNAL_ERRORS_MAX)
        err->kind = ERR_RETRY;
    return false;
}
