/*
 * Shared by the modules that make up the staging table; nobody else includes it.
 *   stage.c          net operations       stage_ordered.c  one change after the other
 *   stage_copy.c     rows into it         stage_sql.c      statements over it
 */
#ifndef WALTER_STAGE_INTERNAL_H
#define WALTER_STAGE_INTERNAL_H

#include "base/buf.h"
#include "phase/stage.h"

/* Net operations wait in one, changes to be applied in order in the other (with an index). */
#define STAGE_TABLE "pg_temp.walter_stage"
#define STAGE_LINE_TABLE "pg_temp.walter_line"

/* A prepared single-row statement of the ordered path. */
typedef struct Prepared {
    ChangeKind kind;
    bool changes_key;
    const bool *present; /* UPDATE: which columns were sent */
} Prepared;

struct Stage {
    Migration *run;
    Conn *conn;
    RowKey key;
    const char *set_name; /* unquoted name of the column that numbers sets */
    const char *columns;  /* ", " and the quoted columns that COPY fills, behind the two of ours */
    const char *names;    /* all the original's columns, quoted, each with ", " behind it */
    const bool **uses;    /* per output: what it depends on, generated columns resolved */
    int next_set;
    Prepared *statements; /* in the arena of the run */
    int statement_count;
    int statement_size;
    Buf data; /* COPY data not yet handed to libpq */
};

/* Were the columns that an output depends on sent, not sent, or some of each? */
typedef enum { USE_NOTHING, USE_SENT, USE_UNSENT, USE_MIXED } Use;

/* Which outputs an UPDATE sets. */
typedef struct SetRule {
    const bool *present; /* per column of the original: sent */
    bool with_key;       /* the key may have changed */
    bool with_mixed;     /* values that were not sent have been filled in */
} SetRule;

/* stage_copy.c */
bool stage_is_sent(const Stage *stage, int column);
NODISCARD bool stage_begin_copy(Stage *stage, const char *table, Err *err);
NODISCARD bool stage_add_row(Stage *stage, int seq, int set, const Datum *row, Err *err);
NODISCARD bool stage_flush_if_large(Stage *stage, Err *err);
NODISCARD bool stage_end_copy(Stage *stage, Err *err);

/* stage_sql.c: append statements over the staged rows of `table` that match `filter` */
Use stage_use_of(const Stage *stage, int output, const bool *present);
void stage_add_projected(const Stage *stage, Buf *sql, const char *table, const char *filter,
                         const char *alias);
void stage_add_key_match(const Stage *stage, Buf *sql, const char *alias);
void stage_build_insert(const Stage *stage, Buf *sql, const char *table, const char *filter);
void stage_build_delete(const Stage *stage, Buf *sql, const char *table, const char *filter);
void stage_build_update(const Stage *stage, Buf *sql, const char *table, const char *filter,
                        const SetRule *rule);
/* An UPDATE that finds its row by the key in the rows matching `old_filter`. */
void stage_build_key_update(const Stage *stage, Buf *sql, const char *filter,
                            const char *old_filter, const SetRule *rule);

#endif
