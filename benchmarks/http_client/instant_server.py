"""Run the fake model server in a process of its own; print its address; end with stdin."""

from __future__ import annotations

import sys

from quackllm.testing import FakeServer


def main() -> None:
    """Serve until standard input is closed."""
    with FakeServer(flavor="vllm", answer=lambda _: "yes", keep=0) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
