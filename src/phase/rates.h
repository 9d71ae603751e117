/*
 * Do changes come faster than they are applied?  What some looks, about a second apart, tell of the
 * last ten seconds.  Pure: no clock, no I/O.
 */
#ifndef WALTER_RATES_H
#define WALTER_RATES_H

#include <stdbool.h>
#include <stdint.h>

/* What was there at one moment, counted from any beginning. */
typedef struct RateSample {
    int64_t at_us;
    int64_t written_rows; /* by the application */
    int64_t applied_rows;
    int64_t lag_bytes; /* WAL that is not applied */
} RateSample;

enum { RATES_SAMPLES = 12 };

/* Zero is empty. */
typedef struct Rates {
    RateSample samples[RATES_SAMPLES]; /* the oldest first */
    int count;
} Rates;

/*
 * Add what a look has found; after a long time without one, or when somebody has reset the server's
 * counts, all begins anew.
 */
void rates_add(Rates *rates, const RateSample *sample);

/* Per second, in the time that the samples are about; 0 while that is too short to tell. */
double rates_written(const Rates *rates);
double rates_applied(const Rates *rates);

/* By so many bytes per second the lag grows; negative when it shrinks, 0 while nobody knows. */
double rates_lag_growth(const Rates *rates);

/* All the time, and with a backlog worth speaking of, more came than was applied. */
bool rates_fall_behind(const Rates *rates);

/* More was applied than came, lately and in all the time, and lately the lag has shrunk. */
bool rates_catch_up(const Rates *rates);

#endif
