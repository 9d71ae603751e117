/*
 * The preflight checks of a table that is a partition: whatever would make DETACH PARTITION and
 * ATTACH PARTITION fail in the swap, or read a table while everybody waits.
 */
#include "phase/checks.h"

#include <stddef.h>

#define UNUSED                                                             \
    " and ($1::pg_catalog.oid, $2::pg_catalog.int8, $3::pg_catalog.text, " \
    "$4::pg_catalog.text) is not null"

/* The partition c, its parent p. */
#define FROM_PARTITION                                      \
    " from pg_catalog.pg_class c"                           \
    "  join pg_catalog.pg_inherits i on i.inhrelid = c.oid" \
    "  join pg_catalog.pg_class p on p.oid = i.inhparent"   \
    "  join pg_catalog.pg_partitioned_table t on t.partrelid = p.oid"
/* And the default partition d beside it. */
#define FROM_SIBLING \
    FROM_PARTITION "  join pg_catalog.pg_class d on d.oid = t.partdefid and d.oid <> c.oid"
#define WHERE_PARTITION " where c.oid = $1 and c.relispartition"

const Check CHECKS_PARTITION[] = {
    /* a CHECK with satisfies_hash_partition() locks the parent, in each transaction that writes */
    {"partition_hash",
     "select pg_catalog.format('%s is a partition of %s by hash, whose bounds cannot be checked"
     " before the lock', c.oid::pg_catalog.regclass, p.oid::pg_catalog.regclass),"
     "       'Use plain ALTER TABLE.'" FROM_PARTITION WHERE_PARTITION
     "   and t.partstrat = 'h'" UNUSED},
    {"partition_detaching",
     "select pg_catalog.format('%s is being detached from %s', c.oid::pg_catalog.regclass,"
     "         p.oid::pg_catalog.regclass),"
     "       pg_catalog.format('ALTER TABLE %s DETACH PARTITION %s FINALIZE;',"
     "         p.oid::pg_catalog.regclass, c.oid::pg_catalog.regclass)" FROM_PARTITION
         WHERE_PARTITION "   and pg_catalog.to_jsonb(i)->>'inhdetachpending' = 'true'" UNUSED},
    {"partition_owner",
     "select pg_catalog.format('partition %s belongs to %I, but %s to %I',"
     "         c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner),"
     "         o.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(o.relowner)),"
     "       'Let them have one owner, or connect as a superuser.'" FROM_PARTITION
     "  join pg_catalog.pg_class o on o.oid in (p.oid, t.partdefid)"
     "  join pg_catalog.pg_roles me on me.rolname = current_user" WHERE_PARTITION
     "   and not me.rolsuper and o.relowner <> c.relowner" UNUSED},
    {"partition_default",
     "select pg_catalog.format('default partition %s has %s, all of which ATTACH PARTITION would"
     " read under the lock', d.oid::pg_catalog.regclass, pg_catalog.pg_size_pretty(s.bytes)),"
     "       'Move its rows to partitions of their own first, or use plain "
     "ALTER TABLE.'" FROM_SIBLING
     "  cross join lateral (select pg_catalog.sum(pg_catalog.pg_relation_size(x.relid)) as bytes"
     "     from pg_catalog.pg_partition_tree(d.oid) x where x.isleaf) s" WHERE_PARTITION
     "   and s.bytes > 8388608" UNUSED},
    {"partition_foreign_key",
     "select pg_catalog.format('foreign key %I comes from %s and references %s, which is itself"
     " partitioned', k.conname, p.oid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass),"
     "       'Use plain ALTER TABLE.'" FROM_PARTITION
     "  join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'f'"
     "   and k.conparentid <> 0"
     "  join pg_catalog.pg_constraint x on x.oid = k.conparentid and x.conrelid <> c.oid"
     "  join pg_catalog.pg_class r on r.oid = k.confrelid and r.relkind = 'p'" WHERE_PARTITION
         UNUSED},
    {"partition_referenced",
     "select pg_catalog.format('foreign key %I of %s references %s, and DETACH PARTITION would fail"
     " over rows of %s that it references', k.conname, k.conrelid::pg_catalog.regclass,"
     "         k.confrelid::pg_catalog.regclass, c.oid::pg_catalog.regclass),"
     "       'Drop it first and create it again afterwards, or use plain "
     "ALTER TABLE.'" FROM_PARTITION
     "  join pg_catalog.pg_constraint k on k.contype = 'f' and k.conparentid = 0"
     "   and k.confrelid <> c.oid and k.conrelid <> c.oid and k.confrelid in ("
     "     select relid from pg_catalog.pg_partition_ancestors(c.oid))"
     "  join pg_catalog.pg_class r on r.oid = k.conrelid" WHERE_PARTITION
     /* one of a plain table to the parent itself is dropped and made again by the swap */
     "   and (k.confrelid <> p.oid or r.relkind = 'p' or exists ("
     "     select from pg_catalog.pg_trigger g join pg_catalog.pg_constraint x on x.oid = "
     "g.tgconstraint"
     "      where (x.oid = k.oid or x.conparentid = k.oid) and g.tgenabled <> 'O'))" UNUSED},
    {"partition_referencing_owner",
     "select pg_catalog.format('foreign key %I to %s belongs to table %s, which role %I does not"
     " own', k.conname, p.oid::pg_catalog.regclass, k.conrelid::pg_catalog.regclass, "
     "current_user),"
     "       pg_catalog.format('GRANT %I TO %I; the foreign key is created again on that table.',"
     "         pg_catalog.pg_get_userbyid(r.relowner), current_user)" FROM_PARTITION
     "  join pg_catalog.pg_constraint k on k.contype = 'f' and k.conparentid = 0"
     "   and k.confrelid = p.oid and k.conrelid <> c.oid"
     "  join pg_catalog.pg_class r on r.oid = k.conrelid" WHERE_PARTITION
     "   and not pg_catalog.pg_has_role(r.relowner, 'usage')" UNUSED},
    {"partition_reference",
     "select pg_catalog.format('foreign key %I references %s, of which %s is a partition',"
     "         k.conname, k.confrelid::pg_catalog.regclass, c.oid::pg_catalog.regclass),"
     "       'Drop it first and create it again afterwards, or use plain "
     "ALTER TABLE.'" FROM_PARTITION
     "  join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'f'"
     "   and k.conparentid = 0 and k.confrelid <> c.oid and k.confrelid in ("
     "     select relid from pg_catalog.pg_partition_ancestors(c.oid))" WHERE_PARTITION UNUSED},
    {"partition_index",
     "select pg_catalog.format('index %s of %s has no counterpart on %s, and ATTACH PARTITION would"
     " build it under the lock', x.indexrelid::pg_catalog.regclass, p.oid::pg_catalog.regclass,"
     "         c.oid::pg_catalog.regclass),"
     "       'ALTER INDEX ... ATTACH PARTITION, or drop it.'" FROM_PARTITION
     "  join pg_catalog.pg_index x on x.indrelid = p.oid and not exists ("
     "    select from pg_catalog.pg_inherits h join pg_catalog.pg_index y on y.indexrelid = "
     "h.inhrelid"
     "     where h.inhparent = x.indexrelid and y.indrelid = c.oid)" WHERE_PARTITION UNUSED},
    {"partition_check",
     "select pg_catalog.format('constraint %I of %s comes from %s and is not valid, and ATTACH"
     " PARTITION demands a valid one', k.conname, c.oid::pg_catalog.regclass,"
     "         p.oid::pg_catalog.regclass),"
     "       pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I;',"
     "         c.oid::pg_catalog.regclass, k.conname)" FROM_PARTITION
     "  join pg_catalog.pg_constraint k on k.conrelid = c.oid and k.contype = 'c'"
     "   and k.coninhcount > 0 and not k.convalidated" WHERE_PARTITION UNUSED},
    {NULL, NULL},
};
