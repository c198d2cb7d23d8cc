"""llm_functions(), llm_queries(), ...: what the engine knows, as tables for SELECT.

DuckDB has no table functions in Python. When a statement names one of these, a temporary
macro of that name is made that holds the rows of this moment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot.tokenizer_core import TokenType

from quackllm.engine.engine import Engine
from quackllm.engine.settings import Settings
from quackllm.engine.statement import Statement
from quackllm.engine.well_formed import well_formed
from quackllm.optimizer.sql import literal, quote
from quackllm.udfs.registry import options_of

Rows = list[tuple[Any, ...]]

ROWS_PER_BATCH = 10_000


@dataclass(frozen=True)
class SystemTable:
    """One table: name, description, columns with their DuckDB types, and its rows.

    many: there may be thousands of rows, too many for the text of a query.
    """

    name: str
    doc: str
    columns: tuple[tuple[str, str], ...]
    rows: Callable[[Engine, Settings], Iterable[tuple[Any, ...]]]
    many: bool = False


def _functions(engine: Engine, settings: Settings) -> Rows:
    scalar: Rows = [
        (
            function.name,
            list(function.aliases),
            function.signature(),
            function.summary,
            [option.name for option in options_of(function)],
            function.example,
        )
        for function in engine.functions
    ]
    tables: Rows = [
        (
            function.name,
            [],
            function.signature(),
            function.summary,
            [option.name for option in function.options],
            function.example,
        )
        for function in engine.table_functions
    ]
    return sorted([*scalar, *tables], key=lambda row: str(row[0]))


def _settings(engine: Engine, settings: Settings) -> Rows:
    return list(settings.rows())


def _models(engine: Engine, settings: Settings) -> Rows:
    rows: Rows = []
    for named in engine.models.values():
        place = named.provider if named.base_url is None else str(named.base_url)
        rows.append((named.name, named.model, place, *[None] * 7))
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
                can.cache_tokens,
                can.concurrency,
                "exact" if can.tokenizes else "estimated",
            )
        )
    return rows


def _secrets(engine: Engine, settings: Settings) -> Rows:
    return [
        (secret.name, secret.type, str(secret.scope), str(secret.key))
        for secret in engine.secrets.values()
    ]


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
            stats.retries,
            sum(stats.failures.values()),
            stats.undecided,
            stats.cost,
            stats.seconds,
            stats.error,
        )
        for stats in engine.history
    ]


def _errors(engine: Engine, settings: Settings) -> Iterator[tuple[Any, ...]]:
    for failure in tuple(engine.failures):  # other threads add to them
        yield (
            failure.statement,
            failure.stage,
            failure.function,
            failure.model,
            failure.cause,
            failure.message,
            failure.fields_hash,
            failure.preview,
            failure.attempts,
            failure.status,
            _moment(failure.at),
        )


def _cache(engine: Engine, settings: Settings) -> Iterator[tuple[Any, ...]]:
    for entry in engine.answers(settings).entries():
        yield (
            entry.function,
            entry.version,
            entry.model,
            entry.endpoint,
            entry.question,
            entry.key,
            entry.answer,
            _moment(entry.created),
            _moment(entry.last_used),
            entry.size,
        )


def _moment(seconds: float | None) -> datetime | None:
    """A Unix time as a time in UTC; None for one that no calendar has."""
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (OverflowError, ValueError, OSError):
        return None


_TEXT, _NUMBER, _TEXTS, _REAL, _TRUTH = "VARCHAR", "BIGINT", "VARCHAR[]", "DOUBLE", "BOOLEAN"
_TIME = "TIMESTAMP"  # UTC

TABLES: tuple[SystemTable, ...] = (
    SystemTable(
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
    SystemTable(
        "llm_settings",
        "the settings, with their values on this connection",
        (("name", _TEXT), ("value", _TEXT), ("description", _TEXT)),
        _settings,
    ),
    SystemTable(
        "llm_models",
        "the models that CREATE MODEL named, and those that are open",
        (
            ("name", _TEXT),
            ("model", _TEXT),
            ("endpoint", _TEXT),
            ("constrained", _TEXTS),
            ("logprobs", _TRUTH),
            ("context_window", _NUMBER),
            ("prefix_granularity", _NUMBER),
            ("cache_tokens", _NUMBER),
            ("concurrency", _NUMBER),
            ("token_counts", _TEXT),
        ),
        _models,
    ),
    SystemTable(
        "llm_secrets",
        "the keys that CREATE SECRET gave, without the keys",
        (("name", _TEXT), ("type", _TEXT), ("scope", _TEXT), ("key", _TEXT)),
        _secrets,
    ),
    SystemTable(
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
            ("retries", _NUMBER),
            ("failures", _NUMBER),
            ("undecided", _NUMBER),
            ("cost", _REAL),
            ("seconds", _REAL),
            ("error", _TEXT),
        ),
        _queries,
        many=True,
    ),
    SystemTable(
        "llm_errors",
        "the calls that failed or were left out, with their cause",
        (
            ("statement", _NUMBER),
            ("stage", _NUMBER),
            ("function", _TEXT),
            ("model", _TEXT),
            ("cause", _TEXT),
            ("message", _TEXT),
            ("fields_hash", _TEXT),
            ("preview", _TEXT),
            ("attempts", _NUMBER),
            ("status", _NUMBER),
            ("recorded_at", _TIME),
        ),
        _errors,
        many=True,
    ),
    SystemTable(
        "llm_cache",
        "the answers that are kept, and what they are the answers to",
        (
            ("function", _TEXT),
            ("version", _NUMBER),
            ("model", _TEXT),
            ("endpoint", _TEXT),
            ("question", _TEXT),
            ("key", _TEXT),
            ("answer", _TEXT),
            ("created", _TIME),
            ("last_used", _TIME),
            ("bytes", _NUMBER),
        ),
        _cache,
        many=True,
    ),
)

_ARROW = {
    _TEXT: pa.string(),
    _NUMBER: pa.int64(),
    _REAL: pa.float64(),
    _TIME: pa.timestamp("us"),
}

NAMED = re.compile(r"\b(" + "|".join(table.name for table in TABLES) + r")\s*\(", re.IGNORECASE)


def provide_tables(
    connection: duckdb.DuckDBPyConnection,
    statement: Statement,
    engine: Engine,
    settings: Settings,
    register: Callable[[Mapping[str, Any]], dict[str, str]],
) -> tuple[str, ...]:
    """Make the tables that a statement names selectable, with their rows of this moment.

    register: makes Python objects tables of DuckDB's; returns the name of each by its key.
    Returns the names of what was registered, for the caller to forget in time.
    """
    if not NAMED.search(statement.sql):
        return ()
    wanted = {
        token.text.lower()
        for token, following in pairwise(statement.tokens)
        if following.token_type == TokenType.L_PAREN and token.token_type == TokenType.VAR
    }
    registered: list[str] = []
    # DuckDB 2 registers nothing beside an unfinished result, which `execute` would drop.
    connection.execute("SELECT 1").fetchall()
    for table in TABLES:
        if table.name in wanted:
            if table.many:
                registered.extend(
                    register({table.name: arrow_of(table, engine, settings)}).values()
                )
                query = f"FROM {quote(registered[-1])}"
            else:
                query = query_of(table, engine, settings)
            connection.execute(f"CREATE OR REPLACE TEMP MACRO {table.name}() AS TABLE {query}")
    return tuple(registered)


def arrow_of(table: SystemTable, engine: Engine, settings: Settings) -> pa.Table:
    """Return the rows of a table that may have many."""
    schema = pa.schema([(name, _ARROW[type_]) for name, type_ in table.columns])
    rows = iter(table.rows(engine, settings))
    batches = []
    while some := list(islice(rows, ROWS_PER_BATCH)):
        columns = zip(*some, strict=True)
        arrays = [_array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        batches.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema)


def _array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, type_)
    except UnicodeEncodeError:  # a model may answer half of a surrogate pair
        return pa.array([text if text is None else well_formed(text) for text in values], type_)


def query_of(table: SystemTable, engine: Engine, settings: Settings) -> str:
    """Write a SELECT that gives the rows of a table, independent of anything else."""
    names = [name for name, _ in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows(engine, settings)]
    document = well_formed(json.dumps(rows, ensure_ascii=False))
    types = ", ".join(f"{quote(name)} {type_}" for name, type_ in table.columns)
    return (
        f"SELECT r.* FROM (SELECT unnest(CAST(CAST({literal(document)} AS JSON) "
        f"AS STRUCT({types})[])) AS r)"
    )
