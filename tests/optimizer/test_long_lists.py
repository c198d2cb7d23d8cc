"""Long lists are one token and one leaf, and the text stays what was written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot.tokenizer_core import Token

import quackllm
from quackllm.optimizer.long_lists import LONG_LIST, folded, parse_folded, tokens_of, unfold
from quackllm.optimizer.sql import DIALECT, balance_chains, parse, text
from quackllm.testing import FakeProvider

NUMBERS = ", ".join(str(i) for i in range(LONG_LIST + 5))
TEXTS = ", ".join(f"'it''s {i}, ('" for i in range(LONG_LIST + 5))
ROWS = ",\n".join(f"( {i}, 'it''s (' ,NULL, DATE '2026-01-01')" for i in range(LONG_LIST + 5))

LISTS = st.sampled_from(
    [
        *(f"a IN ({NUMBERS})", f"b NOT IN ( {TEXTS} )", "c IN (1, 2)", f"d IN ({NUMBERS}, e)"),
        *(f"EXISTS (values {ROWS})", f"EXISTS (VALUES {ROWS}, (1, e, 2, 3))"),
    ]
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
    assert not folded(f"VALUES {ROWS}, (1, e, 2, 3)").lists
    assert not folded(f"SELECT f({ROWS})").lists
    assert len(folded(f"VALUES {ROWS}").lists) == 1


STATEMENTS = {
    "IN": ("SELECT v FROM n WHERE i IN ({}) AND LLM_FILTER('p', v)", "{}"),
    "VALUES": ("SELECT b FROM (VALUES {}) t(a, b) WHERE a < 5 AND LLM_FILTER('p', b)", "({}, 'x')"),
    "INSERT": ("INSERT INTO n VALUES {} RETURNING LLM_FILTER('p', v)", "({}, 'x')"),
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_longer_list_is_no_more_work_for_the_planner(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the literals: as many characters for sqlglot, as many texts for DuckDB."""
    statement, item = STATEMENTS[kind]
    read: list[int] = []
    tokenize = type(DIALECT).tokenize

    def counted(self: object, sql: str, dialect: object = None) -> list[Token]:
        read.append(len(sql))
        return tokenize(DIALECT, sql, dialect)

    monkeypatch.setattr(type(DIALECT), "tokenize", counted)

    def work(size: int) -> tuple[int, int]:
        sql = statement.format(", ".join(item.format(1_000 + i) for i in range(size)))
        with quackllm.connect(provider=FakeProvider(), progress=False) as con:
            con.execute("CREATE TABLE n AS SELECT i, 'v' || i AS v FROM range(5) r(i)")
            read.clear()
            con.execute(sql).fetchall()
        return sum(read), len(read)

    characters, texts = work(200)
    assert 0 < characters < 3_000
    assert work(2_000) == (characters, texts)


def test_long_values_give_the_rows_of_short_ones() -> None:
    """Rows of all literals are one leaf to the planner, and staged; with NULLs and repeats."""
    texts = [f"'it''s {i % 7}'" if i % 5 else "NULL" for i in range(LONG_LIST + 5)]
    written = ", ".join(f"({i}, {text_}, -{i}.5, TRUE)" for i, text_ in enumerate(texts))
    sql = f"SELECT * FROM (VALUES {written}) t(a, b, c, d) WHERE LLM_FILTER('p', b) ORDER BY a"
    with quackllm.connect(provider=(fake := FakeProvider()), progress=False) as con:
        found = con.execute(sql)
        types = [str(column[1]) for column in con.description]
        long = found.fetchall()
        assert fake.calls == 7
        assert "scalar function" not in con.execute(f"EXPLAIN {sql}").fetchall()[0][1]
        con.execute(f"CREATE TABLE t AS SELECT * FROM (VALUES {written}) t(a, b, c, d)")
        short = con.execute("SELECT * FROM t WHERE LLM_FILTER('p', b) ORDER BY a")
        assert [str(column[1]) for column in con.description] == types
        assert short.fetchall() == long != []


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
