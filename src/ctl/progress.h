/*
 * The progress line: phase, share done, rate, changes, lag, time left.  Pure text; who prints it
 * and when is the driver's business.  What matters most comes first, because a terminal may be
 * narrow.
 */
#ifndef WALTER_PROGRESS_H
#define WALTER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

typedef struct Progress {
    const char *phase;  /* words of the phase table */
    int64_t elapsed_us; /* since the run began */
    int64_t phase_us;   /* since the phase began */
    /* copy; 0 of 0 in other phases */
    int64_t blocks_done;
    int64_t blocks_total;
    int64_t rows_copied;
    /* of these, before the phase began */
    int64_t blocks_before;
    int64_t rows_before;
    /* index; 0 of 0 in other phases */
    int64_t indexes_done;
    int64_t indexes_total;
    int64_t attempts; /* cutover; 0 in other phases */
    /* the stream; not shown before there is one */
    bool has_stream;
    int64_t changes_applied;
    int64_t changes_waiting;  /* received, not yet applied */
    int64_t spooled_bytes;    /* of these, on disk */
    bool is_paused;           /* nothing is read, because as much is waiting as may */
    int64_t lag_bytes;        /* WAL that the server has and we have not applied */
    int64_t wal_held_bytes;   /* by the slot; shown where there is a budget */
    int64_t wal_budget_bytes; /* 0 = none */
    double lag_growth; /* bytes per second lately, while there is only lag to wait for; or 0 */
    bool falls_behind; /* for some time more has come than was applied */
} Progress;

/* Append the line to `out`. */
void progress_add(const Progress *progress, Buf *out);

/* Append a duration as people write it: "850 ms", "12.3 s", "4 min 05 s", "2 h 10 min". */
void progress_add_duration(int64_t us, Buf *out);

/* Append a byte count: "512 B", "3.2 MB". */
void progress_add_bytes(int64_t bytes, Buf *out);

#endif
