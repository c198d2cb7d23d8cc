"""Run the fake model server in a process of its own; print its address; end with stdin.

python -m benchmarks.http_client.instant_server [seconds that an answer takes]
"""

from __future__ import annotations

import sys

from quackllm.testing import FakeServer


def main() -> None:
    """Serve until standard input is closed."""
    latency = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    with FakeServer(flavor="vllm", answer=lambda _: "yes", keep=0, latency=latency) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
