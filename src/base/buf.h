/*
 * A growing byte buffer.  `data` is always NUL-terminated once anything was written; `len` does not
 * count that NUL.  A zeroed Buf is an empty one.  Never fails (out of memory aborts).
 */
#ifndef WALTER_BUF_H
#define WALTER_BUF_H

#include <stddef.h>
#include <stdint.h>

typedef struct Buf {
    char *data; /* NULL while nothing was written; use buf_text for a text that is never NULL */
    size_t len;
    size_t size;
} Buf;

/* Free what the buffer holds and make it empty. */
void buf_done(Buf *buf);

/* Declare an empty Buf that is freed at the closing brace: BUF_AUTO(name); */
#define BUF_AUTO(name) __attribute__((cleanup(buf_done))) Buf name = {0}

/* Keep the memory, forget the content. */
void buf_clear(Buf *buf);

/* Make room for `more` bytes behind the content; returns where they go. */
char *buf_reserve(Buf *buf, size_t more);

/* Append bytes, a text, one byte, or a printf. */
void buf_add(Buf *buf, const void *bytes, size_t len);
void buf_add_text(Buf *buf, const char *text);
void buf_add_byte(Buf *buf, char byte);
void buf_printf(Buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Append integers in network byte order. */
void buf_add_u16(Buf *buf, uint16_t value);
void buf_add_u32(Buf *buf, uint32_t value);

/* The content as text, "" when empty; borrowed until the next change. */
const char *buf_text(const Buf *buf);

/* Hand the text over: new, free it with free(); the buffer is empty afterwards. */
char *buf_take(Buf *buf);

#endif
