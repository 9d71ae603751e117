/* The help text; see help.h. */
#include "cli/help.h"

#include <stdbool.h>
#include <string.h>

#include "cli/options.h"
#include "cli/outcome.h"

#define TEXT_COLUMN 30 /* where the explanations of options begin */
#define WORD_COLUMN 12 /* where the explanations of commands begin */
#define CODE_COLUMN 5  /* where the explanations of exit codes begin */

static const char *const GROUP_TITLES[GROUP_COUNT] = {
    [GROUP_TASK] = "What to do",
    [GROUP_CONNECTION] = "Connection",
    [GROUP_SPEED] = "Copying and following",
    [GROUP_LOCK] = "Lock and cutover",
    [GROUP_OTHER] = "Other",
};

static void
start_line(Buf *out, size_t indent)
{
    buf_printf(out, "\n%*s", (int)indent, "");
}

/* Append `text` from column `used` on, wrapped; the following lines begin at column `indent`. */
static void
add_wrapped(Buf *out, size_t used, size_t indent, const char *text)
{
    bool is_first = true;

    for (const char *word = text; *word != '\0';) {
        size_t len = strcspn(word, " ");

        if (!is_first && used + 1 + len > HELP_COLUMNS) {
            start_line(out, indent);
            used = indent;
        } else if (!is_first) {
            buf_add_byte(out, ' ');
            used++;
        }
        buf_add(out, word, len);
        used += len;
        word += len + strspn(word + len, " ");
        is_first = false;
    }
    buf_add_byte(out, '\n');
}

/* `left`, then `text` in the column `column`; below `left` where that is too wide. */
static void
add_entry(Buf *out, const char *left, size_t column, const char *text)
{
    size_t used = strlen(left);

    buf_add_text(out, left);
    if (used + 2 > column)
        start_line(out, column);
    else
        buf_printf(out, "%*s", (int)(column - used), "");
    add_wrapped(out, column, column, text);
}

/* "  -j, --jobs=N" */
static void
add_names(const Option *option, Buf *out)
{
    buf_add_text(out, "  ");
    for (const char *letter = option->letters; *letter != '\0'; letter++)
        buf_printf(out, "-%c, ", *letter);
    if (option->letters[0] == '\0')
        buf_add_text(out, "    ");
    buf_printf(out, "--%s%s", option->type == OPTION_FLAG ? "[no-]" : "", option->name);
    if (option->value_name != NULL)
        buf_printf(out, "=%s", option->value_name);
}

/* What the table says beyond the help sentences: units, range, choices, default. */
static void
add_facts(const Option *option, Buf *out)
{
    switch (option->type) {
    case OPTION_NUMBER:
        buf_printf(out, " From %lld to %lld, default ", (long long)option->min,
                   (long long)option->max);
        if (option->initial_text != NULL)
            buf_printf(out, "%s.", option->initial_text);
        else
            buf_printf(out, "%lld.", (long long)option->initial);
        break;
    case OPTION_DURATION:
        buf_printf(out, " In %s, or with a unit (ms, s, min, h); from %lld to %lld, default %lld.",
                   option->unit[0] == 'm' ? "milliseconds" : "seconds", (long long)option->min,
                   (long long)option->max, (long long)option->initial);
        break;
    case OPTION_SIZE:
        buf_add_text(out, " In bytes, or with a unit (kB, MB, GB); default ");
        if (option->initial_text != NULL)
            buf_printf(out, "%s.", option->initial_text);
        else
            buf_printf(out, "%lld.", (long long)option->initial);
        break;
    case OPTION_CHOICE:
        buf_add_text(out, " Either ");
        option_add_choices(option, out);
        buf_printf(out, ", default %s.", option->choices[option->initial]);
        break;
    case OPTION_TEXT:
        if (option->initial_text != NULL)
            buf_printf(out, " Default %s.", option->initial_text);
        break;
    case OPTION_FLAG:
    case OPTION_PORT:
    case OPTION_COMMAND:
        break;
    }
}

static void
add_option(const Option *option, Buf *out)
{
    BUF_AUTO(names);
    BUF_AUTO(text);

    add_names(option, &names);
    buf_add_text(&text, option->help);
    add_facts(option, &text);
    add_entry(out, buf_text(&names), TEXT_COLUMN, buf_text(&text));
}

static void
add_group(OptionGroup group, Command command, Buf *out)
{
    bool is_first = true;

    for (const Option *option = OPTIONS; option->name != NULL; option++) {
        if (option->group != group || !option_is_for(option, command))
            continue;
        if (is_first)
            buf_printf(out, "\n%s:\n", GROUP_TITLES[group]);
        is_first = false;
        add_option(option, out);
    }
}

static void
add_exit_codes(Buf *out)
{
    buf_add_text(out, "\nExit status:\n");
    for (int code = 0; code < OUTCOME_COUNT; code++) {
        BUF_AUTO(left);

        buf_printf(&left, "  %d", code);
        add_entry(out, buf_text(&left), CODE_COLUMN, outcome_meaning(code));
    }
}

static void
add_overview(Buf *out)
{
    buf_add_text(out, "walter runs any ALTER TABLE on a big, busy PostgreSQL table online.\n"
                      "\nUsage:\n");
    for (const CommandWord *command = COMMANDS; command->word != NULL; command++)
        buf_printf(out, "  walter %s\n", command->usage);
    buf_add_text(out, "\nCommands:\n");
    for (const CommandWord *command = COMMANDS; command->word != NULL; command++) {
        BUF_AUTO(left);

        buf_printf(&left, "  %s", command->word);
        add_entry(out, buf_text(&left), WORD_COLUMN, command->summary);
    }
    buf_add_byte(out, '\n');
    add_wrapped(out, 0, 0, "\"walter help perform\" and \"walter help cleanup\" list the options.");
    add_exit_codes(out);
}

static void
add_page(const CommandWord *command, Buf *out)
{
    buf_printf(out, "Usage: walter %s\n\n", command->usage);
    add_wrapped(out, 0, 0, command->details);
    for (OptionGroup group = 0; group < GROUP_COUNT; group++)
        add_group(group, command->command, out);
    buf_add_byte(out, '\n');
    add_wrapped(out, 0, 0,
                "What is not said about the connection comes from libpq: PGHOST, PGPORT, "
                "PGDATABASE, PGUSER, PGPASSWORD and its other environment variables, service "
                "files and .pgpass.");
    add_exit_codes(out);
}

void
help_add(const char *topic, Buf *out)
{
    const CommandWord *command = topic == NULL ? NULL : command_by_word(topic);

    if (command == NULL || command->details == NULL)
        add_overview(out);
    else
        add_page(command, out);
}
