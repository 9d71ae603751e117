/* Allocation that cannot fail; see mem.h. */
#include "mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void *
or_abort(void *memory)
{
    if (memory == NULL) {
        fputs("walter: out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *
mem_new(size_t count, size_t size)
{
    return or_abort(calloc(count == 0 ? 1 : count, size == 0 ? 1 : size));
}

void *
mem_grow(void *old, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        return or_abort(NULL);
    return or_abort(realloc(old, count * size == 0 ? 1 : count * size));
}

char *
mem_copy_text(const char *text)
{
    return text == NULL ? NULL : or_abort(strdup(text));
}

char *
mem_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    return or_abort(text);
}

void
mem_set_text(char **slot, const char *text)
{
    char *copy = mem_copy_text(text);

    free(*slot);
    *slot = copy;
}
