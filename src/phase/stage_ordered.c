/*
 * Changes one after the other, in stream order; see stage.h.
 *
 * All rows are staged with one COPY; then one prepared single-row statement per change runs, many
 * of them in one message to the server.
 */
#include <stdio.h>
#include <string.h>

#include "pg/sql.h"
#include "phase/stage_internal.h"

/* In the line table: the row after a change, and the key before it. */
enum { LINE_NEW = 0, LINE_OLD = 1 };
/* Changes per message: enough to hide the round trip, few enough to stay small. */
enum { CHANGES_PER_MESSAGE = 200 };

static bool
same_present(const Stage *stage, const bool *a, const bool *b)
{
    return a == b || (a != NULL && b != NULL &&
                      memcmp(a, b, (size_t)stage->key.column_count * sizeof *a) == 0);
}

static void
build_statement(const Stage *stage, const Prepared *want, Buf *sql)
{
    const SetRule rule = {.present = want->present, .with_key = true};
    const char *seq = stage->run->projection.seq;
    BUF_AUTO(filter);
    BUF_AUTO(old_filter);

    sql_add(&filter, "%I = $1 and %I = %D", seq, stage->set_name, (int64_t)LINE_NEW);
    sql_add(&old_filter, "%I = $1 and %I = %D", seq, stage->set_name, (int64_t)LINE_OLD);
    if (want->kind == CHANGE_INSERT)
        stage_build_insert(stage, sql, STAGE_LINE_TABLE, buf_text(&filter));
    else if (want->kind == CHANGE_DELETE)
        stage_build_delete(stage, sql, STAGE_LINE_TABLE, buf_text(&filter));
    else if (want->changes_key)
        stage_build_key_update(stage, sql, buf_text(&filter), buf_text(&old_filter), &rule);
    else
        stage_build_update(stage, sql, STAGE_LINE_TABLE, buf_text(&filter), &rule);
}

/* The number of the prepared statement for a change; prepares it when it is the first of its kind. */
static bool
find_statement(Stage *stage, const Prepared *want, int *number, Err *err)
{
    BUF_AUTO(sql);
    size_t count = (size_t)stage->key.column_count;
    bool *present = NULL;

    for (int i = 0; i < stage->statement_count; i++)
        if (stage->statements[i].kind == want->kind &&
            stage->statements[i].changes_key == want->changes_key &&
            same_present(stage, stage->statements[i].present, want->present)) {
            *number = i;
            return true;
        }
    sql_add(&sql, "prepare walter_%D (integer) as ", (int64_t)stage->statement_count);
    build_statement(stage, want, &sql);
    if (!query_exec(stage->conn, buf_text(&sql), err))
        return false;
    if (stage->statement_count == stage->statement_size) {
        stage->statement_size = stage->statement_size == 0 ? 8 : stage->statement_size * 2;
        stage->statements =
            mem_grow(stage->statements, (size_t)stage->statement_size, sizeof *stage->statements);
    }
    if (want->present != NULL) {
        present = arena_alloc(stage->run->arena, count * sizeof *present);
        memcpy(present, want->present, count * sizeof *present);
    }
    *number = stage->statement_count++;
    stage->statements[*number] = *want;
    stage->statements[*number].present = present;
    return true;
}

static Prepared
statement_for(const Stage *stage, const Change *change, Arena *arena)
{
    Prepared want = {.kind = change->kind};
    bool *present;

    if (change->kind != CHANGE_UPDATE)
        return want;
    present = arena_alloc(arena, (size_t)stage->key.column_count * sizeof *present);
    for (int i = 0; i < stage->key.column_count; i++)
        present[i] = change->new_row[i].kind != DATUM_UNCHANGED;
    want.present = present;
    want.changes_key = change->old_row != NULL;
    return want;
}

/* An out-of-line key comes as unchanged in the new row; its value is in the old one. */
static const Datum *
with_key(const Stage *stage, const Change *change, Arena *arena)
{
    size_t bytes = (size_t)stage->key.column_count * sizeof(Datum);
    Datum *row;

    if (change->kind == CHANGE_DELETE)
        return change->old_row;
    if (change->old_row == NULL)
        return change->new_row;
    row = memcpy(arena_alloc(arena, bytes), change->new_row, bytes);
    for (int i = 0; i < stage->key.count; i++)
        if (row[stage->key.columns[i]].kind == DATUM_UNCHANGED)
            row[stage->key.columns[i]] = change->old_row[stage->key.columns[i]];
    return row;
}

static bool
stage_changes(Stage *stage, const Change *changes, int count, Arena *arena, Err *err)
{
    if (!query_exec(stage->conn, "delete from " STAGE_LINE_TABLE, err) ||
        !stage_begin_copy(stage, STAGE_LINE_TABLE, err))
        return false;
    for (int i = 0; i < count; i++) {
        if (!stage_add_row(stage, i, LINE_NEW, with_key(stage, &changes[i], arena), err))
            return false;
        if (changes[i].kind == CHANGE_UPDATE && changes[i].old_row != NULL &&
            !stage_add_row(stage, i, LINE_OLD, changes[i].old_row, err))
            return false;
        if (!stage_flush_if_large(stage, err))
            return false;
    }
    return stage_end_copy(stage, err);
}

/* Wait for the results of one message: one per change, each of exactly one row. */
static bool
check_results(Stage *stage, int first, int count, int *failed, Err *err)
{
    for (int i = 0; i < count; i++) {
        AUTO(Rows) *rows = NULL;

        *failed = first + i;
        if (!query_next(stage->conn, &rows, err))
            return false;
        if (rows == NULL)
            return err_set(err, ERR_FAILED, "the server gave fewer results than statements");
        if (rows_affected(rows) != 1)
            return err_set(err, ERR_MISMATCH,
                           "a change affected %lld rows instead of one: original and shadow have "
                           "diverged",
                           (long long)rows_affected(rows));
    }
    return query_finish(stage->conn, NULL, err);
}

bool
stage_apply_ordered(Stage *stage, const Change *changes, int count, Arena *arena, int *failed,
                    Err *err)
{
    *failed = 0;
    if (!stage_changes(stage, changes, count, arena, err))
        return err_wrap(err, "staging changes");
    for (int first = 0; first < count; first += CHANGES_PER_MESSAGE) {
        int end = first + CHANGES_PER_MESSAGE < count ? first + CHANGES_PER_MESSAGE : count;
        BUF_AUTO(message);

        for (int i = first; i < end; i++) {
            Prepared want = statement_for(stage, &changes[i], arena);
            int number = 0;

            if (!find_statement(stage, &want, &number, err))
                return false;
            sql_add(&message, "execute walter_%D (%D);", (int64_t)number, (int64_t)i);
        }
        if (!query_send(stage->conn, buf_text(&message), err) ||
            !check_results(stage, first, end - first, failed, err))
            return false;
    }
    return true;
}

const char *
stage_describe_key(Stage *stage, const Datum *row, Arena *arena)
{
    const Migration *run = stage->run;
    Err ignored = {0};
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(sql);
    BUF_AUTO(names);
    BUF_AUTO(values);

    buf_add_text(&sql, "select ");
    for (int i = 0; i < stage->key.count; i++)
        sql_add(&sql, "%S%I::text", i == 0 ? "" : ", ",
                run->original.columns[stage->key.columns[i]].name);
    sql_add(&sql, " from " STAGE_LINE_TABLE);
    if (!query_exec(stage->conn, "begin; delete from " STAGE_LINE_TABLE, &ignored) ||
        !stage_begin_copy(stage, STAGE_LINE_TABLE, &ignored) ||
        !stage_add_row(stage, 0, LINE_NEW, row, &ignored) || !stage_end_copy(stage, &ignored) ||
        !query_one(stage->conn, buf_text(&sql), NULL, &rows, &ignored)) {
        query_rollback(stage->conn);
        return "";
    }
    for (int i = 0; i < stage->key.count; i++) {
        const char *value = rows_text(rows, 0, i);

        buf_printf(&names, "%s%s", i == 0 ? "" : ", ",
                   run->original.columns[stage->key.columns[i]].name);
        buf_printf(&values, "%s%.200s", i == 0 ? "" : ", ", value == NULL ? "NULL" : value);
    }
    query_rollback(stage->conn);
    buf_printf(&names, ")=(%s", buf_text(&values));
    {
        AUTO(Text) *text = mem_format("(%s)", buf_text(&names));

        return arena_copy(arena, text, strlen(text));
    }
}
