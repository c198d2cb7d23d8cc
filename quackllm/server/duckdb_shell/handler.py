"""One connection of a shell: requests come in, answers go out, one at a time."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

import duckdb
import pyarrow as pa

from quackllm.errors import QuackLLMError
from quackllm.server.duckdb_shell import frames, vectors
from quackllm.server.duckdb_shell.arguments import Argument
from quackllm.server.duckdb_shell.frames import Reader
from quackllm.server.duckdb_shell.session import (
    SET_FUNCTION,
    Columns,
    OnInterrupt,
    Session,
    setting,
)
from quackllm.server.duckdb_shell.tables import ShellError

OPENING = re.compile(r"(Binder|Invalid Input|Interrupt|INTERRUPT) Error: ")
"""DuckDB puts the like before what a function raises; once is enough."""

Watch = Callable[[socket.socket, Callable[[], None]], AbstractContextManager[None]]
"""Calls a function when the other side of a socket hangs up while the context is open."""


class Handler:
    """Serves the requests of one connection, in the thread that calls `serve`."""

    def __init__(self, connection: socket.socket, session: Session, watch: Watch) -> None:
        self._socket = connection
        self._session = session
        self._watch = watch
        self._renderer: duckdb.DuckDBPyConnection | None = None
        self._interrupt: Callable[[], None] | None = None
        self._hung_up = False

    def serve(self) -> None:
        """Serve requests until the shell closes the connection. Raises `Closed` then."""
        try:
            while True:
                kind, payload = frames.receive(self._socket)
                self._interrupt = None
                with self._watch(self._socket, self._hang_up):
                    self._answer(kind, payload)
        finally:
            if self._renderer is not None:
                self._renderer.close()

    def _answer(self, kind: bytes, payload: Reader) -> None:
        try:
            if kind == frames.CALL:
                self._call(payload)
            elif kind == frames.BIND:
                columns = self._session.describe(payload.text(), self._ask)
                frames.send(self._socket, frames.COLUMNS, _columns(columns))
            elif kind == frames.RUN:
                self._run(payload.text())
            else:
                raise ValueError(f"no request is of kind {kind!r}")
        except (duckdb.Error, ShellError) as error:
            self._refuse(str(error))
        except (ValueError, OverflowError, RecursionError, pa.ArrowException) as error:
            self._refuse(f"quackllm: {type(error).__name__}: {error}")

    def _refuse(self, message: str) -> None:
        shown = OPENING.sub("", message, count=1) if OPENING.match(message) else message
        frames.send(self._socket, frames.ERROR, frames.text(shown))

    def _call(self, payload: Reader) -> None:
        name, count = payload.text(), payload.u32()
        types = []
        for _ in range(count):
            payload.text()  # columns of a call have no names
            types.append(vectors.read_type(payload))
        rows = payload.u32()
        arguments = [Argument(type_, type_.read(payload, rows)) for type_ in types]
        if name == SET_FUNCTION:
            answers = self._set(arguments)
        else:
            answers = self._session.call(
                self._own_renderer(), name, arguments, self._on_interrupt()
            )
        frames.send(self._socket, frames.VALUES, vectors.VARCHAR.write(answers))

    def _set(self, arguments: list[Argument]) -> pa.Array:
        if len(arguments) != 2:
            raise QuackLLMError("llm_set(name, value) takes two arguments")
        pairs = zip(*(argument.values.to_pylist() for argument in arguments), strict=True)
        shown = []
        for name, value in pairs:
            self._execute(setting(name, value))
            shown.append(name)
        return pa.array(shown, pa.string())

    def _execute(self, sql: str) -> None:
        """Run a statement that changes a setting, and have the shell remember it."""
        self._session.run(sql, self._ask, self._on_interrupt())
        frames.send(self._socket, frames.REMEMBER, frames.text(sql))

    def _run(self, sql: str) -> None:
        result = self._session.run(sql, self._ask, self._on_interrupt())
        if self._session.remembers(sql):
            frames.send(self._socket, frames.REMEMBER, frames.text(sql))
        for rows, columns in result.frames():
            parts = zip(result.columns, columns, strict=True)
            body = b"".join(type_.write(column) for (_, type_), column in parts)
            frames.send(self._socket, frames.ROWS, frames.u32(rows) + body)
        frames.send(self._socket, frames.END)

    def _ask(self, sql: str) -> pa.Table:
        """Run a query in the shell. Raises `ShellError`."""
        frames.send(self._socket, frames.QUERY, frames.text(sql))
        kind, payload = frames.receive(self._socket)
        if kind == frames.ERROR:
            raise ShellError(payload.text())
        if kind != frames.COLUMNS:
            raise ValueError(f"the shell answered a query by {kind!r}")
        columns = [(payload.text(), vectors.read_type(payload)) for _ in range(payload.u32())]
        schema = pa.schema([(name, type_.arrow) for name, type_ in columns])
        batches: list[pa.RecordBatch] = []
        while True:
            kind, payload = frames.receive(self._socket)
            if kind == frames.END:
                return pa.Table.from_batches(batches, schema)
            if kind != frames.ROWS:
                raise ValueError(f"the shell sent {kind!r} in the place of rows")
            rows = payload.u32()
            arrays = [type_.read(payload, rows) for _, type_ in columns]
            batches.append(pa.record_batch(arrays, schema=schema))

    def _own_renderer(self) -> duckdb.DuckDBPyConnection:
        if self._renderer is None:
            self._renderer = duckdb.connect(config={"threads": 1})
        return self._renderer

    def _on_interrupt(self) -> OnInterrupt:
        def keep(interrupt: Callable[[], None]) -> None:
            self._interrupt = interrupt
            if self._hung_up:
                interrupt()

        return keep

    def _hang_up(self) -> None:
        """End what runs: the shell is gone, or its user has cancelled the statement."""
        self._hung_up = True
        if self._interrupt is not None:
            self._interrupt()


def _columns(columns: Columns) -> bytes:
    parts = [frames.text(name) + type_.header() for name, type_ in columns]
    return frames.u32(len(parts)) + b"".join(parts)
