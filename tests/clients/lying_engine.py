"""An engine that answers with malformed messages: greets well, then sends bytes changed by chance.

Run by the extension in the place of the engine, with the listening socket as file 3.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
from contextlib import suppress
from decimal import Decimal

import pyarrow as pa

from quackllm.server.duckdb_shell import frames, vectors
from quackllm.server.duckdb_shell.frames import Closed, text, u32

COLUMNS: list[tuple[vectors.Type, pa.Array]] = [
    (vectors.VARCHAR, pa.array(["a", None, "longer than twelve bytes"])),
    (vectors.SIMPLE[1], pa.array([True, None, False])),
    (vectors.Decimal(10, 2), pa.array([None, Decimal("1.25"), Decimal(2)], pa.decimal128(10, 2))),
    (vectors.List(vectors.VARCHAR), pa.array([["x", None], [], None], pa.list_(pa.string()))),
    (vectors.Struct((("s", vectors.SIMPLE[5]),)), pa.array([{"s": 1}, None, {"s": None}])),
]


def good(kind: bytes) -> list[tuple[bytes, bytes]]:
    """What an honest engine would answer."""
    if kind == frames.CALL:
        return [(frames.VALUES, vectors.VARCHAR.write(pa.array(["a", None, "b"])))]
    if kind == frames.BIND:
        named = [text(f"c{i}") + type_.header() for i, (type_, _) in enumerate(COLUMNS)]
        return [(frames.COLUMNS, u32(len(named)) + b"".join(named))]
    rows = u32(3) + b"".join(type_.write(array) for type_, array in COLUMNS)
    return [(frames.ROWS, rows), (frames.END, b"")]


def changed(payload: bytes, chance: random.Random) -> bytes:
    """Change some bytes, and perhaps cut the end off."""
    bytes_ = bytearray(payload)
    for _ in range(chance.randint(0, 3) if bytes_ else 0):
        bytes_[chance.randrange(len(bytes_))] = chance.choice((0, 1, 255, chance.randrange(256)))
    return bytes(bytes_[: chance.randint(0, len(bytes_))] if chance.random() < 0.3 else bytes_)


def attend(connection: socket.socket, chance: random.Random) -> None:
    with connection:
        frames.receive(connection)
        frames.send(connection, frames.OK)
        while True:
            kind, _ = frames.receive(connection)
            for answer, payload in good(kind):
                if chance.random() < 0.05:
                    return  # hangs up in the middle
                honest = kind == frames.BIND and chance.random() < 0.7
                sent = payload if honest else changed(payload, chance)
                frames.send(connection, answer if chance.random() < 0.95 else b"Z", sent)


def main() -> None:
    chance = random.Random(int(sys.argv[1]))
    listening = socket.socket(fileno=3)

    def serve(connection: socket.socket) -> None:
        with suppress(Closed):
            attend(connection, chance)

    while True:
        connection, _ = listening.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
