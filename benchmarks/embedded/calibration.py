"""Accuracy of the embedded model on labels: generated under a grammar, and calibrated.

python -m benchmarks.embedded.calibration --data DIR_WITH_THE_TABLES
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.embedded.rows import TASKS, requests
from quackllm.engine.dispatch import dispatch
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.embedded import open_embedded
from quackllm.engine.traffic.endpoint import Endpoint

if TYPE_CHECKING:
    from quackllm.engine.dispatch import Outcome
    from quackllm.engine.providers.base import Provider, Request


def answers(provider: Provider, asked: list[Request]) -> list[str]:
    """Return the answers in the order of the requests."""
    found: dict[int, str] = {}

    def deliver(index: int, outcome: Outcome) -> None:
        assert outcome.answer is not None, outcome.error
        found[index] = outcome.answer

    asyncio.run(dispatch(provider, enumerate(asked), endpoint=Endpoint(1), deliver=deliver))
    return [found[index] for index in range(len(asked))]


def main() -> None:
    """Ask both ways and print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--data", type=Path, required=True, help="folder with the tables")
    options.add_argument("--rows", type=int, default=200)
    options.add_argument("--threads", type=int, default=2, help="threads of llama.cpp")
    options.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options.add_argument("--model", help="path of a GGUF file; the packaged model without")
    chosen = options.parse_args()
    config = ProviderConfig(model=chosen.model)
    provider = asyncio.run(open_embedded(config, threads=chosen.threads))
    print(f"{'task':8} {'way':11} {'accuracy':>8} {'seconds':>8}  answers")
    for name in chosen.tasks:
        task = TASKS[name]
        sample = requests(task, chosen.data, chosen.rows)
        right = [label for _, label in sample]
        calibrated = [request for request, _ in sample]
        generated = [replace(request, neutral=None) for request in calibrated]
        for way, asked in (("generated", generated), ("calibrated", calibrated)):
            began = time.perf_counter()
            said = answers(provider, asked)
            seconds = time.perf_counter() - began
            hits = sum(answer == label for answer, label in zip(said, right, strict=True))
            counts = ", ".join(f"{label} {count}" for label, count in Counter(said).most_common())
            print(f"{name:8} {way:11} {hits / len(right):8.3f} {seconds:8.1f}  {counts}")
        print(f"{name:8} {'truth':11} {'':8} {'':8}  {dict(Counter(right).most_common())}")
    asyncio.run(provider.aclose())


if __name__ == "__main__":
    main()
