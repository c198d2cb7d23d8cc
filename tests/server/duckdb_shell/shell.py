"""What the extension does, in Python: a shell with tables that talks to an engine in frames."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from quackllm.server.duckdb_shell import frames, vectors
from quackllm.server.duckdb_shell.frames import Reader
from quackllm.server.duckdb_shell.server import Server


class EngineError(Exception):
    """An ERROR frame."""


@contextmanager
def engine(folder: Path) -> Iterator[Path]:
    """An engine that listens at a socket; it ends when the last shell has gone."""
    path = folder / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        server = Server(listening, linger=0.2)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        with connect(path):
            yield path
        thread.join(20)
        assert not thread.is_alive()
        server.close()


def connect(path: Path) -> socket.socket:
    """A connection that has not said anything; gives up rather than hangs."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(30)
    connection.connect(str(path))
    return connection


class Shell:
    """A DuckDB of its own, and one connection to the engine."""

    def __init__(self, path: Path, remembered: Sequence[str] = ()) -> None:
        self.duckdb = duckdb.connect()
        self.remembered = list(remembered)
        self.socket = connect(path)
        hello = bytes([frames.PROTOCOL_VERSION]) + frames.text(uuid.uuid4().hex) + frames.text("/")
        hello += frames.u32(len(remembered)) + b"".join(map(frames.text, remembered))
        self.request(frames.HELLO, hello)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.duckdb.close()

    def request(self, kind: bytes, payload: bytes) -> tuple[bytes, Reader]:
        """Send a request; return the answer, after what the engine asks meanwhile."""
        frames.send(self.socket, kind, payload)
        return self.receive()

    def receive(self) -> tuple[bytes, Reader]:
        while True:
            kind, reader = frames.receive(self.socket)
            if kind == frames.ERROR:
                raise EngineError(reader.text())
            if kind == frames.REMEMBER:
                self.remembered.append(reader.text())
            elif kind == frames.QUERY:
                self._answer(reader.text())
            else:
                return kind, reader

    def call(self, function: str, arguments: str, source: str = "") -> list[Any]:
        """Call a function on rows of the shell's, as many as a vector has at most."""
        relation = self.duckdb.sql(f"SELECT {arguments} {source}")
        types = [vectors.type_of(each) for each in relation.types]
        rows = relation.to_arrow_table().combine_chunks()
        payload = frames.text(function) + frames.u32(len(types))
        payload += b"".join(frames.text("") + each.header() for each in types)
        payload += frames.u32(len(rows))
        for type_, column in zip(types, rows.columns, strict=True):
            payload += type_.write(column.combine_chunks())
        kind, reader = self.request(frames.CALL, payload)
        assert kind == frames.VALUES
        found = vectors.VARCHAR.read(reader, len(rows)).to_pylist()
        assert isinstance(found, list)
        return found

    def describe(self, sql: str) -> list[tuple[str, str]]:
        kind, reader = self.request(frames.BIND, frames.text(sql))
        assert kind == frames.COLUMNS
        return [(name, type_.sql) for name, type_ in _columns(reader)]

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement that the engine plans."""
        _, reader = self.request(frames.BIND, frames.text(sql))
        types = [type_ for _, type_ in _columns(reader)]
        kind, reader = self.request(frames.RUN, frames.text(sql))
        rows: list[tuple[Any, ...]] = []
        while kind == frames.ROWS:
            count = reader.u32()
            assert count <= 2048
            columns = [type_.read(reader, count).to_pylist() for type_ in types]
            rows += zip(*columns, strict=True)
            kind, reader = self.receive()
        assert kind == frames.END
        return rows

    def _answer(self, sql: str) -> None:
        try:
            relation = self.duckdb.sql(sql)
            types = [vectors.type_of(each) for each in relation.types]
            rows = relation.to_arrow_table()
        except duckdb.Error as error:
            frames.send(self.socket, frames.ERROR, frames.text(str(error)))
            return
        pairs = zip(relation.columns, types, strict=True)
        head = frames.u32(len(types)) + b"".join(frames.text(n) + t.header() for n, t in pairs)
        frames.send(self.socket, frames.COLUMNS, head)
        for batch in rows.to_batches(max_chunksize=2048):
            columns = zip(types, batch.columns, strict=True)
            body = b"".join(type_.write(_plain(array)) for type_, array in columns)
            frames.send(self.socket, frames.ROWS, frames.u32(batch.num_rows) + body)
        frames.send(self.socket, frames.END)


def _plain(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _columns(reader: Reader) -> list[tuple[str, vectors.Type]]:
    return [(reader.text(), vectors.read_type(reader)) for _ in range(reader.u32())]
