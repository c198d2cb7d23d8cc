"""Python variables as tables, as DuckDB finds them: in the frame that calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.tokenizer_core import Token, TokenType

from quackllm.engine.transactions import finish

_CALL: CodeType = compile("__quackllm_call__()", "<quackllm>", "eval")

WORD = re.compile(r"\w+")
LONG = 100_000
"""Characters of a text beyond which its words are not looked up one by one."""


def call_in_frame(frame: FrameType, query: Any, function: Callable[[], Any]) -> Any:
    """Call a function of DuckDB so that it sees the frame's variables as its caller's.

    DuckDB looks for a table among the variables of the Python frame that called it.
    This evaluates the call in a frame with those of the user's variables that the query
    may name, our own relations replaced by DuckDB's.
    """
    variables = {name: native(value) for name, value in _named(query, frame)}
    variables["__quackllm_call__"] = function
    return eval(_CALL, frame.f_globals, variables)


def _named(query: Any, frame: FrameType) -> Iterator[tuple[str, Any]]:
    spaces = (frame.f_globals, frame.f_locals)  # a local variable hides a global one
    if not isinstance(query, str) or len(query) > LONG:
        for space in spaces:
            yield from list(space.items())
        return
    words = set(WORD.findall(query))
    for space in spaces:
        yield from [(word, space[word]) for word in words if word in space]


def native(value: Any) -> Any:
    """Return the DuckDB relation inside a relation of ours, anything else as it is."""
    inside = getattr(type(value), "quackllm_native", None)
    return value if inside is None else inside(value)


TABLE_LISTS = frozenset({"FROM", "JOIN", "INTO", "USING", "UPDATE"})
"""Words after which the name of a table may stand."""

OTHER_CLAUSES = frozenset(
    {"SELECT", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "QUALIFY", "WINDOW", "SET", "VALUES"}
    | {"UNION", "EXCEPT", "INTERSECT"}
)
"""Words that end a list of tables."""


def table_names(tokens: Sequence[Token]) -> list[str]:
    """List the names that stand where a table may stand, without schema."""
    names: list[str] = []
    in_list, expected = False, False
    outside: list[bool] = []
    before: Token | None = None
    for token in tokens:
        word = token.text.upper().partition(" ")[0]  # ORDER BY is one token
        if token.token_type == TokenType.L_PAREN:
            outside.append(in_list)
            is_call = before is not None and before.token_type == TokenType.VAR and not expected
            in_list = in_list and not is_call
            expected = in_list and expected
        elif token.token_type == TokenType.R_PAREN:
            in_list, expected = bool(outside) and outside.pop(), False
        elif token.token_type == TokenType.COMMA:
            expected = in_list
        elif word in TABLE_LISTS and token.token_type != TokenType.IDENTIFIER:
            in_list = expected = True
        elif word in OTHER_CLAUSES and token.token_type != TokenType.IDENTIFIER:
            in_list = expected = False
        elif expected:
            names.append(token.text)
            expected = False
        before = token
    return names


def table_variables(
    raw: duckdb.DuckDBPyConnection, tokens: Sequence[Token], frame: FrameType
) -> dict[str, Any]:
    """Find the variables that a statement names as tables and the database does not have."""
    found: dict[str, Any] = {}
    for name in table_names(tokens):
        for scope in (frame.f_locals, frame.f_globals):
            if name in scope:
                if _is_tabular(scope[name]):
                    found[name] = scope[name]
                break
    if not found:
        return found
    known = raw.execute(
        "SELECT lower(table_name) FROM (SELECT database_name, schema_name, table_name "
        "FROM duckdb_tables() UNION ALL SELECT database_name, schema_name, view_name "
        "FROM duckdb_views()) WHERE list_contains(current_schemas(true), schema_name) "
        "AND database_name IN (current_database(), 'temp', 'system')"
    ).fetchall()
    existing = {row[0] for row in known}
    return {name: value for name, value in found.items() if name.lower() not in existing}


@contextmanager
def registered(raw: duckdb.DuckDBPyConnection, variables: Mapping[str, Any]) -> Iterator[None]:
    """Make variables tables for the time of a query, which leaves no result open."""
    for name, value in variables.items():
        raw.register(name, scannable(value))
    try:
        yield
    finally:
        if variables:
            finish(raw)
        for name in variables:
            raw.unregister(name)


def _is_tabular(value: Any) -> bool:
    """Whether DuckDB scans such a value: one column of a table it does not."""
    if isinstance(value, duckdb.DuckDBPyRelation):
        return True
    if isinstance(value, dict):
        return bool(value) and all(_module(column) == "numpy" for column in value.values())
    if type(value).__name__ in ("Series", "Index", "Array", "ChunkedArray"):
        return False
    return _module(value) in ("pandas", "polars", "pyarrow", "numpy") or hasattr(
        value, "__arrow_c_stream__"
    )


def _module(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def scannable(value: Any) -> Any:
    """Return a value that DuckDB may scan more than once, as staged statements do."""
    if is_one_shot(value):
        return value.read_all()
    finished = getattr(type(value), "quackllm_finished", None)
    return value if finished is None else finished(value)


def is_one_shot(value: Any) -> bool:
    """Whether the rows of a value can be read only once."""
    return isinstance(value, pa.RecordBatchReader)
