"""Prompt tokens per second: our provider through dispatch against xllamacpp itself.

Both send the same prompts with the same grammar to servers of the same parameters,
in the same order, as many at a time as there are slots. Rounds alternate; medians.

    python -m benchmarks.embedded.throughput --data DIR_WITH_SST2
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xllamacpp

from benchmarks.embedded.rows import TASKS, requests
from quackllm.engine.dispatch import dispatch
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.constraints import ServerKind, constraint
from quackllm.engine.providers.embedded import model_path, open_embedded
from quackllm.engine.providers.prompts import chat_messages
from quackllm.engine.traffic.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from quackllm.engine.dispatch import Outcome
    from quackllm.engine.providers.base import Request

    Drive = Callable[[], int]


def direct(asked: list[Request], slots: int, threads: int) -> Drive:
    """Drive xllamacpp's server from a plain pool of threads."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_path(None))
    parameters.n_parallel = slots
    parameters.n_ctx = 4096 * slots
    parameters.verbosity = -1
    parameters.warmup = False
    parameters.cache_ram_mib = 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(parameters)
    bodies = [
        {
            "messages": chat_messages(request),
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            **constraint(request.answer, ServerKind.LLAMA_CPP).body,
        }
        for request in asked
    ]

    def one(body: dict[str, Any]) -> int:
        completion = server.handle_chat_completions(body)
        return int(completion["usage"]["prompt_tokens"])

    def drive() -> int:
        with ThreadPoolExecutor(slots) as pool:
            return sum(pool.map(one, bodies))

    return drive


def ours(asked: list[Request], slots: int, threads: int) -> Drive:
    """Drive the provider through dispatch."""
    config = ProviderConfig(concurrency=slots)
    provider = asyncio.run(open_embedded(config, threads=threads))

    def drive() -> int:
        tokens: list[int] = []

        def deliver(_: int, outcome: Outcome) -> None:
            assert outcome.answer is not None, outcome.error
            tokens.append(outcome.usage.prompt_tokens)

        asyncio.run(dispatch(provider, enumerate(asked), endpoint=Endpoint(slots), deliver=deliver))
        return sum(tokens)

    return drive


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True, help="folder with sst2.parquet")
    options.add_argument("--rows", type=int, default=60)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--slots", type=int, nargs="+", default=[1])
    options.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
    chosen = options.parse_args()
    # Without a neutral row the provider generates, as the direct calls do.
    asked = [
        replace(request, neutral=None)
        for request, _ in requests(TASKS["sst2"], chosen.data, chosen.rows)
    ]
    print(f"{'slots':>5} {'way':22} {'prompt tokens/s':>16} {'calls/s':>8} {'ratio':>6}")
    for slots in chosen.slots:
        ways = {
            "xllamacpp itself": direct(asked, slots, chosen.threads),
            "provider and dispatch": ours(asked, slots, chosen.threads),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(chosen.rounds + 1):
            for name, drive in ways.items():
                began = time.perf_counter()
                tokens = drive()
                if turn:  # the first round fills the caches
                    rates[name].append(tokens / (time.perf_counter() - began))
        base = statistics.median(rates["xllamacpp itself"])
        for name, each in rates.items():
            rate = statistics.median(each)
            calls = rate * len(asked) / tokens
            print(f"{slots:5} {name:22} {rate:16.0f} {calls:8.1f} {rate / base:6.2f}")


if __name__ == "__main__":
    main()
