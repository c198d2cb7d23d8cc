"""Every type of DuckDB's reaches a client in both formats as the value that it is (promise 3)."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

UTC = dt.UTC
CASES: list[tuple[str, Any]] = [
    ("true", True),
    ("1::TINYINT", 1),
    ("255::UTINYINT", 255),
    ("(-3)::SMALLINT", -3),
    ("65535::USMALLINT", 65535),
    ("5", 5),
    ("4294967295::UINTEGER", 4294967295),
    ("7::BIGINT", 7),
    ("18446744073709551615::UBIGINT", Decimal(18446744073709551615)),
    ("(-170141183460469231731687303715884105727)::HUGEINT", Decimal(-(2**127) + 1)),
    ("340282366920938463463374607431768211455::UHUGEINT", Decimal(2**128 - 1)),
    ("123456789012345678901234567890::BIGNUM", Decimal(123456789012345678901234567890)),
    ("1.5::FLOAT", 1.5),
    ("0.1::DOUBLE", 0.1),
    ("'inf'::DOUBLE", math.inf),
    ("'-inf'::FLOAT", -math.inf),
    ("3.14::DECIMAL(5, 2)", Decimal("3.14")),
    ("-0.001::DECIMAL(18, 3)", Decimal("-0.001")),
    ("0::DECIMAL(9, 4)", Decimal("0.0000")),
    ("10000::DECIMAL(9, 0)", Decimal(10000)),
    ("12345678901234567890.12345::DECIMAL(38, 5)", Decimal("12345678901234567890.12345")),
    ("'héllo 😀'", "héllo 😀"),
    ("''", ""),
    ("'\\x00\\xFF'::BLOB", b"\x00\xff"),
    ("DATE '2024-02-29'", dt.date(2024, 2, 29)),
    ("DATE '1969-12-31'", dt.date(1969, 12, 31)),
    ("TIME '01:02:03.5'", dt.time(1, 2, 3, 500000)),
    ("'01:02:03+02'::TIMETZ", dt.time(1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    ("TIMESTAMP '2024-01-02 03:04:05.678'", dt.datetime(2024, 1, 2, 3, 4, 5, 678000)),
    ("TIMESTAMP '1950-01-02 03:04:05'", dt.datetime(1950, 1, 2, 3, 4, 5)),
    ("'2024-01-02 03:04:05+00'::TIMESTAMPTZ", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("'2024-01-02'::TIMESTAMP_S", dt.datetime(2024, 1, 2)),
    ("'2024-01-02'::TIMESTAMP_MS", dt.datetime(2024, 1, 2)),
    ("'2024-01-02 00:00:00.123456001'::TIMESTAMP_NS", dt.datetime(2024, 1, 2, 0, 0, 0, 123456)),
    ("INTERVAL '3 days 4 hours'", dt.timedelta(days=3, hours=4)),
    ("'12345678-1234-1234-1234-123456789012'::UUID", uuid.UUID("12345678" + "-1234" * 3 + "-123456789012")),
    ("'a'::ENUM ('a', 'b')", "a"),
    ("[1, 2, NULL]", [1, 2, None]),
    ("CAST([] AS INTEGER[])", []),
    ("CAST(NULL AS INTEGER[])", None),
    ("array_value(1, 2)", [1, 2]),
    ("['a b', '', NULL, 'q\"x', 'NULL', 'back\\slash', '{}']", ["a b", "", None, 'q"x', "NULL", "back\\slash", "{}"]),
    ("[1.5::DOUBLE, 'inf'::DOUBLE]", [1.5, math.inf]),
    ("[true, false, NULL]", [True, False, None]),
    ("[DATE '2024-01-01', NULL]", [dt.date(2024, 1, 1), None]),
    ("[TIMESTAMP '2024-01-01 01:02:03']", [dt.datetime(2024, 1, 1, 1, 2, 3)]),
    ("[1.50::DECIMAL(5, 2), NULL]", [Decimal("1.50"), None]),
    ("['\\xAA'::BLOB]", [b"\xaa"]),
    ("[INTERVAL '1 day']", [dt.timedelta(days=1)]),
    ("[[1], [2, 3]]", [[1], [2, 3]]),
    ("{'a': 1, 'b': [1, NULL]}", {"a": 1, "b": [1, None]}),
    ("[{'a': 1}]", [{"a": 1}]),
    ("MAP {'k': 1}", {"k": 1}),
    ("union_value(num := 2)", {"num": 2}),
    ("'{\"a\": [1]}'::JSON", {"a": [1]}),
    ("NULL", None),
    ("CAST(NULL AS DECIMAL(5, 2))", None),
    ("CAST(NULL AS TIMETZ)", None),
    ("CAST(NULL AS INTERVAL)", None),
    ("CAST(NULL AS UUID)", None),
]  # fmt: skip


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize(("sql", "value"), CASES, ids=[sql[:40] for sql, _ in CASES])
def test_a_value_arrives(pg: psycopg.Connection, sql: str, value: Any, binary: bool) -> None:
    # A second row, NULL, so that lengths and offsets of columns are not those of one value.
    rows = pg.cursor(binary=binary).execute(f"SELECT {sql} UNION ALL SELECT NULL").fetchall()
    assert sorted(rows, key=lambda row: row[0] is None) == [(value,), (None,)]


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_infinite_and_old_dates_are_written_as_postgresql_does(
    pg: psycopg.Connection, binary: bool
) -> None:
    cursor = pg.cursor(binary=binary)
    for sql in ("DATE 'infinity'", "TIMESTAMP '-infinity'", "DATE '0044-03-15 (BC)'"):
        with pytest.raises(psycopg.DataError, match=r"infinit|too large|too small|BC|inf"):
            cursor.execute(f"SELECT {sql}").fetchone()


VALUES: list[tuple[str, Any]] = [
    ("BOOLEAN", True),
    ("SMALLINT", -7),
    ("INTEGER", 70_000),
    ("BIGINT", -(2**40)),
    ("DOUBLE", 0.1),
    ("DOUBLE", -math.inf),
    ("DECIMAL(20, 5)", Decimal("-12.34000")),
    ("DECIMAL(38, 0)", Decimal(10**37)),
    ("VARCHAR", 'it\'s $1 \\ "é" 😀'),
    ("BLOB", b"\x00\xff'\\"),
    ("DATE", dt.date(1999, 12, 31)),
    ("TIME", dt.time(23, 59, 59, 999999)),
    ("TIMETZ", dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-3)))),
    ("TIMESTAMP", dt.datetime(1999, 12, 31, 23, 59, 59, 1)),
    ("TIMESTAMPTZ", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("INTERVAL", dt.timedelta(days=-1, seconds=5, microseconds=7)),
    ("UUID", uuid.UUID(int=7)),
    ("INTEGER[]", [1, None, 3]),
    ("VARCHAR[]", ["a", "b,c", 'q"', None, ""]),
    ("DOUBLE[]", [1.5, None]),
    ("DATE[]", [dt.date(2024, 1, 1)]),
]


@pytest.mark.parametrize("form", ["%t", "%b"], ids=["text", "binary"])
@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[f"{k}-{v!r}"[:40] for k, v in VALUES])
def test_a_parameter_arrives(pg: psycopg.Connection, kind: str, value: Any, form: str) -> None:
    assert pg.execute(f"SELECT CAST({form} AS {kind})", (value,)).fetchone() == (value,)


def test_a_parameter_without_a_type_takes_that_of_its_place(pg: psycopg.Connection) -> None:
    found = pg.execute(
        "SELECT title FROM movies WHERE id = %t AND released > %t", ("3", "2020-01-01")
    )
    assert found.fetchall() == [("Movie 3",)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=7, min_value=-(10**20), max_value=10**20),
            st.none() | st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])),
            st.none() | st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=4),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)  # fmt: skip
def test_rows_of_any_values_come_back(
    pg: psycopg.Connection, rows: list[tuple[Any, ...]], binary: bool
) -> None:
    """Numerics, texts and lists of all lengths beside each other."""
    values = ", ".join(
        f"({i}, CAST(%s AS DECIMAL(38, 7)), CAST(%s AS VARCHAR), CAST(%s AS INTEGER[]))"
        for i in range(len(rows))
    )
    sql = f"SELECT a, b, c FROM (VALUES {values}) t(i, a, b, c) ORDER BY i"
    given_values = [value for row in rows for value in row]
    assert pg.cursor(binary=binary).execute(sql, given_values).fetchall() == rows
