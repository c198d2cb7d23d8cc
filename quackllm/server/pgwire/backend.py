"""Messages of the server, as bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quackllm.server.pgwire.errors import WireError
    from quackllm.server.pgwire.types import Column


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Frame the body of a message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def _text(value: str) -> bytes:
    return value.encode("utf-8", "replace").replace(b"\0", b"") + b"\0"


PARSE_COMPLETE = message(b"1")
BIND_COMPLETE = message(b"2")
CLOSE_COMPLETE = message(b"3")
NO_DATA = message(b"n")
EMPTY_QUERY_RESPONSE = message(b"I")
PORTAL_SUSPENDED = message(b"s")
COPY_DONE = message(b"c")
AUTHENTICATION_OK = message(b"R", struct.pack("!i", 0))


def sasl_mechanisms(names: Sequence[str]) -> bytes:
    """AuthenticationSASL."""
    return message(b"R", struct.pack("!i", 10) + b"".join(map(_text, names)) + b"\0")


def sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue."""
    return message(b"R", struct.pack("!i", 11) + data)


def sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal."""
    return message(b"R", struct.pack("!i", 12) + data)


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus: a setting that the client's driver follows."""
    return message(b"S", _text(name) + _text(value))


def backend_key(pid: int, secret: int) -> bytes:
    """BackendKeyData: what a CancelRequest has to name."""
    return message(b"K", struct.pack("!ii", pid, secret))


def negotiate_version(unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion: 3.0, without the options named."""
    return message(b"v", struct.pack("!ii", 0, len(unknown)) + b"".join(map(_text, unknown)))


def ready(state: str) -> bytes:
    """ReadyForQuery; state is I (idle), T (in a transaction) or E (in a failed one)."""
    return message(b"Z", state.encode())


def command_complete(tag: str) -> bytes:
    """CommandComplete."""
    return message(b"C", _text(tag))


def row_description(columns: Sequence[Column], formats: Sequence[int]) -> bytes:
    """RowDescription; formats has one entry per column."""
    parts = [struct.pack("!H", len(columns))]
    for column, form in zip(columns, formats, strict=True):
        kind = column.type
        parts.append(_text(column.name))
        parts.append(struct.pack("!IhIhih", 0, 0, kind.oid, kind.size, kind.modifier, form))
    return message(b"T", b"".join(parts))


def parameter_description(oids: Sequence[int]) -> bytes:
    """ParameterDescription."""
    return message(b"t", struct.pack(f"!H{len(oids)}I", len(oids), *oids))


def copy_response(kind: bytes, form: int, columns: int) -> bytes:
    """CopyInResponse (G) or CopyOutResponse (H)."""
    return message(kind, struct.pack(f"!bH{columns}h", form, columns, *[form] * columns))


def copy_data(data: bytes) -> bytes:
    """CopyData."""
    return message(b"d", data)


def error(failure: WireError, severity: str = "ERROR") -> bytes:
    """ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": failure.state, "M": failure.message}
    if failure.detail:
        fields["D"] = failure.detail
    if failure.hint:
        fields["H"] = failure.hint
    if failure.position:
        fields["P"] = str(failure.position)
    return message(b"E", _fields(fields))


def notice(text: str, severity: str = "NOTICE", state: str = "00000") -> bytes:
    """NoticeResponse."""
    return message(b"N", _fields({"S": severity, "V": severity, "C": state, "M": text}))


def _fields(fields: Mapping[str, str]) -> bytes:
    return b"".join(key.encode() + _text(value) for key, value in fields.items()) + b"\0"
