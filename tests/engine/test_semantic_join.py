"""Promise 2 for joins on what a model says: the rows of the naive plan, few calls."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quackllm
from quackllm.engine.providers.base import Request
from quackllm.testing import FakeProvider
from tests.engine.conftest import close_pair, open_pair

MATCH = "LLM_FILTER('Does {x} match {y}?', a.x, b.y)"
CLASSES = "LLM_CLASSIFY(a.x, ['p', 'q']) = LLM_CLASSIFY(b.y, ['p', 'q'])"

FORMS = [
    f"SELECT a.k, b.k FROM a JOIN b ON {MATCH}",
    f"SELECT a.k, b.k FROM a JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.k, b.k FROM a, b WHERE {MATCH} AND a.k < b.k",
    f"SELECT a.k, b.k FROM a LEFT JOIN b ON {MATCH}",
    f"SELECT a.k, b.k FROM a LEFT JOIN b ON a.g = b.g AND {MATCH} WHERE a.k > 1",
    f"SELECT a.k, b.k FROM a RIGHT JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.k, b.k FROM a FULL JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.k FROM a SEMI JOIN b ON a.g = b.g AND {MATCH}",
    f"SELECT a.k FROM a ANTI JOIN b ON {MATCH}",
    f"SELECT a.k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE a.g = b.g AND {MATCH})",
    f"SELECT a.k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.g IN (SELECT b.g FROM b WHERE {MATCH})",
    f"SELECT a.k FROM a WHERE a.g NOT IN (SELECT b.g FROM b WHERE {MATCH})",
    "SELECT s.k, t.k FROM a s JOIN a t ON s.k < t.k AND LLM_FILTER('Same?', s.x, t.x)",
    "SELECT a.k, b.k FROM a JOIN b ON LLM_FILTER('u', a.x) AND LLM_FILTER('v', b.y)",
    f"SELECT a.k, b.k FROM a JOIN b ON LLM_FILTER('u', a.x) AND {MATCH}",
    f"SELECT a.k, b.k, c.k FROM a, b JOIN b c ON b.g = c.g WHERE {CLASSES}",
    f"SELECT a.k, b.k FROM a JOIN b ON {CLASSES}",
    f"SELECT a.k, b.k FROM a LEFT JOIN b ON {CLASSES}",
    f"SELECT a.k, b.k FROM a FULL JOIN b ON a.g = b.g AND {CLASSES}",
    f"SELECT a.k FROM a SEMI JOIN b ON {CLASSES}",
    f"SELECT a.k FROM a ANTI JOIN b ON {CLASSES}",
    "SELECT a.k, b.k FROM a JOIN b ON b.g > 0 AND LLM_FILTER('v', b.y)",
    "SELECT a.k, t FROM a, unnest([x, x || '!']) AS u(t) WHERE LLM_FILTER('v', t)",
    "SELECT a.k, t FROM a CROSS JOIN LATERAL (SELECT x || '?' AS t) WHERE LLM_FILTER('v', t)",
    "SELECT count(*) FROM a, b WHERE LLM('constant') <> ''",
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


@pytest.mark.parametrize("sql", FORMS)
@settings(max_examples=3, deadline=None)
@given(left=ROWS, right=ROWS, seed=st.integers(0, 3))
def test_a_join_has_the_rows_of_the_naive_plan(
    sql: str,
    left: list[tuple[int, str | None, int | None]],
    right: list[tuple[int, str | None, int | None]],
    seed: int,
) -> None:
    pair = open_pair(table("a", "x", left) + table("b", "y", right), seed)
    try:
        rows, types = pair.run_planned(sql)
        naive, naive_types = pair.run_naive(sql)
        assert types == naive_types
        assert Counter(rows) == Counter(naive)
    finally:
        close_pair(pair)


TABLES = """
CREATE TABLE a AS SELECT i AS k, 'a much longer text about ' || (i % 6) AS x, i % 3 AS g
FROM range(12) r(i);
CREATE TABLE b AS SELECT i AS k, 'topic ' || (i % 4) AS y, i % 3 AS g FROM range(9) r(i);
"""


def test_at_most_the_distinct_pairs_that_relational_conditions_leave_are_asked() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        pairs = con.execute(
            "SELECT count(DISTINCT (x, y)) FROM a JOIN b ON a.g = b.g AND a.k > 2"
        ).fetchall()[0][0]
        con.execute(f"SELECT a.k FROM a LEFT JOIN b ON a.g = b.g AND a.k > 2 AND {MATCH}")
        assert fake.calls == pairs


def test_the_longer_text_is_the_prefix_that_its_pairs_share() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        con.execute("UPDATE a SET x = x || repeat(', which goes on for long', 40)")
        con.execute(f"SELECT a.k, b.k FROM a JOIN b ON {MATCH}")
    shown = [json.loads(request.fields) for request in fake.requests]
    assert all(next(iter(fields)) == "x" for fields in shown)
    texts = [fields["x"] for fields in shown]
    assert len(texts) == 24
    assert sum(one != two for one, two in pairwise(texts)) < 12  # 6 runs, perhaps led by one each


def test_a_limit_stops_the_join() -> None:
    fake = FakeProvider(answer=lambda request: "true")
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        assert len(con.execute(f"SELECT a.k FROM a JOIN b ON {MATCH} LIMIT 2").fetchall()) == 2
    assert fake.calls <= 16


def by_number(request: Request) -> str:
    """One of the labels, the same for equal last digits."""
    [text] = json.loads(request.fields).values()
    return str(int(text.split()[-1]) % 100)


def test_equal_classes_are_asked_once_per_row_of_each_side_and_joined_by_duckdb() -> None:
    rows = 3_000
    labels = [str(i) for i in range(100)]
    fake = FakeProvider(answer=by_number)
    with quackllm.connect(provider=fake, progress=False, disabled_rules="early_stop") as con:
        con.execute(f"CREATE TABLE a AS SELECT 'left ' || i AS x FROM range({rows}) r(i)")
        con.execute(f"CREATE TABLE b AS SELECT 'right ' || i AS y FROM range({rows}) r(i)")
        sql = (
            f"SELECT count(*) FROM a JOIN b ON LLM_CLASSIFY(a.x, {labels}) = "
            f"LLM_CLASSIFY(b.y, {labels})"
        )
        assert con.execute(sql).fetchall() == [(rows * rows // 100,)]
        assert fake.calls == 2 * rows
        explained = con.execute("EXPLAIN " + sql).fetchall()[0][1]
        assert "own_sources" in explained  # the tuples of a side are not looked for in the product


def test_a_side_is_not_asked_where_the_other_has_no_row() -> None:
    fake = FakeProvider()
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute("CREATE TABLE a AS SELECT 'x' AS x; CREATE TABLE b (y VARCHAR)")
        assert con.execute(f"SELECT * FROM a JOIN b ON {CLASSES}").fetchall() == []
    assert fake.calls == 0
