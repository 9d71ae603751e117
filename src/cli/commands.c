/* The program from command line to exit code; see commands.h. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "cli/help.h"
#include "cli/inputs.h"
#include "cli/outcome.h"
#include "cli/parse.h"
#include "phase/migration.h"

/* Settings.confirm: the question goes to the terminal, the answer comes from there. */
static Answer
ask(const Settings *settings, const char *question)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    Answer answer;

    if (settings->yes)
        return ANSWER_YES;
    if (isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0)
        return ANSWER_NOBODY;
    log_progress(NULL);
    fprintf(stderr, "%s [y/N] ", question);
    fflush(stderr);
    len = getline(&line, &size, stdin);
    if (len > 0 && line[len - 1] == '\n')
        line[len - 1] = '\0';
    answer = len > 0 && (strcasecmp(line, "y") == 0 || strcasecmp(line, "yes") == 0) ? ANSWER_YES
                                                                                     : ANSWER_NO;
    free(line);
    return answer;
}

static bool
print_text(const char *text, Err *err)
{
    if (fputs(text, stdout) == EOF || fflush(stdout) != 0)
        return err_set(err, ERR_FAILED, "could not write to standard output");
    return true;
}

static bool
print_help(const char *topic, Err *err)
{
    BUF_AUTO(text);

    help_add(topic, &text);
    return print_text(buf_text(&text), err);
}

static bool
run_command(Settings *settings, Arena *arena, Err *err)
{
    settings->confirm = ask;
    if (settings->verbose)
        log_set_level(LOG_DEBUG);
    if (settings->password != NULL)
        log_warning("the password on the command line can be read by others on this machine: use "
                    "PGPASSWORD or .pgpass");
    switch (settings->command) {
    case COMMAND_PERFORM:
        return inputs_load(settings, arena, err) && perform_run(settings, err);
    case COMMAND_CLEANUP:
        return cleanup_run(settings, err);
    case COMMAND_ABORT:
        return abort_run(settings, err);
    case COMMAND_HELP:
        return print_help(settings->help_topic, err);
    case COMMAND_VERSION:
        return print_text("walter " WALTER_VERSION "\n", err);
    }
    return err_set(err, ERR_FAILED, "unknown command");
}

int
commands_main(int argc, char *const argv[])
{
    Err err = {0};
    Settings settings = {0};
    Arena *arena = arena_new();
    bool is_done =
        parse_arguments(argc, argv, &settings, &err) && run_command(&settings, arena, &err);

    log_progress(NULL);
    if (!is_done && !err.told)
        log_error(&err);
    arena_free(arena);
    return is_done ? 0 : outcome_code(err.kind);
}
