"""Ranks and common prefixes are those of the texts, whatever their alphabet or length."""

import os
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quackllm.kvcache_reorder._text import rank_texts

TEXTS = st.lists(st.one_of(st.text(max_size=12), st.text("aé€😀", max_size=12)), max_size=20)


@given(TEXTS, st.booleans())
def test_ranks_and_prefixes_are_those_of_python(texts: list[str], arrow: bool) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    rank, pool = rank_texts(pa.array(texts, pa.string()) if arrow else texts)
    distinct = sorted(set(texts))
    assert [pool.text(i) for i in range(len(pool))] == distinct
    assert [distinct[i] for i in rank] == texts
    characters, shared = pool.characters_and_prefixes()
    assert characters.tolist() == [len(text) for text in distinct]
    expected = [0, *(len(os.path.commonprefix(pair)) for pair in pairwise(distinct))]  # noqa: RUF071
    assert shared.tolist() == expected[: len(distinct)]


@pytest.mark.parametrize("length", [7, 8, 9, 511, 512, 513, 5000])
def test_prefixes_longer_than_the_words_compared_at_once(length: int) -> None:
    texts = ["p" * length + "a", "p" * length + "b", "p" * length]
    _, pool = rank_texts(texts)
    assert pool.characters_and_prefixes()[1].tolist() == [0, length, length]


def test_a_chunked_and_sliced_arrow_column_is_one_column() -> None:
    column = pa.chunked_array([["z", "b", "a"], ["b"], pa.array(["q", "a", "z"])[1:]])
    rank, pool = rank_texts(column)
    assert [pool.text(i) for i in rank.tolist()] == ["z", "b", "a", "b", "a", "z"]
    assert rank.dtype == np.int32


def test_lone_surrogates_are_texts_too() -> None:
    rank, pool = rank_texts(["\ud800", "a", "\ud800"])
    assert rank.tolist() == [1, 0, 1]
    assert pool.text(1) == "\ud800"
