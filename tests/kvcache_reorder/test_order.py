"""An Ordering keeps every row and field, and its score is what a cache would count."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.kvcache_reorder import Field, Ordering, Server, fields_of, order, order_fields
from tests.kvcache_reorder.naive import (
    Table,
    agreement_bound,
    common,
    prompts,
    random_table,
    reviews,
    tables,
    trie_hits,
)

OBJECTIVES = ("characters", "squared_characters", "tokens", "blocks", "cost")


def check(ordering: Ordering, rows: int, columns: int) -> None:
    assert sorted(ordering.rows.tolist()) == list(range(rows))
    assert ordering.fields.shape == (rows, columns)
    assert (np.sort(ordering.fields, axis=1) == np.arange(columns)).all()
    assert ordering.prefix.shape == (rows,)


@given(tables(), st.sampled_from(OBJECTIVES))
@settings(max_examples=50, deadline=None)
def test_rows_and_fields_are_permutations_and_invert(table: Table, objective: Any) -> None:
    ordering = order(table, objective)
    rows = len(table["c0"])
    check(ordering, rows, len(table))
    assert ordering.rows[ordering.positions()].tolist() == list(range(rows))
    assert ordering.restore(ordering.rows.tolist()) == list(range(rows))


@given(tables())
@settings(max_examples=50, deadline=None)
def test_the_score_is_what_a_trie_of_the_prompts_counts(table: Table) -> None:
    ordering = order(table, "characters")
    texts = prompts(fields_of(table), ordering)
    assert ordering.score == trie_hits(texts)
    assert ordering.total == sum(map(len, texts))
    shared = [0, *(common(a, b) for a, b in pairwise(texts))]
    assert ordering.prefix.tolist() == shared[: len(texts)]


@given(tables(), st.integers(1, 9), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_block_scores_count_whole_blocks_with_the_instruction(
    table: Table, block: int, instruction: int
) -> None:
    server = Server(block=block, instruction=instruction)
    ordering = order(table, "blocks", server=server, chars_per_token=1)
    texts = prompts(fields_of(table), ordering)
    assert ordering.score == trie_hits(texts, block, instruction)


@given(tables(), st.sampled_from(("characters", "blocks")))
@settings(max_examples=40, deadline=None)
def test_the_baseline_is_the_order_of_the_input(table: Table, objective: Any) -> None:
    server = Server(block=4)
    ordering = order(table, objective, server=server, chars_per_token=1)
    fields = fields_of(table)
    rows = len(table["c0"])
    as_given = ["".join(f.head + f.values[r] + f.tail for f in fields) for r in range(rows)]
    block = 1 if objective == "characters" else 4
    assert ordering.baseline_score == trie_hits(as_given, block)
    assert ordering.score >= ordering.baseline_score


@given(tables(), st.sampled_from(OBJECTIVES), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_equal_input_gives_equal_output_and_shuffled_input_the_same_score(
    table: Table, objective: Any, random: Any
) -> None:
    once, again = order(table, objective), order(table, objective)
    assert once.rows.tolist() == again.rows.tolist()
    assert once.fields.tolist() == again.fields.tolist()
    mixed = list(range(len(table["c0"])))
    random.shuffle(mixed)
    shuffled = {name: [values[i] for i in mixed] for name, values in table.items()}
    other = order(shuffled, objective)
    assert other.score == pytest.approx(max(once.score, other.baseline_score), abs=1e-9)


def test_a_shuffled_larger_table_has_the_same_score() -> None:
    table = reviews(3000, seed=5)
    mixed = np.random.default_rng(1).permutation(3000)
    shuffled = {name: [values[i] for i in mixed] for name, values in table.items()}
    assert order(table, "blocks").score == order(shuffled, "blocks").score


@given(tables())
@settings(max_examples=40, deadline=None)
def test_no_score_exceeds_the_spanning_tree_of_agreement(table: Table) -> None:
    ordering = order(table, "characters", render="text")
    texts = {name: [v or "" for v in values] for name, values in table.items()}
    assert ordering.score <= agreement_bound(texts)


@pytest.mark.parametrize("seed", range(4))
def test_no_score_exceeds_the_bound_on_larger_tables(seed: int) -> None:
    table = random_table(120, 5, seed)
    texts = {name: [v or "" for v in values] for name, values in table.items()}
    score = order(table, "characters", render="text").score
    assert 0 < score <= agreement_bound(texts)


@given(tables(most_columns=4), st.data())
@settings(max_examples=40, deadline=None)
def test_pinned_fields_stay_in_front(table: Table, data: st.DataObject) -> None:
    pin = data.draw(st.permutations(sorted(table)).map(lambda names: names[:2]))
    ordering = order(table, "characters", pin=pin)
    check(ordering, len(table["c0"]), len(table))
    places = [ordering.names.index(name) for name in pin]
    assert (ordering.fields[:, : len(places)] == places).all()
    assert ordering.score == trie_hits(prompts(fields_of(table), ordering))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "table",
    [
        pytest.param({"a": [], "b": []}, id="empty"),
        pytest.param({}, id="no columns"),
        pytest.param({"a": ["x"], "b": ["y"]}, id="one row"),
        pytest.param({"a": ["x", "y", "x", "yy"]}, id="one column"),
        pytest.param({"a": ["x"] * 5, "b": ["y"] * 5}, id="all equal"),
        pytest.param({"a": list("pqrst"), "b": list("uvwxy")}, id="all distinct"),
        pytest.param({"a": [None] * 4, "b": [None] * 4}, id="only NULL"),
        pytest.param({"a": [""] * 4, "b": ["", "x", "", "x"]}, id="empty texts"),
    ],
)
@pytest.mark.parametrize("render", ["json", "text"])
def test_tables_of_every_shape(table: Any, objective: Any, render: Any) -> None:
    ordering = order(table, objective, render=render)
    check(ordering, len(next(iter(table.values()), [])), len(table))
    assert 0 <= ordering.score <= ordering.total


def test_values_of_ten_megabytes() -> None:
    long = "ab" * 5_000_000
    table = {"short": ["x", "y", "z"], "long": [long + "1", long + "2", "c" + long]}
    ordering = order(table, "characters", render="text")
    assert ordering.names[ordering.fields[1, 0]] == "long"
    assert ordering.score >= len(long)


def test_nothing_reusable_is_said_and_left_alone() -> None:
    table = {"a": ["p", "q", "r"], "b": ["s", "t", "u"]}
    ordering = order(table, "blocks", server=Server(block=16))
    assert not ordering.reusable
    assert ordering.algorithm == "original"
    assert ordering.rows.tolist() == [0, 1, 2]
    assert ordering.fields.tolist() == [[0, 1]] * 3


def test_repeated_values_too_short_for_a_block_are_not_reusable() -> None:
    table = {"a": ["same"] * 4, "b": ["1", "2", "3", "4"]}
    assert not order(table, "blocks", server=Server(block=128)).reusable
    assert order(table, "blocks", server=Server(block=2)).reusable


def test_a_minimum_prefix_counts_the_instruction() -> None:
    table = {"a": ["same text in all rows"] * 4, "b": ["1", "2", "3", "4"]}
    hosted = Server(block=128, minimum=1024, instruction=1020)
    assert order(table, "cost", server=hosted).reusable
    assert not order(table, "cost", server=Server(block=128, minimum=1024)).reusable


def test_cost_is_the_money_saved() -> None:
    table = {"a": ["x" * 400] * 10, "b": [str(i) * 40 for i in range(10)]}
    server = Server(block=1, price=2.0, cached_price=0.5)
    tokens = order(table, "tokens", server=server)
    cost = order(table, "cost", server=server)
    assert cost.score == pytest.approx(tokens.score * 1.5e-6)


def test_a_small_cache_is_worth_less_and_sorted_rows_lose_least() -> None:
    table = {"a": [str(i % 10) * 64 for i in range(200)], "b": [str(i) for i in range(200)]}
    endless = order(table, "blocks", server=Server(block=16))
    small = order(table, "blocks", server=Server(block=16, capacity=64))
    assert small.score == endless.score
    assert small.baseline_score < small.score
    assert endless.baseline_score > small.baseline_score


def test_a_counter_counts_fragments() -> None:
    def words(texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    table = {"a": ["one two three"] * 3, "b": ["x", "y", "z"]}
    ordering = order(table, "tokens", counter=words)
    # `"a": "one two three", ` is four words; of `"b": "x", ` and the next, `"b": "`, two.
    assert ordering.score == 2 * 4 + 2 * 2
    assert ordering.total == 3 * (4 + 2)
    with pytest.raises(ValueError, match="the token counter gave"):
        order(table, "tokens", counter=lambda texts: [1])


def test_results_go_back_into_input_order() -> None:
    ordering = order({"a": ["b", "a", "b", "a"], "c": list("wxyz")}, "characters")
    answers = [f"answer {row}" for row in ordering.rows.tolist()]
    expected = [f"answer {row}" for row in range(4)]
    assert ordering.restore(answers) == expected
    assert ordering.restore(np.array(answers)).tolist() == expected
    assert ordering.restore(pa.array(answers)).to_pylist() == expected
    with pytest.raises(ValueError, match="4 rows were sent, 1 results came back"):
        ordering.restore(["one"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "speed"}, "unknown objective 'speed'"),
        ({"pin": ["z"]}, "cannot pin 'z'; fields are a, b"),
        ({"pin": ["a", "a"]}, "pinned once"),
        ({"seconds": -1}, "seconds must be 0 or more"),
        ({"dependencies": [("a", "q")]}, "no column 'q'; columns are a, b"),
        ({"chars_per_token": 0}, "chars_per_token must be positive"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        order({"a": ["x"], "b": ["y"]}, **arguments)


def test_fields_must_fit_together() -> None:
    a, b = fields_of({"a": ["x"], "b": ["y"]})
    with pytest.raises(ValueError, match="same number of rows"):
        order_fields([a, fields_of({"c": ["x", "y"]})[0]])
    with pytest.raises(ValueError, match="names must differ"):
        order_fields([a, a])
    with pytest.raises(ValueError, match="heads of fields must differ"):
        order_fields([a, Field("other", ["z"], a.head, a.tail)])
    with pytest.raises(ValueError, match="a NULL must be rendered"):
        order_fields([Field("a", pa.array(["x", None]))])
    assert order_fields([a, b]).names == ("a", "b")


def test_more_time_finds_better_orders() -> None:
    table = reviews(1500, seed=9)
    quick, usual, long = (order(table, "tokens", seconds=s).score for s in (0, None, 2.0))
    assert quick < usual < long
