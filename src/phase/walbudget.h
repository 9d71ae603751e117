/*
 * How much WAL the replication slot may hold back: what is to be said and done as it becomes more.
 * Pure: no clock, no I/O; walguard.h looks and acts.
 *
 * The budget is the smaller of --max-wal and of the server's own limit, beyond which it drops the
 * slot.  Where there is neither, twice of what the run was expected to write is worth a word, and
 * nothing else happens.
 */
#ifndef WALTER_WALBUDGET_H
#define WALTER_WALBUDGET_H

#include <stdbool.h>
#include <stdint.h>

/* A budget or limit that there is not. */
#define WALBUDGET_NONE INT64_MAX

/* Zero, with max_bytes and expected_bytes filled in, is the beginning. */
typedef struct WalBudget {
    int64_t max_bytes;      /* --max-wal, WALBUDGET_NONE = not given */
    int64_t expected_bytes; /* what the copy and the index builds are likely to write */
    /* as of the last look */
    int64_t held_bytes;
    int64_t budget_bytes;
    bool is_servers; /* it is the server's limit that counts */
    /* what was said */
    int64_t warned_bytes; /* so much was held back when it was last warned of, 0 = it was not */
    bool is_slowed;
} WalBudget;

/* What one look at the slot finds. */
typedef struct WalLook {
    int64_t held_bytes;
    int64_t limit_bytes; /* from so many on the server may drop the slot; WALBUDGET_NONE = never */
    bool is_copying;
} WalLook;

/* What is to be said and done now; any number of them. */
enum {
    WALBUDGET_WARN = 1,   /* half of the budget, and when it has grown by half since */
    WALBUDGET_SLOW = 2,   /* from 80 percent on the copy is to be slowed */
    WALBUDGET_UNSLOW = 4, /* below 70 percent it is not any more */
    WALBUDGET_STOP = 8    /* all of it: the run is to stop itself; comes alone */
};

/* Judge a look; the result is a sum of the above. */
unsigned walbudget_judge(WalBudget *budget, const WalLook *look);

/* The smaller one, of which either may be WALBUDGET_NONE. */
int64_t walbudget_smaller(int64_t a_bytes, int64_t b_bytes);

/* The share of the budget that is held back, in percent; 0 without a budget. */
int walbudget_percent(const WalBudget *budget);

/* The share of its time for which the copy is to sleep: 0, or 50 to 90 percent. */
int walbudget_brake(const WalBudget *budget);

#endif
