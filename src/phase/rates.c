/* Rates of writing and applying; see rates.h. */
#include "phase/rates.h"

#include <string.h>

static const int64_t GAP_US = 6 * INT64_C(1000000);     /* longer without a look: begin anew */
static const int64_t WINDOW_US = 10 * INT64_C(1000000); /* older than this is forgotten */
static const int64_t SHORT_US = 3 * INT64_C(1000000);   /* enough for a rate */
static const int64_t LONG_US = 8 * INT64_C(1000000);    /* enough to call it lasting */
/* Less than this is applied in a moment. */
static const int64_t BACKLOG_BYTES = 16 * INT64_C(1024) * 1024;
/* The server's counts are up to a second old, so rates that are nearly alike are alike. */
static const double CLEARLY = 1.1;

static const RateSample *
newest(const Rates *rates)
{
    return &rates->samples[rates->count == 0 ? 0 : rates->count - 1];
}

static void
drop_oldest(Rates *rates)
{
    rates->count--;
    memmove(rates->samples, rates->samples + 1, (size_t)rates->count * sizeof *rates->samples);
}

void
rates_add(Rates *rates, const RateSample *sample)
{
    if (rates->count > 0 && (sample->at_us - newest(rates)->at_us > GAP_US ||
                             sample->written_rows < newest(rates)->written_rows))
        rates->count = 0;
    while (rates->count == RATES_SAMPLES ||
           (rates->count > 1 && sample->at_us - rates->samples[1].at_us >= WINDOW_US))
        drop_oldest(rates);
    rates->samples[rates->count++] = *sample;
}

static int64_t
span_us(const Rates *rates)
{
    return rates->count == 0 ? 0 : newest(rates)->at_us - rates->samples[0].at_us;
}

static double
per_second(const Rates *rates, int64_t before, int64_t now)
{
    return span_us(rates) < SHORT_US ? 0 : (double)(now - before) * 1e6 / (double)span_us(rates);
}

double
rates_written(const Rates *rates)
{
    return per_second(rates, rates->samples[0].written_rows, newest(rates)->written_rows);
}

double
rates_applied(const Rates *rates)
{
    return per_second(rates, rates->samples[0].applied_rows, newest(rates)->applied_rows);
}

double
rates_lag_growth(const Rates *rates)
{
    return per_second(rates, rates->samples[0].lag_bytes, newest(rates)->lag_bytes);
}

/* Between two samples. */
static bool
falls_behind(const RateSample *from, const RateSample *to)
{
    return to->lag_bytes > from->lag_bytes &&
           (double)(to->written_rows - from->written_rows) >
               CLEARLY * (double)(to->applied_rows - from->applied_rows);
}

static const RateSample *
middle(const Rates *rates)
{
    const RateSample *sample = rates->samples;

    while (sample->at_us - rates->samples[0].at_us < span_us(rates) / 2)
        sample++;
    return sample;
}

bool
rates_fall_behind(const Rates *rates)
{
    const RateSample *half;

    if (span_us(rates) < LONG_US || newest(rates)->lag_bytes < BACKLOG_BYTES)
        return false;
    /* one big transaction is counted when it ends, and is not the writers' pace */
    half = middle(rates);
    return falls_behind(rates->samples, half) && falls_behind(half, newest(rates));
}

bool
rates_catch_up(const Rates *rates)
{
    const RateSample *now = newest(rates);
    const RateSample *before = now;

    while (before > rates->samples && now->at_us - before->at_us < SHORT_US)
        before--;
    return now->at_us - before->at_us >= SHORT_US && now->lag_bytes < before->lag_bytes &&
           now->applied_rows - before->applied_rows > now->written_rows - before->written_rows &&
           rates_applied(rates) > rates_written(rates);
}
