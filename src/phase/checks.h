/*
 * The preflight checks as data: each is one query that gives a row for each objection, and none when
 * all is well.
 */
#ifndef WALTER_CHECKS_H
#define WALTER_CHECKS_H

/*
 * Columns: the objection (one line, names quoted), and what to do about it.
 * Parameters of all: $1 oid of the table, $2 connections that the run will open, $3 'pgoutput' or
 * 'wal2json', $4 what the operator has consented to: 'all-tables-publication', or nothing.
 */
typedef struct Check {
    const char *name; /* for the documentation and the tests */
    const char *sql;
} Check;

/* About the server and the role; in order, ended by a NULL name. */
extern const Check CHECKS_SERVER[];

/* Is it a table at all, and may we work on it?  Where not, the others make no sense. */
extern const Check CHECKS_FIRST[];

/* About the table; in order, ended by a NULL name. */
extern const Check CHECKS_TABLE[];

/* checks_tree.c: about a partitioned table and all below it; ended by a NULL name. */
extern const Check CHECKS_TREE[];

/* checks_partition.c: about a table that is a partition; ended by a NULL name. */
extern const Check CHECKS_PARTITION[];

#endif
