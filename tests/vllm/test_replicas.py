"""Several addresses before a real vLLM: prefix groups stay together, nothing is computed twice.

One server plays two: what stands before it adds a `cache_salt` of its own to each request, and
vLLM shares no computed prefix between salts.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

import quackllm
from tests.vllm.conftest import last

pytestmark = pytest.mark.vllm

# Groups of four are never split to balance the work.
FILMS, ROWS = 12, 48
TABLE = f"""
CREATE TABLE reviews AS
SELECT i, 'Film ' || (i * 7 % {FILMS}) || repeat(' is a long story of love and of ducks', 10)
    AS synopsis, 'review number ' || i AS review
FROM range({ROWS}) r(i)
"""
STATEMENT = "SELECT i, LLM_FILTER('good?', synopsis, review) FROM reviews ORDER BY i"


class Forwarding(ThreadingHTTPServer):
    """Sends what it gets to a server, with a salt for its prefix cache. `calls` counts them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, root: str, salt: str) -> None:
        super().__init__(("127.0.0.1", 0), Forwarder)
        self.salt, self.calls = salt, 0
        self.client = httpx.Client(base_url=root, timeout=120, trust_env=False)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Forwarder(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Forwarding

    def do_GET(self) -> None:
        self._give(self.server.client.get(self.path))

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/chat/completions":
            self.server.calls += 1
            body["cache_salt"] = self.server.salt
        self._give(self.server.client.post(self.path, json=body))

    def _give(self, said: httpx.Response) -> None:
        self.send_response(said.status_code)
        self.send_header("content-type", said.headers["content-type"])
        self.send_header("content-length", str(len(said.content)))
        self.end_headers()
        self.wfile.write(said.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def forwarding(root: str, salt: str) -> Iterator[Forwarding]:
    with Forwarding(root, salt) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def run(url: str, count: int) -> tuple[list[Any], dict[str, Any], list[int]]:
    """Return rows, cost, and calls of each address, of so many servers whose caches are empty."""
    with ExitStack() as stack:
        root = url.removesuffix("/v1")
        fresh = uuid.uuid4().hex
        servers = [stack.enter_context(forwarding(root, f"{fresh}-{n}")) for n in range(count)]
        addresses = ", ".join(server.base_url for server in servers)
        con = stack.enter_context(
            quackllm.connect(
                base_url=addresses, concurrency=8, calibrate=False, progress=False, cache=False
            )
        )
        con.execute(TABLE)
        rows = con.execute(STATEMENT).fetchall()
        return rows, last(con), [server.calls for server in servers]


def test_two_servers_reuse_what_one_does(vllm_url: str) -> None:
    rows, one, _ = run(vllm_url, 1)
    shared, two, calls = run(vllm_url, 2)
    assert (one["calls"], two["calls"]) == (ROWS, ROWS)
    assert one["prompt_tokens"] == two["prompt_tokens"]
    assert min(calls) >= ROWS / 4, "both of them work"
    assert two["cached_tokens"] >= 0.95 * one["cached_tokens"] > 0.5 * one["prompt_tokens"]
    # Batches of another size round differently: near ties may turn.
    assert sum(a == b for a, b in zip(rows, shared, strict=True)) >= 0.9 * ROWS


def test_rows_sent_by_turns_would_be_computed_twice(vllm_url: str) -> None:
    """What the other test would see if groups did not stay together."""
    root, fresh = vllm_url.removesuffix("/v1"), uuid.uuid4().hex
    with forwarding(root, f"{fresh}-0") as a, forwarding(root, f"{fresh}-1") as b:
        cached = 0
        for part, server in enumerate((a, b)):
            with quackllm.connect(
                base_url=server.base_url, calibrate=False, progress=False, cache=False
            ) as con:
                con.execute(TABLE)
                con.execute(f"DELETE FROM reviews WHERE (i // {FILMS}) % 2 = {part}")
                con.execute(STATEMENT)
                cached += last(con)["cached_tokens"]
    _, together, _ = run(vllm_url, 2)
    assert cached < 0.95 * together["cached_tokens"]
