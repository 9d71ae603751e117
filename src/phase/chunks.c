/* What is copied, in which pieces; see chunks.h. */
#include "phase/chunks.h"

#include <stdlib.h>

#include "base/buf.h"
#include "phase/tree.h"

/* How far the copy of one leaf is. */
typedef struct Part {
    int64_t block_count; /* when the snapshot was taken, or later */
    int64_t chunk_blocks;
    int64_t next_block;
    int64_t rows_copied;
    bool saw_rows; /* before the copy began anew */
} Part;

struct Chunks {
    Part *parts; /* per leaf */
    int leaf_count;
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
    chunks->leaf = 0;
    for (int i = 0; i < chunks->leaf_count; i++) {
        int64_t decoded_bytes = rows_int(rows, i, 1) + rows_int(rows, i, 3) * CHUNKS_ROW_BYTES;
        bool saw_rows = chunks->parts[i].saw_rows || chunks->parts[i].rows_copied > 0;

        chunks->parts[i] = new_part(rows_int(rows, i, 0), decoded_bytes, most_bytes);
        chunks->parts[i].saw_rows = saw_rows;
        counters->blocks_total += rows_int(rows, i, 0);
        counters->rows_estimated += rows_int(rows, i, 2);
    }
    return true;
}

bool
chunks_are_taken(const Chunks *chunks)
{
    return chunks->leaf == chunks->leaf_count;
}

bool
chunks_take(Chunks *chunks, Chunk *chunk)
{
    Part *part;

    if (chunks_are_taken(chunks))
        return false;
    part = &chunks->parts[chunks->leaf];
    chunk->leaf = chunks->leaf;
    chunk->first_block = part->next_block;
    part->next_block += part->chunk_blocks;
    chunk->end_block = part->next_block;
    if (part->next_block < part->block_count)
        return true;
    /* the last chunk is open to the end, so that no block is missed by a measured size */
    chunk->end_block = -1;
    chunks->leaf++;
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
