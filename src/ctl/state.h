/*
 * The run's state row: schema "walter", one row per run in walter.run, and per run a fence table and
 * a position table beside it.
 *
 * Everything that creates something on the server records it here first, so that cleanup drops
 * exactly what the run made.  This is the only module that writes walter.run; the position row is
 * written by apply inside the batch's own transaction, with the statement that state_position_sql
 * gives.
 */
#ifndef WALTER_STATE_H
#define WALTER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "lsn.h"
#include "pg/query.h"

/* The names that a run uses on the server; all consist of [a-z0-9_] but the table's own. */
typedef struct RunNames {
    const char *run;           /* run id, 8 hex digits */
    const char *schema;        /* walter_<run>: where the old table goes */
    const char *shadow_schema; /* walter_<run>_new: the shadow until the swap.  Not the same as
                             * `schema`: the tables share the names of all their indexes,
                             * constraints and sequences, so they can never share a schema */
    const char *rehearsal;     /* walter_<run>_r: stand-ins, gone before anything is committed */
    const char *slot;          /* walter_<run> */
    const char *publication;   /* walter_<run> */
    const char *fence;         /* walter.fence_<run>, qualified */
    const char *fence_name;    /* fence_<run> */
    const char *position;      /* walter.position_<run>, qualified */
    const char *copied;        /* walter.copied_<run>: blocks that are copied */
    const char *touched;       /* walter.touched_<run>: keys whose rows are to be copied anew */
    const char *built;         /* walter.built_<run>: statements of the index phase that are done */
} RunNames;

/* The names that belong to a run id, in `arena`. */
RunNames state_names(const char *run, Arena *arena);

/* What walter.run says of one run. */
typedef struct RunRecord {
    RunNames names;
    const char *phase;
    uint32_t original_oid;
    uint32_t shadow_oid; /* 0 before the shadow exists */
    const char *table;   /* quoted, qualified: as the operator knows it */
    const char *started_at;
    const char *statement;
    const char *former_identity; /* replica identity to be restored, or NULL */
    const char *system_identifier;
    const char *plugin;
    int timeline;
    bool is_resumable;  /* its facts are noted: it had got as far as the copy */
    bool alive;         /* a session holds the run's advisory lock */
    bool is_unfinished; /* something is left of what was to be done after the swap */
} RunRecord;

/*
 * Create schema walter and walter.run where they do not exist, in the transaction that the caller
 * has open: a run that is refused leaves not even these.  Preflight has checked the privileges.
 * *keeps_unfinished: can the row say what is still to be done after the swap?  *keeps_facts: can it
 * hold what a run needs to be resumed?
 */
NODISCARD bool state_prepare(Conn *conn, bool *keeps_unfinished, bool *keeps_facts, Err *err);

/*
 * Take the session-level advisory lock on the table: the run's life sign, and what keeps a second
 * run off.  ERR_REFUSED when another session holds it.
 */
NODISCARD bool state_lock_table(Conn *control, uint32_t table_oid, Err *err);

/*
 * End the session with that server process id, if it is the one that holds the lock.  *ended: it was.
 * One whose connection is frozen would hold it until the server misses its client.
 */
NODISCARD bool state_end_holder(Conn *control, uint32_t table_oid, int pid, bool *ended, Err *err);

/* A new run id that no schema, slot or row uses; in `arena`. */
NODISCARD bool state_new_run(Conn *control, Arena *arena, const char **run, Err *err);

typedef struct RunStart {
    uint32_t original_oid;
    uint32_t shadow_oid;
    const char *table; /* quoted, qualified */
    const char *owner; /* unquoted */
    const char *statement;
    const char *plugin;
    int apply_jobs; /* sessions that apply, each with a position of its own */
    const char
        *key_columns;      /* SQL: the original's key columns with their types, ", " before each */
    const char *key_names; /* the same without types */
} RunStart;

/*
 * Insert the run's row, and create its helper tables.  The caller has a transaction
 * open, in which it also creates the shadow: either all of it exists or nothing.
 */
NODISCARD bool state_start_run(Conn *conn, const RunNames *names, const RunStart *start, Err *err);

/*
 * Note which replica identity the original had ("default", "full", "nothing") and which index is to
 * be it, in the transaction that the caller has open.  Older state tables get the columns for it.
 */
NODISCARD bool state_note_identity(Conn *conn, const RunNames *names, uint32_t index_oid,
                                   const char *former, Err *err);

/* Note the phase that begins.  ERR_FAILED where somebody has deleted the row. */
NODISCARD bool state_set_phase(Conn *control, const RunNames *names, const char *phase, Err *err);

/* Is there still a row to note things in?  ERR_FAILED where somebody has deleted it. */
NODISCARD bool state_check_row(Conn *control, const RunNames *names, Err *err);

/* SQL (one statement) that notes the phase; for the swap's own transaction.  New, free(). */
char *state_phase_sql(const RunNames *names, const char *phase);

/*
 * The UPDATE that notes the swap, and the `count` statements that are to be run after it, each in a
 * transaction of its own.  New text, free().
 */
char *state_swapped_sql(const RunNames *names, const char *const *todo, int count);

/* One of these statements needs to be run no more. */
NODISCARD bool state_note_done(Conn *control, const RunNames *names, const char *statement,
                               Err *err);

/*
 * Fail when somebody could have written statements into the row that he may not run himself, for
 * this role to run them.
 */
NODISCARD bool state_check_writers(Conn *control, Err *err);

/* Those that are left, in order; in `arena`. */
NODISCARD bool state_read_todo(Conn *control, const RunNames *names, Arena *arena,
                               const char ***todo, int *count, Err *err);

/* Note why the run failed. */
NODISCARD bool state_set_error(Conn *control, const RunNames *names, const char *message, Err *err);

/*
 * Facts: what a later process must know, or find unchanged, to go on with the run; named texts in the
 * row.  Noting one that is there replaces it.
 */
typedef struct Fact {
    const char *name;
    const char *value;
} Fact;
NODISCARD bool state_note_facts(Conn *control, const RunNames *names, const Fact *facts, int count,
                                Err *err);

/* All facts of the run; *rows is new.  The text of one of them: "" when it was not noted. */
NODISCARD bool state_read_facts(Conn *control, const RunNames *names, Rows **rows, Err *err);
const char *state_fact(const Rows *rows, const char *name);

/*
 * The statement and a note, in walter.built_<run>, that it was done: together they are one
 * transaction.  New text, free().
 */
char *state_built_sql(const RunNames *names, const char *statement);

/* Ask whoever works on the run to end it and remove all of it; was that asked? */
NODISCARD bool state_ask_abort(Conn *control, const RunNames *names, Err *err);
NODISCARD bool state_is_abort_asked(Conn *control, const RunNames *names, bool *asked, Err *err);

/* Is this the server, and the history of it, that the run was begun on? */
NODISCARD bool state_check_server(Conn *control, const RunRecord *record, bool *same, Err *err);

/* How far apply has come; part of the batch's transaction. */
typedef struct Position {
    Lsn end_lsn;     /* end of the last transaction that was applied completely */
    Lsn open_lsn;    /* commit LSN of the transaction that is applied in part, or 0 */
    int64_t ordinal; /* row changes of the open transaction already applied */
    int64_t changes; /* changes applied in all */
} Position;

/* Negative, 0 or positive: which is further. */
int position_compare(const Position *one, const Position *other);

/* A batch that was not divided reaches one position for all sessions that apply. */
enum { POSITION_OF_ALL = -1 };

/* The UPDATE that stores the position of one of them, counted from 0.  New text, free(). */
char *state_position_sql(const RunNames *names, int worker, const Position *position);

/* All positions of the run, that of apply's own session first.  *positions is in `arena`. */
NODISCARD bool state_read_positions(Conn *control, const RunNames *names, Arena *arena,
                                    Position **positions, int *count, Err *err);

/* Store one position for each of so many sessions. */
NODISCARD bool state_reset_positions(Conn *control, const RunNames *names, int count,
                                     const Position *position, Err *err);

/*
 * Write the next marker into the fence table (committed, WAL flushed).  It is greater than all that
 * were written before, by whichever process: after an interruption the stream brings the latest of
 * them again.  ERR_FAILED where the row is gone.
 */
NODISCARD bool state_write_fence(Conn *control, const RunNames *names, int64_t *marker, Err *err);

/* All runs that walter.run knows and that are not done, or left something, oldest first; *runs is in `arena`. */
NODISCARD bool state_list_unfinished(Conn *control, Arena *arena, RunRecord **runs, int *count,
                                     Err *err);

/* The phase of a run as stored; in `arena`, NULL when the run is not recorded. */
NODISCARD bool state_read_phase(Conn *control, const RunNames *names, Arena *arena,
                                const char **phase, Err *err);

/* Drop the run's helper tables; `forget` also deletes its row. */
NODISCARD bool state_end_run(Conn *control, const RunNames *names, bool forget, Err *err);

#endif
