/* The files that options name; see inputs.h. */
#include "cli/inputs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/mem.h"

#define FILE_BYTES_MAX (16UL * 1024 * 1024)

static const char SHADOW_MARK[] = "%{shadow_table}";

static void
close_file(FILE *file)
{
    if (file != NULL && file != stdin)
        (void)fclose(file);
}

AUTO_FREE_DEFINE(FILE, close_file)

/* Append all of `file`; fails with errno's text. */
static bool
read_all(FILE *file, Buf *out, Err *err)
{
    const size_t step = 64UL * 1024;
    size_t count;

    errno = 0;
    do {
        count = fread(buf_reserve(out, step), 1, step, file);
        out->len += count;
        out->data[out->len] = '\0';
    } while (count > 0 && out->len <= FILE_BYTES_MAX);
    if (ferror(file))
        return err_set(err, ERR_USAGE, "%s", strerror(errno));
    if (out->len > FILE_BYTES_MAX)
        return err_set(err, ERR_USAGE, "it is larger than %lu MB",
                       FILE_BYTES_MAX / (1024UL * 1024));
    return true;
}

/* A text for SQL: without a byte order mark, not empty, no NUL. */
static bool
take_text(const Buf *content, Arena *arena, const char **out, Err *err)
{
    const char *text = buf_text(content);
    size_t mark = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;

    if (strlen(text) != content->len)
        return err_set(err, ERR_USAGE, "it contains a NUL byte");
    if (text[mark + strspn(text + mark, " \t\r\n")] == '\0')
        return err_set(err, ERR_USAGE, "it is empty");
    *out = arena_copy(arena, text + mark, content->len - mark);
    return true;
}

static bool
read_text(const char *path, Arena *arena, const char **out, Err *err)
{
    AUTO(FILE) *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    BUF_AUTO(content);

    if (file == NULL)
        return err_set(err, ERR_USAGE, "%s", strerror(errno));
    return read_all(file, &content, err) && take_text(&content, arena, out, err);
}

/* `path` with the home directory in place of its "~", where it has one. */
static const char *
expand_home(const char *path, Arena *arena)
{
    const char *home = getenv("HOME");
    BUF_AUTO(text);

    if (strncmp(path, "~/", 2) != 0 || home == NULL)
        return path;
    buf_printf(&text, "%s%s", home, path + 1);
    return arena_copy(arena, text.data, text.len);
}

static bool
load_copy_statement(Settings *settings, Arena *arena, Err *err)
{
    const char *given = settings->copy_statement;
    const char *path = expand_home(given, arena);
    struct stat found;

    if (stat(path, &found) != 0 && strstr(given, SHADOW_MARK) != NULL)
        return true;
    if (!read_text(path, arena, &settings->copy_statement, err))
        return err_wrap(err,
                        "option --copy-statement (-c) must name a file or be a statement that "
                        "inserts into %s: could not read \"%.200s\"",
                        SHADOW_MARK, path);
    return true;
}

bool
inputs_load(Settings *settings, Arena *arena, Err *err)
{
    if (settings->statement_file != NULL &&
        !read_text(settings->statement_file, arena, &settings->statement, err))
        return err_wrap(err, "option --file: could not read \"%.200s\"", settings->statement_file);
    return settings->copy_statement == NULL || load_copy_statement(settings, arena, err);
}
