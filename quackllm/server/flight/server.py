"""The Flight SQL service: every call of the interface, led to the session that it is for."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import flight

from quackllm.server.flight import metadata, schemas
from quackllm.server.flight.access import GATE, Caller, Gate, OpenDoor
from quackllm.server.flight.actions import ACTIONS
from quackllm.server.flight.errors import flight_error, not_supported
from quackllm.server.flight.ingest import ingestion_of
from quackllm.server.flight.messages import message, unwrapped, wrapped
from quackllm.server.flight.parameters import literal_rows
from quackllm.server.flight.session import FlightSession, Result
from quackllm.server.flight.sessions import IDLE_SECONDS, Sessions
from quackllm.server.pgwire.databases import Databases
from quackllm.server.pgwire.errors import SqlState, WireError, wire_error
from quackllm.server.pgwire.roles import Role

_F = TypeVar("_F", bound=Callable[..., Any])

_QUERY, _PREPARED_QUERY = "CommandStatementQuery", "CommandPreparedStatementQuery"
_CLOSED, _NOT_CLOSEABLE = 1, 3
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class FlightConfiguration:
    """How Flight SQL is served.

    users: by name; None lets anybody in under any name.
    certificate, key: PEM, empty for a server without TLS.
    """

    host: str = "127.0.0.1"
    port: int = 0
    users: Mapping[str, Role] | None = None
    read_only: bool = False
    certificate: bytes = b""
    key: bytes = b""
    idle_seconds: float = IDLE_SECONDS


def _answered(handler: _F) -> _F:
    """Turn what a handler raises into Flight's errors."""

    @functools.wraps(handler)
    def answer(self: FlightServer, *args: Any) -> Any:
        try:
            return handler(self, *args)
        except Exception as error:  # noqa: BLE001 - whatever is raised goes to the client
            raise self.failure(error) from None

    return answer  # type: ignore[return-value]


class FlightServer(flight.FlightServerBase):  # type: ignore[misc]
    """Serves databases to clients of Flight SQL from when it is made until `stop`."""

    def __init__(self, databases: Databases, configuration: FlightConfiguration) -> None:
        """Begin to listen. Raises `pa.ArrowException` and `OSError`."""
        self._databases = databases
        self._gate = Gate(configuration.users, read_only=configuration.read_only)
        tls = bool(configuration.certificate)
        self._sessions = Sessions(
            databases,
            self._gate.forget,
            encrypted=tls,
            idle_seconds=configuration.idle_seconds,
        )
        scheme = "grpc+tls" if tls else "grpc+tcp"
        super().__init__(
            f"{scheme}://{configuration.host}:{configuration.port}",
            auth_handler=OpenDoor(),
            tls_certificates=[(configuration.certificate, configuration.key)] if tls else None,
            middleware={GATE: self._gate},
        )

    def stop(self) -> None:
        """End all sessions and stop; what runs is interrupted."""
        self._sessions.close_all()
        # It waits for clients, of which one may never take the rows that it has asked for.
        waiting = threading.Thread(target=self.shutdown, name="flight-stop", daemon=True)
        waiting.start()
        waiting.join(_STOP_SECONDS)

    def failure(self, error: BaseException) -> BaseException:
        """Return what a client is told of an error; the server's own are counted and logged."""
        if isinstance(error, (flight.FlightError, NotImplementedError)):
            return error
        if isinstance(error, CancelledError):
            return flight_error(WireError(SqlState.SHUTDOWN, "the session has ended"))
        return flight_error(self._databases.faults.told(error, wire_error(error, "")))

    # Queries

    @_answered
    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        """Run a statement; tell where its rows are."""
        name, command = unwrapped(descriptor.command)
        session = self._session(context)
        if metadata.knows(name):
            ticket = flight.Ticket(descriptor.command)
            return _info(metadata.schema(name, command), descriptor, ticket, -1)
        if name not in (_QUERY, _PREPARED_QUERY):
            raise not_supported(name)
        gone = context.is_cancelled
        handle, result = session.do(lambda: _kept(session, _run(session, name, command)), gone)
        ticket = flight.Ticket(wrapped(message("TicketStatementQuery", statement_handle=handle)))
        if gone():
            session.do(lambda: session.drop(handle), _never)
        return _info(result.schema, descriptor, ticket, result.count)

    @_answered
    def get_schema(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.SchemaResult:
        """Tell what a statement's rows will look like; nothing is run."""
        name, command = unwrapped(descriptor.command)
        session = self._session(context)
        if metadata.knows(name):
            return flight.SchemaResult(metadata.schema(name, command))
        if name == _PREPARED_QUERY:
            prepared = session.prepared(command.prepared_statement_handle)
            return flight.SchemaResult(prepared.schema or schemas.EMPTY)
        if name != _QUERY:
            raise not_supported(name)
        found = session.do(lambda: session.describe(command.query), context.is_cancelled)
        return flight.SchemaResult(found)

    @_answered
    def do_get(
        self, context: flight.ServerCallContext, ticket: flight.Ticket
    ) -> flight.FlightDataStream:
        """Send rows."""
        name, command = unwrapped(ticket.ticket)
        session = self._session(context)
        gone = context.is_cancelled
        if metadata.knows(name):
            read_only = self._caller(context).role.read_only
            table = session.do(
                lambda: session.metadata(lambda c: metadata.answer(name, command, c, read_only)),
                gone,
            )
            return flight.RecordBatchStream(table)
        if name != "TicketStatementQuery":
            raise not_supported(name)
        handle: bytes = command.statement_handle
        result = session.do(lambda: session.take(handle), gone)
        rows = session.stream(handle, result, gone)
        return flight.GeneratorStream(result.schema, self._told(rows))

    def _told(self, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows
        except Exception as error:  # noqa: BLE001 - whatever is raised goes to the client
            raise self.failure(error) from None

    # Changes

    @_answered
    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Run a change, bind values, or store rows."""
        name, command = unwrapped(descriptor.command)
        session = self._session(context)
        gone = context.is_cancelled
        if name == _PREPARED_QUERY:
            session.prepared(command.prepared_statement_handle).values = _values(reader)
            answer = message(
                "DoPutPreparedStatementResult",
                prepared_statement_handle=command.prepared_statement_handle,
            )
            writer.write(pa.py_buffer(answer.SerializeToString()))
            return
        if name == "CommandStatementUpdate":
            count = session.do(
                lambda: _count(session.run(command.query, command.transaction_id)), gone
            )
        elif name == "CommandPreparedStatementUpdate":
            prepared = session.prepared(command.prepared_statement_handle)
            prepared.values = _values(reader)
            count = session.do(
                lambda: _count(session.run_prepared(command.prepared_statement_handle)), gone
            )
        elif name == "CommandStatementIngest":
            count = self._ingested(session, command, reader, gone)
        else:
            raise not_supported(name)
        answer = message("DoPutUpdateResult", record_count=count)
        writer.write(pa.py_buffer(answer.SerializeToString()))

    def _ingested(
        self, session: FlightSession, command: Any, reader: Any, gone: Callable[[], bool]
    ) -> int:
        ingestion, stream = ingestion_of(command), reader.to_reader()
        return session.do(lambda: session.ingest(ingestion, stream, command.transaction_id), gone)

    # Actions

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:
        """Return the actions that there are."""
        return [(name, "") for name in ACTIONS]

    @_answered
    def do_action(
        self, context: flight.ServerCallContext, action: flight.Action
    ) -> list[flight.Result]:
        """Prepare, begin, end, cancel, set."""
        handler = ACTIONS.get(action.type)
        if handler is None:
            raise not_supported(action.type)
        if action.type == "CloseSession":
            closed = self._sessions.close(self._caller(context), context.peer())
            data = message("CloseSessionResult", status=_CLOSED if closed else _NOT_CLOSEABLE)
            return [flight.Result(pa.py_buffer(data.SerializeToString()))]
        body = action.body.to_pybytes()
        data = handler(self._session(context), body, context.is_cancelled)
        return [] if data is None else [flight.Result(pa.py_buffer(data))]

    def _caller(self, context: flight.ServerCallContext) -> Caller:
        caller: Caller = context.get_middleware(GATE).caller
        return caller

    def _session(self, context: flight.ServerCallContext) -> FlightSession:
        return self._sessions.of(self._caller(context), context.peer(), context.is_cancelled)


def _never() -> bool:
    return False


def _info(
    schema: pa.Schema, descriptor: flight.FlightDescriptor, ticket: flight.Ticket, count: int
) -> flight.FlightInfo:
    """Tell a client that what it asked for is here, at the server it has asked."""
    return flight.FlightInfo(schema, descriptor, [flight.FlightEndpoint(ticket, [])], count, -1)


def _run(session: FlightSession, name: str, command: Any) -> Result:
    if name == _QUERY:
        return session.run(command.query, command.transaction_id)
    return session.run_prepared(command.prepared_statement_handle)


def _kept(session: FlightSession, result: Result) -> tuple[bytes, Result]:
    return session.keep(result), result


def _count(result: Result) -> int:
    """Return how many rows a change was about; rows that it gave are given up."""
    for rows in result.rows:
        rows.close()
    return result.count


def _values(reader: Any) -> list[list[str]]:
    """Read rows of parameters; a client without any sends a schema without fields."""
    return [row for chunk in reader for row in literal_rows(chunk.data)] if reader.schema else []
