/* The backlog of changes; see backlog.h. */
#include "phase/backlog.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "lsn.h"
#include "phase/apply.h"
#include "phase/stream.h"

static const int64_t LOOK_INTERVAL_US = INT64_C(1000000);
static const int64_t TELL_INTERVAL_US = 60 * INT64_C(1000000);

/* $1: oids of the leaves, as an array. */
static const char SQL_LOOK[] =
    "select pg_catalog.pg_current_wal_lsn(), coalesce(pg_catalog.sum("
    "         pg_catalog.pg_stat_get_tuples_inserted(leaf)"
    "         + pg_catalog.pg_stat_get_tuples_updated(leaf)"
    "         + pg_catalog.pg_stat_get_tuples_deleted(leaf)), 0)::pg_catalog.int8"
    "  from pg_catalog.unnest($1::pg_catalog.oid[]) leaf";

static bool
read_sample(Migration *run, RateSample *sample, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(leaves);
    Lsn current_lsn;

    for (int i = 0; i < run->leaf_count; i++)
        buf_printf(&leaves, "%c%u", i == 0 ? '{' : ',', run->leaves[i].oid);
    buf_add_text(&leaves, "}");
    if (!query_one(run->control, SQL_LOOK, (const char *const[]){buf_text(&leaves), NULL}, &rows,
                   err))
        return err_wrap(err, "measuring the backlog of changes");
    if (!lsn_parse(rows_text(rows, 0, 0), &current_lsn))
        return err_set(err, ERR_FAILED, "\"%s\" is no WAL position", rows_text(rows, 0, 0));
    stream_see_server_lsn(run->stream, current_lsn);
    *sample = (RateSample){.at_us = clock_now_us(),
                           .written_rows = rows_int(rows, 0, 1),
                           .applied_rows = run->counters.changes_applied,
                           .lag_bytes = stream_lag_bytes(run->stream)};
    return true;
}

static void
tell_behind(const Migration *run)
{
    const Rates *rates = &run->backlog.rates;
    /* with hardly anything waiting here, it is the server that cannot read its WAL any faster */
    bool decoding = apply_outstanding(run->apply) < run->settings->pull_batch_count;
    BUF_AUTO(lag);

    progress_add_bytes(stream_lag_bytes(run->stream), &lag);
    log_warning("writers change about %.0f rows/s, and %.0f rows/s are %s: the backlog grows, "
                "%s of WAL by now; slow the writers down or wait for a quieter hour, the run goes "
                "on until then",
                rates_written(rates), rates_applied(rates),
                decoding ? "decoded by the server" : "applied", buf_text(&lag));
}

void
backlog_is_gone(Migration *run)
{
    if (run->backlog.is_growing)
        log_info("the backlog of changes is worked off");
    run->backlog.is_growing = false;
    /* nor does the progress line go on saying so, where nobody looks for a while */
    run->backlog.rates = (Rates){0};
}

static void
tell_better(const Migration *run)
{
    const Rates *rates = &run->backlog.rates;
    BUF_AUTO(lag);

    progress_add_bytes(stream_lag_bytes(run->stream), &lag);
    log_info(
        "the backlog is getting shorter: writers change about %.0f rows/s, and %.0f rows/s are "
        "applied; %s of WAL are not",
        rates_written(rates), rates_applied(rates), buf_text(&lag));
}

bool
backlog_look(Migration *run, Err *err)
{
    Backlog *backlog = &run->backlog;
    int64_t now_us = clock_now_us();
    RateSample sample;

    if (now_us - backlog->looked_us < LOOK_INTERVAL_US)
        return true;
    backlog->looked_us = now_us;
    if (!read_sample(run, &sample, err))
        return false;
    rates_add(&backlog->rates, &sample);
    if (rates_fall_behind(&backlog->rates) &&
        (backlog->told_us == 0 || now_us - backlog->told_us >= TELL_INTERVAL_US)) {
        tell_behind(run);
        backlog->told_us = now_us;
        backlog->is_growing = true;
    } else if (backlog->is_growing && rates_catch_up(&backlog->rates)) {
        tell_better(run);
        backlog->is_growing = false;
    }
    return true;
}
