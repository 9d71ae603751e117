/* The staging table; see stage.h. */
#include "phase/stage.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/stage_internal.h"

static const char *
keep_buf(Migration *run, const Buf *buf)
{
    return arena_copy(run->arena, buf_text(buf), buf->len);
}

static const char *
choose_name(Migration *run, const char *base)
{
    char name[64];
    int n = 0;

    (void)snprintf(name, sizeof name, "%s", base);
    while (catalog_find_column(&run->original, name) >= 0)
        (void)snprintf(name, sizeof name, "%s_%d", base, ++n);
    return arena_copy(run->arena, name, strlen(name));
}

/* A generated column depends on whatever its expression uses: taken as all columns. */
static const bool *
resolve_uses(Migration *run, const bool *uses)
{
    size_t count = (size_t)run->original.column_count;
    bool *resolved = arena_alloc(run->arena, count * sizeof *resolved);
    bool any = false;

    for (size_t i = 0; i < count; i++)
        any = any || (uses[i] && run->original.columns[i].generated);
    for (size_t i = 0; i < count; i++)
        resolved[i] = !run->original.columns[i].generated && (uses[i] || any);
    return resolved;
}

static void
describe_columns(Stage *stage, Buf *create)
{
    Migration *run = stage->run;
    BUF_AUTO(columns);
    BUF_AUTO(names);

    for (int i = 0; i < run->original.column_count; i++) {
        const Column *column = &run->original.columns[i];

        sql_add(create, ", %I %S", column->name, column->stage_type);
        if (column->collation != NULL)
            sql_add(create, " collate %S", column->collation);
        if (column->generated)
            sql_add(create, " generated always as (%S) stored", column->generation);
        else
            sql_add(&columns, ", %I", column->name);
        sql_add(&names, "%I, ", column->name);
    }
    stage->columns = keep_buf(run, &columns);
    stage->names = keep_buf(run, &names);
}

Stage *
stage_open(Migration *run, Conn *conn, Err *err)
{
    Stage *stage = mem_new(1, sizeof *stage);
    AUTO(Text) *sql = NULL;
    BUF_AUTO(create);

    stage->run = run;
    stage->conn = conn;
    stage->key = (RowKey){run->original.key, run->original.key_count, run->original.column_count};
    stage->set_name = choose_name(run, "walter_set");
    stage->uses =
        arena_alloc(run->arena, sizeof *stage->uses * (size_t)(run->projection.output_count + 1));
    for (int i = 0; i < run->projection.output_count; i++)
        stage->uses[i] = resolve_uses(run, run->projection.outputs[i].uses);
    sql_add(&create, "%I integer, %I integer", run->projection.seq, stage->set_name);
    describe_columns(stage, &create);
    sql = sql_build("create temporary table walter_stage (%S) on commit delete rows;"
                    "create temporary table walter_line (%S) on commit delete rows;"
                    "create index on pg_temp.walter_line (%I)",
                    buf_text(&create), buf_text(&create), run->projection.seq);
    if (!query_exec(conn, sql, err)) {
        err_wrap(err, "creating the staging table");
        stage_free(stage);
        return NULL;
    }
    return stage;
}

void
stage_free(Stage *stage)
{
    if (stage == NULL)
        return;
    buf_done(&stage->data);
    free(stage->statements);

    free(stage);
}

void
stage_begin(Stage *stage)
{
    stage->next_set = 1;
}

static bool
run_counted(const Stage *stage, const char *sql, int64_t expected, const char *what, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_simple(stage->conn, sql, &rows, err))
        return false;
    if (rows_affected(rows) != expected && !stage->run->projection.is_copy_statement)
        return err_set(err, ERR_MISMATCH,
                       "%s of %lld rows affected %lld: original and shadow have diverged", what,
                       (long long)expected, (long long)rows_affected(rows));
    return true;
}

/* ---- values that only the original has ---- */

bool
stage_needs_original(const Stage *stage, const Datum *row)
{
    bool present[1600 + 1];
    bool any = false;

    for (int i = 0; i < stage->key.column_count; i++) {
        present[i] = row[i].kind != DATUM_UNCHANGED;
        any = any || !present[i];
    }
    for (int i = 0; any && i < stage->run->projection.output_count; i++)
        if (stage_use_of(stage, i, present) == USE_MIXED ||
            (stage->run->projection.is_copy_statement && any))
            return true;
    return false;
}

/*
 * Wait until a new snapshot sees all these transactions; commits may be decoded before.
 * The stream has 32 bits of a transaction id; it is the one nearest to the snapshot's xmax.
 */
static bool
wait_until_visible(const Stage *stage, const StageWork *work, Err *err)
{
    BUF_AUTO(sql);

    if (work->xid_count == 0)
        return true;
    buf_add_text(&sql,
                 "with m as (select pg_catalog.pg_snapshot_xmax("
                 "pg_catalog.pg_current_snapshot())::text::numeric as x) select "
                 "pg_catalog.bool_and(pg_catalog.pg_visible_in_snapshot((m.x + pg_catalog.mod("
                 "v.xid - pg_catalog.mod(m.x, 4294967296) + 6442450944, 4294967296) - 2147483648)"
                 "::text::xid8, pg_catalog.pg_current_snapshot())) from m, (values ");
    for (int i = 0; i < work->xid_count; i++)
        buf_printf(&sql, "%s(%u::numeric)", i == 0 ? "" : ", ", work->xids[i]);
    buf_add_text(&sql, ") v (xid)");
    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!query_simple(stage->conn, buf_text(&sql), &rows, err))
            return false;
        if (rows_bool(rows, 0, 0))
            return true;
        if (!loop_pause(conn_loop(stage->conn), 20000, err))
            return false;
    }
}

/*
 * Fill the unsent values of set `set` from the original, and move the rows that were found to set
 * `found`.  A row that is gone, or whose key has changed since, has more changes to come.
 */
static bool
fill_from_original(const Stage *stage, int set, int found, const bool *present, int64_t *filled,
                   Err *err)
{
    const TableShape *original = &stage->run->original;
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(sql);

    sql_add(&sql, "update %S g set %I = %D", STAGE_TABLE, stage->set_name, (int64_t)found);
    for (int i = 0; i < original->column_count; i++)
        if (!present[i] && stage_is_sent(stage, i))
            sql_add(&sql, ", %I = o.%I", original->columns[i].name, original->columns[i].name);
    sql_add(&sql, " from only %S o where g.%I = %D", original->qualified, stage->set_name,
            (int64_t)set);
    for (int i = 0; i < original->key_count; i++) {
        const char *name = original->columns[original->key[i]].name;

        sql_add(&sql, " and g.%I = o.%I", name, name);
    }
    if (!query_simple(stage->conn, buf_text(&sql), &rows, err))
        return err_wrap(err, "reading unchanged values from %s", original->qualified);
    *filled = rows_affected(rows);
    return true;
}

/* ---- net operations ---- */

/* The UPDATEs of one set of sent columns. */
typedef struct Group {
    const bool *present;
    int set;
    int64_t rows;
    bool mixed;
} Group;

typedef struct Groups {
    Group *items;
    int count;
} Groups;

static Group *
find_group(Stage *stage, Groups *groups, const Datum *row, Arena *arena)
{
    size_t count = (size_t)stage->key.column_count;
    bool *present = arena_alloc(arena, count * sizeof *present);
    Group *items;

    for (size_t i = 0; i < count; i++)
        present[i] = row[i].kind != DATUM_UNCHANGED;
    for (int i = groups->count - 1; i >= 0; i--)
        if (memcmp(groups->items[i].present, present, count * sizeof *present) == 0)
            return &groups->items[i];
    items = arena_alloc(arena, (size_t)(groups->count + 1) * sizeof *items);
    if (groups->count > 0)
        memcpy(items, groups->items, (size_t)groups->count * sizeof *items);
    groups->items = items;
    items[groups->count] = (Group){
        .present = present, .set = stage->next_set++, .mixed = stage_needs_original(stage, row)};
    return &items[groups->count++];
}

typedef struct Sets {
    Groups updates;
    int delete_set;
    int insert_set;
    int64_t deletes;
    int64_t inserts;
} Sets;

static bool
stage_rows(Stage *stage, const StageWork *work, Sets *sets, Arena *arena, Err *err)
{
    if (!stage_begin_copy(stage, STAGE_TABLE, err))
        return false;
    sets->delete_set = stage->next_set++;
    sets->insert_set = stage->next_set++;
    for (int i = 0; i < work->count; i++) {
        const NetOp *op = &work->ops[i];
        int set = op->kind == NET_DELETE ? sets->delete_set : sets->insert_set;

        if (op->kind == NET_UPDATE) {
            Group *group = find_group(stage, &sets->updates, op->row, arena);

            group->rows++;
            set = group->set;
        } else if (op->kind == NET_DELETE) {
            sets->deletes++;
        } else {
            sets->inserts++;
        }
        if (!stage_add_row(stage, i, set, op->row, err) || !stage_flush_if_large(stage, err))
            return false;
    }
    return stage_end_copy(stage, err);
}

static void
add_filter(const Stage *stage, Buf *filter, int set)
{
    sql_add(filter, "%I = %D", stage->set_name, (int64_t)set);
}

static bool
run_update(Stage *stage, int set, const SetRule *rule, int64_t rows, Err *err)
{
    BUF_AUTO(filter);
    BUF_AUTO(sql);

    if (rows == 0)
        return true;
    add_filter(stage, &filter, set);
    stage_build_update(stage, &sql, STAGE_TABLE, buf_text(&filter), rule);
    return run_counted(stage, buf_text(&sql), rows, "an UPDATE", err);
}

/*
 * With a copy statement a change may move a row out of the statement's result, or into it: delete
 * what it no longer gives, update what it gives, insert what is missing.
 */
static bool
run_copy_update(Stage *stage, int set, const SetRule *rule, Err *err)
{
    const char *seq = stage->run->projection.seq;
    BUF_AUTO(filter);
    BUF_AUTO(gone);
    BUF_AUTO(missing);

    add_filter(stage, &filter, set);
    stage_build_delete(stage, &gone, STAGE_TABLE, buf_text(&filter));
    buf_add_text(&gone, " and not exists (select from ");
    stage_add_projected(stage, &gone, STAGE_TABLE, buf_text(&filter), "q");
    sql_add(&gone, " where q.%I = p.%I)", seq, seq);
    stage_build_insert(stage, &missing, STAGE_TABLE, buf_text(&filter));
    sql_add(&missing, " where not exists (select from only %S s where ",
            stage->run->shadow_qualified);
    stage_add_key_match(stage, &missing, "p");
    buf_add_text(&missing, ")");
    return query_exec(stage->conn, buf_text(&gone), err) && run_update(stage, set, rule, 1, err) &&
           query_exec(stage->conn, buf_text(&missing), err);
}

static bool
run_group(Stage *stage, const Group *group, const StageWork *work, Err *err)
{
    SetRule rule = {.present = group->present};
    int64_t filled = 0;
    int set = group->set;

    if (group->mixed) {
        if (!work->may_read)
            return err_set(err, ERR_RETRY,
                           "a change needs an unchanged value of the original, "
                           "which is locked for the swap");
        set = stage->next_set++;
        if (!wait_until_visible(stage, work, err) ||
            !fill_from_original(stage, group->set, set, group->present, &filled, err))
            return false;
        rule.with_mixed = true;
    }
    if (stage->run->projection.is_copy_statement)
        return run_copy_update(stage, set, &rule, err);
    if (group->mixed && !run_update(stage, set, &rule, filled, err))
        return false;
    rule.with_mixed = false;
    return run_update(stage, group->set, &rule, group->rows - filled, err);
}

bool
stage_apply(Stage *stage, const StageWork *work, Arena *arena, Err *err)
{
    Sets sets = {0};
    BUF_AUTO(filter);
    BUF_AUTO(sql);

    if (!stage_rows(stage, work, &sets, arena, err))
        return err_wrap(err, "staging changes");
    if (sets.deletes > 0) {
        add_filter(stage, &filter, sets.delete_set);
        stage_build_delete(stage, &sql, STAGE_TABLE, buf_text(&filter));
        if (!run_counted(stage, buf_text(&sql), sets.deletes, "a DELETE", err))
            return false;
    }
    for (int i = 0; i < sets.updates.count; i++)
        if (!run_group(stage, &sets.updates.items[i], work, err))
            return false;
    if (sets.inserts == 0)
        return true;
    buf_clear(&filter);
    buf_clear(&sql);
    add_filter(stage, &filter, sets.insert_set);
    stage_build_insert(stage, &sql, STAGE_TABLE, buf_text(&filter));
    return run_counted(stage, buf_text(&sql), sets.inserts, "an INSERT", err);
}
