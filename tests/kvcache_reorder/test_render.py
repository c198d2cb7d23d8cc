"""Only rendered texts are compared, and all kinds of tables render alike."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from quackllm.kvcache_reorder import fields_of, order

VALUES: dict[str, list[Any]] = {
    "text": ["a", None, 'say "hi"', "a"],
    "number": [1, 2, 1, None],
    "flag": [True, False, True, True],
}


def texts(table: Any, render: Any = "json") -> list[list[str]]:
    return [
        field.values.to_pylist() if hasattr(field.values, "to_pylist") else list(field.values)
        for field in fields_of(table, render)
    ]


def test_json_shows_what_a_model_would_see() -> None:
    fields = fields_of(VALUES)
    assert [field.head for field in fields] == ['"text": ', '"number": ', '"flag": ']
    assert texts(VALUES) == [
        ['"a"', "null", '"say \\"hi\\""', '"a"'],
        ["1", "2", "1", "null"],
        ["true", "false", "true", "true"],
    ]


def test_text_shows_bare_values_and_nothing_for_null() -> None:
    assert texts(VALUES, "text")[:2] == [["a", "", 'say "hi"', "a"], ["1", "2", "1", ""]]


def test_arrow_tables_render_like_mappings() -> None:
    table = pa.table(VALUES)
    assert texts(table) == texts(VALUES)
    assert texts(table, "text") == texts(VALUES, "text")


def test_data_frames_render_like_mappings() -> None:
    frame = pd.DataFrame({"text": VALUES["text"], "flag": VALUES["flag"]})
    assert texts(frame) == [texts(VALUES)[0], texts(VALUES)[2]]


def test_arrow_kinds_of_columns() -> None:
    table = pa.table(
        {
            "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
            "list": pa.array([[1, 2], None, []]),
            "nothing": pa.array([None, None, None]),
        }
    )
    assert texts(table) == [
        ['"x"', "null", '"x"'],
        ["[1, 2]", "null", "[]"],
        ["null", "null", "null"],
    ]


def test_equal_python_values_with_different_texts_differ() -> None:
    table = {"v": [1, 1.0, True, "1"]}
    assert texts(table) == [["1", "1.0", "true", '"1"']]
    assert not order(table, "squared_characters").score


def test_null_is_not_the_text_null() -> None:
    assert texts({"v": [None, "null"]}) == [["null", '"null"']]


@pytest.mark.parametrize("missing", [None, math.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_every_missing_value_is_null(missing: Any) -> None:
    assert texts({"v": [missing]}) == [["null"]]


def test_another_kind_of_table_is_refused() -> None:
    with pytest.raises(TypeError, match="a mapping of names to sequences, not list"):
        order([1, 2])
    with pytest.raises(ValueError, match="unknown rendering 'xml'"):
        fields_of(VALUES, "xml")  # type: ignore[arg-type]
