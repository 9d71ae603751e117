/*
 * The locks of the swap: on the views that read the original, on the original itself and on the
 * tables that foreign keys, rules and policies tie to it, in one transaction, in pulses that cost the application little.  Says who was in the way; does not wait
 * between two attempts and does not decide how many there are.
 */
#ifndef WALTER_LOCKS_H
#define WALTER_LOCKS_H

#include "phase/migration.h"

/* A table, or a view that reads one of them. */
typedef struct LockedTable {
    const char *name; /* quoted */
    uint32_t oid;
    const char *patient;   /* SQL that takes the lock against VACUUM and DDL; NULL = needs none */
    const char *exclusive; /* SQL that takes ACCESS EXCLUSIVE on it and on nothing else */
} LockedTable;

typedef struct Locks {
    Conn *conn;          /* borrowed: the session that takes them, and nothing else */
    LockedTable *tables; /* in the order in which they are locked, which attempts improve */
    int table_count;
    int64_t began_us;   /* --wait-time-for-lock counts from here */
    int64_t patient_ms; /* lock_timeout of the locks that disturb nobody */
    int64_t granted_us; /* when the first exclusive lock was granted */
    char *in_the_way;   /* who the last attempt waited for, "" = nobody was seen */
} Locks;

/* Read which tables there are and how long the server's autovacuum must be waited for. */
NODISCARD bool locks_init(Migration *run, Conn *conn, Locks *locks, Err *err);
void locks_done(Locks *locks);

/*
 * One attempt: BEGIN and all the locks.  Goes on applying while that costs nobody anything.
 * ERR_RETRY when a lock is not granted in time, with who is in the way; the caller rolls back.  Ends
 * sessions in the way where --kill-backends says so.
 */
NODISCARD bool locks_take(Migration *run, Locks *locks, Err *err);

#endif
