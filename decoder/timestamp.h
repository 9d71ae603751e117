/*
 * Timestamps in PostgreSQL's ISO style, as wal2json prints the commit time.  Pure function.
 */
#ifndef WALTER_DECODER_TIMESTAMP_H
#define WALTER_DECODER_TIMESTAMP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Read "2025-11-20 15:40:38.525038+00" (1..6 digits of fraction or none, an offset of hours,
 * minutes and seconds) as microseconds since 2000-01-01 00:00 UTC.  False, and *out untouched, for
 * anything else, other DateStyles among it.
 */
bool timestamp_parse(const char *text, int64_t *out);

#endif
