/* A replica identity for the time of the run; see identity.h. */
#include "phase/identity.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "pg/sql.h"

/* So long nobody else gets to the table, per attempt; VACUUM and DDL are waited for before that. */
enum { PULSE_MS = 50, PATIENCE_MS = 3000 };
enum { RESTORE_TRIES = 60 };

static const int64_t PAUSE_US = 300000;

/* The best index for a table that has no identity. */
static const char SQL_CHOOSE[] =
    "select ic.oid, pg_catalog.quote_ident(ic.relname), case c.relreplident when 'd' then 'default'"
    "         when 'f' then 'full' else 'nothing' end"
    "  from pg_catalog.pg_class c join pg_catalog.pg_index x on " IDENTITY_USABLE
    "  join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    " where c.oid = $1::pg_catalog.oid and c.relkind = 'r' and c.relreplident in ('d', 'f', 'n')"
    "   and not exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisvalid"
    "       and i.indimmediate and i.indisprimary and c.relreplident <> 'n')"
    " order by " IDENTITY_BEST_FIRST " limit 1";

/* $1 = run.  The table, what its identity was, and the index, if it is the identity still. */
static const char SQL_RECORDED[] =
    "select pg_catalog.format('%I.%I', n.nspname, c.relname),"
    "       pg_catalog.to_jsonb(r)->>'former_identity'"
    "  from walter.run r join pg_catalog.pg_class c on c.oid = r.original_oid"
    "  join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "  join pg_catalog.pg_index x on x.indrelid = c.oid and x.indisreplident"
    " where r.run = $1 and c.relreplident = 'i'"
    /* it becomes a part of a statement, and the row may be another role's */
    "   and pg_catalog.to_jsonb(r)->>'former_identity' in ('default', 'full', 'nothing')"
    "   and x.indexrelid::text = pg_catalog.to_jsonb(r)->>'identity_index'";

static const char *
keep(Migration *run, const char *text)
{
    return arena_copy(run->arena, text, strlen(text));
}

bool
identity_choose(Migration *run, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (!run->settings->set_replica_identity)
        return true;
    if (!query_run(run->control, SQL_CHOOSE, (const char *const[]){oid, NULL}, &rows, err))
        return err_wrap(err, "choosing a replica identity");
    if (rows_count(rows) == 0)
        return true;
    run->identity.index_oid = (uint32_t)rows_int(rows, 0, 0);
    run->identity.index = keep(run, rows_text(rows, 0, 1));
    run->identity.former = keep(run, rows_text(rows, 0, 2));
    return catalog_read_key(run->control, run->identity.index_oid, run->arena, &run->original, err);
}

bool
identity_record(Migration *run, Conn *conn, Err *err)
{
    return run->identity.index == NULL ||
           state_note_identity(conn, &run->names, run->identity.index_oid, run->identity.former,
                               err);
}

char *
identity_restore_sql(const Migration *run)
{
    return run->identity.index == NULL ? NULL
                                       : sql_build("alter table only %S replica identity %S",
                                                   run->original.qualified, run->identity.former);
}

/* BEGIN and the exclusive lock, in a way that costs the application little. */
static bool
lock_briefly(Conn *conn, const char *table, Err *err)
{
    AUTO(Text) *sql =
        sql_build("begin; set local lock_timeout to %D;"
                  "lock table only %S in share update exclusive mode;"
                  "set local lock_timeout to %D; lock table only %S in access exclusive mode",
                  (int64_t)PATIENCE_MS, table, (int64_t)PULSE_MS, table);

    return query_exec(conn, sql, err);
}

static bool
set_under_lock(Migration *run, Err *err)
{
    AUTO(Text) *sql = sql_build("alter table only %S replica identity using index %S",
                                run->original.qualified, run->identity.index);
    char *digest = NULL;

    if (!migration_check_definition(run, run->control, err) ||
        !query_exec(run->control, sql, err) ||
        !catalog_read_digest(run->control, run->original.oid, &digest, err))
        return false;
    if (!query_exec(run->control, "commit", err)) {
        free(digest);
        return false;
    }
    free(run->original_digest);
    run->original_digest = digest;
    return true;
}

bool
identity_clone(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *sql = NULL;

    if (!run->identity.is_set)
        return true;
    sql = sql_build("alter table only %S replica identity %S", run->shadow_qualified,
                    run->identity.former);
    return query_exec(conn, sql, err);
}

bool
identity_set(Migration *run, Err *err)
{
    if (run->identity.index == NULL || run->identity.is_set)
        return true;
    if (!lock_briefly(run->control, run->original.qualified, err) || !set_under_lock(run, err)) {
        query_rollback(run->control);
        return err_wrap(err, "setting the replica identity");
    }
    run->identity.is_set = true;
    run->original.replica_identity = 'i';
    log_info("the replica identity of %s is index %s until the run is over; it was %s",
             run->original.qualified, run->identity.index, run->identity.former);
    return true;
}

static bool
restore_once(Conn *conn, const char *table, const char *restore, Err *err)
{
    if (lock_briefly(conn, table, err) && query_exec(conn, restore, err) &&
        query_exec(conn, "commit", err))
        return true;
    query_rollback(conn);
    return false;
}

bool
identity_restore(Conn *conn, const RunNames *names, Err *err)
{
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *restore = NULL;

    if (!query_run(conn, SQL_RECORDED, (const char *const[]){names->run, NULL}, &rows, err))
        return err_wrap(err, "reading walter.run");
    if (rows_count(rows) == 0)
        return true;
    restore = sql_build("alter table only %S replica identity %S", rows_text(rows, 0, 0),
                        rows_text(rows, 0, 1));
    for (int tries = 1; !restore_once(conn, rows_text(rows, 0, 0), restore, err); tries++) {
        if (err->kind != ERR_RETRY || tries == RESTORE_TRIES) {
            err_hint(err, "When nothing keeps a lock on the table: %s;", restore);
            return err_wrap(err, "restoring the replica identity of %s", rows_text(rows, 0, 0));
        }
        err_clear(err);
        if (!loop_pause(conn_loop(conn), PAUSE_US / 2 + (int64_t)random() % PAUSE_US, err))
            return false;
    }
    log_info("the replica identity of %s is %s again", rows_text(rows, 0, 0),
             rows_text(rows, 0, 1));
    return true;
}
