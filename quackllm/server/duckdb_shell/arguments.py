"""The arguments of a call that DuckDB makes itself: bound by the values of each row.

DuckDB tells an extension neither which arguments are constant nor what columns are called. So
what has to be constant is taken row by row, the rows with equal constants together, and an
argument has the name of its parameter unless it is an entry of a STRUCT.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from quackllm.errors import BindError
from quackllm.optimizer.sql import json_fragment, quote
from quackllm.server.duckdb_shell.vectors import JSON, Struct, Type
from quackllm.udfs.base import Call, Function, Kind, Parameter
from quackllm.udfs.registry import Functions

OPTIONS = "llm_options"
"""The only entry of a last argument that holds options: {'llm_options': {'model': 'fast'}}."""


@dataclass(frozen=True)
class Argument:
    """One argument of all rows of a chunk."""

    type: Type
    values: pa.Array


@dataclass(frozen=True)
class Group:
    """Rows of a chunk that make the same call.

    rows: their positions. fields: one string array of their rendered values per field of
    the call.
    """

    call: Call
    rows: pa.Array
    fields: list[pa.Array]


@dataclass(frozen=True)
class _Sorted:
    """SQL of the arguments by what they are; constants and options as JSON texts."""

    constants: Mapping[str, str]
    options: str | None
    fields: Mapping[str, str]


def groups_of(
    connection: duckdb.DuckDBPyConnection,
    functions: Functions,
    name: str,
    arguments: Sequence[Argument],
) -> list[Group]:
    """Bind a call for the rows of a chunk.

    connection: renders values; nothing else may use it meanwhile.
    Raises `BindError` when there is no such call.
    """
    function = functions.get(name)
    if function is None:
        raise BindError(f"unknown function {name.upper()}")
    parts = _sort(function, arguments)
    constants, fields = _render(connection, parts, arguments)
    groups = []
    for key, rows in _alike(constants, len(arguments[0].values)).items():
        values = dict(zip([*parts.constants, OPTIONS], map(json.loads, key), strict=False))
        options = values.pop(OPTIONS, None) or {}
        call = functions.bind(name, values, options, list(parts.fields))
        positions = pa.array(rows, pa.int64())
        groups.append(Group(call, positions, [field.take(positions) for field in fields]))
    return groups


def _sort(function: Function, arguments: Sequence[Argument]) -> _Sorted:
    """Tell constants, options and fields from each other."""
    given = list(enumerate(arguments))
    options = None
    if given and _are_options(given[-1][1].type):
        options = f"to_json({quote(f'c{len(given) - 1}')}.{quote(OPTIONS)})"
        given.pop()
    if not given:
        raise BindError(
            f"Binder Error: {function.name.upper()}: no argument: {function.signature()}"
        )
    constants: dict[str, str] = {}
    fields: dict[str, str] = {}
    for index, argument in given:
        parameter = _parameter(function, index)
        column = quote(f"c{index}")
        if parameter.kind is Kind.CONSTANT or (
            parameter.kind is Kind.PROMPT and (len(given) > 1 or _is_alone(function))
        ):
            constants[parameter.name] = json_fragment(column)
        else:
            fields.update(_fields(parameter, index, argument.type, fields))
    return _Sorted(constants, options, fields)


def _are_options(type_: Type) -> bool:
    return isinstance(type_, Struct) and [name for name, _ in type_.fields] == [OPTIONS]


def _is_alone(function: Function) -> bool:
    """Whether a prompt without data can only be a mistake, which is told when it is bound."""
    return any(each.required and each.kind is Kind.VALUES for each in function.parameters)


def _parameter(function: Function, index: int) -> Parameter:
    parameters = function.parameters
    if index < len(parameters):
        return parameters[index]
    if parameters and parameters[-1].kind is Kind.VALUES:
        return parameters[-1]
    raise BindError(
        f"Binder Error: {function.name.upper()}: too many arguments: {function.signature()}. "
        f"Options are a last argument {{'{OPTIONS}': {{'model': ...}}}}"
    )


def _fields(
    parameter: Parameter, index: int, type_: Type, before: Mapping[str, str]
) -> dict[str, str]:
    """Name the fields of an argument: the entries of a STRUCT, or one for the parameter."""
    column = quote(f"c{index}")
    if isinstance(type_, Struct) and all(name for name, _ in type_.fields):
        named = {name: (f"{column}.{quote(name)}", inner) for name, inner in type_.fields}
    else:
        name = parameter.name
        if parameter.kind is Kind.VALUES:
            name = f"value{index}" if index > 1 else "value"
        named = {name: (column, type_)}
    twice = next((name for name in named if name in before), None)
    if twice is not None:
        raise BindError(f"Binder Error: two arguments are called {twice}")
    return {name: json_fragment(_as_json(sql, inner)) for name, (sql, inner) in named.items()}


def _as_json(sql: str, type_: Type) -> str:
    """A JSON document reached us as a text; it is shown as a document."""
    return f"CAST({sql} AS JSON)" if type_ is JSON else sql


def _render(
    connection: duckdb.DuckDBPyConnection, parts: _Sorted, arguments: Sequence[Argument]
) -> tuple[list[pa.Array], list[pa.Array]]:
    """Return the JSON texts of constants and options, and those of the fields."""
    constants = [*parts.constants.values()]
    if parts.options is not None:
        constants.append(f"coalesce(CAST({parts.options} AS VARCHAR), 'null')")
    wanted = [*constants, *parts.fields.values()]
    rows = pa.table({f"c{i}": argument.values for i, argument in enumerate(arguments)})
    connection.register("chunk", rows)
    try:
        items = ", ".join(f"{sql} AS r{i}" for i, sql in enumerate(wanted))
        rendered = connection.sql(f"SELECT {items} FROM chunk").to_arrow_table()
    finally:
        connection.unregister("chunk")
    columns = [column.combine_chunks() for column in rendered.columns]
    columns = [each.chunk(0) if isinstance(each, pa.ChunkedArray) else each for each in columns]
    return columns[: len(constants)], columns[len(constants) :]


def _alike(constants: Sequence[pa.Array], rows: int) -> dict[tuple[Any, ...], list[int]]:
    """Return the rows of each set of constants."""
    if all(len(column.unique()) == 1 for column in constants):
        return {tuple(column[0].as_py() for column in constants): list(range(rows))}
    found: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(zip(*(column.to_pylist() for column in constants), strict=True)):
        found.setdefault(key, []).append(row)
    return found
