/* The relation cache: an array sorted by relid; see relcache.h. */
#include "relcache.h"

#include <stdlib.h>
#include <string.h>

struct RelCache {
    Relation *relations; /* each owns its columns */
    size_t count;
    size_t size;
    size_t last; /* found last: rows of one table come in runs */
};

static void *
or_abort(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

RelCache *
relcache_new(void)
{
    return or_abort(calloc(1, sizeof(RelCache)));
}

void
relcache_free(RelCache *cache)
{
    if (cache == NULL)
        return;
    relcache_clear(cache);
    free(cache->relations);
    free(cache);
}

void
relcache_clear(RelCache *cache)
{
    for (size_t i = 0; i < cache->count; i++)
        free(cache->relations[i].columns);
    cache->count = 0;
    cache->last = 0;
}

/* Where `relid` is, or would have to be inserted. */
static size_t
position_of(const RelCache *cache, uint32_t relid)
{
    size_t low = 0;
    size_t high = cache->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (cache->relations[middle].relid < relid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool
is_at(const RelCache *cache, size_t position, uint32_t relid)
{
    return position < cache->count && cache->relations[position].relid == relid;
}

const Relation *
relcache_find(RelCache *cache, uint32_t relid)
{
    if (!is_at(cache, cache->last, relid))
        cache->last = position_of(cache, relid);
    return is_at(cache, cache->last, relid) ? &cache->relations[cache->last] : NULL;
}

/* Open a gap at `position`. */
static void
insert_at(RelCache *cache, size_t position)
{
    if (cache->count == cache->size) {
        size_t size = cache->size == 0 ? 8 : cache->size * 2;

        cache->relations = or_abort(reallocarray(cache->relations, size, sizeof(Relation)));
        cache->size = size;
    }
    memmove(&cache->relations[position + 1], &cache->relations[position],
            (cache->count - position) * sizeof(Relation));
    cache->count++;
}

void
relcache_put(RelCache *cache, const Relation *relation)
{
    size_t position = position_of(cache, relation->relid);
    size_t bytes = relation->column_count * sizeof(RelationColumn);
    RelationColumn *columns = or_abort(calloc(bytes == 0 ? 1 : bytes, 1));

    if (bytes > 0)
        memcpy(columns, relation->columns, bytes);
    if (is_at(cache, position, relation->relid))
        free(cache->relations[position].columns);
    else
        insert_at(cache, position);
    cache->relations[position] = *relation;
    cache->relations[position].columns = columns;
}
