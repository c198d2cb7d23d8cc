"""Joins that ask fewer than all pairs: only where they may, and never a pair that is no match."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.providers.base import Capabilities, Request
from quackllm.errors import BindError, BudgetExceeded, ModelNotFound, ServerFailed
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Choice, Embedding, JsonAnswer
from quackllm.udfs.vectors import packed

TABLES = """
CREATE TABLE a AS SELECT i AS k, 'left ' || i AS x, i % 3 AS g FROM range(60) r(i);
CREATE TABLE b AS SELECT i AS k, 'the right one ' || i AS y, i % 3 AS g FROM range(50) r(i);
"""


def number(text: str) -> str:
    return text.split()[-1]


def answer(request: Request) -> str:
    """Texts with the same number match, and are near each other."""
    fields = json.loads(request.fields)
    if isinstance(request.answer, Embedding):
        text = fields["text"]
        near = np.random.default_rng(sum(map(ord, number(text)))).standard_normal(16)
        own = np.random.default_rng(sum(map(ord, text))).standard_normal(16)
        return packed(near + 0.3 * own)
    if isinstance(request.answer, Choice):
        shown = [number(str(value)) for value in fields.values()]
        return "true" if len(shown) == 2 and shown[0] == shown[1] else "false"
    assert isinstance(request.answer, JsonAnswer)
    labels = request.answer.as_dict()["properties"]["answer"]["items"]["enum"]
    [value] = fields.values()
    return json.dumps({"answer": [label for label in labels if number(label) == number(value)]})


def match(strategy: str | None = None) -> str:
    option = "" if strategy is None else f", strategy := '{strategy}'"
    return f"LLM_FILTER('Is {{x}} the same as {{y}}?', a.x, b.y{option})"


def asked(fake: FakeProvider, kind: type[Any]) -> list[Request]:
    return [request for request in fake.requests if isinstance(request.answer, kind)]


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(answer=answer, keep=100_000)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False, cache=False) as connection:
        connection.execute(TABLES)
        yield connection


def plan(con: Connection, sql: str) -> dict[str, Any]:
    """EXPLAIN ANALYZE as data: the entry of the first model stage."""
    row = con.execute("EXPLAIN (ANALYZE, FORMAT json) " + sql).fetchone()
    assert row is not None
    stages: list[dict[str, Any]] = json.loads(row[1])["stages"]
    return stages[0]


INNER = "SELECT a.k, b.k FROM a JOIN b ON {match}"
FORMS = [
    INNER,
    "SELECT a.k, b.k FROM a, b WHERE {match}",
    "SELECT a.k, b.k FROM a JOIN b ON a.g <= b.g + 1 AND {match}",
    "SELECT a.k FROM a SEMI JOIN b ON {match}",
    "SELECT a.k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE {match})",
    "SELECT a.k FROM a WHERE a.k // 99 IN (SELECT b.k // 99 FROM b WHERE {match})",
    "SELECT k FROM (SELECT a.k FROM a JOIN b ON {match}) WHERE k > 3",
]
ON_DUCKDB_2 = ("SEMI", "EXISTS", "IN (")
"""Forms that are staged on DuckDB 2.0 only, and elsewhere are exact."""


@pytest.mark.parametrize("form", FORMS)
def test_blocking_finds_rows_of_the_exact_join_with_fewer_calls(
    form: str, con: Connection, fake: FakeProvider
) -> None:
    exact = con.execute(form.format(match=match())).fetchall()
    before = len(asked(fake, Choice))
    con.execute("SET llm_approximate = 'auto'")
    rows = con.execute(form.format(match=match())).fetchall()
    assert set(rows) <= set(exact)
    assert len(rows) >= 0.9 * len(exact)
    calls = len(asked(fake, Choice)) - before
    staged = int(con.execute("SELECT version()").fetchall()[0][0][1]) > 1
    if staged or not any(word in form for word in ON_DUCKDB_2):
        assert calls < before


@pytest.mark.parametrize(
    "form",
    [
        "SELECT a.k FROM a ANTI JOIN b ON {match}",
        "SELECT a.k, b.k FROM a LEFT JOIN b ON {match}",
        "SELECT a.k, b.k FROM a FULL JOIN b ON {match}",
        "SELECT a.k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE {match})",
        "SELECT a.k FROM a WHERE a.k NOT IN (SELECT b.k FROM b WHERE {match})",
        "SELECT a.k, b.k FROM a JOIN b ON NOT {match}",
        "SELECT a.k, b.k FROM a JOIN b ON {match} OR a.k = b.k",
        "SELECT a.k FROM a EXCEPT SELECT a.k FROM a JOIN b ON {match}",
        "SELECT (SELECT count(*) FROM b WHERE {match}) AS n FROM a",
        "SELECT a.k, b.k, {match} AS m FROM a, b",
        "WITH m AS (SELECT a.k FROM a JOIN b ON {match}) FROM a WHERE k NOT IN (FROM m)",
    ],
)
def test_where_a_missed_pair_would_make_a_wrong_row_auto_asks_every_pair(
    form: str, con: Connection, fake: FakeProvider
) -> None:
    exact = con.execute(form.format(match=match())).fetchall()
    con.execute("SET llm_approximate = 'auto'")
    assert sorted(map(repr, con.execute(form.format(match=match())).fetchall())) == sorted(
        map(repr, exact)
    )
    assert not asked(fake, Embedding)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_approximated_unless_it_is_allowed(
    form: str, con: Connection, fake: FakeProvider
) -> None:
    con.execute(form.format(match=match()))
    con.execute("SET llm_approximate = 'auto'")
    con.execute(form.format(match=match("exact")))
    assert not asked(fake, Embedding)
    assert not asked(fake, JsonAnswer)


def test_an_outer_join_is_blocked_where_the_call_says_so(
    con: Connection, fake: FakeProvider
) -> None:
    rows = con.execute(f"SELECT a.k, b.k FROM a LEFT JOIN b ON {match('block')}").fetchall()
    assert {k for k, _ in rows} == set(range(60))
    assert all(other in (None, k) for k, other in rows)


def test_what_was_done_is_told(con: Connection, fake: FakeProvider) -> None:
    sql = INNER.format(match=match("block"))
    told = con.execute("EXPLAIN " + sql).fetchall()[0][1]
    assert "strategy     block" in told
    assert "approximate" in told
    assert "exact: 3,000 calls" in told
    assert not fake.requests  # EXPLAIN asks nothing
    entry = plan(con, sql)
    measured = entry["measured"]
    assert measured["asked"] == len(asked(fake, Choice)) == entry["actual"]["calls"]
    assert measured["pairs"] == 3_000
    assert measured["recall"]["low"] <= 1.0 == measured["recall"]["high"]
    assert measured["matches"] == 50


def test_with_candidates_the_nearest_are_asked_and_a_sample(
    con: Connection, fake: FakeProvider
) -> None:
    call = match("block").replace("strategy", "candidates := 2, strategy")
    told = con.execute("EXPLAIN " + INNER.format(match=call)).fetchall()[0][1]
    assert "275" in told  # 2 for each of 110 texts, and a quarter as many for the estimate
    entry = plan(con, INNER.format(match=call))
    measured = entry["measured"]
    assert measured["depth"] == 2
    assert measured["target"] is None
    assert measured["asked"] == len(asked(fake, Choice)) <= 275
    assert measured["matches"] >= 40


def test_few_pairs_are_blocked_where_candidates_are_given(
    con: Connection, fake: FakeProvider
) -> None:
    call = match("block").replace("strategy", "candidates := 1, strategy")
    rows = con.execute(INNER.format(match=call) + " WHERE a.k < 5 AND b.k < 5").fetchall()
    assert set(rows) <= {(k, k) for k in range(5)}
    assert len(asked(fake, Choice)) < 25


def test_candidates_mean_something_with_blocking_only(con: Connection) -> None:
    for strategy in ("candidates := 2", "candidates := 2, strategy := 'classify'"):
        with pytest.raises(BindError, match="strategy := 'block'"):
            con.execute(f"SELECT 1 FROM a JOIN b ON LLM_FILTER('same', a.x, b.y, {strategy})")


def test_a_word_that_embeddings_do_not_see_brings_texts_together(con: Connection) -> None:
    """The words are cut as search cuts them, from what stands in the JSON of a field."""
    con.execute(
        "UPDATE a SET x = 'Modèle' || chr(10) || 'dsc' || (k * 7919 % 60) || ' ' || k;"
        "UPDATE b SET y = 'DSC' || (k * 7919 % 60) || ' modele ' || k"
    )
    call = match("block").replace("strategy", "candidates := 1, strategy")
    entry = plan(con, INNER.format(match=call))
    assert entry["measured"]["matches"] == 50


def test_pairs_are_restricted_by_relational_conditions_first(con: Connection) -> None:
    con.execute("INSERT INTO a SELECT k, x || ' ' || k, g FROM a")
    sql = f"SELECT count(*) FROM a JOIN b ON a.g = b.g AND a.k > 10 AND {match('block')}"
    pairs = con.execute(
        "SELECT count(DISTINCT (x, y)) FROM a JOIN b ON a.g = b.g AND a.k > 10"
    ).fetchall()
    assert plan(con, sql)["measured"]["pairs"] == pairs[0][0]


def test_a_condition_that_is_asked_first_restricts_the_pairs(con: Connection) -> None:
    sql = (
        "SELECT count(*) FROM a JOIN b ON LLM_FILTER('one', a.x, 'same' || a.k) "
        f"AND {match('block')}"
    )
    row = con.execute("EXPLAIN (ANALYZE, FORMAT json) " + sql).fetchone()
    assert row is not None
    stages = json.loads(row[1])["stages"]
    assert [stage["measured"]["pairs"] for stage in stages if "measured" in stage] == [0]


def test_too_few_pairs_are_all_asked(con: Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_approximate = 'auto'")
    entry = plan(con, INNER.format(match=match()) + " WHERE a.k < 5")
    assert entry["strategy"]["name"] == "exact"
    assert entry["measured"]["asked"] == 250
    assert not asked(fake, Embedding)


@pytest.mark.parametrize("strategy", ["block", "classify"])
@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ("DELETE FROM a", 0),
        ("DELETE FROM b", 0),
        ("DELETE FROM a WHERE k <> 7", 1),
        ("DELETE FROM b WHERE k <> 7", 1),
        ("UPDATE a SET x = 'left 7'", 60),
        ("UPDATE b SET y = NULL", 0),
        ("UPDATE a SET x = NULL; UPDATE b SET y = NULL", 0),
        ("UPDATE a SET x = NULL WHERE k < 30", 20),
        ("INSERT INTO a FROM a; INSERT INTO b FROM b", 200),
    ],
)
def test_empty_single_equal_and_null_sides(
    strategy: str, change: str, rows: int, con: Connection
) -> None:
    con.execute(change)
    found = con.execute(INNER.format(match=match(strategy))).fetchall()
    assert len(found) == rows


@pytest.mark.parametrize("strategy", ["block", "classify"])
def test_a_limit_cuts_the_rows_that_were_found(strategy: str, con: Connection) -> None:
    rows = con.execute(INNER.format(match=match(strategy)) + " LIMIT 3").fetchall()
    assert len(rows) == 3
    assert all(left == right for left, right in rows)


def failing(kind: type[Any], containing: str) -> FakeProvider:
    def unless(request: Request) -> str:
        if isinstance(request.answer, kind) and containing in request.fields:
            raise ServerFailed("no")
        return answer(request)

    return FakeProvider(answer=unless, keep=100_000)


@pytest.mark.parametrize(
    ("kind", "strategy", "function"),
    [
        (Embedding, "block", "llm_embed"),
        (Choice, "block", "llm_filter"),
        (JsonAnswer, "classify", "llm_classify"),
    ],
)
def test_a_failure_is_recorded_and_makes_no_match(
    kind: type[Any], strategy: str, function: str
) -> None:
    fake = failing(kind, "left 7")
    with quackllm.connect(provider=fake, progress=False, cache=False) as con:
        con.execute(TABLES)
        rows = con.execute(INNER.format(match=match(strategy))).fetchall()
        failed = con.execute("SELECT DISTINCT function FROM llm_errors()").fetchall()
    assert failed == [(function,)]
    if kind is Embedding:  # such a text is compared with all others
        assert (7, 7) in rows
    else:
        assert (7, 7) not in rows
    assert len(rows) >= 48
    assert all(left == right for left, right in rows)


def test_without_embeddings_auto_asks_every_pair_and_block_is_an_error() -> None:
    can = Capabilities(constrained=frozenset({"choice"}))
    fake = FakeProvider(answer=answer, capabilities=can, keep=100_000)
    with quackllm.connect(provider=fake, progress=False, cache=False) as con:
        con.execute(TABLES)
        con.execute("SET llm_approximate = 'auto'")
        assert len(con.execute(INNER.format(match=match())).fetchall()) == 50
        assert len(fake.requests) == 3_000
        with pytest.raises(ModelNotFound, match="llm_embedding_model"):
            con.execute(INNER.format(match=match("block")))


def test_classification_asks_once_per_left_value_and_batch_of_labels(
    con: Connection, fake: FakeProvider
) -> None:
    con.execute("INSERT INTO b SELECT i, 'another ' || i, 0 FROM range(100, 170) r(i)")
    rows = con.execute(INNER.format(match=match("classify"))).fetchall()
    assert sorted(rows) == [(k, k) for k in range(50)]
    assert len(asked(fake, JsonAnswer)) == 60 * 3  # 120 labels, 50 in a prompt
    assert len(asked(fake, Choice)) <= 50  # the sample


def test_classification_says_how_right_it_was(con: Connection) -> None:
    measured = plan(con, INNER.format(match=match("classify")))["measured"]
    assert measured["precision"]["value"] == 1.0
    assert measured["precision"]["low"] > 0.8
    assert measured["recall"]["low"] < measured["recall"]["value"] == 1.0


@pytest.mark.parametrize("strategy", ["block", "classify"])
def test_what_is_redacted_leaves_by_no_strategy(strategy: str, fake: FakeProvider) -> None:
    def redact(text: str) -> str:
        return text.replace("the right one", "***")

    with quackllm.connect(provider=fake, progress=False, cache=False, redact=redact) as con:
        con.execute(TABLES)
        assert len(con.execute(INNER.format(match=match(strategy))).fetchall()) >= 45
    assert fake.requests
    assert not any("the right one" in each.fields + each.instruction for each in fake.requests)


def test_labels_that_differ_in_case_only_are_asked_apart(con: Connection) -> None:
    con.execute("INSERT INTO b SELECT k, upper(y), g FROM b")
    assert len(con.execute(INNER.format(match=match("classify"))).fetchall()) == 100


def test_long_values_are_no_labels(con: Connection, fake: FakeProvider) -> None:
    con.execute("UPDATE b SET y = repeat('a long text ', 30) || k")
    measured = plan(con, INNER.format(match=match("classify")))["measured"]
    assert measured["name"] == "exact"
    assert "labels" in measured["reason"]
    assert not asked(fake, JsonAnswer)


def test_several_columns_of_a_side_are_one_text(con: Connection, fake: FakeProvider) -> None:
    sql = (
        "SELECT a.k, b.k FROM a JOIN b "
        "ON LLM_FILTER('Same?', {'x': a.g, 'z': a.x, 'y': b.y}, strategy := 'block')"
    )
    con.execute(sql)
    texts = {json.loads(request.fields)["text"] for request in asked(fake, Embedding)}
    assert "0\nleft 3" in texts
    assert "the right one 3" in texts


def test_answers_of_the_exact_join_are_used_again(fake: FakeProvider) -> None:
    with quackllm.connect(provider=fake, progress=False) as con:
        con.execute(TABLES)
        con.execute(INNER.format(match=match()))
        before = len(asked(fake, Choice))
        con.execute(INNER.format(match=match("block")))
        assert len(asked(fake, Choice)) == before


def test_the_recall_wanted_and_the_sample_are_settings(con: Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_target_recall = 0.5; SET llm_recall_sample = 777")
    measured = plan(con, INNER.format(match=match("block")))["measured"]
    assert (measured["target"], measured["drawn"]) == (0.5, 777)


def test_a_strategy_that_does_not_exist_is_an_error(con: Connection) -> None:
    with pytest.raises(BindError, match="'exact' or 'block' or 'classify'"):
        con.execute(INNER.format(match=match("guess")))


def test_explain_mentions_a_way_that_asks_much_less(con: Connection) -> None:
    def advice(sql: str) -> str:
        told = str(con.execute("EXPLAIN " + sql).fetchall()[0][1])
        return " ".join(told.replace("│", "").split())  # lines are wrapped

    assert "strategy := 'classify'" in advice(INNER.format(match=match()))
    con.execute("UPDATE b SET y = y || repeat(' and so on', 9)")
    con.execute("INSERT INTO a SELECT k + 1000, 'more ' || k, 0 FROM range(400) r(k)")
    con.execute("INSERT INTO b SELECT k + 1000, 'more ' || k, 0 FROM range(400) r(k)")
    assert "strategy := 'block'" in advice(INNER.format(match=match()))
    assert "advice" not in advice(INNER.format(match=match()) + " WHERE a.k = 1")


def test_a_budget_stops_an_approximate_join(con: Connection) -> None:
    con.execute("SET llm_max_calls = 50")
    with pytest.raises(BudgetExceeded):
        con.execute(INNER.format(match=match("block")))
