/*
 * Changes one after the other, in stream order; see stage.h.
 *
 * All rows are staged with one COPY; then one prepared single-row statement per change runs, many
 * of them in one message to the server.
 */
#include <string.h>

#include "pg/sql.h"
#include "phase/stage_internal.h"

/*
 * In the line table: the row after a change, the key before it, and what was read from the original.
 */
enum { LINE_NEW = 0, LINE_OLD = 1, LINE_FILLED = 2 };
/* Statements per message: enough to hide the round trip, few enough to stay small. */
enum { MESSAGE_STATEMENTS = 200 };
/* Each combination of sent columns needs a statement; a table may have many. */
enum { STATEMENTS_MAX = 400 };

/* A prepared single-row statement. */
struct Prepared {
    const Leaf *leaf;
    ChangeKind kind;
    bool changes_key;
    bool is_filled;
    CopyStep step;       /* UPDATE under a copy statement */
    const bool *present; /* UPDATE without one: which columns are staged; else NULL */
};

/* One change on its way. */
typedef struct Line {
    const Change *change;
    const Datum *row; /* as it is staged */
    Brought brought;  /* UPDATE */
    bool needs_original;
    bool is_asked;  /* the original was asked for its values, and ... */
    bool is_filled; /* ... had them */
} Line;

/* What one call works on. */
typedef struct Work {
    Stage *stage;
    Line *lines;
    int count;
    int first_seq;
    int *failed;
} Work;

/* Statements to be sent together. */
typedef struct Message {
    Buf sql;
    int lines[MESSAGE_STATEMENTS]; /* which change each of them belongs to */
    int count;
} Message;

/* ---- prepared statements ---- */

static bool
same_present(const Stage *stage, const bool *a, const bool *b)
{
    return a == b || (a != NULL && b != NULL &&
                      memcmp(a, b, (size_t)stage->key.column_count * sizeof *a) == 0);
}

static bool
same_brought(const Stage *stage, const Brought *a, const Brought *b)
{
    return a->changes_key == b->changes_key && same_present(stage, a->present, b->present);
}

static bool
same_statement(const Stage *stage, const Prepared *a, const Prepared *b)
{
    return a->leaf == b->leaf && a->kind == b->kind && a->changes_key == b->changes_key &&
           a->is_filled == b->is_filled && a->step == b->step &&
           same_present(stage, a->present, b->present);
}

static void
add_line_filter(const Stage *stage, Buf *filter, int set)
{
    sql_add(filter, "%I = $1 and %I = %D", stage->run->projection.seq, stage->set_name,
            (int64_t)set);
}

static void
build_statement(const Stage *stage, const Prepared *want, Buf *sql)
{
    SetRule rule = {.brought = {want->present, want->changes_key}, .with_key = true};
    BUF_AUTO(new);
    BUF_AUTO(old);
    BUF_AUTO(filled);

    add_line_filter(stage, &new, LINE_NEW);
    add_line_filter(stage, &old, want->changes_key ? LINE_OLD : LINE_NEW);
    add_line_filter(stage, &filled, LINE_FILLED);
    if (want->is_filled)
        rule.filled = buf_text(&filled);
    if (want->kind == CHANGE_INSERT) {
        stage_build_insert(stage, sql, STAGE_LINE_TABLE, buf_text(&new));
    } else if (want->kind == CHANGE_DELETE) {
        stage_build_delete(stage, sql, STAGE_LINE_TABLE, buf_text(&new));
    } else if (stage->run->projection.is_copy_statement) {
        const CopyUpdate update = {STAGE_LINE_TABLE, buf_text(want->is_filled ? &filled : &new),
                                   buf_text(&old)};

        stage_build_copy_update(stage, sql, want->step, &update);
    } else if (want->changes_key) {
        stage_build_key_update(stage, sql, buf_text(&new), buf_text(&old), &rule);
    } else {
        stage_build_update(stage, sql, STAGE_LINE_TABLE, buf_text(&new), &rule);
    }
}

static void
keep_statement(Stage *stage, const Prepared *statement)
{
    size_t bytes = (size_t)stage->key.column_count * sizeof(bool);
    Prepared *kept;

    if (stage->statement_count == stage->statement_size) {
        stage->statement_size = stage->statement_size == 0 ? 8 : stage->statement_size * 2;
        stage->statements =
            mem_grow(stage->statements, (size_t)stage->statement_size, sizeof *stage->statements);
    }
    kept = &stage->statements[stage->statement_count++];
    *kept = *statement;
    if (statement->present != NULL)
        kept->present =
            memcpy(arena_alloc(stage->statement_arena, bytes), statement->present, bytes);
}

/* The number of a prepared statement; prepares it when it is the first of its kind. */
static bool
find_statement(Stage *stage, const Prepared *want, int *number, Err *err)
{
    BUF_AUTO(sql);

    for (int i = 0; i < stage->statement_count; i++)
        if (same_statement(stage, &stage->statements[i], want)) {
            *number = i;
            return true;
        }
    sql_add(&sql, "prepare walter_%D (integer) as ", (int64_t)stage->statement_count);
    build_statement(stage, want, &sql);
    if (!query_exec(stage->conn, buf_text(&sql), err))
        return false;
    *number = stage->statement_count;
    keep_statement(stage, want);
    return true;
}

/* Drop all prepared statements when they have become many. */
static bool
limit_statements(Stage *stage, Err *err)
{
    BUF_AUTO(sql);

    if (stage->statement_count < STATEMENTS_MAX)
        return true;
    for (int i = 0; i < stage->statement_count; i++)
        sql_add(&sql, "deallocate walter_%D;", (int64_t)i);
    stage->statement_count = 0;
    arena_reset(stage->statement_arena);
    return query_exec(stage->conn, buf_text(&sql), err);
}

/* ---- staging ---- */

/* An out-of-line key comes as unchanged in the new row; its value is in the old one. */
static const Datum *
with_key(const Stage *stage, const Change *change)
{
    size_t bytes = (size_t)stage->key.column_count * sizeof(Datum);
    Datum *row;

    if (change->kind == CHANGE_DELETE)
        return change->old_row;
    if (change->old_row == NULL)
        return change->new_row;
    row = memcpy(arena_alloc(stage->batch.arena, bytes), change->new_row, bytes);
    for (int i = 0; i < stage->key.count; i++)
        if (row[stage->key.columns[i]].kind == DATUM_UNCHANGED)
            row[stage->key.columns[i]] = change->old_row[stage->key.columns[i]];
    return row;
}

static void
describe_lines(Work *work, const Change *changes)
{
    Stage *stage = work->stage;

    work->lines = arena_alloc(stage->batch.arena, (size_t)work->count * sizeof *work->lines);
    for (int i = 0; i < work->count; i++) {
        Line *line = &work->lines[i];

        line->change = &changes[i];
        line->row = with_key(stage, line->change);
        if (line->change->kind != CHANGE_UPDATE)
            continue;
        line->brought = (Brought){stage_present(stage, line->row, stage->batch.arena),
                                  line->change->old_row != NULL};
        line->needs_original = stage_needs_original(stage, &line->brought);
    }
}

static bool
stage_lines(const Work *work, Err *err)
{
    Stage *stage = work->stage;

    if (!stage_begin_copy(stage, STAGE_LINE_TABLE, err))
        return false;
    for (int i = 0; i < work->count; i++) {
        const Line *line = &work->lines[i];
        int seq = work->first_seq + i;

        if (!stage_add_row(stage, seq, LINE_NEW, line->row, err))
            return false;
        if (line->change->kind == CHANGE_UPDATE && line->change->old_row != NULL &&
            !stage_add_row(stage, seq, LINE_OLD, line->change->old_row, err))
            return false;
    }
    return stage_end_copy(stage, err);
}

/* Name all lines that lack the same columns as line `first`, as an array of their numbers. */
static void
ask_alike(const Work *work, int first, Buf *seqs)
{
    for (int i = first; i < work->count; i++) {
        Line *line = &work->lines[i];

        if (!line->needs_original || line->is_asked ||
            !same_brought(work->stage, &line->brought, &work->lines[first].brought))
            continue;
        line->is_asked = true;
        sql_add(seqs, "%S%D", seqs->len == 0 ? "{" : ",", (int64_t)work->first_seq + i);
    }
    buf_add_text(seqs, "}");
}

static bool
fill_alike(const Work *work, int first, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(seqs);
    FillWork fill = {.table = STAGE_LINE_TABLE,
                     .set = LINE_NEW,
                     .brought = work->lines[first].brought,
                     .new_set = LINE_FILLED};

    ask_alike(work, first, &seqs);
    fill.seqs = buf_text(&seqs);
    if (!stage_fill(work->stage, &fill, &rows, err))
        return false;
    for (int i = 0; i < rows_count(rows); i++)
        work->lines[rows_int(rows, i, 0) - work->first_seq].is_filled = true;
    return true;
}

static bool
fill_lines(const Work *work, Err *err)
{
    for (int i = 0; i < work->count; i++)
        if (work->lines[i].needs_original && !work->lines[i].is_asked && !fill_alike(work, i, err))
            return false;
    return true;
}

/* ---- running ---- */

static bool
add_statement(const Work *work, Message *message, int line, const Prepared *want, Err *err)
{
    int number = 0;

    if (!find_statement(work->stage, want, &number, err))
        return false;
    sql_add(&message->sql, "execute walter_%D (%D);", (int64_t)number,
            (int64_t)work->first_seq + line);
    message->lines[message->count++] = line;
    return true;
}

/*
 * An UPDATE under a copy statement.  A row that is gone from the original, or whose key has changed
 * since, has more changes to come; until then it must be found under its key.
 */
static bool
add_copy_update(const Work *work, Message *message, int number, Err *err)
{
    const Line *line = &work->lines[number];
    bool is_complete = !line->needs_original || line->is_filled;
    CopyStep last = is_complete ? COPY_ADD : COPY_MOVE;
    Prepared want = {.leaf = work->stage->leaf,
                     .kind = CHANGE_UPDATE,
                     .changes_key = line->change->old_row != NULL,
                     .is_filled = line->is_filled};

    if (!is_complete && !want.changes_key)
        return true;
    for (int step = is_complete ? COPY_REMOVE : COPY_MOVE; step <= (int)last; step++) {
        want.step = (CopyStep)step;
        if (!add_statement(work, message, number, &want, err))
            return false;
    }
    return true;
}

static bool
add_line(const Work *work, Message *message, int number, Err *err)
{
    const Line *line = &work->lines[number];
    Prepared want = {.leaf = work->stage->leaf, .kind = line->change->kind};

    if (want.kind == CHANGE_UPDATE) {
        if (work->stage->run->projection.is_copy_statement)
            return add_copy_update(work, message, number, err);
        want.changes_key = line->change->old_row != NULL;
        want.present = line->brought.present;
        want.is_filled = line->is_filled;
    }
    return add_statement(work, message, number, &want, err);
}

static bool
check_one_row(const Stage *stage, const Rows *rows, Err *err)
{
    return rows_affected(rows) == 1 || stage->run->projection.is_copy_statement ||
           err_set(err, ERR_MISMATCH,
                   "a change affected %lld rows instead of one: original and shadow have diverged",
                   (long long)rows_affected(rows));
}

/*
 * Send a message and wait for its results: one per statement, each of exactly one row.  All are read
 * whatever they say, for the transaction may go on from a savepoint.
 */
static bool
run_message(const Work *work, Message *message, Err *err)
{
    Conn *conn = work->stage->conn;
    bool ok = true;

    if (message->count == 0)
        return true;
    if (!query_send(conn, buf_text(&message->sql), err))
        return false;
    for (int i = 0; i < message->count; i++) {
        AUTO(Rows) *rows = NULL;

        *work->failed = message->lines[i];
        if (!query_next(conn, &rows, err))
            return false;
        if (rows == NULL)
            return err_set(err, ERR_FAILED, "the server gave fewer results than statements");
        ok = ok && check_one_row(work->stage, rows, err);
    }
    *work->failed = -1;
    buf_clear(&message->sql);
    message->count = 0;
    return query_finish(conn, NULL, err) && ok;
}

static bool
run_lines(const Work *work, Err *err)
{
    Message message = {0};
    bool ok = true;

    for (int i = 0; ok && i < work->count; i++) {
        ok = add_line(work, &message, i, err);
        if (ok && (message.count + COPY_ADD >= MESSAGE_STATEMENTS || i + 1 == work->count))
            ok = run_message(work, &message, err);
    }
    buf_done(&message.sql);
    return ok;
}

bool
stage_apply_ordered(Stage *stage, const Change *changes, int count, int *failed, Err *err)
{
    Work work = {.stage = stage, .count = count, .first_seq = stage->next_seq, .failed = failed};

    *failed = -1;
    stage->next_seq += count;
    describe_lines(&work, changes);
    if (!limit_statements(stage, err) || !stage_lines(&work, err))
        return err_wrap(err, "staging changes");
    return fill_lines(&work, err) && run_lines(&work, err);
}

/* ---- for messages ---- */

/* Stage the row alone and have the server render its key; *rows is new. */
static bool
read_key(Stage *stage, const Datum *row, Rows **rows, Err *err)
{
    const TableShape *original = &stage->run->original;
    BUF_AUTO(sql);

    buf_add_text(&sql, "select ");
    for (int i = 0; i < stage->key.count; i++)
        sql_add(&sql, "%S%I::text", i == 0 ? "" : ", ",
                original->columns[stage->key.columns[i]].name);
    sql_add(&sql, " from " STAGE_LINE_TABLE);
    return query_exec(stage->conn, "begin", err) &&
           stage_begin_copy(stage, STAGE_LINE_TABLE, err) &&
           stage_add_row(stage, 0, LINE_NEW, row, err) && stage_end_copy(stage, err) &&
           query_simple(stage->conn, buf_text(&sql), rows, err);
}

const char *
stage_describe_key(Stage *stage, const Datum *row)
{
    const Migration *run = stage->run;
    Err ignored = {0};
    AUTO(Rows) *rows = NULL;
    AUTO(Text) *text = NULL;
    BUF_AUTO(names);
    BUF_AUTO(values);
    bool ok = read_key(stage, row, &rows, &ignored) && rows_count(rows) == 1;

    query_rollback(stage->conn);
    if (!ok)
        return "";
    for (int i = 0; i < stage->key.count; i++) {
        const char *value = rows_text(rows, 0, i);

        buf_printf(&names, "%s%s", i == 0 ? "" : ", ",
                   run->original.columns[stage->key.columns[i]].name);
        buf_printf(&values, "%s%.200s", i == 0 ? "" : ", ", value == NULL ? "NULL" : value);
    }
    text = mem_format("(%s)=(%s)", buf_text(&names), buf_text(&values));
    return arena_copy(run->arena, text, strlen(text));
}
