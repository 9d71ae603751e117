/* Numbers that keep their digits; see jsontext.h. */
#include "jsontext.h"

#include <stdbool.h>
#include <string.h>

static bool
is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* Where the string that begins at `at` ends: behind its closing quote, or at the end. */
static const uint8_t *
end_of_string(const uint8_t *at, const uint8_t *end)
{
    for (at++; at < end; at++) {
        if (*at == '"')
            return at + 1;
        if (*at == '\\' && at + 1 < end)
            at++;
    }
    return end;
}

static const uint8_t *
end_of_digits(const uint8_t *at, const uint8_t *end)
{
    while (at < end && is_digit(*at))
        at++;
    return at;
}

/* Where the number at `at` ends; `at` itself when there is none.  Only a minus may lead it. */
static const uint8_t *
end_of_number(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *whole = at < end && *at == '-' ? at + 1 : at;
    const uint8_t *number_end = end_of_digits(whole, end);
    const uint8_t *part = number_end;

    if (number_end == whole)
        return at;
    if (part + 1 < end && *part == '.' && is_digit(part[1]))
        part = number_end = end_of_digits(part + 1, end);
    if (part < end && (*part == 'e' || *part == 'E')) {
        part++;
        if (part < end && (*part == '+' || *part == '-'))
            part++;
        if (part < end && is_digit(*part))
            number_end = end_of_digits(part, end);
    }
    return number_end;
}

/* Copy the text to `to`, or only measure it when `to` is NULL; returns its length. */
static size_t
convert(const uint8_t *at, const uint8_t *end, char *to)
{
    size_t used = 0;

    while (at < end) {
        bool is_string = *at == '"';
        const uint8_t *next = is_string ? end_of_string(at, end) : end_of_number(at, end);
        size_t quotes = is_string || next == at ? 0 : 1;
        size_t len = next == at ? 1 : (size_t)(next - at);

        if (to != NULL && quotes > 0)
            to[used] = to[used + 1 + len] = '"';
        if (to != NULL)
            memcpy(to + used + quotes, at, len);
        used += len + 2 * quotes;
        at += len;
    }
    return used;
}

char *
jsontext_quote_numbers(const uint8_t *json, size_t len, Arena *arena, size_t *out_len)
{
    size_t needed = convert(json, json + len, NULL);
    char *text = arena_alloc(arena, needed + 1);

    *out_len = convert(json, json + len, text);
    return text;
}
