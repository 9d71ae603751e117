/* Is there an interrupted run to go on with?  See resume.h. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "phase/resume.h"

static const int64_t PAUSE_US = 200000;
/* A killed walter's sessions notice that nobody is there any more. */
static const int64_t LIFE_SIGN_US = 3 * INT64_C(1000000);

static size_t
length_of_statement(const char *text)
{
    size_t len = strlen(text);

    while (len > 0 && strchr("; \t\r\n", text[len - 1]) != NULL)
        len--;
    return len;
}

/* But for blanks around it, and a semicolon at its end. */
static bool
is_same_statement(const char *one, const char *other)
{
    one += strspn(one, " \t\r\n");
    other += strspn(other, " \t\r\n");
    return length_of_statement(one) == length_of_statement(other) &&
           strncmp(one, other, length_of_statement(one)) == 0;
}

/* What is not as it was when the run began, in the operator's words; NULL = all is. */
static const char *
find_difference(const Migration *run, const RunRecord *record, const Rows *facts)
{
    const Settings *settings = run->settings;

    if (!is_same_statement(settings->statement, record->statement))
        return "the statement";
    if (strcmp(record->plugin, settings->plugin == PLUGIN_PGOUTPUT ? "pgoutput" : "wal2json") != 0)
        return "--plugin";
    if (!record->is_resumable)
        return NULL;
    if (strcmp(state_fact(facts, "schema"), settings->schema_given ? settings->schema : "") != 0)
        return "--schema";
    if (strcmp(state_fact(facts, "copy_statement"),
               settings->copy_statement == NULL ? "" : settings->copy_statement) != 0)
        return "--copy-statement";
    if ((state_fact(facts, "identity")[0] != '\0') != settings->set_replica_identity)
        return "--set-replica-identity";
    return NULL;
}

static bool
refuse_alive(const RunRecord *record, Err *err)
{
    err_set(err, ERR_REFUSED, "another walter is at work on this table, since %s",
            record->started_at);
    return err_hint(err, "Wait for it to finish, or stop it first.");
}

static bool
refuse_different(const RunRecord *record, const char *what, Err *err)
{
    err_set(err, ERR_REFUSED,
            "an earlier run on %s, begun %s, was interrupted, and %s is not the same",
            record->table, record->started_at, what);
    return err_hint(err,
                    "To go on with it, give the same options and -a '%.200s'.  To give it up: "
                    "--restart begins anew, walter abort only removes it.",
                    record->statement);
}

/* It is of no use, or not wanted: remove it, and begin anew. */
static bool
remove_run(Migration *run, const RunRecord *record, Err *err)
{
    if (cleanup_remove(run->loop, &run->target, &record->names, conn_pid(run->control), err))
        return true;
    return err_wrap(err, "removing the interrupted run %s", record->names.run);
}

/* The identity that the run has given the original, and has to take back. */
static bool
read_identity(Migration *run, const RunRecord *record, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (record->former_identity == NULL)
        return true;
    if (!query_run(run->control,
                   "select c.oid, pg_catalog.quote_ident(c.relname), x.indisreplident"
                   "  from walter.run r join pg_catalog.pg_class c"
                   "    on c.oid::text = pg_catalog.to_jsonb(r)->>'identity_index'"
                   "  join pg_catalog.pg_index x on x.indexrelid = c.oid where r.run = $1",
                   (const char *const[]){record->names.run, NULL}, &rows, err))
        return err_wrap(err, "reading walter.run");
    if (rows_count(rows) == 0)
        return true;
    run->identity = (Identity){
        .index_oid = (uint32_t)rows_int(rows, 0, 0),
        .index = arena_copy(run->arena, rows_text(rows, 0, 1), strlen(rows_text(rows, 0, 1))),
        .former = record->former_identity,
        .is_set = rows_bool(rows, 0, 2)};
    return true;
}

static bool
is_copied(const RunRecord *record)
{
    return strcmp(record->phase, "index") == 0 || strcmp(record->phase, "catchup") == 0 ||
           strcmp(record->phase, "cutover") == 0;
}

/* What --restart is about is gone when this process goes on with what it has begun itself. */
static bool
must_restart(const Migration *run)
{
    return run->settings->restart && run->own_run == NULL;
}

static bool
take_over(Migration *run, const RunRecord *record, Err *err)
{
    if (must_restart(run) || !record->is_resumable) {
        log_info("the run on %s, begun %s, was interrupted%s; it is removed, and a new one begins",
                 record->table, record->started_at,
                 record->is_resumable ? "" : " before it had copied anything");
        return remove_run(run, record, err);
    }
    run->record = record;
    run->names = record->names;
    run->copy_is_done = is_copied(record);
    return read_identity(run, record, err);
}

/* It has swapped, and was interrupted before it had finished. */
static bool
finish_swapped(Migration *run, const RunRecord *record, bool *finished, Err *err)
{
    if (!is_same_statement(run->settings->statement, record->statement)) {
        err_set(err, ERR_REFUSED, "an earlier run on %s, begun %s, was interrupted after its swap",
                record->table, record->started_at);
        return err_hint(err, "Run walter cleanup first; it finishes that run.");
    }
    *finished = true;
    log_info("the run on %s, begun %s, has swapped already: the table has its new definition; "
             "finishing what was left",
             record->table, record->started_at);
    if (cleanup_finish(run->loop, &run->target, record, run->arena, err))
        return true;
    err_wrap(err, "the ALTER is done and must not be repeated, but not all that was to follow it");
    /* who has undone it, and wants it again */
    if (err->hint[0] == '\0')
        err_hint(err, "walter cleanup shows what is left.  If the table is to be altered once more "
                      "all the same: --restart.");
    return false;
}

/*
 * Another one is done, but for something that was to follow.  Whoever gives the same statement means
 * that: to run it again would alter the table twice.
 */
static bool
look_at_done(Migration *run, const RunRecord *record, bool *finished, Err *err)
{
    if (!record->is_unfinished || must_restart(run))
        return true;
    if (is_same_statement(run->settings->statement, record->statement))
        return finish_swapped(run, record, finished, err);
    log_warning("of an earlier run on %s, begun %s, something is still to be done: walter cleanup "
                "shows and does it",
                record->table, record->started_at);
    return true;
}

/* One of the runs that walter.run knows. */
static bool
look_at(Migration *run, const RunRecord *record, bool *finished, Err *err)
{
    AUTO(Rows) *facts = NULL;
    const char *difference;

    if (record->alive)
        return refuse_alive(record, err);
    if (strcmp(record->phase, "done") == 0)
        return look_at_done(run, record, finished, err);
    if (strcmp(record->phase, "swapped") == 0)
        return finish_swapped(run, record, finished, err);
    if (!state_read_facts(run->control, &record->names, &facts, err))
        return false;
    difference = must_restart(run) ? NULL : find_difference(run, record, facts);
    return difference == NULL ? take_over(run, record, err)
                              : refuse_different(record, difference, err);
}

static bool
list(Migration *run, RunRecord **runs, int *count, bool *alive, Err *err)
{
    int kept = 0;

    *alive = false;
    if (!state_list_unfinished(run->control, run->arena, runs, count, err))
        return false;
    for (int i = 0; i < *count; i++) {
        if ((*runs)[i].original_oid != run->original.oid &&
            (*runs)[i].shadow_oid != run->original.oid)
            continue;
        *alive = *alive || (*runs)[i].alive;
        (*runs)[kept++] = (*runs)[i];
    }
    *count = kept;
    return true;
}

/*
 * Sessions of this process whose connections are lost may still be there.  Whoever else has the run's
 * life sign is another process, which goes on with it.
 */
static bool
end_own(Migration *run, const RunRecord *record, Err *err)
{
    bool own = false;

    if (run->own_run == NULL || strcmp(run->own_run, record->names.run) != 0)
        return true;
    return state_end_holder(run->control, record->original_oid, run->own_pid, &own, err) &&
           (!own || cleanup_end_sessions(run->control, &record->names, 0, err));
}

/* A process that was killed may seem alive for a moment, until the server notices. */
static bool
list_when_quiet(Migration *run, RunRecord **runs, int *count, Err *err)
{
    int64_t until_us = clock_now_us() + LIFE_SIGN_US;
    bool alive;

    for (;;) {
        if (!list(run, runs, count, &alive, err))
            return false;
        for (int i = 0; alive && i < *count; i++)
            if (!end_own(run, &(*runs)[i], err))
                return false;
        if (!alive || clock_now_us() > until_us)
            return true;
        if (!loop_pause(run->loop, PAUSE_US, err))
            return false;
    }
}

/* Whoever has removed what this process has begun does not want it to begin anew. */
static bool
check_own(const Migration *run, bool finished, Err *err)
{
    if (run->own_run == NULL || run->record != NULL || finished)
        return true;
    err_set(err, ERR_GONE,
            "run %s was removed, or finished, by somebody else while it had no "
            "connection",
            run->own_run);
    return err_hint(err, "Look at the table first; then begin anew, if that is wanted.");
}

bool
resume_find(Migration *run, bool *finished, Err *err)
{
    RunRecord *runs;
    int count;

    *finished = false;
    if (!list_when_quiet(run, &runs, &count, err))
        return false;
    for (int i = 0; i < count; i++)
        if (!look_at(run, &runs[i], finished, err))
            return false;
    return check_own(run, *finished, err);
}
