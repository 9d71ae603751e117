/* How fast the copy may go; see pace.h. */
#include "phase/pace.h"

enum { CHUNKS_PER_SECOND = 4 };

int64_t
pace_chunk_bytes(const Pace *pace, int64_t most)
{
    int64_t bytes = pace->max_rate / CHUNKS_PER_SECOND;

    return pace->max_rate == 0 || bytes > most ? most : bytes;
}

int64_t
pace_next(Pace *pace, int64_t bytes, int64_t began_us, int64_t now_us)
{
    int asleep = pace->brake > pace->nice ? pace->brake : pace->nice;
    int64_t next_us = now_us + (now_us - began_us) * asleep / (100 - asleep);

    if (pace->max_rate == 0)
        return next_us;
    /* what was not used before the chunk began is not saved up */
    if (pace->paid_us < began_us)
        pace->paid_us = began_us;
    pace->paid_us += (int64_t)((double)bytes * 1e6 / (double)pace->max_rate);
    return pace->paid_us > next_us ? pace->paid_us : next_us;
}
