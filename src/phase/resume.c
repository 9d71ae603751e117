/* Going on with a run that was interrupted; see resume.h. */
#include "phase/resume.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "pg/sql.h"
#include "phase/refresh.h"
#include "phase/tree.h"

static const int64_t PAUSE_US = 200000;
static const int64_t SLOT_PATIENCE_US = 15 * INT64_C(1000000);
static const int64_t REHEARSAL_PATIENCE_US = 60 * INT64_C(1000000);

/* ---- facts ---- */

/* What the projection is and which columns identify a row, to be compared. */
static char *
describe_rows(const Migration *run)
{
    BUF_AUTO(text);

    buf_printf(&text, "%s|%s|%c", run->projection.head, run->projection.tail,
               run->original.replica_identity);
    for (int i = 0; i < run->original.key_count; i++)
        buf_printf(&text, "|%s", run->original.columns[run->original.key[i]].name);
    return buf_take(&text);
}

static const char *
or_empty(const char *text)
{
    return text == NULL ? "" : text;
}

bool
resume_note_facts(Migration *run, Err *err)
{
    const Settings *settings = run->settings;
    AUTO(Text) *rows = describe_rows(run);
    const Fact facts[] = {
        {"digest", run->original_digest},
        {"body", run->original_body},
        {"shadow_body", run->shadow_body},
        {"rows", rows},
        {"column_rows", run->original_column_rows},
        {"files", run->original_files},
        {"publication", or_empty(run->publication_mark)},
        {"schema", settings->schema_given ? settings->schema : ""},
        {"copy_statement", or_empty(settings->copy_statement)},
        {"identity", settings->set_replica_identity ? "yes" : ""},
    };

    if (!run->keeps_facts)
        return true;
    run->is_resumable = true;
    return state_note_facts(run->control, &run->names, facts, sizeof facts / sizeof facts[0], err);
}

bool
resume_note_definition(Migration *run, Err *err)
{
    const Fact facts[] = {{"digest", run->original_digest},
                          {"column_rows", run->original_column_rows}};

    return !run->is_resumable || state_note_facts(run->control, &run->names, facts, 2, err);
}

bool
resume_note_rewritten(Migration *run, Err *err)
{
    const Fact fact = {"rewritten", "yes"};

    return !run->is_resumable || state_note_facts(run->control, &run->names, &fact, 1, err);
}

/* ---- can it go on? ---- */

static bool
give_up(const Migration *run, const char *why, Err *err)
{
    err_set(err, ERR_GONE, "the interrupted run %s on %s cannot go on: %s", run->names.run,
            run->original.qualified, why);
    return err_hint(err, "The table is as it was.  --restart begins anew; walter cleanup only "
                         "removes what is left.");
}

static bool
check_server(Migration *run, Err *err)
{
    bool same;

    if (!state_check_server(run->control, run->record, &same, err))
        return false;
    return same || give_up(run,
                           "this is another server, or one with another history (restored from "
                           "a backup, or promoted)",
                           err);
}

static bool
read_positions(Migration *run, Err *err)
{
    Err why = {0};
    bool same = true;

    if (!state_read_positions(run->control, &run->names, run->arena, &run->positions,
                              &run->position_count, &why)) {
        if (why.kind == ERR_LOST || why.kind == ERR_STOPPED) {
            *err = why;
            return false;
        }
        return give_up(run, why.message, err);
    }
    for (int i = 1; i < run->position_count; i++)
        same = same && position_compare(&run->positions[i], &run->positions[0]) == 0;
    /* where they differ, who shares a row's changes is fixed */
    if (!same || run->position_count == run->settings->apply_jobs)
        return true;
    {
        Position position = run->positions[0];

        run->position_count = run->settings->apply_jobs;
        run->positions =
            arena_alloc(run->arena, sizeof *run->positions * (size_t)run->position_count);
        for (int i = 0; i < run->position_count; i++)
            run->positions[i] = position;
        return state_reset_positions(run->control, &run->names, run->position_count, &position,
                                     err);
    }
}

/* ---- what it was about ---- */

static char *
keep_text(Migration *run, const char *text)
{
    return arena_copy(run->arena, text, strlen(text));
}

/* Sequences of the rehearsed shadow, by name: those of the live one are called alike. */
static bool
translate_sequences(Migration *run, Conn *conn, Err *err)
{
    AUTO(Rows) *names = NULL;
    AUTO(Rows) *oids = NULL;

    if (!query_one(conn,
                   "select coalesce(pg_catalog.array_agg(relname), '{}')::text"
                   "  from pg_catalog.pg_class where oid = any ($1::pg_catalog.oid[])",
                   (const char *const[]){run->definition.identity_sequences, NULL}, &names, err))
        return false;
    query_rollback(conn);
    if (!query_one(conn,
                   "select coalesce(pg_catalog.array_agg(c.oid), '{}')::text"
                   "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n"
                   "    on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'S'"
                   "   and c.relname = any ($2::pg_catalog.name[])",
                   (const char *const[]){run->names.shadow_schema, rows_text(names, 0, 0), NULL},
                   &oids, err))
        return false;
    run->definition.identity_sequences = keep_text(run, rows_text(oids, 0, 0));
    return true;
}

static bool
find_live(Migration *run, const char *qualified, uint32_t *oid, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_one(run->control, "select coalesce(pg_catalog.to_regclass($1)::pg_catalog.oid, 0)",
                   (const char *const[]){qualified, NULL}, &rows, err))
        return false;
    *oid = (uint32_t)rows_int(rows, 0, 0);
    return *oid != 0 || give_up(run, "its shadow table is gone", err);
}

/* The live tables in place of the rehearsed ones. */
static bool
find_shadows(Migration *run, Err *err)
{
    if (!find_live(run, run->shadow_qualified, &run->shadow.oid, err))
        return false;
    if (run->shadow.oid != run->record->shadow_oid)
        return give_up(run, "its shadow table is another one", err);
    for (int i = 0; i < run->branch_count; i++)
        if (!find_live(run, run->branches[i].shadow_qualified, &run->branches[i].shadow.oid, err))
            return false;
    return true;
}

static bool
rehearse_once(Migration *run, Err *err)
{
    AUTO(Conn) *conn = migration_connect(run, CONN_EXPRESSIONS, "shadow", err);

    if (conn == NULL)
        return false;
    if (refresh_step_aside(run, conn, err) && shadow_build(run, conn, err) &&
        translate_sequences(run, conn, err))
        return true;
    query_rollback(conn);
    return false;
}

/* Resources, an operator's hand, the system (SQLSTATE classes 53, 57, 58): it may go on later. */
static bool
is_shortage(const Err *err)
{
    return strncmp(err->sqlstate, "53", 2) == 0 || strncmp(err->sqlstate, "57", 2) == 0 ||
           strncmp(err->sqlstate, "58", 2) == 0;
}

static bool
rehearse(Migration *run, Err *err)
{
    int64_t until_us = clock_now_us() + REHEARSAL_PATIENCE_US;
    Err why;

    shadow_name(run);
    while (!rehearse_once(run, err)) {
        if (err->kind == ERR_LOST || err->kind == ERR_STOPPED)
            return false;
        if (err->kind == ERR_RETRY && clock_now_us() < until_us) {
            err_clear(err);
            if (!loop_pause(run->loop, PAUSE_US, err))
                return false;
            continue;
        }
        if (is_shortage(err))
            return false;
        why = *err;
        err_clear(err);
        return give_up(run, why.message, err);
    }
    shadow_choose_formats(run);
    return find_shadows(run, err);
}

/* ---- is it what it was? ---- */

static bool
check_definition(Migration *run, const Rows *facts, Err *err)
{
    AUTO(Text) *rows = describe_rows(run);

    if (strcmp(state_fact(facts, "body"), run->original_body) != 0 ||
        strcmp(state_fact(facts, "shadow_body"), run->shadow_body) != 0 ||
        strcmp(state_fact(facts, "rows"), rows) != 0)
        return give_up(run,
                       "the table's columns, checks, key or options are not what they were when "
                       "it began",
                       err);
    return true;
}

/* What can be set on the shadow at any time is said again. */
static bool
bring_surface_up(Migration *run, Err *err)
{
    AUTO(Conn) *conn = migration_connect_owner(run, CONN_SQL, "refresh", err);

    if (conn == NULL || !migration_limit_lock_waits(conn, err))
        return false;
    for (int i = 0; i < run->definition.surface.count; i++)
        if (!query_exec(conn, run->definition.surface.items[i], err))
            return err_wrap(err, "carrying over what was changed meanwhile");
    log_info("the definition of %s was changed while the run was interrupted; what is new is "
             "carried over",
             run->original.qualified);
    return true;
}

static bool
adopt_facts(Migration *run, const Rows *facts, Err *err)
{
    bool same = strcmp(state_fact(facts, "digest"), run->original_digest) == 0;

    /* in the same files no row was rewritten, whatever was done to the columns' rows */
    if (strcmp(state_fact(facts, "files"), run->original_files) != 0) {
        mem_set_text(&run->original_files, state_fact(facts, "files"));
        mem_set_text(&run->original_column_rows, state_fact(facts, "column_rows"));
    }
    if (state_fact(facts, "publication")[0] != '\0')
        mem_set_text(&run->publication_mark, state_fact(facts, "publication"));
    for (int i = 0; i < run->leaf_count; i++)
        run->leaves[i].place_changed = state_fact(facts, "rewritten")[0] != '\0';
    run->keeps_facts = run->keeps_unfinished = run->is_resumable = true;
    return (same || bring_surface_up(run, err)) && resume_note_definition(run, err);
}

/* ---- what has become of the blocks ---- */

/* Blocks that were copied of a file that is not there any more mean nothing. */
static bool
check_files(Migration *run, Err *err)
{
    BUF_AUTO(changed);
    BUF_AUTO(empty);
    AUTO(Rows) *rows = NULL;

    if (run->copy_is_done)
        return true;
    buf_add_text(&changed, "select pg_catalog.count(*) from (values ");
    for (int i = 0; i < run->leaf_count; i++)
        sql_add(&changed, "%S(%D::pg_catalog.oid, %D::pg_catalog.oid)", i == 0 ? "" : ", ",
                (int64_t)run->leaves[i].oid, (int64_t)run->leaves[i].filenode);
    sql_add(&changed, ") l (oid, file) join %S c on c.leaf = l.oid and c.filenode <> l.file",
            run->names.copied);
    if (!query_one(run->control, buf_text(&changed), NULL, &rows, err))
        return false;
    if (rows_int(rows, 0, 0) == 0)
        return true;
    log_warning("%s was rewritten or emptied while the run was interrupted; copying all of it",
                run->original.qualified);
    for (int i = 0; i < run->leaf_count; i++)
        sql_add(&empty, "%Sonly %S", i == 0 ? "begin; truncate " : ", ",
                run->leaves[i].shadow_qualified);
    sql_add(&empty, "; delete from %S; delete from %S; commit", run->names.copied,
            run->names.touched);
    {
        AUTO(Conn) *conn = migration_connect_owner(run, CONN_SQL, "copy to", err);

        return conn != NULL && query_exec(conn, buf_text(&empty), err);
    }
}

/* New ones were populated from a shadow that may have changed since: they are made again. */
static bool
drop_matviews(Migration *run, Err *err)
{
    return cleanup_drop_matviews(run->control, &run->target, &run->names, err);
}

bool
resume_prepare(Migration *run, Err *err)
{
    /* of an abort that nobody has waited for */
    static const Fact no_wish = {"wish", ""};
    AUTO(Rows) *facts = NULL;

    log_info("going on with run %s, begun %s, interrupted in phase %s", run->names.run,
             run->record->started_at, run->record->phase);
    if (!check_server(run, err) ||
        !cleanup_end_sessions(run->control, &run->names, conn_pid(run->control), err) ||
        !state_read_facts(run->control, &run->names, &facts, err) || !read_positions(run, err) ||
        !drop_matviews(run, err) || !rehearse(run, err) || !check_definition(run, facts, err) ||
        !adopt_facts(run, facts, err) || !check_files(run, err))
        return false;
    run->started = true;
    return state_note_facts(run->control, &run->names, &no_wish, 1, err);
}

/* ---- the slot ---- */

static const char SQL_SLOT[] =
    "select s.active, coalesce(s.active_pid, 0),"
    "       coalesce(pg_catalog.to_jsonb(s)->>'wal_status', '') = 'lost' or s.restart_lsn is null"
    "         or coalesce(pg_catalog.to_jsonb(s)->>'invalidation_reason', '') <> '',"
    "       s.confirmed_flush_lsn > $2::pg_catalog.pg_lsn, s.plugin <> $3"
    "  from pg_catalog.pg_replication_slots s"
    " where s.slot_name = $1 and s.database = pg_catalog.current_database()";

static bool
read_slot(Migration *run, Rows **rows, Err *err)
{
    const Position *least = &run->positions[0];
    char lsn[LSN_TEXT_SIZE];

    for (int i = 1; i < run->position_count; i++)
        if (position_compare(&run->positions[i], least) < 0)
            least = &run->positions[i];
    return query_run(run->control, SQL_SLOT,
                     (const char *const[]){run->names.slot, lsn_text(least->end_lsn, lsn),
                                           run->record->plugin, NULL},
                     rows, err) ||
           err_wrap(err, "reading the replication slot");
}

static bool
judge_slot(Migration *run, const Rows *rows, Err *err)
{
    if (rows_count(rows) == 0)
        return give_up(run, "its replication slot is gone", err);
    if (rows_bool(rows, 0, 2))
        return give_up(run,
                       "the server has invalidated its replication slot, because it held back too "
                       "much (max_slot_wal_keep_size) or was idle for too long",
                       err);
    if (rows_bool(rows, 0, 3) || rows_bool(rows, 0, 4))
        return give_up(run, "its replication slot was read or made anew by somebody else", err);
    return true;
}

bool
resume_take_slot(Migration *run, Err *err)
{
    int64_t until_us = clock_now_us() + SLOT_PATIENCE_US;

    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!read_slot(run, &rows, err))
            return false;
        if (rows_count(rows) == 0 || !rows_bool(rows, 0, 0))
            return judge_slot(run, rows, err);
        if (clock_now_us() > until_us) {
            err_set(err, ERR_REFUSED, "replication slot \"%s\" is in use by process %s",
                    run->names.slot, rows_text(rows, 0, 1));
            return err_hint(err, "End that session, then run this again.");
        }
        if (!loop_pause(run->loop, PAUSE_US, err))
            return false;
    }
}

bool
resume_check_publication(Migration *run, Err *err)
{
    Err why = {0};

    if (migration_check_publication(run, run->control, &why))
        return true;
    if (why.kind == ERR_FAILED)
        return give_up(run, why.message, err);
    *err = why;
    return false;
}

/* ---- what a stop leaves ---- */

void
resume_leave(Migration *run)
{
    static const char SQL[] =
        "select coalesce(pg_catalog.pg_size_pretty(pg_catalog.pg_wal_lsn_diff("
        "         pg_catalog.pg_current_wal_lsn(), (select restart_lsn"
        "           from pg_catalog.pg_replication_slots where slot_name = $1))), 'some'),"
        "       pg_catalog.pg_size_pretty(coalesce((select pg_catalog.sum("
        "         pg_catalog.pg_total_relation_size(c.oid)) from pg_catalog.pg_class c"
        "         join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        "         where n.nspname = $2 and c.relkind = 'r'), 0)::bigint)";
    Err ignored = {0};
    AUTO(Rows) *rows = NULL;
    AUTO(Conn) *conn = NULL;

    loop_shield(run->loop);
    conn = conn_open(run->loop, &run->target, CONN_SQL, "farewell", &ignored);
    /* a build or a long statement would go on until it had an answer to give */
    if (conn != NULL &&
        (!cleanup_end_sessions(conn, &run->names, conn_pid(conn), &ignored) ||
         !query_one(conn, SQL,
                    (const char *const[]){run->names.slot, run->names.shadow_schema, NULL}, &rows,
                    &ignored)))
        err_clear(&ignored);
    loop_unshield(run->loop);
    if (rows != NULL)
        log_warning("run %s is kept: replication slot \"%s\" holds back WAL, %s now and more from "
                    "minute to minute, and the shadow table takes %s",
                    run->names.run, run->names.slot, rows_text(rows, 0, 0), rows_text(rows, 0, 1));
    else
        log_warning("run %s is kept; its replication slot \"%s\" holds back WAL", run->names.run,
                    run->names.slot);
    log_warning("the same walter perform goes on with it; walter abort removes it");
}
