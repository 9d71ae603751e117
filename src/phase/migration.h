/*
 * One run: the context that the phases share, and the calls by which migration.c drives them.
 *
 * Phases never call each other; each has `enter` (finds what is there, prepares) and `step` (one
 * bounded turn).  This header is the only one of src/phase that all phases include.
 */
#ifndef WALTER_MIGRATION_H
#define WALTER_MIGRATION_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "base/loop.h"
#include "ctl/settings.h"
#include "ctl/state.h"
#include "decoder.h"
#include "pg/catalog.h"
#include "pg/conn.h"
#include "phase/rates.h"
#include "phase/walbudget.h"
#include "plan/ddl.h"
#include "plan/footprint.h"
#include "plan/projection.h"

typedef struct Spool Spool;
typedef struct Stream Stream;
typedef struct Apply Apply;
typedef struct Capture Capture;
typedef struct Copy Copy;
typedef struct IndexBuild IndexBuild;
typedef struct Cutover Cutover;

/* A growing list of SQL texts in the arena. */
typedef struct SqlList {
    const char **items;
    int count;
    int size;
} SqlList;

/*
 * How a table that is a partition is taken out of its parent, and put back.  Names of tables are
 * quoted and qualified unless they are parts.
 */
typedef struct Partition {
    uint32_t parent_oid;
    const char *parent;   /* NULL: the table is no partition */
    const char *stand_in; /* of the parent, in the rehearsal schema */
    const char *parent_schema;
    const char *parent_name;
    const char *key;        /* "RANGE (d)" */
    const char *bound;      /* "FOR VALUES ..." or "DEFAULT" */
    const char *constraint; /* what the bounds say, as an expression; NULL: nothing */
    const char *sibling;    /* the default partition beside it, or NULL */
    uint32_t sibling_oid;
    SqlList keys;       /* names of its foreign keys that come from the parent */
    SqlList key_checks; /* per key a query that takes as long as the swap's check of it */
} Partition;

/*
 * What the shadow lacks while it is loaded, as SQL read from the catalog after the ALTER had run
 * on it.  Every statement names the shadow in its own schema, so the swap runs `swap` before it
 * moves the tables.
 */
typedef struct Definition {
    SqlList surface;     /* what can be set on the shadow at any time: comments, targets */
    SqlList indexes;     /* built after the copy, side by side */
    SqlList constraints; /* after all indexes, one by one: primary key, unique, exclusion */
    SqlList marks;  /* after these, again and again where need be: what indexes are said to be */
    SqlList swap;   /* in the swap's transaction, before the tables move */
    SqlList moved;  /* in the swap's transaction, after the tables moved */
    SqlList finish; /* afterwards, each in its own transaction: VALIDATE CONSTRAINT */
    SqlList key_checks; /* per foreign key that rows may violate: gives a message if one does */
    Partition partition;
    SqlList partners;    /* quoted, qualified tables to lock in the swap, in order of oid */
    SqlList views;       /* the same for views and materialized views, locked before all tables */
    SqlList matviews;    /* built before the cutover, each on its own: see matviews.h */
    SqlList refreshes;   /* afterwards: REFRESH MATERIALIZED VIEW */
    bool has_deferrable; /* a deferrable unique or exclusion constraint */
    const char *identity_sequences; /* oids of the shadow's that were cloned: "{4711}" */
    SqlList restarted; /* attnums of shadow columns whose identity the ALTER restarts */
} Definition;

/* Something outside that depends on the table, and its stand-in in the rehearsal. */
typedef struct Dependent {
    char kind; /* v view, m matview, r rule, p policy, f parsed body, F row type in the signature */
    uint32_t oid;
    const char *schema;    /* unquoted; of rules and policies, of their relation */
    const char *name;      /* unquoted relation or function */
    const char *part;      /* unquoted rule or policy, else "" */
    const char *text;      /* query of a view, else the statement that makes it */
    const char *qualified; /* quoted schema.name */
    const char *stand_in_schema;
    uint32_t stand_in_oid;
} Dependent;

/* A growing list in the arena. */
typedef struct Moves {
    DdlMove *items;
    int count;
    int size;
} Moves;

typedef struct Dependents {
    Dependent *items;
    int count;
    Moves forth; /* from real names to those of the rehearsal, of what the swap renews */
    Moves back;
} Dependents;

/* What the run counts, for the progress line and the closing summary. */
typedef struct Counters {
    int64_t started_us;
    int64_t rows_copied;
    int64_t blocks_copied;
    int64_t rows_before; /* of these, in earlier attempts */
    int64_t blocks_before;
    int64_t blocks_total;
    int64_t rows_estimated;
    int64_t changes_applied;
    int64_t lock_attempts;
    int64_t lock_wait_us; /* time spent waiting in the queue of the lock, all attempts */
    int64_t lock_hold_us; /* from lock granted to COMMIT */
    int64_t indexes_built;
} Counters;

/* How busy others keep the server; see others.h. */
typedef struct Others {
    int looks;
    int64_t looked_us;
    int64_t next_xid;
    int64_t own_writes; /* transactions that the run itself has committed since the last look */
    bool busy;
} Others;

/* Whether changes come faster than they are applied; see backlog.h. */
typedef struct Backlog {
    Rates rates;
    int64_t looked_us;
    int64_t told_us;
    bool is_growing; /* so the operator was told */
} Backlog;

/* What becomes of all that a run has made when it fails before the swap. */
typedef enum {
    FAILURE_BY_KIND = 0, /* that depends on the error */
    FAILURE_REMOVE,
    FAILURE_KEEP
} OnFailure;

/* How far the shadow's indexes are. */
typedef enum { INDEXES_NONE = 0, INDEXES_BUILDING, INDEXES_BUILT } IndexState;

/* --set-replica-identity, where the table needs it; see identity.h. */
typedef struct Identity {
    uint32_t index_oid;
    const char *index;  /* quoted; NULL = the table has an identity of its own */
    const char *former; /* as ALTER TABLE ... REPLICA IDENTITY reads it */
    bool is_set;
} Identity;

/*
 * A table whose rows are copied and followed: the original itself, or, where that is partitioned,
 * one of its partitions.  All of them have the columns of the original, by name and type; only the
 * order may be another.  So there is one projection, and one row format, for all.
 */
typedef struct Leaf {
    uint32_t oid;
    const char *schema;    /* unquoted */
    const char *name;      /* unquoted */
    const char *qualified; /* quoted: schema.name */
    const char *shadow_qualified;
    const DecoderTable *stream; /* its columns in their own order, as the stream sends them */
    const int *order;   /* per column of the original: its place there; NULL = the same one */
    uint32_t filenode;  /* when the copy began */
    bool place_changed; /* it was rewritten during the copy, which began anew */
} Leaf;

/* A table below a partitioned original; parents come before their partitions. */
typedef struct Branch {
    TableShape original;
    TableShape shadow; /* its oid from the beginning, the rest once the ALTER was rehearsed */
    const char *shadow_qualified;
    int parent;        /* index of the branch that it is a partition of, -1 = of the original */
    const char *bound; /* "FOR VALUES ..." or "DEFAULT" */
    const char *key;   /* "RANGE (d)"; NULL = it is a leaf */
    int *origin;       /* as in the run's projection, between the two shapes here */
    int *shadow_key;   /* as the run's, in the shape here */
} Branch;

typedef struct Migration {
    const Settings *settings;
    ConnTarget target;
    Loop *loop;
    Arena *arena; /* lives as long as the run */
    Conn *control;
    bool is_superuser;
    RunNames names;
    bool started; /* walter.run has our row: something to clean up */
    const char *phase;
    Ddl ddl;
    TableShape original;
    Leaf *leaves; /* an ordinary table is its own only leaf */
    int leaf_count;
    bool is_parent;            /* the original is a partitioned table ... */
    const char *partition_key; /* ... by "RANGE (d)" */
    Branch *branches;          /* all tables below a partitioned original, the leaves among them */
    int branch_count;
    char *original_digest;
    char *original_body;     /* see catalog_read_body */
    char *shadow_body;       /* the same of the empty shadow */
    bool definition_changed; /* somebody has changed it, and it was not followed yet */
    char *deferred_digest;   /* of a change that must wait until the indexes are built, or NULL */
    bool definition_renewed; /* see refresh_definition; whoever keeps copies reads them anew */
    IndexState indexes;
    char *original_column_rows; /* see catalog_read_column_rows */
    char *original_files;       /* see catalog_read_files, when the run began */
    char *publication_mark;     /* see migration_check_publication; NULL before there is one */
    Identity identity;
    TableShape shadow;
    bool keeps_file;              /* the ALTER has not rewritten the shadow */
    const char *shadow_qualified; /* walter_<run>.<name>, quoted */
    Projection projection;
    const char *outputs; /* quoted list of the shadow's columns that are filled; from the copy on */
    int *shadow_key;     /* per key column of the original: index of the shadow's column */
    const char **key_equal;        /* per key column of the original; from apply's beginning on */
    bool has_key_index;            /* see renewal_drop_index */
    const char **shadow_key_equal; /* per key column: "OPERATOR(pg_catalog.=)" */
    bool binary_stream;            /* values of the stream travel in binary */
    bool binary_copy;
    bool inserts; /* the copy is INSERT ... SELECT, where a chunk is not too large for that */
    Footprint footprint;
    Definition definition;
    Dependents dependents;
    const char *snapshot; /* the keeper's snapshot id */
    Lsn snapshot_lsn;     /* and to which place in the WAL it belongs */
    Conn *keeper;
    Position *positions; /* from which apply begins, one for each session that applies */
    int position_count;
    const RunRecord *record; /* of the interrupted run that goes on; NULL = a new one */
    bool copy_is_done;       /* ... which has all rows */
    bool keeps_facts;        /* walter.run can hold what a later process needs to go on ... */
    bool is_resumable;       /* ... and does */
    bool is_finished;        /* it had swapped before: what was left is done */
    bool abort_asked;        /* by walter abort */
    int64_t streaming_us;    /* since when the stream is open, 0 = it is not */
    int64_t lost_us;         /* since when this process has tried to go on; 0 = it has not lost */
    int control_pid;         /* server process of the control session, also after its end */
    int own_pid;             /* ... of an earlier attempt of this process */
    const char *own_run; /* the run that this process has begun, and whose sessions may be left */
    Spool *spool;        /* until the stream takes it; NULL = none */
    Stream *stream;
    Apply *apply;
    Capture *capture;
    Copy *copy;
    IndexBuild *index;
    Cutover *cutover;
    int64_t definition_checked_us;
    int64_t others_checked_us;
    int64_t fence_tried_us; /* in the catch-up */
    const char *copied_xid; /* snapshots from before this transaction lack copied rows */
    bool keys_checked;      /* the rows fit the foreign keys, see keycheck.h */
    bool matviews_built;    /* see matviews.h */
    bool swapped;
    bool keeps_unfinished; /* walter.run can say what is to be done after the swap */
    OnFailure on_failure;
    WalBudget wal;
    int64_t wal_looked_us; /* see walguard.h */
    Others others;
    Backlog backlog;
    Counters counters;
} Migration;

typedef enum { STEP_FAILED = 0, STEP_MORE, STEP_DONE } Step;

/* phase/preflight.c: read-only checks; fills ddl, original, settings-derived facts. */
NODISCARD bool preflight_run(Migration *run, Err *err);

/*
 * phase/preflight.c: the checks of the table alone, once more; not all that they are about is in the
 * digest.  Once the run has begun, ERR_REFUSED without a word in the log, or ERR_RETRY for what
 * passes by itself.
 */
NODISCARD bool preflight_check_table(Migration *run, Err *err);

/* phase/preflight.c: the same, and the table's shape. */
NODISCARD bool preflight_read_table(Migration *run, Err *err);

/* phase/shadow.c: the shadow with its new shape, projection and definition. */
NODISCARD bool shadow_enter(Migration *run, Err *err);

/*
 * phase/shadow.c: make the shadow in an open transaction of `conn` (CONN_EXPRESSIONS) and fill what
 * the run knows of it.  The schemas must not exist.  Rolls back on failure.
 */
NODISCARD bool shadow_build(Migration *run, Conn *conn, Err *err);

/* phase/shadow.c: the shadow's names, and a projection that nothing was added to. */
void shadow_name(Migration *run);

/*
 * phase/shadow.c: values go in binary between the copy's two ends only if every type on both sides
 * can; and in the stream only if every type of the original can.
 */
void shadow_choose_formats(Migration *run);

/*
 * phase/refresh.c: the original's definition has changed.  Where rows are what they were, take over
 * what is new, as if the run had begun with it; else fail and say why.  ERR_RETRY when that cannot
 * be told just now.
 */
NODISCARD bool refresh_definition(Migration *run, Err *err);

/* phase/capture.c: publication, slot, snapshot, stream. */
NODISCARD bool capture_enter(Migration *run, Err *err);
NODISCARD Step capture_step(Migration *run, Err *err);
void capture_leave(Migration *run);

/*
 * Fail when our stream counts as a synchronous standby, as synchronous_standby_names = '*' makes it:
 * every commit of the application would wait for what we confirm.  No stream: true.
 */
NODISCARD bool capture_check_asynchronous(Migration *run, Err *err);

/* phase/copy.c */
NODISCARD bool copy_enter(Migration *run, Err *err);
NODISCARD Step copy_step(Migration *run, Err *err);
void copy_leave(Migration *run);

/* phase/index.c */
NODISCARD bool index_enter(Migration *run, Err *err);
NODISCARD Step index_step(Migration *run, Err *err);
void index_leave(Migration *run);

/* phase/catchup.c */
NODISCARD bool catchup_enter(Migration *run, Err *err);
NODISCARD Step catchup_step(Migration *run, Err *err);

/* phase/cutover.c: sets run->swapped. */
NODISCARD bool cutover_enter(Migration *run, Err *err);
NODISCARD Step cutover_step(Migration *run, Err *err);
void cutover_leave(Migration *run);

/* phase/finish.c */
NODISCARD bool finish_enter(Migration *run, Err *err);

/*
 * phase/finish.c: append the statements that are to be run after the swap, each in a transaction of
 * its own and with nothing else set: so they can be run by `walter cleanup` as well.
 */
void finish_list(Migration *run, SqlList *list);

/*
 * phase/cleanup.c: remove everything that a run made and has not turned into the result, the run's
 * other sessions first; `spare_pid` (0 = none) is one to leave alone.  Opens a session of its own.
 * Shielded from stop requests.
 */
NODISCARD bool cleanup_remove(Loop *loop, const ConnTarget *target, const RunNames *names,
                              int spare_pid, Err *err);

/*
 * phase/cleanup.c: log what was to come after the swap of a run and has not.  Opens a session of its
 * own; shielded from stop requests.
 */
void cleanup_tell_unfinished(Loop *loop, const ConnTarget *target, const RunNames *names,
                             Arena *arena);

/*
 * phase/cleanup.c: of a run that has swapped, remove the machinery and do what was to come after the
 * swap.  Opens sessions of its own.
 */
NODISCARD bool cleanup_finish(Loop *loop, const ConnTarget *target, const RunRecord *run,
                              Arena *arena, Err *err);

/* phase/cleanup.c: end the run's sessions, all but `spare_pid` (0 = none); waits until they are gone. */
NODISCARD bool cleanup_end_sessions(Conn *conn, const RunNames *names, int spare_pid, Err *err);

/* phase/cleanup.c: drop materialized views that were to replace those on the original. */
NODISCARD bool cleanup_drop_matviews(Conn *conn, const ConnTarget *target, const RunNames *names,
                                     Err *err);

/* Close apply, the stream and the keeper, for good. */
void migration_close_sessions(Migration *run);

/*
 * Open the control session anew after it was lost, waiting some seconds for a server that is not
 * there, and show with it that the run is alive.
 */
NODISCARD bool migration_reconnect(Migration *run, Err *err);

/* Open one more session of this run: "walter: <run> <purpose>". */
Conn *migration_connect(Migration *run, ConnKind kind, const char *purpose, Err *err);

/* The same, acting with the rights of the table's owner. */
Conn *migration_connect_owner(Migration *run, ConnKind kind, const char *purpose, Err *err);

/*
 * Let no statement of the session wait for a lock for more than a second: it may be one of our own
 * that somebody waits for, and then the wait would have no end that the server can see.
 */
NODISCARD bool migration_limit_lock_waits(Conn *conn, Err *err);

/* Append a text (copied into the run's arena), unless it is there already. */
void sql_list_add_once(Migration *run, SqlList *list, const char *text);

/* Append a text (copied into the run's arena). */
void sql_list_add(Migration *run, SqlList *list, const char *text);

/*
 * Fail when the original's definition is not what the run knows, or when its rows were rewritten by
 * an ALTER TABLE.  ERR_RETRY when somebody's lock keeps the catalog from being read; ask again later.
 */
NODISCARD bool migration_check_definition(Migration *run, Conn *conn, Err *err);

/* The same, but follow a change that can be followed. */
NODISCARD bool migration_follow_definition(Migration *run, Conn *conn, Err *err);

/*
 * Fail when the publication is not the very one that the run made; the first call notes which that
 * is.  Changes that it did not publish are lost, on 18 without an error.
 */
NODISCARD bool migration_check_publication(Migration *run, Conn *conn, Err *err);

/* ERR_STOPPED when `walter abort` has asked for that; then all of the run is removed. */
NODISCARD bool migration_check_abort(Migration *run, Err *err);

/*
 * migration_check_abort and capture_check_asynchronous, every few seconds: for long waits, in which
 * a changed definition is not followed.
 */
NODISCARD bool migration_check_others(Migration *run, Err *err);

/*
 * All of that, capture_check_asynchronous and walguard_look, every few seconds: for steps that come
 * round often.
 */
NODISCARD bool migration_check_now_and_then(Migration *run, Err *err);

/* At a phase's end: `next` when the definition holds, STEP_MORE when it cannot be read just now. */
NODISCARD Step migration_check_step(Migration *run, Step next, Err *err);

/* Walk the road from the run's first phase to its last, and show progress meanwhile. */
NODISCARD bool migration_walk(Migration *run, Err *err);

/* `walter perform`, whole. */
NODISCARD bool perform_run(const Settings *settings, Err *err);

/* `walter cleanup` and `walter abort`, whole. */
NODISCARD bool cleanup_run(const Settings *settings, Err *err);
NODISCARD bool abort_run(const Settings *settings, Err *err);

#endif
