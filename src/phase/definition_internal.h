/*
 * Shared by the modules that make up a definition; nobody else includes it.
 *   definition.c        columns, options, checks, triggers; the order of it all
 *   definition_index.c  indexes and the constraints on them
 *   definition_keys.c   foreign keys, both ways, and the stand-ins of their other tables
 *   definition_partitioned.c  foreign keys from partitioned tables
 *   definition_owned.c  sequences and privileges
 *   definition_rules.c  row level security and rules
 *   definition_statistics.c  extended statistics
 *   definition_publication.c  membership in publications
 *   definition_labels.c  security labels
 *   definition_trigger_from.c  other tables' triggers that name the table
 *   definition_extension.c  membership in extensions
 *   definition_partition.c  the place of a partition in its parent
 *   definition_tree.c  the tables below a partitioned one
 *
 * Two parameters come first in nearly every query: $1 the oid of the table that is read, $2 the
 * table that its SQL is to be about, quoted and qualified.
 */
#ifndef WALTER_DEFINITION_INTERNAL_H
#define WALTER_DEFINITION_INTERNAL_H

#include "phase/definition.h"

/* The parameters of a query; the rest of `params` is NULL. */
typedef struct Subject {
    char *oid; /* $1 */
    const char *params[8];
} Subject;

void definition_subject_done(Subject *subject);

/* Declare a Subject with its first three parameters. */
#define SUBJECT_AUTO(name, oid_value, second, third)     \
    __attribute__((cleanup(definition_subject_done)))    \
    Subject name = {.oid = mem_format("%u", oid_value)}; \
    name.params[0] = name.oid;                           \
    name.params[1] = second;                             \
    name.params[2] = third

/* Run a query that gives SQL, then run that SQL: all columns of a row, row by row. */
NODISCARD bool definition_run(Conn *conn, const char *query, const Subject *subject, Err *err);

/* Append the first column of a query's rows to a list. */
NODISCARD bool definition_list(Migration *run, Conn *conn, const char *query,
                               const Subject *subject, SqlList *list, Err *err);

/* Append a text unless it is NULL or empty. */
void definition_add(Migration *run, SqlList *list, const char *text);

/* definition.c; each of these is about one table, and so can be about one of a tree */
NODISCARD bool definition_clone_columns(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_clone_triggers(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_surface(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_flags(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_triggers(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_strip_table(Migration *run, Conn *conn, Err *err);

/* definition_tree.c; all of these do nothing for an ordinary table */
/* The bare clones of all tables below the original, attached to each other. */
NODISCARD bool definition_create_branches(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_clone_branch_indexes(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_clone_branch_keys(Migration *run, Conn *conn, Err *err);
/* Theirs, and then those of the original that these are to become. */
NODISCARD bool definition_read_tree_keys(Migration *run, Conn *conn, Err *err);
/* What else hangs on them. */
NODISCARD bool definition_clone_branches(Migration *run, Conn *conn, Err *err);
/* Leaves the shapes of the altered branches in run->branches. */
NODISCARD bool definition_read_branch_shapes(Migration *run, Conn *conn, Err *err);
/* Theirs, and the statements that attach them to those of their parents. */
NODISCARD bool definition_read_branch_indexes(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_attach_branch_indexes(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_branches(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_strip_branches(Migration *run, Conn *conn, Err *err);

/* definition_index.c */
NODISCARD bool definition_clone_indexes(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_indexes(Migration *run, Conn *conn, Err *err);
/* Those of the table that the shadow is, and one on its key where it has none. */
NODISCARD bool definition_read_own_indexes(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_ensure_key_index(Migration *run, Conn *conn, Err *err);

/* definition_keys.c */
NODISCARD bool definition_clone_keys(Migration *run, Conn *conn, Err *err);
/* The keys of table `oid`, for its clone (quoted, qualified). */
NODISCARD bool definition_clone_keys_of(Migration *run, Conn *conn, uint32_t oid, const char *clone,
                                        Err *err);
NODISCARD bool definition_read_keys(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_parent_keys(Migration *run, Conn *conn, Err *err);
/* Which foreign keys may be violated by rows that are there already. */
NODISCARD bool definition_read_key_checks(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_drop_own_keys(Migration *run, Conn *conn, Err *err);
/* The same, and the tables at the other ends become partners. */
NODISCARD bool definition_drop_old_keys(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_clone_hidden_triggers(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_hidden_triggers(Migration *run, Conn *conn, Err *err);

/* definition_partition.c */
NODISCARD bool definition_clone_partition(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_partition(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_strip_partition(Migration *run, Conn *conn, Err *err);
/* NOT NULL that a partition has of its own beside its parent's, for its clone, and for `target`. */
NODISCARD bool definition_clone_own_not_null(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_own_not_null(Migration *run, Conn *conn, const char *target,
                                            SqlList *list, Err *err);

/* definition_owned.c */
NODISCARD bool definition_clone_sequences(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_sequences(Migration *run, Conn *conn, Err *err);
/* Refuse to leave behind with the old table what others use. */
NODISCARD bool definition_check_sequences(Migration *run, Conn *conn, Err *err);

/* definition_rules.c */
NODISCARD bool definition_clone_rules(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_rules(Migration *run, Conn *conn, Err *err);

/* definition_statistics.c */
NODISCARD bool definition_clone_statistics(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_statistics(Migration *run, Conn *conn, Err *err);
/* After all others: objects that have lost their originals meanwhile. */
NODISCARD bool definition_drop_other_statistics(Migration *run, Conn *conn, Err *err);

/* definition_publication.c */
NODISCARD bool definition_clone_publications(Migration *run, Conn *conn, Err *err);
/* The shadow leaves the publications again. */
NODISCARD bool definition_read_publications(Migration *run, Conn *conn, Err *err);

/* definition_trigger_from.c */
NODISCARD bool definition_read_triggers_from(Migration *run, Conn *conn, Err *err);

/* definition_labels.c */
NODISCARD bool definition_clone_labels(Migration *run, Conn *conn, Err *err);
NODISCARD bool definition_read_labels(Migration *run, Conn *conn, Err *err);

/* definition_extension.c */
NODISCARD bool definition_read_extensions(Migration *run, Conn *conn, Err *err);

/* A foreign key of a partitioned table, which references the shadow. */
typedef struct PartitionedKey {
    const char *table;   /* quoted */
    const char *name;    /* not quoted */
    const char *add;     /* the statement that makes it */
    const char *comment; /* the statement that comments on it, or NULL */
} PartitionedKey;

/* definition_partitioned.c */
NODISCARD bool definition_read_partitioned_key(Migration *run, Conn *conn,
                                               const PartitionedKey *key, Err *err);

#endif
