/* A chain of blocks, newest first; see arena.h. */
#include "arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "mem.h"

typedef struct Block {
    struct Block *older;
    size_t size; /* bytes of data */
    size_t used;
    alignas(max_align_t) unsigned char data[];
} Block;

struct Arena {
    Block *newest;
    size_t bytes;
};

static const size_t FIRST_BLOCK_BYTES = 64UL * 1024;

static void
add_block(Arena *arena, size_t at_least)
{
    size_t size = arena->newest == NULL ? FIRST_BLOCK_BYTES : arena->newest->size * 2;
    Block *block;

    if (size > 1024UL * 1024)
        size = 1024UL * 1024;
    if (size < at_least)
        size = at_least;
    block = mem_grow(NULL, 1, sizeof *block + size);
    block->older = arena->newest;
    block->size = size;
    block->used = 0;
    arena->newest = block;
    arena->bytes += size;
}

Arena *
arena_new(void)
{
    return mem_new(1, sizeof(Arena));
}

static void
free_blocks(Arena *arena, Block *keep)
{
    for (Block *block = arena->newest; block != NULL;) {
        Block *older = block->older;

        if (block != keep) {
            arena->bytes -= block->size;
            free(block);
        }
        block = older;
    }
    arena->newest = keep;
}

void
arena_free(Arena *arena)
{
    if (arena == NULL)
        return;
    free_blocks(arena, NULL);
    free(arena);
}

void
arena_reset(Arena *arena)
{
    Block *keep = arena->newest;

    if (keep != NULL && keep->size > 4UL * 1024 * 1024)
        keep = NULL;
    free_blocks(arena, keep);
    if (keep != NULL) {
        keep->older = NULL;
        keep->used = 0;
    }
}

/* Space for `size` bytes, not zeroed. */
static void *
take(Arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);
    void *memory;

    if (size > SIZE_MAX / 2)
        abort();
    size = (size + align - 1) / align * align;
    if (arena->newest == NULL || arena->newest->size - arena->newest->used < size)
        add_block(arena, size);
    memory = arena->newest->data + arena->newest->used;
    arena->newest->used += size;
    return memory;
}

void *
arena_alloc(Arena *arena, size_t size)
{
    return memset(take(arena, size == 0 ? 1 : size), 0, size);
}

char *
arena_copy(Arena *arena, const void *bytes, size_t len)
{
    char *copy = take(arena, len + 1);

    if (len > 0)
        memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

size_t
arena_bytes(const Arena *arena)
{
    return arena->bytes;
}
