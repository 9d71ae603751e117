/* Foreign keys before they exist; see keycheck.h. */
#include "phase/keycheck.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "phase/apply.h"
#include "phase/walguard.h"

/* So often a violation may turn out to be one of the moment. */
enum { LOOKS_MAX = 10 };

static const int64_t PIECE_US = INT64_C(1000000);
static const int64_t FENCE_PATIENCE_US = 5 * INT64_C(1000000);
static const char FOREIGN_KEY_VIOLATION[] = "23503";

/* Run one check and apply meanwhile.  *message = what is violated, or NULL; new. */
static bool
look(Migration *run, Conn *conn, const char *sql, char **message, Err *err)
{
    AUTO(Rows) *rows = NULL;

    FAULT_POINT("catchup.key_check");
    if (!query_send(conn, sql, err))
        return false;
    while (!query_is_done(conn))
        if (!apply_meanwhile(run->apply, conn, clock_now_us() + PIECE_US, err) ||
            !walguard_look(run, err) || !migration_check_others(run, err))
            return false;
    if (!query_finish(conn, &rows, err))
        return false;
    *message = rows_count(rows) == 0 ? NULL : mem_copy_text(rows_text(rows, 0, 0));
    return true;
}

/* Bring the shadow to what the other table was when it was looked at. */
static bool
apply_all(Migration *run, Err *err)
{
    for (;;) {
        int64_t marker;

        if (!apply_write_fence(run->apply, &marker, err))
            return false;
        if (apply_drain(run->apply, marker, clock_now_us() + FENCE_PATIENCE_US, NULL, err))
            return true;
        if (err->kind != ERR_RETRY)
            return false;
        err_clear(err);
    }
}

/*
 * The shadow lags behind the other table, so a row may seem to violate the key for a moment; one
 * that still does when all is applied is real.  Where it is always another one, the tables are busy,
 * and only the validation after the swap can tell.
 */
static bool
check(Migration *run, Conn *conn, const char *sql, Err *err)
{
    AUTO(Text) *before = NULL;

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        AUTO(Text) *message = NULL;

        if (!look(run, conn, sql, &message, err))
            return false;
        if (message == NULL)
            return true;
        if (before != NULL && strcmp(before, message) == 0) {
            err_set(err, ERR_DATA, "%s", message);
            (void)snprintf(err->sqlstate, sizeof err->sqlstate, "%s", FOREIGN_KEY_VIOLATION);
            return err_hint(err, "Nothing was swapped.  Correct the rows, or add the key NOT "
                                 "VALID.");
        }
        mem_set_text(&before, message);
        if (!apply_all(run, err))
            return false;
    }
    log_warning("changes come too fast to tell before the swap whether the rows fit a foreign key; "
                "it is validated afterwards");
    return true;
}

/*
 * A partition's keys that come from its parent are checked by the swap itself, under the lock.  How
 * long will that take?  *us = as long as it takes now.
 */
static bool
measure(Migration *run, Conn *conn, int64_t *us, Err *err)
{
    const Partition *partition = &run->definition.partition;
    int64_t started_us = clock_now_us();

    for (int i = 0; i < partition->key_checks.count; i++) {
        if (!check(run, conn, partition->key_checks.items[i], err))
            return err->kind == ERR_DATA
                       ? false
                       : err_wrap(err, "checking foreign key \"%s\"", partition->keys.items[i]);
    }
    *us = clock_now_us() - started_us;
    return true;
}

static bool
check_inherited(Migration *run, Err *err)
{
    const Partition *partition = &run->definition.partition;
    AUTO(Conn) *conn = NULL;
    int64_t us = 0;

    if (partition->key_checks.count == 0)
        return true;
    conn = migration_connect_owner(run, CONN_SQL, "check", err);
    if (conn == NULL || !measure(run, conn, &us, err))
        return false;
    log_info("the swap checks %d foreign key%s of %s, which took %.1f ms now",
             partition->key_checks.count, partition->key_checks.count == 1 ? "" : "s",
             partition->parent, (double)us / 1000);
    if (us <= run->settings->lock_hold_ms * 1000 / 2)
        return true;
    err_set(
        err, ERR_CUTOVER,
        "ATTACH PARTITION checks the foreign keys that come from %s under the lock, which would "
        "take about %lld ms",
        partition->parent, (long long)(us / 1000));
    return err_hint(err, "Raise --lock-hold to more than twice that, at a quiet time, or use plain "
                         "ALTER TABLE.");
}

/* Only the server's own operators: whoever connects may be a superuser, and the owner's code is not. */
static bool
has_own_operators_only(const char *sql)
{
    static const char ANY[] = "operator(";
    static const char OWN[] = "operator(pg_catalog.";

    for (const char *at = sql; (at = strstr(at, ANY)) != NULL; at += strlen(ANY))
        if (strncmp(at, OWN, strlen(OWN)) != 0)
            return false;
    return true;
}

/*
 * The owner may reference the other table and not read it.  Then perhaps whoever runs walter may; if
 * not, only the server can, when the key is there.
 */
static bool
check_as_connected(Migration *run, const char *sql, Err *err)
{
    Err denied = *err;
    AUTO(Conn) *conn = NULL;

    err_clear(err);
    if (has_own_operators_only(sql)) {
        conn = migration_connect(run, CONN_SQL, "check", err);
        if (conn == NULL)
            return false;
        if (check(run, conn, sql, err))
            return true;
        if (err->kind != ERR_REFUSED)
            return false;
        err_clear(err);
    }
    log_warning("whether all rows fit a foreign key can only be told after the swap, by the "
                "server: %s; where they do not, the key stays NOT VALID",
                denied.message);
    return true;
}

bool
keycheck_run(Migration *run, Err *err)
{
    const SqlList *checks = &run->definition.key_checks;
    AUTO(Conn) *conn = NULL;

    if (!check_inherited(run, err))
        return false;
    if (checks->count == 0 || run->settings->skip_foreign_key_validation)
        return true;
    conn = migration_connect_owner(run, CONN_SQL, "check", err);
    if (conn == NULL)
        return false;
    log_info("checking %d foreign key%s", checks->count, checks->count == 1 ? "" : "s");
    for (int i = 0; i < checks->count; i++) {
        if (check(run, conn, checks->items[i], err))
            continue;
        if (err->kind != ERR_REFUSED || !check_as_connected(run, checks->items[i], err))
            return false;
    }
    return true;
}
