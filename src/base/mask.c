/* Leaving out what must not be shown; see mask.h. */
#include "mask.h"

#include <stdbool.h>
#include <string.h>

static const char *const MARKS[] = {"\"", "\u00ab", "\u00bb", "\u201c", "\u201d", "\u201e"};

/* What is quoted behind one of these is a name. */
static const char *const NAMERS[] = {"column",   "relation", "table",     "constraint", "domain",
                                     "encoding", "type",     "collation", "sequence",   "index",
                                     "function", "operator", "partition"};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The length of the quotation mark at `at`, 0 = there is none. */
static size_t
mark_length(const char *at)
{
    for (size_t i = 0; i < COUNT(MARKS); i++)
        if (strncmp(at, MARKS[i], strlen(MARKS[i])) == 0)
            return strlen(MARKS[i]);
    return 0;
}

static const char *
next_mark(const char *at)
{
    while (*at != '\0' && mark_length(at) == 0)
        at++;
    return at;
}

/* Does the text end with such a word and a blank? */
static bool
announces_name(const char *text, const char *end)
{
    for (size_t i = 0; i < COUNT(NAMERS); i++) {
        size_t len = strlen(NAMERS[i]);

        if ((size_t)(end - text) > len && end[-1] == ' ' &&
            strncmp(end - 1 - len, NAMERS[i], len) == 0 &&
            ((size_t)(end - text) == len + 1 || end[-(ptrdiff_t)len - 2] == ' '))
            return true;
    }
    return false;
}

/* Behind the last mark; NULL when there is none. */
static const char *
last_mark_end(const char *at)
{
    const char *end = NULL;

    for (at = next_mark(at); *at != '\0'; at = next_mark(at)) {
        at += mark_length(at);
        end = at;
    }
    return end;
}

void
mask_add(const char *message, Buf *out)
{
    const char *begin = next_mark(message);
    const char *end;

    while (*begin != '\0' && announces_name(message, begin)) {
        const char *close = next_mark(begin + mark_length(begin));

        begin = *close == '\0' ? close : next_mark(close + mark_length(close));
    }
    end = last_mark_end(begin);
    if (end == NULL) {
        buf_add_text(out, message);
        return;
    }
    buf_add(out, message, (size_t)(begin - message));
    buf_add_text(out, "\"...\"");
    buf_add_text(out, end);
}
