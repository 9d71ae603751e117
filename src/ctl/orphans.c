/* Runs without a record; see orphans.h. */
#include "ctl/orphans.h"

/*
 * The old table's schema is no sign: after the swap it is the operator's.  Of the sessions the one of
 * the stream tells who is alive: it notices at once that its client is gone, the others may have much
 * to do before.
 */
static const char SQL_IDS[] =
    "with ids (id) as ("
    "  select pg_catalog.substr(slot_name, 8) from pg_catalog.pg_replication_slots"
    "   where slot_name ~ '^walter_[0-9a-f]{8}$' and database = pg_catalog.current_database()"
    "  union select pg_catalog.substr(pubname, 8) from pg_catalog.pg_publication"
    "   where pubname ~ '^walter_[0-9a-f]{8}$'"
    "  union select pg_catalog.substr(nspname, 8, 8) from pg_catalog.pg_namespace"
    "   where nspname ~ '^walter_[0-9a-f]{8}_new$'"
    "  union select pg_catalog.right(c.relname, 8) from pg_catalog.pg_class c"
    "    join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "   where n.nspname = 'walter' and c.relname ~ "
    "'^(built|copied|fence|position|touched)_[0-9a-f]{8}$')"
    "select id, exists (select from pg_catalog.pg_stat_activity"
    "         where application_name = 'walter: ' || id || ' stream')"
    "    or exists (select from pg_catalog.pg_replication_slots"
    "         where slot_name = 'walter_' || id and active)"
    "  from ids order by id";

bool
orphans_list(Conn *control, Arena *arena, RunRecord **runs, int *count, Err *err)
{
    AUTO(Rows) *rows = NULL;

    *count = 0;
    if (!query_simple(control, SQL_IDS, &rows, err))
        return err_wrap(err, "looking for what runs have left");
    *runs = arena_alloc(arena, sizeof **runs * (size_t)(rows_count(rows) + 1));
    for (int i = 0; i < rows_count(rows); i++) {
        RunNames names = state_names(rows_text(rows, i, 0), arena);
        const char *phase;

        if (!state_read_phase(control, &names, arena, &phase, err))
            return false;
        if (phase == NULL)
            (*runs)[(*count)++] = (RunRecord){.names = names,
                                              .phase = "",
                                              .table = "",
                                              .started_at = "",
                                              .statement = "",
                                              .alive = rows_bool(rows, i, 1)};
    }
    return true;
}

bool
orphans_is_one(const RunRecord *run)
{
    return run->phase[0] == '\0';
}
