/*
 * Values that were not sent; see stage.h.
 *
 * An UPDATE leaves out-of-line values that it did not touch out of the stream.  Where an expression
 * needs one of them beside others that changed, all that the expression needs is read from the
 * original: the row there may be newer than the change, and half of each would be a row that never
 * was.  It is read by a session of its own, so that no lock on the original lasts as long as apply's
 * transaction; or, while the original is locked for the swap, by the session that holds the lock.
 */
#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/stage_internal.h"

/* Keys of the rows wanted, in a temporary table of the reading session. */
#define WANTED_TABLE "pg_temp.walter_wanted"

static const int64_t VISIBLE_POLL_US = 20000;

/*
 * Are all these transactions visible?  The stream has 32 bits of a transaction id; it is the one
 * nearest to the snapshot's xmax.
 */
static const char SQL_VISIBLE_BEFORE[] =
    "with m as (select pg_catalog.pg_snapshot_xmax("
    "pg_catalog.pg_current_snapshot())::text::numeric as x) select "
    "pg_catalog.bool_and(pg_catalog.pg_visible_in_snapshot((m.x + pg_catalog.mod("
    "v.xid - pg_catalog.mod(m.x, 4294967296) + 6442450944, 4294967296) - 2147483648)"
    "::text::xid8, pg_catalog.pg_current_snapshot())) from m, (values ";

/* Wait until a new snapshot sees all the batch's transactions; commits may be decoded before. */
static bool
wait_until_visible(Stage *stage, Err *err)
{
    const StageBatch *batch = &stage->batch;
    BUF_AUTO(sql);

    if (stage->is_visible)
        return true;
    buf_add_text(&sql, SQL_VISIBLE_BEFORE);
    for (int i = 0; i < batch->xid_count; i++)
        sql_add(&sql, "%S(%D::numeric)", i == 0 ? "" : ", ", (int64_t)batch->xids[i]);
    buf_add_text(&sql, ") v (xid)");
    for (;;) {
        AUTO(Rows) *rows = NULL;

        if (!query_simple(stage->reader, buf_text(&sql), &rows, err))
            return false;
        stage->is_visible = rows_bool(rows, 0, 0);
        if (stage->is_visible)
            return true;
        if (!loop_pause(conn_loop(stage->reader), VISIBLE_POLL_US, err))
            return false;
    }
}

/* Which rows, for a table called `alias`. */
static void
add_filter(const Stage *stage, Buf *sql, const FillWork *work, int set, const char *alias)
{
    sql_add(sql, "%S.%I = %D", alias, stage->set_name, (int64_t)set);
    if (work->seqs != NULL)
        sql_add(sql, " and %S.%I = any (%L::integer[])", alias, stage->run->projection.seq,
                work->seqs);
}

static void
add_key_columns(const Stage *stage, Buf *sql, bool with_type)
{
    const TableShape *original = &stage->run->original;

    for (int i = 0; i < original->key_count; i++) {
        const Column *column = &original->columns[original->key[i]];

        sql_add(sql, ", %I%S%S", column->name, with_type ? " " : "",
                with_type ? column->stage_type : "");
        if (with_type && column->collation != NULL)
            sql_add(sql, " collate %S", column->collation);
    }
}

/* Tell the reading session which rows are wanted. */
static bool
send_keys(Stage *stage, Conn *reader, const FillWork *work, Err *err)
{
    const char *seq = stage->run->projection.seq;
    BUF_AUTO(create);
    BUF_AUTO(out);
    BUF_AUTO(in);

    sql_add(&create, "create temporary table if not exists walter_wanted (%I integer", seq);
    add_key_columns(stage, &create, true);
    buf_add_text(&create, ") on commit drop; grant all on " WANTED_TABLE
                          " to current_user; truncate " WANTED_TABLE);
    stage_add_copy_settings(stage, &out);
    sql_add(&out, "copy (select %I", seq);
    add_key_columns(stage, &out, false);
    sql_add(&out, " from %S g where ", work->table);
    add_filter(stage, &out, work, work->set, "g");
    sql_add(&out, ") to stdout%S", stage_copy_format(stage));
    sql_add(&in, "copy " WANTED_TABLE " from stdin%S", stage_copy_format(stage));
    return query_exec(reader, buf_text(&create), err) &&
           copydata_pipe(stage->conn, buf_text(&out), reader, buf_text(&in), NULL, err);
}

static bool
has_use(const UseList *uses, int column)
{
    for (int i = 0; i < uses->count; i++)
        if (uses->columns[i] == column)
            return true;
    return false;
}

/* Does a mixed output depend on the column?  Sent or not, all its columns must be of one version. */
static bool
is_read(const Stage *stage, const FillWork *work, int column)
{
    if (!stage_is_sent(stage, column))
        return false;
    for (int i = 0; i < stage->run->projection.output_count; i++)
        if (has_use(&stage->uses[i], column) && stage_use_of(stage, i, &work->brought) == USE_MIXED)
            return true;
    return false;
}

static bool
is_key(const Stage *stage, int column)
{
    for (int i = 0; i < stage->key.count; i++)
        if (stage->key.columns[i] == column)
            return true;
    return false;
}

/*
 * ", column" for each one that is read.  The key is the change's own: equal, but maybe other bytes,
 * and the shadow's row is found by it.
 */
static void
add_read_columns(const Stage *stage, Buf *sql, const FillWork *work, bool with_source)
{
    for (int i = 0; i < stage->key.column_count; i++)
        if (is_read(stage, work, i))
            sql_add(sql, ", %S%I",
                    !with_source       ? ""
                    : is_key(stage, i) ? "w."
                                       : "o.",
                    stage->run->original.columns[i].name);
}

/* Bring the values over: one statement, hence one snapshot. */
static bool
fetch_values(Stage *stage, Conn *reader, const FillWork *work, Err *err)
{
    const TableShape *original = &stage->run->original;
    const char *seq = stage->run->projection.seq;
    BUF_AUTO(out);
    BUF_AUTO(in);

    sql_add(&out, "copy (select w.%I, %D", seq, (int64_t)work->new_set);
    add_read_columns(stage, &out, work, true);
    sql_add(&out, " from " WANTED_TABLE " w join only %S o on ", stage->leaf->qualified);
    for (int i = 0; i < original->key_count; i++) {
        const char *name = original->columns[original->key[i]].name;

        sql_add(&out, "%So.%I %S w.%I", i == 0 ? "" : " and ", name, stage->key_equal[i], name);
    }
    sql_add(&out, ") to stdout%S", stage_copy_format(stage));
    sql_add(&in, "copy %S (%I, %I", work->table, seq, stage->set_name);
    add_read_columns(stage, &in, work, false);
    sql_add(&in, ") from stdin%S", stage_copy_format(stage));
    return copydata_pipe(reader, buf_text(&out), stage->conn, buf_text(&in), NULL, err);
}

static bool
bring(Stage *stage, Conn *reader, const FillWork *work, Err *err)
{
    return send_keys(stage, reader, work, err) && fetch_values(stage, reader, work, err) &&
           stage_end_copy_settings(stage, err);
}

/* By the session that holds the lock; who wrote the original was visible before he gave up his. */
static bool
read_as_holder(Stage *stage, const FillWork *work, Err *err)
{
    Conn *holder = stage->batch.holder;
    AUTO(Text) *role = sql_build("set local role %I", stage->run->original.owner);

    return query_exec(holder, role, err) && bring(stage, holder, work, err) &&
           query_exec(holder, "reset role", err);
}

static bool
read_original(Stage *stage, const FillWork *work, Err *err)
{
    if (stage->batch.holder != NULL)
        return read_as_holder(stage, work, err);
    if (stage->reader == NULL)
        stage->reader = migration_connect_owner(stage->run, CONN_SQL, "apply from", err);
    if (stage->reader == NULL || !wait_until_visible(stage, err))
        return false;
    if (query_exec(stage->reader, "begin", err) && bring(stage, stage->reader, work, err))
        return query_exec(stage->reader, "commit", err);
    query_rollback(stage->reader);
    return false;
}

bool
stage_fill(Stage *stage, const FillWork *work, Rows **rows, Err *err)
{
    const char *seq = stage->run->projection.seq;
    BUF_AUTO(sql);

    if (!read_original(stage, work, err))
        return err_wrap(err, "reading unchanged values from %s", stage->leaf->qualified);
    sql_add(&sql, "select g.%I from %S g where ", seq, work->table);
    add_filter(stage, &sql, work, work->new_set, "g");
    return query_simple(stage->conn, buf_text(&sql), rows, err);
}
