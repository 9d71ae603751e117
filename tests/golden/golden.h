/*
 * Golden streams: what real servers sent, and the changes it means.
 *
 * tests/golden/cases/NAME.sql says what was done on the server; scripts/golden ran it and stored, per
 * variant of plugin and options, VARIANT/NAME.stream:
 *
 *     # comment
 *     table   RELID SCHEMA NAME        a DecoderTable, in order
 *     column  TYPE_OID sent|unsent NAME    of the table above
 *     message LSN HEX                  one plugin message
 *
 * with a tab between fields.  VARIANT/NAME.changes has the decoded changes, read by a human; with
 * GOLDEN_WRITE set in the environment it is written instead of compared, and the test fails.
 * A case with a line "-- differs: WHY" has other changes with wal2json than with pgoutput.
 * All functions end the test on an unreadable file.
 */
#ifndef WALTER_GOLDEN_H
#define WALTER_GOLDEN_H

#include "buf.h"
#include "decoder.h"

typedef struct GoldenMessage {
    Lsn lsn;
    uint8_t *bytes; /* allocated exactly, so that a sanitizer sees every overrun */
    size_t len;
} GoldenMessage;

typedef struct Golden {
    Arena *arena; /* owns all but the messages' bytes */
    DecoderTable *tables;
    int table_count;
    const char **columns; /* these three: the arrays of the last table, to be filled */
    bool *unsent;
    uint32_t *type_oids;
    GoldenMessage *messages;
    size_t message_count;
} Golden;

/* Number of cases, and the name of each in 0 .. count - 1, in the order of their names. */
int golden_case_count(void);
const char *golden_case_name(int index);

/* True when the case says that the plugins differ. */
bool golden_case_differs(const char *name);

/* Load a stream; free it with golden_free. */
Golden *golden_load(const char *variant, const char *name);
void golden_free(Golden *golden);

/*
 * Decode the stream up to its end or first error and append what comes out to `out`.
 * `comparable`: leave out what differs between plugins and servers: messages without a change,
 * transactions without one, and in which way a definition changed.
 */
void golden_print(const Golden *golden, Plugin plugin, bool comparable, Buf *out);

/* Decode the stream and compare with its .changes. */
void golden_check(const char *variant, Plugin plugin, const char *name);

/*
 * Every shorter prefix of every message, and every message with one more byte behind it, is
 * refused.  Stops at the first message that is an error anyway.
 */
void golden_check_lengths(const char *variant, Plugin plugin, const char *name);

#endif
