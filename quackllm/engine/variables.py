"""Python variables as tables, as DuckDB finds them: in the frame that calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.tokens import Token

_CALL: CodeType = compile("__quackllm_call__()", "<quackllm>", "eval")


def call_in_frame(frame: FrameType, function: Callable[[], Any]) -> Any:
    """Call a function of DuckDB so that it sees the frame's variables as its caller's.

    DuckDB looks for a table among the variables of the Python frame that called it.
    This evaluates the call in a frame with the user's variables, our own relations
    replaced by DuckDB's.
    """
    variables = {name: native(value) for name, value in frame.f_locals.items()}
    variables["__quackllm_call__"] = function
    return eval(_CALL, frame.f_globals, variables)


def native(value: Any) -> Any:
    """Return the DuckDB relation inside a relation of ours, anything else as it is."""
    inside = getattr(type(value), "quackllm_native", None)
    return value if inside is None else inside(value)


BEFORE_TABLES = frozenset({"FROM", "JOIN", ",", "(", "INTO", "USING", "UPDATE"})
"""Words after which a name may be that of a table."""


def table_variables(
    raw: duckdb.DuckDBPyConnection, tokens: Sequence[Token], frame: FrameType
) -> dict[str, Any]:
    """Find the variables that a statement names as tables and the database does not have."""
    found: dict[str, Any] = {}
    for before, token in pairwise(tokens):
        name = token.text
        if before.text.upper() not in BEFORE_TABLES or name in found:
            continue
        for scope in (frame.f_locals, frame.f_globals):
            if name in scope:
                if _is_tabular(scope[name]):
                    found[name] = scope[name]
                break
    if not found:
        return found
    known = raw.execute(
        "SELECT lower(table_name) FROM duckdb_tables() "
        "UNION ALL SELECT lower(view_name) FROM duckdb_views()"
    ).fetchall()
    existing = {row[0] for row in known}
    return {name: value for name, value in found.items() if name.lower() not in existing}


@contextmanager
def registered(raw: duckdb.DuckDBPyConnection, variables: Mapping[str, Any]) -> Iterator[None]:
    """Make variables tables for the time of a statement."""
    for name, value in variables.items():
        raw.register(name, _scannable(value))
    try:
        yield
    finally:
        for name in variables:
            raw.unregister(name)


def _is_tabular(value: Any) -> bool:
    module = type(value).__module__.split(".")[0]
    known = module in ("pandas", "polars", "pyarrow", "numpy")
    return (
        known or isinstance(value, duckdb.DuckDBPyRelation) or hasattr(value, "__arrow_c_stream__")
    )


def _scannable(value: Any) -> Any:
    """A staged statement reads its tables more than once."""
    if isinstance(value, pa.RecordBatchReader):
        return value.read_all()
    if isinstance(value, duckdb.DuckDBPyRelation) or hasattr(type(value), "quackllm_native"):
        return value.to_arrow_table()
    return value
