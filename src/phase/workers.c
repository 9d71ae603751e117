/* Sessions that help apply; see workers.h. */
#include "phase/workers.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "pg/sql.h"

/* A part that is smaller than this is not worth a round of statements. */
enum { PART_MIN = 500 };

typedef struct Worker {
    Conn *conn;
    Stage *stage;
    bool has_part;
} Worker;

struct Workers {
    Migration *run;
    RowKey key;
    Worker *items; /* beside apply's own session, which is number 0 */
    int count;
    bool busy;
    bool told; /* that nothing is divided */
};

static bool
open_worker(Migration *run, Worker *worker, Err *err)
{
    worker->conn = migration_connect_owner(run, run->binary_stream ? CONN_EXPRESSIONS : CONN_SQL,
                                           "apply", err);
    if (worker->conn == NULL)
        return false;
    worker->stage = stage_open(run, worker->conn, err);
    return worker->stage != NULL && migration_limit_lock_waits(worker->conn, err);
}

static void
close_worker(Worker *worker)
{
    stage_free(worker->stage);
    conn_close(worker->conn);
    *worker = (Worker){0};
}

static bool
is_integer(const Column *column)
{
    return strcmp(column->base_type, "smallint") == 0 ||
           strcmp(column->base_type, "integer") == 0 || strcmp(column->base_type, "bigint") == 0;
}

/*
 * Are different keys different in the shadow, too?  Where two of them may become one, a row of one
 * session may have to wait for a row of another.
 */
static bool
keeps_keys_apart(const Migration *run)
{
    for (int i = 0; i < run->ddl.statement_count; i++)
        for (int j = 0; j < run->ddl.statements[i].action_count; j++)
            if (run->ddl.statements[i].actions[j].kind == ACTION_ALTER_TYPE &&
                run->ddl.statements[i].actions[j].expression != NULL)
                return false;
    for (int i = 0; i < run->original.key_count; i++) {
        const Column *before = &run->original.columns[run->original.key[i]];
        const Column *after = &run->shadow.columns[run->shadow_key[i]];

        if (!before->byte_equal ||
            (strcmp(before->type, after->type) != 0 && !(is_integer(before) && is_integer(after))))
            return false;
    }
    return true;
}

/* Rows of several leaves, or such as a copy statement leaves out, are for one session. */
static bool
is_of_use(const Migration *run)
{
    return !run->is_parent && !run->projection.is_copy_statement && keeps_keys_apart(run);
}

Workers *
workers_open(Migration *run)
{
    int wanted = run->position_count - 1;
    Workers *workers;

    if (wanted == 0)
        return NULL;
    if (!is_of_use(run)) {
        log_info(
            "changes of %s are applied by one session: partitions, a copy statement, USING and "
            "keys that change their type are not divided",
            run->original.qualified);
        return NULL;
    }
    workers = mem_new(1, sizeof *workers);
    workers->run = run;
    workers->key = (RowKey){run->original.key, run->original.key_count, run->original.column_count};
    workers->items = mem_new((size_t)wanted, sizeof *workers->items);
    for (; workers->count < wanted; workers->count++) {
        Err err = {0};

        if (open_worker(run, &workers->items[workers->count], &err))
            continue;
        log_warning("applying with one session instead of %d: %s", wanted + 1, err.message);
        workers->count++;
        workers_close(workers);
        return NULL;
    }
    return workers;
}

void
workers_close(Workers *workers)
{
    if (workers == NULL)
        return;
    for (int i = 0; i < workers->count; i++)
        close_worker(&workers->items[i]);
    free(workers->items);
    free(workers);
}

/*
 * Is there something by which two rows with different keys may clash?  A unique index on the very
 * columns of the identity is none.
 */
static bool
may_clash(Workers *workers, bool *clash, Err *err)
{
    static const char SQL[] =
        "select exists (select from pg_catalog.pg_index i"
        "   where i.indrelid = $1::text::pg_catalog.oid and (i.indisunique or i.indisexclusion)"
        "     and (i.indexprs is not null or i.indisexclusion or i.indpred is not null"
        "       or array(select k from pg_catalog.unnest(i.indkey::int2[]) with ordinality u (k, n)"
        "                 where n <= i.indnkeyatts order by k)"
        "          <> array(select k from pg_catalog.unnest($2::text::int2[]) k order by k)))";
    const Migration *run = workers->run;
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(key);

    for (int i = 0; i < run->original.key_count; i++)
        buf_printf(&key, "%s%d", i == 0 ? "{" : ",",
                   run->shadow.columns[run->shadow_key[i]].attnum);
    buf_add_text(&key, "}");
    if (!query_one(run->control, SQL, (const char *const[]){oid, buf_text(&key), NULL}, &rows, err))
        return err_wrap(err, "looking for unique constraints");
    *clash = rows_bool(rows, 0, 0);
    return true;
}

bool
workers_may_divide(Workers *workers, int count, bool *may, Err *err)
{
    bool clash = true;

    *may = false;
    if (workers == NULL || workers->count == 0 || count < PART_MIN * (workers->count + 1))
        return true;
    /* each time: one may have been made by somebody, and been carried over */
    if (!may_clash(workers, &clash, err))
        return false;
    *may = !clash;
    if (clash && !workers->told)
        log_info("changes of %s are applied by one session, because it has a unique or exclusion "
                 "constraint besides its key",
                 workers->run->original.qualified);
    workers->told = workers->told || clash;
    return true;
}

int
workers_of_row(const Datum *row, const RowKey *key, int count)
{
    uint32_t hash = 2166136261U; /* FNV-1a */

    for (int i = 0; i < key->count; i++) {
        const Datum *datum = &row[key->columns[i]];

        for (uint32_t at = 0; at < datum->len; at++)
            hash = (hash ^ datum->bytes[at]) * 16777619U;
    }
    /* its low bits alone would follow those of the last byte */
    return (int)((hash ^ hash >> 15) % (uint32_t)count);
}

/* Move the operations of one worker from ops[0..*left) into `part`, in their order. */
static int
take_part(const Workers *workers, int number, NetOp *ops, int *left, NetOp *part)
{
    int taken = 0;
    int kept = 0;

    for (int i = 0; i < *left; i++)
        if (workers_of_row(ops[i].row, &workers->key, workers->count + 1) == number)
            part[taken++] = ops[i];
        else
            ops[kept++] = ops[i];
    *left = kept;
    return taken;
}

bool
workers_send(Workers *workers, const StageBatch *batch, NetOp *ops, int count, int *own, Err *err)
{
    NetOp *part = arena_alloc(batch->arena, (size_t)(count + 1) * sizeof *part);

    workers->busy = true;
    *own = count;
    for (int i = 0; i < workers->count; i++) {
        Worker *worker = &workers->items[i];
        int taken = take_part(workers, i + 1, ops, own, part);

        stage_aim(worker->stage, &workers->run->leaves[0]);
        if (!query_exec(worker->conn, "begin", err) ||
            !stage_begin(worker->stage, batch, false, err))
            return false;
        worker->has_part = taken > 0;
        if (taken > 0 && !stage_send(worker->stage, part, taken, err))
            return false;
        part += taken;
    }
    log_debug("%d operations divided among %d sessions, %d for the first", count,
              workers->count + 1, *own);
    return true;
}

bool
workers_collect(Workers *workers, Err *err)
{
    for (int i = 0; i < workers->count; i++) {
        Worker *worker = &workers->items[i];

        if (worker->has_part && !stage_collect(worker->stage, err))
            return false;
        worker->has_part = false;
    }
    return true;
}

bool
workers_commit(Workers *workers, const Position *position, Err *err)
{
    bool ok = true;

    for (int i = 0; ok && i < workers->count; i++) {
        AUTO(Text) *note = state_position_sql(&workers->run->names, i + 1, position);
        AUTO(Text) *sql = sql_build("%S; commit", note);

        ok = query_send(workers->items[i].conn, sql, err);
    }
    for (int i = 0; ok && i < workers->count; i++)
        ok = query_finish(workers->items[i].conn, NULL, err);
    workers->busy = false;
    /* some may have been committed, so the batch cannot be tried once more */
    if (!ok && err->kind != ERR_LOST && err->kind != ERR_STOPPED)
        err->kind = ERR_FAILED;
    return ok;
}

void
workers_undo(Workers *workers)
{
    if (workers == NULL || !workers->busy)
        return;
    for (int i = 0; i < workers->count; i++) {
        query_rollback(workers->items[i].conn);
        workers->items[i].has_part = false;
    }
    workers->busy = false;
}

bool
workers_are_busy(const Workers *workers)
{
    return workers != NULL && workers->busy;
}
