"""`quackllm shell-engine`: the process that DuckDB shells with the extension talk to.

The extension starts it, with a socket that listens already; it ends when no shell has been
connected for a while. All shells of one user and one environment share it.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import duckdb

from quackllm.server.duckdb_shell import frames
from quackllm.server.duckdb_shell.frames import Closed
from quackllm.server.duckdb_shell.handler import Handler
from quackllm.server.duckdb_shell.session import Session
from quackllm.server.pgwire.faults import Faults

LISTENING_FD = 3
TICK_SECONDS = 0.25
FIRST_SHELL_SECONDS = 60.0


class HangUps:
    """Tells, while a request is worked on, when the shell has closed its connection."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}

    @contextmanager
    def watch(self, connection: socket.socket, call: Callable[[], None]) -> Iterator[None]:
        """Call a function, from another thread, when the other side hangs up."""
        number = connection.fileno()
        self._watched[number] = call
        self._poll.register(number, select.EPOLLRDHUP | select.EPOLLONESHOT)
        try:
            yield
        finally:
            self._poll.unregister(number)
            self._watched.pop(number, None)

    def wait(self, seconds: float) -> None:
        """Wait for hang-ups, at most so long, and tell of them."""
        for number, _ in self._poll.poll(seconds):
            call = self._watched.get(number)
            if call is not None:
                call()


@dataclass
class Guest:
    """A session and how many connections of its shell are open."""

    session: Session
    connections: int = 0


@dataclass
class Server:
    """Serves the shells that connect to a listening socket.

    linger: seconds without any shell after which it ends.
    """

    listening: socket.socket
    linger: float
    _guests: dict[str, Guest] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _hang_ups: HangUps = field(default_factory=HangUps)
    _faults: Faults = field(default_factory=Faults)
    _connections: int = 0

    def serve(self) -> None:
        """Serve until no shell is left."""
        threading.Thread(target=self._watch, name="hang-ups", daemon=True).start()
        patience = FIRST_SHELL_SECONDS
        while True:
            self.listening.settimeout(patience)
            try:
                connection, _ = self.listening.accept()
            except TimeoutError:
                if self._connections == 0:
                    return
                continue
            connection.settimeout(None)
            with self._guard:
                self._connections += 1
            patience = self.linger
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """End all sessions."""
        with self._guard:
            guests, self._guests = list(self._guests.values()), {}
        for guest in guests:
            guest.session.close()

    def _watch(self) -> None:
        while True:
            self._hang_ups.wait(TICK_SECONDS)
            with self._guard:
                guests = list(self._guests.values())
            for guest in guests:
                guest.session.tidy()

    def _attend(self, connection: socket.socket) -> None:
        """Serve one connection from greeting to end."""
        try:
            with connection, suppress(Closed):
                name, session = self._greet(connection)
                try:
                    Handler(connection, session, self._hang_ups.watch).serve()
                finally:
                    self._leave(name)
        except Exception as error:  # noqa: BLE001 - a fault in one must not end the others
            self._faults.note(error)
        finally:
            with self._guard:
                self._connections -= 1

    def _greet(self, connection: socket.socket) -> tuple[str, Session]:
        """Read the greeting; find the shell's session or begin it. Raises `Closed`."""
        kind, payload = frames.receive(connection)
        if kind != frames.HELLO or payload.u8() != frames.PROTOCOL_VERSION:
            told = "this extension and the quackllm that it found are of different versions"
            frames.send(connection, frames.ERROR, frames.text(told))
            raise Closed
        name, folder = payload.text(), payload.text()
        remembered = [payload.text() for _ in range(payload.u32())]
        try:
            session = self._enter(name, folder, remembered)
        except duckdb.Error as error:
            frames.send(connection, frames.ERROR, frames.text(str(error)))
            raise Closed from error
        frames.send(connection, frames.OK)
        return name, session

    def _enter(self, name: str, folder: str, remembered: Sequence[str]) -> Session:
        with self._guard:
            guest = self._guests.get(name)
            if guest is None:
                guest = self._guests[name] = Guest(Session(folder, remembered))
            guest.connections += 1
            return guest.session

    def _leave(self, name: str) -> None:
        """Give up a connection; the session ends with the last one."""
        with self._guard:
            guest = self._guests[name]
            guest.connections -= 1
            if guest.connections:
                return
            del self._guests[name]
        guest.session.close()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="quackllm shell-engine",
        description="Serve DuckDB shells that have loaded the extension, which starts this itself.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--fd", type=int, default=LISTENING_FD, help="the socket that listens (default: 3)"
    )
    parser.add_argument(
        "--linger",
        type=float,
        default=3.0,
        metavar="SECONDS",
        help="end when no shell has been connected for so long (default: 3)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    options = build_parser().parse_args(arguments)
    _close_what_the_shell_left_open(options.fd)
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    server = Server(socket.socket(fileno=options.fd), options.linger)
    path = server.listening.getsockname()
    try:
        server.serve()
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        server.close()
    return 0


def _close_what_the_shell_left_open(listening: int) -> None:
    """Files of the shell, its database among them, are none of ours."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != listening:
            with suppress(OSError):
                os.close(int(name))
