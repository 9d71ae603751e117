/* What the shadow's rows take; see footprint.h. */
#include "plan/footprint.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"

/* A value of fixed length as text or number, such as a timestamp or a label. */
enum { AS_TEXT_BYTES = 64 };

/* What comes before a value, at most, so that it begins where it may. */
enum { LARGEST_PAD = 7, VARYING_PAD = 3 };

/* A literal's text against its value: "{1,1}" makes 4 bytes of 2, and has a header. */
enum { LITERAL_FACTOR = 4 };

/* The pieces of a value out of line, and what a decoder has around each. */
enum { PIECE_BYTES = 1996, AROUND_PIECE_BYTES = 140 };

/* By processors' time; see the header. */
enum { VALUE_NS = 120, VARYING_NS = 250, BYTE_NS = 4, INSERT_NS = 1000, WORTH_NS = 500 };

static bool
is_type(const Column *column, const char *name)
{
    return strcmp(column->base_type, name) == 0;
}

static bool
is_text(const Column *column)
{
    return is_type(column, "text") || is_type(column, "character varying") ||
           is_type(column, "bpchar");
}

static bool
is_same_type(const Column *old, const Column *new)
{
    return strcmp(old->stage_type, new->stage_type) == 0;
}

/* The n of char(n), which fills up every value; 0 for other types. */
static int
filled_length(const Column *column)
{
    static const char PREFIX[] = "character(";

    return strncmp(column->stage_type, PREFIX, strlen(PREFIX)) == 0
               ? (int)strtol(column->stage_type + strlen(PREFIX), NULL, 10)
               : 0;
}

/* Does the assignment fill the value up, that is, may it be shorter before? */
static int
padding(const Column *old, const Column *new)
{
    return old != NULL && is_same_type(old, new) ? 0 : filled_length(new);
}

/* A row is known from left to right: after a value of a multiple of its own size comes no pad. */
static int
pad_bytes(const Column *before, const Column *column)
{
    if (column->length < 0)
        return VARYING_PAD;
    if (before != NULL && before->length > 0 && before->length % column->length == 0)
        return 0;
    return column->length <= LARGEST_PAD ? column->length - 1 : LARGEST_PAD;
}

/*
 * A value that stays what it is keeps its size, packed or not.  A cast unpacks it, and so does storage
 * that knows no packing; it need not be packed again.  octet_length tells without reading it.
 */
static bool
add_size(const Column *old, const Column *new, Buf *varying)
{
    bool stays = is_same_type(old, new) && new->storage == old->storage;
    bool is_number = is_type(old, "numeric") && is_type(new, "numeric");

    if (!stays && !is_number && !(is_text(old) && is_text(new)))
        return false;
    sql_add(varying, "%Scoalesce(pg_catalog.%S(o.%I), 0)", varying->len == 0 ? "" : " + ",
            stays || is_number ? "pg_column_size" : "octet_length", old->name);
    return true;
}

/* How large is a value that `old` becomes (NULL: nobody knows of what it is made)? */
static bool
add_varying(Footprint *footprint, const Column *old, const Column *new, Buf *varying)
{
    if (old == NULL)
        return false;
    if (old->length < 0)
        return add_size(old, new, varying);
    footprint->fixed_bytes += AS_TEXT_BYTES;
    return is_text(new) || is_type(new, "numeric");
}

static void
add_column(Footprint *footprint, const Projection *projection, const TableShape *original,
           const Column *column, int number, Buf *varying)
{
    const Output *output = projection_find(projection, number);
    /* what the table itself computes is as large as it was */
    int source = output != NULL      ? output->source
                 : column->generated ? projection->origin[number]
                                     : -1;
    const Column *old = source < 0 ? NULL : &original->columns[source];

    footprint->column_count += output != NULL ? 1 : 0;
    if (column->length > 0) {
        footprint->fixed_bytes += column->length;
        return;
    }
    footprint->varying_count++;
    footprint->padding_bytes += padding(old, column);
    if (output != NULL && output->constant != NULL)
        footprint->fixed_bytes += (int64_t)strlen(output->constant) * LITERAL_FACTOR;
    else if (!add_varying(footprint, old, column, varying))
        footprint->is_known = false;
}

Footprint
footprint_of(const Projection *projection, const TableShape *original, const TableShape *shadow,
             bool shuffled, Arena *arena)
{
    Footprint footprint = {.is_known = !projection->is_copy_statement};
    const Column *before = NULL;
    BUF_AUTO(varying);

    for (int i = 0; i < shadow->column_count; i++) {
        const Column *column = &shadow->columns[i];

        /* computed whenever it is read: takes no room, and reading it may even fail */
        if (column->is_virtual)
            continue;
        /* a first column begins where a row does */
        if (shuffled || i > 0)
            footprint.fixed_bytes += pad_bytes(shuffled ? NULL : before, column);
        add_column(&footprint, projection, original, column, i, &varying);
        before = column;
    }
    footprint.fixed_bytes += footprint.padding_bytes;
    if (varying.len == 0)
        buf_add_text(&varying, "0");
    footprint.varying = arena_copy(arena, buf_text(&varying), varying.len);
    return footprint;
}

int64_t
footprint_decoded(const Footprint *footprint, int64_t rows, int64_t bytes, int64_t long_rows)
{
    int64_t pieces = bytes / PIECE_BYTES + long_rows * footprint->varying_count;

    return bytes + rows * FOOTPRINT_ROW_BYTES + pieces * AROUND_PIECE_BYTES;
}

bool
footprint_prefers_insert(const Footprint *footprint, int64_t row_bytes)
{
    int64_t pass_ns = (int64_t)footprint->column_count * VALUE_NS +
                      (int64_t)footprint->varying_count * VARYING_NS + row_bytes * BYTE_NS;

    return footprint->is_known && pass_ns >= INSERT_NS + WORTH_NS;
}
