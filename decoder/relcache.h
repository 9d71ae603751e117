/*
 * What RELATION messages have announced: how the values of a row message map to a table's columns.
 *
 * Holds relations of tables we do not know too, with just enough to read over their rows.
 */
#ifndef WALTER_DECODER_RELCACHE_H
#define WALTER_DECODER_RELCACHE_H

#include <stdbool.h>
#include <stdint.h>

/* One column as the server sends it. */
typedef struct RelationColumn {
    int16_t target; /* column of the DecoderTable, -1 = its value is skipped */
    bool is_key;    /* part of the replica identity */
} RelationColumn;

typedef struct Relation {
    uint32_t relid;
    int table;        /* index into the decoder's tables, -1 = not one of ours */
    int row_columns;  /* the table's column_count; 0 when not ours */
    uint8_t identity; /* pg_class.relreplident */
    uint16_t column_count;
    RelationColumn *columns; /* column_count of them; of a cached relation: the cache's */
} Relation;

typedef struct RelCache RelCache;

/* New, empty cache; free it with relcache_free. */
RelCache *relcache_new(void);

/* Free the cache.  NULL is allowed. */
void relcache_free(RelCache *cache);

/* Forget all relations. */
void relcache_clear(RelCache *cache);

/* The relation, borrowed until the next relcache_put or relcache_clear; NULL when unannounced. */
const Relation *relcache_find(RelCache *cache, uint32_t relid);

/* Put a copy of `relation` in the place of whatever was known by its relid. */
void relcache_put(RelCache *cache, const Relation *relation);

#endif
