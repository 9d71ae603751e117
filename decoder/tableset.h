/*
 * The tables a decoder was told about, and what is compared with them.
 *
 * Pure lookups; owns nothing.
 */
#ifndef WALTER_DECODER_TABLESET_H
#define WALTER_DECODER_TABLESET_H

#include "decoder.h"

typedef struct TableSet {
    const DecoderTable *tables; /* borrowed */
    int count;
} TableSet;

/* One plugin message on its way through a plugin's reader. */
typedef struct Message {
    const uint8_t *bytes; /* borrowed */
    size_t len;
    Lsn wal_end_lsn; /* the frame's */
    Arena *arena;    /* where rows go */
} Message;

/* Index of the table with this name, -1 when there is none. */
int tableset_find_name(const TableSet *set, const char *schema, const char *name);

/* Index of the table with this oid - or this name where a table's oid is 0 -, -1 when none. */
int tableset_find(const TableSet *set, uint32_t relid, const char *schema, const char *name);

/* True where the server does not send the column, or sends it for nothing. */
static inline bool
table_is_unsent(const DecoderTable *table, int column)
{
    return table->unsent != NULL && table->unsent[column];
}

/* True unless `type_oid` is known to differ from what the column should have. */
static inline bool
table_has_type(const DecoderTable *table, int column, uint32_t type_oid)
{
    return table->type_oids == NULL || table->type_oids[column] == 0 ||
           table->type_oids[column] == type_oid;
}

/* Wrap an error: the definition of the table is no longer the one we were told.  Returns false. */
bool table_changed(const DecoderTable *table, Err *err);

#endif
