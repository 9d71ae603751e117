/*
 * What the operator asked for, after parsing and validation.  Plain data: cli/ fills it, everybody
 * below reads it.  All texts are borrowed for the life of the process; NULL means "not given".
 */
#ifndef WALTER_SETTINGS_H
#define WALTER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "decoder.h"

typedef enum {
    COMMAND_PERFORM = 0,
    COMMAND_CLEANUP,
    COMMAND_ABORT,
    COMMAND_HELP,
    COMMAND_VERSION
} Command;

typedef enum { OLD_SNAPSHOTS_WAIT = 0, OLD_SNAPSHOTS_IGNORE } OldSnapshots;

/* How rows get into the shadow: through us, by a statement of the server's, or what is cheaper. */
typedef enum { COPY_METHOD_AUTO = 0, COPY_METHOD_COPY, COPY_METHOD_INSERT } CopyMethod;

/* When matviews that read the table are populated: before the cutover, or after the swap. */
typedef enum { MATVIEWS_BEFORE = 0, MATVIEWS_AFTER } Matviews;

/* What becomes of a run that has used up its WAL budget. */
typedef enum { MAX_WAL_DROP = 0, MAX_WAL_KEEP } MaxWalAction;

/* What the operator said to a question: ANSWER_NOBODY = there is no terminal to ask on. */
typedef enum { ANSWER_NO = 0, ANSWER_YES, ANSWER_NOBODY } Answer;

typedef struct Settings {
    Command command;
    const char *help_topic; /* `walter help TOPIC`, or NULL */

    /* connection: libpq's own environment, service file and .pgpass fill what is NULL */
    const char *dbname; /* a name, a URI or a key=value string */
    const char *host;
    const char *port;
    const char *user;
    const char *password;

    /* what to do */
    const char *statement;      /* the ALTER statements' text, from -a or --file */
    const char *statement_file; /* --file; only cli/ reads it, `statement` holds its content */
    const char *schema;         /* --schema, default "public" */
    bool schema_given;
    const char *copy_statement; /* text (a file's content where a file was named), or NULL */
    Plugin plugin;
    bool verbose;
    bool drop; /* drop the old table at the end */
    bool skip_foreign_key_validation;
    Matviews matviews;
    bool set_replica_identity;         /* for the time of the run, where the table has none */
    bool allow_all_tables_publication; /* subscribers may be sent the shadow's rows */
    const char *run;                   /* cleanup and abort: only this one; NULL = all */
    bool restart;                      /* remove an interrupted run instead of going on with it */
    bool yes;                          /* do not ask */

    /* speed */
    int jobs; /* copy pipes and index builds at a time, 1..32; 0 = see others.h */
    int64_t maintenance_work_mem; /* bytes per index build, 0 = as the server is set */
    int parallel_workers;         /* per index build, -1 = see index.c */
    CopyMethod copy_method;
    int64_t max_rate;         /* of the copy, bytes per second, 0 = no limit */
    int nice;                 /* percent of its time for which the copy sleeps, 0..99 */
    int apply_jobs;           /* sessions that apply changes, 1..16 */
    int64_t pull_batch_count; /* most changes applied in one transaction, 1..1000000 */
    const char *spool_dir;    /* NULL = see spool_default_dir */
    int64_t spool_limit;      /* bytes of waiting changes on disk, 0 = none */
    int64_t max_wal;          /* bytes that the slot may hold back, 0 = the server's limit */
    MaxWalAction max_wal_action;
    int64_t delta_count; /* cutover is tried below so many outstanding changes */

    /* the lock */
    bool kill_backends;
    int64_t wait_time_for_lock_s; /* --kill-backends acts after so many seconds of waiting */
    int64_t lock_timeout_ms;      /* per attempt */
    int64_t lock_hold_ms;         /* budget between lock and COMMIT */
    int64_t cutover_retries;      /* 0 = no limit */
    OldSnapshots old_snapshots;
    int64_t snapshot_max_age_s;  /* the copy replaces an older snapshot, 0 = never */
    int64_t reconnect_timeout_s; /* how long a lost server is waited for */
    int64_t slot_timeout_s; /* longest wait for running writers at slot creation, 0 = no limit */

    /*
     * Ask the operator `question` (one sentence, no newline) and wait for the answer, which blocks;
     * ANSWER_YES at once under --yes.  Set by cli/ before perform_run and cleanup_run.
     */
    Answer (*confirm)(const struct Settings *settings, const char *question);
} Settings;

#endif
