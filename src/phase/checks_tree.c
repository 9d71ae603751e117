/*
 * The preflight checks of a partitioned table and all that is below it: whatever is not carried over
 * there, and what a partition may not be.  Nothing of this is about a table that is not partitioned.
 */
#include "phase/checks.h"

#include <stddef.h>

#define UNUSED                                                             \
    " and ($1::pg_catalog.oid, $2::pg_catalog.int8, $3::pg_catalog.text, " \
    "$4::pg_catalog.text) is not null"

/*
 * tree: the tables below $1, which come with their parents; all_of_it: these and itself.  Both are
 * empty where $1 is not partitioned.
 */
#define WITH_TREE                                                                              \
    "with recursive tree as ("                                                                 \
    "  select i.inhrelid as oid, i.inhparent as parent from pg_catalog.pg_inherits i"          \
    "    join pg_catalog.pg_class p on p.oid = i.inhparent and p.relkind = 'p'"                \
    "   where i.inhparent = $1"                                                                \
    "  union all"                                                                              \
    "  select i.inhrelid, i.inhparent from tree t"                                             \
    "    join pg_catalog.pg_inherits i on i.inhparent = t.oid"                                 \
    "), all_of_it as ("                                                                        \
    "  select oid from tree union all select oid from pg_catalog.pg_class where oid = $1 and " \
    "relkind = 'p'"                                                                            \
    ") "
#define PLAIN "Use plain ALTER TABLE."

const Check CHECKS_TREE[] = {
    {"tree_root",
     "select pg_catalog.format('%s is itself a partition', c.oid::pg_catalog.regclass),"
     "       'Alter the table at the top of the tree, or use plain ALTER TABLE.'"
     "  from pg_catalog.pg_class c where c.oid = $1 and c.relkind = 'p' and "
     "c.relispartition" UNUSED},
    {"tree_empty", WITH_TREE
     "select pg_catalog.format('%s has no partitions, and so no rows', c.oid::pg_catalog.regclass),"
     "       '" PLAIN "' from pg_catalog.pg_class c where c.oid = $1 and c.relkind = 'p'"
     "   and not exists (select from tree t join pg_catalog.pg_class x on x.oid = t.oid"
     "                     and x.relkind <> 'p')" UNUSED},
    {"tree_kind", WITH_TREE
     "select pg_catalog.format('partition %s is %s', c.oid::pg_catalog.regclass, case"
     "         when c.relkind = 'f' then 'a foreign table'"
     "         when c.relpersistence = 'u' then 'unlogged and leaves nothing in the WAL to follow'"
     "         else 'no ordinary table' end), 'Detach it first, or use plain ALTER TABLE.'"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
     " where (c.relkind not in ('r', 'p') or c.relpersistence <> 'p')" UNUSED},
    {"tree_detaching", WITH_TREE
     "select pg_catalog.format('partition %s is being detached', i.inhrelid::pg_catalog.regclass),"
     "       pg_catalog.format('ALTER TABLE %s DETACH PARTITION %s FINALIZE;',"
     "         i.inhparent::pg_catalog.regclass, i.inhrelid::pg_catalog.regclass)"
     "  from tree t join pg_catalog.pg_inherits i on i.inhrelid = t.oid"
     " where pg_catalog.to_jsonb(i)->>'inhdetachpending' = 'true'" UNUSED},
    {"tree_schema",
     WITH_TREE "select pg_catalog.format('partition %s is in another schema than %s',"
               "         c.oid::pg_catalog.regclass, r.oid::pg_catalog.regclass),"
               "       pg_catalog.format('ALTER TABLE %s SET SCHEMA %I; or use plain ALTER TABLE.',"
               "         c.oid::pg_catalog.regclass, n.nspname)"
               "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
               "  join pg_catalog.pg_class r on r.oid = $1 and r.relnamespace <> c.relnamespace"
               "  join pg_catalog.pg_namespace n on n.oid = r.relnamespace where true" UNUSED},
    {"tree_owner", WITH_TREE
     "select pg_catalog.format('partition %s belongs to %I, and %s to %I',"
     "         c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner),"
     "         r.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(r.relowner)),"
     "       pg_catalog.format('ALTER TABLE %s OWNER TO %I;', c.oid::pg_catalog.regclass,"
     "         pg_catalog.pg_get_userbyid(r.relowner))"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
     "  join pg_catalog.pg_class r on r.oid = $1 and r.relowner <> c.relowner where true" UNUSED},
    {"tree_identity", WITH_TREE
     "select case when c.relreplident = 'n' then pg_catalog.format('partition %s has REPLICA"
     " IDENTITY NOTHING: published, its rows could not be updated or deleted any more',"
     "         c.oid::pg_catalog.regclass) else pg_catalog.format('partition %s has no primary key"
     " (or a deferrable one), and rows cannot be followed', c.oid::pg_catalog.regclass) end,"
     "       'Add a primary key, or a unique index on NOT NULL columns and make it the replica"
     " identity.'"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid and c.relkind = 'r'"
     " where not exists (select from pg_catalog.pg_index i where i.indrelid = c.oid"
     "         and i.indisvalid and i.indimmediate and case c.relreplident"
     "           when 'i' then i.indisreplident when 'n' then false else i.indisprimary "
     "end)" UNUSED},
    {"tree_generated_key", WITH_TREE
     "select pg_catalog.format('key column %I of partition %s is a generated column, which the"
     " stream leaves out', a.attname, c.oid::pg_catalog.regclass),"
     "       'Choose another REPLICA IDENTITY USING INDEX.'"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
     "  join pg_catalog.pg_index i on i.indrelid = c.oid"
     "   and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end"
     "  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attgenerated <> ''"
     "   and a.attnum = any ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts-1]) where true" UNUSED},
    {"invalid_index", WITH_TREE
     "select pg_catalog.format('index %s is invalid', x.indexrelid::pg_catalog.regclass),"
     "       pg_catalog.format(case ic.relkind"
     "         when 'I' then 'ALTER INDEX %s ATTACH PARTITION an index of each partition that"
     " has none in it; or drop it.'"
     "         else 'REINDEX INDEX CONCURRENTLY %s; or drop it.' end,"
     "         x.indexrelid::pg_catalog.regclass)"
     "  from all_of_it t join pg_catalog.pg_index x on x.indrelid = t.oid"
     "  join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
     " where not (x.indisvalid and x.indisready and x.indislive)" UNUSED},
    {"tree_foreign_key", WITH_TREE
     "select pg_catalog.format('foreign key %I of %s references %s%s', k.conname,"
     "         k.conrelid::pg_catalog.regclass, k.confrelid::pg_catalog.regclass, o.why),"
     "       'Drop it first and create it again afterwards, or use plain ALTER TABLE.'"
     "  from pg_catalog.pg_constraint k"
     "  join pg_catalog.pg_class f on f.oid = k.conrelid"
     "  join pg_catalog.pg_class t on t.oid = k.confrelid, lateral ("
     "    select ', a table of the same tree' where k.conrelid in (select oid from all_of_it)"
     "       and k.confrelid in (select oid from all_of_it)"
     "    union all"
     "    select ', and both are partitioned' where f.relkind = 'p' and t.relkind = 'p'"
     "    union all"
     "    select ', and a partition is referenced by a partitioned table' where f.relkind = 'p'"
     "       and k.confrelid in (select oid from tree)"
     "    union all"
     "    select ', and is not valid' where not k.convalidated and f.relkind = 'p'"
     "    union all"
     "    select ', and is disabled or enabled otherwise in a table' where exists ("
     "      select from pg_catalog.pg_constraint x join pg_catalog.pg_trigger g"
     "          on g.tgconstraint = x.oid and g.tgenabled <> 'O'"
     "       where x.oid = k.oid or (x.contype = 'f' and x.conname = k.conname"
     "         and (x.conrelid in (select oid from tree) or x.confrelid in (select oid from "
     "tree))))"
     "    union all"
     "    select pg_catalog.format(', which role %I may not reference', current_user)"
     "     where k.conrelid in (select oid from tree)"
     "       and not pg_catalog.has_table_privilege(k.confrelid, 'references')"
     "    union all"
     "    select pg_catalog.format(', and role %I does not own that table', current_user)"
     "     where k.confrelid in (select oid from tree)"
     "       and not pg_catalog.pg_has_role(f.relowner, 'usage')"
     "  ) o (why)"
     " where k.contype = 'f' and k.conparentid = 0"
     "   and (k.conrelid in (select oid from all_of_it)"
     "        or k.confrelid in (select oid from all_of_it))" UNUSED " order by 1"},
    {"tree_dependent", WITH_TREE
     ", own as ("
     "  select 'pg_catalog.pg_attrdef'::pg_catalog.regclass as classid, oid from"
     "    pg_catalog.pg_attrdef where adrelid in (select oid from tree)"
     "  union all select 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid from"
     "    pg_catalog.pg_constraint where conrelid in (select oid from tree) or contype = 'f'"
     "  union all select 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid from"
     "    pg_catalog.pg_trigger where tgrelid in (select oid from tree)"
     "  union all select 'pg_catalog.pg_policy'::pg_catalog.regclass, oid from"
     "    pg_catalog.pg_policy where polrelid in (select oid from tree)"
     "  union all select 'pg_catalog.pg_rewrite'::pg_catalog.regclass, oid from"
     "    pg_catalog.pg_rewrite where ev_class in (select oid from tree)"
     "  union all select 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, oid from"
     "    pg_catalog.pg_statistic_ext where stxrelid in (select oid from tree)"
     "  union all select 'pg_catalog.pg_publication_rel'::pg_catalog.regclass, oid from"
     "    pg_catalog.pg_publication_rel where prrelid in (select oid from tree)"
     "  union all select 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid from"
     "    pg_catalog.pg_index where indrelid in (select oid from tree)"
     "  union all select 'pg_catalog.pg_class'::pg_catalog.regclass, oid from tree"
     ")"
     "select distinct pg_catalog.format('%s depends on partition %s, which is only carried over"
     " where it is about the whole table', pg_catalog.pg_describe_object(d.classid, d.objid, 0),"
     "         c.oid::pg_catalog.regclass),"
     "       'Let it use the partitioned table, drop it first and create it again afterwards, or"
     " use plain ALTER TABLE.'"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
     "  join pg_catalog.pg_type y on y.oid = c.reltype"
     "  join pg_catalog.pg_depend d on d.deptype in ('n', 'a', 'i')"
     "   and ((d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = t.oid)"
     "        or (d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass"
     "            and d.refobjid in (y.oid, y.typarray)))"
     " where not exists (select from own o where o.classid = d.classid and o.oid = d.objid)"
     "   and not (d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass"
     "            and d.objid in (y.oid, y.typarray))"
     "   and not exists (select from pg_catalog.pg_class s where s.oid = d.objid"
     "        and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and s.relkind = "
     "'t')" UNUSED " order by 1"},
    {"tree_extension", WITH_TREE
     "select pg_catalog.format('partition %s belongs to an extension', t.oid::pg_catalog.regclass),"
     "       '" PLAIN "' from tree t join pg_catalog.pg_depend d on d.objid = t.oid"
     "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype = 'e'"
     " where true" UNUSED},
    {"tree_security_label",
     WITH_TREE "select pg_catalog.format('the row type of partition %s has a security label (%s), "
               "which is not"
               " carried over', t.oid::pg_catalog.regclass, l.provider),"
               "       'Take it away first, or use plain ALTER TABLE.'"
               "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
               "  join pg_catalog.pg_type y on y.oid = c.reltype"
               "  join pg_catalog.pg_seclabel l on l.objoid in (y.oid, y.typarray)"
               "   and l.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass where true" UNUSED},
    {"tree_publication_owner", WITH_TREE
     "select pg_catalog.format('publication %I, which publishes partition %s, belongs to %I, and"
     " role %I may not give it the new table', p.pubname, r.prrelid::pg_catalog.regclass,"
     "         o.rolname, current_user),"
     "       pg_catalog.format('GRANT %I TO %I; or connect as a superuser.', o.rolname,"
     "         current_user)"
     "  from tree t join pg_catalog.pg_publication_rel r on r.prrelid = t.oid"
     "  join pg_catalog.pg_publication p on p.oid = r.prpubid"
     "  join pg_catalog.pg_roles o on o.oid = p.pubowner"
     " where not pg_catalog.pg_has_role(p.pubowner, 'usage')" UNUSED},
    {"tree_subscription", WITH_TREE
     "select pg_catalog.format('partition %s is written by a subscription, which would go on"
     " writing the old one', t.oid::pg_catalog.regclass),"
     "       'Take it out of the subscription for the time of the run, or use plain ALTER TABLE.'"
     "  from tree t join pg_catalog.pg_subscription_rel r on r.srrelid = t.oid where true" UNUSED},
    {"tree_row_security", WITH_TREE
     "select pg_catalog.format('row level security is forced on partition %s, so not even its owner"
     " %I may read all of its rows', c.oid::pg_catalog.regclass, o.rolname),"
     "       pg_catalog.format('ALTER ROLE %I BYPASSRLS; or, until the run is over, ALTER TABLE %s"
     " NO FORCE ROW LEVEL SECURITY;', o.rolname, c.oid::pg_catalog.regclass)"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid"
     "  join pg_catalog.pg_roles o on o.oid = c.relowner"
     " where c.relrowsecurity and c.relforcerowsecurity"
     "   and not (o.rolsuper or o.rolbypassrls)" UNUSED},
    {"tree_statistics", WITH_TREE
     "select pg_catalog.format('statistics object %I.%I of %s %s', n.nspname, s.stxname,"
     "         c.oid::pg_catalog.regclass, case when s.stxowner <> c.relowner"
     "           then 'belongs to another role' else 'is not in its schema' end), '" PLAIN "'"
     "  from all_of_it t join pg_catalog.pg_class c on c.oid = t.oid"
     "  join pg_catalog.pg_statistic_ext s on s.stxrelid = c.oid"
     "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
     " where (s.stxowner <> c.relowner or s.stxnamespace <> c.relnamespace)" UNUSED},
    {"tree_grantor", WITH_TREE
     "select distinct pg_catalog.format('privileges on partition %s were granted by %I, and only"
     " that role or a superuser can grant them again', c.oid::pg_catalog.regclass, g.rolname),"
     "       pg_catalog.format('GRANT %I TO %I; or connect as a superuser.', g.rolname, "
     "current_user)"
     "  from tree t join pg_catalog.pg_class c on c.oid = t.oid, lateral (select c.relacl as acl"
     "         union all select a.attacl from pg_catalog.pg_attribute a where a.attrelid = c.oid) "
     "l,"
     "       pg_catalog.aclexplode(l.acl) x join pg_catalog.pg_roles g on g.oid = x.grantor"
     " where not pg_catalog.pg_has_role(x.grantor, 'member')" UNUSED},
    /* the swap locks each table, its indexes and out-of-line values, old and new, at once */
    {"tree_locks", WITH_TREE
     "select pg_catalog.format('the swap needs about %s locks in one transaction, and the server"
     " has room for %s', n.needed, n.room),"
     "       'Raise max_locks_per_transaction and restart the server.'"
     "  from (select pg_catalog.current_setting('max_locks_per_transaction')::int * ("
     "               pg_catalog.current_setting('max_connections')::int"
     "             + pg_catalog.current_setting('max_prepared_transactions')::int) as room,"
     "               2 * (select pg_catalog.count(*) from all_of_it a"
     "                      join pg_catalog.pg_class c on c.oid = a.oid cross join lateral ("
     "                        select c.oid union all select c.reltoastrelid"
     "                        union all select indexrelid from pg_catalog.pg_index"
     "                         where indrelid in (c.oid, c.reltoastrelid)) x) as needed) n"
     " where n.needed > n.room / 2" UNUSED},
    {NULL, NULL},
};
