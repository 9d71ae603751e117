/*
 * Reader of wal2json's messages, format version 2, as its releases 2.5 and 2.6 write them.
 * Source: wal2json's README.
 *
 * The client sets: "format-version" '2', "include-lsn", "include-xids" and "include-timestamp"
 * 'true', "add-tables".  With them BEGIN and COMMIT carry the same two positions: "lsn", the commit
 * record, and "nextlsn", its end.  The "lsn" of a row message is the row's own and is not read.
 *
 * A column's type is needed to tell bytea, which wal2json prints without its \x.  It is taken from
 * "typeoid" ("include-type-oids" 'true'), else from "type" ("include-types", on by default), else
 * from the DecoderTable.  Prefer the first and set "include-types" 'false': a type name that begins
 * with a quoted identifier, like "Schema".type, is printed unescaped, and the message is not JSON.
 * "typeoid" is also compared with the DecoderTable, as pgoutput's is.
 *
 * Where the changes differ from pgoutput's, because the plugin tells less:
 *   - TRUNCATE has no flags, and there is one message for each table;
 *   - NaN and infinite numbers are null, unless "numeric-data-types-as-string" (2.6) is on;
 *   - old_is_full is also set when the identity's key happens to have all columns of the table;
 *   - a dropped column of an updated row cannot be told from an unchanged value.
 * An identity that the UPDATE did not change is always sent and is left out of the change, so that
 * an old_row has the same meaning with both plugins.
 */
#ifndef WALTER_DECODER_WAL2JSON_H
#define WALTER_DECODER_WAL2JSON_H

#include "tableset.h"

typedef struct Wal2json Wal2json;

/* New reader; `set`: copied, its tables borrowed.  Free it with wal2json_free. */
Wal2json *wal2json_new(const TableSet *set);

/* Free a reader.  NULL is allowed. */
void wal2json_free(Wal2json *reader);

/* Read one message, as decoder_read says.  The content of a MESSAGE is not looked at. */
NODISCARD bool wal2json_read(Wal2json *reader, const Message *message, Change *out, Err *err);

/* The kind of change a message stands for, by its first bytes. */
ChangeKind wal2json_peek(const uint8_t *bytes, size_t len);

#endif
