/* Other people's sessions; see sessions.h. */
#include "phase/sessions.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"

/* So many descriptions go into one log line. */
enum { BLOCKERS_SHOWN = 5 };

/*
 * Process id, description, and whether ending it is right: a client session that holds what is in the
 * way, in a transaction that is open for $2 seconds; not one that only waits in the queue before us.
 *
 * Of another role's session only pid, user and application are visible without pg_read_all_stats; how
 * old its transaction is, is not known then.  Background processes (autovacuum) have no user.
 */
#define SQL_DESCRIBED                                                                              \
    "select b.pid, pg_catalog.format('pid %s, %s', b.pid, case"                                    \
    "         when a.pid is null then 'already gone'"                                              \
    "         when a.usename is null and a.backend_type is null then 'autovacuum, or another"      \
    " process in the background'"                                                                  \
    "         when a.usename is null then pg_catalog.format('%s: %s', a.backend_type,"             \
    "           pg_catalog.left(a.query, 80))"                                                     \
    "         when a.xact_start is null then pg_catalog.format('user %s, doing what this role may" \
    " not see', a.usename)"                                                                        \
    "         else pg_catalog.format('user %s, %s, open for %s s: %s', a.usename, a.state,"        \
    "           pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - "               \
    "a.xact_start)),"                                                                              \
    "           " SESSIONS_STATEMENT ") end),"                                                     \
    "       a.usename is not null and coalesce(a.backend_type, 'client backend') = 'client "       \
    "backend'"                                                                                     \
    "         and a.application_name not like 'walter: %' and b.holds"                             \
    "         and coalesce(a.xact_start <= pg_catalog.clock_timestamp()"                           \
    "                        - $2::pg_catalog.float8 * interval '1 second', false)"                \
    "  from b left join pg_catalog.pg_stat_activity a on a.pid = b.pid"

/* What is waited for, and who of those in the way holds it in a mode that conflicts. */
static const char SQL_IN_THE_WAY[] =
    "with u as materialized (select distinct u.pid from pg_catalog.unnest("
    "             pg_catalog.pg_blocking_pids($1::pg_catalog.int4)) u (pid)),"
    "   l as materialized (select * from pg_catalog.pg_locks),"
    "   b as (select u.pid, exists (select from l w join l h on h.pid = u.pid and h.granted"
    "              and (h.locktype, h.database, h.relation, h.transactionid, h.virtualxid,"
    "                   h.classid, h.objid, h.objsubid)"
    "                  is not distinct from"
    "                  (w.locktype, w.database, w.relation, w.transactionid, w.virtualxid,"
    "                   w.classid, w.objid, w.objsubid)"
    "              and (w.mode <> 'ShareUpdateExclusiveLock' or h.mode not in ("
    "                   'AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))"
    "            where w.pid = $1::pg_catalog.int4 and not w.granted) holds from u)" SQL_DESCRIBED
    " where b.pid <> 0"
    " union all"
    " select 0, pg_catalog.format('prepared transaction %L, owner %s, since %s; only COMMIT "
    "PREPARED"
    " or ROLLBACK PREPARED ends it', p.gid, p.owner,"
    "         pg_catalog.to_char(p.prepared, 'YYYY-MM-DD HH24:MI:SS')), false"
    "  from pg_catalog.pg_prepared_xacts p"
    " where exists (select from b where b.pid = 0) and exists ("
    "    select from pg_catalog.pg_locks h join pg_catalog.pg_locks w on w.relation = h.relation"
    "       and w.database = h.database and w.pid = $1::pg_catalog.int4 and not w.granted"
    "     join pg_catalog.pg_locks x on x.virtualtransaction = h.virtualtransaction"
    "       and x.pid is null and x.transactionid = p.transaction"
    "     where h.pid is null and h.granted and h.locktype = 'relation')";

/* Who has a lock on anything in the schema $1, other than sessions of ours. */
static const char SQL_USING_SCHEMA[] =
    "with b as (select distinct l.pid, true holds from pg_catalog.pg_locks l"
    "             join pg_catalog.pg_class c on c.oid = l.relation"
    "             join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "            where n.nspname = $1 and l.granted and l.pid is not null"
    "              and l.database = (select oid from pg_catalog.pg_database"
    "                                 where datname = pg_catalog.current_database()))" SQL_DESCRIBED
    " where coalesce(a.application_name, '') not like 'walter: %' and a.pid is not null";

static const char SQL_CROSSING[] =
    "with b as materialized (select pid from pg_catalog.unnest("
    "             pg_catalog.pg_blocking_pids($1::pg_catalog.int4)) u (pid)),"
    "   l as materialized (select * from pg_catalog.pg_locks where locktype = 'relation')"
    "select distinct w.relation from l w join l h on h.relation = w.relation"
    "       and h.database = w.database"
    " where h.pid = $1::pg_catalog.int4 and h.mode = 'AccessExclusiveLock' and h.granted"
    "   and not w.granted and w.pid in (select pid from b)";

static const char SQL_OLD_SNAPSHOTS[] =
    "select pg_catalog.format('pid %s, user %s, %s', pid, usename, case when xact_start is null"
    "         then 'doing what this role may not see (GRANT pg_read_all_stats shows it)'"
    "         else pg_catalog.format('%s, open for %s s', state, pg_catalog.round("
    "           extract(epoch from pg_catalog.clock_timestamp() - xact_start))) end)"
    "  from pg_catalog.pg_stat_activity"
    " where datname = pg_catalog.current_database() and backend_xmin is not null"
    /* autovacuum has no user; the type of other roles' sessions is not shown to everybody */
    "   and usesysid is not null"
    "   and pid <> pg_catalog.pg_backend_pid() and application_name not like 'walter: %'"
    "   and coalesce(backend_type, 'client backend') = 'client backend'"
    /* one from before the end of the copy would find the table empty, whatever it is */
    "   and case when pg_catalog.age(backend_xmin)"
    "              > pg_catalog.age($1::pg_catalog.xid8::pg_catalog.xid) then true"
    "       when xact_start is null then false"
    "       else pg_catalog.age(backend_xmin) > pg_catalog.age(coalesce("
    "                nullif($2, '')::pg_catalog.xid8, pg_catalog.pg_snapshot_xmax("
    "                pg_catalog.pg_current_snapshot()))::pg_catalog.xid)"
    "         and xact_start < pg_catalog.clock_timestamp()"
    "                          - $3::pg_catalog.float8 * interval '1 microsecond'"
    "         and (state like 'idle in transaction%'"
    "              or xact_start < query_start - interval '1 second') end";

bool
sessions_in_the_way(Conn *control, int pid, int64_t open_for_s, Rows **rows, Err *err)
{
    AUTO(Text) *waiter = mem_format("%d", pid);
    AUTO(Text) *seconds = mem_format("%lld", (long long)open_for_s);

    return query_run(control, SQL_IN_THE_WAY, (const char *const[]){waiter, seconds, NULL}, rows,
                     err);
}

bool
sessions_using_schema(Conn *control, const char *schema, int64_t open_for_s, Rows **rows, Err *err)
{
    AUTO(Text) *seconds = mem_format("%lld", (long long)open_for_s);

    return query_run(control, SQL_USING_SCHEMA, (const char *const[]){schema, seconds, NULL}, rows,
                     err);
}

char *
sessions_list(const Rows *rows)
{
    BUF_AUTO(list);

    for (int i = 0; i < rows_count(rows) && i < BLOCKERS_SHOWN; i++)
        buf_printf(&list, "%s%s", i == 0 ? "" : "; ", rows_text(rows, i, 1));
    if (rows_count(rows) > BLOCKERS_SHOWN)
        buf_printf(&list, "; and %d more", rows_count(rows) - BLOCKERS_SHOWN);
    return buf_take(&list);
}

bool
sessions_end(Conn *control, const Rows *rows, Err *err)
{
    for (int i = 0; i < rows_count(rows); i++) {
        if (!rows_bool(rows, i, 2))
            continue;
        log_warning("ending the session that is in the way: %s", rows_text(rows, i, 1));
        if (query_run(control, "select pg_catalog.pg_terminate_backend($1::pg_catalog.int4)",
                      (const char *const[]){rows_text(rows, i, 0), NULL}, NULL, err))
            continue;
        if (err->kind != ERR_REFUSED)
            return false;
        log_warning("could not end it: %s", err->message);
        err_clear(err);
    }
    return true;
}

bool
sessions_crossing(Conn *control, int pid, Rows **rows, Err *err)
{
    AUTO(Text) *waiter = mem_format("%d", pid);

    return query_run(control, SQL_CROSSING, (const char *const[]){waiter, NULL}, rows, err);
}

bool
sessions_cancel(Conn *control, int pid, Err *err)
{
    AUTO(Text) *text = mem_format("%d", pid);

    return query_run(control, "select pg_catalog.pg_cancel_backend($1::pg_catalog.int4)",
                     (const char *const[]){text, NULL}, NULL, err);
}

bool
sessions_with_old_snapshots(Conn *control, const SnapshotLimit *limit, Rows **rows, Err *err)
{
    AUTO(Text) *age = mem_format("%lld", (long long)limit->age_us);

    return query_run(control, SQL_OLD_SNAPSHOTS,
                     (const char *const[]){limit->copied_xid,
                                           limit->fresh_xid == NULL ? "" : limit->fresh_xid, age,
                                           NULL},
                     rows, err);
}

bool
sessions_read_xid(Conn *control, char **xid, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_simple(control,
                      "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())", &rows,
                      err))
        return false;
    mem_set_text(xid, rows_text(rows, 0, 0));
    return true;
}
