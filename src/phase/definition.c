/* What hangs on a table, as SQL; see definition.h. */
#include "phase/definition.h"

#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "phase/sequences.h"

/*
 * Statements that build the indexes of table $1 on table $2 (quoted) in schema $3 (quoted):
 * the index itself, the constraint on it, and what no definition text shows.
 * pg_get_indexdef always names its table right behind "ON", so that name is cut out by position.
 */
static const char SQL_INDEXES[] =
    "with i as ("
    "  select ic.oid, ic.relname, x.indisclustered, x.indisreplident, k.oid as con, k.contype,"
    "         k.conname, k.condeferrable, k.condeferred, ts.spcname,"
    "         pg_catalog.pg_get_indexdef(ic.oid) as def,"
    "         'CREATE ' || case when x.indisunique then 'UNIQUE ' else '' end || 'INDEX '"
    "           || pg_catalog.quote_ident(ic.relname) || ' ON ' as prefix,"
    "         pg_catalog.format('%I.%I', tn.nspname, tc.relname) as owner_table,"
    "         pg_catalog.pg_relation_size(ic.oid) as size"
    "    from pg_catalog.pg_index x"
    "    join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    "    join pg_catalog.pg_class tc on tc.oid = x.indrelid"
    "    join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace"
    "    left join pg_catalog.pg_constraint k on k.conindid = ic.oid and k.conrelid = tc.oid"
    "     and k.contype in ('p', 'u', 'x')"
    "    left join pg_catalog.pg_tablespace ts on ts.oid = ic.reltablespace"
    "   where x.indrelid = $1::pg_catalog.oid"
    ")"
    "select case when contype is distinct from 'x' then"
    "         case when spcname is null then '' else"
    "           pg_catalog.format('set default_tablespace = %I;', spcname) end"
    "         || prefix || $2::text"
    "         || pg_catalog.substr(def, pg_catalog.length(prefix || owner_table) + 1)"
    "         || case when spcname is null then '' else ';set default_tablespace = ''''' end end,"
    "       case when contype = 'x' then"
    "         pg_catalog.format('alter table %s add constraint %I %s', $2, conname,"
    "                           pg_catalog.pg_get_constraintdef(con))"
    "       when contype is not null then"
    "         pg_catalog.format('alter table %s add constraint %I %s using index %I%s%s', $2,"
    "           conname, case contype when 'p' then 'primary key' else 'unique' end, relname,"
    "           case when condeferrable then ' deferrable' else '' end,"
    "           case when condeferred then ' initially deferred' else '' end) end,"
    "       pg_catalog.concat_ws(';',"
    "         pg_catalog.format('comment on index %s.%I is %L', $3::text, relname,"
    "           nullif(pg_catalog.obj_description(oid, 'pg_class'), ''))"
    "           || case when pg_catalog.obj_description(oid, 'pg_class') is null then null else '' "
    "end,"
    "         case when con is not null and pg_catalog.obj_description(con, 'pg_constraint') <> ''"
    "           then pg_catalog.format('comment on constraint %I on %s is %L', conname, $2,"
    "                pg_catalog.obj_description(con, 'pg_constraint')) end,"
    "         (select pg_catalog.string_agg(pg_catalog.format("
    "            'alter index %s.%I alter column %s set statistics %s', $3, relname, a.attnum,"
    "            a.attstattarget), ';') from pg_catalog.pg_attribute a"
    "           where a.attrelid = i.oid and a.attstattarget >= 0),"
    "         case when indisclustered"
    "           then pg_catalog.format('alter table %s cluster on %I', $2, relname) end,"
    "         case when indisreplident"
    "           then pg_catalog.format('alter table %s replica identity using index %I', $2,"
    "                relname) end),"
    "       coalesce(contype in ('u', 'x') and condeferrable, false)"
    "  from i order by size desc, relname";

/* Names are the same on both tables at this point, so columns are matched by name. */
static const char SQL_CLONE_COLUMNS[] =
    "select pg_catalog.format('alter table only %s alter column %I set statistics %s', $2::text,"
    "         attname, attstattarget)"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attnum > 0"
    "   and not attisdropped and attstattarget >= 0"
    " union all"
    " select pg_catalog.format('alter table only %s alter column %I set (%s)', $2, attname,"
    "         (select pg_catalog.string_agg(pg_catalog.format('%I = %L', option_name, "
    "option_value),"
    "                 ', ') from pg_catalog.pg_options_to_table(attoptions)"
    "           where option_name in ('n_distinct', 'n_distinct_inherited')))"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attnum > 0"
    "   and not attisdropped and exists (select from pg_catalog.pg_options_to_table(attoptions)"
    "           where option_name in ('n_distinct', 'n_distinct_inherited'))"
    " union all"
    " select pg_catalog.format('alter table %s set (%s)', $2, o.list)"
    "  from (select pg_catalog.string_agg(pg_catalog.format('%s%I = %L', x.prefix, x.option_name,"
    "                 x.option_value), ', ') as list from ("
    "          select '' as prefix, p.* from pg_catalog.pg_class c,"
    "                 pg_catalog.pg_options_to_table(c.reloptions) p where c.oid = "
    "$1::pg_catalog.oid"
    "          union all"
    "          select 'toast.', p.* from pg_catalog.pg_class c"
    "            join pg_catalog.pg_class t on t.oid = c.reltoastrelid,"
    "                 pg_catalog.pg_options_to_table(t.reloptions) p"
    "           where c.oid = $1::pg_catalog.oid) x) o where o.list is not null"
    " union all"
    " select pg_catalog.format('comment on table %s is %L', $2,"
    "         pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class'))"
    "  where pg_catalog.obj_description($1::pg_catalog.oid, 'pg_class') is not null"
    " union all"
    " select case relreplident when 'f' then pg_catalog.format('alter table %s replica identity"
    " full', $2) else pg_catalog.format('alter table %s replica identity nothing', $2) end"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relreplident in ('f', 'n')";

/* LIKE makes a NOT VALID check valid and knows no NO INHERIT. */
static const char SQL_CLONE_CHECKS[] =
    "select pg_catalog.format('alter table %s drop constraint %I', $2::text, conname),"
    "       pg_catalog.format('alter table %s add constraint %I %s', $2, conname,"
    "         pg_catalog.pg_get_constraintdef(oid)),"
    "       pg_catalog.format('comment on constraint %I on %s is %L', conname, $2,"
    "         pg_catalog.obj_description(oid, 'pg_constraint'))"
    "         || case when pg_catalog.obj_description(oid, 'pg_constraint') is null then null"
    "                 else '' end"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and contype = 'c' and (not convalidated or connoinherit)";

/* An identity column's sequence is made by LIKE, under a name of its own choice. */
static const char SQL_CLONE_SEQUENCES[] =
    "select case when nc.relname <> oc.relname then"
    "         pg_catalog.format('alter sequence %I.%I rename to %I', nn.nspname, nc.relname,"
    "                           oc.relname) end,"
    "       pg_catalog.format('select pg_catalog.setval(%L, last_value, is_called) from %I.%I',"
    "         pg_catalog.format('%I.%I', nn.nspname, oc.relname), os.nspname, oc.relname),"
    "       case when pg_catalog.obj_description(oc.oid, 'pg_class') is not null then"
    "         pg_catalog.format('comment on sequence %I.%I is %L', nn.nspname, oc.relname,"
    "                           pg_catalog.obj_description(oc.oid, 'pg_class')) end"
    "  from pg_catalog.pg_attribute oa"
    "  join pg_catalog.pg_attribute na on na.attrelid = $2::pg_catalog.regclass"
    "   and na.attname = oa.attname and not na.attisdropped"
    "  join pg_catalog.pg_depend od on od.refobjid = oa.attrelid and od.refobjsubid = oa.attnum"
    "   and od.deptype = 'i' and od.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  join pg_catalog.pg_depend nd on nd.refobjid = na.attrelid and nd.refobjsubid = na.attnum"
    "   and nd.deptype = 'i' and nd.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  join pg_catalog.pg_class oc on oc.oid = od.objid and oc.relkind = 'S'"
    "  join pg_catalog.pg_namespace os on os.oid = oc.relnamespace"
    "  join pg_catalog.pg_class nc on nc.oid = nd.objid and nc.relkind = 'S'"
    "  join pg_catalog.pg_namespace nn on nn.oid = nc.relnamespace"
    " where oa.attrelid = $1::pg_catalog.oid and oa.attnum > 0 and not oa.attisdropped"
    "   and oa.attidentity <> ''";

static const char SQL_TRIGGERS[] =
    "select pg_catalog.pg_get_triggerdef(oid),"
    "       case tgenabled when 'D' then pg_catalog.format('alter table %s disable trigger %I', "
    "$2::text, tgname)"
    "         when 'R' then pg_catalog.format('alter table %s enable replica trigger %I', $2, "
    "tgname)"
    "         when 'A' then pg_catalog.format('alter table %s enable always trigger %I', $2, "
    "tgname)"
    "       end,"
    "       case when pg_catalog.obj_description(oid, 'pg_trigger') is not null then"
    "         pg_catalog.format('comment on trigger %I on %s is %L', tgname, $2,"
    "           pg_catalog.obj_description(oid, 'pg_trigger')) end, tgname"
    "  from pg_catalog.pg_trigger where tgrelid = $1::pg_catalog.oid and not tgisinternal"
    " order by tgname";

/*
 * Foreign keys of table $1, for table $2.  $3 = rehearsal schema.  The name of the referenced
 * table: a stand-in's real table, the shadow for a self-reference, else (when cloning) the stand-in.
 */
static const char SQL_FOREIGN_KEYS[] =
    "with k as ("
    "  select k.*, pg_catalog.format('%I.%I', n.nspname, c.relname) as target_name,"
    "         n.nspname, c.relname,"
    "         pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid),"
    "                                   ' NOT VALID$', '') as def"
    "    from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.confrelid"
    "    join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "   where k.conrelid = $1::pg_catalog.oid and k.contype = 'f' and k.conparentid = 0"
    "), named as ("
    "  select k.*, case when confrelid = conrelid then $2::text"
    "    when nspname = $3 and relname ~ '^ref_[0-9]+$'"
    "      then pg_catalog.substr(relname, 5)::pg_catalog.oid::pg_catalog.regclass::text"
    "    else pg_catalog.format('%I.ref_%s', $3, confrelid) end as new_name,"
    "    ' REFERENCES ' || target_name || '(' as needle from k"
    ")"
    "select pg_catalog.format('alter table %s add constraint %I %s', $2, conname,"
    "         pg_catalog.overlay(def, ' REFERENCES ' || new_name || '(',"
    "           pg_catalog.strpos(def, needle), pg_catalog.length(needle))),"
    "       convalidated, conname,"
    "       case when pg_catalog.obj_description(oid, 'pg_constraint') is not null then"
    "         pg_catalog.format('comment on constraint %I on %s is %L', conname, $2,"
    "           pg_catalog.obj_description(oid, 'pg_constraint')) end,"
    "       confrelid, confrelid = conrelid,"
    "       case when confrelid <> conrelid then new_name end"
    "  from named order by conname";

/*
 * Foreign keys that reference table $1 from other tables, for table $2: the child is named by its
 * stand-in ($4 = 'clone') or, read from the stand-ins, by its real name.
 */
static const char SQL_REFERENCING_KEYS[] =
    "with k as ("
    "  select k.*, pg_catalog.format('%I.%I', n.nspname, c.relname) as target_name,"
    "         case when $4 = 'clone' then pg_catalog.format('%I.child_%s', $3::text, k.conrelid)"
    "           else pg_catalog.substr(cc.relname, 7)::pg_catalog.oid::pg_catalog.regclass::text"
    "         end as child,"
    "         pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid),"
    "                                   ' NOT VALID$', '') as def"
    "    from pg_catalog.pg_constraint k"
    "    join pg_catalog.pg_class c on c.oid = k.confrelid"
    "    join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "    join pg_catalog.pg_class cc on cc.oid = k.conrelid"
    "    join pg_catalog.pg_namespace cn on cn.oid = cc.relnamespace"
    "   where k.confrelid = $1::pg_catalog.oid and k.conrelid <> k.confrelid"
    "     and k.contype = 'f' and k.conparentid = 0"
    "     and ($4 = 'clone' or (cn.nspname = $3 and cc.relname ~ '^child_[0-9]+$'))"
    "), named as (select k.*, ' REFERENCES ' || target_name || '(' as needle from k)"
    "select pg_catalog.format('alter table %s add constraint %I %s', child, conname,"
    "         pg_catalog.overlay(def, ' REFERENCES ' || $2::text || '(',"
    "           pg_catalog.strpos(def, needle), pg_catalog.length(needle))),"
    "       convalidated, conname,"
    "       case when pg_catalog.obj_description(oid, 'pg_constraint') is not null then"
    "         pg_catalog.format('comment on constraint %I on %s is %L', conname, child,"
    "           pg_catalog.obj_description(oid, 'pg_constraint')) end,"
    "       conrelid, child"
    "  from named order by child, conname";

/* A stand-in's columns, and unique indexes that foreign keys may reference. */
static const char SQL_STAND_IN[] =
    "select pg_catalog.format('create table %s (%s)', $2::text,"
    "         pg_catalog.string_agg(pg_catalog.format('%I %s%s', a.attname,"
    "           pg_catalog.format_type(a.atttypid, a.atttypmod),"
    "           case when a.attcollation <> 0 and a.attcollation <> t.typcollation then"
    "             (select pg_catalog.format(' collate %I.%I', n.nspname, c.collname)"
    "                from pg_catalog.pg_collation c"
    "                join pg_catalog.pg_namespace n on n.oid = c.collnamespace"
    "               where c.oid = a.attcollation) else '' end), ', ' order by a.attnum))"
    "  from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid"
    " where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"
    " union all"
    " select pg_catalog.format('create unique index u_%s on %s%s', ic.oid, $2,"
    "         pg_catalog.substr(pg_catalog.pg_get_indexdef(ic.oid), 1 + pg_catalog.length("
    "           'CREATE UNIQUE INDEX ' || pg_catalog.quote_ident(ic.relname) || ' ON '"
    "           || case tc.relkind when 'p' then 'ONLY ' else '' end"
    "           || pg_catalog.format('%I.%I', tn.nspname, tc.relname))))"
    "       || case when x.indisprimary then pg_catalog.format("
    "            '; alter table %s add primary key using index u_%s', $2, ic.oid) else '' end"
    "  from pg_catalog.pg_index x join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    "  join pg_catalog.pg_class tc on tc.oid = x.indrelid"
    "  join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace"
    " where x.indrelid = $1::pg_catalog.oid and x.indisunique and x.indimmediate and x.indisvalid"
    "   and x.indpred is null and x.indexprs is null";

/* What the load must not meet, dropped from the shadow; the stand-ins go by schema. */
static const char SQL_STRIP[] =
    "(select pg_catalog.format('alter table %s drop constraint %I', $2::text, conname)"
    "  from pg_catalog.pg_constraint where conrelid = $1::pg_catalog.oid"
    "   and (contype in ('f', 'p', 'u', 'x') or (contype = 'c' and not convalidated))"
    /* those that refer to the table itself hang on the others */
    "  order by contype <> 'f', conname)"
    " union all"
    " select pg_catalog.format('drop trigger %I on %s', tgname, $2)"
    "  from pg_catalog.pg_trigger where tgrelid = $1::pg_catalog.oid and not tgisinternal"
    " union all"
    " select pg_catalog.format('drop index %I.%I', n.nspname, ic.relname)"
    "  from pg_catalog.pg_index x join pg_catalog.pg_class ic on ic.oid = x.indexrelid"
    "  join pg_catalog.pg_namespace n on n.oid = ic.relnamespace"
    " where x.indrelid = $1::pg_catalog.oid and not exists ("
    "   select from pg_catalog.pg_constraint k where k.conindid = ic.oid"
    "      and k.conrelid = x.indrelid and k.contype in ('p', 'u', 'x'))"
    " union all"
    " select pg_catalog.format('alter table %s alter column %I set generated by default', $2, "
    "attname)"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attidentity = 'a'"
    "   and not attisdropped"
    " union all"
    " select pg_catalog.format('alter table %s replica identity default', $2)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relreplident in ('f', 'n')"
    " union all"
    " select pg_catalog.format('alter table %s disable row level security, no force row level"
    " security', $2) from pg_catalog.pg_class"
    "  where oid = $1::pg_catalog.oid and (relrowsecurity or relforcerowsecurity)";

/* The counterpart of SQL_STRIP for what is neither index, key nor trigger. */
static const char SQL_FLAGS[] =
    "select pg_catalog.format('alter table %s add constraint %I %s', $2::text, conname,"
    "         pg_catalog.pg_get_constraintdef(oid))"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and contype = 'c' and not convalidated"
    " union all"
    " select pg_catalog.format('comment on constraint %I on %s is %L', conname, $2,"
    "         pg_catalog.obj_description(oid, 'pg_constraint'))"
    "  from pg_catalog.pg_constraint"
    " where conrelid = $1::pg_catalog.oid and contype = 'c' and not convalidated"
    "   and pg_catalog.obj_description(oid, 'pg_constraint') is not null"
    " union all"
    " select pg_catalog.format('alter table %s alter column %I set generated always', $2, attname)"
    "  from pg_catalog.pg_attribute where attrelid = $1::pg_catalog.oid and attidentity = 'a'"
    "   and not attisdropped"
    " union all"
    " select pg_catalog.format('alter table %s replica identity %s', $2,"
    "         case relreplident when 'f' then 'full' else 'nothing' end)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relreplident in ('f', 'n')"
    " union all"
    /* all options, because one that is set alone goes behind the others */
    " select coalesce((select pg_catalog.format('alter table %s set (%s)', $2,"
    "           pg_catalog.string_agg(pg_catalog.format('%I = %L', o.option_name, o.option_value),"
    "             ', ' order by o.ordinality)) from pg_catalog.pg_class c,"
    "           rows from (pg_catalog.pg_options_to_table(c.reloptions)) with ordinality o"
    "          where c.oid = $1::pg_catalog.oid"
    "          having pg_catalog.bool_or(o.option_name = 'autovacuum_enabled')),"
    "         pg_catalog.format('alter table %s reset (autovacuum_enabled)', $2))"
    " union all"
    " select pg_catalog.format('alter table %s enable row level security', $2)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relrowsecurity"
    " union all"
    " select pg_catalog.format('alter table %s force row level security', $2)"
    "  from pg_catalog.pg_class where oid = $1::pg_catalog.oid and relforcerowsecurity";

/* Is there a unique index on exactly these columns (attnums, ascending)? */
static const char SQL_HAS_KEY_INDEX[] =
    "select exists (select from pg_catalog.pg_index x where x.indrelid = $1::pg_catalog.oid"
    "   and x.indisunique and x.indpred is null and x.indexprs is null"
    "   and (select pg_catalog.array_agg(k order by k) from"
    "        pg_catalog.unnest((x.indkey::pg_catalog.int2[])[0:x.indnkeyatts - 1]) k)"
    "     = $2::pg_catalog.int2[])";

/*
 * Equality as the type's default btree operator class defines it, never an operator found by name:
 * that one could be anybody's.  Types without a class of their own (varchar, arrays, enums) take
 * pg_catalog's operator.
 */
static const char SQL_KEY_OPERATORS[] =
    "select coalesce((select pg_catalog.format('operator(%I.%s)', n.nspname, o.oprname)"
    "   from pg_catalog.pg_opclass c"
    "   join pg_catalog.pg_am m on m.oid = c.opcmethod and m.amname = 'btree'"
    "   join pg_catalog.pg_amop a on a.amopfamily = c.opcfamily and a.amopstrategy = 3"
    "    and a.amoplefttype = c.opcintype and a.amoprighttype = c.opcintype"
    "   join pg_catalog.pg_operator o on o.oid = a.amopopr"
    "   join pg_catalog.pg_namespace n on n.oid = o.oprnamespace"
    "  where c.opcdefault and c.opcintype = $1::pg_catalog.regtype limit 1),"
    "  'operator(pg_catalog.=)')";

/*
 * Privileges: everything revoked that creation left, then everything granted that the original's
 * relation has, its owner's first because the others hang on them.  $1 original, $2 shadow (quoted),
 * $3/$4 owners of original and shadow (unquoted), $5/$6 arrays of attnums, original and shadow.
 */
static const char SQL_GRANTS[] =
    "with pairs as ("
    "  select o.oid as old, $2::text as new, $2::pg_catalog.regclass::pg_catalog.oid as new_oid,"
    "         'table' as kind, o.relacl from pg_catalog.pg_class o where o.oid = $1::pg_catalog.oid"
    "  union all"
    "  select oc.oid, pg_catalog.format('%I.%I', nn.nspname, nc.relname), nc.oid, 'sequence', "
    "oc.relacl"
    "    from rows from (pg_catalog.unnest($5::pg_catalog.int2[]),"
    "         pg_catalog.unnest($6::pg_catalog.int2[])) m (o, n)"
    "    join pg_catalog.pg_depend od on od.refobjid = $1::pg_catalog.oid and od.refobjsubid = m.o"
    "     and od.deptype = 'i' and od.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "    join pg_catalog.pg_depend nd on nd.refobjid = $2::pg_catalog.regclass"
    "     and nd.refobjsubid = m.n and nd.deptype = 'i'"
    "     and nd.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "    join pg_catalog.pg_class oc on oc.oid = od.objid and oc.relkind = 'S'"
    "    join pg_catalog.pg_class nc on nc.oid = nd.objid and nc.relkind = 'S'"
    "    join pg_catalog.pg_namespace nn on nn.oid = nc.relnamespace"
    "), acl as ("
    "  select p.new, p.kind, null::text as col, x.* from pairs p,"
    "         pg_catalog.aclexplode(p.relacl) x"
    "  union all"
    "  select $2, 'table', na.attname, x.*"
    "    from rows from (pg_catalog.unnest($5::pg_catalog.int2[]),"
    "         pg_catalog.unnest($6::pg_catalog.int2[])) m (o, n)"
    "    join pg_catalog.pg_attribute oa on oa.attrelid = $1::pg_catalog.oid and oa.attnum = m.o"
    "    join pg_catalog.pg_attribute na on na.attrelid = $2::pg_catalog.regclass"
    "     and na.attnum = m.n, pg_catalog.aclexplode(oa.attacl) x"
    "), named as ("
    "  select new, kind, col, privilege_type, is_grantable,"
    "         case pg_catalog.pg_get_userbyid(grantor) when $3 then $4"
    "           else pg_catalog.pg_get_userbyid(grantor) end as grantor,"
    "         case when grantee = 0 then 'public' when pg_catalog.pg_get_userbyid(grantee) = $3"
    "           then pg_catalog.quote_ident($4)"
    "           else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) end as grantee"
    "    from acl"
    ")"
    "select 1, pg_catalog.format('revoke all on %s %s from %s', p.kind, p.new,"
    "         case when x.grantee = 0 then 'public'"
    "              else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end)"
    "  from pairs p join pg_catalog.pg_class c on c.oid = p.new_oid,"
    "       pg_catalog.aclexplode(coalesce(c.relacl, case when p.relacl is not null then"
    "         pg_catalog.acldefault(case p.kind when 'table' then 'r' else 's' end::\"char\","
    "                               c.relowner) end)) x"
    " union"
    " select 2, pg_catalog.format('grant all on %s %s to %I', p.kind, p.new, $4)"
    "  from pairs p join pg_catalog.pg_class c on c.oid = p.new_oid"
    " where p.relacl is null and c.relacl is not null"
    " union"
    " select case when grantor = $4 then 3 else 4 end,"
    "        case when grantor = $4 then '' else pg_catalog.format('set local role %I;', grantor) "
    "end"
    "     || pg_catalog.format('grant %s%s on %s %s to %s%s', privilege_type,"
    "          case when col is null then '' else pg_catalog.format(' (%I)', col) end, kind, new,"
    "          grantee, case when is_grantable then ' with grant option' else '' end)"
    "     || case when grantor = $4 then '' else ';reset role' end"
    "  from named order by 1, 2";

/* "walter_x_new.t" is $2 of most queries; this fills the parameters they share. */
typedef struct Subject {
    char *oid; /* $1 */
    const char *params[8];
} Subject;

static void
subject_done(Subject *subject)
{
    free(subject->oid);
}

#define SUBJECT_AUTO(name, oid_value, second, third, fourth)                                    \
    __attribute__((cleanup(subject_done))) Subject name = {.oid = mem_format("%u", oid_value)}; \
    name.params[0] = name.oid;                                                                  \
    name.params[1] = second;                                                                    \
    name.params[2] = third;                                                                     \
    name.params[3] = fourth

/* Run a query that gives SQL, then run that SQL: all columns of a row, row by row. */
static bool
run_generated(Conn *conn, const char *query, const Subject *subject, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(sql);

    if (!query_run(conn, query, subject->params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        for (int column = 0; column < rows_columns(rows); column++)
            if (rows_text(rows, row, column) != NULL && rows_text(rows, row, column)[0] != '\0')
                sql_add(&sql, "%S;", rows_text(rows, row, column));
    return sql.len == 0 || query_exec(conn, buf_text(&sql), err);
}

/* Append the first column of a query's rows to a list. */
static bool
list_generated(Migration *run, Conn *conn, const char *query, const Subject *subject, SqlList *list,
               Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, query, subject->params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        sql_list_add(run, list, rows_text(rows, row, 0));
    return true;
}

static void
add_if_any(Migration *run, SqlList *list, const char *text)
{
    if (text != NULL && text[0] != '\0')
        sql_list_add(run, list, text);
}

static bool
clone_indexes(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, schema, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_INDEXES, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        for (int column = 0; column < 3; column++) {
            const char *sql = rows_text(rows, row, column);

            if (sql != NULL && sql[0] != '\0' && !query_exec(conn, sql, err))
                return false;
        }
    return true;
}

static bool
clone_triggers(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_TRIGGERS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        const char *def = ddl_retarget(rows_text(rows, row, 0), run->original.schema,
                                       run->original.name, run->shadow_qualified, run->arena, err);

        if (def == NULL || !query_exec(conn, def, err))
            return err_wrap(err, "rehearsing trigger \"%s\"", rows_text(rows, row, 3));
        for (int column = 1; column < 3; column++) {
            const char *sql = rows_text(rows, row, column);

            if (sql != NULL && !query_exec(conn, sql, err))
                return false;
        }
    }
    return true;
}

/* Make r.ref_<oid> or r.child_<oid>, unless it exists. */
static bool
make_stand_in(Migration *run, Conn *conn, const char *kind, uint32_t oid, const char **name,
              Err *err)
{
    AUTO(Text) *bare = mem_format("%s_%u", kind, oid);
    AUTO(Text) *qualified = sql_build("%I.%I", run->names.rehearsal, bare);
    AUTO(Rows) *known = NULL;

    *name = arena_copy(run->arena, qualified, strlen(qualified));
    if (!query_one(conn, "select pg_catalog.to_regclass($1) is not null",
                   (const char *const[]){qualified, NULL}, &known, err))
        return false;
    if (rows_bool(known, 0, 0))
        return true;
    {
        SUBJECT_AUTO(subject, oid, *name, NULL, NULL);

        return run_generated(conn, SQL_STAND_IN, &subject, err);
    }
}

bool
definition_stand_in(Migration *run, Conn *conn, uint32_t oid, const char **name, Err *err)
{
    return make_stand_in(run, conn, "ref", oid, name, err);
}

static bool
clone_foreign_keys(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, run->names.rehearsal, "clone");
    AUTO(Rows) *own = NULL;
    AUTO(Rows) *referencing = NULL;
    const char *name;

    if (!query_run(conn, SQL_REFERENCING_KEYS, subject.params, &referencing, err))
        return false;
    subject.params[3] = NULL;
    if (!query_run(conn, SQL_FOREIGN_KEYS, subject.params, &own, err))
        return false;
    for (int row = 0; row < rows_count(own); row++) {
        AUTO(Text) *sql =
            mem_format("%s%s", rows_text(own, row, 0), rows_bool(own, row, 1) ? "" : " not valid");

        if ((!rows_bool(own, row, 5) &&
             !definition_stand_in(run, conn, (uint32_t)rows_int(own, row, 4), &name, err)) ||
            !query_exec(conn, sql, err))
            return err_wrap(err, "rehearsing foreign key \"%s\"", rows_text(own, row, 2));
        if (rows_text(own, row, 3) != NULL && !query_exec(conn, rows_text(own, row, 3), err))
            return false;
    }
    for (int row = 0; row < rows_count(referencing); row++) {
        AUTO(Text) *sql = mem_format("%s%s", rows_text(referencing, row, 0),
                                     rows_bool(referencing, row, 1) ? "" : " not valid");

        if (!make_stand_in(run, conn, "child", (uint32_t)rows_int(referencing, row, 4), &name,
                           err) ||
            !query_exec(conn, sql, err))
            return err_wrap(err, "rehearsing foreign key \"%s\"", rows_text(referencing, row, 2));
    }
    return true;
}

bool
definition_clone(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL, NULL);

    if (run_generated(conn, SQL_CLONE_COLUMNS, &subject, err) &&
        run_generated(conn, SQL_CLONE_CHECKS, &subject, err) &&
        run_generated(conn, SQL_CLONE_SEQUENCES, &subject, err) && clone_indexes(run, conn, err) &&
        clone_foreign_keys(run, conn, err) && clone_triggers(run, conn, err) &&
        sequences_mark(run, conn, err))
        return true;
    return err_wrap(err, "cloning the definition of %s", run->original.qualified);
}

static bool
read_indexes(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *schema = sql_build("%I", run->names.shadow_schema);
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, schema, NULL);
    AUTO(Rows) *rows = NULL;
    Definition *definition = &run->definition;

    if (!query_run(conn, SQL_INDEXES, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        add_if_any(run, &definition->indexes, rows_text(rows, row, 0));
        add_if_any(run, &definition->constraints, rows_text(rows, row, 1));
        if (rows_bool(rows, row, 3))
            definition->has_deferrable = true;
    }
    for (int row = 0; row < rows_count(rows); row++)
        add_if_any(run, &definition->constraints, rows_text(rows, row, 2));
    return true;
}

static bool
read_triggers(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL, NULL);
    AUTO(Rows) *rows = NULL;

    if (!query_run(conn, SQL_TRIGGERS, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++)
        for (int column = 0; column < 3; column++)
            add_if_any(run, &run->definition.swap, rows_text(rows, row, column));
    return true;
}

/* A key is re-created NOT VALID in the swap, and validated afterwards where it was valid. */
static void
add_foreign_key(Migration *run, const Rows *rows, int row, const char *table)
{
    AUTO(Text) *add = mem_format("%s not valid", rows_text(rows, row, 0));

    sql_list_add(run, &run->definition.swap, add);
    add_if_any(run, &run->definition.swap, rows_text(rows, row, 3));
    if (rows_bool(rows, row, 1)) {
        AUTO(Text) *validate =
            sql_build("alter table %S validate constraint %I", table, rows_text(rows, row, 2));

        sql_list_add(run, &run->definition.finish, validate);
    }
}

static bool
read_foreign_keys(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, run->names.rehearsal, "read");
    AUTO(Rows) *own = NULL;
    AUTO(Rows) *referencing = NULL;

    if (!query_run(conn, SQL_REFERENCING_KEYS, subject.params, &referencing, err))
        return false;
    subject.params[3] = NULL;
    if (!query_run(conn, SQL_FOREIGN_KEYS, subject.params, &own, err))
        return false;
    for (int row = 0; row < rows_count(own); row++)
        add_foreign_key(run, own, row, run->original.qualified);
    for (int row = 0; row < rows_count(referencing); row++)
        add_foreign_key(run, referencing, row, rows_text(referencing, row, 5));
    return true;
}

/* The foreign keys that exist now, both ways, go in the swap; their tables are its partners. */
static bool
read_old_foreign_keys(Migration *run, Conn *conn, Err *err)
{
    static const char SQL[] =
        "select pg_catalog.format('alter table %s drop constraint %I',"
        "         k.conrelid::pg_catalog.regclass, k.conname)"
        "  from pg_catalog.pg_constraint k where k.contype = 'f' and k.conparentid = 0"
        "   and (k.conrelid = $1::pg_catalog.oid or k.confrelid = $1::pg_catalog.oid)";
    static const char SQL_PARTNERS[] =
        "select p.oid::pg_catalog.regclass::text from ("
        "  select confrelid as oid from pg_catalog.pg_constraint"
        "   where contype = 'f' and conrelid = $1::pg_catalog.oid"
        "  union select conrelid from pg_catalog.pg_constraint"
        "   where contype = 'f' and confrelid = $1::pg_catalog.oid"
        "  union select pg_catalog.substr(c.relname, 5)::pg_catalog.oid"
        "    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        "   where n.nspname = $2 and c.relname ~ '^ref_[0-9]+$'"
        ") p (oid) where p.oid <> $1::pg_catalog.oid"
        /* a table that we may not lock is locked by the swap's own ALTER TABLE, as briefly */
        "   and pg_catalog.has_table_privilege(session_user, p.oid, 'update, delete, truncate')"
        " order by p.oid";
    SUBJECT_AUTO(subject, run->original.oid, NULL, NULL, NULL);

    if (!list_generated(run, conn, SQL, &subject, &run->definition.swap, err))
        return false;
    subject.params[1] = run->names.rehearsal;
    return list_generated(run, conn, SQL_PARTNERS, &subject, &run->definition.partners, err);
}

/* The old table must not keep the sequence that now belongs to the new one. */
static bool
read_old_defaults(Migration *run, Conn *conn, Err *err)
{
    static const char SQL[] =
        "select distinct pg_catalog.format('alter table %I.%I alter column %I drop default',"
        "         $2::text, $3::text, a.attname)"
        "  from pg_catalog.pg_attrdef f join pg_catalog.pg_attribute a on a.attrelid = f.adrelid"
        "   and a.attnum = f.adnum and a.attgenerated = ''"
        "  join pg_catalog.pg_depend d on d.objid = f.oid"
        "   and d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
        "  join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind = 'S'"
        " where f.adrelid = $1::pg_catalog.oid";
    SUBJECT_AUTO(subject, run->original.oid, run->names.schema, run->original.name, NULL);

    return list_generated(run, conn, SQL, &subject, &run->definition.moved, err);
}

/* Without a unique index on the key, rows could neither be found quickly nor be told apart. */
static bool
ensure_key_index(Migration *run, Conn *conn, Err *err)
{
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(attnums);
    BUF_AUTO(index);
    AUTO(Text) *oid = mem_format("%u", run->shadow.oid);

    sql_add(&index, "create unique index walter_key on %S (", run->shadow_qualified);
    for (int i = 0; i < run->original.key_count; i++) {
        const Column *column = &run->shadow.columns[run->shadow_key[i]];

        buf_printf(&attnums, "%s%d", i == 0 ? "array[" : ", ", column->attnum);
        sql_add(&index, "%S%I", i == 0 ? "" : ", ", column->name);
    }
    buf_add_text(&attnums, "]");
    buf_add_text(&index, ")");
    {
        AUTO(Text) *sorted = mem_format("select (select pg_catalog.array_agg(a order by a) from "
                                        "pg_catalog.unnest(%s) a)::text",
                                        buf_text(&attnums));
        AUTO(Rows) *array = NULL;

        if (!query_one(conn, sorted, NULL, &array, err) ||
            !query_one(conn, SQL_HAS_KEY_INDEX,
                       (const char *const[]){oid, rows_text(array, 0, 0), NULL}, &rows, err))
            return false;
    }
    if (!rows_bool(rows, 0, 0)) {
        AUTO(Text) *drop = sql_build("drop index %I.walter_key", run->names.shadow_schema);

        sql_list_add(run, &run->definition.indexes, buf_text(&index));
        sql_list_add(run, &run->definition.swap, drop);
    }
    return true;
}

const char *
definition_read_equality(Migration *run, Conn *conn, const Column *column, Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_KEY_OPERATORS, (const char *const[]){column->base_type, NULL}, &rows,
                   err))
        return NULL;
    return arena_copy(run->arena, rows_text(rows, 0, 0), strlen(rows_text(rows, 0, 0)));
}

static bool
read_key_operators(Migration *run, Conn *conn, Err *err)
{
    run->shadow_key_equal =
        arena_alloc(run->arena, sizeof *run->shadow_key_equal * (size_t)run->original.key_count);
    for (int i = 0; i < run->original.key_count; i++) {
        const Column *column = &run->shadow.columns[run->shadow_key[i]];

        run->shadow_key_equal[i] = definition_read_equality(run, conn, column, err);
        if (run->shadow_key_equal[i] == NULL)
            return false;
    }
    return true;
}

bool
definition_read(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL, NULL);

    if (read_indexes(run, conn, err) && ensure_key_index(run, conn, err) &&
        read_key_operators(run, conn, err) && read_old_foreign_keys(run, conn, err) &&
        list_generated(run, conn, SQL_FLAGS, &subject, &run->definition.swap, err) &&
        read_foreign_keys(run, conn, err) && read_triggers(run, conn, err) &&
        sequences_read(run, conn, err) && read_old_defaults(run, conn, err))
        return true;
    return err_wrap(err, "reading the altered definition");
}

bool
definition_strip(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *drop = sql_build("drop schema %I cascade", run->names.rehearsal);
    SUBJECT_AUTO(subject, run->shadow.oid, run->shadow_qualified, NULL, NULL);

    /* the cascade ends in the rehearsal schema and the shadow's foreign keys into it */
    return query_exec(conn, drop, err) && run_generated(conn, SQL_STRIP, &subject, err);
}

bool
definition_read_grants(Migration *run, Conn *conn, char **sql, Err *err)
{
    BUF_AUTO(old);
    BUF_AUTO(new);
    BUF_AUTO(text);
    AUTO(Rows) *rows = NULL;
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, run->original.owner,
                 run->shadow.owner);

    for (int i = 0; i < run->shadow.column_count; i++) {
        int origin = run->projection.origin[i];

        if (origin < 0)
            continue;
        buf_printf(&old, "%s%d", old.len == 0 ? "{" : ",", run->original.columns[origin].attnum);
        buf_printf(&new, "%s%d", new.len == 0 ? "{" : ",", run->shadow.columns[i].attnum);
    }
    buf_add_text(&old, "}");
    buf_add_text(&new, "}");
    subject.params[4] = buf_text(&old);
    subject.params[5] = buf_text(&new);
    if (!query_run(conn, SQL_GRANTS, subject.params, &rows, err))
        return err_wrap(err, "reading the privileges of %s", run->original.qualified);
    for (int row = 0; row < rows_count(rows); row++)
        sql_add(&text, "%S;", rows_text(rows, row, 1));
    *sql = buf_take(&text);
    return true;
}
