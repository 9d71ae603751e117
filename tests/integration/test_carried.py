"""What hangs on a table from far away comes along."""
import pytest

from support.hold import held_copy, held_gate
from support.oracle import (CHANGES, OWNER, ROWS, Case, named, new_oracle,
                            oracle_databases, oracle_server, oracle_walter)

__all__ = ["new_oracle", "oracle_databases", "oracle_server", "oracle_walter"]   # fixtures

ALTER = "alter table t alter n type bigint, add x int default 5"

# A table whose constraint trigger names t; it writes down what has happened.
FROM = ROWS + """
create table o (id int primary key, n int); create table happened (what text);
create schema s; create table s."O o" (id int);
create function f() returns trigger language plpgsql as $$
begin
  insert into happened values (format('%s %s %s', tg_name, new.id, tg_argv[0]));
  return null;
end $$;
create constraint trigger g after insert on o from t deferrable initially deferred
  for each row execute function f('it''s');
create constraint trigger "g g" after insert or update of n on o from t not deferrable
  for each row when (new.n > 0) execute function f();
create constraint trigger g after insert on s."O o" from t
  for each row execute function f(); comment on trigger g on s."O o" is 'of another schema';
create constraint trigger self after insert on t from t for each row execute function f();
create constraint trigger other after insert on t from o for each row execute function f();
"""
FIRED = "insert into o values (1, 1), (2, 0); insert into s.\"O o\" values (3);" \
        "update o set n = 7 where id = 2; insert into t (id) values (500)"

TRIGGERS = [
    Case("constraint triggers", FROM, ALTER, CHANGES, after=FIRED),
    Case("their states", FROM + """
         alter table o disable trigger g; alter table o enable always trigger "g g";
         alter table s."O o" enable replica trigger g;
         create extension pg_trgm; alter trigger g on o depends on extension pg_trgm""",
         ALTER, after=FIRED),
    Case("beside a foreign key both ways", FROM + """
         alter table o add foreign key (n) references t; alter table t add foreign key (n)
         references o not valid; create view w as select o.id from o join t using (id)""",
         "alter table t rename id to key; alter table t add x int", after="insert into o values (1, 1)"),
    Case("made, changed and dropped while the run is on", FROM, ALTER, """
         create constraint trigger late after insert on s."O o" from t
           for each row execute function f(); drop trigger "g g" on o;
         alter table o disable trigger g; comment on trigger g on s."O o" is 'changed'""",
         after=FIRED, hold=held_gate),
    Case("of tables of the same owner", FROM + f"""
         alter table t owner to {OWNER}; alter table o owner to {OWNER}; alter table s."O o" owner
         to {OWNER}; grant create, usage on schema s to {OWNER}""", ALTER, user=OWNER),
]

EXTENSIONS = ROWS + """
create extension pg_trgm; create extension btree_gist;
create function f(r t) returns int language sql as 'select r.id';
create procedure p(r t) language sql as 'select 1';
create function body() returns bigint begin atomic select count(*) from t; end;
create materialized view m as select v from t; create index i on m (v);
create view w as select v from t;
alter function f(t) depends on extension pg_trgm; alter function f(t) depends on extension btree_gist;
alter procedure p(t) depends on extension pg_trgm; alter function body() depends on extension pg_trgm;
alter materialized view m depends on extension btree_gist; alter index i depends on extension pg_trgm;
"""

DEPENDS = [
    Case("functions and materialized views", EXTENSIONS, "alter table t add x int default 5", CHANGES,
         after="drop extension pg_trgm; drop extension btree_gist"),
    Case("populated afterwards", EXTENSIONS, "alter table t rename n to m",
         args=("--matviews=after",)),
    Case("changed while the run is on", EXTENSIONS, "alter table t add x int", """
         alter function f(t) no depends on extension pg_trgm;
         alter procedure p(t) depends on extension btree_gist""", hold=held_copy),
]

# Rows are found by the key's columns, with the equality that the columns have.
KEYED = """
create table t (a text, b int, n int, v text);
insert into t select 'k' || g, g, g * 10, 'v' from generate_series(1, 30) g;
alter table t alter a set not null, alter b set not null;
"""
KEY_CHANGES = """
update t set n = null where b = 3; update t set a = 'K' where b = 4; delete from t where b = 5;
insert into t values ('new', 101, 1, 'x'); update t set v = 'w' where b between 6 and 9
"""

KEYS = [
    Case(f"a replica identity {kind}", KEYED + setup, "alter table t alter n type bigint",
         KEY_CHANGES) for kind, setup in {
             "of another collation": 'create unique index k on t (a collate "C", b);'
                                     "alter table t replica identity using index k",
             "for patterns": "create unique index k on t (b, a text_pattern_ops) include (v);"
                             "alter table t replica identity using index k",
             "downwards": "create unique index k on t (b desc nulls last, a desc);"
                          "alter table t replica identity using index k",
             "of a type that is like another": "alter table t alter a type varchar(20);"
                                               "alter table t add primary key (a, b)",
         }.items()]

STATISTICS = ROWS + f"""
create schema s; create statistics st on n, v from t;
create materialized view m as select id, n, v, n + 1 as "N 1" from t;
create statistics m_st on n, v from m; create statistics s.st (mcv) on id, "N 1" from m;
create statistics s."S t" (ndistinct) on (id + 1), v, (lower(v)) from m;
alter statistics m_st set statistics 77; comment on statistics s."S t" is 'of a matview';
alter statistics s.st owner to {OWNER}; grant create, usage on schema s to {OWNER};
create materialized view s.mm as select * from m; create statistics s.other on id, n from s.mm;
analyze t; analyze m; analyze s.mm
"""
FILLED = "select count(*) = 5 from pg_statistic_ext_data"

STATISTICS_OF_MATVIEWS = [
    Case("populated before", STATISTICS, "alter table t add x int", CHANGES, holds=(FILLED,)),
    Case("populated afterwards", STATISTICS, "alter table t rename n to amount",
         args=("--matviews=after",)),
    Case("dropped with a column", STATISTICS, "alter table t drop n cascade"),
    Case("of an owner", STATISTICS + f"""; alter table t owner to {OWNER};
         alter materialized view m owner to {OWNER}; alter statistics m_st owner to {OWNER};
         alter statistics st owner to {OWNER};
         alter statistics s."S t" owner to {OWNER}; alter materialized view s.mm owner to {OWNER};
         alter statistics s.other owner to {OWNER}""", "alter table t add x int", user=OWNER,
         holds=(FILLED,)),
]

CASES = {"statistics of matviews": STATISTICS_OF_MATVIEWS, "keys": KEYS, "triggers that name it": TRIGGERS, "depends on extension": DEPENDS}


@pytest.mark.parametrize("case", named(CASES))
def test_carried_over(oracle, case):
    oracle.check(case)


@pytest.mark.parametrize("index, own", [('a collate "C"', False), ("a text_pattern_ops", True),
                                        ("a", True)])
def test_rows_are_found_by_an_index(oracle, index, own):
    """Where the replica identity's own does not serve, there is another for the time of the run."""
    alter = "alter table t alter n type bigint"
    case = Case("", KEYED + f"create unique index k on t ({index}); alter table t replica identity"
                " using index k", alter)
    oracle.set_up(case)
    with held_gate(oracle.walter, alter) as run:
        names = [name for (name,) in oracle.online.query(
            "select c.relname from pg_index join pg_class c on c.oid = indexrelid"
            " where indrelid = %s::regclass order by 1", [run.wait_for_log(r"shadow table (.+) created,").group(1)])]
    run.finish()
    assert ([name for name in names if name.startswith("walter_")] == []) == own
    assert oracle.online.query_one("select count(*) from pg_indexes where tablename = 't'"
                                   " and schemaname = 'public'") == 1


def test_statistics_of_another(oracle):
    case = Case("", STATISTICS + f"; alter table t owner to {OWNER}; alter statistics st owner to"
                f" {OWNER}; alter materialized view m owner to {OWNER};"
                f" alter materialized view s.mm owner to {OWNER}", ALTER, user=OWNER)
    oracle.set_up(case)
    assert ("materialized view public.m has statistics object public.m_st of postgres, which role"
            f" {OWNER} cannot make again") in oracle.check_untouched(case, (2,)).stderr


@pytest.mark.parametrize("setup, message", [
    ("alter table t owner to {owner}; grant execute on function f() to {owner}",
     "and role oracle_owner does not own that table"),
    ("alter table t owner to {owner}; alter table o owner to {owner}; alter table s.\"O o\" owner to"
     " {owner}; revoke execute on function f() from public",
     "and role oracle_owner may not execute its function"),
], ids=["table of another", "function of another"])
def test_trigger_of_another(oracle, setup, message):
    case = Case("", FROM + setup.format(owner=OWNER), ALTER, user=OWNER)
    oracle.set_up(case)
    assert message in oracle.check_untouched(case, (2,)).stderr


def test_trigger_under_load(oracle):
    """Rows of the other table go on firing it, each once."""
    case = Case("", FROM, ALTER)
    oracle.set_up(case)
    with held_gate(oracle.walter, ALTER) as run:
        oracle.online.execute("insert into o select g, 0 from generate_series(1, 5) g")
        waiting = oracle.online.connect(autocommit=False)
        waiting.execute("insert into o values (6, 0)")
    waiting.commit()
    run.finish()
    oracle.online.execute("insert into o values (7, 0)")
    assert [row[0] for row in oracle.online.query("select what from happened order by 1")] == [
        f"g {number} it's" for number in range(1, 8)]
