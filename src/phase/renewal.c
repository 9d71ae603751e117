/* Going on with the copy under a newer snapshot; see renewal.h. */
#include "phase/renewal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "pg/copydata.h"
#include "pg/sql.h"
#include "pg/version.h"
#include "phase/apply.h"
#include "phase/copy_sql.h"
#include "phase/stage.h"

#define WANTED_TABLE "pg_temp.walter_recopy"

/* Keys per transaction: enough to hide the round trips. */
enum { SLICE_KEYS = 20000 };
/* So many are in a block of the list, or fewer. */
enum { KEYS_PER_BLOCK = 200 };

/* What one call works on. */
typedef struct Renewal {
    Migration *run;
    Chunks *chunks;
    Conn *reader;
    Conn *writer;
    int64_t slice;       /* keys per transaction */
    int64_t first_block; /* of the list of keys, and ... */
    int64_t end_block;   /* ... where it ends, 0 = take so many from anywhere */
    int64_t rows;        /* copied by their keys */
    int *moved;
} Renewal;

void
renewal_adopt(Migration *run, const Snapshot *snapshot)
{
    conn_close(run->keeper);
    run->keeper = snapshot->keeper;
    run->snapshot = snapshot->id;
    run->snapshot_lsn = snapshot->lsn;
}

/* ---- the index by which touched rows are found in the shadow ---- */

static char *
index_name(const Migration *run, int leaf)
{
    return mem_format("%s_key_%d", run->names.schema, leaf);
}

static void
add_index(const Migration *run, int leaf, Buf *sql)
{
    AUTO(Text) *name = index_name(run, leaf);

    sql_add(sql, "create index if not exists %I on %S (", name, run->leaves[leaf].shadow_qualified);
    for (int i = 0; i < run->original.key_count; i++)
        sql_add(sql, "%S%I", i == 0 ? "" : ", ", run->shadow.columns[run->shadow_key[i]].name);
    buf_add_text(sql, "); ");
}

static bool
create_index(Renewal *renewal, Err *err)
{
    Migration *run = renewal->run;
    BUF_AUTO(sql);

    buf_add_text(&sql, "set client_min_messages to warning; ");
    for (int i = 0; i < run->leaf_count; i++)
        add_index(run, i, &sql);
    run->has_key_index = true;
    return query_exec(renewal->writer, buf_text(&sql), err) ||
           err_wrap(err, "creating an index for the newer snapshot");
}

bool
renewal_drop_index(Migration *run, Conn *conn, Err *err)
{
    BUF_AUTO(sql);

    if (!run->has_key_index && run->record == NULL)
        return true;
    buf_add_text(&sql, "set client_min_messages to warning");
    for (int i = 0; i < run->leaf_count; i++) {
        AUTO(Text) *name = index_name(run, i);

        sql_add(&sql, "; drop index if exists %I.%I", run->names.shadow_schema, name);
    }
    run->has_key_index = false;
    return query_exec(conn, buf_text(&sql), err);
}

/* ---- what was touched ---- */

/* What a TRUNCATE has emptied is copied from the beginning, and waits for no other. */
static bool
begin_truncated_anew(Renewal *renewal, const bool *truncated, Err *err)
{
    Migration *run = renewal->run;

    for (int i = 0; i < run->leaf_count; i++) {
        Leaf *leaf = &run->leaves[i];
        uint32_t oid;

        if (!truncated[i])
            continue;
        chunks_begin_anew(run, renewal->chunks, i);
        leaf->place_changed = false;
        apply_expect_no_truncate(run->apply, i);
        if (!catalog_read_place(run->control, leaf->qualified, &oid, &leaf->filenode, err))
            return false;
    }
    return true;
}

static bool
touch(Renewal *renewal, Err *err)
{
    Migration *run = renewal->run;
    bool *truncated = mem_new((size_t)run->leaf_count, sizeof *truncated);
    bool ok;

    FAULT_POINT("renewal.indexed");
    ok = apply_touch(run->apply, run->snapshot_lsn, truncated, err) &&
         begin_truncated_anew(renewal, truncated, err);
    free(truncated);
    return ok;
}

/* ---- chunks that were copied in part ---- */

/*
 * A chunk that is written in several transactions may have been interrupted between two of them.  The
 * rows of its blocks are taken out of the shadow again, by their keys; those that have left these
 * blocks since were touched.
 */
static bool
forget_part(Renewal *renewal, const Rows *parts, int row, Err *err)
{
    Migration *run = renewal->run;
    AUTO(Text) *drop =
        sql_build("delete from %S where leaf = %S and first_block = %S", run->names.copied,
                  rows_text(parts, row, 0), rows_text(parts, row, 1));
    Chunk chunk = {.first_block = rows_int(parts, row, 1), .end_block = rows_int(parts, row, 2)};
    BUF_AUTO(begin);
    BUF_AUTO(query);

    FAULT_POINT("renewal.part_found");
    while (chunk.leaf < run->leaf_count &&
           run->leaves[chunk.leaf].oid != (uint32_t)rows_int(parts, row, 0))
        chunk.leaf++;
    if (chunk.leaf == run->leaf_count)
        return true;
    if (chunk.end_block >= CHUNKS_END)
        chunk.end_block = -1;
    copy_add_begin(run, &begin);
    conn_add_pinned_formats(&begin);
    sql_add(&query, "select * from ");
    copy_add_chunk(run, &query, &chunk);
    buf_add_text(&query, " c");
    return query_exec(renewal->reader, buf_text(&begin), err) &&
           apply_forget(run->apply, chunk.leaf, renewal->reader, buf_text(&query), drop, err) &&
           query_exec(renewal->reader, "commit", err);
}

static bool
forget_parts(Renewal *renewal, Err *err)
{
    AUTO(Text) *sql = sql_build("select leaf, first_block, end_block from %S where not is_whole",
                                renewal->run->names.copied);
    AUTO(Rows) *rows = NULL;

    if (!query_simple(renewal->run->control, sql, &rows, err))
        return err_wrap(err, "reading what is copied in part");
    for (int i = 0; i < rows_count(rows); i++)
        if (!forget_part(renewal, rows, i, err))
            return err_wrap(err, "removing rows of a chunk that was interrupted");
    return true;
}

/* ---- rows by their keys ---- */

/*
 * Which keys of the leaf are next: those in some blocks of the list, or as many as may be.  Keys that
 * were taken before are still there for the server to pass over, each time anew: blocks pass by once.
 */
static void
add_slice(const Renewal *renewal, int leaf, Buf *sql)
{
    const Migration *run = renewal->run;

    if (renewal->end_block > 0)
        sql_add(sql, "ctid >= '(%D,0)'::tid and ctid < '(%D,0)'::tid", renewal->first_block,
                renewal->end_block);
    else
        sql_add(sql, "ctid = any (array(select ctid from %S where walter_leaf = %D limit %D))",
                run->names.touched, (int64_t)run->leaves[leaf].oid, renewal->slice);
}

/* Keys go from walter.touched_<run> to a table of the reader, who sees nothing that is so new. */
static bool
move_keys(Renewal *renewal, int leaf, int64_t *count, Err *err)
{
    const Migration *run = renewal->run;
    BUF_AUTO(typed);
    BUF_AUTO(keys);
    BUF_AUTO(out);
    BUF_AUTO(in);

    stage_add_key_columns(&run->original, &typed, true);
    stage_add_key_columns(&run->original, &keys, false);
    buf_add_text(&out, "begin; ");
    conn_add_pinned_formats(&out);
    sql_add(&out, "copy (delete from %S where walter_leaf = %D and ", run->names.touched,
            (int64_t)run->leaves[leaf].oid);
    add_slice(renewal, leaf, &out);
    sql_add(&out, " returning %S) to stdout", buf_text(&keys) + 2);
    copy_add_begin(run, &in);
    conn_add_pinned_formats(&in);
    sql_add(&in,
            "set local enable_seqscan to off; create temporary table walter_recopy (%S)"
            " on commit drop; grant all on " WANTED_TABLE " to current_user;"
            " copy " WANTED_TABLE " from stdin",
            buf_text(&typed) + 2);
    return copydata_pipe(renewal->writer, buf_text(&out), renewal->reader, buf_text(&in), count,
                         err);
}

/* The rows that have these keys now and are in blocks that are copied, as the copy makes them. */
static void
add_wanted(const Renewal *renewal, int leaf, Buf *sql)
{
    const Migration *run = renewal->run;

    buf_add_text(sql, "(");
    copy_add_columns(run, sql);
    sql_add(sql, WANTED_TABLE " w join only %S o on ", run->leaves[leaf].qualified);
    for (int i = 0; i < run->original.key_count; i++) {
        const char *name = run->original.columns[run->original.key[i]].name;

        sql_add(sql, "%So.%I %S w.%I", i == 0 ? "" : " and ", name, run->key_equal[i], name);
    }
    buf_add_text(sql, " where ");
    chunks_add_done(renewal->chunks, leaf, "o", sql);
    buf_add_text(sql, ")");
}

static bool
copy_rows(Renewal *renewal, int leaf, Err *err)
{
    const Migration *run = renewal->run;
    const char *format = run->binary_copy ? " (format binary)" : "";
    int64_t rows = 0;
    BUF_AUTO(source);
    BUF_AUTO(out);
    BUF_AUTO(in);

    add_wanted(renewal, leaf, &source);
    buf_add_text(&out, conn_role_formats(renewal->reader));
    if (!run->binary_copy) {
        conn_add_pinned_formats(&out);
        buf_add_text(&out, conn_role_inputs(renewal->reader));
    }
    buf_add_text(&out, "copy (");
    copy_add_typed_select(run, &out, buf_text(&source));
    sql_add(&out, ") to stdout%S", format);
    buf_add_text(&in, conn_role_formats(renewal->writer));
    if (!run->binary_copy)
        conn_add_pinned_formats(&in);
    copy_add_into(run, &in, leaf);
    if (!copydata_pipe(renewal->reader, buf_text(&out), renewal->writer, buf_text(&in), &rows, err))
        return false;
    renewal->rows += rows;
    return true;
}

/* Under the reader's lock: are the blocks what they were? */
static bool
check_place(Renewal *renewal, int leaf, Err *err)
{
    const Leaf *read = &renewal->run->leaves[leaf];
    uint32_t oid;
    uint32_t filenode;

    if (!catalog_read_place(renewal->reader, read->qualified, &oid, &filenode, err))
        return false;
    if (oid != read->oid)
        return err_set(err, ERR_FAILED, "table %s was replaced during the copy", read->qualified);
    if (filenode != read->filenode)
        *renewal->moved = leaf;
    return true;
}

static void
give_back(Renewal *renewal)
{
    query_rollback(renewal->reader);
    query_rollback(renewal->writer);
}

/* One transaction; *count is how many keys there were. */
static bool
copy_slice(Renewal *renewal, int leaf, int64_t *count, Err *err)
{
    if (!move_keys(renewal, leaf, count, err) ||
        (*count > 0 && (!copy_rows(renewal, leaf, err) || !check_place(renewal, leaf, err))))
        return false;
    if (*renewal->moved >= 0) {
        give_back(renewal);
        return true;
    }
    FAULT_POINT("renewal.slice_uncommitted");
    return query_exec(renewal->reader, "commit", err) && query_exec(renewal->writer, "commit", err);
}

/* The only row of a slice does not fit: it is named by its key. */
static bool
name_row(Renewal *renewal, int leaf, Err *err)
{
    const Migration *run = renewal->run;
    AUTO(Text) *sql = NULL;
    AUTO(Rows) *rows = NULL;
    Err ignored = {0};
    BUF_AUTO(keys);

    for (int i = 0; i < run->original.key_count; i++)
        sql_add(&keys, "%S%I::text", i == 0 ? "" : ", ",
                run->original.columns[run->original.key[i]].name);
    sql = sql_build("select pg_catalog.concat_ws(', ', %S) from %S where walter_leaf = %D limit 1",
                    buf_text(&keys), run->names.touched, (int64_t)run->leaves[leaf].oid);
    if (!query_simple(renewal->writer, sql, &rows, &ignored) || rows_count(rows) == 0)
        return false;
    buf_clear(&keys);
    for (int i = 0; i < run->original.key_count; i++)
        buf_printf(&keys, "%s%s", i == 0 ? "" : ", ",
                   run->original.columns[run->original.key[i]].name);
    return err_wrap(err, "row (%s)=(%.200s) does not fit the new definition", buf_text(&keys),
                    rows_text(rows, 0, 0));
}

static bool
count_blocks(const Renewal *renewal, int64_t *blocks, Err *err)
{
    const Migration *run = renewal->run;
    AUTO(Rows) *rows = NULL;

    if (!query_one(run->control,
                   "select pg_catalog.pg_relation_size($1::pg_catalog.regclass)"
                   "       / pg_catalog.current_setting('block_size')::bigint",
                   (const char *const[]){run->names.touched, NULL}, &rows, err))
        return err_wrap(err, "measuring the list of keys");
    *blocks = rows_int(rows, 0, 0);
    return true;
}

/*
 * Block by block, where there is one leaf, and where the server finds blocks (from 14 on).  What does
 * not fit is left to copy_leaf.
 */
static bool
copy_blocks(Renewal *renewal, Err *err)
{
    const int64_t step = renewal->slice / KEYS_PER_BLOCK + 1;
    int64_t blocks = 0;
    int64_t count;
    bool ok = count_blocks(renewal, &blocks, err);

    for (int64_t at = 0; ok && at < blocks && *renewal->moved < 0; at += step) {
        renewal->first_block = at;
        renewal->end_block = at + step;
        ok = copy_slice(renewal, 0, &count, err);
    }
    renewal->end_block = 0;
    if (ok || err->kind != ERR_DATA)
        return ok;
    give_back(renewal);
    err_clear(err);
    return true;
}

/* Where a row does not fit, slices of one find out which. */
static bool
copy_leaf(Renewal *renewal, int leaf, Err *err)
{
    int64_t count = 1;

    if (renewal->run->leaf_count == 1 && version_has_tid_range_scan(renewal->reader) &&
        !copy_blocks(renewal, err))
        return false;
    while (count > 0 && *renewal->moved < 0) {
        if (copy_slice(renewal, leaf, &count, err))
            continue;
        if (err->kind != ERR_DATA)
            return false;
        give_back(renewal);
        if (renewal->slice == 1)
            return name_row(renewal, leaf, err);
        renewal->slice = 1;
        err_clear(err);
    }
    return true;
}

/* ---- all of it ---- */

static bool
open_sessions(Renewal *renewal, Err *err)
{
    Migration *run = renewal->run;
    ConnKind kind =
        run->binary_copy || run->projection.is_copy_statement ? CONN_EXPRESSIONS : CONN_SQL;

    renewal->writer = migration_connect_owner(run, kind, "copy to", err);
    if (renewal->writer == NULL)
        return false;
    renewal->reader = migration_connect_owner(run, kind, "copy from", err);
    return renewal->reader != NULL;
}

/* Sizes are estimates, so somebody's lock on the table is no reason to fail, or to wait. */
static bool
extend(Renewal *renewal, Err *err)
{
    if (chunks_extend(renewal->run, renewal->chunks, err))
        return true;
    if (err->kind != ERR_RETRY)
        return false;
    err_clear(err);
    return true;
}

static bool
settle(Renewal *renewal, Err *err)
{
    Migration *run = renewal->run;

    if (!open_sessions(renewal, err) || !create_index(renewal, err) || !touch(renewal, err) ||
        !extend(renewal, err) || !forget_parts(renewal, err))
        return false;
    for (int i = 0; i < run->leaf_count && *renewal->moved < 0; i++)
        if (!copy_leaf(renewal, i, err))
            return err_wrap(err, "copying rows of %s that were changed meanwhile",
                            run->leaves[i].qualified);
    return true;
}

/* How many keys fit into a transaction, by the rows' size as far as it is known. */
static int64_t
choose_slice(const Migration *run, int64_t most_bytes)
{
    int64_t bytes = most_bytes / (FOOTPRINT_ROW_BYTES + 1);
    const Counters *counters = &run->counters;

    if (counters->rows_estimated > 0)
        bytes = most_bytes /
                (FOOTPRINT_ROW_BYTES + counters->blocks_total * 8192 / counters->rows_estimated);
    return bytes < 1 ? 1 : bytes > SLICE_KEYS ? SLICE_KEYS : bytes;
}

bool
renewal_settle(Migration *run, Chunks *chunks, int64_t most_bytes, int *moved, Err *err)
{
    int64_t started_us = clock_now_us();
    Renewal renewal = {
        .run = run, .chunks = chunks, .slice = choose_slice(run, most_bytes), .moved = moved};
    bool ok = settle(&renewal, err);

    FAULT_POINT("renewal.done");
    conn_close(renewal.reader);
    conn_close(renewal.writer);
    if (ok)
        log_info("the copy has a new snapshot; %lld rows that were changed since the last one were "
                 "copied again, in %.1f s",
                 (long long)renewal.rows, (double)(clock_now_us() - started_us) / 1e6);
    return ok;
}

/* ---- keys that become one ---- */

static bool
is_integer(const char *type)
{
    return strcmp(type, "smallint") == 0 || strcmp(type, "integer") == 0 ||
           strcmp(type, "bigint") == 0;
}

/* Is the column, which may have been renamed in between, given a USING expression? */
static bool
is_computed(const Ddl *ddl, const char *name)
{
    for (int i = 0; i < ddl->statement_count; i++)
        for (int j = 0; j < ddl->statements[i].action_count; j++) {
            const DdlAction *action = &ddl->statements[i].actions[j];

            if (action->column == NULL || strcmp(action->column, name) != 0)
                continue;
            if (action->kind == ACTION_ALTER_TYPE && action->expression != NULL)
                return true;
            if (action->kind == ACTION_RENAME_COLUMN)
                name = action->new_name;
        }
    return false;
}

/* Values of another type may be equal that were not; so may those of another collation. */
static bool
keeps_apart(const Column *before, const Column *after)
{
    if (strcmp(before->type, after->type) == 0)
        return before->collation_oid == after->collation_oid;
    return is_integer(before->type) && is_integer(after->type);
}

/* What a copy statement does is its author's business: rows may be left out on purpose. */
static bool
may_merge_keys(const Migration *run)
{
    if (run->projection.is_copy_statement || (!run->has_key_index && run->record == NULL))
        return false;
    for (int i = 0; i < run->original.key_count; i++) {
        const Column *before = &run->original.columns[run->original.key[i]];

        if (is_computed(&run->ddl, before->name) ||
            !keeps_apart(before, &run->shadow.columns[run->shadow_key[i]]))
            return true;
    }
    return false;
}

static bool
count_rows(Conn *conn, const char *table, int64_t *count, Err *err)
{
    AUTO(Text) *sql = sql_build("select pg_catalog.count(*) from only %S", table);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, sql, NULL, &rows, err))
        return false;
    *count = rows_int(rows, 0, 0);
    return true;
}

/* Of a leaf that was emptied meanwhile a snapshot sees no row any more: the stream tells of that. */
static bool
check_leaf(Migration *run, Conn *conn, int leaf, Err *err)
{
    const char *qualified = run->leaves[leaf].qualified;
    int64_t before;
    int64_t after;
    BUF_AUTO(begin);

    copy_add_begin(run, &begin);
    if (!count_rows(conn, run->leaves[leaf].shadow_qualified, &after, err) ||
        !query_exec(conn, buf_text(&begin), err) || !count_rows(conn, qualified, &before, err) ||
        !query_exec(conn, "commit", err))
        return false;
    if (after >= before)
        return true;
    err_set(err, ERR_DATA, "rows of %s have keys that are one under the new definition", qualified);
    return err_hint(err, "Nothing was swapped.  Look for keys that the ALTER makes equal.");
}

bool
renewal_check_count(Migration *run, Err *err)
{
    AUTO(Conn) *conn = NULL;

    if (!may_merge_keys(run))
        return true;
    conn = migration_connect_owner(run, CONN_SQL, "count", err);
    if (conn == NULL)
        return false;
    log_info("counting, because keys may have become one");
    for (int i = 0; i < run->leaf_count; i++)
        if (!check_leaf(run, conn, i, err))
            return false;
    return true;
}
