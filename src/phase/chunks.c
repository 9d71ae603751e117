/* What is copied, in which pieces; see chunks.h. */
#include "phase/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "pg/sql.h"
#include "phase/tree.h"

/* Blocks that an interrupted run has copied; no range begins where the one before it ends. */
typedef struct Range {
    int64_t first;
    int64_t end;
} Range;

/* How far the copy of one leaf is. */
typedef struct Part {
    Range *done; /* in order; in the run's arena */
    int done_count;
    int done_size;
    int64_t block_count; /* when the snapshot was taken, or later */
    int64_t chunk_blocks;
    int64_t next_block;
    int64_t rows_copied;
    bool saw_rows; /* before the copy began anew */
} Part;

struct Chunks {
    Part *parts; /* per leaf */
    int leaf_count;
    int64_t row_count; /* estimated */
    int64_t byte_count;
    int leaf; /* which one the next chunk is of; all before it are assigned */
};

Chunks *
chunks_new(const Migration *run)
{
    Chunks *chunks = mem_new(1, sizeof *chunks);

    chunks->leaf_count = run->leaf_count;
    chunks->parts = mem_new((size_t)run->leaf_count, sizeof *chunks->parts);
    return chunks;
}

void
chunks_free(Chunks *chunks)
{
    if (chunks == NULL)
        return;
    free(chunks->parts);
    free(chunks);
}

/* How many blocks make a chunk, out-of-line values included? */
static Part
new_part(int64_t block_count, int64_t decoded_bytes, int64_t most_bytes)
{
    Part part = {.block_count = block_count, .chunk_blocks = block_count};

    if (decoded_bytes > most_bytes)
        part.chunk_blocks =
            (int64_t)((double)block_count * (double)most_bytes / (double)decoded_bytes);
    if (part.chunk_blocks < 1)
        part.chunk_blocks = 1;
    return part;
}

bool
chunks_measure(Migration *run, Chunks *chunks, int64_t most_bytes, Err *err)
{
    /* of a table that nobody has analyzed, 100 rows per block are assumed */
    static const char SQL[] =
        "select s.blocks, pg_catalog.pg_table_size(c.oid), greatest(c.reltuples, 0),"
        "       pg_catalog.round((case when c.reltuples > 0 and c.relpages > 0"
        "         then c.reltuples / c.relpages else 100 end * s.blocks)::numeric)"
        "  from pg_catalog.unnest($1::pg_catalog.oid[]) with ordinality l (oid, number)"
        "  join pg_catalog.pg_class c on c.oid = l.oid,"
        "       lateral (select pg_catalog.pg_relation_size(c.oid) /"
        "         pg_catalog.current_setting('block_size')::bigint as blocks) s"
        " order by l.number";
    Counters *counters = &run->counters;
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(oids);

    tree_add_oids(run, &oids);
    if (!query_run(run->control, SQL, (const char *const[]){buf_text(&oids), NULL}, &rows, err))
        return false;
    if (rows_count(rows) != chunks->leaf_count)
        return err_set(err, ERR_FAILED, "a partition is gone");
    counters->blocks_total = counters->rows_estimated = 0;
    counters->blocks_copied = counters->rows_copied = 0;
    counters->blocks_before = counters->rows_before = 0;
    chunks->row_count = chunks->byte_count = 0;
    chunks->leaf = 0;
    for (int i = 0; i < chunks->leaf_count; i++) {
        int64_t decoded_bytes = rows_int(rows, i, 1) + rows_int(rows, i, 3) * FOOTPRINT_ROW_BYTES;
        bool saw_rows = chunks->parts[i].saw_rows || chunks->parts[i].rows_copied > 0;

        chunks->parts[i] = new_part(rows_int(rows, i, 0), decoded_bytes, most_bytes);
        chunks->parts[i].saw_rows = saw_rows;
        counters->blocks_total += rows_int(rows, i, 0);
        counters->rows_estimated += rows_int(rows, i, 2);
        chunks->byte_count += rows_int(rows, i, 1);
        chunks->row_count += rows_int(rows, i, 3);
    }
    return true;
}

bool
chunks_are_taken(const Chunks *chunks)
{
    return chunks->leaf == chunks->leaf_count;
}

/* Go to the next block that is not copied yet; where the next copied ones begin is the result. */
static int64_t
skip_done(Part *part)
{
    for (int i = 0; i < part->done_count; i++) {
        if (part->next_block < part->done[i].first)
            return part->done[i].first;
        if (part->next_block < part->done[i].end)
            part->next_block = part->done[i].end;
    }
    return CHUNKS_END;
}

/* Leaves whose rest is copied already. */
static void
skip_leaves(Chunks *chunks)
{
    while (chunks->leaf < chunks->leaf_count &&
           (skip_done(&chunks->parts[chunks->leaf]),
            chunks->parts[chunks->leaf].next_block >= CHUNKS_END))
        chunks->leaf++;
}

bool
chunks_take(Chunks *chunks, Chunk *chunk)
{
    Part *part;
    int64_t bound;
    int64_t end;

    if (chunks_are_taken(chunks))
        return false;
    part = &chunks->parts[chunks->leaf];
    bound = skip_done(part);
    end = part->next_block + part->chunk_blocks;
    *chunk = (Chunk){chunks->leaf, part->next_block, end < bound ? end : bound};
    part->next_block = chunk->end_block;
    /* the last chunk is open to the end, so that no block is missed by a measured size */
    if (bound == CHUNKS_END && end >= part->block_count) {
        chunk->end_block = -1;
        part->next_block = CHUNKS_END;
    }
    skip_leaves(chunks);
    return true;
}

int64_t
chunks_count(const Chunks *chunks)
{
    int64_t count = 0;

    for (int i = 0; i < chunks->leaf_count; i++)
        count += chunks->parts[i].block_count / chunks->parts[i].chunk_blocks + 1;
    return count;
}

int64_t
chunks_row_bytes(const Chunks *chunks)
{
    return chunks->row_count > 0 ? chunks->byte_count / chunks->row_count : 0;
}

int64_t
chunks_blocks(const Chunks *chunks, int leaf)
{
    return chunks->parts[leaf].chunk_blocks;
}

void
chunks_note_copied(Migration *run, Chunks *chunks, const Chunk *chunk, int64_t rows)
{
    Part *part = &chunks->parts[chunk->leaf];
    int64_t end = chunk->end_block < 0 ? part->block_count : chunk->end_block;

    part->rows_copied += rows;
    run->counters.rows_copied += rows;
    if (end > chunk->first_block)
        run->counters.blocks_copied += end - chunk->first_block;
}

/* ---- what is done ---- */

static int
find_leaf(const Migration *run, uint32_t oid)
{
    for (int i = 0; i < run->leaf_count; i++)
        if (run->leaves[i].oid == oid)
            return i;
    return -1;
}

static void
add_done(Migration *run, Part *part, Range range)
{
    if (part->done_count > 0 && part->done[part->done_count - 1].end == range.first) {
        part->done[part->done_count - 1].end = range.end;
        return;
    }
    if (part->done_count == part->done_size) {
        Range *before = part->done;

        part->done_size = part->done_size == 0 ? 4 : part->done_size * 2;
        part->done = arena_alloc(run->arena, sizeof(Range) * (size_t)part->done_size);
        if (before != NULL)
            memcpy(part->done, before, sizeof(Range) * (size_t)part->done_count);
    }
    part->done[part->done_count++] = range;
}

static void
add_range(Migration *run, Chunks *chunks, const Rows *rows, int row)
{
    int leaf = find_leaf(run, (uint32_t)rows_int(rows, row, 0));
    Part *part = leaf < 0 ? NULL : &chunks->parts[leaf];
    int64_t first = rows_int(rows, row, 1);
    int64_t end = rows_int(rows, row, 2);

    if (part == NULL)
        return;
    add_done(run, part, (Range){first, end});
    part->rows_copied += rows_int(rows, row, 3);
    run->counters.rows_copied += rows_int(rows, row, 3);
    end = end > part->block_count ? part->block_count : end;
    if (end > first)
        run->counters.blocks_copied += end - first;
}

bool
chunks_load(Migration *run, Chunks *chunks, Err *err)
{
    AUTO(Text) *sql = sql_build("select leaf, first_block, end_block, rows from %S where is_whole"
                                " order by leaf, first_block",
                                run->names.copied);
    AUTO(Rows) *rows = NULL;

    if (!query_simple(run->control, sql, &rows, err))
        return err_wrap(err, "reading what is copied already");
    for (int i = 0; i < rows_count(rows); i++)
        add_range(run, chunks, rows, i);
    run->counters.blocks_before = run->counters.blocks_copied;
    run->counters.rows_before = run->counters.rows_copied;
    skip_leaves(chunks);
    return true;
}

void
chunks_begin_anew(Migration *run, Chunks *chunks, int leaf)
{
    Part *part = &chunks->parts[leaf];
    int64_t copied = part->next_block > part->block_count ? part->block_count : part->next_block;

    /* an estimate, for the progress line: what lies between done ranges counts as copied */
    run->counters.blocks_copied -=
        copied < run->counters.blocks_copied ? copied : run->counters.blocks_copied;
    run->counters.rows_copied -= part->rows_copied;
    run->counters.blocks_before = run->counters.rows_before = 0;
    *part = (Part){.block_count = part->block_count, .chunk_blocks = part->chunk_blocks};
    if (leaf < chunks->leaf)
        chunks->leaf = leaf;
    skip_leaves(chunks);
}

bool
chunks_extend(Migration *run, Chunks *chunks, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.pg_relation_size(l.oid) /"
        "       pg_catalog.current_setting('block_size')::bigint"
        "  from pg_catalog.unnest($1::pg_catalog.oid[]) with ordinality l (oid, number)"
        " order by l.number";
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(oids);

    tree_add_oids(run, &oids);
    if (!query_run(run->control, SQL, (const char *const[]){buf_text(&oids), NULL}, &rows, err))
        return false;
    for (int i = 0; i < chunks->leaf_count && i < rows_count(rows); i++) {
        int64_t more = rows_int(rows, i, 0) - chunks->parts[i].block_count;

        if (more <= 0 || chunks->parts[i].next_block >= CHUNKS_END)
            continue;
        chunks->parts[i].block_count += more;
        run->counters.blocks_total += more;
    }
    return true;
}

static void
add_before(Buf *sql, const char *alias, int64_t first, int64_t end)
{
    sql_add(sql, "%S(%S.ctid >= '(%D,0)'::tid", sql->len == 0 ? "" : " or ", alias, first);
    if (end < CHUNKS_END)
        sql_add(sql, " and %S.ctid < '(%D,0)'::tid", alias, end);
    buf_add_text(sql, ")");
}

void
chunks_add_done(const Chunks *chunks, int leaf, const char *alias, Buf *sql)
{
    const Part *part = &chunks->parts[leaf];
    BUF_AUTO(list);

    /* the block to be copied next is known by now only where chunks were given out */
    if (part->next_block > 0)
        add_before(&list, alias, 0, part->next_block);
    for (int i = 0; i < part->done_count; i++)
        if (part->done[i].end > part->next_block)
            add_before(&list, alias, part->done[i].first, part->done[i].end);
    sql_add(sql, "(%S)", list.len == 0 ? "false" : buf_text(&list));
}

char *
chunks_note_sql(const Migration *run, const Chunk *chunk, int64_t rows, bool is_whole)
{
    const Leaf *leaf = &run->leaves[chunk->leaf];

    return sql_build("insert into %S values (%D, %D, %D, %D, %D, %S)"
                     " on conflict (leaf, first_block) do update set rows = excluded.rows,"
                     " end_block = excluded.end_block, filenode = excluded.filenode,"
                     " is_whole = excluded.is_whole",
                     run->names.copied, (int64_t)leaf->oid, chunk->first_block,
                     chunk->end_block < 0 ? CHUNKS_END : chunk->end_block, (int64_t)leaf->filenode,
                     rows, is_whole ? "true" : "false");
}

void
chunks_note_seen(Chunks *chunks, int leaf)
{
    chunks->parts[leaf].saw_rows = true;
}

bool
chunks_lost_rows(const Chunks *chunks, int leaf)
{
    return chunks->parts[leaf].saw_rows && chunks->parts[leaf].rows_copied == 0;
}
