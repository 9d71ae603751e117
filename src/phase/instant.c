/* An ALTER that needs no run of walter; see instant.h. */
#include "phase/instant.h"

#include "base/log.h"

static const char SQL_FILE[] =
    "select coalesce(pg_catalog.pg_relation_filenode($1::pg_catalog.oid), 0)::pg_catalog.int8";

bool
instant_read_file(const Migration *run, Conn *conn, int64_t *file, Err *err)
{
    AUTO(Text) *shadow = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_FILE, (const char *const[]){shadow, NULL}, &rows, err))
        return err_wrap(err, "looking for a rewrite");
    *file = rows_int(rows, 0, 0);
    return true;
}

static bool
is_catalog_only(const Migration *run)
{
    for (int i = 0; i < run->ddl.statement_count; i++)
        for (int j = 0; j < run->ddl.statements[i].action_count; j++)
            if (!run->ddl.statements[i].actions[j].is_catalog_only)
                return false;
    return true;
}

void
instant_tell(const Migration *run)
{
    /* partitions may have been rewritten; a copy statement does what no ALTER TABLE does */
    if (!run->keeps_file || run->is_parent || run->projection.is_copy_statement ||
        !is_catalog_only(run))
        return;
    log_info(
        "plain ALTER TABLE would neither rewrite nor read the table: with a short lock_timeout "
        "it does the same in an instant: SET lock_timeout = '50ms'; %s",
        run->settings->statement);
}
