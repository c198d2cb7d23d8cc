"""Frames between the extension and its engine: u32 length, u8 kind, payload.

Numbers are in the machine's own order: both sides run on it.
"""

from __future__ import annotations

import socket
import struct

PROTOCOL_VERSION = 1
MOST_PAYLOAD = 1 << 30
"""Bytes; neither side takes more."""

HELLO = b"H"
CALL = b"C"
BIND = b"B"
RUN = b"X"
OK = b"O"
REMEMBER = b"M"
VALUES = b"V"
ERROR = b"E"
QUERY = b"Q"
COLUMNS = b"D"
ROWS = b"R"
END = b"F"
"""What kinds of frames mean is told in duckdb_extension/src/engine.h."""

_HEAD = struct.Struct("=Ic")
_U32 = struct.Struct("=I")


class Closed(Exception):
    """The other side has closed the connection, or what it sends is no frame."""


class TooLong(ValueError):
    """A frame would be longer than the other side takes."""


class Reader:
    """Takes a payload apart, from its beginning."""

    def __init__(self, payload: bytes) -> None:
        self._payload = memoryview(payload)
        self._at = 0

    def take(self, count: int) -> memoryview:
        """Return the next bytes. Raises `ValueError` when there are fewer."""
        end = self._at + count
        if end > len(self._payload):
            raise ValueError("a frame is shorter than it says")
        taken = self._payload[self._at : end]
        self._at = end
        return taken

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Return the next number of four bytes."""
        [number] = _U32.unpack(self.take(4))
        assert isinstance(number, int)
        return number

    def text(self) -> str:
        """Return the next text."""
        return str(self.take(self.u32()), "utf-8")


def u32(number: int) -> bytes:
    """Write a number of four bytes."""
    return _U32.pack(number)


def text(value: str) -> bytes:
    """Write a text; a NUL byte, which C would take for its end, becomes a space."""
    encoded = value.replace("\0", " ").encode("utf-8", "replace")
    return u32(len(encoded)) + encoded


def send(connection: socket.socket, kind: bytes, payload: bytes = b"") -> None:
    """Send a frame. Raises `Closed`, and `TooLong`."""
    if len(payload) > MOST_PAYLOAD:
        raise TooLong(
            f"a message of {len(payload)} bytes is more than DuckDB's shell takes from us, "
            f"{MOST_PAYLOAD}: select fewer or shorter values"
        )
    try:
        connection.sendall(_HEAD.pack(len(payload), kind))
        connection.sendall(payload)
    except OSError as error:
        raise Closed from error


def receive(connection: socket.socket) -> tuple[bytes, Reader]:
    """Wait for a frame. Raises `Closed`."""
    length, kind = _HEAD.unpack(_exactly(connection, _HEAD.size))
    if length > MOST_PAYLOAD:
        raise Closed
    return kind, Reader(_exactly(connection, length))


def _exactly(connection: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        try:
            got = connection.recv_into(view)
        except OSError as error:
            raise Closed from error
        if not got:
            raise Closed
        view = view[got:]
    return bytes(buffer)
