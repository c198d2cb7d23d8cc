"""Messages of the client: read from the stream, checked, as frozen values.

Protocol 3.0, https://www.postgresql.org/docs/current/protocol-message-formats.html
A message is refused by its length before memory is taken for it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from quackllm.server.pgwire.errors import SqlState, WireError

LONGEST_STARTUP = 10_000
"""Bytes of a packet before anybody has said who they are; as PostgreSQL has it."""

LONGEST_MESSAGE = 256 * 1024 * 1024
"""Bytes of any later message: statements, parameters, a piece of COPY data."""

PROTOCOL_3 = 196608
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class ProtocolViolation(WireError):
    """The bytes are not a message; the place in the stream is lost, the connection ends."""

    def __init__(self, message: str) -> None:
        super().__init__(SqlState.PROTOCOL_VIOLATION, message)


@dataclass(frozen=True)
class Startup:
    """Parameters that the client begins with; minor is that of the protocol it asks for."""

    parameters: dict[str, str]
    minor: int


@dataclass(frozen=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest: may the rest be encrypted?"""

    tls: bool


@dataclass(frozen=True)
class CancelRequest:
    """End what the session of that number does, if the secret is right."""

    pid: int
    secret: int


Opening: TypeAlias = Startup | EncryptionRequest | CancelRequest


@dataclass(frozen=True)
class Query:
    """One or several statements, to be run at once."""

    sql: str


@dataclass(frozen=True)
class Parse:
    """Prepare a statement; oids are of the parameters' types, 0 where not said."""

    name: str
    sql: str
    oids: tuple[int, ...]


@dataclass(frozen=True)
class Bind:
    """Give a prepared statement its values and the formats of its result (0 text, 1 binary)."""

    portal: str
    statement: str
    parameter_formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


@dataclass(frozen=True)
class Describe:
    """Ask for the shape of a statement ('S') or a portal ('P')."""

    kind: str
    name: str


@dataclass(frozen=True)
class Execute:
    """Run a portal; limit is the most rows wanted now, 0 for all."""

    portal: str
    limit: int


@dataclass(frozen=True)
class Close:
    """Forget a statement ('S') or a portal ('P')."""

    kind: str
    name: str


@dataclass(frozen=True)
class Sync:
    """End of a group of messages."""


@dataclass(frozen=True)
class Flush:
    """Send what there is."""


@dataclass(frozen=True)
class Terminate:
    """Goodbye."""


@dataclass(frozen=True)
class Password:
    """An answer to a question of the authentication."""

    data: bytes


@dataclass(frozen=True)
class CopyData:
    """A piece of a COPY stream."""

    data: bytes


@dataclass(frozen=True)
class CopyDone:
    """End of a COPY stream."""


@dataclass(frozen=True)
class CopyFail:
    """The client gives a COPY up."""

    reason: str


@dataclass(frozen=True)
class Malformed:
    """A whole message whose inside is wrong: refused, and the stream goes on after it."""

    reason: str


Message: TypeAlias = (
    Query | Parse | Bind | Describe | Execute | Close | Sync | Flush | Terminate | Password
    | CopyData | CopyDone | CopyFail | Malformed
)  # fmt: skip


async def read_opening(reader: asyncio.StreamReader) -> Opening | None:
    """Read a packet of a new connection; None when it ended. Raises `ProtocolViolation`."""
    try:
        length = struct.unpack("!i", await reader.readexactly(4))[0]
        if not 8 <= length <= LONGEST_STARTUP:
            raise ProtocolViolation("invalid length of startup packet")
        body = await reader.readexactly(length - 4)
    except asyncio.IncompleteReadError:
        return None
    code = struct.unpack_from("!i", body)[0]
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        return EncryptionRequest(code == SSL_REQUEST)
    if code == CANCEL_REQUEST:
        if len(body) != 12:
            raise ProtocolViolation("invalid length of cancel request")
        return CancelRequest(*struct.unpack("!ii", body[4:]))
    if code >> 16 != PROTOCOL_3 >> 16:
        raise WireError(
            SqlState.FEATURE_NOT_SUPPORTED,
            f"unsupported frontend protocol {code >> 16}.{code & 0xFFFF}: server supports 3.0",
        )
    return Startup(_startup_parameters(body[4:]), code & 0xFFFF)


def _startup_parameters(body: bytes) -> dict[str, str]:
    if not body.endswith(b"\0"):
        raise ProtocolViolation("startup packet is not terminated")
    parts = body[:-1].split(b"\0")
    if parts[-1] == b"":
        parts.pop()
    if len(parts) % 2:
        raise ProtocolViolation("startup packet names a parameter without a value")
    texts = [_text(part) for part in parts]
    return dict(zip(texts[::2], texts[1::2], strict=True))


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Read the next message; None at the end of the stream. Raises `ProtocolViolation`."""
    try:
        head = await reader.readexactly(5)
        length = int.from_bytes(head[1:], "big", signed=True) - 4
        if head[:1] not in _PARSERS:
            raise ProtocolViolation(f"invalid frontend message type {head[0]}")
        if not 0 <= length <= LONGEST_MESSAGE:
            raise ProtocolViolation(f"invalid message length {length + 4}")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        return _PARSERS[head[:1]](body)
    except (struct.error, ValueError, IndexError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeError) else "is cut off or wrong"
        return Malformed(f"message of type {head[:1].decode()!r} {reason}")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation("invalid byte sequence for encoding UTF8") from None


class _Body:
    """The inside of a message, taken piece by piece. Raises what `read_message` catches."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def text(self) -> str:
        end = self._data.index(b"\0", self._at)
        taken, self._at = self._data[self._at : end], end + 1
        return taken.decode()

    def kind(self) -> str:
        kind = self.piece(1).decode()
        if kind not in "SP":
            raise ValueError(kind)
        return kind

    def piece(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise ValueError("cut off")
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def number(self, code: str) -> int:
        size = struct.calcsize("!" + code)
        return int(struct.unpack("!" + code, self.piece(size))[0])

    def numbers(self, code: str) -> tuple[int, ...]:
        count = self.number("H")
        size = struct.calcsize("!" + code)
        return struct.unpack(f"!{count}{code}", self.piece(size * count))

    def value(self) -> bytes | None:
        length = self.number("i")
        return None if length == -1 else self.piece(length)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("longer than its parts")


def _query(data: bytes) -> Message:
    body = _Body(data)
    message = Query(body.text())
    body.end()
    return message


def _parse(data: bytes) -> Message:
    body = _Body(data)
    message = Parse(body.text(), body.text(), body.numbers("I"))
    body.end()
    return message


def _bind(data: bytes) -> Message:
    body = _Body(data)
    portal, statement, formats = body.text(), body.text(), body.numbers("h")
    values = tuple(body.value() for _ in range(body.number("H")))
    message = Bind(portal, statement, formats, values, body.numbers("h"))
    body.end()
    if set(message.parameter_formats) - {0, 1} or set(message.result_formats) - {0, 1}:
        raise ValueError("format")
    return message


def _describe(data: bytes) -> Message:
    body = _Body(data)
    message = Describe(body.kind(), body.text())
    body.end()
    return message


def _execute(data: bytes) -> Message:
    body = _Body(data)
    message = Execute(body.text(), max(body.number("i"), 0))
    body.end()
    return message


def _close(data: bytes) -> Message:
    body = _Body(data)
    message = Close(body.kind(), body.text())
    body.end()
    return message


_PARSERS: Mapping[bytes, Callable[[bytes], Message]] = {
    b"Q": _query,
    b"P": _parse,
    b"B": _bind,
    b"D": _describe,
    b"E": _execute,
    b"C": _close,
    b"F": lambda _: Malformed("function calls by oid are not supported; use SELECT"),
    b"S": lambda _: Sync(),
    b"H": lambda _: Flush(),
    b"X": lambda _: Terminate(),
    b"p": Password,
    b"d": CopyData,
    b"c": lambda _: CopyDone(),
    b"f": lambda data: CopyFail(_Body(data).text()),
}
