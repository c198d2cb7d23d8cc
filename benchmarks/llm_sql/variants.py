"""Four ways to run a statement with model calls on one server.

per row: a Python function in plain DuckDB, one request per row that waits for its answer,
    as published demonstrations of LLM functions in databases do it.
original: quackllm with rows and fields in the order of the table.
ggr: quackllm with the published greedy order (see `quackllm.kvcache_reorder.baselines`).
ours: quackllm.

All ask the same model in the same way: the same instruction, fields and form of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import duckdb
import pyarrow as pa

from benchmarks.llm_sql.queries import Ask, Query
from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.history import StageStats
from quackllm.engine.loop import LoopThread
from quackllm.engine.providers.base import Capabilities, Provider, Request, Usage
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.openai_compatible import open_openai_compatible
from quackllm.engine.sending_order import Orderer, SendingOrder, as_given, by_prefix
from quackllm.engine.settings import settings_from
from quackllm.engine.token_lengths import TokenLengths
from quackllm.errors import CallError
from quackllm.kvcache_reorder import Field, Server, order_fields
from quackllm.udfs.base import Binding, Call, Declaration
from quackllm.udfs.prompt import FIELD_TAIL, field_head, neutral_fields

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Measured:
    """One run. Tokens are counts as the server reported them; seconds are of the wall clock.

    client: processor seconds of this process, which asks and runs DuckDB.
    predicted: prompt tokens that the order was to find cached, in the server's tokens as far
        as the run itself tells how long one is; None where nothing predicts.
    """

    seconds: float
    client: float
    calls: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    failures: int
    rows: Rows
    predicted: int | None = None


@dataclass
class _Meter:
    calls: int = 0
    failures: int = 0
    usage: list[Usage] = field(default_factory=list)


class _Clock:
    """Seconds since it was made: of the wall clock, and of this process on a processor."""

    def __init__(self) -> None:
        self._wall, self._processor = time.monotonic(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self._wall, time.process_time() - self._processor


def declared(ask: Ask) -> Declaration:
    """Return the instruction, answer form and parser of a call, as the planner has them."""
    options = {option.name: option.default for option in ask.function.options} | dict(ask.options)
    names = tuple(name.strip('"') for name in ask.fields)
    return ask.function.declare(Binding({"prompt": ask.prompt}, options, names))


def per_row(query: Query, table: pa.Table, url: str, model: str) -> Measured:
    """Run the statement in plain DuckDB with a function that asks row by row."""
    meter = _Meter()
    loop = LoopThread()
    provider = loop.run(open_openai_compatible(ProviderConfig(base_url=url, model=model)))
    with duckdb.connect() as con:
        con.execute("SET enable_progress_bar = false")
        con.register("t", table)
        calls = []
        for number, ask in enumerate(query.asks):
            name, declaration = f"ask_{number}", declared(ask)
            cast(Any, con).create_function(
                name,
                _row_function(loop, provider, declaration, ask, meter),
                ["VARCHAR"],
                "VARCHAR",
                null_handling="special",
                side_effects=True,
            )
            document = ", ".join(f"'{n.strip(chr(34))}': {n}" for n in ask.fields)
            calls.append(f"{name}(to_json({{{document}}})::VARCHAR)::{declaration.returns}")
        statement = query.statement.format(*calls)
        clock = _Clock()
        rows = con.execute(statement).fetchall()
        took = clock.read()
    loop.run(provider.aclose())
    loop.close()
    return _measured(took, meter, rows)


def _row_function(
    loop: LoopThread, provider: Provider, declaration: Declaration, ask: Ask, meter: _Meter
) -> Callable[[str], str | None]:
    most = ask.options.get("max_tokens", declaration.max_tokens)
    names = tuple(name.strip('"') for name in ask.fields)

    def answer(fields: str) -> str | None:
        request = Request(
            declaration.instruction,
            fields,
            declaration.answer,
            0.0,
            most,
            neutral=neutral_fields(names),
        )
        meter.calls += 1
        try:
            reply = loop.run(provider.complete(request))
            meter.usage.append(reply.usage)
            return declaration.parse(reply.text)
        except CallError:
            meter.failures += 1
            return None

    return answer


def _measured(took: tuple[float, float], meter: _Meter, rows: Rows) -> Measured:
    return Measured(
        *took,
        meter.calls,
        sum(usage.prompt_tokens for usage in meter.usage),
        sum(usage.cached_tokens or 0 for usage in meter.usage),
        sum(usage.completion_tokens for usage in meter.usage),
        meter.failures,
        rows,
    )


def planned(query: Query, table: pa.Table, url: str, model: str, orderer: Orderer) -> Measured:
    """Run the statement through quackllm with an order of its own."""
    settings = settings_from({"base_url": url, "model": model, "progress": False})
    con = Connection(duckdb.connect(), Engine(orderer=orderer), settings)
    con.register("t", table)
    # The first question opens the connection to the server, which no statement is to pay.
    con.execute("SELECT LLM('Say yes', 1, max_tokens := 1)").fetchall()
    statement = query.statement.format(*(ask.sql() for ask in query.asks))
    clock = _Clock()
    rows = con.execute(statement).fetchall()
    took = clock.read()
    [cost] = (
        con.sql("FROM llm_queries() ORDER BY statement DESC LIMIT 1").to_arrow_table().to_pylist()
    )
    stages = con.llm_engine.history[-1].stages.values()
    predicted = sum(map(_predicted, stages)) if orderer is by_prefix else None
    con.close()
    return Measured(
        *took,
        cost["calls"],
        cost["prompt_tokens"],
        cost["cached_tokens"] or 0,
        cost["completion_tokens"],
        cost["failures"],
        rows,
        predicted,
    )


def _predicted(stage: StageStats) -> int:
    """Return what an order was to find cached, in tokens as long as those of the run."""
    if not stage.expected_tokens:
        return 0
    return round(stage.expected_reuse * stage.prompt_tokens / stage.expected_tokens)


def by_ggr(
    call: Call,
    columns: Sequence[pa.Array],
    capabilities: Capabilities,
    lengths: TokenLengths | None = None,
) -> SendingOrder:
    """Order rows and fields as the LLM-SQL paper does, for quackllm's dispatch."""
    if not columns or len(columns[0]) < 2:
        return as_given(call, columns, capabilities)
    fields = [
        Field(name, column, head=field_head(name), tail=FIELD_TAIL)
        for name, column in zip(call.fields, columns, strict=True)
    ]
    found = order_fields(fields, "blocks", server=Server(), algorithm="ggr")
    return SendingOrder(found.rows, found.fields)


ORDERERS: dict[str, Orderer] = {"original": as_given, "ggr": by_ggr, "ours": by_prefix}
VARIANTS = ("per row", *ORDERERS)


def run(variant: str, query: Query, table: pa.Table, url: str, model: str) -> Measured:
    """Run a query in one of the ways of `VARIANTS`."""
    if variant == "per row":
        return per_row(query, table, url, model)
    return planned(query, table, url, model, ORDERERS[variant])
