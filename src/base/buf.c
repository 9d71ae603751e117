/* A growing byte buffer; see buf.h. */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

void
buf_done(Buf *buf)
{
    free(buf->data);
    *buf = (Buf){0};
}

void
buf_clear(Buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

char *
buf_reserve(Buf *buf, size_t more)
{
    if (more > SIZE_MAX / 4 || buf->len > SIZE_MAX / 4)
        abort();
    if (buf->size < buf->len + more + 1) {
        size_t size = buf->size < 128 ? 128 : buf->size * 2;

        if (size < buf->len + more + 1)
            size = buf->len + more + 1;
        buf->data = mem_grow(buf->data, size, 1);
        buf->size = size;
    }
    return buf->data + buf->len;
}

void
buf_add(Buf *buf, const void *bytes, size_t len)
{
    char *at = buf_reserve(buf, len);

    if (len > 0)
        memcpy(at, bytes, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
}

void
buf_add_text(Buf *buf, const char *text)
{
    buf_add(buf, text, strlen(text));
}

void
buf_add_byte(Buf *buf, char byte)
{
    buf_add(buf, &byte, 1);
}

void
buf_printf(Buf *buf, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    if (len < 0)
        abort();
    buf_add(buf, text, (size_t)len);
    free(text);
}

void
buf_add_u16(Buf *buf, uint16_t value)
{
    const unsigned char bytes[2] = {(unsigned char)(value >> 8), (unsigned char)(value & 0xff)};

    buf_add(buf, bytes, sizeof bytes);
}

void
buf_add_u32(Buf *buf, uint32_t value)
{
    buf_add_u16(buf, (uint16_t)(value >> 16));
    buf_add_u16(buf, (uint16_t)(value & 0xffff));
}

const char *
buf_text(const Buf *buf)
{
    return buf->data == NULL ? "" : buf->data;
}

char *
buf_take(Buf *buf)
{
    char *text = buf->data == NULL ? mem_copy_text("") : buf->data;

    *buf = (Buf){0};
    return text;
}
