"""Names of topics are labels: short, in one line, and no two of them equal."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from quackllm.clustering.directions import unit
from quackllm.errors import CallError, InvalidAnswer
from quackllm.udfs.base import Answered, CallOf, Inquiry
from quackllm.udfs.topics import (
    EXAMPLES,
    LONGEST_EXAMPLE,
    LONGEST_NAME,
    NAME,
    find_topics,
    name_topics,
    read_name,
)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Refunds", "Refunds"),
        ('\n "Refunds  and returns." \nThey ask for money.', "Refunds and returns"),
        ("**Zahlung**", "Zahlung"),
        ("x" * 200, "x" * LONGEST_NAME),
    ],
)
def test_a_name_is_read(said: str, name: str) -> None:
    assert read_name(said) == name


@pytest.mark.parametrize("said", ["", " \n", '"."', "…"])
def test_a_name_without_letters_is_none(said: str) -> None:
    with pytest.raises(InvalidAnswer):
        read_name(said)


def test_examples_are_short_and_failures_stay() -> None:
    shown: list[tuple[str, ...]] = []

    def ask(inquiry: Inquiry | CallOf, tuples: Sequence[tuple[str, ...]]) -> list[Answered]:
        assert inquiry is NAME
        shown.extend(tuples)
        return ["A", CallError("no"), None]

    long = json.dumps("y" * 10_000)
    names = name_topics([[long, '"b"'], ['{"c":1}'], ['"d"']], ask)
    assert [str(name) for name in names] == ["A", "no", "None"]
    assert json.loads(shown[0][0]) == ["y" * LONGEST_EXAMPLE, "b"]
    assert json.loads(shown[1][0]) == ['{"c":1}']


def test_examples_are_the_nearest_of_each_group() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    vectors = unit((np.eye(8)[labels] + 0.1 * random.normal(size=(60, 8))).astype(np.float32))
    found = find_topics(vectors, 3)
    assert sorted(map(len, found.examples)) == [EXAMPLES] * 3
    for group, examples in enumerate(found.examples):
        members = np.flatnonzero(found.labels == group)
        cosines = vectors @ unit(vectors[members].sum(axis=0, keepdims=True))[0]
        assert set(examples) <= set(members.tolist())
        others = [at for at in members if at not in examples]
        assert cosines[list(examples)].min() >= cosines[others].max() - 1e-6
