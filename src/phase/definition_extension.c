/*
 * Membership of the table and its identity sequences in an extension; see definition_internal.h.
 *
 * The new ones join before the privileges are granted: what a member has when it joins counts as
 * given by the extension, and would not be dumped.
 */
#include "base/buf.h"
#include "phase/definition_internal.h"

/*
 * $1 original, $2 shadow (quoted), $3/$4 shared columns of original and shadow.  A serial column's
 * sequence changes hands and stays a member, unless the column goes with the old table.
 */
static const char SQL_MEMBERS[] =
    "with members as ("
    "  select o.oid, o.relkind, pg_catalog.format('%I.%I', n.nspname, o.relname) as old,"
    "         e.extname from pg_catalog.pg_depend d"
    "    join pg_catalog.pg_extension e on e.oid = d.refobjid"
    "    join pg_catalog.pg_class o on o.oid = d.objid"
    "    join pg_catalog.pg_namespace n on n.oid = o.relnamespace"
    "   where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype = 'e'"
    "     and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
    "     and (o.oid = $1::pg_catalog.oid or (o.relkind = 'S' and exists ("
    "       select from pg_catalog.pg_depend i where i.objid = o.oid"
    "          and (i.deptype = 'i' or (i.deptype = 'a'"
    "               and i.refobjsubid <> all ($3::pg_catalog.int2[])))"
    "          and i.refobjid = $1::pg_catalog.oid"
    "          and i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "          and i.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)))"
    "), successors as ("
    "  select $1::pg_catalog.oid as oid, $2::text as new"
    "  union all"
    "  select od.objid, pg_catalog.format('%I.%I', nn.nspname, nc.relname)"
    "    from rows from (pg_catalog.unnest($3::pg_catalog.int2[]),"
    "         pg_catalog.unnest($4::pg_catalog.int2[])) m (o, n)"
    "    join pg_catalog.pg_depend od on od.refobjid = $1::pg_catalog.oid and od.refobjsubid = m.o"
    "     and od.deptype = 'i' and od.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "    join pg_catalog.pg_depend nd on nd.refobjid = $2::text::pg_catalog.regclass"
    "     and nd.refobjsubid = m.n and nd.deptype = 'i'"
    "     and nd.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "    join pg_catalog.pg_class nc on nc.oid = nd.objid and nc.relkind = 'S'"
    "    join pg_catalog.pg_namespace nn on nn.oid = nc.relnamespace"
    ")"
    "select pg_catalog.format('alter extension %I drop %s %s', extname,"
    "         case relkind when 'S' then 'sequence' else 'table' end, old)"
    "         || case when s.new is null then '' else pg_catalog.format(';alter extension %I add "
    "%s %s', extname,"
    "              case relkind when 'S' then 'sequence' else 'table' end, s.new) end"
    "  from members left join successors s using (oid) order by relkind, old";

bool
definition_read_extensions(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);
    BUF_AUTO(originals);
    BUF_AUTO(shadows);

    definition_shared_columns(run, &originals, &shadows);
    subject.params[2] = buf_text(&originals);
    subject.params[3] = buf_text(&shadows);
    return definition_list(run, conn, SQL_MEMBERS, &subject, &run->definition.swap, err);
}
