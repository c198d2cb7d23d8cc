"""Run a fake model server that fails, in a process of its own; end with standard input.

Its first line of output is its address. Each further line of input is answered with a line
of JSON: calls so far, connections open, requests abandoned by the client.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from quackllm.engine.providers.base import Request
from quackllm.testing import FakeServer, every_fault


def truth(fields: str) -> bool:
    """Return the right answer to a row: whether its number is even."""
    return int(json.loads(fields)["n"]) % 2 == 0


def answer(request: Request) -> str:
    """Answer as a model that is always right."""
    return "true" if truth(request.fields) else "false"


def main() -> None:
    """Serve until standard input is closed."""
    options = argparse.ArgumentParser()
    options.add_argument("--rate", type=float, required=True)
    options.add_argument("--each", action="store_true")
    options.add_argument("--latency", type=float, required=True)
    options.add_argument("--seed", type=int, required=True)
    chosen = options.parse_args()
    faults = every_fault(chosen.rate) if chosen.rate else []
    if chosen.each:
        faults = [replace(fault, rate=chosen.rate) for fault in faults]
    with FakeServer(
        flavor="vllm",
        answer=answer,
        faults=faults,
        latency=chosen.latency,
        seed=chosen.seed,
        keep=0,
    ) as server:
        print(server.base_url, flush=True)
        for _ in sys.stdin:
            state = (server.calls, server.connections, server.abandoned)
            print(json.dumps(state), flush=True)


if __name__ == "__main__":
    main()
