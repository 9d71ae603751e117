/*
 * Fuzz input for a decoder: the tables it is told about, then messages.
 *
 *     u8 table count, and for each: u32 relid, schema NUL, name NUL, u8 column count,
 *         and for each: u32 type oid, u8 unsent, name NUL
 *     messages: u16 length, bytes; one without bytes is a reconnect
 *
 * Integers are big-endian; counts are brought into their range.  seeds.py writes this format.
 */
#ifndef WALTER_STREAM_INPUT_H
#define WALTER_STREAM_INPUT_H

#include "decoder.h"

/*
 * Decode the input and abort where a change breaks what decoder.h promises.  Every message is given
 * in memory of exactly its size and every byte of a change is read, for the sanitizers.
 */
void stream_input_run(Plugin plugin, const uint8_t *data, size_t size);

#endif
