/* Time; see clock.h. */
#include "clock.h"

#include <time.h>

static int64_t
read_us(clockid_t which)
{
    struct timespec now;

    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t
clock_now_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t
clock_postgres_us(void)
{
    /* 10957 days lie between the two epochs */
    return read_us(CLOCK_REALTIME) - INT64_C(10957) * 86400 * 1000000;
}
