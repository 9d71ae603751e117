/*
 * How fast the copy may go: --max-rate, a limit for all pipes together, and --nice, the share of its
 * time for which each of them sleeps; that may have to be more for a while.  Pure: no clock, no I/O.
 */
#ifndef WALTER_PACE_H
#define WALTER_PACE_H

#include <stdint.h>

typedef struct Pace {
    int64_t max_rate; /* bytes per second, 0 = no limit */
    int nice;         /* percent of the time asleep, 0..99 */
    int brake;        /* the same where it must be slowed; the larger of both counts */
    int64_t paid_us;  /* until when what has been copied takes up max_rate */
} Pace;

/* The most bytes of a chunk, so that there are some chunks a second; at most `most`. */
int64_t pace_chunk_bytes(const Pace *pace, int64_t most);

/*
 * A chunk of `bytes` was begun at `began_us` and is done at `now_us`: when may its pipe begin the
 * next one?  Microseconds of one clock.
 */
int64_t pace_next(Pace *pace, int64_t bytes, int64_t began_us, int64_t now_us);

#endif
