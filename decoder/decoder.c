/* Dispatch to the reader of the stream's plugin; see decoder.h. */
#include "decoder.h"

#include <assert.h>
#include <stdlib.h>

#include "pgoutput.h"
#include "wal2json.h"

struct Decoder {
    Plugin plugin;
    Pgoutput *pgoutput; /* the one of the plugin; the other is NULL */
    Wal2json *wal2json;
};

Decoder *
decoder_new(Plugin plugin, const DecoderTable *tables, int table_count)
{
    const TableSet set = {.tables = tables, .count = table_count};
    Decoder *decoder = calloc(1, sizeof *decoder);

    assert(table_count >= 1);
    if (decoder == NULL)
        abort();
    decoder->plugin = plugin;
    switch (plugin) {
    case PLUGIN_PGOUTPUT:
        decoder->pgoutput = pgoutput_new(&set);
        break;
    case PLUGIN_WAL2JSON:
        decoder->wal2json = wal2json_new(&set);
        break;
    }
    return decoder;
}

void
decoder_free(Decoder *decoder)
{
    if (decoder == NULL)
        return;
    pgoutput_free(decoder->pgoutput);
    wal2json_free(decoder->wal2json);
    free(decoder);
}

void
decoder_reset(Decoder *decoder)
{
    /* wal2json's messages are complete in themselves: its reader has learnt nothing */
    if (decoder->pgoutput != NULL)
        pgoutput_reset(decoder->pgoutput);
}

/* NOLINTBEGIN(readability-function-size): the parameters are the contract's */
bool
decoder_read(Decoder *decoder, const uint8_t *msg, size_t len, Lsn wal_end_lsn, Arena *arena,
             Change *out, Err *err)
{
    const Message message = {.bytes = msg, .len = len, .wal_end_lsn = wal_end_lsn, .arena = arena};

    if (decoder->pgoutput != NULL)
        return pgoutput_read(decoder->pgoutput, &message, out, err);
    return wal2json_read(decoder->wal2json, &message, out, err);
}
/* NOLINTEND(readability-function-size) */

ChangeKind
decoder_peek(Plugin plugin, const uint8_t *msg, size_t len)
{
    return plugin == PLUGIN_PGOUTPUT ? pgoutput_peek(msg, len) : wal2json_peek(msg, len);
}
