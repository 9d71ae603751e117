/*
 * Memory rules of the C sources: AUTO(...) frees at the closing brace, allocation never fails
 * (out of memory aborts; what matters is in the database).  Not for arena memory.
 */
#ifndef WALTER_MEM_H
#define WALTER_MEM_H

#include <stdbool.h>
#include <stddef.h>

/*
 * AUTO(Type) declares a `Type *` that `auto_free_Type` frees when it goes out of scope.
 * Use AUTO_FREE_DEFINE(Type, destructor) once, next to the type, to make it work.
 */
#define AUTO(type) __attribute__((cleanup(auto_free_##type))) type
#define AUTO_FREE_DEFINE(type, destructor)             \
    static inline void auto_free_##type(type **object) \
    {                                                  \
        destructor(*object);                           \
    }

/* A zeroed array of `count` items of `size` bytes; free it with free(). */
void *mem_new(size_t count, size_t size);

/* `old` (or NULL) resized to `count` items of `size` bytes, new bytes undefined. */
void *mem_grow(void *old, size_t count, size_t size);

/* New copy of `text`, NULL for NULL; free it with free(). */
char *mem_copy_text(const char *text);

/* New text from a format; free it with free(). */
char *mem_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Replace *slot by a copy of `text` and free what it held. */
void mem_set_text(char **slot, const char *text);

#include <stdlib.h>
typedef char Text;
AUTO_FREE_DEFINE(Text, free)

#endif
