"""Vectors as bytes: what is written is read again, and what is no vector is refused."""

from __future__ import annotations

import random

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quackllm.server.duckdb_shell.frames import Reader
from quackllm.server.duckdb_shell.vectors import Type, read_type, type_of

COLUMNS = [
    "[true, false, NULL]",
    "[1::TINYINT, '-128'::TINYINT, NULL]",
    "[1::UBIGINT, 18446744073709551615::UBIGINT]",
    "[170141183460469231731687303715884105727::HUGEINT, -1::HUGEINT, NULL]",
    "[1.5::FLOAT, 'nan'::FLOAT, NULL]",
    "['-inf'::DOUBLE, 0.1]",
    "[-12.34::DECIMAL(4, 2), NULL]",
    "[12345678901234567890.123456::DECIMAL(30, 6), NULL]",
    "['', 'é', NULL, repeat('long ', 1000), chr(0) || 'after NUL', '🦆']",
    "['\\x00\\xFF'::BLOB, ''::BLOB, NULL]",
    "['{\"a\": [1, null]}'::JSON, NULL]",
    "[DATE '2024-02-29', DATE '0001-01-01', NULL]",
    "[TIME '23:59:59.999999', NULL]",
    "[TIMESTAMP '2024-01-02 03:04:05.678901', NULL]",
    "[TIMESTAMP_S '2024-01-02 03:04:05', NULL]",
    "[TIMESTAMP_NS '2024-01-02 03:04:05.678901234', NULL]",
    "[TIMESTAMPTZ '2024-01-02 03:04:05+00', NULL]",
    "[INTERVAL '1 month 2 days 3 microseconds', NULL]",
    "[gen_random_uuid(), '00000000-0000-0000-0000-000000000001'::UUID, NULL]",
    "['x'::ENUM ('x', 'y'), 'y'::ENUM ('x', 'y'), NULL]",
    "[[1, NULL], [], NULL, [2, 3, 4]]",
    "[[['a'], NULL, []], [[NULL]]]",
    "[array_value(1, NULL), NULL, array_value(3, 4)]",
    "[{'a': 1, 'b': ['x', NULL]}, NULL, {'a': NULL, 'b': NULL}]",
    "[MAP {'k': 1, 'l': NULL}, MAP {}, NULL]",
    "[[{'a': MAP {1: [0.5::DECIMAL(3, 1)]}}], NULL]",
]


def column(sql: str) -> tuple[Type, pa.Array]:
    """Rows of a list as a column, its type and its values."""
    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT unnest({sql}) AS c")
        [type_] = relation.types
        return type_of(type_), relation.to_arrow_table().column(0).combine_chunks()


@pytest.mark.parametrize("sql", COLUMNS)
def test_what_is_written_is_read_again(sql: str) -> None:
    type_, values = column(sql)
    for start in (0, 1):  # a slice begins in the middle of its buffers
        part = values.slice(start)
        reader = Reader(type_.header() + type_.write(part))
        again = read_type(reader)
        assert again.sql == type_.sql
        back = again.read(reader, len(part))
        assert [str(value) for value in back.to_pylist()] == [
            str(value) for value in part.to_pylist()
        ]
        with pytest.raises(ValueError, match="shorter"):
            reader.u8()


@pytest.mark.parametrize("sql", COLUMNS)
def test_no_rows_are_a_vector_too(sql: str) -> None:
    type_, values = column(sql)
    reader = Reader(type_.header() + type_.write(values.slice(0, 0)))
    assert len(read_type(reader).read(reader, 0)) == 0


def test_types_without_a_form_are_handed_over_as_texts() -> None:
    with duckdb.connect() as connection:
        relation = connection.sql("SELECT '101'::BIT AS a, [1::UHUGEINT] AS b")
        assert [type_of(each).sql for each in relation.types] == ["VARCHAR", "VARCHAR[]"]


@given(st.binary(max_size=200), st.integers(0, 5))
@settings(max_examples=500, deadline=None)
def test_bytes_that_are_no_vector_are_refused(payload: bytes, rows: int) -> None:
    reader = Reader(payload)
    try:
        read = read_type(reader).read(reader, rows)
        read.validate()
    except (ValueError, OverflowError, RecursionError, pa.ArrowException):
        return
    assert len(read) == rows


@pytest.mark.parametrize("sql", COLUMNS)
def test_a_vector_with_bytes_changed_is_another_vector_or_refused(sql: str) -> None:
    type_, values = column(sql)
    whole = type_.header() + type_.write(values)
    chance = random.Random(sql)
    for _ in range(100):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        reader = Reader(bytes(changed[: chance.randint(0, len(changed))]))
        try:
            read = read_type(reader).read(reader, len(values))
            read.validate(full=True)
            assert len(read) == len(values)
        except (ValueError, OverflowError, RecursionError, pa.ArrowException):
            continue
