/*
 * Phase "preflight": everything that can be known before anything is created.  Reads only.
 */
#include <string.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/log.h"
#include "ctl/orphans.h"
#include "ctl/progress.h"
#include "pg/dependents.h"
#include "pg/sql.h"
#include "pg/tree.h"
#include "phase/checks.h"
#include "phase/identity.h"
#include "phase/migration.h"
#include "phase/others.h"
#include "phase/resume.h"
#include "phase/spool.h"
#include "phase/tree.h"
#include "phase/walguard.h"

/* Control, keeper, apply, and one to clean up, beside the copy's pairs; the stream is a WAL sender. */
enum { FIXED_CONNECTIONS = 4 };

/* A pooler hands a session's statements to any of its server sessions. */
static bool
check_direct(Migration *run, Err *err)
{
    for (int i = 0; i < 2; i++) {
        AUTO(Rows) *rows = NULL;

        if (!query_simple(run->control, "select pg_catalog.pg_backend_pid()", &rows, err))
            return false;
        if (rows_int(rows, 0, 0) == conn_pid(run->control))
            continue;
        err_set(err, ERR_REFUSED, "the connection goes through a connection pooler");
        return err_hint(err, "Connect to the server directly: locks, snapshots and replication "
                             "need sessions of their own.");
    }
    return true;
}

/* What the operator has agreed to, as the checks read it. */
static void
add_consents(const Settings *settings, Buf *consents)
{
    if (settings->allow_all_tables_publication)
        buf_add_text(consents, "all-tables-publication ");
    if (settings->set_replica_identity)
        buf_add_text(consents, "set-replica-identity ");
}

/*
 * Once the run is under way the first objection is the end of it, and for the caller to tell; but an
 * index that is being built CONCURRENTLY is invalid for a while, and waits for our own snapshot.
 */
static bool
object_late(const Check *check, const Rows *rows, Err *err)
{
    bool passes = strcmp(check->name, "invalid_index") == 0;

    err_set(err, passes ? ERR_RETRY : ERR_REFUSED, "%s", rows_text(rows, 0, 0));
    return err_hint(err, "%s", rows_text(rows, 0, 1));
}

/* All objections are logged, in their order; the first one becomes the error. */
static bool
run_checks(Migration *run, const Check *checks, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    BUF_AUTO(consents);
    AUTO(Text) *connections = mem_format("%d", FIXED_CONNECTIONS + 2 * others_most_jobs(run));
    const char *params[] = {oid, connections,
                            run->settings->plugin == PLUGIN_PGOUTPUT ? "pgoutput" : "wal2json",
                            NULL, NULL};
    int objections = 0;

    add_consents(run->settings, &consents);
    params[3] = buf_text(&consents);
    for (int i = 0; checks[i].name != NULL; i++) {
        AUTO(Rows) *rows = NULL;

        if (!query_run(run->control, checks[i].sql, params, &rows, err))
            return err_wrap(err, "checking %s", checks[i].name);
        if (run->started && rows_count(rows) > 0)
            return object_late(&checks[i], rows, err);
        for (int row = 0; row < rows_count(rows); row++) {
            Err objection = {0};

            err_set(&objection, ERR_REFUSED, "%s", rows_text(rows, row, 0));
            err_hint(&objection, "%s", rows_text(rows, row, 1));
            log_error(&objection);
            if (objections++ == 0)
                *err = objection;
        }
    }
    err->told = objections > 0;
    return objections == 0;
}

/* A name that was misspelt must not fall through to what the search_path finds. */
static bool
check_schema(Migration *run, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!run->settings->schema_given)
        return true;
    if (!query_run(run->control, "select 1 from pg_catalog.pg_namespace where nspname = $1",
                   (const char *const[]){run->settings->schema, NULL}, &rows, err))
        return err_wrap(err, "looking for schema \"%s\"", run->settings->schema);
    return rows_count(rows) > 0 ||
           err_set(err, ERR_REFUSED, "schema \"%s\", which --schema names, does not exist",
                   run->settings->schema);
}

/*
 * What the statement calls the table, as SQL.  Where neither the statement nor the command line names
 * a schema it is for the search_path to find.
 */
static char *
table_name(const Migration *run)
{
    const char *schema = run->ddl.schema;

    if (schema == NULL && run->settings->schema_given)
        schema = run->settings->schema;
    return schema == NULL ? sql_build("%I", run->ddl.table)
                          : sql_build("%I.%I", schema, run->ddl.table);
}

/* A table in a schema that the role may not use is not found, or not by a name that says where. */
static bool
check_usage(const Migration *run, Err *err)
{
    static const char SQL[] =
        "select case c.relpersistence"
        "         when 't' then pg_catalog.format('%I.%I is temporary and leaves nothing in the WAL"
        " to follow', n.nspname, c.relname)"
        "         else pg_catalog.format('role %I may not use schema %I, where the table is',"
        "           current_user, n.nspname) end,"
        "       case c.relpersistence"
        "         when 't' then 'Use plain ALTER TABLE in the session that has it.'"
        "         else pg_catalog.concat_ws(' ',"
        "         case when not pg_catalog.has_schema_privilege(o.oid, n.oid, 'usage')"
        "              then pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname,"
        "                o.rolname) end,"
        "         case when not pg_catalog.pg_has_role(o.oid, 'usage')"
        "              then pg_catalog.format('Connect as %I, or GRANT %I TO %I;', o.rolname,"
        "                o.rolname, current_user) end) end"
        "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        "  join pg_catalog.pg_roles o on o.oid = c.relowner"
        " where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')"
        "   and not pg_catalog.has_schema_privilege(n.oid, 'usage')";
    const char *schema = run->ddl.schema == NULL ? run->settings->schema : run->ddl.schema;
    AUTO(Rows) *rows = NULL;

    if (!query_run(run->control, SQL, (const char *const[]){schema, run->ddl.table, NULL}, &rows,
                   err))
        return err_wrap(err, "looking for schema \"%s\"", schema);
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_REFUSED, "%s", rows_text(rows, 0, 0));
    return err_hint(err, "%s", rows_text(rows, 0, 1));
}

static bool
no_such_table(const Migration *run, const char *name, const char *path, Err *err)
{
    if (!check_usage(run, err))
        return false;
    err_set(err, ERR_REFUSED, "table %s does not exist", name);
    if (run->settings->schema_given && run->ddl.schema == NULL)
        return err_hint(err, "It was looked for in schema \"%s\" only, which --schema names.",
                        run->settings->schema);
    return err_hint(err, "It was looked for in schema \"%s\" and in the search_path %s.",
                    run->settings->schema, path);
}

/* Find the table as psql would: --schema alone where it was given, else public and then the role's
 * own search_path. */
static bool
find_table(Migration *run, Err *err)
{
    const char *path = conn_role_search_path(run->control);
    AUTO(Text) *sql = sql_build("begin; set local search_path to %I, %S", run->settings->schema,
                                path[0] == '\0' ? "pg_catalog" : path);
    AUTO(Text) *name = table_name(run);
    AUTO(Rows) *rows = NULL;

    if (!check_schema(run, err))
        return false;
    if ((run->ddl.schema != NULL || run->settings->schema_given) && !check_usage(run, err))
        return false;
    if (!query_exec(run->control, sql, err) ||
        !query_one(run->control,
                   "select coalesce(r.oid, 0), coalesce((select relkind = 'p'"
                   "         from pg_catalog.pg_class c where c.oid = r.oid), false)"
                   "  from (select pg_catalog.to_regclass($1)::pg_catalog.oid) r (oid)",
                   (const char *const[]){name, NULL}, &rows, err) ||
        !query_exec(run->control, "rollback", err))
        return err_wrap(err, "looking for table %s", name);
    run->original.oid = (uint32_t)rows_int(rows, 0, 0);
    run->is_parent = rows_bool(rows, 0, 1);
    return run->original.oid != 0 || no_such_table(run, name, path, err);
}

/* A slot that nobody reads keeps WAL until the disk is full; who made it may not know any more. */
static bool
warn_of_orphans(Migration *run, Err *err)
{
    RunRecord *runs;
    int count;

    if (!orphans_list(run->control, run->arena, &runs, &count, err))
        return false;
    for (int i = 0; i < count; i++)
        if (!runs[i].alive)
            log_warning("run %s has left something, perhaps a slot that holds back WAL, and its "
                        "record is gone: walter cleanup shows and removes it",
                        runs[i].names.run);
    return true;
}

static bool
check_actions(const Migration *run, Err *err)
{
    for (int i = 0; i < run->ddl.statement_count; i++)
        for (int j = 0; j < run->ddl.statements[i].action_count; j++)
            if (run->ddl.statements[i].actions[j].kind == ACTION_SET_UNLOGGED) {
                err_set(err, ERR_REFUSED, "SET UNLOGGED cannot be done online");
                return err_hint(err, "An unlogged shadow would be lost in a crash; use plain ALTER "
                                     "TABLE.");
            }
    return true;
}

/* What the role may do; less than everything is worth a word where somebody will look for it. */
static bool
read_role(Migration *run, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_one(run->control,
                   "select rolsuper, pg_catalog.pg_has_role('pg_read_all_stats', 'usage'),"
                   "       pg_catalog.pg_has_role('pg_signal_backend', 'usage'),"
                   "       pg_catalog.quote_ident(rolname)"
                   "  from pg_catalog.pg_roles where rolname = current_user",
                   NULL, &rows, err))
        return false;
    run->is_superuser = rows_bool(rows, 0, 0);
    /* whoever goes on in new connections has said so */
    if (run->lost_us != 0)
        return true;
    if (!run->is_superuser && !rows_bool(rows, 0, 1))
        log_info("what other roles' sessions do is hidden from role %s, so REPEATABLE READ "
                 "transactions of theirs that are open at the swap are not waited for, and "
                 "sessions in the way are not described: GRANT pg_read_all_stats TO %s;",
                 rows_text(rows, 0, 3), rows_text(rows, 0, 3));
    if (run->settings->kill_backends && !run->is_superuser && !rows_bool(rows, 0, 2))
        log_warning("--kill-backends can only end role %s's own sessions; for the others: GRANT "
                    "pg_signal_backend TO %s;",
                    rows_text(rows, 0, 3), rows_text(rows, 0, 3));
    return true;
}

/* Each table is locked and moved by itself: measured, 1 ms with an index or two, 1.6 ms with four. */
enum { SWAP_US_PER_BRANCH = 1600 };

static void
warn_of_many_branches(const Migration *run)
{
    int64_t swap_ms = (int64_t)run->branch_count * SWAP_US_PER_BRANCH / 1000;

    if (swap_ms > run->settings->lock_hold_ms / 2)
        log_warning("the swap of %d partitions may hold the lock for %lld ms, and --lock-hold is "
                    "%lld ms: give it more, or it may be given up again and again",
                    run->branch_count, (long long)swap_ms, (long long)run->settings->lock_hold_ms);
}

/* What the run will cost, and what may stop it. */
static bool
show_estimate(Migration *run, Err *err)
{
    /* the server keeps wal_keep_size in any case */
    static const char SQL[] =
        "select s.bytes, case when k.slot >= 0 then greatest(k.slot, k.all_of_it) end"
        "  from (select pg_catalog.sum(pg_catalog.pg_total_relation_size(c.oid))::bigint as bytes"
        "          from pg_catalog.pg_class c where c.oid in " TREE_OIDS ") s,"
        "       (select pg_catalog.pg_size_bytes("
        "                 pg_catalog.current_setting('max_slot_wal_keep_size')) as slot,"
        "               pg_catalog.pg_size_bytes("
        "                 pg_catalog.current_setting('wal_keep_size')) as all_of_it) k";
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(size);

    if (!query_one(run->control, SQL, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    progress_add_bytes(rows_int(rows, 0, 0), &size);
    log_info("table %s, %s with its indexes: needs about as much disk again, and WAL",
             run->original.qualified, buf_text(&size));
    walguard_plan(run, rows_int(rows, 0, 0),
                  rows_text(rows, 0, 1) == NULL ? WALBUDGET_NONE : rows_int(rows, 0, 1));
    warn_of_many_branches(run);
    return true;
}

bool
preflight_check_table(Migration *run, Err *err)
{
    return (!run->is_parent || run_checks(run, CHECKS_TREE, err)) &&
           run_checks(run, CHECKS_TABLE, err) && run_checks(run, CHECKS_PARTITION, err);
}

bool
preflight_read_table(Migration *run, Err *err)
{
    return preflight_check_table(run, err) &&
           catalog_read_table(run->control, run->original.oid, run->arena, &run->original, err) &&
           identity_choose(run, err) && tree_read(run, err) &&
           catalog_read_digest(run->control, run->original.oid, &run->original_digest, err) &&
           catalog_read_body(run->control, run->original.oid, &run->original_body, err) &&
           catalog_read_column_rows(run->control, run->original.oid, &run->original_column_rows,
                                    err) &&
           catalog_read_files(run->control, run->original.oid, &run->original_files, err);
}

/* pgoutput sends what a publication lists; the others send whatever is written, the shadow as well. */
static bool
warn_of_other_slots(Migration *run, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.string_agg(pg_catalog.format('%I (%s)', slot_name, plugin), ', ' order "
        "by slot_name)"
        "  from pg_catalog.pg_replication_slots"
        " where database = pg_catalog.current_database() and plugin <> 'pgoutput'"
        "   and slot_name !~ '^walter_[0-9a-f]{8}$'";
    AUTO(Rows) *rows = NULL;

    if (!query_one(run->control, SQL, NULL, &rows, err))
        return false;
    if (rows_text(rows, 0, 0) != NULL)
        log_warning("whoever reads these replication slots may be sent walter's own tables, the "
                    "new table's copied rows among them, unless he asks for tables by name: %s",
                    rows_text(rows, 0, 0));
    return true;
}

/*
 * With the lock on the table that was found, no other run swaps it.  One that was at work when we came
 * may have done so before: then the oid is the old table's.
 */
static bool
lock_table(Migration *run, Err *err)
{
    AUTO(Text) *name = table_name(run);
    uint32_t found = run->original.oid;

    if (!state_lock_table(run->control, found, err) || !find_table(run, err))
        return false;
    if (run->original.oid == found)
        return true;
    err_set(err, ERR_REFUSED, "table %s was replaced just now, by another run it seems", name);
    return err_hint(err, "Look at the table, and run the command again if it is still wanted.");
}

static bool
check_task(Migration *run, Err *err)
{
    return warn_of_orphans(run, err) && warn_of_other_slots(run, err) && lock_table(run, err) &&
           preflight_read_table(run, err) && check_actions(run, err) && show_estimate(run, err);
}

static bool
check_all(Migration *run, Err *err)
{
    return migration_limit_lock_waits(run->control, err) && check_direct(run, err) &&
           read_role(run, err) && find_table(run, err) && run_checks(run, CHECKS_SERVER, err) &&
           run_checks(run, CHECKS_FIRST, err) && resume_find(run, &run->is_finished, err) &&
           (run->is_finished || check_task(run, err));
}

/* Our lock was not granted: somebody changes the table just now, or one that a view on it reads. */
static bool
say_who_locks(Migration *run, Err *err)
{
    static const char SQL[] = WITH_DEPENDENTS
        ", read as ("
        "  select $1::pg_catalog.oid as oid"
        "  union select d.refobjid from (select objid from touched union all select r.oid"
        "      from renewed n join pg_catalog.pg_rewrite r on r.ev_class = n.objid) x cross join "
        "ids i"
        "    join pg_catalog.pg_depend d on d.objid = x.objid and d.classid in (i.rule, i.pol, "
        "i.proc)"
        "     and d.refclassid = i.rel"
        ")"
        "select coalesce(pg_catalog.string_agg(distinct pg_catalog.format('pid %s, user %s,', "
        "l.pid,"
        "         a.usename), ' '), 'another session'), coalesce(pg_catalog.string_agg(distinct"
        "         pg_catalog.format('%I.%I', s.nspname, c.relname), ', '), 'the table')"
        "  from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid"
        "  join pg_catalog.pg_class c on c.oid = l.relation"
        "  join pg_catalog.pg_namespace s on s.oid = c.relnamespace"
        " where l.relation in (select oid from read) and l.granted"
        "   and l.mode = 'AccessExclusiveLock'"
        "   and l.database = (select oid from pg_catalog.pg_database"
        "                      where datname = pg_catalog.current_database())";
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    err_clear(err);
    query_rollback(run->control);
    if (!query_one(run->control, SQL, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    err_set(err, ERR_REFUSED,
            "%s keeps a lock on %s that forbids even reading the definition of %s",
            rows_text(rows, 0, 0), rows_text(rows, 0, 1), run->original.qualified);
    return err_hint(err, "Try again when its ALTER TABLE, VACUUM FULL or the like is over.");
}

/* The operator's own choice must do; where he made none, there is a way without. */
static bool
open_spool(Migration *run, Err *err)
{
    const Settings *settings = run->settings;
    bool chosen = settings->spool_dir != NULL;

    if (settings->spool_limit == 0)
        return true;
    run->spool =
        spool_open(chosen ? settings->spool_dir : spool_default_dir(), settings->spool_limit, err);
    if (run->spool != NULL || chosen)
        return run->spool != NULL;
    log_warning("%s; changes that have no room in memory will wait on the server (see --spool-dir)",
                err->message);
    err_clear(err);
    return true;
}

bool
preflight_run(Migration *run, Err *err)
{
    const char *run_id;

    if (!ddl_parse(run->settings->statement, run->arena, &run->ddl, err))
        return false;
    run->control = conn_open(run->loop, &run->target, CONN_SQL, "control", err);
    if (run->control == NULL)
        return false;
    run->control_pid = conn_pid(run->control);
    if (!catalog_prefer_indexes(run->control, err))
        return false;
    if (!check_all(run, err))
        return err->kind == ERR_RETRY ? say_who_locks(run, err) : false;
    if (run->is_finished)
        return true;
    if (!open_spool(run, err))
        return false;
    if (run->record != NULL)
        return true;
    if (!state_new_run(run->control, run->arena, &run_id, err))
        return false;
    run->names = state_names(run_id, run->arena);
    FAULT_POINT("preflight.done");
    return true;
}
