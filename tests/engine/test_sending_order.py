"""Fields and rows go out in an order that servers reuse; the rows of the result are the same."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

import quackllm
from quackllm.errors import BindError
from quackllm.testing import FakeProvider

TABLE = (
    "CREATE TABLE t AS SELECT 'r' || i AS r, 'a long description, repeated ' || (i % 3) AS d "
    "FROM range(60) s(i)"
)
QUERY = "SELECT r, LLM('x', r, d) AS x FROM t"


def sent(settings: str = "", query: str = QUERY) -> tuple[list[str], Counter[str]]:
    """What was sent, in order, and the rows that came back."""
    provider = FakeProvider()
    with quackllm.connect(provider=provider, progress=False, concurrency=1) as con:
        con.execute(TABLE)
        if settings:
            con.execute(settings)
        rows = con.execute(query).fetchall()
    return [request.fields for request in provider.requests], Counter(map(repr, rows))


def test_reordered_run_and_original_order_return_the_same_rows() -> None:
    reordered, rows = sent()
    original, same_rows = sent("SET llm_reorder = false")
    assert rows == same_rows
    assert len(rows) == 60
    assert reordered != original


def test_what_repeats_goes_first_and_rows_that_share_it_go_together() -> None:
    reordered, _ = sent()
    firsts = [fields.split('","r"')[0] for fields in reordered]
    assert all(fields.startswith('{"d":') for fields in reordered)
    assert sum(before != after for before, after in pairwise(firsts)) == 2


def test_a_pinned_field_stays_in_front() -> None:
    pinned, rows = sent(query="SELECT r, LLM('x', r, d, pin := 'R') AS x FROM t")
    assert all(fields.startswith('{"r":') for fields in pinned)
    assert rows == sent()[1]


def test_a_pinned_field_that_is_no_argument_is_an_error() -> None:
    with pytest.raises(BindError, match="pin names 'q', which is not an argument"):
        sent(query="SELECT LLM('x', r, d, pin := ['q']) FROM t")


def test_explain_says_what_reordering_brings() -> None:
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute(TABLE)
        ordered = con.execute("EXPLAIN (FORMAT JSON) " + QUERY).fetchone()
        con.execute("SET llm_reorder = false")
        plain = con.execute("EXPLAIN (FORMAT JSON) " + QUERY).fetchone()
    assert ordered != plain
