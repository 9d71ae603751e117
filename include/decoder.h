/*
 * The contract between the stream (bytes from a logical decoding plugin) and apply (row changes).
 *
 * A decoder is a pure function with a cache: bytes in, changes out; no I/O, no clock, no libpq.
 * It knows the few tables it was told about; changes of any other table are skipped.  Values stay
 * exactly the bytes that the server sent (text or binary); nothing is parsed into numbers.
 */
#ifndef WALTER_DECODER_H
#define WALTER_DECODER_H

#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "err.h"
#include "lsn.h"

typedef enum {
    DATUM_ABSENT = 0, /* not part of this tuple (a key tuple has only the key's columns) */
    DATUM_NULL,       /* SQL NULL */
    DATUM_UNCHANGED, /* an out-of-line value that the UPDATE did not touch; its bytes were not sent */
    DATUM_TEXT,      /* bytes are the type's text form, no NUL at the end */
    DATUM_BINARY     /* bytes are the type's binary send form */
} DatumKind;

typedef struct Datum {
    DatumKind kind;
    uint32_t len;         /* bytes */
    const uint8_t *bytes; /* borrowed; NULL unless kind is TEXT or BINARY */
} Datum;

/* One table the stream may speak of.  All pointers are borrowed and must outlive the decoder. */
typedef struct DecoderTable {
    uint32_t relid;             /* pg_class.oid; 0 = match by name only (wal2json always does) */
    const char *schema;         /* as in pg_namespace.nspname, unquoted */
    const char *name;           /* as in pg_class.relname, unquoted */
    int column_count;           /* live columns, 1..1600 */
    const char *const *columns; /* pg_attribute.attname in attnum order, dropped ones left out */
    /* per column, may be NULL when unknown: true where the plugin does not send the column
     * (generated columns before PostgreSQL 18, and always with pgoutput's default) */
    const bool *unsent;
    /* per column: pg_attribute.atttypid, 0 = do not compare; NULL = compare none.  wal2json's
     * reader also needs it to tell a bytea, unless the client asks the plugin for types */
    const uint32_t *type_oids;
} DecoderTable;

typedef enum {
    CHANGE_NONE = 0, /* the message carries nothing for us (other table, type, origin, ...) */
    CHANGE_BEGIN,
    CHANGE_COMMIT,
    CHANGE_INSERT,
    CHANGE_UPDATE,
    CHANGE_DELETE,
    CHANGE_TRUNCATE
} ChangeKind;

/*
 * One decoded change.  Row arrays have the table's column_count entries, in its column order.
 *   INSERT: new_row.   DELETE: old_row.   UPDATE: new_row, and old_row where the identity changed
 *   (or may have: its new value was not sent) and always under REPLICA IDENTITY FULL.
 * An old_row is either the identity key alone (other columns DATUM_ABSENT) or, under REPLICA
 * IDENTITY FULL, the whole old row.  A column in `unsent` is DATUM_ABSENT everywhere.
 */
typedef struct Change {
    ChangeKind kind;
    int table;              /* index into the decoder's tables; row changes and TRUNCATE only */
    uint32_t xid;           /* BEGIN only */
    Lsn commit_lsn;         /* BEGIN and COMMIT: LSN of the commit record */
    Lsn end_lsn;            /* COMMIT: end of the commit record, the position to resume from */
    int64_t commit_time_us; /* BEGIN and COMMIT: microseconds since 2000-01-01 00:00 UTC */
    const Datum *new_row;
    const Datum *old_row;
    bool old_is_full; /* old_row holds the whole row (REPLICA IDENTITY FULL) */
    bool truncate_cascade;
    bool truncate_restart; /* RESTART IDENTITY */
    const int *truncated;  /* TRUNCATE: all tables that we know, as indexes; `table` is the least */
    int truncated_count;
} Change;

typedef enum { PLUGIN_PGOUTPUT = 0, PLUGIN_WAL2JSON } Plugin;

typedef struct Decoder Decoder;

/*
 * New decoder for the stream of `plugin`; free it with decoder_free.
 * `tables`, `table_count`: borrowed, must outlive the decoder; at least one.
 */
Decoder *decoder_new(Plugin plugin, const DecoderTable *tables, int table_count);

/* Free a decoder.  NULL is allowed. */
void decoder_free(Decoder *decoder);

/* Forget everything learnt from the stream (relation cache, open transaction): call on reconnect. */
void decoder_reset(Decoder *decoder);

/*
 * Decode one plugin message (the payload of one XLogData frame).
 *
 * `msg`, `len`: borrowed.  `wal_end_lsn`: the frame's end-of-WAL field (wal2json has no LSN of its
 * own in COMMIT unless include-lsn is set; then it is not needed).  What *out points to is
 * borrowed from `msg` and from `arena`.  *out is written only on success.
 * A message with several TRUNCATEd tables yields one change, which lists those that we know.
 * Fails with ERR_FAILED on a short, overlong or unknown message, on a row for a relation never
 * announced, and when a RELATION message of a known table no longer has the columns (names, order,
 * types) of its DecoderTable or, since the last one, another replica identity: that message says
 * that the definition of the table has changed.
 */
NODISCARD bool decoder_read(Decoder *decoder, const uint8_t *msg, size_t len, Lsn wal_end_lsn,
                            Arena *arena, Change *out, Err *err);

/*
 * The kind of a message from its first bytes, without decoding it: for counting what is queued.
 * A row change may still turn out to be CHANGE_NONE (another table).  Never fails; nonsense is
 * CHANGE_NONE.
 */
ChangeKind decoder_peek(Plugin plugin, const uint8_t *msg, size_t len);

#endif
