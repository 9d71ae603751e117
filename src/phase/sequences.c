/* The sequences of a table's columns, across the swap; see sequences.h. */
#include "phase/sequences.h"

#include <string.h>

#include "pg/sql.h"

/* The sequence of an identity column, and its column's attnum. */
static const char SQL_IDENTITY_SEQUENCES[] =
    "select d.refobjsubid, d.objid, pg_catalog.format('%I.%I', n.nspname, s.relname)"
    "  from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid"
    "   and s.relkind = 'S' and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  join pg_catalog.pg_namespace n on n.oid = s.relnamespace"
    " where d.refobjid = $1::pg_catalog.oid and d.refobjsubid > 0 and d.deptype = 'i'"
    "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass";

/* Remember which sequences the clone has, to tell them from what the ALTER makes. */
bool
sequences_mark(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *rows = NULL;
    uint32_t *oids;

    if (!query_run(conn, SQL_IDENTITY_SEQUENCES, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    oids = arena_alloc(run->arena, sizeof *oids * (size_t)(rows_count(rows) + 1));
    for (int row = 0; row < rows_count(rows); row++)
        oids[row] = (uint32_t)rows_int(rows, row, 1);
    run->definition.cloned_sequences = oids;
    run->definition.cloned_sequence_count = rows_count(rows);
    return true;
}

static bool
is_cloned(const Definition *definition, uint32_t oid)
{
    for (int i = 0; i < definition->cloned_sequence_count; i++)
        if (definition->cloned_sequences[i] == oid)
            return true;
    return false;
}

static bool
is_restarted(const Ddl *ddl, const char *column)
{
    for (int i = 0; i < ddl->statement_count; i++)
        for (int j = 0; j < ddl->statements[i].action_count; j++) {
            const DdlAction *action = &ddl->statements[i].actions[j];

            if (action->kind == ACTION_RESTART_IDENTITY && strcmp(action->column, column) == 0)
                return true;
        }
    return false;
}

/* An identity column's own sequence goes on where the original's stands - unless the statement made
 * it anew or says where to go on. */
static bool
read_positions(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *original = mem_format("%u", run->original.oid);
    AUTO(Text) *shadow = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *old = NULL;
    AUTO(Rows) *new = NULL;

    if (!query_run(conn, SQL_IDENTITY_SEQUENCES, (const char *const[]){original, NULL}, &old,
                   err) ||
        !query_run(conn, SQL_IDENTITY_SEQUENCES, (const char *const[]){shadow, NULL}, &new, err))
        return false;
    for (int row = 0; row < rows_count(new); row++) {
        int column = catalog_find_attnum(&run->shadow, (int)rows_int(new, row, 0));
        int origin = column < 0 ? -1 : run->projection.origin[column];

        if (origin < 0 || !is_cloned(&run->definition, (uint32_t)rows_int(new, row, 1)) ||
            is_restarted(&run->ddl, run->shadow.columns[column].name))
            continue;
        for (int i = 0; i < rows_count(old); i++) {
            AUTO(Text) *position = NULL;

            if (rows_int(old, i, 0) != run->original.columns[origin].attnum)
                continue;
            position = sql_build("select pg_catalog.setval(%L, last_value, is_called) from %S",
                                 rows_text(new, row, 2), rows_text(old, i, 2));
            sql_list_add(run, &run->definition.swap, position);
        }
    }
    return true;
}

/* Sequences that a column owns - serial, or OWNED BY - change hands with the column. */
static bool
read_owned_sequences(Migration *run, Conn *conn, Err *err)
{
    static const char SQL[] =
        "select d.refobjsubid, pg_catalog.format('%I.%I', n.nspname, s.relname)"
        "  from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid"
        "   and s.relkind = 'S' and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        "  join pg_catalog.pg_namespace n on n.oid = s.relnamespace"
        " where d.refobjid = $1::pg_catalog.oid and d.refobjsubid > 0 and d.deptype = 'a'"
        "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass order by s.relname";
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL, (const char *const[]){oid, NULL}, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        int old = catalog_find_attnum(&run->original, (int)rows_int(rows, row, 0));

        for (int i = 0; i < run->shadow.column_count; i++)
            if (old >= 0 && run->projection.origin[i] == old) {
                AUTO(Text) *before =
                    sql_build("alter sequence %S owned by none", rows_text(rows, row, 1));
                AUTO(Text) *after =
                    sql_build("alter sequence %S owned by %S.%I", rows_text(rows, row, 1),
                              run->original.qualified, run->shadow.columns[i].name);

                sql_list_add(run, &run->definition.swap, before);
                sql_list_add(run, &run->definition.moved, after);
            }
    }
    return true;
}

bool
sequences_read(Migration *run, Conn *conn, Err *err)
{
    return read_owned_sequences(run, conn, err) && read_positions(run, conn, err);
}
