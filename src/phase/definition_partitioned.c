/*
 * Foreign keys that reference the table from partitioned tables; see definition_internal.h.
 *
 * Up to 17 such a key cannot be made NOT VALID, and a valid one would be checked under the swap's
 * lock.  So each leaf gets a key of its own, NOT VALID, in the swap; these are validated afterwards,
 * and then the partitioned table's key is made, which takes those of its leaves over as they are.
 */
#include "phase/definition_internal.h"

/*
 * $1 = the statement that makes the key, $2 = the partitioned table (quoted), $3 = the key's name,
 * $4 = the shadow and $5 = what it will be called (both quoted).
 * Gives per leaf the key and its validation, and at last, without a key, the partitioned table's.
 */
static const char SQL_LEAF_KEYS[] =
    "with recursive def as ("
    "  select pg_catalog.substr($1, pg_catalog.length(pg_catalog.format("
    "           'alter table %s add constraint %I ', $2::text, $3::text)) + 1) as def"
    "), keys as ("
    "  select oid, conrelid, conname from pg_catalog.pg_constraint"
    "   where conrelid = $2::text::pg_catalog.regclass and conname = $3 and contype = 'f'"
    "  union all"
    "  select k.oid, k.conrelid, k.conname from keys p join pg_catalog.pg_constraint k"
    "      on k.conparentid = p.oid and k.conrelid <> p.conrelid"
    ")"
    "select pg_catalog.format('alter table %s add constraint %I %s not valid', l.name, l.conname,"
    "         def), pg_catalog.format('alter table %s validate constraint %I', l.name, l.conname)"
    "  from def, (select pg_catalog.format('%I.%I', n.nspname, c.relname) as name, k.conname"
    "          from keys k join pg_catalog.pg_class c on c.oid = k.conrelid and c.relkind = 'r'"
    "          join pg_catalog.pg_namespace n on n.oid = c.relnamespace order by c.oid) l"
    " union all"
    " select null, pg_catalog.format('alter table %s add constraint %I %s', $2, $3,"
    "         pg_catalog.overlay(def, ' REFERENCES ' || $5::text || '(', pg_catalog.strpos(def,"
    "           ' REFERENCES ' || $4::text || '('), pg_catalog.length(' REFERENCES ' || $4) + 1))"
    "  from def";

bool
definition_read_partitioned_key(Migration *run, Conn *conn, const PartitionedKey *key, Err *err)
{
    const char *const params[] = {
        key->add, key->table, key->name, run->shadow_qualified, run->original.qualified, NULL};
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_LEAF_KEYS, params, &rows, err))
        return err_wrap(err, "reading foreign key \"%s\" of %s", key->name, key->table);
    for (int row = 0; row < rows_count(rows); row++) {
        definition_add(run, &run->definition.swap, rows_text(rows, row, 0));
        definition_add(run, &run->definition.finish, rows_text(rows, row, 1));
    }
    definition_add(run, &run->definition.finish, key->comment);
    return true;
}
