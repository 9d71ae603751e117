/*
 * Log sequence numbers: positions in the write-ahead log, in bytes.
 * Source: PostgreSQL manual, "pg_lsn Type".
 */
#ifndef WALTER_LSN_H
#define WALTER_LSN_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t Lsn;

#define LSN_INVALID ((Lsn)0)
#define LSN_TEXT_SIZE 20 /* "FFFFFFFF/FFFFFFFF" and its NUL, rounded up */

/* Write `lsn` as PostgreSQL prints it ("16/B374D848") into `out`; returns `out`. */
const char *lsn_text(Lsn lsn, char out[LSN_TEXT_SIZE]);

/* Read PostgreSQL's text form.  False, and *out untouched, when `text` is anything else. */
bool lsn_parse(const char *text, Lsn *out);

#endif
