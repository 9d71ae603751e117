/*
 * Shared by the modules that make up the staging tables; nobody else includes it.
 *   stage.c          the tables, net operations   stage_ordered.c  one change after the other
 *   stage_copy.c     rows into them               stage_sql.c      statements over them
 *   stage_fill.c     values that were not sent     stage_keys.c     rows to be copied anew
 */
#ifndef WALTER_STAGE_INTERNAL_H
#define WALTER_STAGE_INTERNAL_H

#include "base/buf.h"
#include "phase/stage.h"

/*
 * Net operations wait in the first, changes to be applied in order in the second (with an index).
 * In both, values read from the original are a row of their own, with the change's number.
 */
#define STAGE_TABLE "pg_temp.walter_stage"
#define STAGE_LINE_TABLE "pg_temp.walter_line"

typedef struct Prepared Prepared;
typedef struct Sets Sets;

/* Columns of the original, most often one. */
typedef struct UseList {
    int *columns;
    int count;
} UseList;

struct Stage {
    Migration *run;
    Conn *conn;
    const Leaf *leaf; /* which changes are about */
    RowKey key;
    const char *set_name; /* unquoted name of the column that numbers sets */
    const char *columns;  /* ", " and the quoted columns that COPY fills, behind the two of ours */
    const char *names;    /* all the original's columns, quoted, each with ", " behind it */
    const char **key_equal; /* per key column of the original: "operator(pg_catalog.=)" */
    UseList *uses;          /* per output: what it depends on, generated columns resolved */
    bool may_mix;           /* some output can depend on sent and on unsent columns at once */
    StageBatch batch;
    bool is_visible; /* a new snapshot of the reader sees all that the batch came from */
    int next_seq;    /* both count on through a transaction, so that no number comes twice */
    int next_set;
    int key_set; /* of the keys that are being staged */
    Sets *sets;  /* of stage_send, in the batch's arena */
    Prepared *statements;
    int statement_count;
    int statement_size;
    Arena *statement_arena; /* what `statements` point to */
    Buf data;               /* of a COPY under way, not yet handed to libpq */
    Conn *reader;           /* reads the original; NULL until it is needed */
};

/*
 * Were the columns that an output depends on sent, not sent, or some of each?  USE_MIXED is also
 * an output of several columns, none of them sent, where the key changes; see stage_use_of.
 */
typedef enum { USE_NOTHING, USE_SENT, USE_UNSENT, USE_MIXED } Use;

/* What an UPDATE brings. */
typedef struct Brought {
    const bool *present; /* per column of the original: sent */
    bool changes_key;
} Brought;

/* Which outputs an UPDATE sets. */
typedef struct SetRule {
    Brought brought;
    bool with_key;      /* the key may have changed */
    const char *filled; /* filter of the rows read from the original, for mixed outputs; or NULL */
} SetRule;

/* stage.c */
bool *stage_present(const Stage *stage, const Datum *row, Arena *arena);
/* Does an UPDATE that brings these columns need a value that only the original has? */
bool stage_needs_original(const Stage *stage, const Brought *brought);

/* stage_copy.c: a COPY of rows into `table`, begin, add, end */
bool stage_is_sent(const Stage *stage, int column);
NODISCARD bool stage_begin_copy(Stage *stage, const char *table, Err *err);
NODISCARD bool stage_add_row(Stage *stage, int seq, int set, const Datum *row, Err *err);
NODISCARD bool stage_end_copy(Stage *stage, Err *err);
/*
 * A COPY begins with these settings and ends with the other call: values that travel as text are
 * read with the formats they were written in, and expressions run with those of the role.
 */
void stage_add_copy_settings(const Stage *stage, Buf *sql);
NODISCARD bool stage_end_copy_settings(Stage *stage, Err *err);
/* " (format binary)" or "" */
const char *stage_copy_format(const Stage *stage);

/* Staged rows that need values which were not sent. */
typedef struct FillWork {
    const char *table;
    int set;
    const char *seqs; /* only these rows of the set, "{1,2}"; NULL = all of it */
    Brought brought;  /* what they have */
    int new_set;      /* of the rows that are read */
} FillWork;

/*
 * stage_fill.c: stage, for each of the rows, all that its mixed outputs depend on, as the original has
 * it now: values of one version of the row, which may be newer than the change.  *rows is new and
 * has the seq of each row that was found.  A row that is gone from the original, or whose key has
 * changed since, is left out: it has more changes to come.
 */
NODISCARD bool stage_fill(Stage *stage, const FillWork *work, Rows **rows, Err *err);

/*
 * stage_sql.c: append statements over the staged rows of `table` that match `filter`; the rows whose
 * key is the one to look for match `old_filter`.
 */
Use stage_use_of(const Stage *stage, int output, const Brought *brought);
void stage_add_projected(const Stage *stage, Buf *sql, const char *table, const char *filter,
                         const char *alias);
void stage_add_key_match(const Stage *stage, Buf *sql, const char *alias);
void stage_build_insert(const Stage *stage, Buf *sql, const char *table, const char *filter);
void stage_build_delete(const Stage *stage, Buf *sql, const char *table, const char *filter);
void stage_build_update(const Stage *stage, Buf *sql, const char *table, const char *filter,
                        const SetRule *rule);
void stage_build_key_update(const Stage *stage, Buf *sql, const char *filter,
                            const char *old_filter, const SetRule *rule);

/*
 * An UPDATE under a copy statement, which may give a row or not, in three steps: remove what it no
 * longer gives, change what it gives, add what is missing.  MOVE alone gives the row its new key.
 */
typedef enum { COPY_REMOVE = 0, COPY_CHANGE = 1, COPY_ADD = 2, COPY_MOVE = 3 } CopyStep;
typedef struct CopyUpdate {
    const char *table;
    const char *filter;
    const char *old_filter;
} CopyUpdate;
void stage_build_copy_update(const Stage *stage, Buf *sql, CopyStep step, const CopyUpdate *update);

#endif
