/* Text form of log sequence numbers; see lsn.h. */
#include "lsn.h"

#include <stdio.h>

const char *
lsn_text(Lsn lsn, char out[LSN_TEXT_SIZE])
{
    (void)snprintf(out, LSN_TEXT_SIZE, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
    return out;
}

/* Read 1..8 hex digits at *at; false when there are none or more. */
static bool
read_half(const char **at, uint64_t *out)
{
    uint64_t value = 0;
    int digits = 0;

    for (; **at != '\0' && digits <= 8; (*at)++, digits++) {
        char c = **at;

        if (c >= '0' && c <= '9')
            value = value * 16 + (uint64_t)(c - '0');
        else if (c >= 'A' && c <= 'F')
            value = value * 16 + (uint64_t)(c - 'A' + 10);
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (uint64_t)(c - 'a' + 10);
        else
            break;
    }
    *out = value;
    return digits >= 1 && digits <= 8;
}

bool
lsn_parse(const char *text, Lsn *out)
{
    uint64_t high = 0;
    uint64_t low = 0;

    if (!read_half(&text, &high) || *text++ != '/' || !read_half(&text, &low) || *text != '\0')
        return false;
    *out = high << 32 | low;
    return true;
}
