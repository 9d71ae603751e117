/* What the shadow's rows take; see footprint.h. */
#include "plan/footprint.h"

#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"

/* A value of fixed length as text, such as a timestamp or a label. */
enum { AS_TEXT_BYTES = 64 };

/* What comes before a value, at most, so that it begins where it may. */
enum { LARGEST_PAD = 7, VARYING_PAD = 3 };

/* A literal's text against its value: "{1,1}" makes 4 bytes of 2, and has a header. */
enum { LITERAL_FACTOR = 4 };

/* By processors' time; see the header. */
enum { VALUE_NS = 120, VARYING_NS = 250, BYTE_NS = 4, INSERT_NS = 1000, WORTH_NS = 500 };

static bool
is_text(const Column *column)
{
    return strcmp(column->base_type, "text") == 0 ||
           strcmp(column->base_type, "character varying") == 0;
}

static bool
is_numeric(const Column *column)
{
    return strcmp(column->base_type, "numeric") == 0;
}

/* Is a value of `old`, cast to `new`, no larger?  A length, as of char(2000), may fill it up. */
static bool
keeps_size(const Column *old, const Column *new)
{
    if (strcmp(old->stage_type, new->stage_type) == 0)
        return true;
    if (is_text(new))
        return is_text(old) || strcmp(old->base_type, "bpchar") == 0;
    return is_numeric(old) && is_numeric(new);
}

/* A row is known from left to right: after a value of a multiple of its own size comes no pad. */
static int
pad_bytes(const Column *before, const Column *column)
{
    if (column->length < 0)
        return VARYING_PAD;
    if (before == NULL || (before->length > 0 && before->length % column->length == 0))
        return 0;
    return column->length < LARGEST_PAD ? column->length - 1 : LARGEST_PAD;
}

/* The same bytes as the original's column has, or as many for all rows, or nobody knows. */
static void
add_varying(Footprint *footprint, const Column *old, const Column *new, Buf *varying)
{
    if (old == NULL)
        footprint->is_known = false;
    else if (old->length > 0)
        footprint->fixed_bytes += AS_TEXT_BYTES;
    else if (keeps_size(old, new))
        sql_add(varying, "%Scoalesce(pg_catalog.pg_column_size(o.%I), 0)",
                varying->len == 0 ? "" : " + ", old->name);
    else
        footprint->is_known = false;
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

    footprint->column_count += output != NULL ? 1 : 0;
    footprint->fixed_bytes += pad_bytes(number == 0 ? NULL : column - 1, column);
    if (column->length > 0) {
        footprint->fixed_bytes += column->length;
        return;
    }
    footprint->varying_count += output != NULL ? 1 : 0;
    if (output != NULL && output->constant != NULL)
        footprint->fixed_bytes += (int64_t)strlen(output->constant) * LITERAL_FACTOR;
    else
        add_varying(footprint, source < 0 ? NULL : &original->columns[source], column, varying);
}

Footprint
footprint_of(const Projection *projection, const TableShape *original, const TableShape *shadow,
             Arena *arena)
{
    Footprint footprint = {.is_known = !projection->is_copy_statement};
    BUF_AUTO(varying);

    for (int i = 0; footprint.is_known && i < shadow->column_count; i++)
        add_column(&footprint, projection, original, &shadow->columns[i], i, &varying);
    if (varying.len == 0)
        buf_add_text(&varying, "0");
    footprint.varying = arena_copy(arena, buf_text(&varying), varying.len);
    return footprint;
}

bool
footprint_prefers_insert(const Footprint *footprint, int64_t row_bytes)
{
    int64_t pass_ns = (int64_t)footprint->column_count * VALUE_NS +
                      (int64_t)footprint->varying_count * VARYING_NS + row_bytes * BYTE_NS;

    return footprint->is_known && pass_ns >= INSERT_NS + WORTH_NS;
}
