"""Columns of a table as the fields of prompts, rendered as a model would see them."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from quackllm.kvcache_reorder.encode import Field

Rendering = Literal["json", "text"]

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


def fields_of(table: Any, render: Rendering = "json") -> list[Field]:
    """The columns of a table as rendered fields.

    `table` is a pyarrow.Table, a pandas.DataFrame or a mapping of names to sequences.
    'json' renders each field as `"name": value, ` with JSON values, a missing value as
    null; 'text' renders bare texts without names, a missing value as nothing: the
    measure of the published benchmarks. Values are only ever compared as rendered, so
    1, 1.0, True and '1' all differ where their texts do. Raises TypeError for another
    kind of table, ValueError for another rendering.
    """
    if render not in ("json", "text"):
        raise ValueError(f"unknown rendering {render!r}: 'json' or 'text'")
    named = _columns(table)
    if render == "text":
        return [Field(name, _texts(values, "", bare=True)) for name, values in named]
    return [
        Field(name, _texts(values, "null", bare=False), f"{json.dumps(name)}: ", ", ")
        for name, values in named
    ]


def _columns(table: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(table, "column_names") and hasattr(table, "column"):
        for name in table.column_names:
            yield str(name), table.column(name)
    elif isinstance(table, Mapping):
        for name, values in table.items():
            yield str(name), values
    elif hasattr(table, "columns") and hasattr(table, "iloc"):
        for index, name in enumerate(table.columns):
            yield str(name), table.iloc[:, index]
    else:
        raise TypeError(
            "a table is a pyarrow.Table, a pandas.DataFrame or a mapping of names to "
            f"sequences, not {type(table).__name__}"
        )


def _texts(values: Any, missing: str, bare: bool) -> Any:
    """Rendered texts of one column; an Arrow column stays one."""
    if hasattr(values, "dictionary_encode"):
        return _arrow_texts(values, missing, bare)
    rendered: dict[tuple[type, Any], str] = {}
    texts = []
    for value in values:
        if _is_missing(value):
            texts.append(missing)
            continue
        # Equal values of different types (1, 1.0, True) have different texts.
        key = (type(value), value) if isinstance(value, Hashable) else None
        text = rendered.get(key) if key else None
        if text is None:
            text = _text(value, bare)
            if key:
                rendered[key] = text
        texts.append(text)
    return texts


def _arrow_texts(values: Any, missing: str, bare: bool) -> Any:
    """Each distinct value is rendered once; nested values, which have no dictionary, all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    kind = values.type
    if bare and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return values.fill_null(missing)
    if pa.types.is_nested(kind):
        return _texts(values.to_pylist(), missing, bare)
    encoded = values if pa.types.is_dictionary(kind) else values.dictionary_encode()
    distinct = _texts(encoded.dictionary.to_pylist(), missing, bare)
    texts = pc.take(pa.array(distinct, pa.large_string()), encoded.indices)
    return texts.fill_null(missing)


def _text(value: Any, bare: bool) -> str:
    return str(value) if bare else _ENCODER.encode(value)


def _is_missing(value: Any) -> bool:
    """None, NaN, and the missing values of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))
