/*
 * How much the shadow's rows take, told from the original's before they are written, and which way of
 * copying is the cheaper one for them.
 *
 * Pure: shapes in, numbers and SQL text out.
 */
#ifndef WALTER_FOOTPRINT_H
#define WALTER_FOOTPRINT_H

#include "arena.h"
#include "pg/catalog.h"
#include "plan/projection.h"

/*
 * A decoder holds each row with so many bytes around its values.  From so many bytes on a row has
 * values out of line.
 */
enum { FOOTPRINT_ROW_BYTES = 128, FOOTPRINT_LONG_ROW = 1900 };

typedef struct Footprint {
    bool is_known;         /* else a value may come out larger than anything tells */
    int64_t fixed_bytes;   /* of each row, at most, without those of `varying` */
    const char *varying;   /* SQL over the original's columns, of table "o": bytes of the rest */
    int64_t padding_bytes; /* of each row, at most, with which char(n) fills up what it is given */
    int column_count;      /* of the shadow's that are written ... */
    int varying_count;     /* ... and of all, those of no fixed length */
} Footprint;

/*
 * Its text is in `arena`.  Not known for a copy statement; what it says of padding and counts is.
 * `shuffled`: the columns of some leaf are in another order.
 */
Footprint footprint_of(const Projection *projection, const TableShape *original,
                       const TableShape *shadow, bool shuffled, Arena *arena);

/*
 * What a decoder holds of `rows` rows that have `bytes` in all; `long_rows` of them have values out
 * of line, each of which is stored, and decoded, in rows of 2 kB.
 */
int64_t footprint_decoded(const Footprint *footprint, int64_t rows, int64_t bytes,
                          int64_t long_rows);

/*
 * Should the server copy by INSERT ... SELECT, rather than pass all values through us by COPY?
 * `row_bytes`: what a row of the original takes, on average, out of line included.
 *
 * Measured with PostgreSQL 15, in processors' time of all processes: passing a row on costs 120 ns per
 * value, 250 more for one of no fixed length, 4 per byte (more where values are compressed: they are
 * unpacked and packed again).  INSERT writes each row's WAL by itself, some 50 bytes more, which costs
 * 1,000 ns with what decoders make of it.
 */
bool footprint_prefers_insert(const Footprint *footprint, int64_t row_bytes);

#endif
