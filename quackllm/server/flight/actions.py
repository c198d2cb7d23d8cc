"""The actions of Flight SQL: each takes the session, its body and whether the client has gone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import pyarrow as pa
from pyarrow import flight

from quackllm.server.flight.messages import message, parsed, request, unwrapped, wrapped
from quackllm.server.flight.session import FlightSession
from quackllm.server.pgwire.errors import SqlState, WireError

_COMMIT, _ROLLBACK = 1, 2
_CANCELLED, _NOT_CANCELLABLE = 1, 3
_INVALID_VALUE = 2


def _prepare(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> bytes:
    asked = request("ActionCreatePreparedStatementRequest", body)
    handle = session.do(lambda: session.prepare(asked.query), gone)
    prepared = session.prepared(handle)
    schema = b"" if prepared.schema is None else prepared.schema.serialize().to_pybytes()
    return wrapped(
        message(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=handle,
            dataset_schema=schema,
            parameter_schema=prepared.parameters.serialize().to_pybytes(),
        )
    )


def _close_prepared(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> None:
    asked = request("ActionClosePreparedStatementRequest", body)
    session.do(lambda: session.forget(asked.prepared_statement_handle), gone)


def _begin(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> bytes:
    return wrapped(
        message("ActionBeginTransactionResult", transaction_id=session.do(session.begin, gone))
    )


def _end(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> None:
    asked = request("ActionEndTransactionRequest", body)
    if asked.action not in (_COMMIT, _ROLLBACK):
        raise WireError(SqlState.PROTOCOL_VIOLATION, "the end of a transaction is 1 or 2")
    commit = asked.action == _COMMIT
    session.do(lambda: session.end(asked.transaction_id, commit=commit), gone)


def _cancelled(session: FlightSession, info: bytes) -> int:
    """Cancel what a FlightInfo is about: rows that wait, or are being read."""
    try:
        endpoints = flight.FlightInfo.deserialize(info).endpoints
    except pa.ArrowException:
        raise WireError(SqlState.PROTOCOL_VIOLATION, "the bytes are no FlightInfo") from None
    found = _NOT_CANCELLABLE
    for endpoint in endpoints:
        name, command = unwrapped(endpoint.ticket.ticket)
        if name == "TicketStatementQuery" and session.cancel(command.statement_handle):
            found = _CANCELLED
    return found


def _cancel_info(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> bytes:
    status = _cancelled(session, parsed("CancelFlightInfoRequest", body).info)
    return bytes(message("CancelFlightInfoResult", status=status).SerializeToString())


def _cancel_query(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> bytes:
    info = request("ActionCancelQueryRequest", body).info
    return wrapped(message("ActionCancelQueryResult", result=_cancelled(session, info)))


def _set_options(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> bytes:
    errors = []
    for option in parsed("SetSessionOptionsRequest", body).session_options:
        kind = option.value.ListFields()
        value = str(kind[0][1]) if kind else ""
        try:
            session.do(functools.partial(session.option, option.key, value), gone)
        except WireError:
            error = message("SessionOptionError", value=_INVALID_VALUE)
            errors.append(message("SessionOptionErrorEntry", key=option.key, value=error))
    return bytes(message("SetSessionOptionsResult", errors=errors).SerializeToString())


def _get_options(session: FlightSession, body: bytes, gone: Callable[[], bool]) -> bytes:
    found = session.do(session.options, gone)
    options = [
        message("SessionOption", key=name, value=message("SessionOptionValue", string_value=value))
        for name, value in found.items()
    ]
    return bytes(message("GetSessionOptionsResult", session_options=options).SerializeToString())


Action = Callable[[FlightSession, bytes, Callable[[], bool]], "bytes | None"]

ACTIONS: Mapping[str, Action] = {
    "CreatePreparedStatement": _prepare,
    "ClosePreparedStatement": _close_prepared,
    "BeginTransaction": _begin,
    "EndTransaction": _end,
    "CancelFlightInfo": _cancel_info,
    "CancelQuery": _cancel_query,
    "SetSessionOptions": _set_options,
    "GetSessionOptions": _get_options,
    "CloseSession": lambda session, body, gone: None,
}
