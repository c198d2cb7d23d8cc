"""LIMIT over more argument tuples than one batch: right rows, none of them twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider

TABLE = (
    "CREATE TABLE t AS SELECT i, 'a' || (hash(i) % 700) AS x, (hash(i * 7) % 50)::INTEGER AS y "
    "FROM range(2000) r(i)"
)
FILTERS = "LLM_FILTER('p', x) AND LLM_FILTER('q', x) AND LLM_FILTER('r', x, y)"


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(seed=3)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False, cache=False) as connection:
        connection.execute(TABLE)
        yield connection


@pytest.mark.parametrize("order", ["", "ORDER BY y, i", "ORDER BY y DESC, i DESC"])
@pytest.mark.parametrize("limit", ["LIMIT 40", "LIMIT 25 OFFSET 30"])
def test_rows_of_several_rounds_come_once(
    con: Connection, fake: FakeProvider, order: str, limit: str
) -> None:
    everything = con.execute(f"SELECT i, y FROM t WHERE {FILTERS} {order}").fetchall()
    before = fake.calls
    rows = con.execute(f"SELECT i, y FROM t WHERE {FILTERS} {order} {limit}").fetchall()
    wanted, skipped = (40, 0) if limit == "LIMIT 40" else (25, 30)
    assert len(rows) == len(set(rows)) == wanted
    assert set(rows) <= set(everything)
    if order:
        assert rows == everything[skipped : skipped + wanted]
    assert fake.calls - before < before


def test_or_of_a_column_and_calls_counts_rows_once(con: Connection) -> None:
    rows = con.execute(
        "SELECT i FROM t WHERE LLM_FILTER('p', x) AND (y > 30 OR LLM_FILTER('q', x)) LIMIT 50"
    ).fetchall()
    assert len(rows) == len(set(rows)) == 50
