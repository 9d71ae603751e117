"""Row level security and rules come out of walter as they come out of plain ALTER TABLE."""
import pytest

from support.oracle import (CHANGES, OWNER, READER, ROWS, WRITER, Case, named, new_oracle,
                            oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ALTER = "alter table t alter n type bigint, add x int default 5"

OTHERS = """
create table granted (who name, id int);
create schema s; create table s.t (id int, v text);
create function may(row_id int) returns bool stable language sql as 'select row_id > 0';
"""
POLICIES = ROWS + OTHERS + f"""
alter table t add up int;
create policy everything on t using (true);
create policy "Mixed ""Case"" x" on t as restrictive for select to {READER}, {WRITER}
  using (v is not null and id > 0);
create policy adds on t for insert to {WRITER} with check (id > 100);
create policy changes on t for update using (may(id)) with check (v <> 'secret');
create policy deletes on t as restrictive for delete to current_user using (d < '2030-01-01');
create policy others on t for select to {READER} using (exists (select from granted g
  where g.who = current_user and g.id = t.id) or id in (select id from s.t));
create policy itself on t for select using (exists (select from t as p where p.id = t.up)
  or up in (select t.id from t where t.v like 'row%'));
comment on policy changes on t is 'it''s changes'; comment on policy itself on t is 'itself';
alter table t enable row level security;
grant select, insert, update, delete on t to {READER}, {WRITER};
"""
# What the roles see, and may do, is the same in both databases, too.
SEEN = f"""
insert into granted select '{READER}', g from generate_series(10, 20) g;
create table seen (who text, id int);
grant insert on seen to {READER}, {WRITER}; grant select on granted, s.t to public;
grant usage on schema s to public;
update t set up = id - 1;
set role {READER}; insert into seen select current_user, id from t;
update t set v = 'changed by reader' where id < 15; delete from t where id = 16;
set role {WRITER}; insert into seen select current_user, id from t;
insert into t (id, v) values (1001, 'by writer');
reset role"""

SECURITY = [
    Case("policies of all kinds", POLICIES, ALTER, CHANGES),
    # one that reads its own table is an endless recursion for who is subject to it
    Case("what roles may see and do", POLICIES + "drop policy itself on t", ALTER, CHANGES,
         after=SEEN),
    Case("a column of policies renamed", POLICIES,
         "alter table t rename up to parent; alter table t rename v to text; alter table t"
         " alter n type bigint", CHANGES),
    Case("a column of policies dropped with them", POLICIES, "alter table t drop up cascade",
         CHANGES),
    Case("policies, but not enabled",
         POLICIES + "alter table t disable row level security", ALTER, CHANGES),
    Case("enabled without a policy", ROWS + f"alter table t enable row level security;"
         f"grant select on t to {READER}", ALTER, CHANGES),
    Case("forced, but not enabled", ROWS + f"alter table t owner to {OWNER};"
         "alter table t force row level security", ALTER, CHANGES),
    Case("forced on the table of a superuser", POLICIES + "alter table t force row level security",
         ALTER, CHANGES, superuser="nobody else may read such a table of his own"),
    Case("enabled by the statement", POLICIES.replace("enable row", "disable row"),
         "alter table t enable row level security, force row level security", CHANGES),
    Case("disabled by the statement", POLICIES, "alter table t disable row level security", CHANGES),
    Case("by an ordinary role", f"grant create on schema public to {OWNER};"
         + POLICIES + f"alter table t owner to {OWNER}; grant usage on schema s to {OWNER}",
         ALTER, CHANGES, user=OWNER),
    Case("of a table of another role, whose name others have",
         "create schema o;" + POLICIES.replace("on t ", "on o.t ").replace("table t ", "table o.t ")
         .replace("into t ", "into o.t ").replace("from t ", "from o.t ")
         .replace("from t where", "from o.t where")
         + f"alter table o.t owner to {OWNER}; create table t (id int primary key);"
         f"grant usage, create on schema o to {OWNER}",
         "alter table o.t alter n type bigint, drop d cascade"),
]

LOGS = """
create table log (what text, id int, n bigint);
create schema s; create table s.t (id int, v text);
"""
RULES = ROWS + LOGS + """
create rule "Log it" as on insert to t where new.id > 0 do also
  insert into log values ('insert', new.id, new.n);
create rule b as on update to t do also (insert into log select 'update', new.id, new.n;
  insert into s.t select old.id, t.v from t where t.id = old.id);
create rule c as on delete to t where old.id in (select id from t where v is null) do instead
  update t set v = 'kept' where t.id = old.id;
create rule d as on delete to t where old.id = 7 do instead nothing;
create rule e as on update to t do also notify t;
create rule f as on insert to t do also insert into log values ('off', 0, 0);
create rule g as on insert to t do also insert into log values ('replica', 0, 0);
create rule h as on insert to t do also insert into log values ('always', 0, 0);
alter table t disable rule f; alter table t enable replica rule g; alter table t enable always rule h;
comment on rule c on t is 'it''s c'; comment on rule "Log it" on t is 'log';
"""

FIRED = """insert into t (id, n, v) values (500, 5, 'after'); update t set n = 6 where id = 500;
insert into t (id) values (501); delete from t where id in (7, 500, 501)"""

RULE_CASES = [
    Case("of all kinds", RULES, "alter table t add x int default 5, drop d", CHANGES, after=FIRED),
    Case("with columns renamed", RULES, "alter table t rename id to number;"
         "alter table t rename v to text; alter table t alter d type text", CHANGES,
         after=FIRED.replace("(id", "(number").replace(", v)", ", text)").replace("where id", "where number")),
    Case("dropped with a column", RULES, "alter table t drop v cascade", CHANGES),
    Case("switched by the statement", RULES, "alter table t disable rule \"Log it\","
         " enable rule f, enable always rule d; alter table t alter d type text", CHANGES),
    Case("that forbid all writes", ROWS + """create rule r as on insert to t do instead nothing;
         create rule u as on update to t do instead nothing""",
         "alter table t alter n type bigint", after="insert into t (id) values (77)"),
    Case("by an ordinary role", f"set role {OWNER};{RULES.replace('create schema s;', '')} reset role"
         .replace("create table s.t", "create table log2").replace("into s.t", "into log2"),
         "alter table t add x int default 5", CHANGES, user=OWNER),
]

REFUSED = [
    Case("type of a column of a policy", POLICIES, "alter table t alter v type varchar(50)"),
    Case("column of a policy dropped", POLICIES, "alter table t drop column up"),
    Case("type of a column of a rule", RULES, "alter table t alter n type bigint"),
    Case("column of a rule dropped", RULES, "alter table t drop v"),
]

# What policies and rules mention besides, some of which the swap makes anew, too.
NAMING = [
    Case("the table in a constant", ROWS + """
         create policy p on t using (tableoid = 't'::regclass and id > 0);
         create rule r as on delete to t where old.tableoid <> 't'::regclass do instead nothing;""",
         ALTER.replace("alter n type bigint, ", ""), CHANGES),
    Case("views on the table", ROWS + """
         create view w as select id, v from t where n > 0;
         create policy p on t using (id in (select id from w));
         create rule r as on insert to t do also notify w;
         create rule d as on delete to t where old.id in (select id from w where v = 'row 7')
           do instead nothing""", "alter table t rename v to text; alter table t add x int",
         CHANGES, after="delete from t where id in (7, 9)"),
    Case("partitioned tables", ROWS + """
         create table p (id int, c int) partition by range (id);
         create policy q on t using (exists (select from p where p.c = t.id));
         create rule r as on insert to t do also insert into p values (new.id, new.n);
         create table p1 partition of p default""", "alter table t add x int", CHANGES),
]

ALL = {"naming": NAMING, "security": SECURITY, "rules": RULE_CASES}


@pytest.mark.parametrize("case", named(ALL))
def test_gives_what_plain_alter_table_gives(oracle, case):
    oracle.check(case)


@pytest.mark.parametrize("case", named({"refused": REFUSED}))
def test_what_postgresql_refuses(oracle, case):
    oracle.check_refusal(case, 2)
