"""Filters on vLLM whose shared beginnings are filled up to a whole block of the prefix cache.

    make vllm
    python -m benchmarks.prompts.blocks [--only WORD] [--share 1.0] [--url URL]

vLLM reuses whole blocks only, so of what rows share the last, unfinished block is computed for
each of them. White space between two fields of the JSON, as many tokens as the block lacks,
would spare that, where more rows follow than it costs; the server's own tokenizer counts it.
*as sent*: the requests of quackllm, in its order. *filled*: the same, filled up wherever two or
more rows part behind a shared field. *filled in front*: behind the instruction as well. Right:
share of the rows that were decided as the truth has it. The cache is emptied before each run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile

import duckdb
import pyarrow as pa

import quackllm
from benchmarks.llm_sql.queries import QUERIES, Query
from benchmarks.llm_sql.report import accuracy, empty_cache, ready_server, table_of
from benchmarks.llm_sql.variants import Measured
from quackllm.engine.providers.base import Capabilities, Reply, Request, Usage
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.openai_compatible import OpenAICompatible, open_openai_compatible

WAYS = ("as sent", "filled", "filled in front")
FILLER = "\n "
"""One token each, in a row of them, of the GPT-2 family of tokenizers."""
IN_FLIGHT = 64
_VALUE = re.compile(r'("(?:[^"\\]|\\.)*"):("(?:[^"\\]|\\.)*"|\[.*?\]|[^,{}\[\]"]+)[,}]')

Members = tuple[str, ...]
"""The parts `"name":value` of a row, in the order in which it is sent."""


class Recorder:
    """A provider that keeps the requests and answers yes, with the abilities of another one."""

    def __init__(self, config: ProviderConfig, other: OpenAICompatible) -> None:
        self.requests: list[Request] = []
        self.model, self.endpoint = other.model, "recorder"
        self.capabilities: Capabilities = other.capabilities
        self._config = config
        # Another one, for the event loop of the connection that asks.
        self._tokenizer: OpenAICompatible | None = None
        self._opening = asyncio.Lock()

    async def tokenize(self, request: Request) -> Sequence[int] | None:
        """Return the tokens that the server tells."""
        async with self._opening:
            if self._tokenizer is None:
                self._tokenizer = await open_openai_compatible(self._config)
        return await self._tokenizer.tokenize(request)

    async def complete(self, request: Request) -> Reply:
        """Keep a request, and say yes to it."""
        self.requests.append(request)
        return Reply("true")

    async def aclose(self) -> None:
        """Close what tokenizes."""
        if self._tokenizer is not None:
            await self._tokenizer.aclose()


def recorded(
    query: Query, table: pa.Table, config: ProviderConfig, other: OpenAICompatible
) -> list[Request]:
    """Return what quackllm sends for a query, in its order."""
    recorder = Recorder(config, other)
    with quackllm.connect(provider=recorder, progress=False, cache=False) as con:
        con.register("t", table)
        con.execute(query.statement.format(*(ask.sql() for ask in query.asks))).fetchall()
        con.llm_engine.loop.run(recorder.aclose())
    return recorder.requests


def members_of(fields: str) -> Members:
    """Return the parts of a row. Raises ValueError for a row with nested values."""
    members = tuple(f"{name}:{value}" for name, value in _VALUE.findall(fields))
    if "{" + ",".join(members) + "}" != fields:
        raise ValueError(f"not a flat row: {fields[:200]}")
    return members


class Filling:
    """Finds out how much white space stands where in the rows of one call."""

    def __init__(self, provider: OpenAICompatible, request: Request, block: int) -> None:
        self._provider = provider
        self._request = request
        self._block = block
        self.tokenized = 0

    async def filled(
        self, rows: Sequence[Members], depth: int = 0, *, in_front: bool
    ) -> list[Members]:
        """Return rows that begin with the same `depth` members, in order, filled up behind them.

        in_front: whether there may be white space before the first member.
        """
        parts = [list(part) for _, part in groupby(rows, key=lambda row: row[: depth + 1])]
        if len(parts) > 1 and (depth > 0 or in_front):
            lacking = await self._lacking(parts, depth)
            parts = [[_with_filler(row, depth, lacking) for row in part] for part in parts]
        found: list[Members] = []
        for part in parts:
            deeper = len(part) > 1 and depth + 1 < len(part[0])
            found += await self.filled(part, depth + 1, in_front=in_front) if deeper else part
        return found

    async def _lacking(self, parts: Sequence[Sequence[Members]], depth: int) -> int:
        """Return how many tokens fill the last block of what the parts share, 0 if none pays."""
        used = await self._shared(parts[0][0][:depth], parts, 0) % self._block
        if (len(parts) - 1) * used <= self._block - used:
            return 0
        return 1 + -await self._shared(parts[0][0][:depth], parts, 1) % self._block

    async def _shared(
        self, members: Members, parts: Sequence[Sequence[Members]], filler: int
    ) -> int:
        """Return how many tokens prompts with these members share, and the next one's name."""
        depth = len(members)
        names = {part[0][depth].partition(":")[0].lstrip() for part in parts}
        name = f"{names.pop()}:" if len(names) == 1 else '"'
        begin = "{" + "".join(f"{member}," for member in members) + FILLER * filler + name
        prompts = []
        for ending in ('"a"', '"b"'):
            shown = replace(self._request, fields=begin + ending + "}")
            prompts.append(await self._provider.tokenize(shown) or [])
            self.tokenized += 1
        pairs = zip(*prompts, strict=False)
        # The quotation mark is no part of it: what follows may be one token with it.
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) - 1


def _with_filler(row: Members, depth: int, tokens: int) -> Members:
    return (*row[:depth], FILLER * tokens + row[depth], *row[depth + 1 :])


@dataclass(frozen=True)
class Run:
    """One way of sending: how long it took, tokens as the server counts them, and answers."""

    seconds: float
    prompt_tokens: int
    cached_tokens: int
    answers: tuple[str, ...]


async def sent(provider: OpenAICompatible, requests: Sequence[Request]) -> Run:
    """Send requests in their order, so many at a time."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(request: Request) -> Reply:
        async with slots:
            return await provider.complete(request)

    started = time.monotonic()
    replies = await asyncio.gather(*(one(request) for request in requests))
    seconds = time.monotonic() - started
    usage = sum((reply.usage for reply in replies), Usage())
    answers = tuple(reply.text for reply in replies)
    return Run(seconds, usage.prompt_tokens, usage.cached_tokens or 0, answers)


async def measure(query: Query, url: str, model: str, share: float) -> list[str]:
    """Send the requests of a query in each way; return the rows of the table."""
    table = table_of(query, share)
    config = ProviderConfig(base_url=url, model=model)
    provider = await open_openai_compatible(config)
    requests = await asyncio.to_thread(recorded, query, table, config, provider)
    rows = [members_of(request.fields) for request in requests]
    lines: list[str] = []
    first: Run | None = None
    for way in WAYS:
        block = provider.capabilities.prefix_granularity or 16
        filling = Filling(provider, requests[0], block)
        started = time.monotonic()
        shown = rows
        if way != "as sent":
            shown = await filling.filled(rows, in_front=way == "filled in front")
        tokenizing = time.monotonic() - started
        asked = [
            replace(request, fields="{" + ",".join(row) + "}")
            for request, row in zip(requests, shown, strict=True)
        ]
        empty_cache(url)
        run = await sent(provider, asked)
        first = first or run
        agree = sum(a == b for a, b in zip(first.answers, run.answers, strict=True))
        computed = (run.prompt_tokens - run.cached_tokens) / len(asked)
        lines.append(
            f"| {query.name} | {way} | {len(asked)} | {run.prompt_tokens / len(asked):.0f} | "
            f"{computed:.0f} | {run.seconds:.1f} | {filling.tokenized} ({tokenizing:.1f} s) | "
            f"{_right(query, table, asked, run)} | {agree / len(asked):.2f} |"
        )
    await provider.aclose()
    return lines


def _right(query: Query, table: pa.Table, requests: Sequence[Request], run: Run) -> str:
    """Return the share of rows decided rightly, as it is printed."""
    [ask] = query.asks
    document = ", ".join(f"'{name.strip(chr(34))}': {name}" for name in ask.fields)
    with duckdb.connect() as con:
        con.register("t", table)
        shown = con.sql(f"SELECT id, to_json({{{document}}}) FROM t").fetchall()
    said = {
        _content(request.fields): answer
        for request, answer in zip(requests, run.answers, strict=True)
    }
    passed = [(id_,) for id_, fields in shown if said[_content(fields)] == "true"]
    share = accuracy(query, table, Measured(0, 0, 0, 0, 0, 0, 0, passed))
    return "" if share is None else f"{share:.2f}"


def _content(fields: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, json.dumps(value)) for name, value in json.loads(fields).items()))


def main() -> None:
    """Read the arguments; print the table in Markdown."""
    parser = argparse.ArgumentParser(description="Prompts filled up to whole blocks of the cache.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--only", default="", help="run the filters whose name has this in it")
    parser.add_argument("--share", type=float, default=1.0, help="part of the rows that is taken")
    given = parser.parse_args()
    model = ready_server(given.url)
    print(
        "| query | way | calls | tokens of a prompt | computed | job s | tokenized | right "
        "| as sent |\n|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for query in QUERIES:
        if len(query.asks) == 1 and "filter" in query.name and given.only in query.name:
            for line in asyncio.run(measure(query, given.url, model, given.share)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
