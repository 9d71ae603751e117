"""Rows for tables that nobody here has made."""
from psycopg import sql

# A value for number $1, by the column's type: the same number makes the same value everywhere, so
# that foreign keys find their rows.  Every fourth is NULL where it may be.
VALUES = """
create function pg_temp.value_of(type oid, name text, nullable boolean, default_value text)
  returns text language sql as $$
  select case when nullable then format('case when $1 %% 4 < 3 then %s end', v) else v end
    from pg_type t, lateral (select case
        when default_value !~ '^nextval' and t.typcategory <> 'D' then default_value
        when t.typcategory = 'N' then format('$1::%s', name)
        when t.typcategory = 'B' then '($1 % 2 = 0)'
        when t.typcategory = 'S' then format('(''x'' || $1)::%s', name)
        when t.typcategory = 'D' then format('(timestamptz ''2020-01-01 UTC'' + $1 * interval'
                                             ' ''1 day'')::%s', name)
        when t.typcategory = 'T' then '$1 * interval ''1 hour'''
        when t.typcategory = 'I' then format('(''10.0.0.'' || $1 %% 250)::%s', name)
        when t.typcategory = 'E' then format('(enum_range(null::%s))[1]', name)
        when t.typcategory = 'V' then format('$1::int::bit(24)::%s', name)
        when t.typname = 'bytea' then 'convert_to(''x'' || $1, ''UTF8'')'
        when t.typname in ('json', 'jsonb') then format('json_build_object(''g'', $1)::%s', name)
        when t.typname = 'uuid' then 'md5($1::text)::uuid'
        else coalesce(default_value, format('null::%s', name)) end as v) x
   where t.oid = type $$;
"""

# Every row on its own: those that do not fit are left out, and may fit once others are there.
INSERTS = """
do $$ declare r record; begin
  for pass in 1..{passes} loop
    for r in
      select format('insert into %s (%s) select %s', c.oid::regclass,
               string_agg(quote_ident(a.attname), ', ' order by a.attnum),
               string_agg(pg_temp.value_of(a.atttypid, format_type(a.atttypid, a.atttypmod),
                   not a.attnotnull, pg_get_expr(d.adbin, d.adrelid)), ', ' order by a.attnum))
               as sql
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         and not a.attisdropped and a.attgenerated = '' and a.attidentity <> 'a'
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
       where c.relkind = 'r' and c.relnamespace::regnamespace::text !~ '^(pg_|information_|walter)'
         and ({table} = '' or c.oid::regclass::text = {table})
       group by c.oid, c.relname order by c.relname
    loop
      for g in {first}..{last} loop
        begin
          execute r.sql using g;
        exception when others then null;
        end;
      end loop;
    end loop;
  end loop;
end $$
"""

TRIGGERS = """
do $$ declare r record; begin
  for r in select distinct tgrelid::regclass as name from pg_trigger where not tgisinternal
  loop execute format('alter table %s {state} trigger user', r.name); end loop; end $$
"""


def fill(db, first, last, table="", triggers=True):
    """Give all tables, or one, rows of these numbers, as far as their constraints let them in."""
    name = sql.Literal(table).as_string(None)
    with db.connect() as conn:
        if not triggers:
            conn.execute(TRIGGERS.format(state="disable"))
        conn.execute(VALUES)
        conn.execute(INSERTS.format(first=first, last=last, table=name,
                                    passes=1 if table else 3))
        if not triggers:
            conn.execute(TRIGGERS.format(state="enable"))
