"""A vector arrives in DuckDB with the numbers that the model gave, or not at all."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.errors import InvalidAnswer
from quackllm.udfs.vectors import Vector, as_digits, as_lists, packed, read_vector, unpacked

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = st.lists(st.none() | st.lists(NUMBERS, min_size=3, max_size=3), max_size=8)


@settings(deadline=None)
@given(VECTORS)
def test_vectors_survive_both_ways_into_duckdb(vectors: list[list[float] | None]) -> None:
    texts = [None if vector is None else packed(vector) for vector in vectors]
    expected = [None if vector is None else tuple(map(np.float32, vector)) for vector in vectors]
    for column in (as_lists(texts, 3), as_digits(texts)):
        table = pa.table({"n": range(len(texts)), "v": column})
        con = duckdb.connect()
        con.register("given", table)
        rows = con.execute("SELECT CAST(v AS FLOAT[3]) FROM given ORDER BY n").fetchall()
        assert [row[0] for row in rows] == expected


@given(st.lists(NUMBERS, max_size=20))
def test_a_text_is_read_as_what_was_packed(vector: list[float]) -> None:
    assert unpacked(packed(vector)).tolist() == np.array(vector, dtype=np.float32).tolist()
    assert read_vector(packed(vector), len(vector)) == packed(vector)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not base64!", "base64"),
        ("AAA", "base64"),
        ("AAAA", "base64"),  # three bytes: no whole number
        (packed([1, 2]), "2 dimensions, not 3"),
        (packed([1, 2, np.inf]), "not finite"),
        (packed([1, np.nan, 3]), "not finite"),
    ],
)
def test_what_is_no_such_vector_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidAnswer, match=said):
        read_vector(text, 3)


@pytest.mark.parametrize("value", [[1, 2], "text", [1, 2, "x"], 5, [1, 2, float("nan")]])
def test_a_default_of_another_shape_is_refused(value: object) -> None:
    with pytest.raises(InvalidAnswer, match=r"is not a FLOAT\[3\]"):
        Vector(3).canonical(value)
