"""No bytes of one client's crash the Flight server, hang it, fill its memory or disturb another."""

from __future__ import annotations

import gc
import random
import socket
from collections.abc import Callable, Sequence

import psutil
import pyarrow as pa
import pytest
from pyarrow import flight

from quackllm.server.flight.messages import message, wrapped
from tests.server.flight.running import Flying, flying

COMMANDS = (
    wrapped(message("CommandStatementQuery", query="SELECT 1")),
    wrapped(message("CommandStatementUpdate", query="SELECT 1", transaction_id=b"x")),
    wrapped(message("CommandPreparedStatementQuery", prepared_statement_handle=b"nothing")),
    wrapped(message("CommandGetTables", catalog="shop", table_types=["TABLE"])),
    wrapped(message("CommandGetSqlInfo", info=[0, 1, 500])),
    wrapped(message("CommandGetPrimaryKeys", table="movies")),
    wrapped(message("TicketStatementQuery", statement_handle=b"nothing")),
    wrapped(message("ActionCreatePreparedStatementRequest", query="SELECT $1")),
    wrapped(message("ActionEndTransactionRequest", transaction_id=b"x", action=7)),
)
ACTIONS = (
    "CreatePreparedStatement", "ClosePreparedStatement", "BeginTransaction", "EndTransaction",
    "CancelFlightInfo", "CloseSession", "SetSessionOptions", "Nothing", "", "\n",
)  # fmt: skip
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)


def mutated(choice: random.Random) -> bytes:
    """Return a command that is cut off, changed in some bytes, longer than itself, or noise."""
    data = bytearray(choice.choice(COMMANDS))
    for _ in range(choice.randrange(4)):
        data[choice.randrange(len(data))] = choice.randrange(256)
    kind = choice.randrange(4)
    if kind == 0:
        return bytes(data[: choice.randrange(len(data) + 1)])
    if kind == 1:
        return bytes(data) + choice.randbytes(choice.randrange(40))
    return bytes(data) if kind == 2 else choice.randbytes(choice.randrange(60))


def requests(
    client: flight.FlightClient, choice: random.Random
) -> Sequence[Callable[[bytes], object]]:
    """Return the ways in which a command reaches the server."""

    def put(data: bytes) -> None:
        schema = pa.schema([("a", pa.int64())])
        options = flight.FlightCallOptions(timeout=20)
        asked = flight.FlightDescriptor.for_command(data)
        writer, _ = client.do_put(asked, schema, options)
        with writer:
            writer.write_batch(pa.record_batch([[1, 2]], schema=schema))
            writer.done_writing()

    options = flight.FlightCallOptions(timeout=20)
    return (
        lambda data: client.get_flight_info(flight.FlightDescriptor.for_command(data), options),
        lambda data: client.get_schema(flight.FlightDescriptor.for_command(data), options),
        lambda data: client.do_get(flight.Ticket(data), options).read_all(),
        lambda data: list(client.do_action((choice.choice(ACTIONS), data), options)),
        put,
    )


def attack(served: Flying, choice: random.Random, count: int) -> int:
    """Send so many requests; return how many were errors. Raises what is no clear error."""
    failed = 0
    with flight.connect(served.address) as client:
        ways = requests(client, choice)
        for _ in range(count):
            try:
                choice.choice(ways)(mutated(choice))
            except flight.FlightTimedOutError:
                raise
            except (pa.ArrowException, OSError, KeyError) as error:
                if isinstance(error, flight.FlightError):  # pyarrow tells where others come from
                    assert "Traceback" not in str(error)
                failed += 1
    return failed


def rounds(count: int) -> None:
    choice = random.Random(1)
    with flying() as served, flight.connect(served.address) as other:
        attack(served, choice, 50)  # what is taken once is no growth
        before = resident()
        failed = sum(attack(served, choice, 100) for _ in range(count // 100))
        assert failed > count / 2, "most of them are wrong"
        asked = flight.FlightDescriptor.for_command(COMMANDS[0])
        [end] = other.get_flight_info(asked).endpoints
        assert other.do_get(end.ticket).read_all().num_rows == 1
        assert resident() - before < 150e6
        assert served.fake.calls == 0
        assert served.databases.faults.count == 0


def resident() -> float:
    """Bytes of memory of this process, in which the server is too."""
    gc.collect()
    return float(psutil.Process().memory_info().rss)


def test_malformed_commands() -> None:
    rounds(500)


@pytest.mark.slow
def test_ten_thousand_malformed_commands() -> None:
    rounds(10_000)


def test_bytes_that_are_no_http2_disturb_nobody() -> None:
    choice = random.Random(3)
    with flying() as served:
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", served.server.port), timeout=10) as raw:
                head = choice.choice((b"", PREFACE, PREFACE[: choice.randrange(24)]))
                raw.sendall(head + choice.randbytes(choice.randrange(200)))
        with flight.connect(served.address) as client:
            asked = flight.FlightDescriptor.for_command(COMMANDS[0])
            assert len(client.get_flight_info(asked).endpoints) == 1
