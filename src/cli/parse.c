/* The command line, turned into Settings; see parse.h. */
#include "cli/parse.h"

#include <ctype.h>
#include <string.h>

#include "cli/options.h"

typedef struct Parse {
    int argc;
    char *const *argv;
    int at; /* the next word to look at */
    Settings settings;
    bool given[OPTIONS_MAX]; /* by index into OPTIONS */
    Command instead;         /* HELP or VERSION where --help or --version was given */
    const char *words[3];    /* what is not an option: the command, and what follows it */
    int word_count;          /* may be more than there is room for */
} Parse;

static void
set_field(Settings *settings, const Option *option, const void *value)
{
    memcpy((char *)settings + option->offset, value, option->size);
}

/* Numbers and choices: their fields are int or int64_t. */
static void
set_number(Settings *settings, const Option *option, int64_t value)
{
    int small = (int)value;

    set_field(settings, option, option->size == sizeof small ? (const void *)&small : &value);
}

static void
set_defaults(Settings *settings)
{
    *settings = (Settings){0};
    for (const Option *option = OPTIONS; option->name != NULL; option++) {
        if (option->type == OPTION_TEXT)
            set_field(settings, option, &option->initial_text);
        if (option->type == OPTION_NUMBER || option->type == OPTION_DURATION ||
            option->type == OPTION_SIZE || option->type == OPTION_CHOICE)
            set_number(settings, option, option->initial);
    }
}

/* "option --jobs (-j) must be a whole number from 1 to 32" */
static bool
refuse_value(const Option *option, Err *err)
{
    BUF_AUTO(text);

    option_add_title(option, &text);
    buf_add_text(&text, " must be ");
    option_add_allowed(option, &text);
    if (option->advice != NULL)
        buf_printf(&text, "; %s", option->advice);
    return err_set(err, ERR_USAGE, "%s", buf_text(&text));
}

static bool
refuse_missing_value(const Option *option, Err *err)
{
    BUF_AUTO(text);

    option_add_title(option, &text);
    buf_add_text(&text, " needs a value");
    if (option->type != OPTION_TEXT) {
        buf_add_text(&text, ": ");
        option_add_allowed(option, &text);
    }
    if (option->advice != NULL)
        buf_printf(&text, "; %s", option->advice);
    return err_set(err, ERR_USAGE, "%s", buf_text(&text));
}

/* Digits at the beginning of `text`; *rest is what follows them. */
static bool
read_digits(const char *text, int64_t *number, const char **rest)
{
    const int64_t limit = INT64_C(1000000000000000);
    int64_t sum = 0;

    if (!isdigit((unsigned char)*text))
        return false;
    for (; isdigit((unsigned char)*text); text++) {
        sum = sum * 10 + (*text - '0');
        if (sum > limit)
            return false;
    }
    *number = sum;
    *rest = text;
    return true;
}

/* Milliseconds of one `unit`, 0 for a word that is none. */
static int64_t
unit_ms(const char *unit)
{
    static const struct {
        const char *word;
        int64_t ms;
    } UNITS[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};

    for (size_t i = 0; i < sizeof UNITS / sizeof UNITS[0]; i++)
        if (strcmp(UNITS[i].word, unit) == 0)
            return UNITS[i].ms;
    return 0;
}

/* A duration in the option's own unit; "1500ms" is no whole number of seconds. */
static bool
read_duration(const Option *option, const char *text, int64_t *out)
{
    int64_t number;
    int64_t factor;
    const char *unit;

    if (!read_digits(text, &number, &unit))
        return false;
    factor = unit_ms(*unit == '\0' ? option->unit : unit);
    if (factor == 0 || __builtin_mul_overflow(number, factor, &number) ||
        number % unit_ms(option->unit) != 0)
        return false;
    *out = number / unit_ms(option->unit);
    return true;
}

/* Bytes, in PostgreSQL's units. */
static bool
read_size(const char *text, int64_t *out)
{
    static const char *const UNITS[] = {"B", "kB", "MB", "GB"};
    int64_t number;
    const char *unit;

    if (!read_digits(text, &number, &unit))
        return false;
    for (int i = 0; i < (int)(sizeof UNITS / sizeof UNITS[0]); i++)
        if (strcmp(unit, UNITS[i]) == 0 || (i == 0 && *unit == '\0'))
            return !__builtin_mul_overflow(number, INT64_C(1) << (10 * i), out);
    return false;
}

static bool
set_in_range(Settings *settings, const Option *option, bool readable, int64_t number)
{
    if (!readable || number < option->min || number > option->max)
        return false;
    set_number(settings, option, number);
    return true;
}

static bool
set_choice(Settings *settings, const Option *option, const char *value)
{
    for (int i = 0; option->choices[i] != NULL; i++) {
        if (strcmp(option->choices[i], value) != 0)
            continue;
        set_number(settings, option, i);
        return true;
    }
    return false;
}

/* One port, or several between commas, one for each of several hosts. */
static bool
is_port(const char *text)
{
    int64_t number = 0;
    const char *rest = text;

    if (!read_digits(text, &number, &rest) || number < 1 || number > 65535)
        return false;
    return *rest == '\0' || (*rest == ',' && is_port(rest + 1));
}

static bool
set_text(Settings *settings, const Option *option, const char *value)
{
    size_t blanks = option->empty_is_unset ? 0 : strspn(value, " \t\r\n");
    bool is_empty = value[blanks] == '\0';

    if (is_empty && !option->empty_is_unset)
        return false;
    if (option->type == OPTION_PORT && !is_empty && !is_port(value))
        return false;
    if (is_empty)
        value = option->initial_text;
    set_field(settings, option, &value);
    return true;
}

/* Store the value of any option but flags. */
static bool
set_value(Settings *settings, const Option *option, const char *value)
{
    int64_t number = 0;
    const char *rest = "";
    bool readable;

    switch (option->type) {
    case OPTION_NUMBER:
        readable = read_digits(value, &number, &rest) && *rest == '\0';
        return set_in_range(settings, option, readable, number);
    case OPTION_DURATION:
        readable = read_duration(option, value, &number);
        return set_in_range(settings, option, readable, number);
    case OPTION_SIZE:
        readable = read_size(value, &number);
        return set_in_range(settings, option, readable, number);
    case OPTION_CHOICE:
        return set_choice(settings, option, value);
    case OPTION_TEXT:
    case OPTION_PORT:
        return set_text(settings, option, value);
    case OPTION_FLAG:
    case OPTION_COMMAND:
        break;
    }
    return false;
}

/* What Thor takes for a bool.  False when `text` is something else. */
static bool
read_bool(const char *text, bool *out)
{
    static const char *const WORDS[] = {"true", "TRUE", "t", "T", "false", "FALSE", "f", "F"};
    const size_t count = sizeof WORDS / sizeof WORDS[0];

    for (size_t i = 0; i < count; i++) {
        if (strcmp(WORDS[i], text) != 0)
            continue;
        *out = i < count / 2;
        return true;
    }
    return false;
}

/* The next word, unless it looks like an option itself: a statement that begins with a comment
 * ("-- why") does not, nor does "-" for standard input. */
static const char *
take_next_value(Parse *parse)
{
    const char *word = parse->at < parse->argc ? parse->argv[parse->at] : NULL;

    if (word == NULL)
        return NULL;
    if (word[0] == '-' && strpbrk(word, " \t\r\n") == NULL && word[1] != '\0' &&
        (isalpha((unsigned char)word[1]) || word[1] == '-'))
        return NULL;
    parse->at++;
    return word;
}

/* `value` is what stood behind "=", or NULL: then the next word counts if it is a bool. */
static bool
take_flag(Parse *parse, const Option *option, const char *value, bool negated, Err *err)
{
    bool is_set = true;

    if (value != NULL && (negated || !read_bool(value, &is_set)))
        return refuse_value(option, err);
    if (value == NULL && !negated && parse->at < parse->argc &&
        read_bool(parse->argv[parse->at], &is_set))
        parse->at++;
    if (negated)
        is_set = false;
    set_field(&parse->settings, option, &is_set);
    return true;
}

/* `value` is what stood in the same word, or NULL. */
static bool
take_option(Parse *parse, const Option *option, const char *value, bool negated, Err *err)
{
    parse->given[option - OPTIONS] = true;
    if (option->type == OPTION_FLAG)
        return take_flag(parse, option, value, negated, err);
    if (option->type == OPTION_COMMAND) {
        parse->instead = (Command)option->initial;
        return value == NULL || refuse_value(option, err);
    }
    if (value == NULL)
        value = take_next_value(parse);
    if (value == NULL)
        return refuse_missing_value(option, err);
    return set_value(&parse->settings, option, value) || refuse_value(option, err);
}

static bool
take_long(Parse *parse, const char *name, Err *err)
{
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    bool negated = false;
    const Option *option = option_by_name(name, len, &negated);
    BUF_AUTO(suggestion);

    if (option != NULL)
        return take_option(parse, option, value, negated, err);
    option_add_suggestion(name, len, &suggestion);
    if (suggestion.len == 0)
        buf_add_text(&suggestion, ": \"walter help perform\" lists the options");
    return err_set(err, ERR_USAGE, "unknown option --%.*s%s", (int)(len > 60 ? 60 : len), name,
                   buf_text(&suggestion));
}

/* "-fk", "-w5", "-w=5", "-w 5": the letters of flags, or one option with its value. */
static bool
take_letters(Parse *parse, const char *letters, Err *err)
{
    for (const char *at = letters; *at != '\0'; at++) {
        const Option *option = option_by_letter(*at);
        bool has_value = at[1] == '=' || (option != NULL && option->type != OPTION_FLAG);
        const char *value = at[1] == '=' ? at + 2 : at + 1;

        if (option == NULL)
            return err_set(err, ERR_USAGE,
                           "unknown option -%c: \"walter help perform\" lists the options", *at);
        if (has_value)
            return take_option(parse, option, at[1] == '\0' ? NULL : value, false, err);
        /* only the last flag of the word may have its value in the next one */
        if (at[1] == '\0')
            return take_option(parse, option, NULL, false, err);
        parse->given[option - OPTIONS] = true;
        set_field(&parse->settings, option, &(bool){true});
    }
    return true;
}

static void
take_word(Parse *parse, const char *word)
{
    if (parse->word_count < (int)(sizeof parse->words / sizeof parse->words[0]))
        parse->words[parse->word_count] = word;
    parse->word_count++;
}

static bool
take_all(Parse *parse, Err *err)
{
    bool only_words = false; /* after "--" */

    while (parse->at < parse->argc) {
        const char *word = parse->argv[parse->at++];

        if (only_words || word[0] != '-' || word[1] == '\0')
            take_word(parse, word);
        else if (strcmp(word, "--") == 0)
            only_words = true;
        else if (!(word[1] == '-' ? take_long(parse, word + 2, err)
                                  : take_letters(parse, word + 1, err)))
            return false;
    }
    return true;
}

/* The command that the first word names; without one, any option means `perform`. */
static bool
choose_command(Parse *parse, Err *err)
{
    const CommandWord *command = &COMMANDS[0];
    BUF_AUTO(suggestion);

    if (parse->word_count == 0 && parse->argc < 2)
        return err_set(err, ERR_USAGE,
                       "no command given: use \"walter perform\", \"walter cleanup\", "
                       "\"walter abort\" or \"walter help\"");
    if (parse->word_count > 0)
        command = command_by_word(parse->words[0]);
    if (command != NULL) {
        parse->settings.command = command->command;
        return true;
    }
    command_add_suggestion(parse->words[0], &suggestion);
    if (suggestion.len == 0)
        buf_add_text(&suggestion, ": it must be perform, cleanup, abort, help or version");
    return err_set(err, ERR_USAGE, "unknown command \"%.60s\"%s", parse->words[0],
                   buf_text(&suggestion));
}

static bool
refuse_extra_words(const Parse *parse, int allowed, Err *err)
{
    if (parse->word_count <= allowed)
        return true;
    return err_set(err, ERR_USAGE,
                   "unexpected argument \"%.60s\": everything behind the command must be an "
                   "option, and values with blanks need quotes",
                   parse->words[allowed]);
}

/* `walter help TOPIC`: the topic must be a command. */
static bool
choose_topic(Parse *parse, Err *err)
{
    const char *topic = parse->word_count > 1 ? parse->words[1] : NULL;

    if (topic != NULL && command_by_word(topic) == NULL)
        return err_set(err, ERR_USAGE,
                       "no help for \"%.60s\": it must be perform, cleanup, abort, help or version",
                       topic);
    parse->settings.help_topic = topic;
    return refuse_extra_words(parse, 2, err);
}

/* --help and --version win over the command: `walter perform --help`. */
static bool
answer_instead(Parse *parse, Err *err)
{
    parse->settings.help_topic = parse->word_count > 0 ? parse->words[0] : NULL;
    if (parse->settings.command == COMMAND_HELP && !choose_topic(parse, err))
        return false;
    parse->settings.command = parse->instead;
    return true;
}

/* Every option that was given must belong to the command. */
static bool
check_options_fit(const Parse *parse, Err *err)
{
    const char *word = parse->word_count > 0 ? parse->words[0] : COMMANDS[0].word;

    for (const Option *option = OPTIONS; option->name != NULL; option++) {
        BUF_AUTO(title);

        if (!parse->given[option - OPTIONS] || option_is_for(option, parse->settings.command))
            continue;
        option_add_title(option, &title);
        return err_set(err, ERR_USAGE, "%s is not for \"walter %s\": see \"walter help %s\"",
                       buf_text(&title), word, word);
    }
    return true;
}

static bool
check_statement(const Settings *settings, Err *err)
{
    if (settings->statement != NULL && settings->statement_file != NULL)
        return err_set(err, ERR_USAGE,
                       "options --alter-statement (-a) and --file exclude each other: give the "
                       "statement once");
    if (settings->statement == NULL && settings->statement_file == NULL)
        return err_set(err, ERR_USAGE,
                       "missing option --alter-statement (-a): give the ALTER TABLE statement to "
                       "perform, or --file");
    return true;
}

/* A name that no run can have is a slip; who finds nothing by it would think that nothing is there. */
static bool
check_run(const Settings *settings, Err *err)
{
    const size_t len = 8;

    if (settings->run == NULL ||
        (strlen(settings->run) == len && strspn(settings->run, "0123456789abcdef") == len))
        return true;
    return err_set(err, ERR_USAGE, "\"%.60s\" is not the name of a run: eight hexadecimal digits",
                   settings->run);
}

static bool
finish(Parse *parse, Err *err)
{
    bool negated;

    if (parse->instead == COMMAND_VERSION && parse->word_count == 0)
        parse->settings.command = COMMAND_VERSION;
    else if (!choose_command(parse, err))
        return false;
    if (parse->instead != COMMAND_PERFORM)
        return answer_instead(parse, err);
    if (parse->settings.command == COMMAND_HELP)
        return choose_topic(parse, err);
    if (!refuse_extra_words(parse, 1, err) || !check_options_fit(parse, err))
        return false;
    parse->settings.schema_given =
        parse->given[option_by_name("schema", strlen("schema"), &negated) - OPTIONS];
    return parse->settings.command == COMMAND_PERFORM ? check_statement(&parse->settings, err)
                                                      : check_run(&parse->settings, err);
}

bool
parse_arguments(int argc, char *const argv[], Settings *out, Err *err)
{
    Parse parse = {.argc = argc, .argv = argv, .at = 1, .instead = COMMAND_PERFORM};

    set_defaults(&parse.settings);
    /* pg-osc and many others: -v alone is the version, behind a command it is --verbose */
    if (argc == 2 && strcmp(argv[1], "-v") == 0)
        parse.instead = COMMAND_VERSION;
    else if (!take_all(&parse, err))
        return false;
    if (!finish(&parse, err))
        return false;
    *out = parse.settings;
    return true;
}
