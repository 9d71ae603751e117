/*
 * The progress line: phase, share done, rate, changes, lag, time left.  Pure text; who prints it
 * and when is the driver's business.
 */
#ifndef WALTER_PROGRESS_H
#define WALTER_PROGRESS_H

#include "base/buf.h"

typedef struct Progress {
    const char *phase;   /* word of the phase table */
    int64_t elapsed_us;  /* since the run began */
    int64_t phase_us;    /* since the phase began */
    int64_t blocks_done; /* copy; 0 of 0 in other phases */
    int64_t blocks_total;
    int64_t rows_copied;
    int64_t changes_applied;
    int64_t changes_waiting; /* received, not yet applied */
    int64_t lag_bytes;       /* WAL that the server has and we have not applied */
} Progress;

/* Append the line for `now` to `out`. */
void progress_add(const Progress *progress, Buf *out);

/* Append a duration as people write it: "850 ms", "12.3 s", "4 min 05 s", "2 h 10 min". */
void progress_add_duration(int64_t us, Buf *out);

/* Append a byte count: "512 B", "3.2 MB". */
void progress_add_bytes(int64_t bytes, Buf *out);

#endif
