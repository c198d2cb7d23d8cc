"""What the client costs on the embedded model: job time of a statement, less the model's own.

The model has one slot, so its calls follow one another: what they take together, measured around
llama.cpp itself, is the model's part of the job. The rest is ours: DuckDB, planning, the order of
rows, dispatch, prompts and answers.

    python -m benchmarks.embedded.client --data DIR_WITH_SST2
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import duckdb

from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Provider
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.embedded import open_embedded
from quackllm.engine.providers.registry import Providers
from quackllm.engine.settings import settings_from

STATEMENTS = {
    "filter": "LLM_FILTER('Is this review positive?', sentence)",
    "classify": "LLM_CLASSIFY(sentence, ['POSITIVE', 'NEGATIVE'])",
    "score": "LLM_SCORE('How positive is this review?', sentence)",
    "extract": "LLM_EXTRACT(sentence, {'praised': 'BOOLEAN'})",
}


class Timed:
    """A llama.cpp server that counts the seconds in which it works. `calls`: how many it had."""

    def __init__(self) -> None:
        self.server: Any = None
        self.seconds = 0.0
        self.calls = 0

    def over(self, server: Any) -> Timed:
        """Stand before a server."""
        self.server = server
        return self

    def handle_chat_completions(self, body: dict[str, Any]) -> Any:
        """Answer as the server does."""
        began = time.perf_counter()
        try:
            return self.server.handle_chat_completions(body)
        finally:
            self.seconds += time.perf_counter() - began
            self.calls += 1


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description="The client's part of a job's time.")
    options.add_argument("--data", type=Path, required=True, help="folder with sst2.parquet")
    options.add_argument("--rows", type=int, default=100)
    options.add_argument("--threads", type=int, default=None, help="threads of llama.cpp")
    chosen = options.parse_args()
    timed = Timed()

    async def opened(config: ProviderConfig) -> Provider:
        provider = await open_embedded(config, threads=chosen.threads)
        provider._llama.server = timed.over(provider._llama.server)
        return provider

    engine = Engine(providers=Providers({"embedded": lambda: opened}), environ={})
    settings = settings_from({"progress": False, "cache": False})
    print(f"{'statement':10} {'calls':>6} {'job s':>8} {'model s':>8} {'client s':>9} {'share':>6}")
    with Connection(duckdb.connect(), engine, settings) as con:
        file = chosen.data / "sst2.parquet"
        con.execute(f"CREATE TABLE reviews AS FROM '{file}' LIMIT {chosen.rows}")
        con.execute("SELECT LLM_FILTER('Is it a test?', 'x')").fetchall()  # has the model paged in
        for name, call in STATEMENTS.items():
            timed.seconds, timed.calls = 0.0, 0
            began = time.perf_counter()
            con.execute(f"SELECT {call} FROM reviews").fetchall()
            job = time.perf_counter() - began
            client = job - timed.seconds
            print(
                f"{name:10} {timed.calls:6} {job:8.2f} {timed.seconds:8.2f} {client:9.2f} "
                f"{client / job:6.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
