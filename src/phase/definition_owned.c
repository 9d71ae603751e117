/*
 * Sequences and privileges: what hangs on a table and has an owner, a position or a grantee of its
 * own; see definition_internal.h.
 */
#include <string.h>

#include "base/buf.h"
#include "pg/sql.h"
#include "pg/tree.h"
#include "phase/definition_internal.h"

/*
 * Identity columns, each with a sequence of the same name, parameters, position and comment.
 * $3 = the shadow's schema, unquoted.
 */
static const char SQL_CLONE_IDENTITY[] =
    "select pg_catalog.format('alter table %s alter column %I add generated %s as identity"
    " (sequence name %I.%I)', $2::text, a.attname,"
    "         case a.attidentity when 'a' then 'always' else 'by default' end, $3::text, "
    "s.relname),"
    "       pg_catalog.format('alter sequence %I.%I as %s increment by %s minvalue %s maxvalue %s"
    " start with %s restart with %s cache %s %s cycle', $3, s.relname,"
    "         pg_catalog.format_type(q.seqtypid, null), q.seqincrement, q.seqmin, q.seqmax,"
    "         q.seqstart, q.seqstart, q.seqcache, case when q.seqcycle then '' else 'no' end),"
    "       pg_catalog.format('select pg_catalog.setval(%L, last_value, is_called) from %I.%I',"
    "         pg_catalog.format('%I.%I', $3, s.relname), n.nspname, s.relname),"
    "       'comment on sequence ' || pg_catalog.format('%I.%I is ', $3, s.relname)"
    "         || pg_catalog.quote_literal(pg_catalog.obj_description(s.oid, 'pg_class'))"
    "  from pg_catalog.pg_attribute a"
    "  join pg_catalog.pg_depend d on d.refobjid = a.attrelid and d.refobjsubid = a.attnum"
    "   and d.deptype = 'i' and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'"
    "  join pg_catalog.pg_namespace n on n.oid = s.relnamespace"
    "  join pg_catalog.pg_sequence q on q.seqrelid = s.oid"
    " where a.attrelid = $1::pg_catalog.oid and a.attidentity <> '' and not a.attisdropped";

/* The identity sequences that table $1 has now. */
static const char SQL_IDENTITY_SEQUENCES[] =
    "select coalesce(pg_catalog.array_agg(s.oid), '{}')::text"
    "  from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = "
    "'S'"
    " where d.refobjid = $1::pg_catalog.oid and d.deptype = 'i'"
    "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass";

/*
 * A sequence that the ALTER makes gets the default privileges of the schema it is meant for.
 * $3 = the shadow's schema, unquoted.
 */
static const char SQL_CLONE_DEFAULT_PRIVILEGES[] =
    "select pg_catalog.format('alter default privileges for role %I in schema %I grant %s on"
    " sequences to %s%s', o.rolname, $3::text, x.privilege_type,"
    "         case x.grantee when 0 then 'public'"
    "           else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end,"
    "         case when x.is_grantable then ' with grant option' else '' end)"
    "  from pg_catalog.pg_class c join pg_catalog.pg_roles o on o.oid = c.relowner"
    "  join pg_catalog.pg_default_acl d on d.defaclrole = o.oid"
    "   and d.defaclnamespace = c.relnamespace and d.defaclobjtype = 'S',"
    "       pg_catalog.aclexplode(d.defaclacl) x"
    " where c.oid = $1::pg_catalog.oid and $2::text is not null";

/*
 * Sequences that belong to columns which stay.  A serial column's changes hands; an identity
 * column's cannot, so the clone takes over its position.
 * $3, $4 = shared columns of original and shadow, $5 = the clones, $6 = columns of the shadow that
 * the ALTER restarts, $7 = the table's own name, quoted.
 */
static const char SQL_SEQUENCES[] =
    "select case when d.deptype = 'a' then"
    "         pg_catalog.format('alter sequence %I.%I owned by none', n.nspname, s.relname)"
    "       when c.relname is not null and m.n <> all ($6::pg_catalog.int2[]) then"
    /* who waits for the old one's lock has its oid already and draws from it after the swap */
    "         pg_catalog.format('select pg_catalog.setval(%L, least(greatest(last_value + w.n * %s,"
    " %s), %s), is_called or w.n > 0) from %I.%I, (select pg_catalog.count(*) as n"
    " from pg_catalog.pg_locks where relation = %s and not granted and mode = ''RowExclusiveLock'')"
    " w', pg_catalog.format('%I.%I', cn.nspname, c.relname), q.seqincrement * q.seqcache, q.seqmin,"
    "           q.seqmax, n.nspname, s.relname, s.oid) end,"
    "       case when d.deptype = 'a' then"
    "         pg_catalog.format('alter sequence %I.%I owned by %s.%I', n.nspname, s.relname,"
    "           $7::text, a.attname) end"
    "  from rows from (pg_catalog.unnest($3::pg_catalog.int2[]),"
    "         pg_catalog.unnest($4::pg_catalog.int2[])) m (o, n)"
    "  join pg_catalog.pg_depend d on d.refobjid = $1::pg_catalog.oid and d.refobjsubid = m.o"
    "   and d.deptype in ('a', 'i') and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = 'S'"
    "  join pg_catalog.pg_sequence q on q.seqrelid = s.oid"
    "  join pg_catalog.pg_namespace n on n.oid = s.relnamespace"
    "  join pg_catalog.pg_attribute a on a.attrelid = $2::text::pg_catalog.regclass and a.attnum = "
    "m.n"
    "  left join (pg_catalog.pg_depend cd join pg_catalog.pg_class c on c.oid = cd.objid"
    "       and c.oid = any ($5::pg_catalog.oid[]) and cd.deptype = 'i'"
    "       and cd.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "       and cd.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "       join pg_catalog.pg_namespace cn on cn.oid = c.relnamespace)"
    "    on cd.refobjid = a.attrelid and cd.refobjsubid = a.attnum"
    " order by s.relname";

/* The old table must not keep a sequence that belongs to the new one. */
static const char SQL_OLD_DEFAULTS[] =
    "select distinct pg_catalog.format('alter table %s alter column %I drop default', $2::text,"
    "         a.attname)"
    "  from pg_catalog.pg_attrdef f join pg_catalog.pg_attribute a on a.attrelid = f.adrelid"
    "   and a.attnum = f.adnum and a.attgenerated = ''"
    "  join pg_catalog.pg_depend d on d.objid = f.oid"
    "   and d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
    "  join pg_catalog.pg_class s on s.oid = d.refobjid and s.relkind = 'S'"
    " where f.adrelid = $1::pg_catalog.oid";

/*
 * Who else uses a sequence that goes with a column which does not stay?  The ALTER would be refused.
 * $1 original, $2 shared columns of the original.
 */
static const char SQL_SEQUENCE_USERS[] =
    "select a.attname, pg_catalog.pg_describe_object(u.classid, u.objid, u.objsubid),"
    "       s.oid::pg_catalog.regclass::text"
    "  from pg_catalog.pg_depend d join pg_catalog.pg_class s on s.oid = d.objid and s.relkind = "
    "'S'"
    "  join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid"
    "  join pg_catalog.pg_depend u on u.refobjid = s.oid and u.deptype = 'n'"
    "   and u.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "  left join pg_catalog.pg_attrdef f on f.oid = u.objid"
    "   and u.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass"
    " where d.refobjid = $1::pg_catalog.oid and d.deptype in ('a', 'i')"
    "   and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "   and a.attnum <> all ($2::pg_catalog.int2[])"
    "   and f.adrelid is distinct from $1::pg_catalog.oid"
    /* in a partition the column goes, too */
    "   and not exists (select from pg_catalog.pg_attribute p where p.attrelid = f.adrelid"
    "         and p.attnum = f.adnum and p.attname = a.attname and p.attrelid in " TREE_OIDS ")"
    " limit 1";

/*
 * Privileges: everything revoked that creation left, then everything granted that the original has,
 * in an order in which every grantor already has what he passes on.
 * $1 original, $2 shadow (quoted), $3 their owner, $4/$5 shared columns of original and shadow,
 * $6 the cloned identity sequences, $7 the shadow's schema (unquoted).
 *
 * Others than the owner must be able to name the shadow while they grant, hence the schema is open
 * to all between first and last statement, of one transaction.
 */
static const char SQL_GRANTS[] =
    "with recursive pairs as ("
    "  select $2::text::pg_catalog.regclass::pg_catalog.oid as new_oid, $2::text as new,"
    "         'table' as kind, o.relacl from pg_catalog.pg_class o where o.oid = $1::pg_catalog.oid"
    "  union all"
    "  select nc.oid, pg_catalog.format('%I.%I', nn.nspname, nc.relname), 'sequence', oc.relacl"
    "    from rows from (pg_catalog.unnest($4::pg_catalog.int2[]),"
    "         pg_catalog.unnest($5::pg_catalog.int2[])) m (o, n)"
    "    join pg_catalog.pg_depend od on od.refobjid = $1::pg_catalog.oid and od.refobjsubid = m.o"
    "     and od.deptype = 'i' and od.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "    join pg_catalog.pg_depend nd on nd.refobjid = $2::text::pg_catalog.regclass"
    "     and nd.refobjsubid = m.n and nd.deptype = 'i'"
    "     and nd.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
    "    join pg_catalog.pg_class oc on oc.oid = od.objid and oc.relkind = 'S'"
    "    join pg_catalog.pg_class nc on nc.oid = nd.objid and nc.oid = any ($6::pg_catalog.oid[])"
    "    join pg_catalog.pg_namespace nn on nn.oid = nc.relnamespace"
    "), items as ("
    "  select p.new, p.kind, null::name as col, x.* from pairs p,"
    "         pg_catalog.aclexplode(p.relacl) x"
    "  union all"
    "  select $2, 'table', na.attname, x.*"
    "    from rows from (pg_catalog.unnest($4::pg_catalog.int2[]),"
    "         pg_catalog.unnest($5::pg_catalog.int2[])) m (o, n)"
    "    join pg_catalog.pg_attribute oa on oa.attrelid = $1::pg_catalog.oid and oa.attnum = m.o"
    "    join pg_catalog.pg_attribute na on na.attrelid = $2::text::pg_catalog.regclass"
    "     and na.attnum = m.n, pg_catalog.aclexplode(oa.attacl) x"
    "), depths as ("
    "  select 0 as depth, i.* from items i where pg_catalog.pg_get_userbyid(i.grantor) = $3"
    "  union"
    "  select d.depth + 1, i.* from depths d join items i on i.grantor = d.grantee"
    "   and i.new = d.new and i.privilege_type = d.privilege_type"
    "   and (d.col is null or i.col = d.col)"
    "   and pg_catalog.pg_get_userbyid(i.grantor) <> $3"
    "   where d.is_grantable"
    "), grants as ("
    "  select pg_catalog.max(depth) as depth, pg_catalog.pg_get_userbyid(grantor) as grantor,"
    "         pg_catalog.format('grant %s%s on %s %s to %s%s', privilege_type,"
    "           case when col is null then '' else pg_catalog.format(' (%I)', col) end, kind, new,"
    "           case grantee when 0 then 'public'"
    "             else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) end,"
    "           case when is_grantable then ' with grant option' else '' end) as sql"
    "    from depths group by grantor, privilege_type, col, kind, new, grantee, is_grantable"
    "), statements as ("
    "  select -3 as step, pg_catalog.format('grant usage on schema %I to public', $7::text) as sql"
    "   where exists (select from grants where grantor <> $3)"
    "  union all"
    "  select -2, pg_catalog.format('revoke all on %s %s from %s', p.kind, p.new,"
    "         case x.grantee when 0 then 'public'"
    "           else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.grantee)) end)"
    "    from pairs p join pg_catalog.pg_class c on c.oid = p.new_oid,"
    "         pg_catalog.aclexplode(coalesce(c.relacl, case when p.relacl is not null then"
    "           pg_catalog.acldefault(case p.kind when 'table' then 'r' else 's' end::\"char\","
    "                                 c.relowner) end)) x"
    "  union"
    "  select -1, pg_catalog.format('grant all on %s %s to %I', p.kind, p.new, $3)"
    "    from pairs p join pg_catalog.pg_class c on c.oid = p.new_oid"
    "   where p.relacl is null and c.relacl is not null"
    "  union all"
    "  select depth, case when grantor = $3 then sql"
    "    else pg_catalog.format('set local role %I;%s;reset role', grantor, sql) end from grants"
    "  union all"
    "  select 1000000, pg_catalog.format('revoke usage on schema %I from public', $7)"
    "   where exists (select from grants where grantor <> $3)"
    ")"
    "select sql from statements order by step, sql";

/* A text that lives as long as the run. */
static const char *
keep(Migration *run, const char *text)
{
    return arena_copy(run->arena, text, strlen(text));
}

bool
definition_clone_sequences(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, run->names.shadow_schema);
    AUTO(Text) *shadow = mem_format("%u", run->shadow.oid);
    AUTO(Rows) *rows = NULL;

    if (!definition_run(conn, SQL_CLONE_IDENTITY, &subject, err) ||
        !query_one(conn, SQL_IDENTITY_SEQUENCES, (const char *const[]){shadow, NULL}, &rows, err))
        return false;
    run->definition.identity_sequences = keep(run, rows_text(rows, 0, 0));
    return definition_run(conn, SQL_CLONE_DEFAULT_PRIVILEGES, &subject, err);
}

static void
list_restarted(const Migration *run, Buf *attnums)
{
    for (int i = 0; i < run->definition.restarted.count; i++)
        buf_printf(attnums, "%s%s", i == 0 ? "{" : ",", run->definition.restarted.items[i]);
    buf_add_text(attnums, attnums->len == 0 ? "{}" : "}");
}

bool
definition_read_sequences(Migration *run, Conn *conn, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, NULL);
    AUTO(Text) *old = sql_build("%I.%I", run->names.schema, run->original.name);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(originals);
    BUF_AUTO(shadows);
    BUF_AUTO(restarted);

    definition_shared_columns(run, &originals, &shadows);
    list_restarted(run, &restarted);
    subject.params[2] = buf_text(&originals);
    subject.params[3] = buf_text(&shadows);
    subject.params[4] = run->definition.identity_sequences;
    subject.params[5] = buf_text(&restarted);
    subject.params[6] = run->original.qualified;
    if (!query_run(conn, SQL_SEQUENCES, subject.params, &rows, err))
        return false;
    for (int row = 0; row < rows_count(rows); row++) {
        definition_add(run, &run->definition.swap, rows_text(rows, row, 0));
        definition_add(run, &run->definition.moved, rows_text(rows, row, 1));
    }
    {
        SUBJECT_AUTO(left, run->original.oid, old, NULL);

        return definition_list(run, conn, SQL_OLD_DEFAULTS, &left, &run->definition.moved, err);
    }
}

bool
definition_check_sequences(Migration *run, Conn *conn, Err *err)
{
    AUTO(Text) *oid = mem_format("%u", run->original.oid);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(originals);
    BUF_AUTO(shadows);

    definition_shared_columns(run, &originals, &shadows);
    if (!query_run(conn, SQL_SEQUENCE_USERS, (const char *const[]){oid, buf_text(&originals), NULL},
                   &rows, err))
        return err_wrap(err, "reading the sequences of %s", run->original.qualified);
    if (rows_count(rows) == 0)
        return true;
    err_set(err, ERR_REFUSED,
            "cannot drop column %s of table %s because other objects depend on it: %s depends on "
            "sequence %s",
            rows_text(rows, 0, 0), run->original.qualified, rows_text(rows, 0, 1),
            rows_text(rows, 0, 2));
    return err_hint(err, "Give it another default first, or ALTER SEQUENCE %s OWNED BY NONE;",
                    rows_text(rows, 0, 2));
}

bool
definition_read_grants(Migration *run, Conn *conn, char **sql, Err *err)
{
    SUBJECT_AUTO(subject, run->original.oid, run->shadow_qualified, run->original.owner);
    AUTO(Rows) *rows = NULL;
    BUF_AUTO(originals);
    BUF_AUTO(shadows);
    BUF_AUTO(text);

    definition_shared_columns(run, &originals, &shadows);
    subject.params[3] = buf_text(&originals);
    subject.params[4] = buf_text(&shadows);
    subject.params[5] = run->definition.identity_sequences;
    subject.params[6] = run->names.shadow_schema;
    if (!query_run(conn, SQL_GRANTS, subject.params, &rows, err))
        return err_wrap(err, "reading the privileges of %s", run->original.qualified);
    for (int row = 0; row < rows_count(rows); row++)
        sql_add(&text, "%S;", rows_text(rows, row, 0));
    *sql = buf_take(&text);
    return true;
}
