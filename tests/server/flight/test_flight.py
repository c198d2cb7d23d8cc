"""Flight SQL by its messages: what calls a model, log-in, pieces, faults (promises 2 to 4)."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import flight

import quackllm
from quackllm.server.flight.messages import message, parsed, unwrapped, wrapped
from quackllm.server.flight.parameters import duckdb_type, numbered, value_literal
from quackllm.server.pgwire import calls
from quackllm.server.pgwire.errors import WireError
from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.scram import verifier_of
from quackllm.testing import FakeProvider
from tests.server.flight.running import Flying, flying

QUESTION = "SELECT id, LLM_FILTER('Is it odd?', synopsis) AS odd FROM movies"


@pytest.fixture(scope="module")
def served() -> Iterator[Flying]:
    with flying() as server:
        yield server


@pytest.fixture
def client(served: Flying) -> Iterator[flight.FlightClient]:
    with flight.connect(served.address) as connected:
        yield connected


def descriptor(name: str, **fields: Any) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(wrapped(message(name, **fields)))


def rows(client: flight.FlightClient, name: str, **fields: Any) -> pa.Table:
    info = client.get_flight_info(descriptor(name, **fields))
    return client.do_get(info.endpoints[0].ticket).read_all()


def action(client: flight.FlightClient, kind: str, name: str, **fields: Any) -> list[bytes]:
    body = wrapped(message(name, **fields))
    return [result.body.to_pybytes() for result in client.do_action((kind, body))]


def test_no_model_is_called_before_the_statement_is_run(
    served: Flying, client: flight.FlightClient
) -> None:
    before = served.fake.calls
    schema = client.get_schema(descriptor("CommandStatementQuery", query=QUESTION)).schema
    [made] = action(
        client, "CreatePreparedStatement", "ActionCreatePreparedStatementRequest", query=QUESTION
    )
    _, prepared = unwrapped(made)
    handle = prepared.prepared_statement_handle
    asked = descriptor("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    assert client.get_schema(asked).schema == schema
    assert pa.ipc.read_schema(pa.py_buffer(prepared.dataset_schema)) == schema
    assert served.fake.calls == before
    found = rows(client, "CommandPreparedStatementQuery", prepared_statement_handle=handle)
    assert (found.schema, found.num_rows) == (schema, 20)
    assert served.fake.calls == before + 3


METADATA: list[tuple[str, dict[str, Any]]] = [
    ("CommandGetCatalogs", {}),
    ("CommandGetDbSchemas", {"catalog": "memory"}),
    ("CommandGetTables", {"include_schema": True}),
    ("CommandGetTables", {"table_types": ["VIEW"]}),
    ("CommandGetTableTypes", {}),
    ("CommandGetPrimaryKeys", {"table": "movies"}),
    ("CommandGetExportedKeys", {"table": "movies"}),
    ("CommandGetImportedKeys", {"table": "reviews"}),
    ("CommandGetCrossReference", {"pk_table": "movies", "fk_table": "reviews"}),
    ("CommandGetSqlInfo", {"info": [0, 8]}),
    ("CommandGetSqlInfo", {}),
]


@pytest.mark.parametrize(("name", "fields"), METADATA, ids=[f"{n}-{f}" for n, f in METADATA])
def test_metadata_has_the_schema_that_was_announced(
    served: Flying, client: flight.FlightClient, name: str, fields: dict[str, Any]
) -> None:
    before = served.fake.calls
    announced = client.get_schema(descriptor(name, **fields)).schema
    found = rows(client, name, **fields)
    assert found.num_rows > 0
    assert found.schema == announced
    assert served.fake.calls == before


def test_keys_are_told_with_both_their_sides(client: flight.FlightClient) -> None:
    [primary] = rows(client, "CommandGetPrimaryKeys", table="movies").to_pylist()
    assert (primary["column_name"], primary["key_sequence"]) == ("id", 1)
    [foreign] = rows(client, "CommandGetImportedKeys", table="reviews").to_pylist()
    assert (foreign["pk_table_name"], foreign["pk_column_name"]) == ("movies", "id")
    assert (foreign["fk_table_name"], foreign["fk_column_name"]) == ("reviews", "movie_id")
    assert rows(client, "CommandGetImportedKeys", table="movies").num_rows == 0


def test_a_result_can_be_fetched_once_and_cancelled(client: flight.FlightClient) -> None:
    query = descriptor("CommandStatementQuery", query="SELECT i FROM range(10000000) r(i)")
    info = client.get_flight_info(query)
    request = message("CancelFlightInfoRequest", info=info.serialize()).SerializeToString()
    [done] = client.do_action(("CancelFlightInfo", request))
    assert parsed("CancelFlightInfoResult", done.body.to_pybytes()).status == 1
    with pytest.raises(flight.FlightError, match="does not exist any more"):
        client.do_get(info.endpoints[0].ticket).read_all()
    read = client.get_flight_info(query)
    reader = client.do_get(read.endpoints[0].ticket)
    reader.read_chunk()
    request = message("CancelFlightInfoRequest", info=read.serialize()).SerializeToString()
    [done] = client.do_action(("CancelFlightInfo", request))
    assert parsed("CancelFlightInfoResult", done.body.to_pybytes()).status == 1
    with pytest.raises(flight.FlightError, match="canceling statement"):
        while True:
            reader.read_chunk()


def test_options_of_a_session_are_set_told_and_refused(client: flight.FlightClient) -> None:
    value = message("SessionOptionValue", string_value="7")
    options = [
        message("SessionOption", key=key, value=value) for key in ("llm_max_calls", "nonsense")
    ]
    request = message("SetSessionOptionsRequest", session_options=options).SerializeToString()
    [done] = client.do_action(("SetSessionOptions", request))
    errors = parsed("SetSessionOptionsResult", done.body.to_pybytes()).errors
    assert [error.key for error in errors] == ["nonsense"]
    assert rows(client, "CommandStatementQuery", query="SHOW llm_max_calls")[0].to_pylist() == ["7"]
    [told] = client.do_action(("GetSessionOptions", b""))
    found = parsed("GetSessionOptionsResult", told.body.to_pybytes()).session_options
    assert {one.key: one.value.string_value for one in found} == {
        "catalog": "memory",
        "schema": "main",
    }


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"x" * 1000, wrapped(message("RpcStatus"))])
def test_bytes_that_are_no_command_are_an_error(
    served: Flying, client: flight.FlightClient, data: bytes
) -> None:
    before = served.databases.faults.count
    for work in (
        lambda: client.get_flight_info(flight.FlightDescriptor.for_command(data)),
        lambda: client.do_get(flight.Ticket(data)).read_all(),
        lambda: list(client.do_action(("CreatePreparedStatement", data))),
        lambda: list(client.do_action(("Nonsense", data))),
    ):
        with pytest.raises((flight.FlightError, pa.ArrowException)):
            work()
    assert served.databases.faults.count == before
    assert rows(client, "CommandStatementQuery", query="SELECT 1").num_rows == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (unwrapped, lambda d: parsed("CommandStatementIngest", d)):
        try:
            read(data)
        except WireError as error:
            assert error.message


def basic(client: flight.FlightClient, user: str, password: str) -> flight.FlightCallOptions:
    pair = client.authenticate_basic_token(user, password)
    return flight.FlightCallOptions(headers=[pair])


def test_a_token_is_for_one_role_and_ends_with_its_session() -> None:
    users = {"anna": Role("anna", verifier_of("a")), "ben": Role("ben", verifier_of("b"))}
    query = descriptor("CommandStatementQuery", query="SELECT current_user")
    with flying(users=users) as served, flight.connect(served.address) as client:
        for name in ("anna", "ben"):
            options = basic(client, name, name[0])
            info = client.get_flight_info(query, options)
            found = client.do_get(info.endpoints[0].ticket, options).read_all()
            assert found[0].to_pylist() == [name]
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.get_flight_info(query)
        with pytest.raises(flight.FlightUnauthenticatedError, match="authentication failed"):
            client.authenticate_basic_token("anna", "b")
        list(client.do_action(("CloseSession", b""), options))
        with pytest.raises(flight.FlightUnauthenticatedError, match="log in again"):
            client.get_flight_info(query, options)


def test_a_client_that_gives_up_frees_the_model_within_a_second() -> None:
    with (
        flying(FakeProvider(latency=60.0)) as served,
        flight.connect(served.address) as client,
    ):
        hasty = flight.FlightCallOptions(timeout=2.0)  # planned by then, on a busy machine too
        with pytest.raises(flight.FlightTimedOutError):
            client.get_flight_info(descriptor("CommandStatementQuery", query=QUESTION), hasty)
        ended = time.monotonic()
        while served.fake.in_flight:
            assert time.monotonic() - ended < 1
            time.sleep(0.01)
        assert served.fake.calls > 0
        assert rows(client, "CommandStatementQuery", query="SELECT 1").num_rows == 1


def test_rows_are_not_made_before_they_are_taken(client: flight.FlightClient) -> None:
    """A table of 8 GB would not fit; its first rows come at once."""
    query = "SELECT repeat('x', 1000) FROM range(8000000)"
    info = client.get_flight_info(descriptor("CommandStatementQuery", query=query))
    reader = client.do_get(info.endpoints[0].ticket)
    assert reader.read_chunk().data.num_rows > 0
    reader.cancel()


MARKS = [
    ("SELECT ?, '?', \"?\" -- ?\n WHERE a = ?", "SELECT $1, '?', \"?\" -- ?\n WHERE a = $2"),
    ("SELECT ?::INTEGER, ? ::TEXT", "SELECT $1::INTEGER, $2 ::TEXT"),
    ("SELECT $1, $2", "SELECT $1, $2"),
    ("SELECT 1", "SELECT 1"),
    ("", ""),
]


@pytest.mark.parametrize(("sql", "written"), MARKS)
def test_marks_are_numbered(sql: str, written: str) -> None:
    assert numbered(sql) == written


def test_two_kinds_of_marks_are_refused() -> None:
    with pytest.raises(WireError, match="not both"):
        numbered("SELECT ?, $1")


ARROW_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20),
    st.binary(max_size=20),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.decimals(-(10**9), 10**9, places=4),
    st.lists(st.integers(-5, 5) | st.none(), min_size=1, max_size=4),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[quackllm.Connection]:
    with quackllm.connect() as opened:
        yield opened


@settings(max_examples=150, deadline=None)
@given(value=ARROW_VALUES)
def test_a_value_written_as_sql_is_the_value(connection: quackllm.Connection, value: Any) -> None:
    scalar = pa.scalar(value)
    sql = f"SELECT {value_literal(scalar)} AS x"
    assert calls.relation(connection, sql).fetchall() == [(value,)]


@pytest.mark.parametrize(
    ("scalar", "sql"),
    [
        (pa.scalar(dt.timedelta(days=1), pa.duration("us")), "to_microseconds(86400000000)"),
        (
            pa.scalar({"a": 1, 'b"c': None}),
            'CAST({\'a\': CAST(1 AS BIGINT), \'b"c\': NULL} AS STRUCT("a" BIGINT, "b""c" "NULL"))',
        ),
        (pa.scalar(Decimal("1.5"), pa.decimal128(5, 2)), "CAST('1.50' AS DECIMAL(5, 2))"),
        (pa.array(["x"]).dictionary_encode()[0], "'x'"),
    ],
)
def test_values_of_rarer_types_are_written(scalar: pa.Scalar, sql: str) -> None:
    assert value_literal(scalar) == sql


def test_a_type_that_duckdb_has_not_is_named() -> None:
    with pytest.raises(WireError, match="run_end_encoded"):
        duckdb_type(pa.run_end_encoded(pa.int32(), pa.int64()))
