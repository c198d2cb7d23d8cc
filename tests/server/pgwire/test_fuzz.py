"""No bytes of one client's crash the server, hang it, fill its memory or disturb another."""

from __future__ import annotations

import os
import random
import resource
import struct

import psycopg
import pytest

from tests.server.pgwire.running import Wire, running

KINDS = b"QPBDECSHFdcfpX\0Zz\xff"
PIECES = (
    b"", b"\0", b"\0\0", b"SELECT 1\0", b"SELECT $1\0", b"s\0", b"p\0", b"S", b"P", b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff", b"\0\x01", b"\0\0\0\x17", b"\xc3\x28\0", b"BEGIN\0", b"COPY movies FROM STDIN\0",
    b"'", b"$1,$2", b"FETCH 1 FROM x\0", b"SELECT * FROM pg_catalog.pg_class\0",
)  # fmt: skip


def malformed(choice: random.Random) -> bytes:
    """Return a message that may be wrong in its type, its length or its inside."""
    kind = bytes([choice.choice(KINDS)])
    body = b"".join(choice.choice(PIECES) for _ in range(choice.randrange(5)))
    if choice.random() < 0.2:
        body += choice.randbytes(choice.randrange(40))
    length = len(body) + 4
    if choice.random() < 0.15:
        length = choice.choice((0, 3, -1, 2**31 - 1, length + 1, max(length - 1, 0), 2**28 + 9))
    return kind + struct.pack("!i", length) + body


def attack(port: int, seed: int, messages: int) -> int:
    """Send malformed messages, in a new session whenever one ends; return how many went out."""
    choice, sent = random.Random(seed), 0
    while sent < messages:
        with Wire(port) as client:
            client.socket.settimeout(20)
            if choice.random() < 0.05:
                client.send(choice.randbytes(choice.randrange(64)))
                sent += 1
                continue
            client.start()
            batch = [malformed(choice) for _ in range(choice.randrange(1, 40))]
            sent += len(batch)
            try:
                client.send(b"".join(batch))
                client.message(b"c")
                client.message(b"S")
                client.message(b"X")
                client.socket.shutdown(1)
                client.answers()
            except OSError:
                pass  # the server has ended the session, as it should
    return sent


def rounds(messages: int) -> None:
    with running() as served, psycopg.connect(served.dsn, autocommit=True) as other:
        attack(served.port, 0, 300)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in range(1, 1 + messages // 500):
            attack(served.port, seed, 500)
            assert other.execute("SELECT count(*) FROM reviews").fetchone() == (60,)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 150_000, f"{grown} kB more"
        assert len(served.server.registry) <= 1 + 32
        assert served.fake.calls == 0


def test_malformed_messages() -> None:
    rounds(1_000)


@pytest.mark.slow
def test_ten_thousand_malformed_messages() -> None:
    rounds(10_000)


def test_a_frame_too_large_is_refused_before_memory_is_taken() -> None:
    with running() as served, Wire(served.port) as client:
        client.start()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        client.send(b"Q" + struct.pack("!i", 2**31 - 1) + os.urandom(1000))
        assert b"invalid message length" in (client.answer() or (b"", b""))[1]
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_huge_statement_is_run() -> None:
    with running() as served, psycopg.connect(served.dsn) as connection:
        text = "x" * 5_000_000
        assert connection.execute(f"SELECT length('{text}')").fetchone() == (len(text),)
