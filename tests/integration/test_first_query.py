"""The first query after the swap is planned and run as well as the last one before it."""
from support.traces import assert_finished

TABLE = """
create schema s;
create table t (id int primary key, n int, v text, w text);
insert into t select g, g % 100, 'v' || g % 100, md5(g::text) from generate_series(1, 20000) g;
create index t_n on t (n) include (v);
create index t_lower on t (lower(v));
create statistics st (dependencies, ndistinct, mcv) on n, v from t;
create statistics s.st on (lower(w)), n from t;
alter table t alter w set (n_distinct = -0.5), alter v set statistics 250;
"""


def create_table(db):
    db.execute(TABLE)
    db.execute("vacuum analyze t")


def explain(db, query, options=""):
    return "\n".join(line for (line,) in db.query(f"explain {options} {query}"))


def estimate(db, query):
    (plan,), = db.query(f"explain (format json) {query}")
    return plan[0]["Plan"]["Plan Rows"]


def test_index_only_scan(db, walter):
    create_table(db)
    walter.perform("alter table t alter id type bigint")
    # from 16 on a table may have some empty pages at its end
    assert db.query_one("select relallvisible = (select count(distinct (ctid::text::point)[0])"
                        "  from t) and relpages > 0 from pg_class where oid = 't'::regclass")
    plan = explain(db, "select n, v from t where n = 7", "(analyze, costs off, timing off)")
    assert "Index Only Scan using t_n on t" in plan, plan
    assert "Heap Fetches: 0" in plan, plan
    assert_finished(db)


def test_column_statistics(db, walter):
    create_table(db)
    read = ("select attname, n_distinct, array_length(histogram_bounds::text::text[], 1),"
            " array_length(most_common_freqs, 1), tablename from pg_stats where schemaname = 'public'"
            " order by tablename, attname")
    before = db.query(read)
    assert len(before) == 5
    walter.perform("alter table t alter id type bigint")
    after = db.query(read)
    assert [row[0] for row in after] == [row[0] for row in before]
    assert [row for row in after if row[0] in ("n", "v", "w", "lower")] == \
        [row for row in before if row[0] in ("n", "v", "w", "lower")]
    assert db.query_one("select reltuples from pg_class where oid = 't'::regclass") == 20000


def test_extended_statistics(db, walter):
    """Without them the planner thinks that two columns which go together do not."""
    create_table(db)
    both = "select 1 from t where n = 7 and v = 'v7'"
    assert 150 < estimate(db, both) < 250
    walter.perform("alter table t alter id type bigint")
    assert 150 < estimate(db, both) < 250
    assert db.query("select statistics_schemaname, statistics_name, dependencies is not null,"
                    " most_common_vals is not null, exprs is not null, n_distinct is not null"
                    "  from pg_stats_ext where schemaname = 'public' order by 1") == [
        ("public", "st", True, True, False, True), ("s", "st", True, True, True, True)]
    db.execute("drop statistics st")
    assert estimate(db, both) < 20, "the test proves nothing"
