/* Messages between arrival and apply; see queue.h. */
#include "phase/queue.h"

#include <stdalign.h>
#include <string.h>

static const size_t BLOCK_BYTES = 1024UL * 1024;

/* Records lie one behind the other in blocks; a record never spans two. */
typedef struct Record {
    Lsn wal_end_lsn;
    size_t len;
    bool is_change;
} Record;

typedef struct Block {
    struct Block *next;
    size_t size;
    size_t used;
    alignas(Record) unsigned char data[];
} Block;

typedef struct Place {
    Block *block;
    size_t offset;
    int64_t changes; /* row changes before this place, since the queue began */
} Place;

struct Queue {
    Spool *spool;
    Err spool_failure;
    Block *gap; /* the last block before those that are spooled; NULL when none are */
    Block *last;
    Place released; /* the first record still held */
    Place next;     /* the next record to read */
    Place before;   /* where `next` was before the last record was read */
    Place mark;     /* what is before it is released next */
    Place newest;   /* the last record pushed; its block is NULL when it has been read or dropped */
    int64_t pushed_changes;
    size_t bytes;
};

Queue *
queue_new(Spool *spool)
{
    Queue *queue = mem_new(1, sizeof *queue);

    queue->spool = spool;
    return queue;
}

void
queue_free(Queue *queue)
{
    if (queue == NULL)
        return;
    for (Block *block = queue->released.block; block != NULL;) {
        Block *next = block->next;

        free(block);
        block = next;
    }
    spool_close(queue->spool);
    free(queue);
}

static size_t
record_size(size_t len)
{
    const size_t align = alignof(Record);

    return sizeof(Record) + (len + align - 1) / align * align;
}

static Block *
new_block(size_t size)
{
    Block *block = mem_grow(NULL, 1, sizeof *block + size);

    *block = (Block){.size = size};
    return block;
}

/* ---- the spool ---- */

static bool
can_spool(const Queue *queue, size_t bytes)
{
    return queue->spool != NULL && queue->spool_failure.kind == ERR_NONE &&
           spool_has_room(queue->spool, bytes);
}

/* Behind which block the next complete one may go to disk; NULL when it has to stay in memory. */
static Block *
place_of_gap(const Queue *queue)
{
    Block *block = queue->released.block;

    if (queue->gap != NULL)
        return queue->gap;
    if (queue->bytes < QUEUE_MEMORY_BYTES || queue->last == block ||
        queue->last == queue->next.block)
        return NULL;
    while (block != NULL && block->next != queue->last)
        block = block->next;
    return block;
}

/* Before a new block: move what is complete behind the gap to disk, in order, while it takes it. */
static void
spill(Queue *queue)
{
    Block *gap = place_of_gap(queue);

    while (gap != NULL && gap->next != NULL && can_spool(queue, gap->next->used)) {
        Block *block = gap->next;

        if (!spool_append(queue->spool, block->data, block->used, &queue->spool_failure))
            return;
        if (block == queue->last)
            queue->last = gap;
        queue->gap = gap;
        gap->next = block->next;
        queue->bytes -= block->size;
        free(block);
    }
}

/* Bytes that can be read without the spool. */
static size_t
bytes_ahead(const Queue *queue)
{
    size_t bytes = 0;

    for (const Block *block = queue->next.block; block != NULL; block = block->next) {
        bytes += block->used;
        if (block == queue->gap)
            break;
    }
    return bytes - queue->next.offset;
}

/* Put the first spooled block back behind the gap. */
static bool
load_block(Queue *queue, Err *err)
{
    Block *block;
    size_t size;

    if (!spool_peek(queue->spool, &size, err))
        return false;
    block = new_block(size);
    if (!spool_take(queue->spool, block->data, size, err)) {
        free(block);
        return false;
    }
    block->used = size;
    block->next = queue->gap->next;
    queue->gap->next = block;
    queue->gap = spool_is_empty(queue->spool) ? NULL : block;
    queue->bytes += size;
    return true;
}

bool
queue_load(Queue *queue, Err *err)
{
    while (queue->gap != NULL && bytes_ahead(queue) < QUEUE_AHEAD_BYTES)
        if (!load_block(queue, err))
            return false;
    return true;
}

/* ---- memory ---- */

static void
add_block(Queue *queue, size_t at_least)
{
    size_t size = at_least > BLOCK_BYTES ? at_least : BLOCK_BYTES;
    Block *block;

    spill(queue);
    block = new_block(size);
    if (queue->last != NULL)
        queue->last->next = block;
    queue->last = block;
    queue->bytes += size;
    if (queue->released.block == NULL)
        queue->released.block = block;
    if (queue->next.block == NULL)
        queue->next.block = block;
    if (queue->mark.block == NULL)
        queue->mark.block = block;
}

void
queue_push(Queue *queue, Lsn wal_end_lsn, const uint8_t *bytes, size_t len, bool is_change)
{
    size_t size = record_size(len);
    Record *record;

    if (queue->last == NULL || queue->last->size - queue->last->used < size)
        add_block(queue, size);
    queue->newest = (Place){.block = queue->last, .offset = queue->last->used};
    record = (Record *)(void *)(queue->last->data + queue->last->used);
    *record = (Record){.wal_end_lsn = wal_end_lsn, .len = len, .is_change = is_change};
    memcpy(record + 1, bytes, len);
    queue->last->used += size;
    queue->pushed_changes += is_change ? 1 : 0;
}

/* Is the place at the end of a block, without a next one that could be read now? */
static bool
is_at_end(const Queue *queue, const Place *place)
{
    return place->block == NULL || (place->offset == place->block->used &&
                                    (place->block->next == NULL || place->block == queue->gap));
}

/* Move a place at the end of its block to the next block, if there is one in memory. */
static void
settle(const Queue *queue, Place *place)
{
    while (!is_at_end(queue, place) && place->offset == place->block->used) {
        place->block = place->block->next;
        place->offset = 0;
    }
}

bool
queue_read(Queue *queue, QueueRecord *out)
{
    const Record *record;

    settle(queue, &queue->next);
    if (is_at_end(queue, &queue->next))
        return false;
    record = (const Record *)(const void *)(queue->next.block->data + queue->next.offset);
    queue->before = queue->next;
    queue->next.offset += record_size(record->len);
    queue->next.changes += record->is_change ? 1 : 0;
    *out = (QueueRecord){.wal_end_lsn = record->wal_end_lsn,
                         .bytes = (const uint8_t *)(record + 1),
                         .len = record->len,
                         .is_change = record->is_change};
    return true;
}

void
queue_unread_last(Queue *queue)
{
    queue->next = queue->before;
}

bool
queue_drop_newest(Queue *queue)
{
    const Place *newest = &queue->newest;
    const Record *record;

    if (newest->block == NULL ||
        (queue->next.block == newest->block && queue->next.offset > newest->offset))
        return false;
    record = (const Record *)(const void *)(newest->block->data + newest->offset);
    queue->pushed_changes -= record->is_change ? 1 : 0;
    queue->last->used = newest->offset;
    queue->newest.block = NULL;
    return true;
}

/* Is all that was pushed released? */
static bool
is_empty(const Queue *queue)
{
    return queue->released.block == queue->last &&
           (queue->last == NULL || queue->released.offset == queue->last->used);
}

/* Nothing is held: fill the one block left from its beginning, or free it when it is a large one. */
static void
reuse_or_free_last(Queue *queue)
{
    Block *block = queue->last;

    if (block == NULL)
        return;
    if (block->size == BLOCK_BYTES) {
        block->used = 0;
    } else {
        queue->bytes -= block->size;
        free(block);
        queue->last = block = NULL;
    }
    queue->next.block = block;
    queue->next.offset = 0;
    queue->released = queue->mark = queue->next;
    queue->newest.block = NULL;
}

void
queue_mark(Queue *queue)
{
    queue->mark = queue->next;
}

void
queue_release_marked(Queue *queue)
{
    /* both, for what is read next must not stay behind in a block that is freed */
    settle(queue, &queue->mark);
    settle(queue, &queue->next);
    while (queue->released.block != queue->mark.block) {
        Block *block = queue->released.block;

        queue->released.block = block->next;
        queue->bytes -= block->size;
        free(block);
    }
    queue->released = queue->mark;
    if (is_empty(queue))
        reuse_or_free_last(queue);
}

void
queue_rewind(Queue *queue)
{
    queue->next = queue->mark = queue->released;
}

bool
queue_is_full(const Queue *queue)
{
    return queue->bytes > QUEUE_MEMORY_BYTES && !can_spool(queue, BLOCK_BYTES);
}

bool
queue_has_room(const Queue *queue)
{
    const size_t MUCH_BYTES = QUEUE_MEMORY_BYTES / 2;
    size_t half_bytes = queue->spool == NULL ? 0 : (size_t)spool_bound(queue->spool) / 2;

    return queue->bytes <= MUCH_BYTES ||
           (can_spool(queue, BLOCK_BYTES) &&
            can_spool(queue, half_bytes < MUCH_BYTES ? half_bytes : MUCH_BYTES));
}

const Spool *
queue_spool(const Queue *queue)
{
    return queue->spool;
}

const Err *
queue_spool_failure(const Queue *queue)
{
    return &queue->spool_failure;
}

size_t
queue_bytes(const Queue *queue)
{
    return queue->bytes;
}

int64_t
queue_changes(const Queue *queue)
{
    return queue->pushed_changes - queue->released.changes;
}

int64_t
queue_unread(const Queue *queue)
{
    return queue->pushed_changes - queue->next.changes;
}

bool
queue_is_drained(const Queue *queue)
{
    Place place = queue->next;

    settle(queue, &place);
    return queue->gap == NULL && is_at_end(queue, &place);
}
