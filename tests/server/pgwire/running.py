"""A server in a thread of its own, over the fake provider, and a client of raw bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.loop import LoopThread
from quackllm.server.pgwire.server import Configuration, Server
from quackllm.testing import FakeProvider

TABLES = """
CREATE TABLE movies (id INTEGER PRIMARY KEY, title VARCHAR NOT NULL, synopsis VARCHAR,
    price DECIMAL(10, 2) DEFAULT 1.5, released DATE, tags VARCHAR[]);
INSERT INTO movies SELECT i, 'Movie ' || i, CASE WHEN i % 7 = 0 THEN NULL
    ELSE 'A story about ' || ['ducks', 'trains', 'love'][i % 3 + 1] END, i / 4,
    DATE '2020-01-01' + i::INTEGER, ['t' || i, NULL] FROM range(20) r(i);
CREATE TABLE reviews (id INTEGER PRIMARY KEY, movie_id INTEGER REFERENCES movies (id),
    body VARCHAR, stars INTEGER CHECK (stars BETWEEN 0 AND 5));
INSERT INTO reviews SELECT i, i % 20, 'Review text ' || i % 23, i % 6 FROM range(60) r(i);
CREATE INDEX reviews_of_movie ON reviews (movie_id);
CREATE VIEW cheap AS SELECT id, title FROM movies WHERE price < 2;
COMMENT ON TABLE movies IS 'films';
"""


@dataclass
class Running:
    """A server that runs: its port, its fake model and the first connection."""

    port: int
    fake: FakeProvider
    connection: Connection
    server: Server

    @property
    def dsn(self) -> str:
        """For libpq and its relatives."""
        return f"postgresql://tester@127.0.0.1:{self.port}/shop"


@contextmanager
def running(
    configuration: Mapping[str, Any] | None = None,
    fake: FakeProvider | None = None,
    tables: str = TABLES,
    **settings: Any,
) -> Iterator[Running]:
    """Serve a database called shop, and an empty one called other.

    settings: of the connection to shop; with a base_url its server answers, not the fake.
    """
    provider = fake or FakeProvider()
    answering: dict[str, Any] = {} if "base_url" in settings else {"provider": provider}
    loop = LoopThread()
    options = {"python_enable_replacements": "false"}
    with (
        quackllm.connect(config=options, progress=False, **answering, **settings) as shop,
        quackllm.connect(config=options, provider=provider, progress=False) as other,
    ):
        shop.execute(tables)
        server = Server(
            {"shop": shop, "other": other}, Configuration(port=0, **(configuration or {}))
        )
        loop.run(server.start())
        try:
            yield Running(server.port, provider, shop, server)
        finally:
            loop.run(server.close())
            loop.close()


class Wire:
    """A client that sends bytes as it likes and reads messages as (type, body)."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def message(self, kind: bytes, body: bytes = b"") -> None:
        """Send a well-framed message."""
        self.send(kind + struct.pack("!i", len(body) + 4) + body)

    def query(self, sql: str) -> list[tuple[bytes, bytes]]:
        """Send a simple query; return the answers up to ReadyForQuery."""
        self.message(b"Q", sql.encode() + b"\0")
        return self.answers()

    def start(self, **parameters: str) -> list[tuple[bytes, bytes]]:
        """Log in; return the answers up to ReadyForQuery or an error."""
        self.open(**parameters)
        return self.answers()

    def open(self, **parameters: str) -> None:
        """Send a startup packet."""
        given = {"user": "tester", "database": "shop", **parameters}
        pairs = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in given.items())
        body = struct.pack("!i", 196608) + pairs + b"\0"
        self.send(struct.pack("!i", len(body) + 4) + body)

    def answers(self) -> list[tuple[bytes, bytes]]:
        """Return messages up to ReadyForQuery, or up to the end of the stream."""
        found = []
        while (one := self.answer()) is not None:
            found.append(one)
            if one[0] == b"Z":
                break
        return found

    def answer(self) -> tuple[bytes, bytes] | None:
        """Return the next message, None at the end of the stream."""
        head = self._take(5)
        if head is None:
            return None
        body = self._take(struct.unpack("!i", head[1:])[0] - 4)
        return None if body is None else (head[:1], body)

    def _take(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer += data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken


def error_fields(body: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse or NoticeResponse."""
    parts = body.rstrip(b"\0").split(b"\0")
    return {part[:1].decode(): part[1:].decode() for part in parts}


def kinds(answers: list[tuple[bytes, bytes]]) -> str:
    """Return the types of messages in a row."""
    return b"".join(kind for kind, _ in answers).decode()
