/*
 * Phase "index": all indexes side by side, then the constraints on them, then VACUUM (ANALYZE), so
 * that plans and index-only scans are right from the first second after the swap.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/others.h"
#include "phase/renewal.h"
#include "phase/resume.h"
#include "phase/sessions.h"
#include "phase/walguard.h"

/* So long a statement waits before we say who is in its way, and so long until we say it again. */
static const int64_t LOOK_US = 1000000;
static const int64_t LOOK_AGAIN_US = 10 * INT64_C(1000000);

typedef struct Builder {
    Conn *conn;
    bool busy;
    int workers; /* parallel workers that a build of this session may have */
} Builder;

struct IndexBuild {
    Builder *builders;
    int builder_count;
    SqlList indexes;     /* of the definition's, those that an earlier process has not built */
    SqlList constraints; /* ... and these, in the same way */
    int next_index;      /* in `indexes` */
    int most_workers;    /* of a build that is alone, or of each where that was asked for */
    bool finished;       /* constraints and VACUUM are done */
};

/* Let the session's next builds have so many parallel workers. */
static bool
set_workers(Builder *builder, int workers, Err *err)
{
    AUTO(Text) *sql = sql_build("set max_parallel_maintenance_workers to %D", (int64_t)workers);

    if (workers == builder->workers)
        return true;
    builder->workers = workers;
    return query_exec(builder->conn, sql, err);
}

static bool
set_memory(const Migration *run, Conn *conn, Err *err)
{
    int64_t bytes = run->settings->maintenance_work_mem;
    AUTO(Text) *sql = sql_build("set maintenance_work_mem to %D", bytes / 1024);

    return bytes == 0 || query_exec(conn, sql, err);
}

static bool
open_builder(Migration *run, Builder *builder, Err *err)
{
    builder->conn = migration_connect_owner(run, CONN_SQL, "index", err);
    builder->workers = -1;
    return builder->conn != NULL && set_memory(run, builder->conn, err);
}

/* What was asked for, else what the server is set to: it alone knows its processors. */
static bool
find_workers(Migration *run, Err *err)
{
    IndexBuild *build = run->index;
    AUTO(Rows) *rows = NULL;

    build->most_workers = run->settings->parallel_workers;
    if (build->most_workers >= 0)
        return true;
    if (!query_one(build->builders[0].conn,
                   "select pg_catalog.current_setting('max_parallel_maintenance_workers')", NULL,
                   &rows, err))
        return false;
    build->most_workers = (int)rows_int(rows, 0, 0);
    return true;
}

/* What is to be built; an index that only the copy needed goes first. */
static bool
choose_work(Migration *run, IndexBuild *build, Err *err)
{
    AUTO(Conn) *conn = migration_connect_owner(run, CONN_SQL, "index", err);

    if (conn == NULL || !renewal_drop_index(run, conn, err) ||
        !resume_skip_built(run, conn, &build->indexes, &build->constraints, err))
        return false;
    run->counters.indexes_built = run->definition.indexes.count - build->indexes.count;
    return true;
}

bool
index_enter(Migration *run, Err *err)
{
    IndexBuild *build = mem_new(1, sizeof *build);
    int most = others_most_jobs(run);
    int count;

    run->index = build;
    run->indexes = INDEXES_BUILDING;
    if (!choose_work(run, build, err))
        return false;
    count = build->indexes.count < most ? build->indexes.count : most;
    build->builder_count = count < 1 ? 1 : count;
    build->builders = mem_new((size_t)build->builder_count, sizeof *build->builders);
    for (int i = 0; i < build->builder_count; i++)
        if (!open_builder(run, &build->builders[i], err))
            return false;
    log_info("building %d index%s, %d at a time", build->indexes.count,
             build->indexes.count == 1 ? "" : "es", build->builder_count);
    return find_workers(run, err);
}

void
index_leave(Migration *run)
{
    IndexBuild *build = run->index;

    if (build == NULL)
        return;
    for (int i = 0; i < build->builder_count; i++)
        conn_close(build->builders[i].conn);
    free(build->builders);
    free(build);
    run->index = NULL;
}

/*
 * The workers of a build that begins now.  All builds that go on at once take as many processes as
 * one that is alone; several of them are parallel already.
 */
static int
share_workers(const Migration *run)
{
    const IndexBuild *build = run->index;
    int jobs = others_jobs(run);
    int begun = 1; /* with this one */
    int at_once;

    if (run->settings->parallel_workers >= 0)
        return build->most_workers;
    for (int i = 0; i < build->builder_count; i++)
        begun += build->builders[i].busy ? 1 : 0;
    at_once = begun + build->indexes.count - build->next_index - 1;
    if (at_once > jobs)
        at_once = begun > jobs ? begun : jobs; /* there may be fewer jobs than there were */
    return (build->most_workers + 1) < at_once ? 0 : (build->most_workers + 1) / at_once - 1;
}

static bool
begin_next(Migration *run, Builder *builder, Err *err)
{
    IndexBuild *build = run->index;
    AUTO(Text) *sql = state_built_sql(&run->names, build->indexes.items[build->next_index]);

    if (!set_workers(builder, share_workers(run), err))
        return false;
    build->next_index++;
    builder->busy = true;
    return query_send(builder->conn, sql, err);
}

/* Give the builder something to do, or take what it has done. */
static bool
advance(Migration *run, Builder *builder, Err *err)
{
    IndexBuild *build = run->index;
    const SqlList *indexes = &build->indexes;

    if (builder->busy) {
        FAULT_POINT("index.building");
        if (!query_is_done(builder->conn))
            return true;
        builder->busy = false;
        if (!query_finish(builder->conn, NULL, err))
            return err_wrap(err, "building an index");
        run->counters.indexes_built++;
    }
    if (build->next_index == indexes->count || builder - build->builders >= others_jobs(run))
        return true;
    return begin_next(run, builder, err);
}

/* Run it; where somebody keeps it from its lock, say who, and go on waiting. */
static bool
run_watched(Migration *run, Conn *conn, const char *sql, Err *err)
{
    int64_t look_us = clock_now_us() + LOOK_US;

    if (!query_send(conn, sql, err))
        return false;
    FAULT_POINT("index.statement_sent");
    while (!query_is_done(conn)) {
        AUTO(Rows) *rows = NULL;
        AUTO(Text) *list = NULL;

        if (!query_wait(conn, clock_now_us() + LOOK_US, err) || !walguard_look(run, err) ||
            !migration_check_others(run, err))
            return false;
        if (query_is_done(conn) || clock_now_us() < look_us)
            continue;
        if (!sessions_in_the_way(run->control, conn_pid(conn), 0, &rows, err))
            return false;
        list = sessions_list(rows);
        if (rows_count(rows) > 0)
            log_info("waiting for a lock on the shadow table %s; in the way: %s",
                     run->shadow_qualified, list);
        look_us = clock_now_us() + (rows_count(rows) > 0 ? LOOK_AGAIN_US : LOOK_US);
    }
    return query_finish(conn, NULL, err);
}

/* A run that goes on in a later phase has done all this. */
static bool
is_vacuumed(const Migration *run)
{
    return run->record != NULL && strcmp(run->record->phase, "index") != 0 && run->copy_is_done &&
           run->index->indexes.count == 0 && run->index->constraints.count == 0;
}

/* Constraints take their ready-built indexes; they lock the shadow, so they come one by one. */
static bool
finish(Migration *run, Err *err)
{
    Conn *conn = run->index->builders[0].conn;
    AUTO(Text) *vacuum = sql_build("vacuum (analyze) %S", run->shadow_qualified);

    FAULT_POINT("index.built");
    if (!set_workers(&run->index->builders[0], run->index->most_workers, err))
        return false;
    for (int i = 0; i < run->index->constraints.count; i++) {
        AUTO(Text) *sql = state_built_sql(&run->names, run->index->constraints.items[i]);

        if (!run_watched(run, conn, sql, err))
            return err_wrap(err, "adding a constraint");
    }
    for (int i = 0; i < run->definition.marks.count; i++)
        if (!run_watched(run, conn, run->definition.marks.items[i], err))
            return err_wrap(err, "describing an index");
    FAULT_POINT("index.constrained");
    if (!is_vacuumed(run) && !run_watched(run, conn, vacuum, err))
        return err_wrap(err, "vacuuming the shadow table");
    FAULT_POINT("index.done");
    run->index->finished = true;
    run->indexes = INDEXES_BUILT;
    return true;
}

Step
index_step(Migration *run, Err *err)
{
    IndexBuild *build = run->index;
    bool busy = false;

    for (int i = 0; i < build->builder_count; i++) {
        if (!advance(run, &build->builders[i], err))
            return STEP_FAILED;
        busy = busy || build->builders[i].busy;
    }
    if (!migration_check_now_and_then(run, err) || !others_look(run, err))
        return STEP_FAILED;
    if (busy)
        return loop_turn(run->loop, clock_now_us() + 500000, err) ? STEP_MORE : STEP_FAILED;
    if (!build->finished && !finish(run, err))
        return STEP_FAILED;
    return migration_check_step(run, STEP_DONE, err);
}
