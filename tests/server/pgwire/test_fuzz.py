"""No bytes of one client's crash the server, hang it, fill its memory or disturb another."""

from __future__ import annotations

import gc
import logging
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import psycopg
import pytest

from quackllm.server.pgwire import frontend
from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.scram import verifier_of
from tests.server.pgwire.running import Running, Wire, kinds, running
from tests.server.pgwire.test_calls import wait_until

KINDS = b"QPBDECSHFdcfpX\0Zz\xff"
PIECES = (
    b"", b"\0", b"\0\0", b"SELECT 1\0", b"SELECT $1\0", b"s\0", b"p\0", b"S", b"P", b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff", b"\0\x01", b"\0\0\0\x17", b"\xc3\x28\0", b"BEGIN\0", b"COPY movies FROM STDIN\0",
    b"'", b"$1,$2", b"FETCH 1 FROM x\0", b"SELECT * FROM pg_catalog.pg_class\0",
)  # fmt: skip
OVERSIZED = (-(2**31), -1, 0, 3, 2**28 + 5, 2**31 - 1)
"""Lengths that no message has."""


class Counter:
    """Counts the messages that the server has read and looked at, whatever was sent."""

    def __init__(self) -> None:
        self.read = 0


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    counting = Counter()
    read_message, read_opening = frontend.read_message, frontend.read_opening

    async def message(reader: Any) -> Any:
        found = await read_message(reader)
        counting.read += found is not None
        return found

    async def opening(reader: Any) -> Any:
        found = await read_opening(reader)
        counting.read += found is not None
        return found

    monkeypatch.setattr(frontend, "read_message", message)
    monkeypatch.setattr(frontend, "read_opening", opening)
    return counting


@pytest.fixture(autouse=True)
def unlogged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing may be raised where nobody is told of it, as in a callback of asyncio's."""
    yield
    assert [r.getMessage() for r in caplog.get_records("call") if r.levelno >= logging.ERROR] == []


@contextmanager
def undisturbed(served: Running, seconds: float = 10.0) -> Iterator[None]:
    """What happens meanwhile leaves other clients, memory, sessions and the model as they were."""
    with psycopg.connect(served.dsn, autocommit=True) as other:
        before = resident()
        yield
        assert other.execute("SELECT count(*) FROM reviews").fetchone() == (60,)
        wait_until(lambda: len(served.server.registry) == 1, seconds)
        grown = resident() - before
        assert grown < 150e6, f"{grown / 1e6:.0f} MB more"
    assert served.fake.calls == 0
    assert served.server.databases.faults.count == 0


def resident() -> float:
    """Bytes of memory of this process, in which the server is too."""
    gc.collect()
    return float(psutil.Process().memory_info().rss)


def malformed(choice: random.Random) -> bytes:
    """Return a message that may be wrong in its type, its length or its inside."""
    kind = bytes([choice.choice(KINDS)])
    body = b"".join(choice.choice(PIECES) for _ in range(choice.randrange(5)))
    if choice.random() < 0.2:
        body += choice.randbytes(choice.randrange(40))
    length = len(body) + 4
    if choice.random() < 0.1:
        length = choice.choice((*OVERSIZED, length + 1, max(length - 1, 0)))
    return kind + struct.pack("!i", length) + body


def attack(port: int, choice: random.Random) -> None:
    """Send malformed messages in a session of their own."""
    with Wire(port) as client:
        client.socket.settimeout(20)
        if choice.random() < 0.02:
            client.send(choice.randbytes(choice.randrange(64)))
            return
        client.start()
        try:
            client.send(b"".join(malformed(choice) for _ in range(choice.randrange(1, 40))))
            client.message(b"c")
            client.message(b"S")
            client.message(b"X")
            client.socket.shutdown(1)
            client.answers()
        except OSError:
            pass  # the server has ended the session, as it should


def rounds(counter: Counter, messages: int) -> None:
    choice = random.Random(1)
    with running() as served:
        for _ in range(30):
            attack(served.port, choice)  # what is taken once is no growth
        while counter.read < messages:
            wanted = counter.read + 1000
            with undisturbed(served):
                while counter.read < wanted:
                    attack(served.port, choice)


def test_malformed_messages(counter: Counter) -> None:
    rounds(counter, 1_000)


@pytest.mark.slow
def test_ten_thousand_malformed_messages(counter: Counter) -> None:
    rounds(counter, 10_000)
    assert counter.read >= 10_000


def conversation() -> bytes:
    """What a driver sends from its start to its end, COPY included."""

    def message(kind: bytes, body: bytes = b"") -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    start = struct.pack("!i", 196608) + b"user\0tester\0database\0shop\0\0"
    value = struct.pack("!HHHi", 1, 1, 1, 4) + struct.pack("!i", 7)
    return (
        struct.pack("!i", len(start) + 4) + start
        + message(b"Q", b"CREATE TEMP TABLE c (a INTEGER); COPY c FROM STDIN\0")
        + message(b"d", b"1\n") + message(b"c")
        + message(b"P", b"s\0SELECT $1::INTEGER\0" + struct.pack("!Hi", 1, 23))
        + message(b"B", b"p\0s\0" + value + struct.pack("!HH", 1, 1))
        + message(b"D", b"Pp\0") + message(b"E", b"p\0" + struct.pack("!i", 0))
        + message(b"C", b"Ss\0") + message(b"H") + message(b"S") + message(b"X")
    )  # fmt: skip


def test_a_stream_may_end_at_any_byte() -> None:
    whole = conversation()
    with running() as served, undisturbed(served):
        with Wire(served.port) as client:
            client.send(whole)
            assert kinds(client.answers()).endswith("KZ")
            assert kinds(client.answers() + client.answers()) == "CGCZ12TDC3Z"
        for end in range(len(whole)):
            with Wire(served.port) as client:
                client.send(whole[:end])
                with suppress(OSError):  # the server may have ended it already
                    client.socket.shutdown(1)
                while client.answers():
                    pass


@pytest.mark.parametrize("length", OVERSIZED)
def test_a_frame_too_large_is_refused_before_memory_is_taken(length: int) -> None:
    with running() as served, undisturbed(served):
        for kind in b"QPBDECSHFdcfpX":
            with Wire(served.port) as client:
                client.start()
                client.send(bytes([kind]) + struct.pack("!i", length) + os.urandom(1000))
                said = b"".join(body for _, body in client.answers())
                assert b"invalid message length" in said
        with Wire(served.port) as client:
            client.send(struct.pack("!i", length) + os.urandom(1000))
            assert b"invalid length of startup packet" in (client.answer() or (b"", b""))[1]


def test_no_bytes_get_in_without_the_password() -> None:
    choice = random.Random(2)
    users = {"tester": Role("tester", verifier_of("right"))}
    with running({"users": users}) as served:
        for _ in range(300):
            with Wire(served.port) as client:
                client.open()
                assert (client.answer() or (b"",))[0] == b"R"
                body = b"".join(
                    choice.choice((b"SCRAM-SHA-256\0", b"\0\0\0\x0c", b"n,,n=,r=abc", *PIECES))
                    for _ in range(choice.randrange(5))
                )
                kind = b"p" if choice.random() < 0.8 else bytes([choice.choice(KINDS)])
                with suppress(OSError):  # it may be refused before it has sent all
                    client.message(kind, body)
                    client.message(b"p", choice.randbytes(30))
                    client.message(b"Q", b"SELECT 1\0")
                    client.socket.shutdown(1)
                assert not set("DZ") & set(kinds(client.answers()))
        with psycopg.connect(served.dsn, password="right") as connection:
            assert connection.execute("SELECT 42").fetchone() == (42,)
        assert served.server.databases.faults.count == 0


def test_a_huge_statement_is_run() -> None:
    with running() as served, psycopg.connect(served.dsn) as connection:
        text = "x" * 5_000_000
        assert connection.execute(f"SELECT length('{text}')").fetchone() == (len(text),)
