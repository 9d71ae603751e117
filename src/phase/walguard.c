/* Watches the replication slot; see walguard.h. */
#include "phase/walguard.h"

#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "ctl/progress.h"
#include "phase/stream.h"

static const int64_t LOOK_INTERVAL_US = INT64_C(1000000);
/* From the end of the stream until the server calls the slot lost, if it does. */
static const int64_t VERDICT_PATIENCE_US = 3 * INT64_C(1000000);
static const int64_t VERDICT_PAUSE_US = 50000;

/*
 * What the server says of the slot.  Newer versions say more, in columns that older ones lack: why
 * it was invalidated (17), or that it conflicted with recovery (16).
 */
static const char SQL_SLOT[] =
    "select coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn),"
    "                0)::pg_catalog.int8,"
    "       s.safe_wal_size, coalesce(s.wal_status, ''),"
    "       coalesce(pg_catalog.to_jsonb(s)->>'invalidation_reason',"
    "                case when (pg_catalog.to_jsonb(s)->>'conflicting')::pg_catalog.bool"
    "                     then 'conflict' else '' end),"
    "       pg_catalog.current_setting('max_slot_wal_keep_size')"
    "  from pg_catalog.pg_replication_slots s where s.slot_name = $1";

typedef struct Slot {
    bool exists;
    bool is_lost;
    bool is_in_danger; /* its WAL may be removed, and nobody reads it: lost, or about to be */
    int64_t held_bytes;
    int64_t limit_bytes;
    const char *reason; /* why it is lost, as the server names it; "" = it does not */
    const char *setting;
    Rows *rows; /* has the texts */
} Slot;

/* Free slot->rows. */
static bool
read_slot(const Migration *run, Conn *conn, Slot *slot, Err *err)
{
    Rows *rows = NULL;
    const char *status;

    if (!query_run(conn, SQL_SLOT, (const char *const[]){run->names.slot, NULL}, &rows, err))
        return err_wrap(err, "looking at the replication slot");
    *slot = (Slot){.rows = rows, .exists = rows_count(rows) == 1, .limit_bytes = WALBUDGET_NONE};
    if (!slot->exists)
        return true;
    status = rows_text(rows, 0, 2);
    slot->is_lost = strcmp(status, "lost") == 0;
    slot->is_in_danger = strcmp(status, "unreserved") == 0;
    slot->held_bytes = rows_int(rows, 0, 0);
    /* counted from now on; negative when the next checkpoint may be the end of the slot */
    if (rows_text(rows, 0, 1) != NULL)
        slot->limit_bytes = slot->held_bytes + rows_int(rows, 0, 1);
    slot->reason = rows_text(rows, 0, 3);
    slot->setting = rows_text(rows, 0, 4);
    return true;
}

/* ---- a slot that is gone ---- */

/* Before 17 the server does not say why; there is hardly another reason than the WAL. */
static bool
explain_lost(const Migration *run, const Slot *slot, Err *err)
{
    if (strcmp(slot->reason, "idle_timeout") == 0) {
        err_set(err, ERR_GONE,
                "the server has given up replication slot %s, because nobody read it for as long "
                "as idle_replication_slot_timeout",
                run->names.slot);
        return err_hint(err, "Nothing was swapped.  Raise idle_replication_slot_timeout; walter "
                             "perform starts from the beginning.");
    }
    if (slot->reason[0] != '\0' && strcmp(slot->reason, "wal_removed") != 0) {
        err_set(err, ERR_GONE, "the server has invalidated replication slot %s: %s",
                run->names.slot, slot->reason);
        return err_hint(err, "Nothing was swapped.  walter perform starts from the beginning.");
    }
    err_set(err, ERR_GONE,
            "the server has given up replication slot %s, which held back more WAL than "
            "max_slot_wal_keep_size, %s, allows",
            run->names.slot, slot->setting);
    return err_hint(err, "Nothing was swapped.  Raise max_slot_wal_keep_size (a reload is enough), "
                         "or wait until less is written; walter perform starts from the "
                         "beginning.");
}

/* Nothing of a run without its slot is of use to anybody. */
static bool
check_exists(Migration *run, const Slot *slot, Err *err)
{
    if (slot->exists && !slot->is_lost)
        return true;
    run->on_failure = FAILURE_REMOVE;
    if (slot->exists)
        return explain_lost(run, slot, err);
    err_set(err, ERR_GONE, "replication slot %s was dropped by somebody else while the run was on",
            run->names.slot);
    return err_hint(err, "Nothing was swapped.  walter perform starts from the beginning.");
}

bool
walguard_check_slot(Migration *run, Conn *conn, Err *err)
{
    int64_t until_us = clock_now_us() + VERDICT_PATIENCE_US;

    for (;;) {
        Slot slot = {0};
        bool ok;
        bool wait;

        if (!read_slot(run, conn, &slot, err))
            return false;
        ok = check_exists(run, &slot, err);
        /* the server ends who reads the slot first, and gives up the slot when he is gone */
        wait = ok && slot.is_in_danger && clock_now_us() < until_us;
        rows_free(slot.rows);
        if (!wait)
            return ok;
        if (!loop_pause(run->loop, VERDICT_PAUSE_US, err))
            return false;
    }
}

void
walguard_explain_loss(Migration *run, Err *err)
{
    Err gone = {0};
    Conn *conn;

    /* a server that is gone altogether has nothing to say */
    if (err->kind != ERR_LOST || run->swapped || run->stream == NULL ||
        !stream_is_lost(run->stream) || run->control == NULL || conn_is_lost(run->control))
        return;
    migration_close_sessions(run);
    conn = migration_connect(run, CONN_SQL, "slot", &gone);
    if (conn != NULL && !walguard_check_slot(run, conn, &gone) && gone.kind == ERR_GONE)
        *err = gone;
    conn_close(conn);
}

/* ---- the budget ---- */

static const char *
name_of_limit(const WalBudget *budget)
{
    return budget->is_servers ? "max_slot_wal_keep_size" : "--max-wal";
}

/* "replication slot walter_... holds back 5.2 GB of WAL" */
static void
add_held(const Migration *run, Buf *text)
{
    const WalBudget *budget = &run->wal;

    buf_printf(text, "replication slot %s holds back ", run->names.slot);
    progress_add_bytes(budget->held_bytes, text);
    buf_add_text(text, " of WAL");
    if (budget->budget_bytes == WALBUDGET_NONE)
        return;
    buf_printf(text, ", %d %% of the ", walbudget_percent(budget));
    progress_add_bytes(budget->budget_bytes, text);
    buf_printf(text, " that it may (%s)", name_of_limit(budget));
}

/* What becomes of it by itself. */
static const char *
prospect(const Migration *run)
{
    if (run->copied_xid != NULL)
        return "; it becomes less as changes are applied";
    if (run->copy == NULL)
        return "; it only becomes more until the indexes are built, for no change is applied "
               "before";
    if (run->settings->snapshot_max_age_s > 0)
        return "; it only becomes more until the copy replaces its snapshot (--snapshot-max-age)";
    return "; it only becomes more until the copy and the index builds are done, for no change is "
           "applied before";
}

/* And what the operator can do. */
static void
add_advice(const Migration *run, Buf *text)
{
    const WalBudget *budget = &run->wal;

    buf_add_text(text, prospect(run));
    if (budget->budget_bytes == WALBUDGET_NONE) {
        buf_add_text(text, ", and nothing but the server's disk limits it: see that there is room "
                           "(--max-wal or max_slot_wal_keep_size would set a limit)");
        return;
    }
    buf_add_text(text, ", and at 100 % the run stops itself: have less written");
    buf_add_text(text, budget->is_servers
                           ? ", or raise max_slot_wal_keep_size (a reload is enough)"
                           : ", or stop the run and start it with a larger --max-wal");
}

static void
tell(const Migration *run, unsigned says)
{
    BUF_AUTO(text);

    if ((says & (WALBUDGET_WARN | WALBUDGET_SLOW)) != 0) {
        buf_add_text(&text, (says & WALBUDGET_SLOW) != 0 ? "the copy is slowed: " : "");
        add_held(run, &text);
        add_advice(run, &text);
        log_warning("%s", buf_text(&text));
    } else if ((says & WALBUDGET_UNSLOW) != 0) {
        add_held(run, &text);
        log_info("the copy goes on at full speed: %s", buf_text(&text));
    }
}

static bool
stop(Migration *run, Err *err)
{
    BUF_AUTO(text);

    run->on_failure = run->settings->max_wal_action == MAX_WAL_DROP ? FAILURE_REMOVE : FAILURE_KEEP;
    add_held(run, &text);
    err_set(err, ERR_CUTOVER, "%s", buf_text(&text));
    return err_hint(err, "Nothing was swapped.  %s, or wait until less is written.",
                    run->wal.is_servers ? "Raise max_slot_wal_keep_size (a reload is enough)"
                                        : "Give more with --max-wal");
}

bool
walguard_look(Migration *run, Err *err)
{
    int64_t now_us = clock_now_us();
    unsigned says;
    WalLook look;
    Slot slot = {0};
    bool ok = true;

    if (run->swapped || now_us - run->wal_looked_us < LOOK_INTERVAL_US)
        return true;
    run->wal_looked_us = now_us;
    if (!read_slot(run, run->control, &slot, err))
        return false;
    look = (WalLook){.held_bytes = slot.held_bytes,
                     .limit_bytes = slot.limit_bytes,
                     .is_copying = run->copy != NULL};
    /* while the slot is being made there may be none */
    if (slot.exists || run->stream != NULL)
        ok = check_exists(run, &slot, err);
    rows_free(slot.rows);
    if (!ok || !slot.exists)
        return ok;
    says = walbudget_judge(&run->wal, &look);
    if ((says & WALBUDGET_STOP) != 0)
        return stop(run, err);
    tell(run, says);
    return true;
}

bool
walguard_exec(Migration *run, Conn *conn, const char *sql, Err *err)
{
    if (!query_send(conn, sql, err))
        return false;
    while (!query_is_done(conn))
        if (!query_wait(conn, clock_now_us() + LOOK_INTERVAL_US, err) || !walguard_look(run, err) ||
            !migration_check_others(run, err))
            return false;
    return query_finish(conn, NULL, err);
}

/* ---- beforehand ---- */

void
walguard_plan(Migration *run, int64_t table_bytes, int64_t limit_bytes)
{
    int64_t max_bytes = run->settings->max_wal;
    WalBudget *budget = &run->wal;
    BUF_AUTO(expected);
    BUF_AUTO(allowed);

    if (max_bytes == 0)
        max_bytes = WALBUDGET_NONE;
    *budget = (WalBudget){.max_bytes = max_bytes,
                          .expected_bytes = table_bytes + table_bytes / 2,
                          .budget_bytes = walbudget_smaller(max_bytes, limit_bytes),
                          .is_servers = limit_bytes < max_bytes};
    if (budget->expected_bytes <= budget->budget_bytes)
        return;
    progress_add_bytes(budget->expected_bytes, &expected);
    progress_add_bytes(budget->budget_bytes, &allowed);
    log_warning("the copy and the index builds may write about %s of WAL, and others write as well;"
                " the replication slot may hold back no more than %s (%s): the run may have to "
                "stop before the swap",
                buf_text(&expected), buf_text(&allowed), name_of_limit(budget));
}
