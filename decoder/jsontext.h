/*
 * What jansson does not do: numbers that keep their digits.
 */
#ifndef WALTER_DECODER_JSONTEXT_H
#define WALTER_DECODER_JSONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "arena.h"

/*
 * A copy of the JSON text in which every bare number is a string, so that no parser rounds it or
 * finds it too large.  Strings are left alone; text that is not JSON stays text that is not JSON.
 * The result lives in `arena`; *out_len is its length.
 */
char *jsontext_quote_numbers(const uint8_t *json, size_t len, Arena *arena, size_t *out_len);

#endif
