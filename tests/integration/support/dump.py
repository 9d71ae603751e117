"""Comparing definitions: through pg_dump, and straight from the catalogs."""
import difflib
import json
import re
import subprocess

# Lines of a dump that say nothing about the schema.  \restrict carries a random word.
NOISE = re.compile(r"^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\(un)?restrict.*|\s*)$")


def schema_dump(db, table=None, schema=None, rename=None):
    """The statements that pg_dump --schema-only writes, sorted.

    `rename`: {"twin": "t"} puts one name for another, for comparing tables of different names.
    """
    args = db.server.program("pg_dump") + ["--schema-only", "-h", db.server.host,
                                           "-p", str(db.server.port), "-U", db.user]
    args += ["-t", table] if table else []
    args += ["-n", schema] if schema else []
    done = subprocess.run(args + [db.name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"pg_dump failed: {done.stderr}"
    return sorted(renamed(statement, rename) for statement in split_dump(done.stdout))


def split_dump(text):
    """Cut a dump into statements, without its noise."""
    kept = "\n".join(line for line in text.splitlines() if not NOISE.match(line))
    return [part.strip() for part in re.split(r"(?<=;)\n", kept) if part.strip()]


def renamed(value, rename):
    """Replace whole names in a text, or in every text inside a list or dict."""
    if not rename:
        return value
    if isinstance(value, dict):
        return {key: renamed(item, rename) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(renamed(item, rename) for item in value)
    if isinstance(value, str):
        for old, new in rename.items():
            value = re.sub(rf"(?<![a-zA-Z0-9_$]){re.escape(old)}(?![a-zA-Z0-9_$])", new, value)
    return value


def diff(first, second):
    """What two definitions do not share, as lines with - and +; empty when they are equal.

    Takes lists of statements (the order does not matter) or fingerprints.
    """
    return [line for line in difflib.unified_diff(_lines(first), _lines(second), "first", "second",
                                                  lineterm="", n=0) if not line.startswith("@@")]


def _lines(value):
    if isinstance(value, dict):
        return sorted(f"{part}: {json.dumps(item, sort_keys=True, default=str)}"
                      for part, items in value.items() for item in items)
    return sorted(line for statement in value for line in [" ".join(statement.split())])


# A foreign key of a leaf partition is marked NO INHERIT, to no effect, where it was made before that
# of the partitioned table; so that is not compared.
# Every part is a query with one parameter, the table's oid.  Catalog rows go through to_jsonb where
# a column does not exist in all versions.
# A partition's key that came with its parent has connoinherit or not, as it was created or attached;
# that has no meaning.
FINGERPRINT = {
    "table": """
        select c.relname as name, n.nspname as schema, pg_get_userbyid(c.relowner) as owner,
               c.relkind as kind, c.relpersistence as persistence, c.relreplident as identity,
               c.relrowsecurity as rls, c.relforcerowsecurity as force_rls,
               (select spcname from pg_tablespace s where s.oid = c.reltablespace) as tablespace,
               (select amname from pg_am a where a.oid = c.relam) as method,
               (select array_agg(o order by o) from unnest(c.reloptions) o) as options,
               (select array_agg(o order by o) from unnest(t.reloptions) o) as toast_options,
               (select array_agg(a::text order by a::text)
                  from unnest(coalesce(c.relacl, acldefault('r', c.relowner))) a) as acl,
               case when c.reloftype <> 0 then c.reloftype::regtype::text end as of_type,
               obj_description(c.oid, 'pg_class') as comment,
               (select array_agg(provider || ':' || label order by provider) from pg_seclabel l
                 where l.objoid = c.oid and l.classoid = 'pg_class'::regclass
                   and l.objsubid = 0) as labels
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
          left join pg_class t on t.oid = c.reltoastrelid
         where c.oid = %s""",
    "columns": """
        select row_number() over (order by a.attnum) as position, a.attname as name,
               format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
               pg_get_expr(d.adbin, d.adrelid) as default, a.attidentity as identity,
               a.attgenerated as generated, a.attstorage as storage,
               to_jsonb(a)->>'attcompression' as compression,
               (select collname from pg_collation l where l.oid = a.attcollation) as collation,
               a.attislocal as is_local, a.attinhcount as inherited,
               nullif((to_jsonb(a)->>'attstattarget')::int, -1) as statistics,
               (select array_agg(o order by o) from unnest(a.attoptions) o
                 where o not like 'pg_attver=%%') as options,
               (select array_agg(x::text order by x::text) from unnest(a.attacl) x) as acl,
               (select array_agg(provider || ':' || label order by provider) from pg_seclabel l
                 where l.objoid = a.attrelid and l.classoid = 'pg_class'::regclass
                   and l.objsubid = a.attnum) as labels,
               col_description(a.attrelid, a.attnum) as comment
          from pg_attribute a
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
         order by a.attnum""",
    "constraints": """
        select conname as name, contype as type, pg_get_constraintdef(c.oid) as definition,
               convalidated as validated, condeferrable as deferrable, condeferred as deferred,
               connoinherit and contype <> 'f' and conparentid = 0
                 as no_inherit, conislocal as is_local, coninhcount as inherited,
               (select format('%%s of %%s', p.conname, p.conrelid::regclass) from pg_constraint p
                 where p.oid = c.conparentid) as part_of,
               (select relname from pg_class i where i.oid = c.conindid
                   and c.contype in ('p', 'u', 'x')) as index,
               obj_description(c.oid, 'pg_constraint') as comment
          from pg_constraint c
         where c.conrelid = %s
         order by conname""",
    "foreign keys here": """
        select conrelid::regclass::text as from_table, conname as name,
               pg_get_constraintdef(c.oid) as definition, convalidated as validated,
               obj_description(c.oid, 'pg_constraint') as comment
          from pg_constraint c
         where c.confrelid = %s and c.contype = 'f'
         order by 1, 2""",
    "indexes": """
        select c.relname as name, pg_get_indexdef(i.indexrelid) as definition,
               i.indisvalid as valid, i.indisready as ready, i.indisprimary as primary,
               i.indisunique as unique, i.indimmediate as immediate,
               i.indisreplident as identity, i.indisclustered as clustered,
               (select inhparent::regclass::text from pg_inherits p
                 where p.inhrelid = i.indexrelid) as part_of,
               (select spcname from pg_tablespace s where s.oid = c.reltablespace) as tablespace,
               (select array_agg(a.attnum || '=' || (to_jsonb(a)->>'attstattarget')
                                 order by a.attnum)
                  from pg_attribute a
                 where a.attrelid = c.oid
                   and (to_jsonb(a)->>'attstattarget')::int >= 0) as statistics,
               pg_get_userbyid(c.relowner) as owner,
               (select array_agg(e.extname order by e.extname) from pg_depend d
                  join pg_extension e on e.oid = d.refobjid
                 where d.classid = 'pg_class'::regclass and d.objid = c.oid
                   and d.deptype = 'x') as extensions,
               obj_description(c.oid, 'pg_class') as comment
          from pg_index i
          join pg_class c on c.oid = i.indexrelid
         where i.indrelid = %s
         order by c.relname""",
    "triggers": """
        select tgname as name, pg_get_triggerdef(t.oid) as definition, tgenabled as enabled,
               tgdeferrable as deferrable, tginitdeferred as deferred,
               (select array_agg(e.extname order by e.extname) from pg_depend d
                  join pg_extension e on e.oid = d.refobjid
                 where d.classid = 'pg_trigger'::regclass and d.objid = t.oid
                   and d.deptype = 'x') as extensions,
               (select tgrelid::regclass::text from pg_trigger p where p.oid = t.tgparentid)
                 as part_of,
               obj_description(t.oid, 'pg_trigger') as comment
          from pg_trigger t
         where tgrelid = %s and (not tgisinternal or tgparentid <> 0) and not exists (
               select from pg_constraint c where c.oid = t.tgconstraint and c.contype = 'f')
         order by tgname""",
    "sequences": """
        select c.relname as name, n.nspname as schema, a.attname as column, d.deptype as tie,
               format_type(s.seqtypid, null) as type, s.seqstart as start,
               s.seqincrement as increment, s.seqmin as min, s.seqmax as max, s.seqcache as cache,
               s.seqcycle as cycle, pg_get_userbyid(c.relowner) as owner,
               c.relpersistence as persistence, c.oid as position_of,
               (select array_agg(x::text order by x::text)
                  from unnest(coalesce(c.relacl, acldefault('s', c.relowner))) x) as acl,
               (select array_agg(provider || ':' || label order by provider) from pg_seclabel l
                 where l.objoid = c.oid and l.classoid = 'pg_class'::regclass
                   and l.objsubid = 0) as labels,
               obj_description(c.oid, 'pg_class') as comment
          from pg_depend d
          join pg_class c on c.oid = d.objid and c.relkind = 'S'
          join pg_namespace n on n.oid = c.relnamespace
          join pg_sequence s on s.seqrelid = c.oid
          join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
         where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
           and d.refobjid = %s and d.deptype in ('a', 'i')
         order by c.relname""",
    "policies": """
        select polname as name, polcmd as command, polpermissive as permissive,
               (select array_agg(coalesce(r.rolname, 'public') order by r.rolname)
                  from unnest(p.polroles) o left join pg_roles r on r.oid = o) as roles,
               pg_get_expr(polqual, polrelid) as using,
               pg_get_expr(polwithcheck, polrelid) as check,
               obj_description(p.oid, 'pg_policy') as comment
          from pg_policy p
         where polrelid = %s
         order by polname""",
    "rules": """
        select rulename as name, pg_get_ruledef(r.oid) as definition, ev_enabled as enabled,
               obj_description(r.oid, 'pg_rewrite') as comment
          from pg_rewrite r
         where ev_class = %s and rulename <> '_RETURN'
         order by rulename""",
    "statistics": """
        select stxname as name, stxnamespace::regnamespace::text as schema, pg_get_statisticsobjdef(s.oid) as definition,
               nullif((to_jsonb(s)->>'stxstattarget')::int, -1) as target,
               pg_get_userbyid(stxowner) as owner,
               obj_description(s.oid, 'pg_statistic_ext') as comment
          from pg_statistic_ext s
         where stxrelid = %s
         order by stxname""",
    "publications": """
        select to_jsonb(p) as publication
          from pg_publication_tables p
          join pg_class c on c.relname = p.tablename
           and c.relnamespace = quote_ident(p.schemaname)::regnamespace
         where c.oid = %s
         order by p.pubname""",
    "inherits": """
        select inhparent::regclass::text as parent, inhseqno as position,
               pg_get_expr(c.relpartbound, c.oid) as bound,
               regexp_replace(pg_get_partition_constraintdef(c.oid), '''[0-9]+''::oid', '...')
                 as constraint
          from pg_inherits join pg_class c on c.oid = inhrelid
         where inhrelid = %s
         order by inhseqno""",
    "views": """
        select v.oid::regclass::text as name, v.relkind as kind, pg_get_viewdef(v.oid) as definition,
               pg_get_userbyid(v.relowner) as owner, v.relispopulated as populated,
               (select array_agg(o order by o) from unnest(v.reloptions) o) as options,
               (select array_agg(x::text order by x::text)
                  from unnest(coalesce(v.relacl, acldefault('r', v.relowner))) x) as acl,
               (select array_agg(format('%%s %%s:%%s', objsubid, provider, label)
                                 order by objsubid, provider) from pg_seclabel l
                 where l.objoid = v.oid and l.classoid = 'pg_class'::regclass) as labels,
               obj_description(v.oid, 'pg_class') as comment
          from pg_class v
         where v.relkind in ('v', 'm') and v.oid in (
               select r.ev_class from pg_depend d join pg_rewrite r on r.oid = d.objid
                where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
                  and d.refobjid = %s and r.rulename = '_RETURN')
         order by 1""",
}


def fingerprint(db, table, rename=None, positions=True):
    """Everything the catalogs say about a table: {part: [rows as dicts]}.

    `table`: as regclass reads it.  `rename`: see schema_dump().  `positions`: with the last values
    of its sequences, which differ when two tables were written differently.
    """
    with db.connect() as conn:
        (oid,) = conn.execute("select %s::text::regclass::oid", [table]).fetchone()
        found = {}
        for part, query in FINGERPRINT.items():
            rows = conn.execute(f"select to_jsonb(q) from ({query}) q", [oid]).fetchall()
            found[part] = [row[0] for row in rows]
        for sequence in found["sequences"]:
            _add_position(conn, sequence, positions)
    return renamed(found, rename)


def _add_position(conn, sequence, positions):
    name = sequence.pop("position_of")
    if positions:
        (regclass,) = conn.execute("select %s::oid::regclass::text", [name]).fetchone()
        sequence["last_value"], sequence["is_called"] = conn.execute(
            f"select last_value, is_called from {regclass}").fetchone()
