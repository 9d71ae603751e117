/* Time.  Intervals are monotonic microseconds; wall clock is only for people and the server. */
#ifndef WALTER_CLOCK_H
#define WALTER_CLOCK_H

#include <stdint.h>

/* Monotonic microseconds since some fixed moment. */
int64_t clock_now_us(void);

/* Wall clock as microseconds since 2000-01-01 00:00 UTC, PostgreSQL's epoch. */
int64_t clock_postgres_us(void);

#endif
