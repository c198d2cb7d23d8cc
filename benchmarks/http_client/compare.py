"""Calls per second of the OpenAI client, as it is and used more lightly.

The server is instant and runs in a process of its own, so what is measured is what a
client costs. Every way sends the same body on the same number of connections; rounds
alternate between the ways, and the table shows medians of one run.

    python -m benchmarks.http_client.compare
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import openai

from quackllm.engine.dispatch import dispatch
from quackllm.engine.providers.base import Request
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.openai_compatible import open_openai_compatible
from quackllm.engine.traffic.endpoint import Endpoint
from quackllm.udfs.base import Choice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Drive = Callable[[int], Awaitable[None]]

CONCURRENCY = 32
REQUEST = Request("Is it so? " * 20, '{"a": "text", "b": 2}', Choice(("yes", "no")), 0.0, 3)
MESSAGES: list[Any] = [
    {"role": "system", "content": REQUEST.instruction},
    {"role": "user", "content": REQUEST.fields},
]
CONSTRAINT = {"structured_outputs": {"choice": ["yes", "no"]}}
OPTIONS: dict[str, Any] = {"model": "fake-model", "temperature": 0.0, "max_tokens": 3}
BODY = {"messages": MESSAGES, **OPTIONS, **CONSTRAINT}


def workers(call: Callable[[], Awaitable[str]]) -> Drive:
    """Return a function that makes a number of calls, `CONCURRENCY` at a time."""

    async def drive(count: int) -> None:
        turns = iter(range(count))

        async def work() -> None:
            for _ in turns:
                assert await call() == "yes"

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    return drive


def text_of(completion: Any) -> str:
    """Return the text of a completion that is a dictionary."""
    return str(completion["choices"][0]["message"]["content"])


async def ways(url: str, stack: AsyncExitStack) -> dict[str, Drive]:
    """Return each way of calling the server, by name."""
    client = await stack.enter_async_context(openai.AsyncOpenAI(base_url=url, api_key="none"))
    plain = await stack.enter_async_context(httpx.AsyncClient())

    async def as_it_is() -> str:
        completion = await client.chat.completions.create(
            messages=MESSAGES, extra_body=CONSTRAINT, **OPTIONS
        )
        return str(completion.choices[0].message.content)

    async def raw_response() -> str:
        response = await client.chat.completions.with_raw_response.create(
            messages=MESSAGES, extra_body=CONSTRAINT, **OPTIONS
        )
        return text_of(json.loads(response.content))

    async def post() -> str:
        return text_of(await client.post("/chat/completions", cast_to=object, body=BODY))

    async def only_httpx() -> str:
        response = await plain.post(url + "/chat/completions", json=BODY)
        return text_of(response.json())

    found = {
        "openai, chat.completions.create": workers(as_it_is),
        "openai, with_raw_response + json": workers(raw_response),
        "openai, post(cast_to=object)": workers(post),
        "httpx alone, no retries": workers(only_httpx),
    }
    try:
        transport = openai.DefaultAioHttpClient()
    except RuntimeError:  # the extra openai[aiohttp] is not installed
        transport = None
    if transport is not None:
        over_aiohttp = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=url, api_key="none", http_client=transport)
        )

        async def post_over_aiohttp() -> str:
            completion = await over_aiohttp.post("/chat/completions", cast_to=object, body=BODY)
            return text_of(completion)

        found["openai[aiohttp], post(cast_to=object)"] = workers(post_over_aiohttp)
    found["quackllm, provider and dispatch"] = await ours(url, stack)
    return found


async def ours(url: str, stack: AsyncExitStack) -> Drive:
    """Return our own way: the provider, driven by dispatch."""
    provider = await open_openai_compatible(ProviderConfig(base_url=url, concurrency=CONCURRENCY))
    stack.push_async_callback(provider.aclose)

    async def drive(count: int) -> None:
        failures: list[int] = []
        await dispatch(
            provider,
            ((index, REQUEST) for index in range(count)),
            endpoint=Endpoint(CONCURRENCY),
            deliver=lambda index, outcome: failures.append(index) if outcome.error else None,
        )
        assert not failures

    return drive


async def measure(url: str, calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return calls per second and client CPU seconds per call, medians of the rounds."""
    async with AsyncExitStack() as stack:
        found = await ways(url, stack)
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        for drive in found.values():
            await drive(CONCURRENCY * 4)
        for _ in range(rounds):
            for name, drive in found.items():
                wall, cpu = time.perf_counter(), time.process_time()
                await drive(calls)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                results[name].append((calls / wall, cpu / calls))
    return {
        name: (statistics.median(rate for rate, _ in each), statistics.median(c for _, c in each))
        for name, each in results.items()
    }


def main() -> None:
    """Start the server, measure, print the table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    options.add_argument("--calls", type=int, default=1500, help="calls per round")
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http_client.instant_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        results = asyncio.run(measure(url, chosen.calls, chosen.rounds))
    finally:
        server.stdin.close()
        server.wait()
    base = results["openai, chat.completions.create"][0]
    print(f"{'way':40} {'calls/s':>8} {'ratio':>6} {'CPU µs/call':>12}")
    for name, (rate, cpu) in results.items():
        print(f"{name:40} {rate:8.0f} {rate / base:6.2f} {cpu * 1e6:12.0f}")


if __name__ == "__main__":
    main()
