/*
 * The sequences of a table's columns, across the swap: those that a column owns change hands, those
 * behind an identity column are new and take over the position.
 */
#ifndef WALTER_SEQUENCES_H
#define WALTER_SEQUENCES_H

#include "phase/migration.h"

/* Before the ALTER: remember which sequences the clone has, to tell them from what the ALTER makes. */
NODISCARD bool sequences_mark(Migration *run, Conn *conn, Err *err);

/* After the ALTER: add what the swap must do to run->definition. */
NODISCARD bool sequences_read(Migration *run, Conn *conn, Err *err);

#endif
