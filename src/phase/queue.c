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
    Block *last;
    Place released; /* the first record still held */
    Place next;     /* the next record to read */
    Place mark;     /* what is before it is released next */
    Place newest;   /* the last record pushed; its block is NULL when it has been read or dropped */
    int64_t pushed_changes;
    size_t bytes;
};

Queue *
queue_new(void)
{
    return mem_new(1, sizeof(Queue));
}

void
queue_free(Queue *queue)
{
    if (queue == NULL)
        return;
    queue_clear(queue);
    free(queue);
}

static size_t
record_size(size_t len)
{
    const size_t align = alignof(Record);

    return sizeof(Record) + (len + align - 1) / align * align;
}

static void
add_block(Queue *queue, size_t at_least)
{
    size_t size = at_least > BLOCK_BYTES ? at_least : BLOCK_BYTES;
    Block *block = mem_grow(NULL, 1, sizeof *block + size);

    *block = (Block){.size = size};
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

/* Move a place at the end of its block to the next block, if there is one. */
static void
settle(Place *place)
{
    while (place->block != NULL && place->offset == place->block->used &&
           place->block->next != NULL) {
        place->block = place->block->next;
        place->offset = 0;
    }
}

bool
queue_read(Queue *queue, QueueRecord *out)
{
    const Record *record;

    settle(&queue->next);
    if (queue_is_drained(queue))
        return false;
    record = (const Record *)(const void *)(queue->next.block->data + queue->next.offset);
    queue->next.offset += record_size(record->len);
    queue->next.changes += record->is_change ? 1 : 0;
    *out = (QueueRecord){.wal_end_lsn = record->wal_end_lsn,
                         .bytes = (const uint8_t *)(record + 1),
                         .len = record->len,
                         .is_change = record->is_change};
    return true;
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
    settle(&queue->mark);
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
queue_release(Queue *queue)
{
    queue_mark(queue);
    queue_release_marked(queue);
}

void
queue_clear(Queue *queue)
{
    for (Block *block = queue->released.block; block != NULL;) {
        Block *next = block->next;

        free(block);
        block = next;
    }
    *queue = (Queue){0};
}

void
queue_rewind(Queue *queue)
{
    queue->next = queue->mark = queue->released;
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

    settle(&place);
    return place.block == NULL || place.offset == place.block->used;
}
