"""Long lists are one token and one leaf, and the text stays what was written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quackllm
from quackllm.optimizer.long_lists import LONG_LIST, folded, parse_folded, tokens_of, unfold
from quackllm.optimizer.sql import DIALECT, balance_chains, parse, text
from quackllm.testing import FakeProvider

NUMBERS = ", ".join(str(i) for i in range(LONG_LIST + 5))
TEXTS = ", ".join(f"'it''s {i}, ('" for i in range(LONG_LIST + 5))

LISTS = st.sampled_from(
    [f"a IN ({NUMBERS})", f"b NOT IN ( {TEXTS} )", "c IN (1, 2)", f"d IN ({NUMBERS}, e)"]
)
OTHERS = st.sampled_from(
    [
        "f(x, 'y')",
        f"'IN ({NUMBERS})'",
        f"/* IN ({NUMBERS}) */ g",
        "$1 = h",
        "'x IN (" + TEXTS.replace("'", "''") + ")'",
    ]
)


@given(st.lists(LISTS | OTHERS, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_tokens_stand_where_they_stand_in_the_text(parts: list[str]) -> None:
    sql = "SELECT " + ", ".join(parts) + " FROM t"
    tokens, known = tokens_of(sql), DIALECT.tokenize(sql)
    places = [(token.start, token.end) for token in known]
    assert {(t.start, t.end) for t in tokens if not t.text.startswith("__llm_list_")} <= set(places)
    spans = [(t.start, t.end) for t in tokens if t.text.startswith("__llm_list_")]
    covered = [p for p in places if any(start <= p[0] and p[1] <= end for start, end in spans)]
    assert len(tokens) - len(spans) + len(covered) == len(known)


@given(st.lists(LISTS | OTHERS, min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_tree_with_its_lists_put_back_is_written_as_any_other(parts: list[str]) -> None:
    sql = "SELECT " + ", ".join(parts) + " FROM t"
    root, short = parse_folded(sql)
    unfold(root, short)
    assert text(parse(text(root))) == text(parse(sql))


def test_what_only_looks_like_a_list_stays() -> None:
    assert not folded(f"SELECT f({NUMBERS})").lists
    assert not folded(f"SELECT a IN ({NUMBERS}, b)").lists
    assert len(folded(f"SELECT a IN ({NUMBERS}) AND b IN ({TEXTS})").lists) == 2


@pytest.mark.parametrize("connector", ["AND", "OR"])
def test_a_balanced_chain_is_written_as_it_was(connector: str) -> None:
    chain = f" {connector} ".join(f"(a = {i} OR b)" for i in range(3_000))
    root = parse(f"SELECT 1 FROM t WHERE {chain} AND NOT c")
    written = text(root)
    balance_chains(root)
    assert text(root) == written
    assert max(node.depth for node in root.walk()) < 30


@pytest.mark.parametrize("connector", ["AND", "OR"])
def test_a_thousand_conditions_are_planned(connector: str) -> None:
    chain = f" {connector} ".join(f"i <> {n}" for n in range(10, 1_010))
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute("CREATE TABLE n AS SELECT i FROM range(10) r(i)")
        [(_, plan)] = con.execute(
            f"EXPLAIN SELECT i FROM n WHERE ({chain}) AND LLM_FILTER('p', i)"
        ).fetchall()
    assert "model 1: LLM_FILTER" in plan
    assert "scalar function" not in plan


@pytest.mark.slow
def test_four_times_the_list_takes_about_four_times_as_long() -> None:
    """A megabyte at the end; the bound is generous, since other work disturbs the clock."""
    with quackllm.connect(provider=FakeProvider(), progress=False) as con:
        con.execute("CREATE TABLE n AS SELECT i, 'v' || i AS v FROM range(50) r(i)")

        def seconds(size: int) -> float:
            many = ", ".join(str(7 * i) for i in range(size))
            started = time.process_time()
            con.execute(f"SELECT v FROM n WHERE i IN ({many}) AND LLM_FILTER('p', v)").fetchall()
            return time.process_time() - started

        seconds(1_000)
        assert seconds(128_000) < 10 * seconds(32_000)
