/* The option table and its look-ups; see options.h. */
#include "cli/options.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#define FOR_PERFORM (1U << COMMAND_PERFORM)
#define FOR_RUNS (FOR_PERFORM | 1U << COMMAND_CLEANUP | 1U << COMMAND_ABORT)
#define FOR_ALL (FOR_RUNS | 1U << COMMAND_HELP | 1U << COMMAND_VERSION)

/* The field of Settings that an option fills. */
#define FIELD(field) .offset = offsetof(Settings, field), .size = sizeof(((Settings){0}).field)

static const char *const PLUGIN_CHOICES[] = {
    [PLUGIN_PGOUTPUT] = "pgoutput", [PLUGIN_WAL2JSON] = "wal2json", NULL};
static const char *const COPY_METHOD_CHOICES[] = {[COPY_METHOD_AUTO] = "auto",
                                                  [COPY_METHOD_COPY] = "copy",
                                                  [COPY_METHOD_INSERT] = "insert",
                                                  NULL};
static const char *const OLD_SNAPSHOTS_CHOICES[] = {
    [OLD_SNAPSHOTS_WAIT] = "wait", [OLD_SNAPSHOTS_IGNORE] = "ignore", NULL};

static const char *const MATVIEWS_CHOICES[] = {
    [MATVIEWS_BEFORE] = "before", [MATVIEWS_AFTER] = "after", NULL};

static const char *const MAX_WAL_CHOICES[] = {
    [MAX_WAL_DROP] = "drop", [MAX_WAL_KEEP] = "keep", NULL};

/* Choices are stored as int. */
static_assert(sizeof(MaxWalAction) == sizeof(int), "enums have the size of int");
static_assert(sizeof(Matviews) == sizeof(int), "enums have the size of int");
static_assert(sizeof(CopyMethod) == sizeof(int), "enums have the size of int");
static_assert(sizeof(Plugin) == sizeof(int), "enums have the size of int");
static_assert(sizeof(OldSnapshots) == sizeof(int), "enums have the size of int");

/* clang-format off */
const Option OPTIONS[] = {
    {.name = "alter-statement", .letters = "a", .type = OPTION_TEXT, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(statement), .value_name = "STATEMENT",
     .help = "The ALTER TABLE statement to perform. Several statements, all for the same table, "
             "are separated by semicolons. Required, unless --file is given."},
    {.name = "file", .letters = "", .type = OPTION_TEXT, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(statement_file), .value_name = "PATH",
     .help = "Read the statement from this file, or from standard input if PATH is \"-\"."},
    {.name = "schema", .letters = "s", .type = OPTION_TEXT, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(schema), .initial_text = "public", .value_name = "SCHEMA",
     .help = "The schema of the table, where the statement does not name one; given, the only "
             "one that is searched, else the role's search_path follows."},
    {.name = "copy-statement", .letters = "c", .type = OPTION_TEXT, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(copy_statement), .value_name = "FILE", .empty_is_unset = true,
     .help = "A file with the INSERT INTO %{shadow_table} (...) SELECT ... that fills the new "
             "table in place of a plain copy (a backfill). The statement itself may be given as "
             "well. Changes made meanwhile go through the same SELECT."},
    {.name = "drop", .letters = "f", .type = OPTION_FLAG, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(drop),
     .help = "Drop the old table after the swap instead of keeping it."},
    {.name = "skip-foreign-key-validation", .letters = "o", .type = OPTION_FLAG,
     .group = GROUP_TASK, .commands = FOR_PERFORM, FIELD(skip_foreign_key_validation),
     .help = "Leave the foreign keys NOT VALID after the swap, to be validated by hand. They are "
             "enforced for new rows all the same."},
    {.name = "set-replica-identity", .letters = "", .type = OPTION_FLAG, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(set_replica_identity),
     .help = "If the table has no primary key, make a unique index on NOT NULL columns its replica "
             "identity for the time of the run. Takes a brief exclusive lock at the beginning."},
    {.name = "allow-all-tables-publication", .letters = "", .type = OPTION_FLAG,
     .group = GROUP_TASK, .commands = FOR_PERFORM, FIELD(allow_all_tables_publication),
     .help = "Go ahead although a publication FOR ALL TABLES sends the rows of the new table to its "
             "subscribers while it is filled. A PostgreSQL subscriber stops with an error at the "
             "first of them: this is for subscribers that ignore tables they do not know."},
    {.name = "matviews", .letters = "", .type = OPTION_CHOICE, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(matviews), .initial = MATVIEWS_BEFORE,
     .choices = MATVIEWS_CHOICES, .value_name = "WHEN",
     .help = "When materialized views that read the table are populated anew: before the cutover, "
             "from the new table, or after the swap, until when they are empty and cannot be read."},

    {.name = "restart", .letters = "", .type = OPTION_FLAG, .group = GROUP_TASK,
     .commands = FOR_PERFORM, FIELD(restart),
     .help = "If an earlier run on the table was interrupted, remove it and begin anew, whatever its "
             "statement was. Without this the same command goes on with it."},

    {.name = "dbname", .letters = "d", .type = OPTION_TEXT, .group = GROUP_CONNECTION,
     .commands = FOR_RUNS, FIELD(dbname), .value_name = "DBNAME", .empty_is_unset = true,
     .help = "The database: a name, a postgresql:// URI or a key=value connection string."},
    {.name = "host", .letters = "h", .type = OPTION_TEXT, .group = GROUP_CONNECTION,
     .commands = FOR_RUNS, FIELD(host), .value_name = "HOST", .empty_is_unset = true,
     .advice = "for help use --help",
     .help = "The server's host name, or the directory of its Unix-domain socket."},
    {.name = "port", .letters = "p", .type = OPTION_PORT, .group = GROUP_CONNECTION,
     .commands = FOR_RUNS, FIELD(port), .value_name = "PORT", .empty_is_unset = true,
     .help = "The server's port."},
    {.name = "username", .letters = "uU", .type = OPTION_TEXT, .group = GROUP_CONNECTION,
     .commands = FOR_RUNS, FIELD(user), .value_name = "NAME", .empty_is_unset = true,
     .help = "The role to connect as."},
    {.name = "password", .letters = "", .type = OPTION_TEXT, .group = GROUP_CONNECTION,
     .commands = FOR_RUNS, FIELD(password), .value_name = "PASSWORD", .empty_is_unset = true,
     .help = "The password. Others on this machine can read it in the process list: use the "
             "environment variable PGPASSWORD or a .pgpass file instead."},

    {.name = "jobs", .letters = "j", .type = OPTION_NUMBER, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(jobs), .initial = 0, .min = 1, .max = 32, .value_name = "N",
     .initial_text = "2, and 1 while others write",
     .help = "So many copy connections and index builds work at the same time."},
    {.name = "maintenance-work-mem", .letters = "", .type = OPTION_SIZE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(maintenance_work_mem), .initial = 0, .min = INT64_C(1024) * 1024,
     .max = INT64_C(2147483647) * 1024, .value_name = "BYTES",
     .initial_text = "the server's setting",
     .help = "Memory for one index build; as many builds as --jobs says take it at the same time."},
    {.name = "parallel-workers", .letters = "", .type = OPTION_NUMBER, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(parallel_workers), .initial = -1, .min = 0, .max = 1024,
     .value_name = "N", .initial_text = "a share of the server's",
     .help = "Each index build may have so many processes of the server to help it. Without this, "
             "the server's max_parallel_maintenance_workers help a build that is alone, and builds "
             "that go on at the same time share them."},
    {.name = "copy-method", .letters = "", .type = OPTION_CHOICE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(copy_method), .initial = COPY_METHOD_AUTO,
     .choices = COPY_METHOD_CHOICES, .value_name = "METHOD",
     .help = "How rows get into the new table: by COPY through walter, which writes the least WAL "
             "and is faster for short rows of few columns, or by the server's INSERT ... SELECT, "
             "faster for all others, above all for large values; auto chooses by the columns and "
             "the average row."},
    {.name = "max-rate", .letters = "", .type = OPTION_SIZE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(max_rate), .initial = 0, .min = 0,
     .max = INT64_C(1) << 40, .value_name = "BYTES",
     .help = "Copy no more than so much in a second. 0 = no limit."},
    {.name = "nice", .letters = "", .type = OPTION_NUMBER, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(nice), .initial = 0, .min = 0, .max = 99,
     .value_name = "PERCENT",
     .help = "The copy sleeps for so much of its time."},
    {.name = "apply-jobs", .letters = "", .type = OPTION_NUMBER, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(apply_jobs), .initial = 1, .min = 1, .max = 16,
     .value_name = "N",
     .help = "So many sessions share the changes of a batch, by their key. Of use where the server "
             "has more than two processors and the table many indexes; a table with a unique or "
             "exclusion constraint besides its key, or partitions, has one."},
    {.name = "pull-batch-count", .letters = "b", .type = OPTION_NUMBER, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(pull_batch_count), .initial = 10000, .min = 1, .max = 1000000,
     .value_name = "N",
     .help = "Apply at most so many changes in one transaction."},
    {.name = "delta-count", .letters = "e", .type = OPTION_NUMBER, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(delta_count), .initial = 20, .min = 1, .max = 1000000,
     .value_name = "N",
     .help = "Try the cutover once fewer than so many changes are outstanding."},
    {.name = "spool-dir", .letters = "", .type = OPTION_TEXT, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(spool_dir), .value_name = "DIR", .empty_is_unset = true,
     .help = "The directory on this machine for changes that wait and have no room in memory. "
             "Without it: the environment variable TMPDIR, or /var/tmp."},
    {.name = "spool-limit", .letters = "", .type = OPTION_SIZE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(spool_limit), .initial = INT64_C(10) << 30,
     .initial_text = "10GB", .min = 0, .max = INT64_C(1) << 44, .value_name = "BYTES",
     .help = "Spool at most so much there, and never more than half of what is free; then the "
             "server keeps the changes, as WAL. 0 = no spool."},
    {.name = "max-wal", .letters = "", .type = OPTION_SIZE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(max_wal), .initial = 0, .min = 0, .max = INT64_C(1) << 50,
     .value_name = "BYTES",
     .help = "The replication slot may hold back so much WAL: warned of at 50 %, from 80 % on the "
             "copy is slowed, at 100 % the run stops itself. 0 = the server's own limit, "
             "max_slot_wal_keep_size, which also counts where it is the smaller one."},
    {.name = "max-wal-action", .letters = "", .type = OPTION_CHOICE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(max_wal_action), .initial = MAX_WAL_DROP,
     .choices = MAX_WAL_CHOICES, .value_name = "ACTION",
     .help = "What becomes of a run that has stopped because of --max-wal: drop all that it has "
             "made, the slot first, or keep it, to go on later; then the slot holds back more and "
             "more."},
    {.name = "plugin", .letters = "", .type = OPTION_CHOICE, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(plugin), .initial = PLUGIN_PGOUTPUT,
     .choices = PLUGIN_CHOICES, .value_name = "PLUGIN",
     .help = "The logical decoding plugin. pgoutput is part of every server; wal2json has to be "
             "installed there."},
    {.name = "snapshot-max-age", .letters = "", .type = OPTION_DURATION, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(snapshot_max_age_s), .initial = 300, .min = 0, .max = 604800,
     .unit = "s", .value_name = "SECONDS",
     .help = "The copy replaces its snapshot, which holds back vacuum in the whole database, when it "
             "is older than this. 0 = never."},
    {.name = "reconnect-timeout", .letters = "", .type = OPTION_DURATION, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(reconnect_timeout_s), .initial = 60, .min = 0, .max = 604800,
     .unit = "s", .value_name = "SECONDS",
     .help = "When a connection is lost, try for so long to go on in new ones. Afterwards the run is "
             "kept, and the same command goes on with it. 0 = do not try."},
    {.name = "slot-timeout", .letters = "", .type = OPTION_DURATION, .group = GROUP_SPEED,
     .commands = FOR_PERFORM, FIELD(slot_timeout_s), .initial = 300, .min = 0, .max = 604800,
     .unit = "s", .value_name = "SECONDS",
     .help = "How long the creation of the replication slot may wait for transactions that are "
             "already writing. 0 = no limit."},

    {.name = "lock-timeout", .letters = "", .type = OPTION_DURATION, .group = GROUP_LOCK,
     .commands = FOR_PERFORM, FIELD(lock_timeout_ms), .initial = 50, .min = 1, .max = 60000,
     .unit = "ms", .value_name = "MS",
     .help = "How long one attempt waits for the exclusive lock. Nobody else gets to the table "
             "while it waits, so keep it short."},
    {.name = "lock-hold", .letters = "", .type = OPTION_DURATION, .group = GROUP_LOCK,
     .commands = FOR_PERFORM, FIELD(lock_hold_ms), .initial = 1000, .min = 10, .max = 600000,
     .unit = "ms", .value_name = "MS",
     .help = "How long the exclusive lock may be held. An attempt that would take longer is "
             "rolled back and tried again later."},
    {.name = "cutover-retries", .letters = "", .type = OPTION_NUMBER, .group = GROUP_LOCK,
     .commands = FOR_PERFORM, FIELD(cutover_retries), .initial = 0, .min = 0, .max = 1000000,
     .value_name = "N",
     .help = "Give up after so many attempts at the cutover. 0 = no limit."},
    {.name = "kill-backends", .letters = "k", .type = OPTION_FLAG, .group = GROUP_LOCK,
     .commands = FOR_PERFORM, FIELD(kill_backends),
     .help = "Terminate the sessions that keep the lock from being granted, once "
             "--wait-time-for-lock has passed. Only those that hold a lock in the way, in a "
             "transaction that is open for so long."},
    {.name = "wait-time-for-lock", .letters = "w", .type = OPTION_DURATION, .group = GROUP_LOCK,
     .commands = FOR_PERFORM, FIELD(wait_time_for_lock_s), .initial = 10, .min = 0, .max = 86400,
     .unit = "s", .value_name = "SECONDS",
     .advice = "a password belongs in PGPASSWORD or .pgpass",
     .help = "How long --kill-backends lets the lock attempts fail before it acts, and how long the "
             "transaction of a session that it ends must be open."},
    {.name = "old-snapshots", .letters = "", .type = OPTION_CHOICE, .group = GROUP_LOCK,
     .commands = FOR_PERFORM, FIELD(old_snapshots), .initial = OLD_SNAPSHOTS_WAIT,
     .choices = OLD_SNAPSHOTS_CHOICES, .value_name = "ACTION",
     .help = "What to do before the swap about transactions whose snapshot is older than the new "
             "table's rows. To them the table would look empty: wait until they have ended, or "
             "ignore them."},

    {.name = "run", .letters = "", .type = OPTION_TEXT, .group = GROUP_OTHER,
     .commands = 1U << COMMAND_CLEANUP | 1U << COMMAND_ABORT, FIELD(run), .value_name = "ID",
     .empty_is_unset = true, .help = "Only the run that is called so: eight hexadecimal digits."},
    {.name = "yes", .letters = "y", .type = OPTION_FLAG, .group = GROUP_OTHER,
     .commands = FOR_RUNS, FIELD(yes), .help = "Do not ask, go ahead."},
    {.name = "verbose", .letters = "v", .type = OPTION_FLAG, .group = GROUP_OTHER,
     .commands = FOR_RUNS, FIELD(verbose), .help = "Log more."},
    {.name = "help", .letters = "", .type = OPTION_COMMAND, .group = GROUP_OTHER,
     .commands = FOR_ALL, .initial = COMMAND_HELP, .help = "Show the help text and exit."},
    {.name = "version", .letters = "", .type = OPTION_COMMAND, .group = GROUP_OTHER,
     .commands = FOR_ALL, .initial = COMMAND_VERSION, .help = "Show the version and exit."},
    {.name = NULL},
};

const CommandWord COMMANDS[] = {
    {"perform", COMMAND_PERFORM, "perform -a STATEMENT [-d DBNAME] [OPTION]...",
     "run an ALTER TABLE online",
     "Runs the ALTER TABLE on a copy of the table, keeps the copy up to date through logical "
     "decoding, and swaps the two under one brief lock. Readers and writers go on meanwhile."},
    {"cleanup", COMMAND_CLEANUP, "cleanup [-d DBNAME] [OPTION]...",
     "remove what interrupted runs have left",
     "Shows what interrupted runs have left in the database - replication slots, publications, "
     "schemas, and what was to come after a swap - and asks whether to remove and do it. Without a terminal and without --yes it only "
     "shows it. Runs that are still at work are left alone."},
    {"abort", COMMAND_ABORT, "abort [-d DBNAME] [OPTION]...",
     "end runs before their swap, and remove them",
     "Like cleanup, but runs that are still at work are asked to stop and to remove all that they "
     "have made, and waited for. Tables are left as they were. What has swapped already is left to "
     "cleanup."},
    {"help", COMMAND_HELP, "help [COMMAND]", "show the help text of a command", NULL},
    {"version", COMMAND_VERSION, "--version", "show the version", NULL},
    {.word = NULL},
};
/* clang-format on */

static_assert(sizeof OPTIONS / sizeof OPTIONS[0] <= OPTIONS_MAX, "one mark per option");

/* Is `typed` the option's long name?  Underscores are taken for dashes, as Thor does. */
static bool
is_name(const Option *option, const char *typed, size_t len)
{
    if (strlen(option->name) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (option->name[i] != (typed[i] == '_' ? '-' : typed[i]))
            return false;
    return true;
}

static const Option *
find_name(const char *typed, size_t len)
{
    for (const Option *option = OPTIONS; option->name != NULL; option++)
        if (is_name(option, typed, len))
            return option;
    return NULL;
}

const Option *
option_by_name(const char *name, size_t len, bool *negated)
{
    static const char *const PREFIXES[] = {"no-", "no_", "skip-", "skip_"};
    const Option *option = find_name(name, len);

    *negated = false;
    for (size_t i = 0; option == NULL && i < sizeof PREFIXES / sizeof PREFIXES[0]; i++) {
        size_t skip = strlen(PREFIXES[i]);

        if (len <= skip || strncmp(name, PREFIXES[i], skip) != 0)
            continue;
        option = find_name(name + skip, len - skip);
        if (option != NULL && option->type != OPTION_FLAG)
            return NULL;
        *negated = option != NULL;
    }
    return option;
}

const Option *
option_by_letter(char letter)
{
    for (const Option *option = OPTIONS; letter != '\0' && option->name != NULL; option++)
        if (strchr(option->letters, letter) != NULL)
            return option;
    return NULL;
}

const CommandWord *
command_by_word(const char *word)
{
    for (const CommandWord *command = COMMANDS; command->word != NULL; command++)
        if (strcmp(command->word, word) == 0)
            return command;
    return NULL;
}

bool
option_is_for(const Option *option, Command command)
{
    return (option->commands & 1U << command) != 0;
}

void
option_add_title(const Option *option, Buf *out)
{
    buf_printf(out, "option --%s", option->name);
    if (option->letters[0] != '\0')
        buf_printf(out, " (-%c)", option->letters[0]);
}

void
option_add_choices(const Option *option, Buf *out)
{
    for (int i = 0; option->choices[i] != NULL; i++)
        buf_printf(out, "%s%s",
                   i == 0                           ? ""
                   : option->choices[i + 1] != NULL ? ", "
                                                    : " or ",
                   option->choices[i]);
}

void
option_add_allowed(const Option *option, Buf *out)
{
    switch (option->type) {
    case OPTION_FLAG:
        buf_add_text(out, "true or false, if it is given a value");
        break;
    case OPTION_NUMBER:
        buf_printf(out, "a whole number from %lld to %lld", (long long)option->min,
                   (long long)option->max);
        break;
    case OPTION_DURATION:
        buf_printf(out,
                   "a whole number of %s from %lld to %lld, or one with a unit (ms, s, min, h)",
                   option->unit[0] == 'm' ? "milliseconds" : "seconds", (long long)option->min,
                   (long long)option->max);
        break;
    case OPTION_SIZE:
        buf_printf(out,
                   "a whole number of bytes from %lld to %lld, or one with a unit (kB, MB, GB)",
                   (long long)option->min, (long long)option->max);
        break;
    case OPTION_CHOICE:
        option_add_choices(option, out);
        break;
    case OPTION_TEXT:
        buf_add_text(out, "a text that is not empty");
        break;
    case OPTION_PORT:
        buf_add_text(out, "a port number from 1 to 65535");
        break;
    case OPTION_COMMAND:
        buf_add_text(out, "given without a value");
        break;
    }
}

#define DISTANCE_MAX 2   /* so many typing errors are still a near miss */
#define DISTANCE_NAME 40 /* longer words are not compared */

static size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/*
 * Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`: "optimal
 * string alignment".  Returns something above DISTANCE_MAX for words that are too long to compare.
 */
static size_t
distance(const char *a, size_t a_len, const char *b)
{
    size_t rows[3][DISTANCE_NAME + 1]; /* the row above the last one, the last one, this one */
    size_t b_len = strlen(b);

    if (a_len > DISTANCE_NAME || b_len > DISTANCE_NAME)
        return DISTANCE_MAX + 1;
    memset(rows, 0, sizeof rows);
    for (size_t j = 0; j <= b_len; j++)
        rows[1][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        rows[2][0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t replaced = rows[1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);

            rows[2][j] = least(replaced, least(rows[1][j], rows[2][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                rows[2][j] = least(rows[2][j], rows[0][j - 2] + 1);
        }
        memmove(rows[0], rows[1], 2 * sizeof rows[0]);
    }
    return rows[1][b_len];
}

/* How unlike `name` is what was typed: 0 for its beginning, else the distance. */
static size_t
unlikeness(const char *typed, size_t len, const char *name)
{
    if (len >= 3 && strncmp(typed, name, len) == 0)
        return 0;
    return distance(typed, len, name);
}

void
option_add_suggestion(const char *name, size_t len, Buf *out)
{
    bool negated = len > 3 && strncmp(name, "no-", 3) == 0;
    const Option *best = NULL;
    size_t best_unlikeness = least(DISTANCE_MAX, len / 2) + 1;

    for (const Option *option = OPTIONS; option->name != NULL; option++) {
        size_t skip = negated && option->type == OPTION_FLAG ? 3 : 0;
        size_t unlike = unlikeness(name + skip, len - skip, option->name);

        if (unlike >= best_unlikeness)
            continue;
        best = option;
        best_unlikeness = unlike;
    }
    if (best != NULL)
        buf_printf(out, "; did you mean --%s%s?", negated && best->type == OPTION_FLAG ? "no-" : "",
                   best->name);
}

void
command_add_suggestion(const char *word, Buf *out)
{
    const CommandWord *best = NULL;
    size_t best_unlikeness = least(DISTANCE_MAX, strlen(word) / 2) + 1;

    for (const CommandWord *command = COMMANDS; command->word != NULL; command++) {
        size_t unlike = unlikeness(word, strlen(word), command->word);

        if (unlike >= best_unlikeness)
            continue;
        best = command;
        best_unlikeness = unlike;
    }
    if (best != NULL)
        buf_printf(out, "; did you mean \"%s\"?", best->word);
}
