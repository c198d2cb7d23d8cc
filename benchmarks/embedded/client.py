"""What the client costs on the embedded model: job time of a statement, less the model's own.

The model has one slot, so its calls follow one another: what they take together, measured around
llama.cpp itself, is the model's part of the job. The rest is ours: DuckDB, planning, the order of
rows, dispatch, prompts and answers.

    python -m benchmarks.embedded.client --data DIR_WITH_SST2
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import quackllm
from quackllm.engine.providers.config import ProviderConfig
from quackllm.engine.providers.embedded import open_embedded

STATEMENTS = {
    "filter": "LLM_FILTER('Is this review positive?', sentence)",
    "classify": "LLM_CLASSIFY(sentence, ['POSITIVE', 'NEGATIVE'])",
    "score": "LLM_SCORE('How positive is this review?', sentence)",
    "extract": "LLM_EXTRACT(sentence, {'praised': 'BOOLEAN'})",
}


class Timed:
    """A llama.cpp server that counts the seconds in which it works. `calls`: how many it had."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.seconds = 0.0
        self.calls = 0

    def handle_chat_completions(self, body: dict[str, Any]) -> Any:
        """Answer as the server does."""
        began = time.perf_counter()
        try:
            return self._server.handle_chat_completions(body)
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
    provider: Any = asyncio.run(open_embedded(ProviderConfig(), threads=chosen.threads))
    timed = provider._server = Timed(provider._server)
    print(f"{'statement':10} {'calls':>6} {'job s':>8} {'model s':>8} {'client s':>9} {'share':>6}")
    with quackllm.connect(provider=provider, progress=False, cache=False) as con:
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
                f"{client / job:6.1%}"
            )
    asyncio.run(provider.aclose())


if __name__ == "__main__":
    main()
