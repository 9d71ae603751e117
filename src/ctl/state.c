/* The run's state row; see state.h. */
#include "ctl/state.h"

#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"

/* First half of the advisory lock's key: "WALT". */
#define LOCK_CLASS "1463897172"

/* Two runs that begin at the same time would stumble over each other's GRANT on the schema. */
static const char SQL_ONE_AT_A_TIME[] =
    "select pg_catalog.pg_advisory_xact_lock(" LOCK_CLASS ", 0)";

static const char SQL_PREPARE[] =
    "create schema if not exists walter;"
    "create table if not exists walter.run ("
    "  run text primary key,"
    "  phase text not null,"
    "  original_oid oid not null,"
    "  shadow_oid oid not null default 0,"
    "  table_name text not null,"
    "  owner text not null,"
    "  statement text not null,"
    "  plugin text not null,"
    "  system_identifier text not null,"
    "  timeline integer not null,"
    "  last_error text,"
    "  former_identity text,"
    "  identity_index oid,"
    "  unfinished text[],"
    "  facts jsonb,"
    "  started_at timestamptz not null default pg_catalog.now(),"
    "  phase_at timestamptz not null default pg_catalog.now());"
    "comment on schema walter is 'State of walter, the online ALTER TABLE tool'";

/* By the catalog: looking up a name in a schema that we may not use is an error. */
static const char SQL_IS_READY[] =
    "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n"
    "    on n.oid = c.relnamespace where n.nspname = 'walter' and c.relname = 'run')";

/* A table of an older version, which may be another role's. */
static const char SQL_KNOWS_COLUMN[] =
    "select a.attnum is not null, pg_catalog.pg_has_role(c.relowner, 'usage')"
    "  from pg_catalog.pg_class c left join pg_catalog.pg_attribute a on a.attrelid = c.oid"
    "   and a.attname = $1 where c.oid = 'walter.run'::pg_catalog.regclass";

static const char SQL_ADD_UNFINISHED[] = "alter table walter.run add column unfinished text[]";
static const char SQL_ADD_FACTS[] = "alter table walter.run add column facts jsonb";

static const char SQL_KNOWS_IDENTITY[] =
    "select exists (select from pg_catalog.pg_attribute where attname = 'identity_index'"
    "   and attrelid = 'walter.run'::pg_catalog.regclass)";

static const char SQL_ADD_IDENTITY[] =
    "alter table walter.run add column former_identity text, add column identity_index oid";

static const char SQL_LOCK[] =
    "select pg_catalog.pg_try_advisory_lock(" LOCK_CLASS ", $1::integer)";

static const char SQL_NEW_RUN[] =
    "select pg_catalog.substr(pg_catalog.md5(pg_catalog.random()::text ||"
    "       pg_catalog.clock_timestamp()::text || pg_catalog.pg_backend_pid()::text), 1, 8)";

static const char SQL_INSERT_RUN[] =
    "insert into walter.run (run, phase, original_oid, shadow_oid, table_name, owner,"
    "                        statement, plugin, system_identifier, timeline)"
    " select %L, 'shadow', %L::pg_catalog.oid, %L::pg_catalog.oid, %L, %L, %L, %L,"
    "        s.system_identifier::text, c.timeline_id"
    "   from pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c";

static const char SQL_TABLES[] =
    "create table %S (marker bigint primary key);"
    "insert into %S values (0);"
    "create table %S (worker integer not null, end_lsn pg_lsn not null, open_lsn pg_lsn not null,"
    "                 ordinal bigint not null, changes bigint not null);"
    "insert into %S select w, '0/0', '0/0', 0, 0 from pg_catalog.generate_series(0, %D - 1) w;"
    /* it has no key, and may be in a publication FOR ALL TABLES */
    "alter table %S replica identity full;"
    "create table %S (leaf oid, first_block bigint, end_block bigint not null,"
    "                 filenode oid not null, rows bigint not null, is_whole boolean not null,"
    "                 primary key (leaf, first_block));"
    /* beside columns that are called as the key is */
    "create table %S (walter_leaf oid%S, primary key (walter_leaf%S));"
    "create table %S (statement text not null);"
    "alter table %S replica identity full;"
    "grant usage on schema walter to %I;"
    "grant select, update on %S to %I;"
    "grant select, insert, update, delete on %S, %S, %S to %I";

/* What is still to be done, of row r; NULL or no array when that is nothing. */
#define UNFINISHED "pg_catalog.to_jsonb(r)->'unfinished'"

static const char SQL_UNFINISHED[] =
    "select r.run, r.phase, r.original_oid, r.shadow_oid, r.table_name,"
    "       pg_catalog.to_char(r.started_at, 'YYYY-MM-DD HH24:MI:SS'), r.statement,"
    "       coalesce(pg_catalog.to_jsonb(r)->>'former_identity', ''),"
    "       exists (select from pg_catalog.pg_locks l where l.locktype = 'advisory'"
    "         and l.classid = " LOCK_CLASS " and l.objid = r.original_oid and l.objsubid = 2"
    "         and l.granted and l.database = (select oid from pg_catalog.pg_database"
    "                                          where datname = pg_catalog.current_database())),"
    "       coalesce(pg_catalog.jsonb_typeof(" UNFINISHED ") = 'array', false),"
    "       coalesce(pg_catalog.to_jsonb(r)->'facts'->>'digest', '') <> '',"
    "       r.system_identifier, r.timeline, r.plugin"
    "  from walter.run r where r.phase <> 'done' or pg_catalog.jsonb_typeof(" UNFINISHED
    ") = 'array'"
    " order by r.started_at";

static const char SQL_TODO[] =
    "select pg_catalog.jsonb_array_elements_text(" UNFINISHED ") from walter.run r"
    " where r.run = $1 and pg_catalog.jsonb_typeof(" UNFINISHED ") = 'array'";

/* Somebody who can write the row, and could not do himself what we would do for him. */
static const char SQL_DISTRUST[] =
    "select pg_catalog.string_agg(distinct pg_catalog.pg_get_userbyid(w.role)::text, ', ')"
    "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace,"
    "       lateral (select c.relowner union all select n.nspowner"
    "         union all select x.grantee from pg_catalog.aclexplode(c.relacl) x"
    "          where x.privilege_type in ('INSERT', 'UPDATE')"
    "         union all select x.grantee from pg_catalog.pg_attribute a,"
    "               pg_catalog.aclexplode(a.attacl) x where a.attrelid = c.oid"
    "           and x.privilege_type in ('INSERT', 'UPDATE')) w (role)"
    " where c.oid = 'walter.run'::pg_catalog.regclass"
    "   and (w.role = 0 or not pg_catalog.pg_has_role(w.role, session_user, 'member'))";

static const char SQL_NOTE_DONE[] =
    "update walter.run set unfinished = nullif(pg_catalog.array_remove(unfinished, $1), '{}')"
    " where run = $2";

/* `before` run `after`, in `arena`. */
static const char *
name_of(const char *before, const char *run, const char *after, Arena *arena)
{
    AUTO(Text) *name = mem_format("%s%s%s", before, run, after);

    return arena_copy(arena, name, strlen(name));
}

RunNames
state_names(const char *run, Arena *arena)
{
    return (RunNames){.run = name_of("", run, "", arena),
                      .schema = name_of("walter_", run, "", arena),
                      .shadow_schema = name_of("walter_", run, "_new", arena),
                      .rehearsal = name_of("walter_", run, "_r", arena),
                      .slot = name_of("walter_", run, "", arena),
                      .publication = name_of("walter_", run, "", arena),
                      .fence = name_of("walter.fence_", run, "", arena),
                      .fence_name = name_of("fence_", run, "", arena),
                      .position = name_of("walter.position_", run, "", arena),
                      .copied = name_of("walter.copied_", run, "", arena),
                      .touched = name_of("walter.touched_", run, "", arena),
                      .built = name_of("walter.built_", run, "", arena)};
}

/* Where an older table is another role's, do without. */
static bool
prepare_column(Conn *conn, const char *column, const char *add, bool *has_it, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_KNOWS_COLUMN, (const char *const[]){column, NULL}, &rows, err))
        return false;
    *has_it = rows_bool(rows, 0, 0) || rows_bool(rows, 0, 1);
    return rows_bool(rows, 0, 0) || !rows_bool(rows, 0, 1) || query_exec(conn, add, err);
}

bool
state_prepare(Conn *conn, bool *keeps_unfinished, bool *keeps_facts, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_exec(conn, SQL_ONE_AT_A_TIME, err) ||
        !query_simple(conn, SQL_IS_READY, &rows, err) ||
        (!rows_bool(rows, 0, 0) && !query_exec(conn, SQL_PREPARE, err)) ||
        !prepare_column(conn, "unfinished", SQL_ADD_UNFINISHED, keeps_unfinished, err) ||
        !prepare_column(conn, "facts", SQL_ADD_FACTS, keeps_facts, err))
        return err_wrap(err, "preparing schema walter");
    return true;
}

bool
state_lock_table(Conn *control, uint32_t table_oid, Err *err)
{
    AUTO(Text) *key = mem_format("%d", (int)table_oid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(control, SQL_LOCK, (const char *const[]){key, NULL}, &rows, err))
        return false;
    if (!rows_bool(rows, 0, 0)) {
        err_set(err, ERR_REFUSED, "another walter is at work on this table");
        return err_hint(err, "Wait for it to finish, or stop it first.");
    }
    return true;
}

bool
state_end_holder(Conn *control, uint32_t table_oid, int pid, bool *ended, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", table_oid);
    AUTO(Text) *holder = mem_format("%d", pid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(control,
                   "select pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) > 0"
                   "  from pg_catalog.pg_locks where locktype = 'advisory'"
                   "   and classid = " LOCK_CLASS " and objid = $1::pg_catalog.oid"
                   "   and objsubid = 2 and granted and pid = $2::integer",
                   (const char *const[]){oid, holder, NULL}, &rows, err))
        return err_wrap(err, "ending the session that has the run's sign of life");
    *ended = rows_bool(rows, 0, 0);
    return true;
}

bool
state_new_run(Conn *control, Arena *arena, const char **run, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_simple(control, SQL_NEW_RUN, &rows, err))
        return false;
    *run = arena_copy(arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
    return true;
}

bool
state_start_run(Conn *conn, const RunNames *names, const RunStart *start, Err *err)
{
    AUTO(Text) *original = mem_format("%u", start->original_oid);
    AUTO(Text) *shadow = mem_format("%u", start->shadow_oid);
    BUF_AUTO(sql);

    sql_add(&sql, SQL_INSERT_RUN, names->run, original, shadow, start->table, start->owner,
            start->statement, start->plugin);
    buf_add_text(&sql, ";");
    sql_add(&sql, SQL_TABLES, names->fence, names->fence, names->position, names->position,
            (int64_t)start->apply_jobs, names->position, names->copied, names->touched,
            start->key_columns, start->key_names, names->built, names->built, start->owner,
            names->position, start->owner, names->copied, names->touched, names->built,
            start->owner);
    if (!query_exec(conn, buf_text(&sql), err))
        return err_wrap(err, "recording the run");
    return true;
}

bool
state_note_identity(Conn *conn, const RunNames *names, uint32_t index_oid, const char *former,
                    Err *err)
{
    AUTO(Text) *oid = mem_format("%u", index_oid);
    AUTO(Rows) *known = NULL;

    if (!query_simple(conn, SQL_KNOWS_IDENTITY, &known, err) ||
        (!rows_bool(known, 0, 0) && !query_exec(conn, SQL_ADD_IDENTITY, err)) ||
        !query_run(conn,
                   "update walter.run set former_identity = $1,"
                   " identity_index = $2::text::pg_catalog.oid where run = $3",
                   (const char *const[]){former, oid, names->run, NULL}, NULL, err))
        return err_wrap(err, "recording the replica identity");
    return true;
}

char *
state_phase_sql(const RunNames *names, const char *phase)
{
    return sql_build("update walter.run set phase = %L, phase_at = pg_catalog.now() where run = %L",
                     phase, names->run);
}

char *
state_swapped_sql(const RunNames *names, const char *const *todo, int count)
{
    BUF_AUTO(list);

    for (int i = 0; i < count; i++)
        sql_add(&list, "%S%L", i == 0 ? ", unfinished = array[" : ", ", todo[i]);
    if (count > 0)
        buf_add_text(&list, "]");
    return sql_build("update walter.run set phase = 'swapped', phase_at = pg_catalog.now()%S"
                     " where run = %L",
                     buf_text(&list), names->run);
}

bool
state_note_done(Conn *control, const RunNames *names, const char *statement, Err *err)
{
    if (!query_run(control, SQL_NOTE_DONE, (const char *const[]){statement, names->run, NULL}, NULL,
                   err))
        return err_wrap(err, "noting what is finished");
    return true;
}

bool
state_check_writers(Conn *control, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_simple(control, SQL_DISTRUST, &rows, err))
        return err_wrap(err, "reading who may write walter.run");
    if (rows_text(rows, 0, 0) == NULL)
        return true;
    err_set(err, ERR_FAILED,
            "what is still to be run is not run: walter.run can be written by roles that may not "
            "act as this one: %s",
            rows_text(rows, 0, 0));
    return err_hint(err, "Run walter cleanup as the owner of schema walter, or the statements by "
                         "hand: walter cleanup shows them.");
}

bool
state_read_todo(Conn *control, const RunNames *names, Arena *arena, const char ***todo, int *count,
                Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(control, SQL_TODO, (const char *const[]){names->run, NULL}, &rows, err))
        return err_wrap(err, "reading walter.run");
    *count = rows_count(rows);
    *todo = arena_alloc(arena, sizeof **todo * (size_t)(*count + 1));
    for (int i = 0; i < *count; i++)
        (*todo)[i] = arena_copy(arena, rows_text(rows, i, 0), strlen(rows_text(rows, i, 0)));
    return true;
}

static bool
row_is_gone(const char *what, Err *err)
{
    return err_set(err, ERR_FAILED, "%s was deleted by somebody else while the run was on", what);
}

/* Without its row nothing would be written, and no error would say so. */
static bool
update_row(Conn *control, const char *sql, const char *what, Err *err)
{
    AUTO(Rows) *rows = NULL;

    return query_simple(control, sql, &rows, err) &&
           (rows_affected(rows) == 1 || row_is_gone(what, err));
}

bool
state_set_phase(Conn *control, const RunNames *names, const char *phase, Err *err)
{
    AUTO(Text) *sql = state_phase_sql(names, phase);

    return update_row(control, sql, "the run's row in walter.run", err);
}

bool
state_check_row(Conn *control, const RunNames *names, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(control, "select from walter.run where run = $1",
                   (const char *const[]){names->run, NULL}, &rows, err))
        return err_wrap(err, "reading walter.run");
    return rows_count(rows) == 1 || row_is_gone("the run's row in walter.run", err);
}

bool
state_set_error(Conn *control, const RunNames *names, const char *message, Err *err)
{
    return query_run(control, "update walter.run set last_error = $1 where run = $2",
                     (const char *const[]){message, names->run, NULL}, NULL, err);
}

int
position_compare(const Position *one, const Position *other)
{
    if (one->end_lsn != other->end_lsn)
        return one->end_lsn < other->end_lsn ? -1 : 1;
    return (one->ordinal > other->ordinal) - (one->ordinal < other->ordinal);
}

char *
state_position_sql(const RunNames *names, int worker, const Position *position)
{
    char end[LSN_TEXT_SIZE];
    char open[LSN_TEXT_SIZE];
    /* sessions that have come to different places: who is ahead stays there */
    AUTO(Text) *whose = worker == POSITION_OF_ALL
                            ? sql_build(" where (end_lsn, ordinal) < (%L::pg_lsn, %D)",
                                        lsn_text(position->end_lsn, end), position->ordinal)
                            : mem_format(" where worker = %d", worker);

    return sql_build("update %S set end_lsn = %L, open_lsn = %L, ordinal = %D, changes = %D%S",
                     names->position, lsn_text(position->end_lsn, end),
                     lsn_text(position->open_lsn, open), position->ordinal, position->changes,
                     whose);
}

bool
state_read_positions(Conn *control, const RunNames *names, Arena *arena, Position **positions,
                     int *count, Err *err)
{
    AUTO(Text) *sql = sql_build(
        "select end_lsn, open_lsn, ordinal, changes from %S order by worker", names->position);
    AUTO(Rows) *rows = NULL;

    if (!query_simple(control, sql, &rows, err))
        return err_wrap(err, "reading how far the run has come");
    *count = rows_count(rows);
    *positions = arena_alloc(arena, sizeof **positions * (size_t)(*count + 1));
    for (int i = 0; i < *count; i++) {
        Position *position = &(*positions)[i];

        if (!lsn_parse(rows_text(rows, i, 0), &position->end_lsn) ||
            !lsn_parse(rows_text(rows, i, 1), &position->open_lsn))
            return err_set(err, ERR_FAILED, "table %s is damaged", names->position);
        position->ordinal = rows_int(rows, i, 2);
        position->changes = rows_int(rows, i, 3);
    }
    return *count > 0 || err_set(err, ERR_FAILED, "table %s is empty", names->position);
}

bool
state_reset_positions(Conn *control, const RunNames *names, int count, const Position *position,
                      Err *err)
{
    AUTO(Text) *update = state_position_sql(names, POSITION_OF_ALL, position);
    AUTO(Text) *sql = sql_build(
        "delete from %S;"
        "insert into %S select w, '0/0', '0/0', 0, 0 from pg_catalog.generate_series(0, %D - 1) w;"
        "%S",
        names->position, names->position, (int64_t)count, update);

    return query_exec(control, sql, err) || err_wrap(err, "storing the position");
}

bool
state_note_facts(Conn *control, const RunNames *names, const Fact *facts, int count, Err *err)
{
    BUF_AUTO(list);
    AUTO(Text) *sql = NULL;

    for (int i = 0; i < count; i++)
        sql_add(&list, "%S%L, %L::text", i == 0 ? "" : ", ", facts[i].name, facts[i].value);
    sql = sql_build("update walter.run set facts = coalesce(facts, '{}') ||"
                    " pg_catalog.jsonb_build_object(%S) where run = %L",
                    buf_text(&list), names->run);
    return query_exec(control, sql, err) || err_wrap(err, "noting facts of the run");
}

bool
state_read_facts(Conn *control, const RunNames *names, Rows **rows, Err *err)
{
    return query_run(control,
                     "select f.key, coalesce(f.value, '') from walter.run r,"
                     "       pg_catalog.jsonb_each_text(r.facts) f where r.run = $1",
                     (const char *const[]){names->run, NULL}, rows, err) ||
           err_wrap(err, "reading facts of the run");
}

const char *
state_fact(const Rows *rows, const char *name)
{
    for (int i = 0; i < rows_count(rows); i++)
        if (strcmp(rows_text(rows, i, 0), name) == 0)
            return rows_text(rows, i, 1);
    return "";
}

char *
state_built_sql(const RunNames *names, const char *statement)
{
    return sql_build("%S; insert into %S values (%L)", statement, names->built, statement);
}

bool
state_ask_abort(Conn *control, const RunNames *names, Err *err)
{
    const Fact wish = {"wish", "abort"};

    return state_note_facts(control, names, &wish, 1, err);
}

bool
state_is_abort_asked(Conn *control, const RunNames *names, bool *asked, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(control,
                   "select coalesce(pg_catalog.to_jsonb(r)->'facts'->>'wish', '') = 'abort'"
                   "  from walter.run r where run = $1",
                   (const char *const[]){names->run, NULL}, &rows, err))
        return err_wrap(err, "reading walter.run");
    *asked = rows_count(rows) == 1 && rows_bool(rows, 0, 0);
    return true;
}

bool
state_check_server(Conn *control, const RunRecord *record, bool *same, Err *err)
{
    AUTO(Text) *timeline = mem_format("%d", record->timeline);
    AUTO(Rows) *rows = NULL;

    if (!query_one(control,
                   "select s.system_identifier::text = $1 and c.timeline_id = $2::integer"
                   "  from pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c",
                   (const char *const[]){record->system_identifier, timeline, NULL}, &rows, err))
        return err_wrap(err, "reading the server's identity");
    *same = rows_bool(rows, 0, 0);
    return true;
}

bool
state_write_fence(Conn *control, const RunNames *names, int64_t *marker, Err *err)
{
    AUTO(Text) *sql = sql_build("update %S set marker = marker + 1 returning marker", names->fence);
    AUTO(Rows) *rows = NULL;

    if (!query_simple(control, sql, &rows, err) ||
        (rows_count(rows) != 1 && !row_is_gone("the fence", err)))
        return err_wrap(err, "writing the fence");
    *marker = rows_int(rows, 0, 0);
    return true;
}

static const char *
keep(Arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_copy(arena, text, strlen(text));
}

static void
read_record(const Rows *rows, int row, Arena *arena, RunRecord *run)
{
    *run = (RunRecord){.names = state_names(rows_text(rows, row, 0), arena),
                       .phase = keep(arena, rows_text(rows, row, 1)),
                       .original_oid = (uint32_t)rows_int(rows, row, 2),
                       .shadow_oid = (uint32_t)rows_int(rows, row, 3),
                       .table = keep(arena, rows_text(rows, row, 4)),
                       .started_at = keep(arena, rows_text(rows, row, 5)),
                       .statement = keep(arena, rows_text(rows, row, 6)),
                       .alive = rows_bool(rows, row, 8),
                       .is_unfinished = rows_bool(rows, row, 9),
                       .is_resumable = rows_bool(rows, row, 10),
                       .system_identifier = keep(arena, rows_text(rows, row, 11)),
                       .timeline = (int)rows_int(rows, row, 12),
                       .plugin = keep(arena, rows_text(rows, row, 13))};
    if (rows_text(rows, row, 7)[0] != '\0')
        run->former_identity = keep(arena, rows_text(rows, row, 7));
}

bool
state_list_unfinished(Conn *control, Arena *arena, RunRecord **runs, int *count, Err *err)
{
    AUTO(Rows) *known = NULL;
    AUTO(Rows) *rows = NULL;

    *runs = NULL;
    *count = 0;
    if (!query_simple(control, SQL_IS_READY, &known, err))
        return false;
    if (!rows_bool(known, 0, 0))
        return true;
    if (!query_simple(control, SQL_UNFINISHED, &rows, err))
        return err_wrap(err, "reading walter.run");
    *runs = arena_alloc(arena, sizeof **runs * (size_t)(rows_count(rows) + 1));
    for (int i = 0; i < rows_count(rows); i++)
        read_record(rows, i, arena, &(*runs)[i]);
    *count = rows_count(rows);
    return true;
}

bool
state_read_phase(Conn *control, const RunNames *names, Arena *arena, const char **phase, Err *err)
{
    AUTO(Rows) *known = NULL;
    AUTO(Rows) *rows = NULL;

    *phase = NULL;
    if (!query_simple(control, SQL_IS_READY, &known, err))
        return false;
    if (!rows_bool(known, 0, 0))
        return true;
    if (!query_run(control, "select phase from walter.run where run = $1",
                   (const char *const[]){names->run, NULL}, &rows, err))
        return err_wrap(err, "reading walter.run");
    if (rows_count(rows) == 1)
        *phase = arena_copy(arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
    return true;
}

bool
state_end_run(Conn *control, const RunNames *names, bool forget, Err *err)
{
    AUTO(Text) *sql =
        sql_build("begin; drop table if exists %S, %S, %S, %S, %S; %S where run = %L; commit",
                  names->fence, names->position, names->copied, names->touched, names->built,
                  forget ? "delete from walter.run"
                         : "update walter.run set phase = 'done', phase_at = pg_catalog.now()",
                  names->run);

    if (query_exec(control, sql, err))
        return true;
    query_rollback(control);
    return err_wrap(err, "removing the run's helper tables");
}
