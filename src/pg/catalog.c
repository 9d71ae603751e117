/* What the catalog says of one table; see catalog.h. */
#include "pg/catalog.h"

#include <stdio.h>
#include <string.h>

#include "pg/dependents.h"
#include "pg/sql.h"
#include "pg/tree.h"

static const char SQL_TABLE[] =
    "select n.nspname, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname),"
    "       pg_catalog.pg_get_userbyid(c.relowner), c.relreplident,"
    "       coalesce(i.indexrelid, 0), coalesce(i.indnkeyatts, 0), i.indkey"
    "  from pg_catalog.pg_class c"
    "  join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
    "  left join pg_catalog.pg_index i on i.indrelid = c.oid"
    "   and i.indisvalid and i.indimmediate"
    "   and case c.relreplident when 'i' then i.indisreplident"
    "       when 'n' then false else i.indisprimary end"
    " where c.oid = $1::pg_catalog.oid";

/*
 * format_type with modifier -1 and not NULL: "bpchar", where NULL would give "character", which
 * means character(1) in a cast.
 */
static const char SQL_COLUMNS[] =
    "with recursive base as ("
    "  select distinct a.atttypid as type, a.atttypmod as typmod, a.atttypid as oid,"
    "         a.atttypmod as mod from pg_catalog.pg_attribute a"
    "   where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"
    "  union all"
    "  select b.type, b.typmod, t.typbasetype,"
    "         case when t.typtypmod >= 0 then t.typtypmod else b.mod end"
    "    from base b join pg_catalog.pg_type t on t.oid = b.oid where t.typtype = 'd'"
    "), parts as ("
    "  select a.atttypid as type, a.atttypid as oid from pg_catalog.pg_attribute a"
    "   where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"
    "  union"
    "  select p.type, x.oid from parts p join pg_catalog.pg_type t on t.oid = p.oid"
    "    cross join lateral ("
    "      select t.typelem where t.typelem <> 0 and t.typlen = -1"
    "      union all select t.typbasetype where t.typbasetype <> 0"
    "      union all select f.atttypid from pg_catalog.pg_attribute f"
    "       where f.attrelid = t.typrelid and t.typrelid <> 0 and f.attnum > 0"
    "         and not f.attisdropped"
    "      union all select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid"
    "    ) x (oid)"
    "), binary_io as ("
    "  select p.type, pg_catalog.bool_and(t.typsend <> 0 and t.typreceive <> 0) as ok"
    "    from parts p join pg_catalog.pg_type t on t.oid = p.oid group by 1"
    ")"
    "select a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation,"
    "       pg_catalog.format_type(a.atttypid, a.atttypmod),"
    "       pg_catalog.format_type(b.oid, -1), pg_catalog.format_type(b.oid, b.mod),"
    "       case when a.attcollation <> 0 and a.attcollation <> t.typcollation"
    "            then pg_catalog.format('%I.%I', cn.nspname, co.collname) end,"
    "       a.attnotnull, a.attgenerated <> '', a.attidentity,"
    "       case when a.attgenerated <> '' then pg_catalog.pg_get_expr(d.adbin, d.adrelid) end,"
    "       case when t.typtype = 'd' then pg_catalog.pg_get_expr(t.typdefaultbin, 0) end,"
    "       coalesce(bt.typtype = 'e' or b.oid in (16, 17, 18, 19, 20, 21, 23, 26, 1082, 1114,"
    "                1184, 2950) or (b.oid in (25, 1043) and"
    "                (coalesce(co.collisdeterministic, true))), false),"
    "       io.ok, a.atthasdef, a.attlen, a.attgenerated = 'v', a.attstorage"
    "  from pg_catalog.pg_attribute a"
    "  join pg_catalog.pg_type t on t.oid = a.atttypid"
    "  join base b on b.type = a.atttypid and b.typmod = a.atttypmod"
    "  join pg_catalog.pg_type bt on bt.oid = b.oid and bt.typtype <> 'd'"
    "  join binary_io io on io.type = a.atttypid"
    "  left join pg_catalog.pg_collation co on co.oid = a.attcollation"
    "  left join pg_catalog.pg_namespace cn on cn.oid = co.collnamespace"
    "  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum"
    " where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"
    " order by a.attnum";

static const char SQL_PLACE[] =
    "select coalesce(pg_catalog.to_regclass($1), 0)::pg_catalog.oid,"
    "       coalesce(pg_catalog.pg_relation_filenode(pg_catalog.to_regclass($1)), 0)";

static const char SQL_PRIVILEGES[] =
    "select pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, c.relacl, ("
    "           select pg_catalog.string_agg("
    "             pg_catalog.concat_ws(' ', a.attnum, a.attacl), ' ' order by a.attnum)"
    "           from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attacl is not null),"
    "         (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', s.oid, s.relacl), ' '"
    "             order by s.oid) from pg_catalog.pg_depend d join pg_catalog.pg_class s"
    "             on s.oid = d.objid and s.relkind = 'S'"
    "           where d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "            and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "            and d.refobjid = c.oid and d.deptype = 'i')), ' ' order by c.oid)"
    "  from pg_catalog.pg_class c where c.oid in " TREE_OIDS;

static const char SQL_COLUMN_ROWS[] =
    "select pg_catalog.string_agg(pg_catalog.concat_ws(':', attrelid, attnum, xmin), ' '"
    "         order by attrelid, attnum)"
    "  from pg_catalog.pg_attribute where attrelid in " TREE_OIDS " and attnum > 0";

static const char SQL_FILES[] = "select pg_catalog.string_agg(pg_catalog.concat_ws(':', oid,"
                                "         pg_catalog.pg_relation_filenode(oid)), ' ' order by oid)"
                                "  from pg_catalog.pg_class where oid in " TREE_OIDS;

/*
 * The types of the columns of table $1 and all that these are made of: what an ALTER TYPE or ALTER
 * DOMAIN changes about the values.
 */
#define TYPE_LINES                                                                             \
    "  select pg_catalog.concat_ws(' ', 'enum', e.enumtypid, e.enumlabel, e.enumsortorder)"    \
    "    from pg_catalog.pg_enum e where e.enumtypid = any (array(select oid from types))"     \
    "  union all"                                                                              \
    "  select pg_catalog.concat_ws(' ', 'domain', y.oid, y.typnotnull, y.typdefault,"          \
    "         k.conname, k.convalidated, pg_catalog.pg_get_constraintdef(k.oid))"              \
    "    from pg_catalog.pg_type y left join pg_catalog.pg_constraint k on k.contypid = y.oid" \
    "   where y.oid = any (array(select oid from types)) and y.typtype = 'd'"                  \
    "  union all"                                                                              \
    "  select pg_catalog.concat_ws(' ', 'composite', y.oid, f.attnum, f.attname, f.atttypid,"  \
    "         f.atttypmod, f.attcollation)"                                                    \
    "    from pg_catalog.pg_type y"                                                            \
    "    join pg_catalog.pg_attribute f on f.attrelid = y.typrelid and f.attnum > 0"           \
    "     and not f.attisdropped"                                                              \
    "   where y.oid = any (array(select oid from types)) and y.typtype = 'c'"

#define TYPES                                                                                     \
    " types as ("                                                                                 \
    "  select a.atttypid as oid from pg_catalog.pg_attribute a"                                   \
    "   where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"            \
    "  union"                                                                                     \
    "  select x.oid from types p join pg_catalog.pg_type t on t.oid = p.oid cross join lateral (" \
    "    select t.typelem where t.typelem <> 0 and t.typlen = -1"                                 \
    "    union all select t.typbasetype where t.typbasetype <> 0"                                 \
    "    union all select f.atttypid from pg_catalog.pg_attribute f"                              \
    "     where f.attrelid = t.typrelid and t.typrelid <> 0 and f.attnum > 0 and not "            \
    "f.attisdropped"                                                                              \
    "    union all select r.rngsubtype from pg_catalog.pg_range r where r.rngtypid = t.oid"       \
    "  ) x (oid))"

/* attoptions: patched servers mark every column with an internal pg_attver entry */
#define COLUMN_OPTIONS                                                       \
    "(select pg_catalog.array_agg(o) from pg_catalog.unnest(a.attoptions) o" \
    "  where o not like 'pg_attver=%')"

/* The sequences that belong to columns of the table. */
#define SEQUENCES                                                                  \
    " sequences as ("                                                              \
    "  select d.objid as oid, d.deptype, d.refobjsubid, s.relname, s.relnamespace" \
    "    from pg_catalog.pg_depend d"                                              \
    "    join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'"        \
    "   where d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"           \
    "     and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"              \
    "     and d.refobjid = $1::pg_catalog.oid and d.deptype in ('a', 'i'))"

#define SEQUENCE_LINES                                                                             \
    "  select pg_catalog.concat_ws(' ', 'sequence', s.refobjsubid, s.deptype, s.relname,"          \
    "         q.seqtypid, q.seqstart, q.seqincrement, q.seqmax, q.seqmin, q.seqcache, q.seqcycle)" \
    "    from sequences s join pg_catalog.pg_sequence q on q.seqrelid = s.oid"

/*
 * Constraints and triggers of other tables that are about this one: no index leads there from the
 * table but that of pg_depend, and without one the look-up costs what the whole database has.
 */
#define ABOUT_THE_TREE                                                                         \
    " about as materialized ("                                                                 \
    "  select distinct t.id, d.classid, d.objid from t join pg_catalog.pg_depend d"            \
    "      on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.refobjid = t.id" \
    "   where d.classid in ('pg_catalog.pg_constraint'::pg_catalog.regclass,"                  \
    "                       'pg_catalog.pg_trigger'::pg_catalog.regclass)),"                   \
    " keys as materialized ("                                                                  \
    "  select a.id, k.* from about a join pg_catalog.pg_constraint k on k.oid = a.objid"       \
    "     and a.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass"                     \
    "   where k.conrelid = a.id or k.confrelid = a.id),"                                       \
    " triggers as materialized ("                                                              \
    "  select a.id, g.* from about a join pg_catalog.pg_trigger g on g.oid = a.objid"          \
    "     and a.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and not g.tgisinternal" \
    "   where g.tgrelid = a.id or g.tgconstrrelid = a.id)"

/* Session settings: the server would otherwise read whole catalogs to find a few of their rows. */
static const char SQL_PREFER_INDEXES[] =
    "set enable_seqscan to off; set enable_hashjoin to off; set enable_mergejoin to off";

static const char SQL_PLAN_FREELY[] =
    "reset enable_seqscan; reset enable_hashjoin; reset enable_mergejoin";

static const char SQL_DIGEST[] = WITH_DEPENDENTS
    ", t as (select c.*, c.oid as id from pg_catalog.pg_class c"
    "            where c.oid in " TREE_OIDS ")," TYPES "," SEQUENCES "," ABOUT_THE_TREE ","
    /* everything on the table that may have a comment */
    " objects as ("
    "  select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid as class, id as oid from t"
    "  union all select 'pg_catalog.pg_class'::pg_catalog.regclass, indexrelid"
    "    from pg_catalog.pg_index, t where indrelid = t.id"
    "  union all select 'pg_catalog.pg_class'::pg_catalog.regclass, oid from sequences"
    "  union all select 'pg_catalog.pg_constraint'::pg_catalog.regclass, oid from keys"
    "  union all select 'pg_catalog.pg_trigger'::pg_catalog.regclass, oid from triggers"
    "  union all select 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid"
    "    from pg_catalog.pg_rewrite r, t where r.ev_class = t.id"
    "  union all select 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid"
    "    from pg_catalog.pg_policy p, t where p.polrelid = t.id"
    "  union all select 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid"
    "    from pg_catalog.pg_statistic_ext s, t where s.stxrelid = t.id),"
    " lines as ("
    "  select 'class ' || pg_catalog.concat_ws(' ', id, relnamespace, relname, relkind,"
    "         relpersistence, relreplident, relrowsecurity, relforcerowsecurity, relowner, "
    "reltablespace, relam,"
    "         relispartition, reloptions) as line from t"
    "  union all select 'toast ' || pg_catalog.concat_ws(' ', t.id, x.reloptions) from t"
    "    join pg_catalog.pg_class x on x.oid = t.reltoastrelid"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'comment', d.classoid, d.objoid, d.objsubid, d.description)"
    "    from objects o join pg_catalog.pg_description d on d.objoid = o.oid and d.classoid = "
    "o.class"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'label', l.classoid, l.objoid, l.objsubid, l.provider,"
    "         l.label)"
    "    from (select class, oid from objects union select classid, objid from renewed) o"
    "    join pg_catalog.pg_seclabel l on l.objoid = o.oid and l.classoid = o.class"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'column', t.id, attnum, attname, atttypid, atttypmod,"
    "         attnotnull, atthasdef, attidentity, attgenerated, attcollation, attstorage,"
    "         nullif(attstattarget, -1), pg_catalog.to_jsonb(a)->>'attcompression',"
    "         " COLUMN_OPTIONS ", pg_catalog.pg_get_expr(d.adbin, d.adrelid))"
    "    from pg_catalog.pg_attribute a left join pg_catalog.pg_attrdef d"
    "      on d.adrelid = a.attrelid and d.adnum = a.attnum, t"
    "   where a.attrelid = t.id and a.attnum > 0 and not a.attisdropped"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'constraint', conname, conrelid, convalidated,"
    "         pg_catalog.pg_get_constraintdef(oid)) from keys"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'index', pg_catalog.pg_get_indexdef(indexrelid), "
    "indisvalid,"
    "         indisclustered, indisreplident, ic.reltablespace,"
    "         (select pg_catalog.array_agg(a.attnum || '=' || a.attstattarget order by a.attnum)"
    "            from pg_catalog.pg_attribute a where a.attrelid = ic.oid"
    "             and a.attstattarget >= 0))"
    "    from pg_catalog.pg_index i join pg_catalog.pg_class ic on ic.oid = i.indexrelid, t"
    "   where i.indrelid = t.id"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'trigger', pg_catalog.pg_get_triggerdef(g.oid), tgenabled)"
    "    from pg_catalog.pg_trigger g, t where g.tgrelid = t.id"
    "     and (not g.tgisinternal or g.tgparentid <> 0)"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'trigger from', g.oid, pg_catalog.pg_get_triggerdef(g.oid),"
    "         tgenabled) from triggers g where g.tgconstrrelid = g.id and g.tgrelid <> g.id"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'hidden trigger', tgconstraint, tgfoid, tgenabled)"
    "    from pg_catalog.pg_trigger g, t where g.tgrelid = t.id and g.tgisinternal"
    "     and g.tgenabled <> 'O'"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'rule', pg_catalog.pg_get_ruledef(r.oid), r.ev_enabled)"
    "    from pg_catalog.pg_rewrite r, t where r.ev_class = t.id"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'policy', t.id, polname, polcmd, polpermissive, polroles,"
    "         pg_catalog.pg_get_expr(polqual, polrelid), pg_catalog.pg_get_expr(polwithcheck, "
    "polrelid))"
    "    from pg_catalog.pg_policy p, t where p.polrelid = t.id"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'renewed', classid, objid) from renewed"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'touched', classid, objid) from touched"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'dependent rule', r.oid, pg_catalog.pg_get_ruledef(r.oid),"
    "         v.relnamespace, v.relname, v.relowner, v.reloptions)"
    "    from touched d join ids i on d.classid = i.rule"
    "    join pg_catalog.pg_rewrite r on r.oid = d.objid"
    "    join pg_catalog.pg_class v on v.oid = r.ev_class"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'dependent policy', p.oid, p.polrelid, p.polname,"
    "         pg_catalog.pg_get_expr(p.polqual, p.polrelid),"
    "         pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))"
    "    from touched d join ids i on d.classid = i.pol"
    "    join pg_catalog.pg_policy p on p.oid = d.objid"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'dependent function', p.oid,"
    "         pg_catalog.pg_get_functiondef(p.oid), p.proowner, case when d.renewed then"
    "         pg_catalog.concat_ws(' ', p.proacl,"
    "           pg_catalog.obj_description(p.oid, 'pg_proc')) end)"
    "    from (select classid, objid, true as renewed from renewed"
    "          union all select classid, objid, false from touched) d"
    "    join ids i on d.classid = i.proc"
    "    join pg_catalog.pg_proc p on p.oid = d.objid and p.prokind <> 'a'"
    "  union all"
    /* a matview is made anew with all that is on it, long before the swap */
    "  select pg_catalog.concat_ws(' ', 'matview', m.oid, pg_catalog.pg_get_viewdef(m.oid),"
    "         m.relnamespace, m.relname, m.relowner, m.relacl, m.reloptions, m.reltablespace,"
    "         m.relispopulated, pg_catalog.obj_description(m.oid, 'pg_class'),"
    "         (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attname, a.attacl,"
    "             a.attstattarget, a.attstorage, pg_catalog.col_description(m.oid, a.attnum)),"
    "             ', ' order by a.attnum)"
    "            from pg_catalog.pg_attribute a where a.attrelid = m.oid and a.attnum > 0),"
    "         (select pg_catalog.string_agg(pg_catalog.concat_ws(' ',"
    "             pg_catalog.pg_get_indexdef(x.indexrelid), x.indisclustered, x.indisvalid,"
    "             pg_catalog.obj_description(x.indexrelid, 'pg_class')), ', ' order by "
    "x.indexrelid)"
    "            from pg_catalog.pg_index x where x.indrelid = m.oid),"
    "         (select pg_catalog.string_agg(pg_catalog.concat_ws(' ', s.oid, s.stxowner,"
    "             pg_catalog.pg_get_statisticsobjdef(s.oid),"
    "             pg_catalog.to_jsonb(s)->>'stxstattarget',"
    "             pg_catalog.obj_description(s.oid, 'pg_statistic_ext')), ', ' order by s.oid)"
    "            from pg_catalog.pg_statistic_ext s where s.stxrelid = m.oid))"
    "    from renewed d join ids i on d.classid = i.rel"
    "    join pg_catalog.pg_class m on m.oid = d.objid and m.relkind = 'm'"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'row type', d.classid, d.objid, d.objsubid)"
    "    from pg_catalog.pg_depend d, t"
    "   where d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.deptype = 'n'"
    "     and d.refobjid in (t.reltype, (select y.typarray from pg_catalog.pg_type y"
    "                                     where y.oid = t.reltype))"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'publication', p.oid, p.pubname, (select"
    "         pg_catalog.to_jsonb(r) from pg_catalog.pg_publication_rel r"
    "          where r.prpubid = p.oid and r.prrelid = t.id))"
    "    from pg_catalog.pg_publication p, t where p.puballtables or exists ("
    "         select from pg_catalog.pg_publication_rel r where r.prpubid = p.oid"
    "            and r.prrelid = t.id and p.pubname !~ '^walter_[0-9a-f]{8}$')"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'extension', d.classid, d.objid, d.refobjid, d.deptype)"
    "    from pg_catalog.pg_depend d, t"
    "   where d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and ("
    "         (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and (d.objid = t.id"
    "           or d.objid in (select indexrelid from pg_catalog.pg_index where indrelid = t.id)))"
    "         or (d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and d.objid in ("
    "           select oid from triggers g where g.id = t.id))"
    "         or (d.classid, d.objid) in (select classid, objid from renewed"
    "                                          union all select classid, objid from touched))"
    "  union all"
    /* of partitions nothing else is carried over; see checks_tree.c */
    "  select pg_catalog.concat_ws(' ', 'of a partition', d.classid, d.objid, d.objsubid, t.id)"
    "    from t join pg_catalog.pg_depend d on d.refobjid = t.id"
    "     and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   where t.id <> $1::pg_catalog.oid"
    "     and d.classid <> 'pg_catalog.pg_publication_rel'::pg_catalog.regclass"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'inherits', inhrelid, inhparent,"
    "         pg_catalog.to_jsonb(i)->>'inhdetachpending')"
    "    from pg_catalog.pg_inherits i, t where i.inhrelid = t.id or i.inhparent = t.id"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'partition', t.id, pg_catalog.pg_get_expr(t.relpartbound, "
    "t.id),"
    "         pg_catalog.pg_get_partition_constraintdef(t.id),"
    "         i.inhparent::pg_catalog.regclass,"
    "         nullif(p.partdefid, 0)::pg_catalog.regclass)"
    "    from t join pg_catalog.pg_inherits i on i.inhrelid = t.id"
    "    join pg_catalog.pg_partitioned_table p on p.partrelid = i.inhparent"
    "  union all"
    /* which of its indexes and constraints are its parent's */
    "  select pg_catalog.concat_ws(' ', 'inherited', x.indexrelid, i.inhparent)"
    "    from t join pg_catalog.pg_index x on x.indrelid = t.id"
    "    join pg_catalog.pg_inherits i on i.inhrelid = x.indexrelid"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'inherited', t.id, k.conname, k.conislocal, k.coninhcount)"
    "    from t join pg_catalog.pg_constraint k on k.conrelid = t.id where k.coninhcount > 0"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'statistics', pg_catalog.pg_get_statisticsobjdef(s.oid),"
    "         s.stxowner, pg_catalog.to_jsonb(s)->>'stxstattarget')"
    "    from pg_catalog.pg_statistic_ext s, t where s.stxrelid = t.id"
    "  union all" TYPE_LINES "  union all" SEQUENCE_LINES ")"
    "select pg_catalog.md5(coalesce(pg_catalog.string_agg(line, E'\\n' order by line), ''))"
    "  from lines";

/* No oid of the table's own: it must be the same text for two tables made alike. */
static const char SQL_BODY[] =
    "with recursive" TYPES "," SEQUENCES ", lines as ("
    "  select 'class ' || pg_catalog.concat_ws(' ', c.relkind, c.relpersistence, c.relowner,"
    "         c.reltablespace, c.relam, c.relispartition, c.reloptions, t.reloptions) as line"
    "    from pg_catalog.pg_class c left join pg_catalog.pg_class t on t.oid = c.reltoastrelid"
    "   where c.oid = $1::pg_catalog.oid"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'column', attnum, attname, atttypid, atttypmod, attnotnull,"
    "         attidentity, attgenerated, attcollation, attstorage,"
    "         pg_catalog.to_jsonb(a)->>'attcompression', " COLUMN_OPTIONS ","
    "         pg_catalog.pg_get_expr(d.adbin, d.adrelid))"
    "    from pg_catalog.pg_attribute a left join pg_catalog.pg_attrdef d"
    "      on d.adrelid = a.attrelid and d.adnum = a.attnum"
    "   where a.attrelid = $1::pg_catalog.oid and a.attnum > 0 and not a.attisdropped"
    "  union all"
    "  select pg_catalog.concat_ws(' ', 'check', conname, convalidated, connoinherit,"
    "         pg_catalog.pg_get_constraintdef(oid)) from pg_catalog.pg_constraint"
    "   where conrelid = $1::pg_catalog.oid and contype = 'c' and convalidated"
    "  union all" TYPE_LINES "  union all" SEQUENCE_LINES ")"
    "select coalesce(pg_catalog.string_agg(line, E'\\n' order by line), '') from lines";

static const char *
keep(Arena *arena, const char *text)
{
    return text == NULL ? NULL : arena_copy(arena, text, strlen(text));
}

static void
fill_column(const Rows *rows, int row, Arena *arena, Column *column)
{
    const char *identity = rows_text(rows, row, 11);

    column->attnum = (int)rows_int(rows, row, 0);
    column->name = keep(arena, rows_text(rows, row, 1));
    column->type_oid = (uint32_t)rows_int(rows, row, 2);
    column->typmod = (int32_t)rows_int(rows, row, 3);
    column->collation_oid = (uint32_t)rows_int(rows, row, 4);
    column->type = keep(arena, rows_text(rows, row, 5));
    column->base_type = keep(arena, rows_text(rows, row, 6));
    column->stage_type = keep(arena, rows_text(rows, row, 7));
    column->collation = keep(arena, rows_text(rows, row, 8));
    column->not_null = rows_bool(rows, row, 9);
    column->generated = rows_bool(rows, row, 10);
    if (identity != NULL)
        column->identity = identity[0];
    column->generation = keep(arena, rows_text(rows, row, 12));
    column->domain_default = keep(arena, rows_text(rows, row, 13));
    column->byte_equal = rows_bool(rows, row, 14);
    column->binary_io = rows_bool(rows, row, 15);
    column->has_default = rows_bool(rows, row, 16);
    column->length = (int)rows_int(rows, row, 17);
    column->is_virtual = rows_bool(rows, row, 18);
    column->storage = rows_text(rows, row, 19)[0];
}

/* Read "1 3 2" (int2vector) up to `count` attnums; an expression (0) makes the key unusable. */
static void
fill_key(const char *indkey, int count, Arena *arena, TableShape *shape)
{
    int *key = arena_alloc(arena, sizeof *key * (size_t)(count + 1));
    int used = 0;
    char *end = NULL;

    for (const char *at = indkey; used < count; at = end) {
        int column = catalog_find_attnum(shape, (int)strtol(at, &end, 10));

        if (column < 0 || end == at)
            return;
        key[used++] = column;
    }
    shape->key = key;
    shape->key_count = used;
}

bool
catalog_read_table(Conn *conn, uint32_t oid, Arena *arena, TableShape *out, Err *err)
{
    AUTO(Text) *oid_text = mem_format("%u", oid);
    const char *const params[] = {oid_text, NULL};
    AUTO(Rows) *table = NULL;
    AUTO(Rows) *rows = NULL;
    TableShape shape = {.oid = oid};
    Column *columns;

    if (!query_one(conn, SQL_TABLE, params, &table, err) ||
        !query_run(conn, SQL_COLUMNS, params, &rows, err))
        return err_wrap(err, "reading the definition of table %u", oid);
    shape.schema = keep(arena, rows_text(table, 0, 0));
    shape.name = keep(arena, rows_text(table, 0, 1));
    shape.qualified = keep(arena, rows_text(table, 0, 2));
    shape.owner = keep(arena, rows_text(table, 0, 3));
    shape.replica_identity = rows_text(table, 0, 4)[0];
    shape.column_count = rows_count(rows);
    columns = arena_alloc(arena, sizeof *columns * (size_t)(shape.column_count + 1));
    for (int i = 0; i < shape.column_count; i++)
        fill_column(rows, i, arena, &columns[i]);
    shape.columns = columns;
    shape.key_index_oid = (uint32_t)rows_int(table, 0, 5);
    if (shape.key_index_oid != 0)
        fill_key(rows_text(table, 0, 7), (int)rows_int(table, 0, 6), arena, &shape);
    *out = shape;
    return true;
}

bool
catalog_read_key(Conn *conn, uint32_t index_oid, Arena *arena, TableShape *shape, Err *err)
{
    AUTO(Text) *oid_text = mem_format("%u", index_oid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn,
                   "select indnkeyatts, indkey from pg_catalog.pg_index"
                   " where indexrelid = $1::pg_catalog.oid",
                   (const char *const[]){oid_text, NULL}, &rows, err))
        return err_wrap(err, "reading the definition of index %u", index_oid);
    shape->key_index_oid = index_oid;
    fill_key(rows_text(rows, 0, 1), (int)rows_int(rows, 0, 0), arena, shape);
    return true;
}

int
catalog_find_attnum(const TableShape *shape, int attnum)
{
    for (int i = 0; i < shape->column_count; i++)
        if (shape->columns[i].attnum == attnum)
            return i;
    return -1;
}

int
catalog_find_column(const TableShape *shape, const char *name)
{
    for (int i = 0; i < shape->column_count; i++)
        if (strcmp(shape->columns[i].name, name) == 0)
            return i;
    return -1;
}

/* The only value that a query about a table gives; NULL is "".  `what`: "the ... of table 4711". */
static bool
read_text(Conn *conn, const char *query, uint32_t oid, const char *what, char **text, Err *err)
{
    AUTO(Text) *oid_text = mem_format("%u", oid);
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, query, (const char *const[]){oid_text, NULL}, &rows, err))
        return err_wrap(err, "reading the %s of table %u", what, oid);
    *text = mem_copy_text(rows_text(rows, 0, 0) == NULL ? "" : rows_text(rows, 0, 0));
    return true;
}

bool
catalog_prefer_indexes(Conn *conn, Err *err)
{
    return query_exec(conn, SQL_PREFER_INDEXES, err);
}

bool
catalog_plan_freely(Conn *conn, Err *err)
{
    return query_exec(conn, SQL_PLAN_FREELY, err);
}

bool
catalog_read_digest(Conn *conn, uint32_t oid, char **digest, Err *err)
{
    query_remember(conn, SQL_DIGEST);
    return read_text(conn, SQL_DIGEST, oid, "definition", digest, err);
}

bool
catalog_read_body(Conn *conn, uint32_t oid, char **body, Err *err)
{
    return read_text(conn, SQL_BODY, oid, "columns", body, err);
}

bool
catalog_read_column_rows(Conn *conn, uint32_t oid, char **column_rows, Err *err)
{
    return read_text(conn, SQL_COLUMN_ROWS, oid, "columns", column_rows, err);
}

bool
catalog_read_privileges(Conn *conn, uint32_t oid, char **privileges, Err *err)
{
    return read_text(conn, SQL_PRIVILEGES, oid, "privileges", privileges, err);
}

bool
catalog_read_files(Conn *conn, uint32_t oid, char **files, Err *err)
{
    return read_text(conn, SQL_FILES, oid, "files", files, err);
}

bool
catalog_read_place(Conn *conn, const char *qualified, uint32_t *oid_now, uint32_t *filenode,
                   Err *err)
{
    AUTO(Rows) *rows = NULL;

    if (!query_one(conn, SQL_PLACE, (const char *const[]){qualified, NULL}, &rows, err))
        return false;
    *oid_now = (uint32_t)rows_int(rows, 0, 0);
    *filenode = (uint32_t)rows_int(rows, 0, 1);
    return true;
}
