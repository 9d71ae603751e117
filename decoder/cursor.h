/*
 * A reader of big-endian bytes that cannot run over the end.
 *
 * The first read beyond the end sets `bad` for good and every later read yields zero, so a message
 * is read to its end without a test per field and judged once with cursor_is_done.  What must be
 * tested at once is `bad` before a count from the message sizes anything: cursor_left bounds it.
 * Never allocates; what it hands out points into the message.
 */
#ifndef WALTER_DECODER_CURSOR_H
#define WALTER_DECODER_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct Cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad; /* something was read that is not there */
} Cursor;

/* A cursor over the `len` bytes at `bytes`, borrowed. */
static inline Cursor
cursor_over(const uint8_t *bytes, size_t len)
{
    return (Cursor){.at = bytes, .end = bytes + len};
}

/* Bytes not read yet; 0 once the cursor is bad. */
static inline size_t
cursor_left(const Cursor *cursor)
{
    return cursor->bad ? 0 : (size_t)(cursor->end - cursor->at);
}

/* True when every byte was read and none beyond the end. */
static inline bool
cursor_is_done(const Cursor *cursor)
{
    return !cursor->bad && cursor->at == cursor->end;
}

/* The next `len` bytes, borrowed from the message; NULL when there are fewer. */
static inline const uint8_t *
cursor_bytes(Cursor *cursor, size_t len)
{
    const uint8_t *bytes = cursor->at;

    if (cursor->bad || len > cursor_left(cursor)) {
        cursor->bad = true;
        return NULL;
    }
    cursor->at += len;
    return bytes;
}

/* The next unsigned integer of one, two, four or eight bytes. */
static inline uint8_t
cursor_u8(Cursor *cursor)
{
    const uint8_t *bytes = cursor_bytes(cursor, 1);

    return bytes == NULL ? 0 : bytes[0];
}

static inline uint16_t
cursor_u16(Cursor *cursor)
{
    const uint8_t *bytes = cursor_bytes(cursor, 2);

    return bytes == NULL ? 0 : (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline uint32_t
cursor_u32(Cursor *cursor)
{
    uint32_t high = cursor_u16(cursor);

    return high << 16 | cursor_u16(cursor);
}

static inline uint64_t
cursor_u64(Cursor *cursor)
{
    uint64_t high = cursor_u32(cursor);

    return high << 32 | cursor_u32(cursor);
}

/* The next NUL-terminated text, borrowed from the message; "" when there is no NUL. */
static inline const char *
cursor_text(Cursor *cursor)
{
    size_t left = cursor_left(cursor);
    const uint8_t *nul = left == 0 ? NULL : memchr(cursor->at, 0, left);

    if (nul == NULL) {
        cursor->bad = true;
        return "";
    }
    return (const char *)cursor_bytes(cursor, (size_t)(nul - cursor->at) + 1);
}

#endif
