/* The locks of the swap; see locks.h. */
#include "phase/locks.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/apply.h"
#include "phase/sessions.h"

/*
 * Autovacuum gives way to who waits for deadlock_timeout (1 s by default); so long and a bit more we
 * wait for the lock that blocks no reads and no writes.
 */
static const int64_t PATIENT_EXTRA_MS = 2000;
static const int64_t PATIENT_LOOK_US = 300000;
/* So soon we look whether somebody waits for us and we for them: no patience helps then. */
static const int64_t CROSSING_LOOK_US = 10000;
/* The server ends a session of ours that keeps its lock and says nothing for so much longer. */
static const int64_t SILENCE_MS = 2000;

/*
 * LOCK TABLE on a view goes on to all the tables that the view reads, and does not know matviews; an
 * ALTER that gives a view to its owner changes nothing and locks nothing but the view.  Autovacuum
 * analyzes matviews, and gives way to COMMENT as it does to LOCK TABLE.
 * $1 = quoted name.
 */
static const char SQL_LOCK_VIEW[] =
    "select c.oid, pg_catalog.format('alter %s %s owner to %I', k.what, $1::text,"
    "         pg_catalog.pg_get_userbyid(c.relowner)),"
    "       case c.relkind when 'm' then pg_catalog.format('comment on %s %s is %s', k.what, "
    "$1::text,"
    "         pg_catalog.quote_nullable(pg_catalog.obj_description(c.oid, 'pg_class'))) end"
    "  from pg_catalog.pg_class c, lateral (select case c.relkind when 'm' then 'materialized view'"
    "         else 'view' end) k (what)"
    " where c.oid = $1::text::pg_catalog.regclass";

/*
 * The sequences that belong to columns of table $1.  Whoever draws a number without asking the table
 * holds a lock on the sequence until his transaction ends; and a number drawn while the new table's
 * sequence takes over would be drawn twice.
 */
static const char SQL_LOCK_SEQUENCES[] =
    "select s.oid, pg_catalog.format('%I.%I', n.nspname, s.relname),"
    "       pg_catalog.format('alter sequence %I.%I owner to %I', n.nspname, s.relname,"
    "         pg_catalog.pg_get_userbyid(s.relowner))"
    "  from pg_catalog.pg_depend d"
    "  join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'"
    "  join pg_catalog.pg_namespace n on n.oid = s.relnamespace"
    " where d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refobjid = $1::pg_catalog.oid and d.deptype in ('a', 'i') order by s.oid";

static const char *
keep(Migration *run, const char *text)
{
    return text == NULL ? NULL : arena_copy(run->arena, text, strlen(text));
}

static LockedTable
new_table(Migration *run, const char *name, uint32_t oid)
{
    AUTO(Text) *patient = sql_build("lock table only %S in share update exclusive mode", name);
    AUTO(Text) *exclusive = sql_build("lock table only %S in access exclusive mode", name);

    return (LockedTable){name, oid, keep(run, patient), keep(run, exclusive)};
}

/* An INSERT locks the table before the sequence; so these come last. */
static bool
add_sequences(Migration *run, Locks *locks, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;
    LockedTable *tables;

    if (!query_run(run->control, SQL_LOCK_SEQUENCES, (const char *const[]){oid, NULL}, &rows, err))
        return err_wrap(err, "reading the sequences of %s", run->original.qualified);
    tables =
        arena_alloc(run->arena, (size_t)(locks->table_count + rows_count(rows)) * sizeof *tables);
    memcpy(tables, locks->tables, (size_t)locks->table_count * sizeof *tables);
    for (int i = 0; i < rows_count(rows); i++)
        tables[locks->table_count++] =
            (LockedTable){keep(run, rows_text(rows, i, 1)), (uint32_t)rows_int(rows, i, 0), NULL,
                          keep(run, rows_text(rows, i, 2))};
    locks->tables = tables;
    return true;
}

/* Who reads through a view locks it before its tables; so they come first. */
static bool
read_views(Migration *run, Locks *locks, Err *err)
{
    const SqlList *views = &run->definition.views;

    for (int i = 0; i < views->count; i++) {
        AUTO(Rows) *rows = NULL;

        if (!query_one(run->control, SQL_LOCK_VIEW, (const char *const[]){views->items[i], NULL},
                       &rows, err))
            return err_wrap(err, "reading view %s", views->items[i]);
        locks->tables[i] =
            (LockedTable){views->items[i], (uint32_t)rows_int(rows, 0, 0),
                          keep(run, rows_text(rows, 0, 2)), keep(run, rows_text(rows, 0, 1))};
    }
    return true;
}

/*
 * To begin with, the original comes between the tables that it references and those that reference
 * it: so most transactions come along.  A partition's parent comes first of all, for whoever asks
 * the parent has it before the partitions; the default partition is the last that he comes to.  So
 * it is with a partitioned original: when it is locked, nobody comes to its partitions through it.
 */
static bool
read_tables(Migration *run, Locks *locks, Err *err)
{
    static const char SQL[] =
        "select $1::pg_catalog.regclass::pg_catalog.oid, exists ("
        "   select from pg_catalog.pg_constraint where contype = 'f'"
        "   and conrelid = $1::pg_catalog.regclass and confrelid = $2::pg_catalog.oid)";
    const SqlList *partners = &run->definition.partners;
    const Partition *partition = &run->definition.partition;
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    int first = run->definition.views.count;
    int last;

    locks->table_count = first + partners->count + 1 + run->branch_count +
                         (partition->parent != NULL) + (partition->sibling != NULL);
    locks->tables = arena_alloc(run->arena, (size_t)locks->table_count * sizeof *locks->tables);
    last = locks->table_count - 1;
    if (partition->parent != NULL)
        locks->tables[first++] = new_table(run, partition->parent, partition->parent_oid);
    if (partition->sibling != NULL)
        locks->tables[last--] = new_table(run, partition->sibling, partition->sibling_oid);
    for (int i = 0; i < partners->count; i++) {
        const char *name = partners->items[i];
        AUTO(Rows) *rows = NULL;

        if (!query_one(run->control, SQL, (const char *const[]){name, oid, NULL}, &rows, err))
            return err_wrap(err, "reading the foreign keys of %s", run->original.qualified);
        locks->tables[rows_bool(rows, 0, 1) ? last-- : first++] =
            new_table(run, name, (uint32_t)rows_int(rows, 0, 0));
    }
    locks->tables[first] = new_table(run, run->original.qualified, run->original.oid);
    for (int i = 0; i < run->branch_count; i++)
        locks->tables[first + 1 + i] =
            new_table(run, run->branches[i].original.qualified, run->branches[i].original.oid);
    return read_views(run, locks, err) && add_sequences(run, locks, err);
}

static void
warn_of_deadlocks(const Migration *run, int64_t deadlock_timeout_ms)
{
    if (run->definition.partners.count > 0 &&
        2 * run->settings->lock_timeout_ms > deadlock_timeout_ms)
        log_warning("--lock-timeout is %lld ms and the server's deadlock_timeout %lld ms: where "
                    "transactions write this table and one that a foreign key ties to it, the "
                    "server may end theirs; half of deadlock_timeout is safe",
                    (long long)run->settings->lock_timeout_ms, (long long)deadlock_timeout_ms);
}

bool
locks_init(Migration *run, Conn *conn, Locks *locks, Err *err)
{
    AUTO(Rows) *rows = NULL;

    *locks = (Locks){.conn = conn, .began_us = clock_now_us()};
    if (!query_simple(run->control,
                      "select setting from pg_catalog.pg_settings where name = 'deadlock_timeout'",
                      &rows, err))
        return false;
    locks->patient_ms = rows_int(rows, 0, 0) + PATIENT_EXTRA_MS;
    warn_of_deadlocks(run, rows_int(rows, 0, 0));
    return read_tables(run, locks, err);
}

void
locks_done(Locks *locks)
{
    free(locks->in_the_way);
}

/*
 * Remember who is in the way, and end those who may be ended when it is time for that: attempts have
 * failed for --wait-time-for-lock, and so long is their transaction open.
 */
static bool
note_who_is_in_the_way(Migration *run, Locks *locks, const Rows *rows, Err *err)
{
    const Settings *settings = run->settings;
    int64_t waited_us = clock_now_us() - locks->began_us;

    free(locks->in_the_way);
    locks->in_the_way = sessions_list(rows);
    return !settings->kill_backends || waited_us < settings->wait_time_for_lock_s * 1000000 ||
           sessions_end(run->control, rows, err);
}

/* While the lock is waited for. */
static bool
look_who_is_in_the_way(Migration *run, Locks *locks, Err *err)
{
    AUTO(Rows) *rows = NULL;

    return sessions_in_the_way(run->control, conn_pid(locks->conn),
                               run->settings->wait_time_for_lock_s, &rows, err) &&
           note_who_is_in_the_way(run, locks, rows, err);
}

/*
 * Who reads the shadow, or what hangs on it, would be in the way of the swap.  Its lock cannot be
 * taken beforehand, for changes are applied to it until the last moment; but nobody of the
 * application uses it, so to look is enough.
 */
static bool
check_shadow_is_free(Migration *run, Locks *locks, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!sessions_using_schema(run->control, run->names.shadow_schema,
                               run->settings->wait_time_for_lock_s, &rows, err))
        return err_wrap(err, "looking who uses the shadow table");
    if (rows_count(rows) == 0)
        return true;
    if (!note_who_is_in_the_way(run, locks, rows, err))
        return false;
    return err_set(err, ERR_RETRY, "the shadow table %s is in use; in the way of the lock: %s",
                   run->shadow_qualified, locks->in_the_way);
}

/*
 * Wait for the cutover's session, until `until_us` at most.  With `apply` changes are applied
 * meanwhile; without it they are only received, because the answer may be the lock, and then every
 * moment counts.
 */
static bool
wait_for_answer(Migration *run, const Locks *locks, int64_t until_us, bool apply, Err *err)
{
    if (apply)
        return apply_meanwhile(run->apply, locks->conn, until_us, err);
    return query_wait(locks->conn, until_us, err);
}

typedef struct LockStep {
    int64_t look_us;    /* when to look who is in the way */
    int64_t timeout_ms; /* the server's lock_timeout, for the message */
    bool apply;
} LockStep;

/*
 * Wait for one statement of the lock sequence, which is under way.  ERR_RETRY when the lock is not
 * granted in time; the session has then read its answer and can roll back.
 */
static bool
wait_for_lock(Migration *run, Locks *locks, const LockStep *step, Err *err)
{
    Conn *conn = locks->conn;

    if (!wait_for_answer(run, locks, clock_now_us() + step->look_us, step->apply, err) ||
        (!query_is_done(conn) && !look_who_is_in_the_way(run, locks, err)) ||
        !wait_for_answer(run, locks, INT64_MAX, step->apply, err))
        return false;
    if (query_finish(conn, NULL, err))
        return true;
    if (err->kind == ERR_RETRY) {
        const char *who = locks->in_the_way;

        err_clear(err);
        err_set(err, ERR_RETRY, "not granted within %lld ms%s%s", (long long)step->timeout_ms,
                who == NULL || who[0] == '\0' ? "" : "; in the way of the lock: ",
                who == NULL ? "" : who);
    }
    return false;
}

/*
 * The lock that only vacuum and DDL notice, patiently, on all the tables: who waits so long makes
 * autovacuum give way, which a short timeout alone never does.
 *
 * The server ends the session when it hears nothing of us: were we stopped or cut off while we hold
 * the exclusive locks, everybody would wait.
 */
static bool
take_patient_locks(Migration *run, Locks *locks, Err *err)
{
    AUTO(Text) *begin = sql_build(
        "begin; set local idle_in_transaction_session_timeout to %D; set local lock_timeout to %D",
        run->settings->lock_hold_ms + SILENCE_MS, locks->patient_ms);

    if (!query_exec(locks->conn, begin, err))
        return false;
    for (int i = 0; i < locks->table_count; i++) {
        const LockedTable *table = &locks->tables[i];
        const LockStep step = {
            .look_us = PATIENT_LOOK_US, .timeout_ms = locks->patient_ms, .apply = true};

        if (table->patient == NULL)
            continue;
        if (!query_send(locks->conn, table->patient, err) || !wait_for_lock(run, locks, &step, err))
            return err_wrap(err, "lock that keeps VACUUM and DDL off %s", table->name);
    }
    return true;
}

/*
 * While the lock on tables[place] is waited for: transactions that write several of the tables may
 * have this one and wait for another one, which we have.  They write them in this order, so from now
 * on it is ours.  *found = the earliest such table.
 */
static bool
find_crossing(Migration *run, const Locks *locks, int place, int *found, Err *err)
{
    AUTO(Rows) *rows = NULL;

    *found = place;
    if (!sessions_crossing(run->control, conn_pid(locks->conn), &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        for (int k = 0; k < *found; k++)
            if (locks->tables[k].oid == (uint32_t)rows_int(rows, i, 0))
                *found = k;
    return true;
}

static void
move_before(Locks *locks, int place, int before)
{
    LockedTable moved = locks->tables[place];

    memmove(&locks->tables[before + 1], &locks->tables[before],
            (size_t)(place - before) * sizeof moved);
    locks->tables[before] = moved;
}

/* Wait a little for the lock on tables[place]; ends the waiting where it is of no use. */
static bool
look_for_crossing(Migration *run, const Locks *locks, int place, int *before, Err *err)
{
    *before = place;
    return wait_for_answer(run, locks, clock_now_us() + CROSSING_LOOK_US, false, err) &&
           (query_is_done(locks->conn) || find_crossing(run, locks, place, before, err)) &&
           (*before == place || sessions_cancel(run->control, conn_pid(locks->conn), err));
}

static bool
lock_exclusively(Migration *run, Locks *locks, int place, int64_t timeout_ms, Err *err)
{
    AUTO(Text) *sql =
        sql_build("set local lock_timeout to %D; %S", timeout_ms, locks->tables[place].exclusive);
    const LockStep step = {.look_us = timeout_ms * 500, .timeout_ms = timeout_ms};
    int before = place;

    if (!query_send(locks->conn, sql, err) ||
        (place > 0 && !look_for_crossing(run, locks, place, &before, err)))
        return false;
    FAULT_POINT("cutover.lock_requested");
    if (wait_for_lock(run, locks, &step, err))
        return true;
    if (before < place && err_is_canceled(err)) {
        err_clear(err);
        err_set(err, ERR_RETRY, "transactions write it before %s; so it is locked before that now",
                locks->tables[before].name);
        move_before(locks, place, before);
    }
    return false;
}

static bool
take_exclusive_lock(Migration *run, Locks *locks, int place, int64_t timeout_ms, Err *err)
{
    const char *table = locks->tables[place].name;
    int64_t asked_us = clock_now_us();
    bool granted = lock_exclusively(run, locks, place, timeout_ms, err);

    run->counters.lock_wait_us += clock_now_us() - asked_us;
    return granted || err_wrap(err, "exclusive lock on %s", table);
}

/*
 * The exclusive locks: the first one within a pulse, the others together within one more.  Never
 * through a mode in between: that upgrade deadlocks with readers who then write.
 *
 * Transactions that are between their first and their second table stand in the way of whoever
 * locks these in the other order, and a busy application has some at any moment: see
 * find_crossing.
 */
static bool
take_exclusive_locks(Migration *run, Locks *locks, Err *err)
{
    int64_t timeout_ms = run->settings->lock_timeout_ms;
    int64_t until_us = 0;

    for (int i = 0; i < locks->table_count; i++) {
        if (i > 0)
            timeout_ms = (until_us - clock_now_us()) / 1000;
        if (!take_exclusive_lock(run, locks, i, timeout_ms > 0 ? timeout_ms : 1, err))
            return false;
        if (i > 0)
            continue;
        locks->granted_us = clock_now_us();
        until_us = locks->granted_us + timeout_ms * 1000;
    }
    return true;
}

bool
locks_take(Migration *run, Locks *locks, Err *err)
{
    AUTO(Text) *limit = sql_build("set local statement_timeout to %D; set local lock_timeout to %D",
                                  run->settings->lock_hold_ms, run->settings->lock_timeout_ms);

    mem_set_text(&locks->in_the_way, "");
    return take_patient_locks(run, locks, err) && check_shadow_is_free(run, locks, err) &&
           take_exclusive_locks(run, locks, err) && query_exec(locks->conn, limit, err);
}
