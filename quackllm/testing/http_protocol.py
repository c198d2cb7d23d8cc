"""As much of HTTP/1.1 as a fake model server needs, and the ways in which it goes wrong."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What to send back, and how.

    delay: seconds to wait before the first byte.
    drip: seconds over which the body is sent, in small pieces.
    ending: 'complete' sends all of it; 'hang' never sends anything; 'reset' sends
        half of the body and cuts the connection off.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    ending: Literal["complete", "hang", "reset"] = "complete"

    def head(self) -> bytes:
        """Return the status line and the headers."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"content-length: {len(self.body)}",
        ]
        headers = {"content-type": "application/json", **self.headers}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_PIECES = 10


class HttpProtocol(asyncio.Protocol):
    """One keep-alive connection; requests with a Content-Length, one after the other."""

    def __init__(
        self,
        handle: Callable[[HttpRequest], HttpResponse],
        connections: set[HttpProtocol],
        abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve a connection.

        connections: the set of those that are open. abandoned: called when a client
            leaves while it is owed a response.
        """
        self._handle = handle
        self._connections = connections
        self._abandoned = abandoned
        self._received = bytearray()
        self._waiting: asyncio.TimerHandle | None = None
        self._owes_response = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and what it waited for."""
        self._connections.discard(self)
        if self._waiting is not None:
            self._waiting.cancel()
        if self._owes_response:
            self._abandoned()

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        if not self._received[:1].isalpha():  # TLS, or anything else that is not HTTP
            self.abort()
            return
        while (request := self._next_request()) is not None:
            response = self._handle(request)
            self._owes_response = True
            if response.delay:
                self._later(response.delay, self._send, response)
            else:
                self._send(response)

    def abort(self) -> None:
        """Cut the connection off."""
        self._owes_response = False
        self._transport.abort()

    def _later(self, seconds: float, action: Callable[..., None], *args: object) -> None:
        self._waiting = asyncio.get_running_loop().call_later(seconds, action, *args)

    def _send(self, response: HttpResponse) -> None:
        if response.ending == "hang":
            return
        if response.drip:
            self._transport.write(response.head())
            self._send_pieces(response, 0)
            return
        self._owes_response = False
        if response.ending == "reset":
            self._transport.write(response.head() + response.body[: len(response.body) // 2])
            self._transport.close()
            return
        self._transport.write(response.head() + response.body)

    def _send_pieces(self, response: HttpResponse, sent: int) -> None:
        """Send the next piece of a body, and the others later."""
        size = len(response.body) // _PIECES + 1
        self._transport.write(response.body[sent : sent + size])
        if sent + size < len(response.body):
            self._later(response.drip / _PIECES, self._send_pieces, response, sent + size)
        else:
            self._owes_response = False

    def _next_request(self) -> HttpRequest | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        request_line, *lines = self._received[:end].decode("latin-1").split("\r\n")
        method, path, _ = request_line.split(" ", 2)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        start = end + 4
        length = int(headers.get("content-length", "0"))
        if len(self._received) < start + length:
            return None
        body = bytes(self._received[start : start + length])
        del self._received[: start + length]
        return HttpRequest(method, path, headers, body)
