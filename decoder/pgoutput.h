/*
 * Reader of pgoutput's messages, protocol version 1, text and binary values.
 * Source: PostgreSQL manual, "Logical Replication Message Formats"; values are the same in 13-18.
 *
 * BEGIN, COMMIT, INSERT, UPDATE, DELETE and TRUNCATE become changes; RELATION fills a cache; ORIGIN,
 * TYPE and MESSAGE are read over.  Streaming and two-phase messages are never asked for: unknown.
 */
#ifndef WALTER_DECODER_PGOUTPUT_H
#define WALTER_DECODER_PGOUTPUT_H

#include "tableset.h"

typedef struct Pgoutput Pgoutput;

/* New reader; `set`: copied, its tables borrowed.  Free it with pgoutput_free. */
Pgoutput *pgoutput_new(const TableSet *set);

/* Free a reader.  NULL is allowed. */
void pgoutput_free(Pgoutput *reader);

/* Forget all announced relations. */
void pgoutput_reset(Pgoutput *reader);

/* Read one message, as decoder_read says. */
NODISCARD bool pgoutput_read(Pgoutput *reader, const Message *message, Change *out, Err *err);

/* The kind of change a message stands for, by its first byte. */
ChangeKind pgoutput_peek(const uint8_t *bytes, size_t len);

#endif
