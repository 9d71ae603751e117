/*
 * An arena: many small allocations, one release.
 *
 * Used for everything that lives as long as one batch or one plan.  Out of memory aborts the
 * process: the state that matters is in the database.  Not for objects that own resources.
 */
#ifndef WALTER_ARENA_H
#define WALTER_ARENA_H

#include <stddef.h>

typedef struct Arena Arena;

/* New, empty arena; free it with arena_free. */
Arena *arena_new(void);

/* Free the arena and all that was allocated from it.  NULL is allowed. */
void arena_free(Arena *arena);

/* Forget all allocations but keep one block, so that the next batch does not allocate again. */
void arena_reset(Arena *arena);

/* `size` zeroed bytes aligned for any type, borrowed until arena_reset or arena_free. */
void *arena_alloc(Arena *arena, size_t size);

/* A copy of `len` bytes at `bytes` with a NUL after them, borrowed like arena_alloc's. */
char *arena_copy(Arena *arena, const void *bytes, size_t len);

/* Bytes held by the arena's blocks, for memory bounds. */
size_t arena_bytes(const Arena *arena);

#endif
