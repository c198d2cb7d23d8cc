"""The registered scalar function: how a call runs where no stage can take it.

DuckDB calls it with at most 2,048 rows at a time, from several threads. Prompts,
cache, provider and failure rules are those of the stages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.engine import Engine
from quackllm.engine.joint import members_of
from quackllm.engine.run import Run
from quackllm.engine.settings import Settings
from quackllm.errors import QuackLLMError
from quackllm.optimizer.naive import BINDING, FUNCTION
from quackllm.udfs.answers import canonical_text
from quackllm.udfs.base import Call
from quackllm.udfs.type_parser import parse_type
from quackllm.udfs.vectors import as_digits

LENT_CHUNKS = 256
"""Answers of so many chunks are kept alive behind DuckDB's back: version 1.5 lets go of a
function's result and still reads its texts where it is an operand of COALESCE or CASE."""

Texts: TypeAlias = pa.Array | pa.ChunkedArray


def register_scalar_function(
    connection: duckdb.DuckDBPyConnection, engine: Engine, settings: Callable[[], Settings]
) -> None:
    """Register `llm_call(run, spec, field, ...)` with a connection and its cursors.

    settings: the settings of calls that belong to no running statement, such as those
        of a view that plain DuckDB evaluates.

    DuckDB has one set of functions for all connections of the process to one database.
    A connection that had the function gets it anew; raises `QuackLLMError` when another
    one has it, whose model would answer in the place of this one's.
    """
    with suppress(duckdb.Error):
        connection.remove_function(FUNCTION)

    lent: deque[pa.Array] = deque(maxlen=LENT_CHUNKS)

    def llm_call(*columns: Texts) -> pa.Array:
        runs, specs, *fields = (_flat(column) for column in columns)
        rows = max(len(column) for column in (runs, specs, *fields))
        spread = [_spread(field, rows) for field in fields]
        answers = _answer(engine, settings, runs, specs, spread, rows)
        lent.append(answers)
        return answers

    try:
        _create(connection, llm_call)
    except duckdb.CatalogException:
        raise QuackLLMError(
            "Catalog Error: another quackllm connection of this process has the database open; "
            "use its cursor()"
        ) from None


def _create(connection: duckdb.DuckDBPyConnection, llm_call: Callable[..., pa.Array]) -> None:
    connection.create_function(  # type: ignore[call-overload]
        FUNCTION,
        llm_call,
        None,
        "VARCHAR",
        type="arrow",
        null_handling="special",
        side_effects=False,
    )


def _answer(
    engine: Engine,
    settings: Callable[[], Settings],
    runs: pa.Array,
    specs: pa.Array,
    fields: list[pa.Array],
    rows: int,
) -> pa.Array:
    number, spec = runs[0].as_py(), specs[0].as_py()
    call = engine.functions.from_spec(spec)
    if number == BINDING:
        return pa.repeat(pa.scalar(_stand_in(call), pa.string()), rows)
    filled = [pc.fill_null(field, "null") for field in fields]
    run = engine.running(number)
    if run is not None:
        return _castable(call, _asked(run, call, filled, rows))
    engine.stored.outdated = True  # a view or a macro that was not known, perhaps
    own = engine.begin(settings(), f"{call.function} (evaluated by DuckDB)")
    started = time.monotonic()
    try:
        return _castable(call, _asked(own, call, filled, rows))
    finally:
        engine.end(own, time.monotonic() - started)


def _asked(run: Run, call: Call, fields: list[pa.Array], rows: int) -> pa.Array:
    """Answer a chunk of rows: of a joint call, those of one window after the other."""
    if call.declaration.joint is None:
        return run.answer(call, fields, rows)
    windows = fields.pop().dictionary_encode()
    tuples = list(zip(*(field.to_pylist() for field in fields), strict=True))
    answers: list[str | None] = [None] * rows
    for number, text in enumerate(windows.dictionary.to_pylist()):
        places = np.flatnonzero(windows.indices.to_numpy() == number).tolist()
        found = run.answer_jointly(call, [tuples[at] for at in places], members_of(text))
        for at, answer in zip(places, found.to_pylist(), strict=True):
            answers[at] = answer
    return pa.array(answers, pa.string())


def _stand_in(call: Call) -> str | None:
    """What a call gives where it is only bound: NULL, or a document whose parts are NULL.

    DuckDB 2.0 evaluates a constant as it binds, and a field of a STRUCT that is NULL then
    has the type "NULL" instead of the field's.
    """
    returns = parse_type(call.declaration.returns)
    hollow = returns.hollow()
    return None if hollow is None else canonical_text(returns, hollow)


def _castable(call: Call, answers: pa.Array) -> pa.Array:
    """Return the texts that DuckDB casts to the type of the call."""
    if call.embeds:
        return as_digits(answers.to_pylist())
    return answers


def _flat(column: Texts) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _spread(column: pa.Array, rows: int) -> pa.Array:
    """DuckDB passes a constant as one row."""
    if len(column) == rows or len(column) != 1:
        return column
    return pa.repeat(column[0], rows)
