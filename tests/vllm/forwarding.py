"""What stands between a client and a real server, and changes what passes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

Body = dict[str, Any]

COMPLETIONS = "/v1/chat/completions"


def _unchanged(_: str, body: Body) -> Body:
    return body


class Forwarding(ThreadingHTTPServer):
    """Sends what it gets to the server at `root`, which may be another one from then on.

    asked, said: change the JSON of requests and of their replies, by path. closed: paths that
        it answers with 403. `calls` counts chat completions.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        root: str,
        *,
        asked: Callable[[str, Body], Body] = _unchanged,
        said: Callable[[str, Body], Body] = _unchanged,
        closed: tuple[str, ...] = (),
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Forwarder)
        self.root, self.asked, self.said, self.closed = root, asked, said, closed
        self.calls = 0
        self.connections: set[socket.socket] = set()
        self.client = httpx.Client(timeout=120, trust_env=False)

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def cut(self) -> None:
        """Cut every connection off."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


class _Forwarder(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Forwarding

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        if self.path in self.server.closed:
            self._give(403, "text/plain", b"closed")
            return
        said = self.server.client.get(self.server.root + self.path)
        self._forward(said)

    def do_POST(self) -> None:
        body: Body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == COMPLETIONS:
            self.server.calls += 1
        asked = self.server.asked(self.path, body)
        self._forward(self.server.client.post(self.server.root + self.path, json=asked))

    def _forward(self, said: httpx.Response) -> None:
        kind, content = said.headers.get("content-type", "text/plain"), said.content
        if said.is_success and kind.startswith("application/json"):
            content = json.dumps(self.server.said(self.path, said.json())).encode()
        self._give(said.status_code, kind, content)

    def _give(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def forwarding(root: str, **changes: Any) -> Iterator[Forwarding]:
    """Run one: `changes` are those of `Forwarding`. Connections end with it."""
    with Forwarding(root, **changes) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            server.cut()
            server.client.close()
