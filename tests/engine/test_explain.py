"""Promise: every call is accounted for, before it is made and after.

EXPLAIN says what a statement will cost without asking a model; EXPLAIN ANALYZE puts what
happened beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Reply, Request, Usage
from quackllm.errors import BindError, QuackLLMError, SettingError
from quackllm.testing import FakeProvider, FakeServer, HttpFault
from tests.engine.conftest import TABLES

FILTER = "SELECT title FROM movies WHERE LLM_FILTER('Sad?', synopsis)"
JOINED = (
    "SELECT m.title, LLM('Why?', r.body) AS why FROM movies m JOIN reviews r ON r.movie_id = m.id "
    "WHERE r.stars = 5 AND LLM_FILTER('Sad?', m.synopsis)"
)
KEYS = {"calls", "tokens_in", "tokens_cached", "tokens_out", "dollars", "seconds"}
PRICES = {"input_price": 0.15, "cached_input_price": 0.075, "output_price": 0.60}


def open_priced(fake: FakeProvider, **settings: Any) -> Connection:
    connection = quackllm.connect(provider=fake, progress=False, **{**PRICES, **settings})
    connection.execute(TABLES)
    return connection


@pytest.fixture
def priced(fake: FakeProvider) -> Iterator[Connection]:
    with open_priced(fake) as connection:
        yield connection


def explain(connection: Connection, sql: str, options: str = "") -> dict[str, Any]:
    row = connection.execute(f"EXPLAIN (FORMAT JSON{options}) {sql}").fetchone()
    assert row is not None
    described: dict[str, Any] = json.loads(row[1])
    return described


def analyze(connection: Connection, sql: str) -> dict[str, Any]:
    return explain(connection, sql, ", ANALYZE")


def text_of(connection: Connection, sql: str) -> str:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return str(row[1])


def models(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [stage for stage in described["stages"] if stage["stage"] == "model"]


# Nothing is asked


@pytest.mark.parametrize("options", ["", ", VERBOSE"])
def test_explain_calls_no_model(con: Connection, fake: FakeProvider, options: str) -> None:
    explain(con, JOINED, options)
    assert fake.calls == 0
    assert con.execute("SELECT count(*) FROM llm_queries()").fetchone() == (0,)


def test_explain_opens_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("EXPLAIN opened a provider")

    monkeypatch.setattr(Engine, "provider", refuse)
    with quackllm.connect(base_url="http://127.0.0.1:9/v1", model="m", progress=False) as opened:
        opened.execute(TABLES)
        [stage] = models(explain(opened, FILTER, ", VERBOSE"))
    assert stage["at_most"]["calls"] == 5


# Estimate against actual


@pytest.mark.parametrize(
    "sql",
    [
        FILTER,
        "SELECT id, LLM_SCORE('How good?', body) AS s FROM reviews WHERE stars > 2",
        "SELECT LLM('x', title, synopsis, year, genre) FROM movies",
        "SELECT LLM_CLASSIFY(body, ['a', 'b']) AS k, count(*) FROM reviews GROUP BY k",
        "SELECT LLM('x', title) FROM movies UNION ALL SELECT LLM('x', title) FROM movies",
        "SELECT LLM('only once') FROM movies",
        "SELECT LLM('x', title) FROM movies WHERE id = 3",
    ],
)
def test_calls_are_exact_when_no_answer_decides_them(con: Connection, sql: str) -> None:
    described = analyze(con, sql)
    totals = described["total"]
    assert totals["not_told"] == []
    assert totals["at_most"]["calls"] == totals["expected"]["calls"] == totals["actual"]["calls"]
    # The estimator cuts the instruction's and a row's tokens to whole ones: 2 per call.
    assert totals["expected"]["tokens_in"] == pytest.approx(
        totals["actual"]["tokens_in"], abs=2 * totals["actual"]["calls"]
    )
    assert totals["actual"]["tokens_out"] <= totals["at_most"]["tokens_out"]


def test_remembered_answers_are_not_counted(con: Connection) -> None:
    con.execute("SELECT LLM_FILTER('Sad?', synopsis) FROM movies WHERE id < 3")
    con.fetchall()
    [stage] = models(explain(con, FILTER))
    asked = con.execute("SELECT calls FROM llm_queries()").fetchone()
    assert asked is not None and stage["remembered"] == asked[0] > 0
    assert stage["at_most"]["calls"] == stage["tuples"] - asked[0]
    assert analyze(con, FILTER)["total"]["actual"]["calls"] == stage["at_most"]["calls"]
    con.execute("SET llm_cache = false")
    assert models(explain(con, FILTER))[0]["at_most"]["calls"] == stage["tuples"]


def test_what_stands_on_answers_is_bounded_and_expected_by_an_assumption(con: Connection) -> None:
    _, after = models(analyze(con, JOINED))
    assert after["at_most"]["calls"] >= after["actual"]["calls"]
    assert after["expected"]["calls"] == round(after["at_most"]["calls"] * 0.5)
    assert after["basis"]["share"] == 0.5
    assert after["basis"]["share_from_answers"] == 0


def test_the_share_is_learned_from_the_answers_seen() -> None:
    def answer(request: Request) -> str:
        return "true" if "about rain" in request.fields else "false"

    with quackllm.connect(provider=FakeProvider(answer=answer), progress=False) as connection:
        connection.execute(TABLES)
        connection.execute(FILTER).fetchall()
        _, after = models(explain(connection, JOINED.replace("'Why?'", "'Why so?'")))
    assert after["basis"]["share_from_answers"] == 5
    assert after["basis"]["share"] == pytest.approx(2 / 7)  # one of five, by Laplace's rule


def test_early_stop_expects_what_the_wanted_rows_need() -> None:
    def answer(request: Request) -> str:
        return "true" if request.fields.endswith('7"}') else "false"

    fake = FakeProvider(answer=answer)
    with quackllm.connect(provider=fake, progress=False, cache=False) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'text ' || i AS x FROM range(1000) r(i)")
        connection.execute("SELECT LLM_FILTER('p', x) FROM t").fetchall()
        [stage] = models(analyze(connection, "SELECT x FROM t WHERE LLM_FILTER('p', x) LIMIT 30"))
    assert stage["at_most"]["calls"] == 1000
    assert stage["expected"]["calls"] == pytest.approx(300, rel=0.02)  # a tenth passes
    # DuckDB decides in which order tuples are asked: three standard deviations are 156 calls.
    assert stage["actual"]["calls"] == pytest.approx(300, abs=200)


def test_an_argument_that_is_an_answer_is_bounded_by_the_calls_before(con: Connection) -> None:
    inner, outer = models(
        analyze(con, "SELECT LLM_FILTER('Sad?', LLM_SUMMARIZE(synopsis)) AS sad FROM movies")
    )
    assert outer["at_most"]["calls"] == inner["at_most"]["calls"] == 5
    assert outer["actual"]["calls"] <= 5
    assert outer["actual"]["tokens_in"] <= outer["at_most"]["tokens_in"]


def test_rows_that_a_limit_leaves_bound_the_calls(con: Connection) -> None:
    sql = FILTER.replace("title FROM", "title, LLM('Why?', synopsis) FROM") + " LIMIT 2"
    _, after = models(analyze(con, sql))
    assert after["at_most"]["calls"] == 2
    assert after["at_most"]["tokens_in"] is None, "which rows they are is not known"
    assert after["actual"]["calls"] <= 2


def test_what_cannot_be_told_is_named_and_not_guessed(con: Connection) -> None:
    sql = f"WITH sad AS ({FILTER}) SELECT LLM('Name it', count(*)) AS n FROM sad"
    described = explain(con, sql)
    assert described["total"]["not_told"] == [2]
    assert models(described)[1]["at_most"] is None
    assert "estimates without model 2" in text_of(con, "EXPLAIN " + sql)


def test_counting_may_fail_where_the_statement_does_not(con: Connection) -> None:
    sql = "SELECT LLM('x', CAST(title AS INTEGER)) AS n FROM movies WHERE LLM_FILTER('p', synopsis)"
    assert explain(con, sql)["total"]["not_told"] == [2]


def test_the_same_question_in_two_blocks_is_counted_once_per_model(con: Connection) -> None:
    both = "SELECT LLM('x', title) FROM movies UNION ALL SELECT LLM('x', title{}) FROM movies"
    assert explain(con, both.format(""))["total"]["at_most"]["calls"] == 30
    other = explain(con, both.format(", model := 'other'"))
    assert other["total"]["at_most"]["calls"] == 60


# Measured tokens and time


def test_answers_are_as_long_as_those_measured() -> None:
    def answer(request: Request) -> Reply:
        return Reply("words", Usage(prompt_tokens=300, completion_tokens=7, cached_tokens=100))

    with open_priced(FakeProvider(answer=answer)) as connection:
        sql = "SELECT LLM('x', title) FROM movies WHERE id < {}"
        [first] = models(explain(connection, sql.format(10)))
        connection.execute(sql.format(10)).fetchall()
        [second] = models(explain(connection, sql.format(30)))
    assert first["basis"]["measured_calls"] == 0
    assert first["expected"]["tokens_out"] == first["at_most"]["tokens_out"] == 10 * 1024
    assert first["expected"]["seconds"] is None
    assert second["expected"]["calls"] == 20
    assert second["expected"]["tokens_out"] == 20 * 7
    assert second["at_most"]["tokens_out"] == 20 * 1024, "a mean is no bound"
    assert second["expected"]["tokens_in"] == pytest.approx(20 * 300, rel=0.05)
    assert second["expected"]["tokens_cached"] == pytest.approx(20 * 100, rel=0.3)
    assert second["expected"]["seconds"] > 0


def test_seconds_follow_what_was_measured() -> None:
    fake = FakeProvider(latency=0.01)
    with quackllm.connect(provider=fake, progress=False, cache=False, concurrency=4) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'text ' || i AS x FROM range(200) r(i)")
        connection.execute("SELECT LLM_FILTER('p', x) FROM t").fetchall()
        [stage] = models(analyze(connection, "SELECT LLM_FILTER('p', x) FROM t"))
    assert stage["actual"]["seconds"] >= 0.01 * 200 / 4
    assert stage["expected"]["seconds"] == pytest.approx(stage["actual"]["seconds"], rel=0.8)


# Dollars


def test_dollars_are_the_tokens_at_the_price(priced: Connection) -> None:
    described = analyze(priced, FILTER)
    [stage] = models(described)
    actual, expected = stage["actual"], stage["expected"]
    assert actual["dollars"] == pytest.approx(
        (actual["tokens_in"] * 0.15 + actual["tokens_out"] * 0.60) / 1e6
    )
    assert expected["dollars"] == pytest.approx(
        (
            (expected["tokens_in"] - expected["tokens_cached"]) * 0.15
            + expected["tokens_cached"] * 0.075
            + expected["tokens_out"] * 0.60
        )
        / 1e6
    )
    [(cost,)] = priced.execute("SELECT cost FROM llm_queries()").fetchall()
    assert cost == pytest.approx(actual["dollars"])
    assert "$0.0000" in priced.llm_engine.history[-1].summary()


def test_without_a_price_no_dollars_are_shown(con: Connection) -> None:
    described = analyze(con, FILTER)
    costs = [described["total"][name] for name in ("at_most", "expected", "actual")]
    assert [cost["dollars"] for cost in costs] == [None] * 3
    assert "dollars" not in text_of(con, "EXPLAIN ANALYZE " + FILTER)
    assert con.execute("SELECT DISTINCT cost FROM llm_queries()").fetchall() == [(None,)]
    assert "$" not in con.llm_engine.history[-1].summary()


def test_half_a_price_is_none(fake: FakeProvider) -> None:
    with open_priced(fake, output_price=None) as connection:
        assert explain(connection, FILTER)["total"]["at_most"]["dollars"] is None


def test_a_named_model_has_its_own_price_and_no_other(priced: Connection) -> None:
    priced.execute("CREATE MODEL fast (model 'x', input_price '1', output_price '2')")
    priced.execute("CREATE MODEL local (model 'y', input_price '0', output_price '0')")
    priced.execute("CREATE MODEL bare (model 'z')")
    dollars = {}
    for model in ("fast", "local", "bare", "unheard"):
        sql = FILTER.replace("synopsis)", f"synopsis, model := '{model}')")
        dollars[model] = explain(priced, sql)["total"]["at_most"]
    fast = dollars["fast"]
    assert fast["dollars"] == pytest.approx((fast["tokens_in"] + 2 * fast["tokens_out"]) / 1e6)
    assert dollars["local"]["dollars"] == 0
    assert dollars["bare"]["dollars"] is None
    assert dollars["unheard"]["dollars"] is None
    priced.execute("SET llm_model = 'local'")
    assert explain(priced, FILTER)["total"]["at_most"]["dollars"] == 0


def test_a_sum_with_an_unknown_part_is_unknown(priced: Connection) -> None:
    sql = JOINED.replace("m.synopsis)", "m.synopsis, model := 'unheard')")
    described = analyze(priced, sql)
    assert models(described)[1]["actual"]["dollars"] is not None
    assert described["total"]["actual"]["dollars"] is None
    assert described["total"]["at_most"]["dollars"] is None


@pytest.mark.parametrize("value", ["'cheap'", "-1", "true", "'nan'"])
def test_a_price_is_a_number(con: Connection, value: str) -> None:
    with pytest.raises(SettingError, match="dollars per million tokens"):
        con.execute(f"SET llm_input_price = {value}")


def test_a_price_of_a_named_model_is_a_number(con: Connection) -> None:
    with pytest.raises(BindError, match="CREATE MODEL m: input_price must be a number of dollars"):
        con.execute("CREATE MODEL m (model 'x', input_price 'cheap')")


# The data


def test_keys_of_the_data_are_those_documented(priced: Connection) -> None:
    described = explain(priced, JOINED, ", ANALYZE, VERBOSE")
    keys = {"stages", "total", "alternatives", "order_from_sample", "refused", "rules"}
    assert set(described) == keys
    assert set(described["total"]) == {"not_told", "at_most", "expected", "actual"}
    stage = models(described)[1]
    assert set(stage) == {
        *("stage", "number", "function", "clause", "constants", "fields", "rows_where"),
        *("tuples", "remembered", "at_most", "expected", "basis"),
        *("actual", "answered_by", "answered_from_cache", "retries", "failures", "undecided"),
    }
    for cost in ("at_most", "expected", "actual"):
        assert set(stage[cost]) == set(described["total"][cost]) == KEYS
    assert stage["number"] == 2
    assert stage["clause"] == "SELECT"
    assert stage["constants"] == {"prompt": "Why?"}
    assert all(set(other) == {"name", "expected"} for other in described["alternatives"])
    assert [s["stage"] for s in described["stages"]] == ["model", "model", "result"]
    assert "reaching_rows" in described["rules"]


def test_analyze_counts_failures_and_calls_of_the_scalar_function(con: Connection) -> None:
    sql = "SELECT list_transform([title], lambda x: LLM('Why?', x)) AS l FROM movies"
    described = analyze(con, sql)
    assert described["stages"][1]["stage"] == "scalar function"
    assert "lambda" in described["stages"][1]["reason"]
    assert described["stages"][2]["actual"]["calls"] == 30
    assert described["total"]["at_most"] is None, "it is not estimated"


# Alternatives


def alternatives(connection: Connection, sql: str) -> dict[str, dict[str, Any]]:
    described = explain(connection, sql, ", VERBOSE")
    return {other["name"]: other["expected"] for other in described["alternatives"]}


def test_alternatives_are_what_the_statement_costs_that_way(con: Connection) -> None:
    sql = "SELECT id FROM reviews WHERE stars > 3 AND LLM_FILTER('Angry?', body)"
    found = alternatives(con, sql)
    without = found["without the rule reaching_rows"]
    con.execute("SET llm_disabled_rules = 'reaching_rows'")
    con.execute("SET llm_cache = false")
    assert analyze(con, sql)["total"]["actual"]["calls"] == without["calls"]
    rows = con.execute(
        "SELECT count(*) FROM reviews WHERE stars > 3 AND body IS NOT NULL"
    ).fetchone()
    assert (found["one call per row that reaches the call"]["calls"],) == rows


def test_an_alternative_that_costs_the_same_is_not_one(con: Connection) -> None:
    con.execute("CREATE TABLE u AS SELECT 'text ' || i AS x FROM range(5) r(i)")
    assert alternatives(con, "SELECT LLM('x', x) FROM u") == {}
    assert "none that costs something else" in text_of(
        con, "EXPLAIN VERBOSE SELECT LLM('x', x) FROM u"
    )


def test_the_order_of_rows_and_fields_is_an_alternative(con: Connection) -> None:
    sql = "SELECT LLM('x', m.title, r.body, m.synopsis) FROM movies m, reviews r WHERE r.id < 20"
    found = alternatives(con, sql)
    chosen = explain(con, sql)["total"]["expected"]
    unordered = found["rows and fields as they come"]
    assert unordered["calls"] == chosen["calls"]
    assert unordered["tokens_cached"] < chosen["tokens_cached"]
    con.execute("SET llm_reorder = false")
    as_they_come = explain(con, sql)["total"]["expected"]["tokens_cached"]
    assert as_they_come == unordered["tokens_cached"]


def test_nothing_is_said_of_alternatives_unless_asked(con: Connection) -> None:
    assert "alternatives" not in explain(con, FILTER)
    assert "alternatives" not in text_of(con, "EXPLAIN " + FILTER)
    for written in ("EXPLAIN VERBOSE ", "EXPLAIN (VERBOSE) ", "EXPLAIN ANALYZE VERBOSE "):
        assert "alternatives rejected" in text_of(con, written + FILTER)


# The text


def test_estimate_and_actual_stand_side_by_side(priced: Connection) -> None:
    lines = text_of(priced, "EXPLAIN ANALYZE " + FILTER).split("\n")
    start = lines.index("● total")
    head, most, expected, actual = lines[start + 1 : start + 5]
    assert head.split()[1:] == ["calls", "tokens", "in", "cached", *head.split()[5:]]
    assert (most[4:].split()[:2], expected.split()[1], actual.split()[1]) == (
        ["at", "most"],
        "expected",
        "actual",
    )
    assert len({len(line) for line in (head, most, expected, actual)}) == 1, "columns are aligned"


def test_long_sql_breaks_between_words(con: Connection) -> None:
    items = ", ".join(f"LLM_SCORE('How good?', body, max := {n}) AS score_{n}" for n in range(2, 9))
    lines = text_of(con, f"EXPLAIN SELECT {items} FROM reviews").split("\n")
    assert max(map(len, lines)) <= 100
    joined = " ".join(line.removeprefix("│").strip() for line in lines)
    for n in range(2, 9):
        assert f"LLM_SCORE#{n - 1} AS score_{n}" in joined


def test_thousands_are_separated(con: Connection) -> None:
    con.execute("CREATE TABLE big AS SELECT 'text ' || i AS x FROM range(1234) r(i)")
    assert " 1,234 " in text_of(con, "EXPLAIN SELECT LLM('x', x) FROM big")


def test_planner_names_are_not_shown(con: Connection) -> None:
    sql = (
        "SELECT genre, count(*) AS n, LLM('Name it', genre) AS name FROM movies "
        "GROUP BY genre ORDER BY n"
    )
    shown = text_of(con, "EXPLAIN " + sql)
    assert "__llm" not in shown
    assert '"c0"' not in shown
    assert "count(*) AS n" in shown


def test_an_order_that_a_sample_decides_is_announced(con: Connection) -> None:
    con.execute("CREATE TABLE big AS SELECT 'a' || i AS x, 'b' || i AS y FROM range(1000) r(i)")
    both = "SELECT * FROM big WHERE LLM_FILTER('p', x) AND LLM_FILTER('q', y)"
    assert explain(con, both)["order_from_sample"] is True
    assert "a sample of 16 rows may change it" in text_of(con, "EXPLAIN " + both)
    con.execute("SET llm_disabled_rules = 'order_predicates'")
    assert explain(con, both)["order_from_sample"] is False


def test_a_call_of_a_call_without_fields_is_estimated(con: Connection) -> None:
    """Its answer is a field of the outer call, and no column stands for it."""
    sql = "SELECT LLM('Compare', title, LLM('Name a film')) FROM movies"
    [plan] = [row[-1] for row in con.execute(f"EXPLAIN {sql}").fetchall()]
    assert "at most               31" in plan
    rows = con.execute(f"EXPLAIN ANALYZE {sql}").fetchall()
    assert "actual                31" in rows[0][-1]


# What a budget would say


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("llm_max_calls = 4", "takes at least 23 calls, and llm_max_calls = 4"),
        ("llm_connection_max_calls = 4", "llm_connection_max_calls = 4, of which 4 are left"),
        ("llm_max_tokens = 10", "tokens, and llm_max_tokens = 10"),
        ("llm_max_cost = 1", "llm_max_cost = 1 cannot be kept: nobody has said what"),
    ],
)
def test_a_budget_that_would_refuse_is_told_without_a_call(
    con: Connection, fake: FakeProvider, setting: str, words: str
) -> None:
    sql = "SELECT LLM('x', body) FROM reviews"
    assert explain(con, sql)["refused"] is None
    assert "refused" not in text_of(con, f"EXPLAIN {sql}")
    con.execute(f"SET {setting}")
    assert words in explain(con, sql)["refused"]
    assert words in " ".join(text_of(con, f"EXPLAIN {sql}").split())
    assert fake.calls == 0
    with pytest.raises(QuackLLMError) as refused:
        con.execute(sql)
    assert words in str(refused.value), "and so it is"
    con.execute("SET llm_on_budget = 'partial'")
    told = explain(con, sql)["refused"]
    assert told is None or "nobody has said" in told


def test_what_an_answer_may_spare_is_not_refused(con: Connection) -> None:
    con.execute("SET llm_max_calls = 23")
    sql = "SELECT LLM('x', body) FROM reviews WHERE LLM_FILTER('y', body)"
    assert explain(con, sql)["total"]["at_most"]["calls"] == 46
    assert explain(con, sql)["refused"] is None


def test_tries_because_the_server_failed_are_shown_per_stage() -> None:
    flaky = HttpFault.failing(503, times=2)
    with (
        FakeServer(faults=[flaky]) as server,
        quackllm.connect(
            base_url=server.base_url, model="fake-model", progress=False, cache_path=":memory:"
        ) as con,
    ):
        con.execute(TABLES)
        sql = "SELECT LLM('x', body) FROM reviews"
        stage, *_ = models(analyze(con, sql))
        assert stage["retries"] == 2
        assert con.execute("SELECT retries, calls FROM llm_queries()").fetchall() == [(2, 23)]
        con.execute("SET llm_cache = false")
        again = text_of(con, f"EXPLAIN ANALYZE {sql}")
        assert "tried again" not in again, "nothing of an earlier statement"
