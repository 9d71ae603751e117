/* The statements of the copy; see copy_sql.h. */
#include "phase/copy_sql.h"

#include "pg/sql.h"
#include "pg/version.h"

void
copy_add_begin(const Migration *run, Buf *sql)
{
    sql_add(sql, "begin isolation level repeatable read; set transaction snapshot %L;",
            run->snapshot);
}

void
copy_add_columns(const Migration *run, Buf *sql)
{
    buf_add_text(sql, "select ");
    for (int i = 0; i < run->original.column_count; i++)
        sql_add(sql, "o.%I, ", run->original.columns[i].name);
    sql_add(sql, "null::integer as %I from ", run->projection.seq);
}

/* No TID range scan before 14, but a TID may be looked up in an array. */
static void
add_tid_array(Buf *sql, const Chunk *chunk)
{
    sql_add(sql,
            "o.ctid = any (array(select pg_catalog.format('(%%s,%%s)', b, i)::tid from "
            "pg_catalog.generate_series(%D, %D) b, pg_catalog.generate_series(1, 291) i))",
            chunk->first_block, chunk->end_block - 1);
}

void
copy_add_chunk(const Migration *run, Buf *sql, const Chunk *chunk)
{
    buf_add_text(sql, "(");
    copy_add_columns(run, sql);
    sql_add(sql, "only %S o where ", run->leaves[chunk->leaf].qualified);
    if (!version_has_tid_range_scan(run->control) && chunk->end_block >= 0) {
        add_tid_array(sql, chunk);
    } else {
        sql_add(sql, "o.ctid >= '(%D,0)'::tid", chunk->first_block);
        if (chunk->end_block >= 0)
            sql_add(sql, " and o.ctid < '(%D,0)'::tid", chunk->end_block);
    }
    buf_add_text(sql, ")");
}

static void
add_select(const Migration *run, Buf *sql, const char *source, bool typed)
{
    buf_add_text(sql, "select ");
    for (int i = 0; i < run->projection.output_count; i++) {
        const Output *output = &run->projection.outputs[i];

        sql_add(sql, "%Sp.%I", i == 0 ? "" : ", ", output->name);
        /* without modifiers: what is too long is to be an error, as it is for INSERT */
        if (typed)
            sql_add(sql, "::%S", run->shadow.columns[output->column].base_type);
    }
    sql_add(sql, " from (%S%S%S) p", run->projection.head, source, run->projection.tail);
}

void
copy_add_select(const Migration *run, Buf *sql, const char *source)
{
    add_select(run, sql, source, false);
}

void
copy_add_typed_select(const Migration *run, Buf *sql, const char *source)
{
    add_select(run, sql, source, run->projection.is_copy_statement);
}

void
copy_add_measure(const Migration *run, Buf *sql, const Chunk *chunk)
{
    sql_add(sql,
            "select pg_catalog.count(*), coalesce(pg_catalog.sum(s.bytes), 0),"
            " pg_catalog.count(*) filter (where s.bytes > %D) from (select %S as bytes from ",
            FOOTPRINT_LONG_ROW - run->footprint.fixed_bytes, run->footprint.varying);
    copy_add_chunk(run, sql, chunk);
    /* else the sizes would be asked for twice */
    buf_add_text(sql, " o offset 0) s");
}

void
copy_add_insert(const Migration *run, Buf *sql, const Chunk *chunk)
{
    BUF_AUTO(source);

    copy_add_chunk(run, &source, chunk);
    sql_add(sql, "insert into %S (%S) overriding system value ",
            run->leaves[chunk->leaf].shadow_qualified, run->outputs);
    copy_add_select(run, sql, buf_text(&source));
}

void
copy_add_into(const Migration *run, Buf *sql, int leaf)
{
    sql_add(sql, "copy %S (%S) from stdin%S", run->leaves[leaf].shadow_qualified, run->outputs,
            run->binary_copy ? " (format binary)" : "");
}

void
copy_add_write(const Migration *run, Buf *sql, int leaf)
{
    buf_add_text(sql, "begin; ");
    copy_add_into(run, sql, leaf);
}
