/*
 * The preflight checks; see checks.h.  All are read-only, and each objection comes with its cure.
 *
 * Every query mentions its four parameters, so that all can be run alike.
 */
#include "phase/checks.h"

#include <stddef.h>

#include "pg/dependents.h"
#include "pg/tree.h"
#include "pg/version.h"
#include "phase/identity.h"

#define UNUSED                                                             \
    " and ($1::pg_catalog.oid, $2::pg_catalog.int8, $3::pg_catalog.text, " \
    "$4::pg_catalog.text) is not null"

/* Behind WITH_DEPENDENTS: what the swap gives a new definition, and whether it creates it for that. */
#define DEPENDENT_OBJECTS                                                                         \
    ", objects as ("                                                                              \
    "  select distinct case c.relkind when 'v' then 'view' when 'm' then 'materialized view'"     \
    "           else 'table' end as what, c.oid::pg_catalog.regclass::text as name,"              \
    "         c.relowner as owner, c.relnamespace as ns, c.relkind in ('v', 'm') as creates"      \
    "    from (select r.ev_class as oid from touched t join ids i on t.classid = i.rule"          \
    "            join pg_catalog.pg_rewrite r on r.oid = t.objid"                                 \
    "          union select p.polrelid from touched t join ids i on t.classid = i.pol"            \
    "            join pg_catalog.pg_policy p on p.oid = t.objid"                                  \
    "          union select n.objid from renewed n join ids i on n.classid = i.rel"               \
    "           where n.objid <> $1) x join pg_catalog.pg_class c on c.oid = x.oid"               \
    "  union all"                                                                                 \
    "  select 'function', p.oid::pg_catalog.regprocedure::text, p.proowner, p.pronamespace, true" \
    "    from (select classid, objid from renewed union select classid, objid from touched) x"    \
    "    join ids i on x.classid = i.proc join pg_catalog.pg_proc p on p.oid = x.objid"           \
    ") "

const Check CHECKS_SERVER[] = {
    {"version", "select pg_catalog.format('the server is version %s', pg_catalog.current_setting("
                "         'server_version')), 'PostgreSQL 13 or later is needed.'"
                " where " VERSION_TOO_OLD UNUSED},
    {"standby", "select 'the server is a standby', 'Connect to the primary.'"
                " where pg_catalog.pg_is_in_recovery()" UNUSED},
    {"wal_level",
     "select pg_catalog.format('wal_level is %L', pg_catalog.current_setting('wal_level')),"
     "       'Set wal_level = logical and restart the server (on managed services: the parameter"
     " that enables logical replication).'"
     " where pg_catalog.current_setting('wal_level') <> 'logical'" UNUSED},
    {"replication_slots",
     "select pg_catalog.format('all %s replication slots are in use', m),"
     "       'Raise max_replication_slots, or drop a slot that nobody needs.'"
     "  from (select pg_catalog.current_setting('max_replication_slots')::int as m) s"
     " where (select pg_catalog.count(*) from pg_catalog.pg_replication_slots) >= m"
     /* an interrupted run has one, which goes on with it or is removed */
     "   and not exists (select from pg_catalog.pg_replication_slots where not active"
     "     and slot_name ~ '^walter_[0-9a-f]{8}$' and database = "
     "pg_catalog.current_database())" UNUSED},
    {"wal_senders",
     "select pg_catalog.format('all %s WAL senders are in use', m), 'Raise max_wal_senders.'"
     "  from (select pg_catalog.current_setting('max_wal_senders')::int as m) s"
     " where (select pg_catalog.count(*) from pg_catalog.pg_stat_replication) >= m" UNUSED},
    {"connections",
     "select pg_catalog.format('the run needs %s connections, and only %s of %s are free', "
     "$2::int8,"
     "         f, pg_catalog.current_setting('max_connections')),"
     "       'Use fewer --jobs, or raise max_connections.'"
     "  from (select pg_catalog.current_setting('max_connections')::int"
     "             - pg_catalog.current_setting('superuser_reserved_connections')::int"
     "             - pg_catalog.count(*) as f from pg_catalog.pg_stat_activity"
     /* of other roles' sessions only the user shows; background processes have none */
     "         where usesysid is not null and pid not in ("
     "           select pid from pg_catalog.pg_stat_replication)) s"
     " where f < $2::int8" UNUSED},
    {"replication_role",
     "select pg_catalog.format('role %I may not replicate', rolname),"
     "       pg_catalog.format('ALTER ROLE %I REPLICATION; (Amazon RDS: GRANT rds_replication TO"
     " %I;)', rolname, rolname)"
     "  from pg_catalog.pg_roles r where rolname = current_user and not rolsuper"
     "   and not rolreplication and not exists (select from pg_catalog.pg_roles d"
     "     where d.rolname = 'rds_replication' and pg_catalog.pg_has_role(r.oid, d.oid, "
     "'member'))" UNUSED},
    {"create_on_database",
     "select pg_catalog.format('role %I may not create schemas in database %I', current_user,"
     "         pg_catalog.current_database()),"
     "       pg_catalog.format('GRANT CREATE ON DATABASE %I TO %I;', pg_catalog.current_database(),"
     "         current_user)"
     " where not pg_catalog.has_database_privilege(pg_catalog.current_database(), "
     "'create')" UNUSED},
    {"synchronous_standby",
     "select 'synchronous_standby_names contains ''*'', so this tool would become a synchronous"
     " standby and every commit would wait for it',"
     "       'Name the standbys in synchronous_standby_names instead of ''*''.'"
     " where pg_catalog.current_setting('synchronous_standby_names') ~ '\\*'" UNUSED},
    {"wal2json_encoding",
     "select pg_catalog.format('wal2json needs a UTF8 database, this one is %s',"
     "         pg_catalog.current_setting('server_encoding')), 'Use --plugin=pgoutput.'"
     " where $3 = 'wal2json' and pg_catalog.current_setting('server_encoding') <> 'UTF8'" UNUSED},
    {NULL, NULL},
};

const Check CHECKS_FIRST[] = {
    {"kind",
     "select pg_catalog.format('%s is %s', c.oid::pg_catalog.regclass, case c.relkind"
     "         when 'v' then 'a view'"
     "         when 'm' then 'a materialized view' when 'f' then 'a foreign table'"
     "         when 'S' then 'a sequence' when 'i' then 'an index' else 'not a table' end),"
     "       'Only ordinary and partitioned tables can be altered online.'"
     "  from pg_catalog.pg_class c where c.oid = $1 and c.relkind not in ('r', 'p')" UNUSED},
    {"persistence",
     "select pg_catalog.format('%s is %s and leaves nothing in the WAL to follow',"
     "         c.oid::pg_catalog.regclass, case c.relpersistence when 'u' then 'unlogged'"
     "         else 'temporary' end), 'Use plain ALTER TABLE, or SET LOGGED first.'"
     "  from pg_catalog.pg_class c where c.oid = $1 and c.relpersistence <> 'p'" UNUSED},
    {"system_catalog",
     "select pg_catalog.format('%s belongs to the system, or to walter itself',"
     "         c.oid::pg_catalog.regclass), 'It cannot be altered online.'"
     "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
     " where c.oid = $1 and (n.nspname in ('pg_catalog', 'information_schema', 'pg_toast')"
     "   or n.nspname = 'walter' or n.nspname ~ '^walter_[0-9a-f]{8}')" UNUSED},
    {"state_schema",
     "select pg_catalog.format('schema walter, which keeps the state of all runs, belongs to %I, "
     "and"
     " role %I may not use it', pg_catalog.pg_get_userbyid(w.nspowner), m.role),"
     "       pg_catalog.format('As %I: GRANT USAGE, CREATE ON SCHEMA walter TO %I; GRANT SELECT,"
     " INSERT, UPDATE, DELETE ON walter.run TO %I;', pg_catalog.pg_get_userbyid(w.nspowner), "
     "m.role,"
     "         m.role)"
     "  from pg_catalog.pg_namespace w"
     "  left join pg_catalog.pg_class r on r.relnamespace = w.oid and r.relname = 'run'"
     "  join (select current_user::text as role"
     /* apply writes its position as the table's owner; who owns the schema can grant that */
     "        union select pg_catalog.pg_get_userbyid(c.relowner)::text from pg_catalog.pg_class c"
     "         where c.oid = $1) m on true"
     " where w.nspname = 'walter' and case when m.role = current_user"
     "     then not (pg_catalog.has_schema_privilege(w.oid, 'usage')"
     "       and pg_catalog.has_schema_privilege(w.oid, 'create') and (r.oid is null or ("
     "       pg_catalog.has_table_privilege(r.oid, 'select')"
     "       and pg_catalog.has_table_privilege(r.oid, 'insert')"
     "       and pg_catalog.has_table_privilege(r.oid, 'update')"
     "       and pg_catalog.has_table_privilege(r.oid, 'delete'))))"
     "     else not (pg_catalog.has_schema_privilege((select c.relowner from pg_catalog.pg_class c"
     "         where c.oid = $1), w.oid, 'usage')"
     "       or pg_catalog.pg_has_role(w.nspowner, 'usage')) end" UNUSED},
    {NULL, NULL},
};

const Check CHECKS_TABLE[] = {
    {"typed", "select pg_catalog.format('%s is a typed table (OF %s)', c.oid::pg_catalog.regclass,"
              "         c.reloftype::pg_catalog.regtype), 'Run ALTER TABLE ... NOT OF first.'"
              "  from pg_catalog.pg_class c where c.oid = $1 and c.reloftype <> 0" UNUSED},
    {"inheritance",
     "select pg_catalog.format('%s %s %s', $1::pg_catalog.regclass, case when i.inhrelid = $1"
     "         then 'inherits from' else 'is inherited by' end, case when i.inhrelid = $1"
     "         then i.inhparent else i.inhrelid end::pg_catalog.regclass),"
     "       'Run ALTER TABLE ... NO INHERIT first, or use plain ALTER TABLE.'"
     "  from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid"
     " where (i.inhrelid = $1 or i.inhparent = $1) and not c.relispartition" UNUSED},
    /* a staging table has two columns of our own beside those of the table */
    {"columns", "select pg_catalog.format('%s has %s columns, and walter can follow at most 1598',"
                "         $1::pg_catalog.regclass, pg_catalog.count(*)), 'Use plain ALTER TABLE.'"
                "  from pg_catalog.pg_attribute a where a.attrelid = $1 and a.attnum > 0"
                "   and not a.attisdropped having pg_catalog.count(*) > 1598" UNUSED},
    {"ownership",
     "select pg_catalog.format('role %I does not own %s', current_user, "
     "c.oid::pg_catalog.regclass),"
     "       pg_catalog.format('Connect as %I, or GRANT %I TO %I;', o.rolname, o.rolname,"
     "         current_user)"
     "  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner"
     " where c.oid = $1 and not (pg_catalog.pg_has_role(c.relowner, 'member')"
     "   and pg_catalog.pg_has_role(c.relowner, 'usage'))" UNUSED},
    {"create_on_schema",
     "select pg_catalog.format('role %I may not create tables in schema %I', o.rolname, n.nspname),"
     "       pg_catalog.format('GRANT CREATE ON SCHEMA %I TO %I;', n.nspname, o.rolname)"
     "  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
     "  join pg_catalog.pg_roles o on o.oid = c.relowner"
     "  join pg_catalog.pg_roles me on me.rolname = current_user"
     " where c.oid = $1 and not me.rolsuper"
     "   and not pg_catalog.has_schema_privilege(o.oid, n.oid, 'create')" UNUSED},
    {"temporary_tables",
     "select pg_catalog.format('role %I may not create temporary tables', o.rolname),"
     "       pg_catalog.format('GRANT TEMPORARY ON DATABASE %I TO %I;',"
     "         pg_catalog.current_database(), o.rolname)"
     "  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner"
     " where c.oid = $1 and not pg_catalog.has_database_privilege(o.oid,"
     "         pg_catalog.current_database(), 'temporary')" UNUSED},
    /* indexes of tables are built as their owner, who makes all else of them, too, unless we are a
     * superuser; matviews are made by whoever has connected */
    {"tablespace", WITH_DEPENDENTS
     ", tables as ("
     "  select t.oid, true as owned from " TREE_OIDS " t"
     "  union all select n.objid, false from renewed n join ids i on n.classid = i.rel"
     "   where n.objid <> $1"
     "), made as ("
     "  select oid, owned from tables union all select x.indexrelid, t.owned"
     "    from tables t join pg_catalog.pg_index x on x.indrelid = t.oid"
     "), creations as ("
     "  select s.oid as space, s.spcname, c.oid, case when m.owned and (not me.rolsuper"
     "           or c.relkind = 'i') then o.relowner else me.oid end as role"
     "    from made m join pg_catalog.pg_class c on c.oid = m.oid"
     "    join pg_catalog.pg_tablespace s on s.oid = c.reltablespace"
     "    join pg_catalog.pg_class o on o.oid = $1"
     "    join pg_catalog.pg_roles me on me.rolname = current_user"
     ")"
     "select pg_catalog.format('role %I may not create in tablespace %I, where %s%s', r.rolname,"
     "         c.spcname, (pg_catalog.array_agg(c.oid order by c.oid))[1]::pg_catalog.regclass,"
     "         case pg_catalog.count(*) when 1 then ' is' else pg_catalog.format("
     "           ' and %s more of what is made anew are', pg_catalog.count(*) - 1) end),"
     "       pg_catalog.format('GRANT CREATE ON TABLESPACE %I TO %I;', c.spcname, r.rolname)"
     "  from creations c join pg_catalog.pg_roles r on r.oid = c.role"
     " where not pg_catalog.has_tablespace_privilege(c.role, c.space, 'create')" UNUSED
     " group by c.spcname, r.rolname order by 1"},
    {"identity",
     "select case when c.relreplident = 'n' then pg_catalog.format('%s has REPLICA IDENTITY "
     "NOTHING:"
     " published, its rows could not be updated or deleted any more', c.oid::pg_catalog.regclass)"
     "   else pg_catalog.format('%s has no primary key (or a deferrable one), and rows cannot be"
     " followed', c.oid::pg_catalog.regclass) end,"
     "       coalesce(case when b.relname is not null then pg_catalog.format('ALTER TABLE %s "
     "REPLICA IDENTITY USING INDEX %I; or add"
     " --set-replica-identity, which does so for the time of the run.',"
     "           c.oid::pg_catalog.regclass, b.relname) end,"
     "         'Add a primary key, or a unique index on NOT NULL columns and make it the replica"
     " identity.')"
     "  from pg_catalog.pg_class c left join lateral ("
     "    select ic.relname from pg_catalog.pg_index x"
     "      join pg_catalog.pg_class ic on ic.oid = x.indexrelid where " IDENTITY_USABLE
     "     order by " IDENTITY_BEST_FIRST " limit 1) b on true"
     /* of a partitioned table it is the partitions that matter */
     " where c.oid = $1 and c.relkind <> 'p' and not exists ("
     "    select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisvalid"
     "       and i.indimmediate and case c.relreplident when 'i' then i.indisreplident"
     "           when 'n' then false else i.indisprimary end)"
     "   and (b.relname is null or c.relreplident = 'i' or $4 !~ 'set-replica-identity')" UNUSED},
    {"generated_key",
     "select pg_catalog.format('key column %I is a generated column, which the stream leaves out',"
     "         a.attname), 'Choose another REPLICA IDENTITY USING INDEX.'"
     "  from pg_catalog.pg_class c join pg_catalog.pg_index i on i.indrelid = c.oid"
     "   and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end"
     "  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attgenerated <> ''"
     "   and a.attnum = any ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts-1])"
     " where c.oid = $1" UNUSED},
    {"generated_identity",
     "select pg_catalog.format('%s has REPLICA IDENTITY FULL and generated columns, and as soon as"
     " it is published PostgreSQL refuses every UPDATE and DELETE of it',"
     "         c.oid::pg_catalog.regclass),"
     "       pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY DEFAULT;',"
     "         c.oid::pg_catalog.regclass)"
     "  from pg_catalog.pg_class c where c.relkind = 'r' and c.relreplident = 'f'"
     "   and " VERSION_MINDS_GENERATED_IDENTITY
     "   and (c.oid = $1 or c.oid in (select relid from pg_catalog.pg_partition_tree($1)))"
     "   and exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid"
     "     and a.attgenerated <> '' and not a.attisdropped)" UNUSED},
    {"invalid_index",
     "select pg_catalog.format('index %s is invalid', x.indexrelid::pg_catalog.regclass),"
     "       pg_catalog.format('REINDEX INDEX CONCURRENTLY %s; or drop it.',"
     "         x.indexrelid::pg_catalog.regclass)"
     "  from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indrelid"
     " where c.oid = $1 and c.relkind <> 'p'"
     "   and not (x.indisvalid and x.indisready and x.indislive)" UNUSED},
    {"publication",
     "select pg_catalog.format('publication %I is FOR ALL TABLES: its subscribers would be sent the"
     " rows of the shadow table, and stop with an error where they have no such table', p.pubname),"
     "       'Replace it by a publication that lists its tables, or, if its subscribers ignore"
     " tables that they do not know, add --allow-all-tables-publication.'"
     "  from pg_catalog.pg_publication p"
     " where p.puballtables and $4 !~ 'all-tables-publication'" UNUSED},
    {"publication_owner",
     "select pg_catalog.format('publication %I, which publishes the table, belongs to %I, and role"
     " %I may not give it the new table', p.pubname, o.rolname, current_user),"
     "       pg_catalog.format('GRANT %I TO %I; or connect as a superuser.', o.rolname,"
     "         current_user)"
     "  from pg_catalog.pg_publication_rel r"
     "  join pg_catalog.pg_publication p on p.oid = r.prpubid"
     "  join pg_catalog.pg_roles o on o.oid = p.pubowner"
     " where r.prrelid = $1 and not pg_catalog.pg_has_role(p.pubowner, 'usage')" UNUSED},
    {"subscription",
     "select pg_catalog.format('the table is written by %s, which would go on writing the old one',"
     "         pg_catalog.pg_describe_object('pg_catalog.pg_subscription'::pg_catalog.regclass,"
     "           r.srsubid, 0)),"
     "       'Take the table out of the subscription for the time of the run (ALTER SUBSCRIPTION "
     "..."
     " REFRESH PUBLICATION WITH (copy_data = false) after the publisher has dropped it from the"
     " publication, and again after it was added), or use plain ALTER TABLE.'"
     "  from pg_catalog.pg_subscription_rel r where r.srrelid = $1" UNUSED},
    {"row_security",
     "select pg_catalog.format('row level security is forced on %s, so not even its owner %I may"
     " read all of its rows', c.oid::pg_catalog.regclass, o.rolname),"
     "       pg_catalog.format('ALTER ROLE %I BYPASSRLS; or, until the run is over, ALTER TABLE %s"
     " NO FORCE ROW LEVEL SECURITY;', o.rolname, c.oid::pg_catalog.regclass)"
     "  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner"
     " where c.oid = $1 and c.relrowsecurity and c.relforcerowsecurity"
     "   and not (o.rolsuper or o.rolbypassrls)" UNUSED},
    {"statistics_owner",
     "select pg_catalog.format('statistics object %I.%I belongs to %I, not to the table''s owner "
     "%I',"
     "         n.nspname, s.stxname, o.rolname, t.rolname),"
     "       pg_catalog.format('ALTER STATISTICS %I.%I OWNER TO %I; or connect as a superuser.',"
     "         n.nspname, s.stxname, t.rolname)"
     "  from pg_catalog.pg_statistic_ext s join pg_catalog.pg_class c on c.oid = s.stxrelid"
     "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
     "  join pg_catalog.pg_roles o on o.oid = s.stxowner"
     "  join pg_catalog.pg_roles t on t.oid = c.relowner"
     " where s.stxrelid = $1 and s.stxowner <> c.relowner"
     "   and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)" UNUSED},
    {"statistics_schema",
     "select pg_catalog.format('role %I may not create statistics objects in schema %I (%I)',"
     "         current_user, n.nspname, s.stxname),"
     "       pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA %I TO %I;', n.nspname, current_user)"
     "  from pg_catalog.pg_statistic_ext s"
     "  join pg_catalog.pg_namespace n on n.oid = s.stxnamespace"
     " where s.stxrelid = $1 and not (pg_catalog.has_schema_privilege(n.oid, 'create')"
     "   and pg_catalog.has_schema_privilege(n.oid, 'usage'))" UNUSED},
    {"matview", WITH_DEPENDENTS
     ", m as ("
     "  select c.*, c.oid::pg_catalog.regclass as shown from renewed n"
     "    join ids i on n.classid = i.rel"
     "    join pg_catalog.pg_class c on c.oid = n.objid and c.relkind = 'm'"
     "), names as ("
     "  select c.relname from renewed n join ids i on n.classid = i.rel, lateral ("
     "    select x.indexrelid as oid from pg_catalog.pg_index x where x.indrelid = n.objid"
     "    union all select n.objid"
     "    union all select d.objid from pg_catalog.pg_depend d where d.classid = i.rel"
     "      and d.refclassid = i.rel and d.refobjid = n.objid and d.deptype in ('a', 'i')"
     "      and d.objid not in (select indexrelid from pg_catalog.pg_index"
     "                           where indrelid = n.objid)"
     "  ) x join pg_catalog.pg_class c on c.oid = x.oid and c.relkind <> 't'"
     ")"
     "select pg_catalog.format('materialized view %s %s', m.shown, o.why),"
     "       'Drop it first and create it again afterwards, or use plain ALTER TABLE.'"
     "  from m, lateral ("
     "    select pg_catalog.format('has statistics object %I.%I of %I, which role %I cannot make"
     " again', e.nspname, s.stxname, pg_catalog.pg_get_userbyid(s.stxowner), current_user)"
     "      from pg_catalog.pg_statistic_ext s"
     "      join pg_catalog.pg_namespace e on e.oid = s.stxnamespace"
     "     where s.stxrelid = m.oid and not (pg_catalog.pg_has_role(s.stxowner, 'usage')"
     "       and pg_catalog.has_schema_privilege(e.oid, 'create')"
     "       and pg_catalog.has_schema_privilege(e.oid, 'usage')"
     "       and (pg_catalog.has_schema_privilege(s.stxowner, e.oid, 'create')"
     "         or (select rolsuper from pg_catalog.pg_roles where rolname = current_user)))"
     "    union all"
     "    select pg_catalog.format('belongs to extension %I', e.extname)"
     "      from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid"
     "      cross join ids i where d.classid = i.rel and d.objid = m.oid and d.deptype = 'e'"
     "       and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
     "    union all"
     "    select pg_catalog.format('reads %s, which is not populated', u.shown)"
     "      from m u join ids i on true join pg_catalog.pg_depend d on d.refclassid = i.rel"
     "       and d.refobjid = u.oid and d.classid = i.rule"
     "      join pg_catalog.pg_rewrite r on r.oid = d.objid and r.ev_class = m.oid"
     "     where m.relispopulated and not u.relispopulated and u.oid <> m.oid"
     "    union all"
     "    select pg_catalog.format('is read by %s of the table itself', pg_catalog.split_part("
     "             pg_catalog.pg_describe_object(d.classid, d.objid, 0), ' on ', 1))"
     "      from ids i join pg_catalog.pg_depend d on d.refclassid = i.rel and d.refobjid = m.oid"
     "     where d.objid in (select oid from pg_catalog.pg_rewrite where ev_class = $1"
     "                       union all select oid from pg_catalog.pg_policy where polrelid = $1)"
     "    union all"
     "    select pg_catalog.format('or an index of it has a name, %I, that something else that"
     " changes places has, too', n.relname) from names n where n.relname in ("
     "       select m.relname union all select c.relname from pg_catalog.pg_index x"
     "         join pg_catalog.pg_class c on c.oid = x.indexrelid where x.indrelid = m.oid)"
     "     group by n.relname having pg_catalog.count(*) > 1"
     "  ) o (why) where true" UNUSED " order by 1"},
    {"dependent_owner", WITH_DEPENDENTS DEPENDENT_OBJECTS
     "select pg_catalog.format('%s %s depends on the table and belongs to %I, as whom role %I "
     "cannot"
     " act', what, name, pg_catalog.pg_get_userbyid(owner), current_user),"
     "       pg_catalog.format('GRANT %I TO %I; it gets a new definition in the swap.',"
     "         pg_catalog.pg_get_userbyid(owner), current_user)"
     "  from objects where not pg_catalog.pg_has_role(owner, 'usage')" UNUSED " order by 1"},
    {"dependent_schema", WITH_DEPENDENTS DEPENDENT_OBJECTS
     "select distinct pg_catalog.format('role %I may not create in schema %I, where %s %s depends "
     "on"
     " the table', current_user, n.nspname, what, name),"
     "       pg_catalog.format('GRANT USAGE, CREATE ON SCHEMA %I TO %I;', n.nspname, current_user)"
     "  from objects o join pg_catalog.pg_namespace n on n.oid = o.ns"
     " where not (pg_catalog.has_schema_privilege(n.oid, 'usage') and (not creates or"
     "            pg_catalog.has_schema_privilege(n.oid, 'create')))" UNUSED " order by 1"},
    {"dependent_owner_schema", WITH_DEPENDENTS DEPENDENT_OBJECTS
     "select pg_catalog.format('%s %s is made anew, and its owner %I may not create in schema %I',"
     "         what, name, pg_catalog.pg_get_userbyid(owner), n.nspname),"
     "       pg_catalog.format('GRANT CREATE ON SCHEMA %I TO %I; or connect as a superuser.',"
     "         n.nspname, pg_catalog.pg_get_userbyid(owner))"
     "  from objects o join pg_catalog.pg_namespace n on n.oid = o.ns where what = 'function'"
     "   and not pg_catalog.has_schema_privilege(owner, n.oid, 'create')"
     "   and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)" UNUSED
     " order by 1"},
    {"dependent_grantor", WITH_DEPENDENTS
     ", grants as ("
     "  select 'materialized view' as what, c.oid::pg_catalog.regclass::text as name, c.relowner as"
     "         owner, c.relnamespace as ns, x.grantor"
     "    from renewed n join ids i on n.classid = i.rel join pg_catalog.pg_class c on c.oid = "
     "n.objid"
     "     and c.relkind = 'm', lateral (select c.relacl as acl union all select a.attacl"
     "           from pg_catalog.pg_attribute a where a.attrelid = c.oid) l,"
     "         pg_catalog.aclexplode(l.acl) x"
     "  union all"
     "  select 'function', p.oid::pg_catalog.regprocedure::text, p.proowner, p.pronamespace, "
     "x.grantor"
     "    from renewed n join ids i on n.classid = i.proc join pg_catalog.pg_proc p on p.oid = "
     "n.objid,"
     "         pg_catalog.aclexplode(p.proacl) x"
     ")"
     "select distinct pg_catalog.format('privileges on %s %s were granted by %I, as whom role %I "
     "cannot"
     " grant them again', what, name, pg_catalog.pg_get_userbyid(grantor), current_user),"
     "       pg_catalog.format('GRANT %I TO %I; GRANT USAGE ON SCHEMA %I TO %I;',"
     "         pg_catalog.pg_get_userbyid(grantor), current_user, s.nspname,"
     "         pg_catalog.pg_get_userbyid(grantor))"
     "  from grants g join pg_catalog.pg_namespace s on s.oid = g.ns where grantor <> owner"
     "   and not (pg_catalog.pg_has_role(grantor, 'member')"
     "     and pg_catalog.has_schema_privilege(grantor, s.oid, 'usage'))" UNUSED " order by 1"},
    {"dependent_temporary", WITH_DEPENDENTS DEPENDENT_OBJECTS
     "select pg_catalog.format('temporary %s %s of a session depends on the table', what, name),"
     "       'Drop it, or end the session that has it.'"
     "  from objects o join pg_catalog.pg_namespace n on n.oid = o.ns"
     " where n.nspname ~ '^pg_temp_'" UNUSED " order by 1"},
    {"function", WITH_DEPENDENTS
     "select pg_catalog.format('function %s depends on the table or its row type, %s',"
     "         p.oid::pg_catalog.regprocedure, o.why),"
     "       'Drop it first and create it again afterwards, or use plain ALTER TABLE.'"
     "  from (select * from renewed union all select classid, objid, null from touched) n"
     "  join ids i on n.classid = i.proc join pg_catalog.pg_proc p on p.oid = n.objid"
     "  join pg_catalog.pg_language l on l.oid = p.prolang, lateral ("
     "    select 'and is an aggregate' where p.prokind = 'a'"
     "    union all"
     "    select pg_catalog.format('and only a superuser can create it again') where "
     "(p.proleakproof"
     "       or not l.lanpltrusted) and not (select rolsuper from pg_catalog.pg_roles"
     "                                        where rolname = current_user)"
     "    union all"
     "    select pg_catalog.format('and belongs to extension %I', e.extname)"
     "      from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid"
     "     where d.classid = i.proc and d.objid = p.oid and d.deptype = 'e'"
     "       and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
     "    union all"
     "    select pg_catalog.format('and %s depends on it', pg_catalog.pg_describe_object("
     "             d.classid, d.objid, d.objsubid))"
     "      from pg_catalog.pg_depend d"
     "     where n.depth is not null and d.refclassid = i.proc and d.refobjid = p.oid"
     "       and not exists (select from touched t where t.classid = d.classid"
     "                          and t.objid = d.objid)"
     "       and not exists (select from renewed r where r.classid = d.classid"
     "                          and r.objid = d.objid)"
     "       and not exists (select from pg_catalog.pg_rewrite w join pg_catalog.pg_class m"
     "             on m.oid = w.ev_class and m.relkind = 'm' where d.classid = i.rule"
     "            and w.oid = d.objid)) o (why) where true" UNUSED " order by 1"},
    {"row_type", WITH_DEPENDENTS
     "select distinct pg_catalog.format('%s uses the row type of %s',"
     "         pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid), n.objid::"
     "pg_catalog.regtype),"
     "       'Change it to another type first, or use plain ALTER TABLE.'"
     "  from renewed n cross join ids i join pg_catalog.pg_depend d on d.refclassid = i.typ"
     "   and d.refobjid = n.objid and d.deptype = 'n'"
     "   and d.classid not in (i.proc, i.rule, i.pol)"
     " where n.classid = i.typ" UNUSED " order by 1"},
    {"other_dependent", WITH_DEPENDENTS
     /* what goes with the old table, and what may still hang on it then */
     ", leaving as ("
     "  select n.classid, n.objid, n.objid as rel from renewed n join ids i on n.classid = i.rel"
     "  union all"
     "  select n.classid, x.indexrelid, n.objid from renewed n join ids i on n.classid = i.rel"
     "    join pg_catalog.pg_index x on x.indrelid = n.objid"
     "  union all"
     "  select 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid, conrelid"
     "    from pg_catalog.pg_constraint where conrelid = $1"
     ")"
     "select distinct pg_catalog.format('%s depends on %s', "
     "pg_catalog.pg_describe_object(d.classid,"
     "         d.objid, d.objsubid), pg_catalog.pg_describe_object(l.classid, l.objid, 0)),"
     "       'Let it use something else first, or use plain ALTER TABLE.'"
     "  from leaving l cross join ids i join pg_catalog.pg_depend d on d.refclassid = l.classid"
     "   and d.refobjid = l.objid"
     "  left join pg_catalog.pg_constraint k on k.oid = d.objid"
     "   and d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass"
     "  left join pg_catalog.pg_attrdef f on f.oid = d.objid"
     "   and d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
     "  left join pg_catalog.pg_trigger g on g.oid = d.objid"
     "   and d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass"
     "  left join pg_catalog.pg_statistic_ext s on s.oid = d.objid"
     "   and d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass"
     " where (d.deptype = 'n' or (g.tgrelid <> l.rel and g.tgconstrrelid <> $1"
     "                            and not g.tgisinternal))"
     "   and not (d.classid in (i.rule, i.proc, i.pol,"
     "         'pg_catalog.pg_publication_rel'::pg_catalog.regclass)"
     "     or coalesce(f.adrelid, k.conrelid, g.tgrelid, s.stxrelid, 0) = l.rel"
     "     or k.contype is not distinct from 'f')"
     "   and not exists (select from pg_catalog.pg_inherits h where d.classid = i.rel"
     "                      and h.inhrelid = d.objid and h.inhparent = l.rel)" UNUSED
     " order by 1"},
    {"referencing_owner",
     "select pg_catalog.format('foreign key %I belongs to table %s, which role %I does not own',"
     "         k.conname, k.conrelid::pg_catalog.regclass, current_user),"
     "       pg_catalog.format('GRANT %I TO %I; the foreign key is created again on that table.',"
     "         o.rolname, current_user)"
     "  from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid"
     "  join pg_catalog.pg_roles o on o.oid = c.relowner"
     " where k.contype = 'f' and k.confrelid = $1 and k.conrelid <> $1 and k.conparentid = 0"
     "   and not pg_catalog.pg_has_role(c.relowner, 'usage')" UNUSED},
    {"referenced_privilege",
     "select pg_catalog.format('role %I may not reference table %s (foreign key %I)', current_user,"
     "         k.confrelid::pg_catalog.regclass, k.conname),"
     "       pg_catalog.format('GRANT REFERENCES ON TABLE %s TO %I;',"
     "         k.confrelid::pg_catalog.regclass, current_user)"
     "  from pg_catalog.pg_constraint k"
     " where k.contype = 'f' and k.conrelid = $1 and k.confrelid <> $1 and k.conparentid = 0"
     "   and not pg_catalog.has_table_privilege(k.confrelid, 'references')"
     "   and exists (select from pg_catalog.unnest(k.confkey) a where not"
     "     pg_catalog.has_column_privilege(k.confrelid, a, 'references'))" UNUSED},
    {"partitioned_reference",
     "select pg_catalog.format('foreign key %I belongs to partition %s, which role %I does not "
     "own',"
     "         k.conname, k.conrelid::pg_catalog.regclass, current_user),"
     "       pg_catalog.format('GRANT %I TO %I; the foreign key is created again on that table.',"
     "         o.rolname, current_user)"
     "  from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid"
     "  join pg_catalog.pg_roles o on o.oid = c.relowner"
     " where k.contype = 'f' and k.confrelid = $1 and k.conrelid <> $1 and exists ("
     "     select from pg_catalog.pg_constraint p where p.oid = k.conparentid and p.confrelid = $1)"
     "   and not pg_catalog.pg_has_role(c.relowner, 'usage')" UNUSED},
    {"period_key",
     "select pg_catalog.format('foreign key %I of %s is over a period', k.conname,"
     "         k.conrelid::pg_catalog.regclass),"
     "       'Drop it first and create it again afterwards, or use plain ALTER TABLE.'"
     "  from pg_catalog.pg_constraint k where k.contype = 'f' and k.conparentid = 0"
     "   and pg_catalog.to_jsonb(k)->>'conperiod' = 'true' and exists ("
     "     select from (select $1 union select relid from pg_catalog.pg_partition_tree($1)) t (oid)"
     "      where t.oid in (k.conrelid, k.confrelid))" UNUSED},
    {"extension",
     "select pg_catalog.format('%s belongs to extension %I, %s', pg_catalog.pg_describe_object("
     "         d.classid, d.objid, 0), e.extname, case when e.extconfig @> array[d.objid]"
     "           then 'which has it among its configuration tables'"
     "           else pg_catalog.format('which role %I does not own', current_user) end),"
     "       case when e.extconfig @> array[d.objid] then 'Use plain ALTER TABLE: only the"
     " extension''s own script can name configuration tables.'"
     "         else pg_catalog.format('GRANT %I TO %I; or connect as a superuser.', o.rolname,"
     "           current_user) end"
     "  from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid"
     "  join pg_catalog.pg_roles o on o.oid = e.extowner"
     " where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and (d.objid = $1 or d.objid in"
     "         (select i.objid from pg_catalog.pg_depend i where i.refobjid = $1"
     "             and i.deptype = 'i' and i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
     "             and i.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass))"
     "   and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'"
     "   and (not pg_catalog.pg_has_role(e.extowner, 'usage')"
     "        or e.extconfig @> array[d.objid])" UNUSED},
    {"identity_sequence",
     "select pg_catalog.format('%s uses %s, the sequence of an identity column, which gets a"
     " successor', pg_catalog.pg_describe_object(u.classid, u.objid, u.objsubid),"
     "         d.objid::pg_catalog.regclass),"
     "       'Let it use another sequence first, or use plain ALTER TABLE.'"
     "  from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid"
     "   and s.relkind = 'S'"
     "  join pg_catalog.pg_depend u on u.refobjid = s.oid and u.deptype = 'n'"
     "   and u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
     " where d.refobjid = $1 and d.deptype = 'i'"
     "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
     "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass" UNUSED},
    {"trigger_from",
     "select pg_catalog.format('constraint trigger %I on table %s names the table in its FROM"
     " clause, %s', g.tgname, g.tgrelid::pg_catalog.regclass, o.why), o.cure"
     "  from pg_catalog.pg_trigger g join pg_catalog.pg_class c on c.oid = g.tgrelid, lateral ("
     "    select 'and that is a partitioned table', 'Drop it first and create it again afterwards,"
     " or use plain ALTER TABLE.' where c.relkind = 'p'"
     "    union all"
     "    select pg_catalog.format('and role %I does not own that table', current_user),"
     "           pg_catalog.format('GRANT %I TO %I; the trigger is created again on it.',"
     "             pg_catalog.pg_get_userbyid(c.relowner), current_user)"
     "     where not pg_catalog.pg_has_role(c.relowner, 'usage')"
     "    union all"
     "    select pg_catalog.format('and role %I may not execute its function', current_user),"
     "           pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I;',"
     "             g.tgfoid::pg_catalog.regprocedure, current_user)"
     "     where not pg_catalog.has_function_privilege(g.tgfoid, 'execute')) o (why, cure)"
     " where g.tgconstrrelid = $1 and g.tgrelid <> $1 and not g.tgisinternal" UNUSED},
    {"trigger_state",
     "select distinct pg_catalog.format('the triggers behind constraint %I of %s are not enabled as"
     " usual, which only a superuser can repeat', k.conname, g.tgrelid::pg_catalog.regclass),"
     "       'Connect as a superuser, or let one enable them.'"
     "  from pg_catalog.pg_trigger g join pg_catalog.pg_constraint k on k.oid = g.tgconstraint"
     " where g.tgrelid in " TREE_OIDS " and g.tgisinternal and g.tgenabled <> 'O'"
     /* not of what the server derives from another key for a partition at its other end */
     "   and (k.contype <> 'f' or k.conparentid = 0 or (k.conrelid = g.tgrelid and exists ("
     "     select from pg_catalog.pg_constraint p where p.oid = k.conparentid"
     "        and p.conrelid <> k.conrelid)))"
     "   and not (select rolsuper from pg_catalog.pg_roles where rolname = current_user)" UNUSED
     " order by 1"},
    {"security_label", WITH_DEPENDENTS
     "select pg_catalog.format('the row type %s has a security label (%s), which is not carried"
     " over', n.objid::pg_catalog.regtype, l.provider),"
     "       'Take it away first, or use plain ALTER TABLE.'"
     "  from renewed n join ids i on n.classid = i.typ join pg_catalog.pg_seclabel l"
     "    on l.classoid = i.typ and l.objoid = n.objid where true" UNUSED " order by 1"},
    {"grantor",
     "select distinct pg_catalog.format('privileges were granted by %I, and only that role or a"
     " superuser can grant them again', g.rolname),"
     "       pg_catalog.format('GRANT %I TO %I; or connect as a superuser.', g.rolname, "
     "current_user)"
     "  from pg_catalog.pg_class c, lateral (select c.relacl as acl"
     "         union all select a.attacl from pg_catalog.pg_attribute a where a.attrelid = c.oid) "
     "l,"
     "       pg_catalog.aclexplode(l.acl) x join pg_catalog.pg_roles g on g.oid = x.grantor"
     " where c.oid = $1 and not pg_catalog.pg_has_role(x.grantor, 'member')" UNUSED},
    {NULL, NULL},
};
