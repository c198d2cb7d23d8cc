"""The text of a type is read as DuckDB reads it; what is not supported is said, with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.errors import BindError
from quackllm.udfs.type_parser import SUPPORTED, parse_described_type, parse_type

if TYPE_CHECKING:
    from collections.abc import Iterator

SAME_AS_DUCKDB = [
    "bool", "logical", "int1", "int2", "short", "int", "int4", "signed", "int8", "long",
    "hugeint", "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint", "real", "float4",
    "float8", "double precision", "numeric", "decimal", "dec(5)", "decimal( 10 , 2 )", "text",
    "string", "char", "bpchar", "varchar(20)", "date", "time", "timestamp", "datetime",
    "timestamptz", "timestamp with time zone", "timestamp without time zone", "uuid", "json",
    "enum('a', 'it''s')", "int[]", "text[][]", "struct(a int, \"quoted \"\"name\" text[])",
    "map(text, struct(x double)[])", "Struct(A Decimal(4,1))[]",
]  # fmt: skip


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.mark.parametrize("text", SAME_AS_DUCKDB)
def test_aliases_mean_what_they_mean_in_duckdb(con: duckdb.DuckDBPyConnection, text: str) -> None:
    query = f"SELECT typeof(CAST(NULL AS {text})), typeof(CAST(NULL AS {{}}))"
    [[theirs, ours]] = con.execute(query.format(parse_type(text).to_duckdb())).fetchall()
    assert ours == theirs


REFUSED = [
    ("", "expected a type, found 'the end' at character 1"),
    ("BLOB", "unknown or unsupported type 'BLOB' at character 1"),
    ("INTEGR", "unknown or unsupported type 'INTEGR' at character 1"),
    ("INTEGER[3]", "arrays of a fixed size are not supported, write T[] at character 9"),
    ("INTEGER INTEGER", "unexpected 'INTEGER' at character 9"),
    ("STRUCT()", "expected the name of a field, found ')' at character 8"),
    ("STRUCT(a INT", "expected ')', found 'the end' at character 13"),
    ("STRUCT(a INT, A INT)", "the field 'A' appears twice at character 15"),
    ("STRUCT(a)", "expected a type, found ')' at character 9"),
    ('STRUCT("" INT)', "the name of a field is empty at character 8"),
    ("MAP(INT, INT)", "the keys of a MAP must be VARCHAR at character 5"),
    ("ENUM()", "expected a text in single quotes, found ')' at character 6"),
    ("ENUM('a','a')", "the value 'a' appears twice at character 10"),
    ("DECIMAL(39,2)", "DECIMAL(p,s) needs 1 <= p <= 38 and s <= p, at character 9"),
    ("DECIMAL(4,5)", "DECIMAL(p,s) needs 1 <= p <= 38 and s <= p, at character 9"),
    ("STRUCT(a INT); DROP TABLE t", "unexpected ';' at character 14"),
    ("'INTEGER'", "expected a type, found \"'INTEGER'\" at character 1"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_type_that_cannot_be_read_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(BindError) as caught:
        parse_type(text)
    shown = str(caught.value)
    assert f"the type {text!r} cannot be read: {message}" in shown
    assert SUPPORTED in shown


@settings(deadline=None)
@given(st.text(max_size=40) | st.text(alphabet="STRUCTINMAPENUM(),[]' \"a1", max_size=40))
def test_any_text_is_a_type_or_a_bind_error(text: str) -> None:
    try:
        type_ = parse_type(text)
    except BindError:
        return
    assert parse_type(type_.to_duckdb()) == type_


def test_a_description_follows_the_colon() -> None:
    type_, description = parse_described_type("ENUM('a: b', 'c')[]:  the  grade:\n of it ")
    assert type_.to_duckdb() == "ENUM('a: b', 'c')[]"
    assert description == "the grade: of it"
    assert parse_described_type("DOUBLE") == (parse_type("DOUBLE"), "")
