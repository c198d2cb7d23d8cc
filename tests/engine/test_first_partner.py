"""Promise 2 for semi joins, anti joins, EXISTS and IN: a row asks until it has its match.

The rows are those of the naive plan, failed pairs included, for at most one call per distinct
pair and hardly more than DuckDB's own plan, which stops likewise where it joins by hash.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quackllm
from quackllm.engine.first_partner import places
from quackllm.engine.providers.base import Request
from quackllm.errors import InvalidAnswer
from quackllm.testing import FakeProvider, Fault
from quackllm.testing.rules import question_hash
from tests.engine.conftest import Pair, close_pair, open_pair

MATCH = "LLM_FILTER('Does {x} match {y}?', a.x, b.y)"
OTHER = "LLM_FILTER('Is {y} like {x}?', b.y, a.x)"

FORMS = [
    f"SELECT a.k FROM a SEMI JOIN b ON {MATCH}",
    f"SELECT a.k, a.x FROM a SEMI JOIN b ON a.g = b.g AND {MATCH} AND {OTHER}",
    f"SELECT a.k FROM a SEMI JOIN b ON (a.g = b.g OR {MATCH}) AND {OTHER}",
    f"SELECT a.k FROM a ANTI JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.k FROM a ANTI JOIN b ON {MATCH} IS NULL",
    f"SELECT a.k FROM a ANTI JOIN b ON NOT {MATCH} OR a.g < b.g",
    f"SELECT count(*) FROM a SEMI JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.g, count(*) FROM a ANTI JOIN b ON {MATCH} GROUP BY a.g",
    f"SELECT a.k, LLM('w', x) FROM a SEMI JOIN b ON {MATCH} WHERE a.k > 0 AND LLM_FILTER('v', x)",
    f"SELECT a.k, c.k FROM a SEMI JOIN b ON {MATCH} JOIN b c ON c.g = a.g",
    f"SELECT a.k, c.k FROM a JOIN b c ON c.g = a.g SEMI JOIN b ON {MATCH} AND b.k <> c.k",
    f"SELECT a.k FROM a SEMI JOIN b ON {MATCH} ANTI JOIN b c ON LLM_FILTER('v', c.y, a.x)",
    f"SELECT a.k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.k > 1 AND EXISTS (FROM b WHERE a.g < b.g AND {MATCH} AND {OTHER})",
    f"SELECT a.k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE a.g = b.g AND {MATCH})",
    f"SELECT a.k FROM a WHERE NOT EXISTS (SELECT 1 FROM b, b c WHERE b.g = c.g AND {MATCH})",
    f"SELECT a.k, EXISTS (SELECT 1 FROM b WHERE {MATCH} OR a.g = b.g) AS e FROM a",
    f"SELECT k FROM a WHERE g = 1 OR NOT EXISTS (SELECT 1 FROM b WHERE coalesce({MATCH}, true))",
    f"SELECT a.k FROM a WHERE a.g IN (SELECT b.g FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.g NOT IN (SELECT b.g FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE NOT (g IN (SELECT g FROM b WHERE {MATCH}))",
    f"SELECT a.k FROM a WHERE a.g = ANY (SELECT DISTINCT b.g FROM b WHERE {MATCH} ORDER BY 1)",
    f"SELECT a.k FROM a WHERE a.g <> ALL (SELECT b.g + 1 FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.g IN (SELECT max(b.g) FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.g IN (SELECT b.g FROM b WHERE {MATCH} LIMIT 0)",
    "SELECT a.k FROM a SEMI JOIN b ON a.g = b.g AND LLM_FILTER('u', LLM('t', b.y), a.x) "
    f"AND {OTHER}",
    f"SELECT a.k FROM a SEMI JOIN b ON CASE WHEN {MATCH} THEN a.g < b.g ELSE {OTHER} END",
    "SELECT a.k FROM a SEMI JOIN b ON LLM_FILTER('u', b.y, a.x) "
    "AND LLM_FILTER('v', a.x, CAST('1' || b.k AS INTEGER))",
    f"SELECT a.k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE {MATCH} "
    "AND LLM_FILTER('v', a.x, CAST('1' || b.k AS INTEGER)))",
    f"SELECT a.k, a.g IN (SELECT b.g FROM b WHERE {MATCH}) AS i FROM a",
    f"SELECT a.k, NOT a.g IN (SELECT b.g FROM b WHERE {MATCH}) FROM a",
    f"SELECT a.k, CASE WHEN a.k > 2 THEN a.g <> ALL (SELECT b.g FROM b WHERE {MATCH}) END FROM a",
    f"SELECT a.k FROM a WHERE a.k = 3 OR a.g IN (SELECT b.g FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE coalesce(a.g IN (SELECT b.g FROM b WHERE {MATCH}), a.k < 4)",
    f"SELECT i, count(*) FROM (SELECT a.g = ANY (SELECT b.g FROM b WHERE {MATCH}) AS i FROM a) "
    "GROUP BY i",
]

WORDS = st.sampled_from(["ducks", "trains", "love", "war", ""]) | st.none()
ROWS = st.lists(st.tuples(st.integers(0, 5), WORDS, st.integers(0, 2) | st.none()), max_size=7)


def table(name: str, text: str, rows: list[tuple[int, str | None, int | None]]) -> str:
    values = ", ".join(
        f"({k}, {'NULL' if w is None else repr(w)}, {'NULL' if g is None else g})"
        for k, w, g in rows
    )
    created = f"CREATE TABLE {name} (k INTEGER, {text} VARCHAR, g INTEGER);"
    return created + (f"INSERT INTO {name} VALUES {values};" if rows else "")


@pytest.mark.slow
@pytest.mark.parametrize("sql", FORMS)
@settings(max_examples=3, deadline=None)
@given(left=ROWS, right=ROWS, seed=st.integers(0, 3), failing=st.sampled_from([0.0, 0.3]))
def test_rows_are_those_of_the_naive_plan(
    sql: str,
    left: list[tuple[int, str | None, int | None]],
    right: list[tuple[int, str | None, int | None]],
    seed: int,
    failing: float,
) -> None:
    pair = open_pair(table("a", "x", left) + table("b", "y", right), seed)
    try:
        for fake in (pair.planned_fake, pair.naive_fake):
            fake.__init__(seed=seed, faults=[Fault(rate=failing, error=InvalidAnswer)])  # type: ignore[misc]
        rows, types = pair.run_planned(sql)
        naive, naive_types = pair.run_naive(sql)
        assert types == naive_types
        assert Counter(rows) == Counter(naive)
        asked = Counter(question_hash(request, "once") for request in pair.planned_fake.requests)
        failed = sum(pair.planned.llm_engine.history[-1].failures.values())
        assert sum(asked.values()) - len(asked) <= failed, "asked twice, and not since it failed"
    finally:
        close_pair(pair)


TABLES = """
CREATE TABLE a AS SELECT i AS k, 'left ' || i % 50 AS x, i % 3 AS g FROM range(60) r(i);
CREATE TABLE b AS SELECT i AS k, 'topic ' || i AS y, i % 3 AS g FROM range(30) r(i);
"""

STOPPING = [
    f"SELECT a.k FROM a SEMI JOIN b ON {MATCH}",
    f"SELECT a.k FROM a ANTI JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.g = b.g AND {MATCH})",
    f"SELECT a.k, NOT EXISTS (SELECT 1 FROM b WHERE {MATCH}) AS n FROM a",
    f"SELECT a.k FROM a WHERE a.g NOT IN (SELECT b.g FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.g = ANY (SELECT b.g FROM b WHERE {MATCH})",
    f"SELECT a.k, a.g IN (SELECT b.g FROM b WHERE {MATCH}) FROM a",
]


def opened(share: float, seed: int) -> Pair:
    """Both plans over a model to which this share of the pairs matches."""

    def answer(request: Request) -> str:
        return "true" if question_hash(request, f"seed {seed}") / 2**64 < share else "false"

    pair = open_pair(TABLES)
    for fake in (pair.planned_fake, pair.naive_fake):
        fake.__init__(answer=answer, keep=10_000)  # type: ignore[misc]
    return pair


@pytest.mark.parametrize("sql", STOPPING)
def test_asked_at_most_a_quarter_more_than_pair_by_pair(sql: str) -> None:
    """Whatever the order, a row that asks n pairs in vain before its match asks 1.25 n + 1."""
    pair = opened(0.3, seed=1)
    try:
        rows, _ = pair.run_planned(sql)
        assert Counter(rows) == Counter(pair.run_naive(sql)[0])
        answers = defaultdict(list)
        for request in pair.planned_fake.requests:
            answers[json.loads(request.fields)["x"]].append(pair.planned_fake._say(request))
        groups = 3 if "a.g" in sql else 1  # of a left value, each with pairs of its own
        for said in answers.values():
            misses = said.count("false")
            assert len(said) <= groups * (1.25 * misses + 1), said
    finally:
        close_pair(pair)


def test_a_test_in_the_select_list_is_null_where_it_is_open() -> None:
    """Three rows of a, with and without NULLs among the values that a match makes count."""
    fake = FakeProvider(answer=lambda request: str("no" not in request.fields).lower())
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute("CREATE TABLE a AS FROM (VALUES ('x', 1), ('y', 2), ('z', NULL)) t(x, g)")
        con.execute(
            "CREATE TABLE b AS FROM (VALUES ('yes', 1), ('yes too', 3), ('no', NULL)) t(y, h)"
        )
        sql = f"SELECT x, g IN (SELECT h FROM b WHERE {MATCH}) AS i FROM a ORDER BY x"
        assert con.execute(sql).fetchall() == [("x", True), ("y", False), ("z", None)]
        con.execute("UPDATE b SET y = 'oh ' || y WHERE h IS NULL")
        assert con.execute(sql).fetchall() == [("x", True), ("y", False), ("z", None)]
        con.execute("UPDATE b SET y = 'yes' WHERE h IS NULL")
        assert con.execute(sql).fetchall() == [("x", True), ("y", None), ("z", None)]
        con.execute("DELETE FROM b")
        assert con.execute(sql).fetchall() == [("x", False), ("y", False), ("z", False)]


@pytest.mark.slow
def test_a_million_pairs_are_made_once() -> None:
    """Made again for each round, of which there are some twenty, they would take minutes."""

    def answer(request: Request) -> str:
        return "true" if question_hash(request, "million") / 2**64 < 0.05 else "false"

    fake = FakeProvider(answer=answer, keep=1)
    with quackllm.connect(provider=fake, progress=False, cache=False) as con:
        con.execute("CREATE TABLE a AS SELECT 'left ' || i AS x FROM range(1000) r(i)")
        con.execute("CREATE TABLE b AS SELECT 'right ' || i AS y FROM range(1000) r(i)")
        started = time.perf_counter()
        rows = con.execute(f"SELECT count(*) FROM a SEMI JOIN b ON {MATCH}").fetchall()
        seconds = time.perf_counter() - started
    assert rows == [(1000,)]
    assert fake.calls < 1000 * (1.25 * 20 + 1)
    assert seconds < 60


LIMITED = [
    (f"SELECT a.k FROM a SEMI JOIN b ON {MATCH}", True),
    (f"SELECT a.k FROM a SEMI JOIN b ON a.g = b.g AND {MATCH} WHERE a.k > 7", True),
    (
        f"SELECT a.k, LLM('w', x) FROM a WHERE a.k > 7 AND EXISTS (SELECT 1 FROM b WHERE {MATCH})",
        True,
    ),
    (f"SELECT a.k FROM a WHERE a.g IN (SELECT b.g FROM b WHERE {MATCH})", True),
    (f"SELECT a.k FROM a ANTI JOIN b ON {MATCH}", False),
    (f"SELECT a.k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE {MATCH})", False),
    (f"SELECT a.k FROM a WHERE a.k > 55 OR EXISTS (SELECT 1 FROM b WHERE {MATCH})", False),
    (f"SELECT DISTINCT a.g FROM a SEMI JOIN b ON {MATCH}", False),
]


@pytest.mark.parametrize(("sql", "stops"), LIMITED)
def test_limit_stops_at_rows_that_have_their_match(sql: str, stops: bool) -> None:
    """Of rows with a partner any will do; of those without one all pairs have to be known."""
    pair = opened(0.05, seed=2)
    try:
        every = pair.run_naive(sql)[0]
        rows, _ = pair.run_planned(f"{sql} LIMIT 3")
        asked = pair.planned_fake.calls
        assert len(rows) == min(3, len(every))
        assert Counter(rows) <= Counter(every)
        pair.run_planned(sql)
        assert (asked < pair.planned_fake.calls / 2) is stops
    finally:
        close_pair(pair)


def test_explain_says_after_how_many_rows_a_limit_stops() -> None:
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute(TABLES)
        explained = con.execute(f"EXPLAIN {STOPPING[0]} LIMIT 2").fetchall()[0][1]
        assert "the first match of each a.x, and 2 rows with one" in explained
        con.execute(f"{STOPPING[0]} LIMIT 0")
        assert con.llm_engine.history[-1].calls == 0


def test_duckdbs_own_plan_does_not_ask_less() -> None:
    """Of 500 distinct pairs at 20 %: DuckDB's hash join asks one by one, in another order."""
    ours = theirs = 0
    for seed in range(2):
        pair = opened(0.2, seed)
        try:
            sql = f"SELECT a.k FROM a SEMI JOIN b ON a.g = b.g AND {MATCH}"
            assert Counter(pair.run_planned(sql)[0]) == Counter(pair.run_naive(sql)[0])
            ours += pair.planned_fake.calls
            theirs += pair.naive_fake.calls
        finally:
            close_pair(pair)
    assert ours <= 1.1 * theirs, (ours, theirs)


def test_a_condition_that_is_decided_without_a_model_asks_nothing() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        sql = f"SELECT count(*) FROM a SEMI JOIN b ON a.g = b.g OR {MATCH}"
        assert con.execute(sql).fetchall() == [(60,)]
    assert fake.calls == 0


def test_texts_that_a_collation_calls_equal_are_rows_of_their_own() -> None:
    fake = FakeProvider(answer=lambda request: str('"A"' in request.fields).lower())
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute("CREATE TABLE a (x VARCHAR COLLATE NOCASE); INSERT INTO a VALUES ('A'), ('a')")
        con.execute("CREATE TABLE b AS SELECT 'y' AS y")
        rows = con.execute(f"SELECT a.x FROM a SEMI JOIN b ON {MATCH}").fetchall()
    assert rows == [("A",)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT m FROM a WHERE EXISTS (SELECT 1 FROM b WHERE LLM_FILTER('q', x, y) AND m = i + 6)",
        "SELECT m FROM a SEMI JOIN b ON LLM_FILTER('q', x, y) AND m = i + 6 AND k0 = matched",
        "SELECT k FROM a WHERE v0 AND k IN (SELECT h FROM b WHERE LLM_FILTER('q', x, y) AND i = 1)",
        "SELECT k, k IN (SELECT h FROM b WHERE LLM_FILTER('q', x, y)) FROM a LIMIT 3",
    ],
)
def test_columns_may_have_the_names_that_the_plan_uses(sql: str) -> None:
    created = (
        "CREATE TABLE a AS SELECT i AS k, 'l ' || i AS x, 7 AS m, 1 AS k0, 2 AS t0, 3 AS f0, "
        "4 AS place, 5 AS r0, true AS v0, 6 AS one FROM range(9) r(i);"
        "CREATE TABLE b AS SELECT j AS h, 'r ' || j AS y, 1 AS matched, 1 AS i FROM range(9) r(j)"
    )
    pair = open_pair(created)
    try:
        (rows, types), naive = pair.run_planned(sql), pair.run_naive(sql)
        assert types == naive[1]
        assert Counter(rows) == Counter(naive[0]) or "LIMIT" in sql
        [(_, plan)] = pair.run_planned(f"EXPLAIN {sql}")[0]
        assert "scalar function" not in plan
    finally:
        close_pair(pair)


def test_a_statement_that_runs_again_asks_nothing() -> None:
    """The order of the pairs is the same, so that the answers are there."""
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        first = con.execute(STOPPING[0]).fetchall()
        calls = fake.calls
        assert con.execute(STOPPING[0]).fetchall() == first
        assert fake.calls == calls


def test_a_strategy_that_does_not_pay_leaves_rows_to_their_first_match() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False, approximate="auto", cache=False) as con:
        con.execute(TABLES)
        sql = STOPPING[2].replace("FROM b WHERE", "FROM b WHERE b.k < 20 AND")
        explained = con.execute("EXPLAIN ANALYZE " + sql).fetchall()[0][1]
        assert "exact: pairs are asked until each row has its match" in explained
        assert (
            fake.calls
            < con.execute(
                "SELECT count(DISTINCT (x, y)) FROM a JOIN b ON a.g = b.g AND b.k < 20"
            ).fetchall()[0][0]
        )


def test_explain_says_where_a_row_stops() -> None:
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute(TABLES)
        explained = con.execute("EXPLAIN " + STOPPING[0]).fetchall()[0][1]
    assert "the first match of each a.x" in explained
    assert "1 pair of each, and 1 more for every 4 that did not match" in explained
    costs = re.findall(r"(?:at most|expected) +([\d,]+)", explained)
    at_most, expected = (int(each.replace(",", "")) for each in costs[:2])
    assert at_most == 1500
    assert expected < at_most / 4


def test_partners_are_asked_nearly_one_by_one() -> None:
    sizes = [last - first + 1 for first, last in islice(places(), 10)]
    assert sizes == [1, 1, 1, 1, 2, 2, 3, 3, 4, 5]
