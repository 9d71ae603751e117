/* The command line: parsing, the help text, the exit codes, and the man page against the table. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/outcome.h"
#include "cli/parse.h"
#include "unit.h"

/* The words of the last command line; Settings point into it. */
static char *words_text = NULL;

/* Parse "walter" and the words of `line`, which are separated by "|". */
static bool
parse(const char *line, Settings *out, Err *err)
{
    char program[] = "walter";
    char *argv[32] = {program};
    int argc = 1;

    mem_set_text(&words_text, line);
    *err = (Err){0};
    for (char *at = words_text; *line != '\0' && at != NULL;) {
        ck_assert_int_lt(argc, 31);
        argv[argc++] = strsep(&at, "|");
    }
    return parse_arguments(argc, argv, out, err);
}

static Settings
parsed(const char *line)
{
    Settings settings = {0};
    Err err;
    bool is_done = parse(line, &settings, &err);

    ck_assert_msg(is_done, "%s: %s", line, err.message);
    ck_assert(settings.confirm == NULL);
    return settings;
}

START_TEST(fills_defaults)
{
    Settings settings = parsed("perform|-a|x");

    ck_assert_int_eq(settings.command, COMMAND_PERFORM);
    ck_assert_str_eq(settings.statement, "x");
    ck_assert_str_eq(settings.schema, "public");
    ck_assert(!settings.schema_given);
    ck_assert_ptr_null(settings.dbname);
    ck_assert_ptr_null(settings.host);
    ck_assert_ptr_null(settings.port);
    ck_assert_ptr_null(settings.user);
    ck_assert_ptr_null(settings.password);
    ck_assert_ptr_null(settings.copy_statement);
    ck_assert_ptr_null(settings.statement_file);
    ck_assert_int_eq(settings.plugin, PLUGIN_PGOUTPUT);
    ck_assert(!settings.verbose && !settings.drop && !settings.yes && !settings.kill_backends);
    ck_assert(!settings.skip_foreign_key_validation);
    ck_assert(!settings.set_replica_identity && !settings.allow_all_tables_publication);
    ck_assert_int_eq(settings.jobs, 0);
    ck_assert_int_eq(settings.maintenance_work_mem, 0);
    ck_assert_int_eq(settings.parallel_workers, -1);
    ck_assert_int_eq(settings.apply_jobs, 1);
    ck_assert_int_eq(settings.pull_batch_count, 10000);
    ck_assert_int_eq(settings.delta_count, 20);
    ck_assert_int_eq(settings.wait_time_for_lock_s, 10);
    ck_assert_int_eq(settings.lock_timeout_ms, 50);
    ck_assert_int_eq(settings.lock_hold_ms, 1000);
    ck_assert_int_eq(settings.cutover_retries, 0);
    ck_assert_int_eq(settings.old_snapshots, OLD_SNAPSHOTS_WAIT);
    ck_assert_int_eq(settings.slot_timeout_s, 300);
}
END_TEST

/* Each line sets all that pg-osc knows to the same values, in another of Thor's forms. */
static const char *const PG_OSC_LINES[] = {
    "perform|--alter-statement|ALTER TABLE t ADD c int|--schema|s|--dbname|d|--host|h|--username|u|"
    "--port|5433|--password|p|--verbose|--drop|--kill-backends|--wait-time-for-lock|5|"
    "--copy-statement|f.sql|--pull-batch-count|2000|--delta-count|500|"
    "--skip-foreign-key-validation",
    "perform|--alter-statement=ALTER TABLE t ADD c int|--schema=s|--dbname=d|--host=h|--username=u|"
    "--port=5433|--password=p|--verbose=true|--drop=TRUE|--kill-backends=t|--wait-time-for-lock=5|"
    "--copy-statement=f.sql|--pull-batch-count=2000|--delta-count=500|"
    "--skip-foreign-key-validation=T",
    "-a|ALTER TABLE t ADD c int|-s|s|-d|d|-h|h|-u|u|-p|5433|--password|p|-v|-f|-k|-w|5|-c|f.sql|"
    "perform|-b|2000|-e|500|-o",
    "-a=ALTER TABLE t ADD c int|-s=s|-d=d|-h=h|-U=u|-p=5433|--password=p|-v=true|-f=true|-k|-w=5|"
    "-c=f.sql|-b=2000|-e=500|-o",
    "perform|-aALTER TABLE t ADD c int|-ss|-dd|-hh|-Uu|-p5433|--password=p|-vfkow5|-cf.sql|-b2000|"
    "-e500",
    "perform|--alter_statement|ALTER TABLE t ADD c int|--schema|s|--dbname|d|--host|h|--username|u|"
    "--port|5433|--password|p|--verbose|true|--drop|t|--kill_backends|--wait_time_for_lock|5|"
    "--copy_statement|f.sql|--pull_batch_count|2000|--delta_count|500|"
    "--skip_foreign_key_validation",
};

START_TEST(takes_pg_osc_command_lines)
{
    Settings settings = parsed(PG_OSC_LINES[_i]);

    ck_assert_int_eq(settings.command, COMMAND_PERFORM);
    ck_assert_str_eq(settings.statement, "ALTER TABLE t ADD c int");
    ck_assert_str_eq(settings.schema, "s");
    ck_assert(settings.schema_given);
    ck_assert_str_eq(settings.dbname, "d");
    ck_assert_str_eq(settings.host, "h");
    ck_assert_str_eq(settings.user, "u");
    ck_assert_str_eq(settings.port, "5433");
    ck_assert_str_eq(settings.password, "p");
    ck_assert_str_eq(settings.copy_statement, "f.sql");
    ck_assert(settings.verbose);
    ck_assert(settings.drop);
    ck_assert(settings.kill_backends);
    ck_assert(settings.skip_foreign_key_validation);
    ck_assert_int_eq(settings.wait_time_for_lock_s, 5);
    ck_assert_int_eq(settings.pull_batch_count, 2000);
    ck_assert_int_eq(settings.delta_count, 500);
}
END_TEST

START_TEST(takes_its_own_options)
{
    Settings settings =
        parsed("perform|--file|-|--plugin=wal2json|--lock-hold|2s|--cutover-retries|7|-j32|"
               "--old-snapshots|ignore|--slot-timeout=0|-y|--lock-timeout|100");

    ck_assert_ptr_null(settings.statement);
    ck_assert_str_eq(settings.statement_file, "-");
    ck_assert_int_eq(settings.plugin, PLUGIN_WAL2JSON);
    ck_assert_int_eq(settings.lock_hold_ms, 2000);
    ck_assert_int_eq(settings.lock_timeout_ms, 100);
    ck_assert_int_eq(settings.cutover_retries, 7);
    ck_assert_int_eq(settings.jobs, 32);
    ck_assert_int_eq(settings.old_snapshots, OLD_SNAPSHOTS_IGNORE);
    ck_assert_int_eq(settings.slot_timeout_s, 0);
    ck_assert(settings.yes);
}
END_TEST

/* How a flag that was on before is switched off. */
static const char *const OFF_FORMS[] = {
    "-a|x|-f|--no-drop", "-a|x|-f|--no_drop",    "-a|x|-f|--skip-drop", "-a|x|-f|-f=false",
    "-a|x|-f|--drop=F",  "-a|x|-f|--drop|false", "-a|x|-f|-f|FALSE",    "-a|x|-f|-kf|false",
};

START_TEST(switches_flags_off)
{
    ck_assert(!parsed(OFF_FORMS[_i]).drop);
}
END_TEST

START_TEST(takes_the_positive_form_of_a_skip_option)
{
    ck_assert(parsed("-a|x|--skip-foreign-key-validation").skip_foreign_key_validation);
    ck_assert(!parsed("-a|x|-o|--no-skip-foreign-key-validation").skip_foreign_key_validation);
}
END_TEST

START_TEST(lets_the_last_repetition_count)
{
    Settings settings = parsed("perform|-a|x|-a|y|-j|3|--jobs=4|--no-drop|--drop");

    ck_assert_str_eq(settings.statement, "y");
    ck_assert_int_eq(settings.jobs, 4);
    ck_assert(settings.drop);
}
END_TEST

static const struct {
    const char *line;
    int64_t lock_timeout_ms;
    int64_t slot_timeout_s;
} DURATIONS[] = {
    {"-a|x|--lock-timeout|1|--slot-timeout|604800", 1, 604800},
    {"-a|x|--lock-timeout|50ms|--slot-timeout|5000ms", 50, 5},
    {"-a|x|--lock-timeout|60s|--slot-timeout|90s", 60000, 90},
    {"-a|x|--lock-timeout|1min|--slot-timeout|2min", 60000, 120},
    {"-a|x|--lock-timeout|007|--slot-timeout|2h", 7, 7200},
};

static const struct {
    const char *line;
    int64_t max_rate;
} SIZES[] = {
    {"-a|x|--max-rate=0", 0},
    {"-a|x|--max-rate=1234567", 1234567},
    {"-a|x|--max-rate|12B", 12},
    {"-a|x|--max-rate|512kB", 512 * 1024},
    {"-a|x|--max-rate=20MB", 20 * 1024 * 1024},
    {"-a|x|--max-rate=1024GB", INT64_C(1) << 40},
    {"-a|x|--max-rate=1099511627776", INT64_C(1) << 40},
};

START_TEST(reads_sizes_with_units)
{
    ck_assert_int_eq(parsed(SIZES[_i].line).max_rate, SIZES[_i].max_rate);
}
END_TEST

START_TEST(reads_durations_with_units)
{
    Settings settings = parsed(DURATIONS[_i].line);

    ck_assert_int_eq(settings.lock_timeout_ms, DURATIONS[_i].lock_timeout_ms);
    ck_assert_int_eq(settings.slot_timeout_s, DURATIONS[_i].slot_timeout_s);
}
END_TEST

START_TEST(takes_values_that_look_odd)
{
    ck_assert_str_eq(parsed("-a|-- why\nALTER TABLE t DROP c").statement,
                     "-- why\nALTER TABLE t DROP c");
    ck_assert_str_eq(parsed("-a|x|--password=--secret").password, "--secret");
    ck_assert_str_eq(parsed("-a|x|--password|-1").password, "-1");
    ck_assert_str_eq(parsed("-a|x|--password|  ").password, "  ");
    ck_assert_str_eq(parsed("-a|x|-d=host=h dbname=d").dbname, "host=h dbname=d");
    ck_assert_str_eq(parsed("-a|x|-d|postgresql://h/d?a=b").dbname, "postgresql://h/d?a=b");
    ck_assert_str_eq(parsed("-a|x|-h|h1,h2|-p|5432,5433").port, "5432,5433");
    ck_assert_str_eq(parsed("-a|x|--|perform").statement, "x");
}
END_TEST

START_TEST(takes_empty_connection_values_for_not_given)
{
    Settings settings = parsed("-a|x|-d||-h||-p||-u||--password=|-c|");

    ck_assert_ptr_null(settings.dbname);
    ck_assert_ptr_null(settings.host);
    ck_assert_ptr_null(settings.port);
    ck_assert_ptr_null(settings.user);
    ck_assert_ptr_null(settings.password);
    ck_assert_ptr_null(settings.copy_statement);
}
END_TEST

static const struct {
    const char *line;
    Command command;
    const char *topic; /* NULL = none */
} COMMAND_CASES[] = {
    {"perform|-a|x", COMMAND_PERFORM, NULL},
    {"-a|x", COMMAND_PERFORM, NULL},
    {"-a|x|perform", COMMAND_PERFORM, NULL},
    {"cleanup", COMMAND_CLEANUP, NULL},
    {"-d|d|cleanup|-y", COMMAND_CLEANUP, NULL},
    {"help", COMMAND_HELP, NULL},
    {"help|perform", COMMAND_HELP, "perform"},
    {"help|cleanup", COMMAND_HELP, "cleanup"},
    {"--help", COMMAND_HELP, NULL},
    {"perform|--help", COMMAND_HELP, "perform"},
    {"--help|cleanup", COMMAND_HELP, "cleanup"},
    {"help|perform|--help", COMMAND_HELP, "perform"},
    {"--version", COMMAND_VERSION, NULL},
    {"version", COMMAND_VERSION, NULL},
    {"-v", COMMAND_VERSION, NULL},
};

START_TEST(chooses_the_command)
{
    Settings settings = parsed(COMMAND_CASES[_i].line);

    ck_assert_int_eq(settings.command, COMMAND_CASES[_i].command);
    ck_assert_pstr_eq(settings.help_topic, COMMAND_CASES[_i].topic);
}
END_TEST

/* What the message must contain: the option, and what is allowed. */
static const struct {
    const char *line;
    const char *message;
} REFUSED[] = {
    {"", "no command given"},
    {"preform|-a|x", "unknown command \"preform\"; did you mean \"perform\"?"},
    {"migrate", "unknown command \"migrate\": it must be perform, cleanup, abort, help or version"},
    {"help|nonsense", "no help for \"nonsense\": it must be perform,"},
    {"help|perform|x", "unexpected argument \"x\""},
    {"perform", "missing option --alter-statement (-a): give"},
    {"--verbose", "missing option --alter-statement (-a): give"},
    {"perform|-a|x|--file|y", "options --alter-statement (-a) and --file exclude each other"},
    {"cleanup|--run|A1C248CD", "\"A1C248CD\" is not the name of a run: eight hexadecimal digits"},
    {"abort|--run=a1c248c", "\"a1c248c\" is not the name of a run"},
    {"perform|-a|", "option --alter-statement (-a) must be a text that is not empty"},
    {"perform|-a| \n", "option --alter-statement (-a) must be a text that is not empty"},
    {"perform|-a|x|-s|", "option --schema (-s) must be a text that is not empty"},
    {"perform|-a", "option --alter-statement (-a) needs a value"},
    {"perform|-a|--drop", "option --alter-statement (-a) needs a value"},
    {"perform|-a|x|-j", "option --jobs (-j) needs a value: a whole number from 1 to 32"},
    {"perform|ALTER|TABLE", "unexpected argument \"ALTER\""},
    {"perform|-a|ALTER|TABLE", "unexpected argument \"TABLE\""},
    {"cleanup|-a|x", "option --alter-statement (-a) is not for \"walter cleanup\""},
    {"cleanup|--no-drop", "option --drop (-f) is not for \"walter cleanup\""},
    {"-a|x|--jbs|3", "unknown option --jbs; did you mean --jobs?"},
    {"-a|x|--alter", "unknown option --alter; did you mean --alter-statement?"},
    {"-a|x|--plugni=x", "unknown option --plugni; did you mean --plugin?"},
    {"-a|x|--no-dorp", "unknown option --no-dorp; did you mean --no-drop?"},
    {"-a|x|--frobnicate", "unknown option --frobnicate: \"walter help perform\" lists"},
    {"-a|x|--no-jobs", "unknown option --no-jobs"},
    {"-a|x|--no-help", "unknown option --no-help"},
    {"-a|x|-Z", "unknown option -Z"},
    {"-a|x|-fZ", "unknown option -Z"},
    {"-a|x|---", "unknown option ---"},
    {"-a|x|--=x", "unknown option --:"},
    {"-a|x|-j|0", "option --jobs (-j) must be a whole number from 1 to 32"},
    {"-a|x|-j|33", "option --jobs (-j) must be a whole number from 1 to 32"},
    {"-a|x|-j|-1", "option --jobs (-j) must be a whole number from 1 to 32"},
    {"-a|x|-j|2.5", "option --jobs (-j) must be a whole number"},
    {"-a|x|-j|", "option --jobs (-j) must be a whole number"},
    {"-a|x|-j|4294967298", "option --jobs (-j) must be a whole number"},
    {"-a|x|-j|99999999999999999999999999", "option --jobs (-j) must be a whole number"},
    {"-a|x|--nice=100", "option --nice must be a whole number from 0 to 99"},
    {"-a|x|--maintenance-work-mem=1023kB", "must be a whole number of bytes from 1048576 to"},
    {"-a|x|--parallel-workers=-1", "option --parallel-workers must be a whole number from 0 to"},
    {"-a|x|--max-rate=1mb", "option --max-rate must be a whole number of bytes from 0 to"},
    {"-a|x|--max-rate=MB", "option --max-rate must be a whole number of bytes"},
    {"-a|x|--max-rate=1 MB", "option --max-rate must be a whole number of bytes"},
    {"-a|x|--max-rate=1025GB", "option --max-rate must be a whole number of bytes"},
    {"-a|x|--max-rate=999999999999GB", "option --max-rate must be a whole number of bytes"},
    {"-a|x|--apply-jobs=0", "option --apply-jobs must be a whole number from 1 to 16"},
    {"-a|x|-b|0", "option --pull-batch-count (-b) must be a whole number from 1 to 1000000"},
    {"-a|x|-e|many", "option --delta-count (-e) must be a whole number from 1 to 1000000"},
    {"-a|x|--lock-timeout|0",
     "option --lock-timeout must be a whole number of milliseconds from 1"},
    {"-a|x|--lock-timeout|2min", "option --lock-timeout must be"},
    {"-a|x|--lock-timeout|999999999999999h", "option --lock-timeout must be"},
    {"-a|x|--lock-timeout|5 s", "option --lock-timeout must be"},
    {"-a|x|--lock-timeout|5days", "option --lock-timeout must be"},
    {"-a|x|--slot-timeout|1500ms", "option --slot-timeout must be a whole number of seconds"},
    {"-a|x|-w|secret", "from 0 to 86400, or one with a unit (ms, s, min, h); a password belongs"},
    {"-a|x|--plugin|test_decoding", "option --plugin must be pgoutput or wal2json"},
    {"-a|x|--old-snapshots=kill", "option --old-snapshots must be wait or ignore"},
    {"-a|x|--copy-method=fast", "option --copy-method must be auto, copy or insert"},
    {"-a|x|-p|65536", "option --port (-p) must be a port number from 1 to 65535"},
    {"-a|x|-p|5432,", "option --port (-p) must be a port number from 1 to 65535"},
    {"-a|x|--drop=maybe", "option --drop (-f) must be true or false"},
    {"-a|x|--no-drop=true", "option --drop (-f) must be true or false"},
    {"-a|x|--help=yes", "option --help must be given without a value"},
    {"-h", "option --host (-h) needs a value; for help use --help"},
};

START_TEST(refuses_with_a_line_that_names_the_option)
{
    Settings settings = {.jobs = -7};
    Err err;

    ck_assert_msg(!parse(REFUSED[_i].line, &settings, &err), "taken: %s", REFUSED[_i].line);
    ck_assert_int_eq(err.kind, ERR_USAGE);
    ck_assert_msg(strstr(err.message, REFUSED[_i].message) != NULL, "%s: %s", REFUSED[_i].line,
                  err.message);
    ck_assert_str_eq(err.hint, "");
    ck_assert_msg(strstr(err.message, "secret") == NULL, "shows a value: %s", err.message);
    ck_assert_int_eq(settings.jobs, -7);
}
END_TEST

START_TEST(has_a_sound_option_table)
{
    for (const Option *a = OPTIONS; a->name != NULL; a++) {
        bool is_number =
            a->type == OPTION_NUMBER || a->type == OPTION_DURATION || a->type == OPTION_SIZE;

        for (const Option *b = OPTIONS; b < a; b++) {
            ck_assert_str_ne(a->name, b->name);
            ck_assert_msg(strpbrk(a->letters, b->letters) == NULL, "%s: letter taken", a->name);
        }
        ck_assert_uint_ne(a->commands, 0);
        ck_assert_int_eq(a->size == 0, a->type == OPTION_COMMAND);
        ck_assert_int_eq(a->value_name == NULL,
                         a->type == OPTION_FLAG || a->type == OPTION_COMMAND);
        ck_assert(!is_number || a->initial_text != NULL ||
                  (a->min <= a->initial && a->initial <= a->max));
        ck_assert_int_eq(a->unit != NULL, a->type == OPTION_DURATION);
        ck_assert_int_eq(a->choices != NULL, a->type == OPTION_CHOICE);
    }
}
END_TEST

START_TEST(maps_every_kind_of_error_to_its_exit_code)
{
    ck_assert_int_eq(outcome_code(ERR_NONE), 1);
    ck_assert_int_eq(outcome_code(ERR_USAGE), 1);
    ck_assert_int_eq(outcome_code(ERR_FAILED), 1);
    ck_assert_int_eq(outcome_code(ERR_REFUSED), 2);
    ck_assert_int_eq(outcome_code(ERR_DATA), 3);
    ck_assert_int_eq(outcome_code(ERR_MISMATCH), 4);
    ck_assert_int_eq(outcome_code(ERR_CUTOVER), 5);
    ck_assert_int_eq(outcome_code(ERR_RETRY), 5);
    ck_assert_int_eq(outcome_code(ERR_LOST), 6);
    ck_assert_int_eq(outcome_code(ERR_STOPPED), 7);
    ck_assert_int_eq(outcome_code(ERR_UNKNOWN), 8);
    ck_assert_int_eq(outcome_code(ERR_GONE), 9);
    ck_assert_ptr_null(outcome_meaning(-1));
    ck_assert_ptr_null(outcome_meaning(OUTCOME_COUNT));
}
END_TEST

static const char *const TOPICS[] = {NULL, "perform", "cleanup", "help", "version"};

START_TEST(wraps_help_at_80_columns_without_trailing_blanks)
{
    BUF_AUTO(text);

    help_add(TOPICS[_i], &text);
    ck_assert_uint_gt(text.len, 0);
    for (const char *line = buf_text(&text); *line != '\0';) {
        size_t len = strcspn(line, "\n");

        ck_assert_msg(len <= HELP_COLUMNS, "too wide: %.*s", (int)len, line);
        ck_assert_msg(len == 0 || line[len - 1] != ' ', "blank at end: %.*s", (int)len, line);
        ck_assert_int_eq(line[len], '\n');
        line += len + 1;
    }
}
END_TEST

START_TEST(lists_in_help_the_exit_codes)
{
    BUF_AUTO(text);

    help_add(TOPICS[_i], &text);
    for (int code = 0; code < OUTCOME_COUNT; code++) {
        BUF_AUTO(line);

        buf_printf(&line, "\n  %d  %s\n", code, outcome_meaning(code));
        ck_assert_ptr_nonnull(strstr(buf_text(&text), buf_text(&line)));
    }
}
END_TEST

START_TEST(lists_in_help_the_options_of_the_command_and_no_others)
{
    BUF_AUTO(perform);
    BUF_AUTO(cleanup);

    help_add("perform", &perform);
    help_add("cleanup", &cleanup);
    for (const Option *option = OPTIONS; option->name != NULL; option++) {
        BUF_AUTO(name);

        buf_printf(&name, " --%s%s", option->type == OPTION_FLAG ? "[no-]" : "", option->name);
        ck_assert_msg((strstr(buf_text(&perform), buf_text(&name)) != NULL) ==
                          option_is_for(option, COMMAND_PERFORM),
                      "help perform and%s", buf_text(&name));
        ck_assert_msg((strstr(buf_text(&cleanup), buf_text(&name)) != NULL) ==
                          option_is_for(option, COMMAND_CLEANUP),
                      "help cleanup and%s", buf_text(&name));
    }
}
END_TEST

/* The man page without roff's backslashes, font escapes and quotes: new. */
static void
read_man_page(Buf *out)
{
    FILE *file = fopen(MAN_PAGE, "re");
    int byte;

    ck_assert_msg(file != NULL, "no man page at %s", MAN_PAGE);
    while ((byte = fgetc(file)) != EOF) {
        if (byte == '"')
            continue;
        if (byte != '\\') {
            buf_add_byte(out, (char)byte);
            continue;
        }
        byte = fgetc(file);
        if (byte == 'f')
            (void)fgetc(file);
        else if (byte == '-')
            buf_add_byte(out, '-');
    }
    (void)fclose(file);
}

/* The lines of the man page that describe `option`, from its heading to the next one: new. */
static void
man_entry(const char *page, const Option *option, Buf *out)
{
    BUF_AUTO(name);

    buf_printf(&name, "--%s", option->name);
    for (const char *at = strstr(page, "\n.SH OPTIONS"); (at = strstr(at, "\n.TP\n")) != NULL;) {
        const char *heading = at + strlen("\n.TP\n");
        const char *end = strstr(heading, "\n.TP\n");
        size_t heading_len = strcspn(heading, "\n");
        const char *found = memmem(heading, heading_len, name.data, name.len);

        at = heading;
        if (found == NULL || strchr("= \n", found[name.len]) == NULL)
            continue;
        buf_add(out, heading, end == NULL ? strlen(heading) : (size_t)(end - heading));
        return;
    }
}

static void
assert_entry_says(const Option *option, const Buf *entry, const Buf *text)
{
    ck_assert_msg(strstr(buf_text(entry), buf_text(text)) != NULL,
                  "the man page's entry for --%s lacks \"%s\"", option->name, buf_text(text));
}

static void
assert_entry_has_names(const Option *option, const Buf *entry)
{
    for (const char *letter = option->letters; *letter != '\0'; letter++) {
        BUF_AUTO(text);

        buf_printf(&text, "-%c , ", *letter);
        assert_entry_says(option, entry, &text);
    }
    if (option->type == OPTION_FLAG) {
        BUF_AUTO(text);

        buf_printf(&text, "--no-%s\n", option->name);
        assert_entry_says(option, entry, &text);
    }
    if (option->value_name != NULL) {
        BUF_AUTO(text);

        buf_printf(&text, "--%s=%s\n", option->name, option->value_name);
        assert_entry_says(option, entry, &text);
    }
}

static void
assert_entry_has_facts(const Option *option, const Buf *entry)
{
    BUF_AUTO(text);

    if (option->type == OPTION_NUMBER && option->initial_text != NULL)
        buf_printf(&text, "From %lld to %lld, default %s.", (long long)option->min,
                   (long long)option->max, option->initial_text);
    else if (option->type == OPTION_NUMBER)
        buf_printf(&text, "From %lld to %lld, default %lld.", (long long)option->min,
                   (long long)option->max, (long long)option->initial);
    if (option->type == OPTION_DURATION)
        buf_printf(&text, "From %lld to %lld %s, default %lld.", (long long)option->min,
                   (long long)option->max,
                   strcmp(option->unit, "s") == 0 ? "seconds" : "milliseconds",
                   (long long)option->initial);
    if (option->type == OPTION_SIZE && option->initial_text != NULL)
        buf_printf(&text, "In bytes, or with a unit (kB, MB, GB); default %s.",
                   option->initial_text);
    else if (option->type == OPTION_SIZE)
        buf_printf(&text, "In bytes, or with a unit (kB, MB, GB); default %lld.",
                   (long long)option->initial);
    if (option->type == OPTION_CHOICE)
        buf_printf(&text, "The default is\n.BR %s .", option->choices[option->initial]);
    if (option->type == OPTION_TEXT && option->initial_text != NULL)
        buf_printf(&text, "The default is\n.BR %s .", option->initial_text);
    assert_entry_says(option, entry, &text);
    for (int i = 0; option->choices != NULL && option->choices[i] != NULL; i++)
        ck_assert_ptr_nonnull(strstr(buf_text(entry), option->choices[i]));
}

START_TEST(describes_every_option_in_the_man_page)
{
    BUF_AUTO(page);

    read_man_page(&page);
    for (const Option *option = OPTIONS; option->name != NULL; option++) {
        BUF_AUTO(entry);

        man_entry(buf_text(&page), option, &entry);
        ck_assert_msg(entry.len > 0, "--%s is not in the man page", option->name);
        assert_entry_has_names(option, &entry);
        assert_entry_has_facts(option, &entry);
    }
}
END_TEST

START_TEST(names_no_unknown_option_in_the_man_page)
{
    BUF_AUTO(page);
    int count = 0;

    read_man_page(&page);
    for (const char *at = buf_text(&page); (at = strstr(at, "--")) != NULL; count++) {
        size_t len = strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-");
        bool negated;

        ck_assert_msg(strncmp(at + 2, "name", len) == 0 ||
                          option_by_name(at + 2, len, &negated) != NULL,
                      "the man page names --%.*s", (int)len, at + 2);
        at += 2 + len;
    }
    ck_assert_int_gt(count, 30);
}
END_TEST

START_TEST(explains_commands_exit_codes_and_version_in_the_man_page)
{
    BUF_AUTO(page);

    read_man_page(&page);
    ck_assert_ptr_nonnull(strstr(buf_text(&page), "walter " WALTER_VERSION " User Commands"));
    for (const CommandWord *command = COMMANDS; command->word != NULL; command++) {
        BUF_AUTO(plain);
        BUF_AUTO(with_argument);

        buf_printf(&plain, "\n.TP\n.B %s\n", command->word);
        buf_printf(&with_argument, "\n.TP\n.BR %s  [", command->word);
        ck_assert_msg(strstr(buf_text(&page), buf_text(&plain)) != NULL ||
                          strstr(buf_text(&page), buf_text(&with_argument)) != NULL,
                      "%s is not in the man page", command->word);
    }
    for (int code = 0; code < OUTCOME_COUNT; code++) {
        BUF_AUTO(entry);

        buf_printf(&entry, "\n.TP\n.B %d\n%s\n", code, outcome_meaning(code));
        ck_assert_msg(strstr(buf_text(&page), buf_text(&entry)) != NULL,
                      "exit code %d is not in the man page", code);
    }
}
END_TEST

#define COUNT(cases) ((int)(sizeof(cases) / sizeof(cases)[0]))

static TCase *
parsing_tests(void)
{
    TCase *tests = tcase_create("parsing");

    tcase_add_test(tests, fills_defaults);
    tcase_add_loop_test(tests, takes_pg_osc_command_lines, 0, COUNT(PG_OSC_LINES));
    tcase_add_test(tests, takes_its_own_options);
    tcase_add_loop_test(tests, switches_flags_off, 0, COUNT(OFF_FORMS));
    tcase_add_test(tests, takes_the_positive_form_of_a_skip_option);
    tcase_add_test(tests, lets_the_last_repetition_count);
    tcase_add_loop_test(tests, reads_durations_with_units, 0, COUNT(DURATIONS));
    tcase_add_loop_test(tests, reads_sizes_with_units, 0, COUNT(SIZES));
    tcase_add_test(tests, takes_values_that_look_odd);
    tcase_add_test(tests, takes_empty_connection_values_for_not_given);
    tcase_add_loop_test(tests, chooses_the_command, 0, COUNT(COMMAND_CASES));
    tcase_add_loop_test(tests, refuses_with_a_line_that_names_the_option, 0, COUNT(REFUSED));
    return tests;
}

static TCase *
text_tests(void)
{
    TCase *tests = tcase_create("texts");

    tcase_add_test(tests, has_a_sound_option_table);
    tcase_add_test(tests, maps_every_kind_of_error_to_its_exit_code);
    tcase_add_loop_test(tests, wraps_help_at_80_columns_without_trailing_blanks, 0, COUNT(TOPICS));
    tcase_add_loop_test(tests, lists_in_help_the_exit_codes, 0, COUNT(TOPICS));
    tcase_add_test(tests, lists_in_help_the_options_of_the_command_and_no_others);
    tcase_add_test(tests, describes_every_option_in_the_man_page);
    tcase_add_test(tests, names_no_unknown_option_in_the_man_page);
    tcase_add_test(tests, explains_commands_exit_codes_and_version_in_the_man_page);
    return tests;
}

Suite *
unit_suite(void)
{
    Suite *suite = suite_create("options");

    suite_add_tcase(suite, parsing_tests());
    suite_add_tcase(suite, text_tests());
    return suite;
}
