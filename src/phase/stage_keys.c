/* Keys of rows that are to be copied anew; see stage.h. */
#include "pg/copydata.h"
#include "pg/sql.h"
#include "phase/stage_internal.h"

void
stage_add_key_columns(const TableShape *original, Buf *sql, bool with_types)
{
    for (int i = 0; i < original->key_count; i++) {
        const Column *column = &original->columns[original->key[i]];

        sql_add(sql, ", %I", column->name);
        if (with_types)
            sql_add(sql, " %S", column->stage_type);
        if (with_types && column->collation != NULL)
            sql_add(sql, " collate %S", column->collation);
    }
}

bool
stage_begin_keys(Stage *stage, Err *err)
{
    stage->key_set = stage->next_set++;
    return stage_begin_copy(stage, STAGE_TABLE, err);
}

bool
stage_add_key(Stage *stage, int seq, const Datum *row, Err *err)
{
    return stage_add_row(stage, seq, stage->key_set, row, err);
}

/* The shadow's index for this is made by the renewal. */
static bool
forget(Stage *stage, Err *err)
{
    const Migration *run = stage->run;
    BUF_AUTO(filter);
    BUF_AUTO(keys);
    BUF_AUTO(sql);

    sql_add(&filter, "%I = %D", stage->set_name, (int64_t)stage->key_set);
    stage_add_key_columns(&run->original, &keys, false);
    stage_build_delete(stage, &sql, STAGE_TABLE, buf_text(&filter));
    sql_add(&sql,
            "; insert into %S (walter_leaf%S) select %D%S from " STAGE_TABLE
            " where %S on conflict do nothing",
            run->names.touched, buf_text(&keys), (int64_t)stage->leaf->oid, buf_text(&keys),
            buf_text(&filter));
    return query_exec(stage->conn, buf_text(&sql), err);
}

bool
stage_forget_keys(Stage *stage, Err *err)
{
    return stage_end_copy(stage, err) && forget(stage, err);
}

bool
stage_pipe_keys(Stage *stage, Conn *from, const char *query, Err *err)
{
    BUF_AUTO(in);
    AUTO(Text) *out = NULL;
    BUF_AUTO(keys);

    stage->key_set = stage->next_set++;
    stage_add_key_columns(&stage->run->original, &keys, false);
    out = sql_build("copy (select 0, %D%S from (%S) k) to stdout", (int64_t)stage->key_set,
                    buf_text(&keys), query);
    conn_add_pinned_formats(&in);
    sql_add(&in, "copy " STAGE_TABLE " (%I, %I%S) from stdin", stage->run->projection.seq,
            stage->set_name, buf_text(&keys));
    return copydata_pipe(from, out, stage->conn, buf_text(&in), NULL, err) &&
           query_exec(stage->conn, conn_role_formats(stage->conn), err) && forget(stage, err);
}
