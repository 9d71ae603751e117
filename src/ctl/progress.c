/* The progress line; see progress.h. */
#include "ctl/progress.h"

void
progress_add_duration(int64_t us, Buf *out)
{
    long long seconds = us / 1000000;

    if (us < 1000000)
        buf_printf(out, "%lld ms", (long long)(us / 1000));
    else if (seconds < 60)
        buf_printf(out, "%.1f s", (double)us / 1e6);
    else if (seconds < 3600)
        buf_printf(out, "%lld min %02lld s", seconds / 60, seconds % 60);
    else
        buf_printf(out, "%lld h %02lld min", seconds / 3600, seconds / 60 % 60);
}

void
progress_add_bytes(int64_t bytes, Buf *out)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    int unit = 0;

    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    buf_printf(out, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void
add_time_left(double us, Buf *out)
{
    buf_add_text(out, ", ETA ");
    progress_add_duration((int64_t)us, out);
}

/* Share, rate and time left of the copy. */
static void
add_copy(const Progress *progress, Buf *out)
{
    double share = (double)progress->blocks_done / (double)progress->blocks_total;
    int64_t blocks = progress->blocks_done - progress->blocks_before;

    if (share > 1)
        share = 1;
    buf_printf(out, " %.1f%%", share * 100);
    if (progress->phase_us > 0)
        buf_printf(out, ", %.0f rows/s",
                   (double)(progress->rows_copied - progress->rows_before) * 1e6 /
                       (double)progress->phase_us);
    if (blocks > 0 && share < 1)
        add_time_left((double)progress->phase_us *
                          (double)(progress->blocks_total - progress->blocks_done) / (double)blocks,
                      out);
}

/* How long at the pace of the last seconds, or that this leads nowhere. */
static void
add_catch_up(const Progress *progress, Buf *out)
{
    if (progress->falls_behind)
        buf_add_text(out, ", never at this rate");
    else if (progress->lag_growth < 0 && progress->lag_bytes > 0)
        add_time_left((double)progress->lag_bytes * 1e6 / -progress->lag_growth, out);
}

static void
add_budget(const Progress *progress, Buf *out)
{
    buf_add_text(out, ", WAL held ");
    progress_add_bytes(progress->wal_held_bytes, out);
    buf_add_text(out, " of ");
    progress_add_bytes(progress->wal_budget_bytes, out);
}

static void
add_stream(const Progress *progress, Buf *out)
{
    buf_printf(out, ", %lld changes applied, ", (long long)progress->changes_applied);
    if (progress->changes_waiting > 0)
        buf_printf(out, "%lld waiting, ", (long long)progress->changes_waiting);
    if (progress->spooled_bytes > 0) {
        buf_add_text(out, "spooled ");
        progress_add_bytes(progress->spooled_bytes, out);
        buf_add_text(out, ", ");
    }
    if (progress->is_paused)
        buf_add_text(out, "reading paused, ");
    buf_add_text(out, "lag ");
    progress_add_bytes(progress->lag_bytes, out);
    if (progress->wal_budget_bytes > 0)
        add_budget(progress, out);
}

void
progress_add(const Progress *progress, Buf *out)
{
    buf_add_text(out, progress->phase);
    if (progress->blocks_total > 0)
        add_copy(progress, out);
    if (progress->indexes_total > 0)
        buf_printf(out, ", %lld of %lld done", (long long)progress->indexes_done,
                   (long long)progress->indexes_total);
    if (progress->attempts > 0)
        buf_printf(out, ", %lld attempt%s", (long long)progress->attempts,
                   progress->attempts == 1 ? "" : "s");
    add_catch_up(progress, out);
    if (progress->has_stream)
        add_stream(progress, out);
    buf_add_text(out, ", ");
    progress_add_duration(progress->elapsed_us, out);
}
