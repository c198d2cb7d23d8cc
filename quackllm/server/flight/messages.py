"""The messages of Flight SQL, declared field by field for the protobuf library.

Numbers and names are those of the public interface,
https://arrow.apache.org/docs/format/FlightSql.html and its FlightSql.proto and Flight.proto.
Enumerations are declared as int32 and maps as repeated entries, which are the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError, Message

from quackllm.server.pgwire.errors import SqlState, WireError

PACKAGE = "arrow.flight.protocol.sql"
_URL = "type.googleapis.com/"

Field: TypeAlias = tuple[int, str, str]
"""Number, name, and type: a scalar's, or the name of a message; with * when repeated."""

_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "sfixed64": FieldDescriptorProto.TYPE_SFIXED64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
}

_QUERY: Sequence[Field] = ((1, "query", "string"), (2, "transaction_id", "bytes"))
_HANDLE: Sequence[Field] = ((1, "prepared_statement_handle", "bytes"),)
_TABLE: Sequence[Field] = (
    (1, "catalog", "string"),
    (2, "db_schema", "string"),
    (3, "table", "string"),
)

_MESSAGES: Mapping[str, Sequence[Field]] = {
    "CommandGetSqlInfo": ((1, "info", "uint32*"),),
    "CommandGetXdbcTypeInfo": ((1, "data_type", "int32"),),
    "CommandGetCatalogs": (),
    "CommandGetDbSchemas": ((1, "catalog", "string"), (2, "db_schema_filter_pattern", "string")),
    "CommandGetTables": (
        (1, "catalog", "string"),
        (2, "db_schema_filter_pattern", "string"),
        (3, "table_name_filter_pattern", "string"),
        (4, "table_types", "string*"),
        (5, "include_schema", "bool"),
    ),
    "CommandGetTableTypes": (),
    "CommandGetPrimaryKeys": _TABLE,
    "CommandGetExportedKeys": _TABLE,
    "CommandGetImportedKeys": _TABLE,
    "CommandGetCrossReference": (
        (1, "pk_catalog", "string"),
        (2, "pk_db_schema", "string"),
        (3, "pk_table", "string"),
        (4, "fk_catalog", "string"),
        (5, "fk_db_schema", "string"),
        (6, "fk_table", "string"),
    ),
    "CommandStatementQuery": _QUERY,
    "CommandStatementUpdate": _QUERY,
    "CommandPreparedStatementQuery": _HANDLE,
    "CommandPreparedStatementUpdate": _HANDLE,
    "CommandStatementIngest": (
        (1, "table_definition_options", "TableDefinitionOptions"),
        (2, "table", "string"),
        (3, "schema", "string"),
        (4, "catalog", "string"),
        (5, "temporary", "bool"),
        (6, "transaction_id", "bytes"),
    ),
    "TableDefinitionOptions": ((1, "if_not_exist", "int32"), (2, "if_exists", "int32")),
    "TicketStatementQuery": ((1, "statement_handle", "bytes"),),
    "DoPutUpdateResult": ((1, "record_count", "int64"),),
    "DoPutPreparedStatementResult": _HANDLE,
    "ActionCreatePreparedStatementRequest": _QUERY,
    "ActionCreatePreparedStatementResult": (
        *_HANDLE,
        (2, "dataset_schema", "bytes"),
        (3, "parameter_schema", "bytes"),
    ),
    "ActionClosePreparedStatementRequest": _HANDLE,
    "ActionBeginTransactionRequest": (),
    "ActionBeginTransactionResult": ((1, "transaction_id", "bytes"),),
    "ActionEndTransactionRequest": ((1, "transaction_id", "bytes"), (2, "action", "int32")),
    "ActionCancelQueryRequest": ((1, "info", "bytes"),),
    "ActionCancelQueryResult": ((1, "result", "int32"),),
    # Of gRPC: google.rpc.Status.
    "RpcStatus": ((1, "code", "int32"), (2, "message", "string")),
    # Of Flight itself: not wrapped in Any.
    "CancelFlightInfoRequest": ((1, "info", "bytes"),),
    "CancelFlightInfoResult": ((1, "status", "int32"),),
    "SessionOptionValue": (
        (1, "string_value", "string"),
        (2, "bool_value", "bool"),
        (3, "int64_value", "sfixed64"),
        (4, "double_value", "double"),
    ),
    "SessionOption": ((1, "key", "string"), (2, "value", "SessionOptionValue")),
    "SetSessionOptionsRequest": ((1, "session_options", "SessionOption*"),),
    "SessionOptionError": ((1, "value", "int32"),),
    "SessionOptionErrorEntry": ((1, "key", "string"), (2, "value", "SessionOptionError")),
    "SetSessionOptionsResult": ((1, "errors", "SessionOptionErrorEntry*"),),
    "GetSessionOptionsResult": ((1, "session_options", "SessionOption*"),),
    "CloseSessionResult": ((1, "status", "int32"),),
}


def _declared() -> dict[str, Any]:
    """Make the classes, in a pool of their own; presence of fields is kept, as in proto2."""
    file = FileDescriptorProto(name="quackllm_flight_sql.proto", package=PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            field = message.field.add(name=field_name, number=number)
            repeated = kind.endswith("*")
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            scalar = _SCALARS.get(kind.rstrip("*"))
            if scalar is None:
                field.type = field.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{kind.rstrip('*')}"
            else:
                field.type = scalar
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = {name: pool.FindMessageTypeByName(f"{PACKAGE}.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(kind) for name, kind in found.items()}


_CLASSES = _declared()


def message(name: str, **fields: Any) -> Any:
    """Make a message of a name."""
    return _CLASSES[name](**fields)


def parsed(name: str, data: bytes) -> Any:
    """Read a message of a name. Raises `WireError` for bytes that are none."""
    return _parsed(_CLASSES[name](), data)


def wrapped(found: Any) -> bytes:
    """Serialize a message inside an Any."""
    url = _URL + found.DESCRIPTOR.full_name
    return AnyMessage(type_url=url, value=found.SerializeToString()).SerializeToString()


def unwrapped(data: bytes) -> tuple[str, Any]:
    """Read a message inside an Any; return its name too.

    Raises `WireError` for bytes that are none, and for a message that is not known.
    """
    outer = _parsed(AnyMessage(), data)
    package, _, name = outer.type_url.rpartition("/")[2].rpartition(".")
    if package != PACKAGE or name not in _CLASSES:
        raise WireError(
            SqlState.FEATURE_NOT_SUPPORTED,
            f"{outer.type_url or 'a command without a type'} is not supported",
        )
    return name, parsed(name, outer.value)


def request(name: str, data: bytes) -> Any:
    """Read a message of a name inside an Any. Raises `WireError` for any other."""
    found, command = unwrapped(data)
    if found != name:
        raise WireError(SqlState.PROTOCOL_VIOLATION, f"expected {name}, got {found}")
    return command


def _parsed(empty: Any, data: bytes) -> Any:
    try:
        empty.ParseFromString(data)
    except DecodeError:
        raise WireError(
            SqlState.PROTOCOL_VIOLATION, f"the bytes are no {empty.DESCRIPTOR.name}"
        ) from None
    if not _is_text(empty):
        raise WireError(SqlState.CHARACTER, f"a text of {empty.DESCRIPTOR.name} is not UTF-8")
    return empty


_SINGLE = (str, bytes, bool, int, float, Message)
"""What a field holds that is not repeated."""


def _is_text(found: Any) -> bool:
    """Whether the strings of a message are: as in proto2, others are read as bytes."""
    for field, value in found.ListFields():
        values = [value] if isinstance(value, _SINGLE) else value
        if field.type == field.TYPE_MESSAGE and not all(map(_is_text, values)):
            return False
        if field.type == field.TYPE_STRING and not all(isinstance(one, str) for one in values):
            return False
    return True
