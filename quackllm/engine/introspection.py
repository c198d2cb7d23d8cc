"""llm_functions(), llm_queries(), ...: what the engine knows, as tables for SELECT.

DuckDB has no table functions in Python. When a statement names one of these, its rows
are registered and a temporary macro of that name selects from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from quackllm.engine.engine import Engine
from quackllm.engine.settings import Settings
from quackllm.udfs.registry import options_of

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class TableFunction:
    """One table: name, description, columns with their Arrow types, and its rows."""

    name: str
    doc: str
    columns: tuple[tuple[str, pa.DataType], ...]
    rows: Callable[[Engine, Settings], Rows]


def _functions(engine: Engine, settings: Settings) -> Rows:
    return [
        (
            function.name,
            list(function.aliases),
            function.signature(),
            function.summary,
            [option.name for option in options_of(function)],
            function.example,
        )
        for function in sorted(engine.functions, key=lambda function: function.name)
    ]


def _settings(engine: Engine, settings: Settings) -> Rows:
    return list(settings.rows())


def _models(engine: Engine, settings: Settings) -> Rows:
    rows: Rows = []
    for named in engine.models.values():
        rows.append((named.name, named.model, named.base_url or named.provider, *[None] * 5))
    for provider in engine.opened:
        can = provider.capabilities
        rows.append(
            (
                None,
                provider.model,
                provider.endpoint,
                sorted(can.constrained),
                can.logprobs,
                can.context_window,
                can.prefix_granularity,
                can.concurrency,
            )
        )
    return rows


def _queries(engine: Engine, settings: Settings) -> Rows:
    return [
        (
            stats.number,
            stats.sql,
            stats.calls,
            stats.tuples,
            stats.cached,
            stats.prompt_tokens,
            stats.cached_tokens,
            stats.completion_tokens,
            sum(stats.failures.values()),
            stats.seconds,
            stats.error,
        )
        for stats in engine.history
    ]


def _errors(engine: Engine, settings: Settings) -> Rows:
    return [
        (f.statement, f.stage, f.function, f.model, f.cause, f.message, f.fields_hash, f.preview)
        for f in engine.failures
    ]


_TEXT, _NUMBER, _TEXTS = pa.string(), pa.int64(), pa.list_(pa.string())

TABLES: tuple[TableFunction, ...] = (
    TableFunction(
        "llm_functions",
        "the SQL functions that call a model",
        (
            ("name", _TEXT),
            ("aliases", _TEXTS),
            ("signature", _TEXT),
            ("description", _TEXT),
            ("options", _TEXTS),
            ("example", _TEXT),
        ),
        _functions,
    ),
    TableFunction(
        "llm_settings",
        "the settings, with their values on this connection",
        (("name", _TEXT), ("value", _TEXT), ("description", _TEXT)),
        _settings,
    ),
    TableFunction(
        "llm_models",
        "the models that CREATE MODEL named, and those that have answered",
        (
            ("name", _TEXT),
            ("model", _TEXT),
            ("endpoint", _TEXT),
            ("constrained", _TEXTS),
            ("logprobs", pa.bool_()),
            ("context_window", _NUMBER),
            ("prefix_granularity", _NUMBER),
            ("concurrency", _NUMBER),
        ),
        _models,
    ),
    TableFunction(
        "llm_queries",
        "the statements of this connection that called a model, and what they cost",
        (
            ("statement", _NUMBER),
            ("sql", _TEXT),
            ("calls", _NUMBER),
            ("tuples", _NUMBER),
            ("answered_from_cache", _NUMBER),
            ("prompt_tokens", _NUMBER),
            ("cached_tokens", _NUMBER),
            ("completion_tokens", _NUMBER),
            ("failures", _NUMBER),
            ("seconds", pa.float64()),
            ("error", _TEXT),
        ),
        _queries,
    ),
    TableFunction(
        "llm_errors",
        "the calls that failed, with their cause",
        (
            ("statement", _NUMBER),
            ("stage", _NUMBER),
            ("function", _TEXT),
            ("model", _TEXT),
            ("cause", _TEXT),
            ("message", _TEXT),
            ("fields_hash", _TEXT),
            ("preview", _TEXT),
        ),
        _errors,
    ),
)

NAMED = re.compile(r"\b(" + "|".join(table.name for table in TABLES) + r")\s*\(", re.IGNORECASE)


def provide_tables(
    connection: duckdb.DuckDBPyConnection, sql: str, engine: Engine, settings: Settings
) -> None:
    """Make the tables that a statement names selectable, with their rows of this moment."""
    wanted = {name.lower() for name in NAMED.findall(sql)}
    for table in TABLES:
        if table.name in wanted:
            connection.register(f"__{table.name}", arrow_of(table, engine, settings))
            connection.execute(
                f"CREATE OR REPLACE TEMP MACRO {table.name}() AS TABLE FROM __{table.name}"
            )


def arrow_of(table: TableFunction, engine: Engine, settings: Settings) -> pa.Table:
    """Return the rows of a table."""
    rows: Sequence[tuple[Any, ...]] = table.rows(engine, settings)
    return pa.table(
        {
            name: pa.array([row[i] for row in rows], type_)
            for i, (name, type_) in enumerate(table.columns)
        }
    )
