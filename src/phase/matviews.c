/* Materialized views that read the table; see matviews.h. */
#include "phase/matviews.h"

bool
matviews_read(Migration *run, Conn *conn, const Dependent *dependent, const char *text,
              SqlList *drops, Err *err)
{
    (void)run;
    (void)conn;
    (void)text;
    (void)drops;
    return err_set(err, ERR_FAILED, "materialized view %s", dependent->qualified);
}
