/* The staging tables and net operations over them; see stage.h. */
#include "phase/stage.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/definition.h"
#include "phase/stage_internal.h"

/* The server keeps the parse trees of all statements of a message: no more than these at once. */
static const size_t MESSAGE_BYTES = 256UL * 1024;

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
static UseList
resolve_uses(Migration *run, const bool *uses)
{
    const TableShape *original = &run->original;
    UseList list = {0};
    bool all = false;

    for (int i = 0; i < original->column_count; i++) {
        all = all || (uses[i] && original->columns[i].generated);
        list.count += uses[i] ? 1 : 0;
    }
    if (all)
        list.count = original->column_count;
    list.columns = arena_alloc(run->arena, (size_t)(list.count + 1) * sizeof *list.columns);
    list.count = 0;
    for (int i = 0; i < original->column_count; i++)
        if ((uses[i] || all) && !original->columns[i].generated)
            list.columns[list.count++] = i;
    return list;
}

/* The columns of a staging table behind the two of ours; also fills the lists in `stage`. */
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

/* Default privileges may take from the owner himself; so he grants himself his tables. */
static const char SQL_TABLES[] = "create temporary table walter_stage (%S) on commit delete rows;"
                                 "create temporary table walter_line (%S) on commit delete rows;"
                                 "grant all on pg_temp.walter_stage, pg_temp.walter_line"
                                 " to current_user;"
                                 "create index on pg_temp.walter_line (%I)";

static void
describe_uses(Stage *stage)
{
    Migration *run = stage->run;
    const Projection *projection = &run->projection;
    size_t bytes = sizeof *stage->uses * (size_t)(projection->output_count + 1);

    stage->uses = arena_alloc(run->arena, bytes);
    for (int i = 0; i < projection->output_count; i++) {
        stage->uses[i] = resolve_uses(run, projection->outputs[i].uses);
        stage->may_mix =
            stage->may_mix || (stage->uses[i].count > 1 && !projection->outputs[i].is_new);
    }
}

static bool
read_key_operators(Stage *stage, Err *err)
{
    const TableShape *original = &stage->run->original;

    stage->key_equal = arena_alloc(stage->run->arena,
                                   sizeof *stage->key_equal * (size_t)(original->key_count + 1));
    for (int i = 0; i < original->key_count; i++) {
        const Column *column = &original->columns[original->key[i]];

        stage->key_equal[i] = definition_read_equality(stage->run, stage->conn, column, err);
        if (stage->key_equal[i] == NULL)
            return false;
    }
    stage->run->key_equal = stage->key_equal;
    return true;
}

Stage *
stage_open(Migration *run, Conn *conn, Err *err)
{
    Stage *stage = mem_new(1, sizeof *stage);
    BUF_AUTO(create);
    BUF_AUTO(sql);

    stage->run = run;
    stage->conn = conn;
    stage->leaf = &run->leaves[0];
    stage->key = (RowKey){run->original.key, run->original.key_count, run->original.column_count};
    stage->set_name = choose_name(run, "walter_set");
    stage->statement_arena = arena_new();
    describe_uses(stage);
    sql_add(&create, "%I integer, %I integer", run->projection.seq, stage->set_name);
    describe_columns(stage, &create);
    sql_add(&sql, SQL_TABLES, buf_text(&create), buf_text(&create), run->projection.seq);
    /*
     * Plans are made while a staging table has few rows and kept when it has many: its index, and
     * never a scan of the whole shadow.
     */
    buf_add_text(&sql, "; set enable_seqscan to off");
    if (!query_exec(conn, buf_text(&sql), err) || !read_key_operators(stage, err)) {
        err_wrap(err, "creating the staging tables");
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
    conn_close(stage->reader);
    buf_done(&stage->data);
    arena_free(stage->statement_arena);
    free(stage->statements);
    free(stage);
}

void
stage_aim(Stage *stage, const Leaf *leaf)
{
    stage->leaf = leaf;
}

bool
stage_begin(Stage *stage, const StageBatch *batch, bool again, Err *err)
{
    stage->batch = *batch;
    stage->is_visible = batch->xid_count == 0;
    if (again)
        return query_exec(stage->conn, "truncate " STAGE_TABLE ", " STAGE_LINE_TABLE, err);
    stage->next_seq = 0;
    stage->next_set = 0;
    return true;
}

/* ---- which columns an UPDATE brings ---- */

bool *
stage_present(const Stage *stage, const Datum *row, Arena *arena)
{
    size_t count = (size_t)stage->key.column_count;
    bool *present = arena_alloc(arena, count * sizeof *present);

    for (size_t i = 0; i < count; i++)
        present[i] = row[i].kind != DATUM_UNCHANGED;
    return present;
}

bool
stage_needs_original(const Stage *stage, const Brought *brought)
{
    if (!stage->may_mix)
        return false;
    for (int i = 0; i < stage->run->projection.output_count; i++)
        if (stage_use_of(stage, i, brought) == USE_MIXED)
            return true;
    return false;
}

/* ---- net operations ---- */

/* The UPDATEs of one set of sent columns. */
typedef struct Group {
    const bool *present;
    int set;
    int64_t rows;
} Group;

typedef struct Groups {
    Group *items;
    int count;
    int size;
} Groups;

/* A statement on its way, and how many rows it must affect. */
typedef struct Sent {
    const char *what;
    int64_t rows;
} Sent;

/* What is staged, under which numbers, and what of it the server is applying. */
struct Sets {
    Groups updates;
    int delete_set;
    int insert_set;
    int64_t deletes;
    int64_t inserts;
    Sent *sent;
    int sent_count;
    int next_update; /* the first group whose statement is not sent yet */
    bool in_steps;   /* some updates take several steps */
    bool has_more;   /* more is sent behind the first message, and the inserts at its end */
};

static Group *
add_group(Stage *stage, Groups *groups, const bool *present)
{
    if (groups->count == groups->size) {
        int size = groups->size == 0 ? 8 : groups->size * 2;
        Group *items = arena_alloc(stage->batch.arena, (size_t)size * sizeof *items);

        if (groups->count > 0)
            memcpy(items, groups->items, (size_t)groups->count * sizeof *items);
        groups->items = items;
        groups->size = size;
    }
    groups->items[groups->count] = (Group){.present = present, .set = stage->next_set++};
    return &groups->items[groups->count++];
}

static bool
has_columns(const Stage *stage, const bool *present, const Datum *row)
{
    for (int i = 0; i < stage->key.column_count; i++)
        if (present[i] != (row[i].kind != DATUM_UNCHANGED))
            return false;
    return true;
}

static Group *
find_group(Stage *stage, Groups *groups, const Datum *row)
{
    for (int i = groups->count - 1; i >= 0; i--)
        if (has_columns(stage, groups->items[i].present, row))
            return &groups->items[i];
    return add_group(stage, groups, stage_present(stage, row, stage->batch.arena));
}

/* The set that the operation belongs to, where it is counted. */
static int
count_op(Stage *stage, Sets *sets, const NetOp *op)
{
    Group *group;

    switch (op->kind) {
    case NET_DELETE:
        sets->deletes++;
        return sets->delete_set;
    case NET_INSERT:
        sets->inserts++;
        return sets->insert_set;
    case NET_UPDATE:
        break;
    }
    group = find_group(stage, &sets->updates, op->row);
    group->rows++;
    return group->set;
}

static bool
stage_ops(Stage *stage, const NetOp *ops, int count, Sets *sets, Err *err)
{
    if (!stage_begin_copy(stage, STAGE_TABLE, err))
        return false;
    sets->delete_set = stage->next_set++;
    sets->insert_set = stage->next_set++;
    for (int i = 0; i < count; i++)
        if (!stage_add_row(stage, stage->next_seq++, count_op(stage, sets, &ops[i]), ops[i].row,
                           err))
            return false;
    return stage_end_copy(stage, err);
}

static bool
check_affected(const Stage *stage, const Rows *rows, const Sent *sent, Err *err)
{
    if (rows_affected(rows) == sent->rows || stage->run->projection.is_copy_statement)
        return true;
    return err_set(err, ERR_MISMATCH,
                   "%s of %lld rows affected %lld: original and shadow have diverged", sent->what,
                   (long long)sent->rows, (long long)rows_affected(rows));
}

static bool
run_counted(const Stage *stage, const char *sql, const Sent *sent, Err *err)
{
    AUTO(Rows) *rows = NULL;

    return query_simple(stage->conn, sql, &rows, err) && check_affected(stage, rows, sent, err);
}

static void
add_filter(const Stage *stage, Buf *filter, int set)
{
    sql_add(filter, "%I = %D", stage->set_name, (int64_t)set);
}

static bool
run_update(Stage *stage, const char *filter, const SetRule *rule, int64_t rows, Err *err)
{
    BUF_AUTO(sql);

    if (rows == 0)
        return true;
    stage_build_update(stage, &sql, STAGE_TABLE, filter, rule);
    return run_counted(stage, buf_text(&sql), &(Sent){"an UPDATE", rows}, err);
}

/* With a copy statement a change may move a row out of the statement's result, or into it. */
static bool
run_copy_update(Stage *stage, int set, Err *err)
{
    BUF_AUTO(filter);

    add_filter(stage, &filter, set);
    for (int step = COPY_REMOVE; step <= COPY_ADD; step++) {
        const CopyUpdate update = {STAGE_TABLE, buf_text(&filter), buf_text(&filter)};
        BUF_AUTO(sql);

        stage_build_copy_update(stage, &sql, (CopyStep)step, &update);
        if (!query_exec(stage->conn, buf_text(&sql), err))
            return false;
    }
    return true;
}

/* Read what the mixed outputs of a group need, into the set `set`; *filled rows have it. */
static bool
fill_group(Stage *stage, const Group *group, int set, int64_t *filled, Err *err)
{
    const FillWork work = {.table = STAGE_TABLE,
                           .set = group->set,
                           .brought = {.present = group->present},
                           .new_set = set};
    AUTO(Rows) *rows = NULL;

    if (!stage_fill(stage, &work, &rows, err))
        return false;
    *filled = rows_count(rows);
    return true;
}

/* The rows of the group that have, or have not, what was read from the original. */
static bool
run_half(Stage *stage, const Group *group, int filled_set, bool has, int64_t rows, Err *err)
{
    const char *seq = stage->run->projection.seq;
    SetRule rule = {.brought = {.present = group->present}};
    BUF_AUTO(filled);
    BUF_AUTO(filter);

    add_filter(stage, &filled, filled_set);
    add_filter(stage, &filter, group->set);
    sql_add(&filter, " and %I %S (select %I from " STAGE_TABLE " where %S)", seq,
            has ? "in" : "not in", seq, buf_text(&filled));
    if (has)
        rule.filled = buf_text(&filled);
    return run_update(stage, buf_text(&filter), &rule, rows, err);
}

static bool
run_mixed_group(Stage *stage, const Group *group, Err *err)
{
    int set = stage->next_set++;
    int64_t filled = 0;

    if (!fill_group(stage, group, set, &filled, err))
        return false;
    if (stage->run->projection.is_copy_statement)
        return run_copy_update(stage, set, err);
    return run_half(stage, group, set, true, filled, err) &&
           run_half(stage, group, set, false, group->rows - filled, err);
}

/* Can the server do it in one statement? */
static bool
is_in_steps(const Stage *stage, const Group *group)
{
    const Brought brought = {.present = group->present};

    return stage->run->projection.is_copy_statement || stage_needs_original(stage, &brought);
}

static bool
run_steps(Stage *stage, const Group *group, Err *err)
{
    const Brought brought = {.present = group->present};

    return stage_needs_original(stage, &brought) ? run_mixed_group(stage, group, err)
                                                 : run_copy_update(stage, group->set, err);
}

/* ---- the statements for them ---- */

static void
note_sent(Sets *sets, Buf *sql, const char *what, int64_t rows)
{
    buf_add_text(sql, ";");
    sets->sent[sets->sent_count++] = (Sent){what, rows};
}

static void
add_deletes(const Stage *stage, Sets *sets, Buf *sql)
{
    BUF_AUTO(filter);

    if (sets->deletes == 0)
        return;
    add_filter(stage, &filter, sets->delete_set);
    stage_build_delete(stage, sql, STAGE_TABLE, buf_text(&filter));
    note_sent(sets, sql, "a DELETE", sets->deletes);
}

static void
add_update(const Stage *stage, Sets *sets, const Group *group, Buf *sql)
{
    const SetRule rule = {.brought = {.present = group->present}};
    BUF_AUTO(filter);

    add_filter(stage, &filter, group->set);
    stage_build_update(stage, sql, STAGE_TABLE, buf_text(&filter), &rule);
    note_sent(sets, sql, "an UPDATE", group->rows);
}

static void
add_inserts(const Stage *stage, Sets *sets, Buf *sql)
{
    BUF_AUTO(filter);

    if (sets->inserts == 0)
        return;
    add_filter(stage, &filter, sets->insert_set);
    stage_build_insert(stage, sql, STAGE_TABLE, buf_text(&filter));
    note_sent(sets, sql, "an INSERT", sets->inserts);
}

/* As many as one message takes: a table with many out-of-line values may have many groups. */
static void
add_updates(const Stage *stage, Sets *sets, Buf *sql)
{
    while (sets->next_update < sets->updates.count && sql->len < MESSAGE_BYTES) {
        const Group *group = &sets->updates.items[sets->next_update++];

        if (is_in_steps(stage, group))
            sets->in_steps = true;
        else
            add_update(stage, sets, group, sql);
    }
}

/* Room for what is sent: a statement per group, and two. */
static void
make_room(Stage *stage, Sets *sets)
{
    size_t count = (size_t)sets->updates.count + 2;

    sets->sent = arena_alloc(stage->batch.arena, count * sizeof *sets->sent);
}

static bool
send(Stage *stage, const Buf *sql, Err *err)
{
    return sql->len == 0 || query_send(stage->conn, buf_text(sql), err);
}

bool
stage_send(Stage *stage, const NetOp *ops, int count, Err *err)
{
    Sets *sets = arena_alloc(stage->batch.arena, sizeof *sets);
    BUF_AUTO(sql);

    stage->sets = sets;
    if (!stage_ops(stage, ops, count, sets, err))
        return err_wrap(err, "staging changes");
    make_room(stage, sets);
    add_deletes(stage, sets, &sql);
    add_updates(stage, sets, &sql);
    sets->has_more = sets->in_steps || sets->next_update < sets->updates.count;
    if (!sets->has_more)
        add_inserts(stage, sets, &sql);
    return send(stage, &sql, err);
}

/* The results of what was sent, one per statement; afterwards the session is free again. */
static bool
collect_sent(Stage *stage, Err *err)
{
    Sets *sets = stage->sets;
    bool ok = true;

    for (int i = 0; i < sets->sent_count; i++) {
        AUTO(Rows) *rows = NULL;

        if (!query_next(stage->conn, &rows, err))
            return false;
        if (rows == NULL)
            return err_set(err, ERR_FAILED, "the server gave fewer results than statements");
        ok = ok && check_affected(stage, rows, &sets->sent[i], err);
    }
    if (sets->sent_count > 0 && !query_finish(stage->conn, NULL, err))
        return false;
    sets->sent_count = 0;
    return ok;
}

/* The updates that had no room in the first message. */
static bool
send_rest(Stage *stage, Err *err)
{
    Sets *sets = stage->sets;

    while (sets->next_update < sets->updates.count) {
        BUF_AUTO(sql);

        add_updates(stage, sets, &sql);
        if (!send(stage, &sql, err) || !collect_sent(stage, err))
            return false;
    }
    return true;
}

bool
stage_collect(Stage *stage, Err *err)
{
    Sets *sets = stage->sets;
    BUF_AUTO(sql);

    if (!collect_sent(stage, err))
        return false;
    if (!sets->has_more)
        return true;
    if (!send_rest(stage, err))
        return false;
    for (int i = 0; i < sets->updates.count; i++) {
        const Group *group = &sets->updates.items[i];

        if (is_in_steps(stage, group) && !run_steps(stage, group, err))
            return false;
    }
    add_inserts(stage, sets, &sql);
    return send(stage, &sql, err) && collect_sent(stage, err);
}
