/*
 * The option table: every option and every command of the program, once.  Parsing (parse.h), the
 * help text (help.h) and the check of the man page all read it.  Data and pure look-ups; does not
 * print and does not parse values.
 */
#ifndef WALTER_OPTIONS_H
#define WALTER_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "ctl/settings.h"

typedef enum {
    OPTION_FLAG,     /* bool field; has a --no- form, and takes true or false as a value */
    OPTION_NUMBER,   /* int or int64_t field: a whole number from min to max */
    OPTION_DURATION, /* int64_t field: as OPTION_NUMBER, in `unit`, or with a unit of its own */
    OPTION_SIZE,     /* int64_t field: as OPTION_NUMBER, in bytes, or with a unit */
    OPTION_CHOICE,   /* field of an enum: one of `choices`, whose index is stored */
    OPTION_TEXT,     /* const char * field */
    OPTION_PORT,     /* const char * field: a port number, or several between commas */
    OPTION_COMMAND   /* no field: stands for the command whose number is `initial` */
} OptionType;

/* The operator's view of the options: the order and the headings of the help text. */
typedef enum {
    GROUP_TASK = 0,
    GROUP_CONNECTION,
    GROUP_SPEED,
    GROUP_LOCK,
    GROUP_OTHER,
    GROUP_COUNT
} OptionGroup;

typedef struct Option {
    const char *name;    /* long name, without its dashes */
    const char *letters; /* short names, "" = none */
    OptionType type;
    OptionGroup group;
    unsigned commands;        /* which commands take it: bits 1u << Command */
    size_t offset;            /* where its field is in Settings ... */
    size_t size;              /* ... and how many bytes it has; 0 = no field */
    int64_t initial;          /* default of numbers and choices */
    const char *initial_text; /* default of texts, NULL = not given; or says what `initial` means */
    int64_t min;              /* numbers: allowed range, both ends included */
    int64_t max;
    const char *unit;           /* OPTION_DURATION: "ms" or "s" */
    const char *const *choices; /* OPTION_CHOICE: ends with NULL */
    const char *value_name;     /* what the help text calls the value; NULL for flags */
    bool empty_is_unset;        /* texts: "" counts as not given, else it is an error */
    const char *advice;         /* put behind errors about the value, or NULL */
    const char *help;           /* sentences, without what the other fields say already */
} Option;

#define OPTIONS_MAX 64 /* room for a mark per option; checked against the table */

/* All options, in the order of the help text; ends with an entry whose name is NULL. */
extern const Option OPTIONS[];

/* One command of the program. */
typedef struct CommandWord {
    const char *word; /* as it is typed */
    Command command;
    const char *usage;   /* what follows "walter " in a usage line */
    const char *summary; /* half a line */
    const char *details; /* paragraph for its own help page, or NULL */
} CommandWord;

/* All commands, the one that is meant when none is named first; ends with an entry whose word is NULL. */
extern const CommandWord COMMANDS[];

/*
 * The option with the long name `name` (`len` bytes, without dashes; "_" counts as "-"), or NULL.
 * *negated is set for the --no- and --skip- forms of flags.
 */
const Option *option_by_name(const char *name, size_t len, bool *negated);

/* The option with the short name `letter`, or NULL. */
const Option *option_by_letter(char letter);

/* The command with that word, or NULL. */
const CommandWord *command_by_word(const char *word);

/* Does `command` take this option? */
bool option_is_for(const Option *option, Command command);

/* Append "option --jobs (-j)". */
void option_add_title(const Option *option, Buf *out);

/* Append what values are allowed: "a whole number from 1 to 32". */
void option_add_allowed(const Option *option, Buf *out);

/* Append the values of an OPTION_CHOICE: "auto, copy or insert". */
void option_add_choices(const Option *option, Buf *out);

/*
 * Append "; did you mean --x?" for the long option most like `name` (`len` bytes, without dashes);
 * nothing when none is near.
 */
void option_add_suggestion(const char *name, size_t len, Buf *out);

/* The same for a command: "; did you mean "perform"?". */
void command_add_suggestion(const char *word, Buf *out);

#endif
