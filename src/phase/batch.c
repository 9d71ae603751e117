/* Reading batches; see batch.h. */
#include "phase/batch.h"

#include <stdlib.h>
#include <string.h>

#include "phase/workers.h"

/* A batch ends at this many bytes of messages, or of what they became, whatever their number. */
static const size_t BATCH_BYTES = 8UL * 1024 * 1024;
static const size_t DECODED_BYTES = 16UL * 1024 * 1024;

struct BatchReader {
    const Migration *run;
    Queue *queue;
    Decoder *decoder;
    DecoderTable *tables; /* those of the leaves, and the fence */
    Lsn until_lsn;        /* see batch_stop_at */
    bool has_stopped;
    const Position *positions; /* see batch_resume_divided; NULL = one for all */
    int position_count;
};

static void
describe_tables(BatchReader *reader)
{
    static const char *const fence_columns[] = {"marker"};
    const Migration *run = reader->run;
    size_t count = (size_t)run->leaf_count;

    reader->tables = arena_alloc(run->arena, (count + 1) * sizeof *reader->tables);
    for (size_t i = 0; i < count; i++)
        reader->tables[i] = *run->leaves[i].stream;
    reader->tables[count] = (DecoderTable){.schema = "walter",
                                           .name = run->names.fence_name,
                                           .column_count = 1,
                                           .columns = fence_columns};
}

static void
keep_change(Batch *batch, const Change *change)
{
    if (batch->count == batch->size) {
        batch->size = batch->size == 0 ? 1024 : batch->size * 2;
        batch->changes = mem_grow(batch->changes, (size_t)batch->size, sizeof *batch->changes);
    }
    batch->changes[batch->count++] = *change;
}

/* A bigint in text or binary; the fence's marker. */
static int64_t
marker_of(const Datum *datum)
{
    char text[24] = {0};
    uint64_t value = 0;

    if (datum->kind == DATUM_BINARY && datum->len == 8) {
        for (int i = 0; i < 8; i++)
            value = value << 8 | datum->bytes[i];
        return (int64_t)value;
    }
    if (datum->kind != DATUM_TEXT || datum->len >= sizeof text)
        return 0;
    memcpy(text, datum->bytes, datum->len);
    return strtoll(text, NULL, 10);
}

/* A row with its values where the original's columns are. */
static const Datum *
arrange(const BatchReader *reader, Arena *arena, const int *order, const Datum *row)
{
    size_t count = (size_t)reader->run->original.column_count;
    Datum *arranged;

    if (order == NULL || row == NULL)
        return row;
    arranged = arena_alloc(arena, count * sizeof *arranged);
    for (size_t i = 0; i < count; i++)
        arranged[i] = row[order[i]];
    return arranged;
}

/* Is the change that stands at `ordinal` of the open transaction before a position, or at it? */
static bool
is_covered(const Position *position, const Position *at)
{
    return at->open_lsn < position->end_lsn ||
           (at->open_lsn == position->open_lsn && at->ordinal <= position->ordinal);
}

/* Has the session that the row belongs to applied the change before the run was interrupted? */
static bool
is_applied(const BatchReader *reader, const Change *change, const Position *at)
{
    const TableShape *original = &reader->run->original;
    const RowKey key = {original->key, original->key_count, original->column_count};
    const Datum *row = coalesce_old_key(change);

    return reader->positions != NULL && change->kind != CHANGE_TRUNCATE &&
           is_covered(&reader->positions[workers_of_row(row, &key, reader->position_count)], at);
}

/* A change of a leaf, unless it is applied already. */
static void
take_leaf_change(const BatchReader *reader, Batch *batch, const Change *change, int leaf)
{
    const int *order = reader->run->leaves[leaf].order;
    Cursor *next = &batch->end;
    Change arranged = *change;

    next->position.ordinal++;
    if (next->position.ordinal <= next->skip || is_applied(reader, change, &next->position))
        return;
    arranged.table = leaf;
    arranged.new_row = arrange(reader, batch->arena, order, change->new_row);
    arranged.old_row = arrange(reader, batch->arena, order, change->old_row);
    keep_change(batch, &arranged);
}

static bool
is_fence(const BatchReader *reader, int table)
{
    return table == reader->run->leaf_count;
}

static void
take_row_change(const BatchReader *reader, Batch *batch, const Change *change)
{
    if (!is_fence(reader, change->table))
        take_leaf_change(reader, batch, change, change->table);
    else if (change->kind == CHANGE_UPDATE)
        batch->end.seen_fence = marker_of(&change->new_row[0]);
}

static void
take_truncate(const BatchReader *reader, Batch *batch, const Change *change)
{
    for (int i = 0; i < change->truncated_count; i++)
        if (!is_fence(reader, change->truncated[i]))
            take_leaf_change(reader, batch, change, change->truncated[i]);
}

static void
take_change(const BatchReader *reader, Batch *batch, const Change *change)
{
    Cursor *next = &batch->end;

    switch (change->kind) {
    case CHANGE_NONE:
        return;
    case CHANGE_BEGIN:
        next->skip = next->position.open_lsn == change->commit_lsn ? next->position.ordinal : 0;
        next->position.open_lsn = change->commit_lsn;
        next->position.ordinal = 0;
        next->is_open = true;
        next->seen_fence = 0;
        next->xid = change->xid;
        batch->xids[batch->xid_count++] = change->xid;
        return;
    case CHANGE_COMMIT:
        next->position.end_lsn = change->end_lsn;
        next->position.open_lsn = LSN_INVALID;
        next->position.ordinal = 0;
        next->is_open = false;
        if (next->seen_fence > next->fence)
            next->fence = next->seen_fence;
        return;
    case CHANGE_INSERT:
    case CHANGE_UPDATE:
    case CHANGE_DELETE:
        take_row_change(reader, batch, change);
        return;
    case CHANGE_TRUNCATE:
        take_truncate(reader, batch, change);
        return;
    }
}

static bool
has_room(const Batch *batch, int64_t limit, size_t bytes)
{
    return batch->count < limit && batch->xid_count < BATCH_XIDS_MAX && bytes < BATCH_BYTES &&
           arena_bytes(batch->arena) < DECODED_BYTES;
}

/*
 * Bring the changes of each leaf together, in their order.  Leaves have no constraint in common, for
 * a unique one of all of them contains what decides which leaf a row is in; so it does not matter
 * which leaf is first.
 */
static void
sort_by_leaf(const BatchReader *reader, Batch *batch)
{
    size_t bytes = (size_t)batch->count * sizeof *batch->changes;
    Change *before;
    int *ends;

    if (reader->run->leaf_count == 1 || batch->count == 0)
        return;
    ends = arena_alloc(batch->arena, (size_t)(reader->run->leaf_count + 1) * sizeof *ends);
    before = memcpy(arena_alloc(batch->arena, bytes), batch->changes, bytes);
    for (int i = 0; i < batch->count; i++)
        ends[before[i].table + 1]++;
    for (int leaf = 0; leaf < reader->run->leaf_count; leaf++)
        ends[leaf + 1] += ends[leaf];
    for (int i = 0; i < batch->count; i++)
        batch->changes[ends[before[i].table]++] = before[i];
}

BatchReader *
batch_reader_new(const Migration *run, Queue *queue)
{
    BatchReader *reader = mem_new(1, sizeof *reader);

    reader->run = run;
    reader->queue = queue;
    describe_tables(reader);
    reader->decoder = decoder_new(run->settings->plugin, reader->tables, run->leaf_count + 1);
    return reader;
}

void
batch_reader_free(BatchReader *reader)
{
    if (reader == NULL)
        return;
    decoder_free(reader->decoder);
    free(reader);
}

void
batch_done(Batch *batch)
{
    arena_free(batch->arena);
    free(batch->changes);
    *batch = (Batch){0};
}

/* An empty batch that begins where reading stands. */
static void
begin(Batch *batch, const Cursor *from)
{
    if (batch->arena == NULL)
        batch->arena = arena_new();
    arena_reset(batch->arena);
    batch->count = 0;
    batch->xid_count = 0;
    batch->end = *from;
    if (from->is_open)
        batch->xids[batch->xid_count++] = from->xid;
}

static bool
must_stop(const BatchReader *reader, const Change *change)
{
    return reader->until_lsn != LSN_INVALID && change->kind == CHANGE_BEGIN &&
           change->commit_lsn >= reader->until_lsn;
}

void
batch_stop_at(BatchReader *reader, Lsn until_lsn)
{
    reader->until_lsn = until_lsn;
    reader->has_stopped = false;
}

bool
batch_has_stopped(const BatchReader *reader)
{
    return reader->has_stopped;
}

void
batch_resume_divided(BatchReader *reader, const Position *positions, int count)
{
    reader->positions = positions;
    reader->position_count = count;
}

bool
batch_read(BatchReader *reader, Batch *batch, const Cursor *from, int64_t limit, Err *err)
{
    size_t bytes = 0;
    QueueRecord record;

    begin(batch, from);
    reader->has_stopped = false;
    if (!queue_load(reader->queue, err))
        return false;
    while (has_room(batch, limit, bytes) && queue_read(reader->queue, &record)) {
        Change change;

        if (!decoder_read(reader->decoder, record.bytes, record.len, record.wal_end_lsn,
                          batch->arena, &change, err))
            return err_wrap(err, "decoding the stream");
        if (must_stop(reader, &change)) {
            queue_unread_last(reader->queue);
            reader->has_stopped = true;
            break;
        }
        take_change(reader, batch, &change);
        bytes += record.len;
    }
    batch->end.position.changes += batch->count;
    sort_by_leaf(reader, batch);
    return true;
}
