/*
 * What depends on a table from outside, as the beginning of a query.
 *
 * "renewed" has what the swap replaces by another object, with another oid: the table itself, the
 * materialized views that read something of it, the row types and array types of these, and the
 * functions that have such a type among their arguments or results.
 * "touched" has what keeps its oid and needs a new definition, because it names something renewed:
 * rewrite rules (those behind views, too), functions with a parsed body, policies.  What belongs to
 * the table itself is in neither.
 *
 * $1 = oid of the table.  A depth orders what is renewed: what it uses comes before it.
 * Source: PostgreSQL manual, "pg_depend".
 */
#ifndef WALTER_PG_DEPENDENTS_H
#define WALTER_PG_DEPENDENTS_H

/* Where new matviews wait, which may name the original in a constant such as 't'::regclass. */
#define OUR_SCHEMAS                                \
    "(select w.oid from pg_catalog.pg_namespace w" \
    "  where w.nspname ~ '^walter_[0-9a-f]{8}_new(_live)?$')"

#define WITH_DEPENDENTS                                                                           \
    "with recursive ids as materialized ("                                                        \
    "  select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid as rel,"                 \
    "         'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid as typ,"                  \
    "         'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid as proc,"                 \
    "         'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid as pol,"                \
    "         'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid as rule"               \
    "), paths (classid, objid, depth) as ("                                                       \
    "  select i.rel, $1::pg_catalog.oid, 0 from ids i"                                            \
    "  union"                                                                                     \
    "  select x.classid, x.objid, n.depth + 1 from paths n cross join ids i cross join lateral (" \
    "    select i.typ, t.oid from pg_catalog.pg_class c"                                          \
    "      join pg_catalog.pg_type t on t.oid = c.reltype"                                        \
    "     where n.classid = i.rel and c.oid = n.objid"                                            \
    "    union all"                                                                               \
    "    select i.typ, t.typarray from pg_catalog.pg_type t"                                      \
    "     where n.classid = i.typ and t.oid = n.objid and t.typarray <> 0"                        \
    "    union all"                                                                               \
    "    select i.rel, r.ev_class from pg_catalog.pg_depend d"                                    \
    "      join pg_catalog.pg_rewrite r on r.oid = d.objid"                                       \
    "      join pg_catalog.pg_class m on m.oid = r.ev_class and m.relkind = 'm'"                  \
    "     where d.classid = i.rule and d.refclassid = n.classid and d.refobjid = n.objid"         \
    "       and m.oid <> n.objid and m.relnamespace not in " OUR_SCHEMAS "    union all"          \
    "    select i.proc, p.oid from pg_catalog.pg_depend d"                                        \
    "      join pg_catalog.pg_proc p on p.oid = d.objid"                                          \
    "     where n.classid = i.typ and d.classid = i.proc and d.refclassid = i.typ"                \
    "       and d.refobjid = n.objid and (p.prorettype = n.objid or n.objid = any "               \
    "(p.proargtypes)"                                                                             \
    "         or n.objid = any (p.proallargtypes))"                                               \
    "  ) x (classid, objid) where n.depth < 20"                                                   \
    "), renewed as ("                                                                             \
    "  select classid, objid, pg_catalog.max(depth) as depth from paths group by 1, 2"            \
    "), touched as ("                                                                             \
    "  select distinct d.classid, d.objid from renewed n cross join ids i"                        \
    "    join pg_catalog.pg_depend d on d.refclassid = n.classid and d.refobjid = "               \
    "n.objid"                                                                                     \
    "    left join pg_catalog.pg_rewrite r on d.classid = i.rule and r.oid = d.objid"             \
    "    left join pg_catalog.pg_class c on c.oid = r.ev_class"                                   \
    "    left join pg_catalog.pg_policy p on d.classid = i.pol and p.oid = d.objid"               \
    "   where d.classid in (i.rule, i.proc, i.pol) and d.deptype in ('n', 'a')"                   \
    "     and not exists (select from renewed o where (o.classid = d.classid"                     \
    "           and o.objid = d.objid) or (o.classid = i.rel and o.objid = r.ev_class))"          \
    "     and coalesce(p.polrelid, 0) <> $1::pg_catalog.oid"                                      \
    "     and not exists (select from pg_catalog.pg_class pc where pc.oid = p.polrelid"           \
    "           and pc.relnamespace in " OUR_SCHEMAS ")"                                          \
    "     and coalesce(c.relnamespace, 0) not in " OUR_SCHEMAS ") "

#endif
