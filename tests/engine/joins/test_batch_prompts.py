"""Several pairs in a prompt: rows of the exact join for a model that minds no order, else told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.joins.batch_prompts import Composer, Layout, Values
from quackllm.engine.joins.position_bias import position_bias
from quackllm.engine.joins.sides import JoinPairs, Side
from quackllm.engine.providers.base import Capabilities, Request
from quackllm.engine.reduction import tokens_of
from quackllm.errors import BudgetExceeded, CallError, ContextWindowExceeded, ServerFailed
from quackllm.testing import FakeProvider
from quackllm.udfs.base import Choice, JsonAnswer
from tests.engine.joins.test_strategies import (
    FORMS,
    INNER,
    ON_DUCKDB_2,
    asked,
    number,
    plan,
)

LEFT, RIGHT = 30, 20
TABLES = f"""
CREATE TABLE a AS SELECT i AS k, 'left ' || i AS x, i % 3 AS g FROM range({LEFT}) r(i);
CREATE TABLE b AS SELECT i AS k, 'the right one ' || i AS y, i % 3 AS g FROM range({RIGHT}) r(i);
"""

Pair = dict[str, Any]


def same(pair: Pair) -> bool:
    """Texts with the same number match."""
    shown = [number(str(value)) for value in pair.values()]
    return len(shown) == 2 and shown[0] == shown[1]


def entries(request: Request) -> list[Pair]:
    """The pairs that a prompt for several shows, in order."""
    fields = json.loads(request.fields)
    return [{**fields.get("shared", {}), **entry} for entry in fields["entries"].values()]


def written(flags: list[bool]) -> str:
    return json.dumps({"answer": flags})


def answer(request: Request) -> str:
    """What a model answers that looks at each pair by itself, wherever it stands."""
    if isinstance(request.answer, Choice):
        return "true" if same(json.loads(request.fields)) else "false"
    return written([same(pair) for pair in entries(request)])


def of_several(several: Callable[[Request], str]) -> FakeProvider:
    """A model that answers prompts for several pairs in its own way."""

    def answered(request: Request) -> str:
        return answer(request) if isinstance(request.answer, Choice) else several(request)

    return FakeProvider(answer=answered, keep=100_000)


def match(option: str = ", strategy := 'batch_prompt'") -> str:
    return f"LLM_FILTER('Is {{x}} the same as {{y}}?', a.x, b.y{option})"


BATCHED = INNER.format(match=match())


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider(answer=answer, keep=100_000)


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with connected(fake) as connection:
        yield connection


def connected(fake: FakeProvider, **settings: Any) -> Connection:
    connection = quackllm.connect(provider=fake, progress=False, **{"cache": False, **settings})
    connection.execute(TABLES)
    return connection


def rows(con: Connection, sql: str) -> list[str]:
    return sorted(map(repr, con.execute(sql).fetchall()))


OUTER = [
    "SELECT a.k, b.k FROM a LEFT JOIN b ON {match}",
    "SELECT a.k, b.k FROM a FULL JOIN b ON a.g = b.g AND {match}",
    "SELECT a.k FROM a ANTI JOIN b ON {match}",
    "SELECT a.k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE {match})",
    "SELECT s.k, a.k FROM a AS s JOIN a ON s.k < a.k AND {match}",
]


@pytest.mark.parametrize("form", FORMS + OUTER)
def test_rows_are_those_of_the_exact_join_for_a_model_that_minds_no_order(
    form: str, con: Connection, fake: FakeProvider
) -> None:
    sql = form.replace("a AS s", "(SELECT k, x AS y FROM a) AS b").replace("s.", "b.")
    exact = rows(con, sql.format(match=match("")))
    before = len(fake.requests)
    assert rows(con, sql.format(match=match())) == exact
    staged = int(con.execute("SELECT version()").fetchall()[0][0][1]) > 1
    if staged or not any(word in form for word in (*ON_DUCKDB_2, "ANTI", "LEFT", "FULL")):
        assert len(fake.requests) - before <= max(before, 60 + 50)
        assert asked(fake, JsonAnswer)


def test_a_call_is_made_for_each_prompt_and_counted(con: Connection, fake: FakeProvider) -> None:
    entry = plan(con, BATCHED)
    prompts = asked(fake, JsonAnswer)
    assert len(prompts) == 60 == entry["measured"]["prompts"]["asked"]
    assert {len(entries(request)) for request in prompts} == {10}
    assert entry["actual"]["calls"] == len(fake.requests) == 110
    assert entry["expected"]["calls"] == 110
    for figure in ("calls", "tokens_in", "tokens_out"):
        assert entry["actual"][figure] <= entry["at_most"][figure]
        assert entry["expected"][figure] <= entry["at_most"][figure]
    measured = entry["measured"]
    assert (measured["asked"], measured["drawn"], measured["matches"]) == (50, 50, 20)
    assert measured["agreement"]["value"] == measured["precision"]["value"] == 1.0
    assert not measured["prompts"]["bias"]["found"]


def test_explain_tells_what_every_strategy_asks(con: Connection, fake: FakeProvider) -> None:
    row = con.execute("EXPLAIN (FORMAT json) " + BATCHED).fetchone()
    assert row is not None
    strategy = json.loads(row[1])["stages"][0]["strategy"]
    assert strategy["name"] == "batch_prompt"
    assert strategy["rejected"].keys() == {"exact", "block", "classify"}
    assert strategy["tokens_in"]["batch_prompt"] < strategy["tokens_in"]["exact"] / 2
    assert not fake.requests


def test_the_setting_bounds_the_pairs_of_a_prompt(con: Connection, fake: FakeProvider) -> None:
    con.execute("SET llm_pairs_per_prompt = 7")
    con.execute(BATCHED)
    sizes = [len(entries(request)) for request in asked(fake, JsonAnswer)]
    assert max(sizes) <= 7
    assert max(sizes) - min(sizes) <= 1  # shares of about equal size


def test_a_bias_of_position_is_found_and_said() -> None:
    def first_is_true(request: Request) -> str:
        flags = [same(pair) for pair in entries(request)]
        return written([True, *flags[1:]])

    with connected(of_several(first_is_true)) as con:
        measured = plan(con, BATCHED)["measured"]
        told = str(con.execute("EXPLAIN ANALYZE " + BATCHED).fetchall()[0][1])
    bias = measured["prompts"]["bias"]
    assert (bias["position"], bias["found"], bias["rates"][0]) == (1, True, 1.0)
    assert bias["p_value"] < 0.01
    assert bias["usual"] < 0.2 < bias["rate"]["low"]
    assert "BIAS" in told
    assert "position 1:" in told
    assert measured["precision"]["high"] < 1.0  # the sample shows what it does to the rows
    assert measured["agreement"]["value"] < 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda flags: written(flags[:-1]),
        lambda flags: written([*flags, True]),
        lambda flags: json.dumps({"answers": flags}),
        lambda flags: json.dumps({"answer": [at for at, flag in enumerate(flags, 1) if flag]}),
        lambda flags: json.dumps({"answer": [str(flag) for flag in flags]}),
        lambda flags: json.dumps({"answer": [None, *flags[1:]]}),
        lambda flags: "I am sorry, I cannot help with that.",
        lambda flags: "",
    ],
)
@pytest.mark.parametrize("largest", [1, 3])
def test_an_answer_that_does_not_fit_is_asked_for_in_halves(
    wrong: Callable[[list[bool]], str], largest: int
) -> None:
    def several(request: Request) -> str:
        flags = [same(pair) for pair in entries(request)]
        return written(flags) if len(flags) <= largest else wrong(flags)

    fake = of_several(several)
    with connected(fake) as con:
        con.execute("DELETE FROM a WHERE k > 9; DELETE FROM b WHERE k > 19")
        con.execute("SET llm_recall_sample = 0; SET llm_on_error = 'error'")
        entry = plan(con, BATCHED)
        assert rows(con, BATCHED) == sorted(repr((k, k)) for k in range(10))
        assert not con.execute("SELECT * FROM llm_errors()").fetchall()
    assert entry["failures"] == {}
    assert entry["measured"]["prompts"]["again"] > 0
    assert entry["actual"]["calls"] <= 2 * 200 == entry["at_most"]["calls"]
    sizes = [len(entries(request)) for request in asked(fake, JsonAnswer)]
    assert sorted(set(sizes), reverse=True) == [10, 5, 3, 2]
    assert bool(asked(fake, Choice)) is (largest == 1)


@pytest.mark.parametrize("error", [ServerFailed("no"), ContextWindowExceeded("too long")])
def test_a_failure_is_that_of_the_pair_that_makes_it(error: CallError) -> None:
    def unless(request: Request) -> str:
        if '"left 7"' in request.fields:
            raise error
        return answer(request)

    fake = FakeProvider(answer=unless, keep=100_000)
    with connected(fake, max_retries=0) as con:
        con.execute("SET llm_recall_sample = 0")
        found = rows(con, BATCHED)
        failed = con.execute("SELECT function, preview FROM llm_errors()").fetchall()
    assert found == sorted(repr((k, k)) for k in range(20) if k != 7)
    assert len(failed) == RIGHT  # the pairs of one left value, and no prompt that held them
    assert {function for function, _ in failed} == {"llm_filter"}
    assert all('"left 7"' in preview for _, preview in failed)


def test_with_errors_that_stop_only_a_pair_alone_stops() -> None:
    def unless(request: Request) -> str:
        if isinstance(request.answer, Choice) and '"left 7"' in request.fields:
            raise ServerFailed("no")
        return answer(request)

    fake = FakeProvider(answer=unless, keep=100_000)
    with connected(fake, max_retries=0, on_error="error") as con:
        con.execute("SET llm_recall_sample = 0")
        assert len(con.execute(BATCHED).fetchall()) == 20  # no pair was asked alone
        with pytest.raises(ServerFailed):
            con.execute(BATCHED.replace("ON ", "ON a.k = 7 AND b.k = 7 AND "))


@pytest.mark.parametrize("sample", [0, 50])
@pytest.mark.parametrize(
    ("change", "count"),
    [
        ("DELETE FROM a", 0),
        ("DELETE FROM b", 0),
        ("DELETE FROM a WHERE k <> 7", 1),
        ("DELETE FROM b WHERE k <> 7", 1),
        ("DELETE FROM a WHERE k <> 7; DELETE FROM b WHERE k <> 7", 1),
        ("UPDATE a SET x = 'left 7'", 30),
        ("UPDATE b SET y = NULL", 0),
        ("UPDATE a SET x = NULL; UPDATE b SET y = NULL", 0),
        ("UPDATE a SET x = NULL WHERE k < 8; UPDATE b SET y = NULL WHERE k < 5", 12),
        ("INSERT INTO a FROM a; INSERT INTO b FROM b", 80),
    ],
)
def test_empty_single_equal_and_null_sides(
    change: str, count: int, sample: int, con: Connection, fake: FakeProvider
) -> None:
    con.execute(change)
    con.execute(f"SET llm_recall_sample = {sample}")
    assert len(con.execute(BATCHED).fetchall()) == count
    batched = list(fake.requests)
    pairs = [
        repr(pair) for request in batched if asked_several(request) for pair in entries(request)
    ]
    assert len(pairs) == len(set(pairs))
    assert not any(pair.count("None") == 2 for pair in pairs)
    fake.requests.clear()
    con.execute(INNER.format(match=match("")))
    assert len(batched) <= len(fake.requests)  # never more calls than one for each pair


def asked_several(request: Request) -> bool:
    return isinstance(request.answer, JsonAnswer)


def test_a_limit_cuts_the_rows_that_were_found(con: Connection) -> None:
    found = con.execute(BATCHED + " LIMIT 3").fetchall()
    assert len(found) == 3
    assert all(left == right for left, right in found)


def test_a_prompt_stays_within_the_window() -> None:
    can = Capabilities(constrained=frozenset({"choice", "json"}), context_window=600)
    fake = FakeProvider(answer=answer, capabilities=can, keep=100_000)
    with connected(fake) as con:
        con.execute("UPDATE b SET y = repeat('long ', 10 * k) || k")
        con.execute(BATCHED)
    prompts = asked(fake, JsonAnswer)
    assert prompts
    for request in prompts:
        tokens = tokens_of(request.instruction) + tokens_of(request.fields)
        assert tokens + request.max_tokens <= 600
    assert any("long" in request.fields for request in asked(fake, Choice))  # too long for two


def test_the_same_rows_make_the_same_calls_in_any_order(
    con: Connection, fake: FakeProvider
) -> None:
    def prompts() -> set[str]:
        con.execute(BATCHED)
        found = {request.fields for request in fake.requests}
        fake.requests.clear()
        return found

    first = prompts()
    con.execute("CREATE TABLE c AS FROM a ORDER BY hash(k); DELETE FROM a; INSERT INTO a FROM c")
    con.execute("CREATE TABLE d AS FROM b ORDER BY hash(k); DELETE FROM b; INSERT INTO b FROM d")
    assert prompts() == first


def test_the_order_of_pairs_is_shuffled(con: Connection, fake: FakeProvider) -> None:
    con.execute(BATCHED)
    ascending, steps = 0, 0
    for request in asked(fake, JsonAnswer):
        shown = [int(number(pair["x"])) for pair in entries(request)]
        ascending += sum(first < second for first, second in pairwise(shown))
        steps += len(shown) - 1
    assert 0.45 < ascending / steps < 0.55


def test_answers_are_kept_by_prompt_and_never_served_to_a_pair_alone(fake: FakeProvider) -> None:
    with connected(fake, cache=True) as con:
        con.execute("UPDATE a SET x = NULL WHERE k = 29; UPDATE b SET y = NULL WHERE k = 19")
        con.execute(BATCHED)
        first = len(fake.requests)
        assert len(con.execute(BATCHED).fetchall()) == 19
        assert len(fake.requests) == first
        con.execute(INNER.format(match=match("")))
        assert len(fake.requests) - first == LEFT * RIGHT - 1 - 50  # but for the sample and NULL
        before = len(fake.requests)
        measured = plan(con, BATCHED)["measured"]
        assert (measured["name"], measured["reason"]) == ("exact", "every answer is there already")
        assert len(fake.requests) == before


def test_an_answer_that_was_of_no_use_is_remembered_as_that() -> None:
    fake = of_several(lambda _: "no")
    with connected(fake, cache=True) as con:
        con.execute("DELETE FROM a WHERE k > 5")
        con.execute("SET llm_recall_sample = 0")
        con.execute(BATCHED)
        before = len(fake.requests)
        con.execute("CREATE TABLE again AS " + BATCHED)
        assert len(fake.requests) == before


def test_a_budget_leaves_pairs_undecided_and_tells_how_many(fake: FakeProvider) -> None:
    with connected(fake, max_calls=40) as con:
        with pytest.raises(BudgetExceeded):
            con.execute(BATCHED)
        con.execute("SET llm_on_budget = 'partial'")
        fake.requests.clear()
        entry = plan(con, BATCHED)
        assert len(fake.requests) == 40 == entry["actual"]["calls"]
        assert entry["undecided"] == 200 + 50  # pairs: those not asked, and the sample
        assert entry["failures"] == {}


def test_a_small_max_tokens_of_the_call_does_not_cut_the_answers(
    con: Connection, fake: FakeProvider
) -> None:
    con.execute(INNER.format(match=match(", strategy := 'batch_prompt', max_tokens := 2")))
    assert {request.max_tokens for request in asked(fake, Choice)} == {2}
    assert min(request.max_tokens for request in asked(fake, JsonAnswer)) > 80


def test_what_is_redacted_is_in_no_prompt(fake: FakeProvider) -> None:
    def redact(text: str) -> str:
        return "?" if text.isdigit() else text.replace("the right one", "***")

    with connected(fake, redact=redact) as con:
        assert len(con.execute(BATCHED).fetchall()) == 20
    assert {len(entries(request)) for request in asked(fake, JsonAnswer)} == {10}  # by number
    assert not any("the right one" in each.fields for each in fake.requests)


def test_auto_never_takes_it_for_it_can_make_wrong_rows() -> None:
    can = Capabilities(constrained=frozenset({"choice", "json"}))
    without_embeddings = FakeProvider(answer=answer, capabilities=can, keep=100_000)
    with connected(without_embeddings, approximate="auto") as other:
        assert len(other.execute(INNER.format(match=match(""))).fetchall()) == 20
    assert not asked(without_embeddings, JsonAnswer)


def test_a_prompt_of_the_row_is_shown_with_its_pair(con: Connection, fake: FakeProvider) -> None:
    sql = "SELECT a.k FROM a JOIN b ON LLM_FILTER('Same? ' || a.g, b.y, strategy := 'batch_prompt')"
    con.execute(sql)
    assert all('see "prompt"' in request.instruction for request in asked(fake, JsonAnswer))
    assert all("prompt" in pair for pair in entries(asked(fake, JsonAnswer)[0]))


# Which pairs stand together


def composed(
    left: list[str], right: list[str], pairs: list[tuple[int, int]], most: int, room: int = 10_000
) -> tuple[Composer, list[list[int]]]:
    left_side, right_side = side(left), side(right)
    at = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    joined = JoinPairs(left_side, right_side, at[:, 0], at[:, 1])
    shown = Values.of(["x"], left_side.fields), Values.of(["y"], right_side.fields)
    composer = Composer(joined, *shown, most=most, question=40, room=room)
    return composer, list(composer.prompts())


def side(values: list[str]) -> Side:
    texts = pa.array([json.dumps(value) for value in values], pa.string())
    return Side((texts,), pa.array([[]] * len(values), pa.list_(pa.string())))


def test_the_side_stands_once_that_saves_most() -> None:
    every = [(left, right) for left in range(20) for right in range(20)]
    short, long = [f"s {n}" for n in range(20)], [f"{n} " + "long " * 50 for n in range(20)]
    assert composed(long, short, every, 10)[0].layout is Layout.LEFT
    assert composed(short, long, every, 10)[0].layout is Layout.RIGHT
    alone = [(n, n) for n in range(20)]
    assert composed(short, long, alone, 10)[0].layout is Layout.NEITHER


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=100),
    st.integers(1, 12),
    st.integers(5, 200),
    st.integers(1, 60),
)
def test_every_pair_stands_in_one_prompt_that_is_not_too_large(
    pairs: set[tuple[int, int]], most: int, room: int, length: int
) -> None:
    left = [f"{n} " + "l" * length for n in range(10)]
    right = [f"{n} right" for n in range(10)]
    composer, prompts = composed(left, right, sorted(pairs), most, room)
    assert sorted(pair for prompt in prompts for pair in prompt) == list(range(len(pairs)))
    ordered = sorted(pairs)
    for prompt in prompts:
        assert len(prompt) <= most
        sides = [{ordered[pair][side] for pair in prompt} for side in (0, 1)]
        if composer.layout is not Layout.NEITHER:
            assert len(sides[composer.layout is Layout.RIGHT]) == 1
        if len(prompt) > 1:
            texts = {left[at] for at in sides[0]} | {right[at] for at in sides[1]}
            assert sum(tokens_of(f'{{"x":"{text}"}}') for text in texts) <= room


# The bias of positions


def answered(sizes: dict[int, int], seed: int, more_at: tuple[int, float] = (0, 0.0)) -> list[Any]:
    """Answers of prompts: as many of each size, true at random, at one place more often."""
    random = np.random.default_rng(seed)
    found = []
    for size, prompts in sizes.items():
        shares = np.full((prompts, size), 0.3) * random.uniform(0, 2, (prompts, 1))
        shares[:, more_at[0]] += more_at[1]
        found.append(random.random((prompts, size)) < shares)
    return found


def test_no_bias_is_found_more_often_than_said() -> None:
    found = [position_bias(answered({10: 40, 7: 25, 2: 5}, seed)) for seed in range(60)]
    false_alarms = sum(each is not None and each.found for each in found)
    assert false_alarms <= 8  # 3 are to be expected, more than 8 in one case of 500


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_bias_is_found_where_it_is(place: int) -> None:
    bias = position_bias(answered({10: 100, 7: 100}, 1, (place, 0.25)))
    assert bias is not None
    assert (bias.found, bias.position) == (True, place + 1)
    assert bias.usual < bias.rate.low < bias.rate.value < bias.rate.high
    assert len(bias.rates) == 10


def test_answers_that_never_differ_show_no_bias() -> None:
    bias = position_bias([np.ones((50, 5), bool), np.zeros((50, 3), bool)])
    assert bias is not None
    assert not bias.found
    assert bias.p_value == 1.0
    assert position_bias([]) is None
    assert position_bias([np.zeros((0, 4), bool)]) is None
