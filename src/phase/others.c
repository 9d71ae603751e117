/* How busy others keep the server; see others.h. */
#include "phase/others.h"

#include "base/clock.h"
#include "base/log.h"

enum { JOBS_ALONE = 2, JOBS_BESIDE_OTHERS = 1 };

/* More transactions a second than an idle server's own housekeeping and ours make. */
static const double BUSY_RATE = 20;
/* In a short time our own DDL alone may look like many. */
enum { WRITES_MIN = 12 };
static const int64_t INTERVAL_US = INT64_C(1000000);
static const int64_t FIRST_INTERVAL_US = INT64_C(200000);

int
others_most_jobs(const Migration *run)
{
    return run->settings->jobs > 0 ? run->settings->jobs : JOBS_ALONE;
}

int
others_jobs(const Migration *run)
{
    if (run->settings->jobs > 0)
        return run->settings->jobs;
    return run->others.busy ? JOBS_BESIDE_OTHERS : JOBS_ALONE;
}

/* What two looks tell. */
static void
judge(Migration *run, int64_t writes, int64_t passed_us)
{
    double rate = (double)writes * 1e6 / (double)passed_us;
    bool busy = rate > BUSY_RATE && writes >= WRITES_MIN;

    if (busy && !run->others.busy)
        log_info(
            "others write, %.0f transactions a second: leaving them more of the server (--jobs "
            "says otherwise)",
            rate);
    if (!busy && run->others.busy)
        log_info("others hardly write any more: using more of the server");
    run->others.busy = busy;
}

bool
others_look(Migration *run, Err *err)
{
    Others *others = &run->others;
    int64_t now_us = clock_now_us();
    int64_t passed_us = now_us - others->looked_us;
    int64_t next_xid;
    AUTO(Rows) *rows = NULL;

    if (run->settings->jobs > 0 ||
        (others->looks > 0 && passed_us < (others->looks == 1 ? FIRST_INTERVAL_US : INTERVAL_US)))
        return true;
    if (!query_simple(run->control,
                      "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())", &rows,
                      err))
        return err_wrap(err, "looking for transactions of others");
    next_xid = rows_int(rows, 0, 0);
    if (others->looks > 0)
        judge(run, next_xid - others->next_xid - others->own_writes, passed_us);
    others->looks++;
    others->looked_us = now_us;
    others->next_xid = next_xid;
    others->own_writes = 0;
    return true;
}
