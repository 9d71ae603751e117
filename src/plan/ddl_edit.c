/* Patches on a text; see ddl_edit.h. */
#include "ddl_edit.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "ddl_tree.h"

void
ddl_edit_add(DdlPatches *patches, DdlPatch patch, Arena *arena)
{
    for (int i = 0; i < patches->count; i++)
        if (patches->items[i].start == patch.start)
            return;
    patches->items = ddl_tree_grow(arena, patches->items, patches->count, sizeof patch);
    patches->items[patches->count++] = patch;
}

static int
compare_starts(const void *left, const void *right)
{
    const DdlPatch *a = left;
    const DdlPatch *b = right;

    return (a->start > b->start) - (a->start < b->start);
}

/* Whether `c` may be part of a name, quoted or not. */
static bool
is_wordy(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c == '"' || (unsigned char)c >= 0x80;
}

/* Append a piece that was not next to the content before. */
static void
join(Buf *out, const char *piece, size_t len)
{
    if (len > 0 && out->len > 0 && is_wordy(out->data[out->len - 1]) && is_wordy(piece[0]))
        buf_add_byte(out, ' ');
    buf_add(out, piece, len);
}

const char *
ddl_edit_apply(const char *text, int start, int end, DdlPatches *patches, Arena *arena)
{
    BUF_AUTO(out);

    if (patches->count > 1)
        qsort(patches->items, (size_t)patches->count, sizeof *patches->items, compare_starts);
    for (int i = 0; i < patches->count; i++) {
        const DdlPatch *patch = &patches->items[i];

        if (patch->with == NULL || patch->start < start || patch->end > end)
            continue;
        join(&out, text + start, (size_t)(patch->start - start));
        join(&out, patch->with, strlen(patch->with));
        start = patch->end;
    }
    join(&out, text + start, (size_t)(end - start));
    return arena_copy(arena, buf_text(&out), out.len);
}

const char *
ddl_edit_quote(const char *name, Arena *arena)
{
    BUF_AUTO(out);

    buf_add_byte(&out, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            buf_add_byte(&out, '"');
        buf_add_byte(&out, *name);
    }
    buf_add_byte(&out, '"');
    return arena_copy(arena, buf_text(&out), out.len);
}
