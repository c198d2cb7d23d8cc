"""Every answer that a type accepts is a value of that type in DuckDB, and the right one."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quackllm.errors import InvalidAnswer
from quackllm.udfs.answers import read_typed
from quackllm.udfs.nested_types import Json, ListType, MapType, StructField, StructType
from quackllm.udfs.type_parser import parse_type
from quackllm.udfs.types import (
    Boolean,
    Date,
    DecimalType,
    Enum,
    Float,
    Integer,
    SqlType,
    Time,
    Timestamp,
    Uuid,
    Varchar,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

relaxed = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

INTEGERS = [
    Integer(f"{prefix}{name}", bits, signed=not prefix)
    for prefix in ("", "U")
    for name, bits in (
        ("TINYINT", 8),
        ("SMALLINT", 16),
        ("INTEGER", 32),
        ("BIGINT", 64),
        ("HUGEINT", 128),
    )
]

unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def value_of(con: duckdb.DuckDBPyConnection, type_: SqlType, text: str, show: str = "{}") -> Any:
    """The value that the engine makes of a canonical text."""
    cast = show.format(type_.cast_sql("t"))
    return con.execute(f"SELECT {cast} FROM (SELECT ? AS t)", [text]).fetchall()[0][0]


def answered(type_: SqlType, value: Any) -> str:
    """The canonical text of a model's answer that carries the value."""
    wrapped = value if isinstance(type_, StructType) else {"answer": value}
    text = read_typed(json.dumps(wrapped), type_)
    assert text is not None
    return text


def structs(fields: dict[str, SqlType]) -> StructType:
    return StructType(tuple(StructField(name, type_) for name, type_ in fields.items()))


def distinct_names(min_size: int = 1) -> st.SearchStrategy[list[str]]:
    # DuckDB compares the names of a struct without case, as far as ASCII goes.
    return st.lists(names, min_size=min_size, max_size=3, unique_by=lambda name: name.casefold())


scalars: st.SearchStrategy[SqlType] = st.one_of(
    st.just(Boolean()),
    st.sampled_from(INTEGERS),
    st.sampled_from([Float("FLOAT"), Float("DOUBLE")]),
    st.integers(1, 38).flatmap(
        lambda precision: st.builds(DecimalType, st.just(precision), st.integers(0, precision))
    ),
    st.sampled_from([Varchar(), Date(), Time(), Timestamp(), Uuid()]),
    st.lists(names, min_size=1, max_size=4, unique=True).map(lambda each: Enum(tuple(each))),
)

types: st.SearchStrategy[SqlType] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        inner.map(ListType),
        inner.map(MapType),
        distinct_names().flatmap(
            lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, inner)).map(structs)
        ),
    ),
    max_leaves=4,
)


def of_type(type_: SqlType) -> st.SearchStrategy[tuple[Any, Any]]:
    """Pairs: a JSON value that a model may answer, and the Python value DuckDB should give."""
    match type_:
        case Boolean():
            return st.booleans().map(lambda each: (each, each))
        case Integer():
            return st.integers(type_.low, type_.high).map(lambda each: (each, each))
        case Float():
            finite = partial(st.floats, allow_nan=False, allow_infinity=False)
            floats = finite(width=32) if type_.name == "FLOAT" else finite()
            return floats.map(lambda each: (each, each))
        case DecimalType():
            most = 10**type_.precision - 1
            return st.integers(-most, most).map(lambda each: decimal_pair(each, type_.scale))
        case Varchar():
            return unicode_text.map(lambda each: (each, each))
        case Date():
            return st.dates().map(lambda each: (each.isoformat(), each))
        case Time():
            return st.times().map(lambda each: (each.isoformat(), each))
        case Timestamp():
            return st.datetimes().map(lambda each: (each.isoformat(), each))
        case Uuid():
            return st.uuids().map(lambda each: (str(each), each))
        case Enum():
            return st.sampled_from(type_.values).map(lambda each: (each, each))
        case ListType():
            items = st.lists(of_type(type_.item), max_size=3)
            return items.map(lambda each: ([a for a, _ in each], [b for _, b in each]))
        case MapType():
            return dicts(st.dictionaries(unicode_text, or_null(type_.value), max_size=3))
        case StructType():
            shape = {each.name: or_null(each.type) for each in type_.fields}
            return dicts(st.fixed_dictionaries(shape))
    raise AssertionError(type_)


def decimal_pair(digits: int, scale: int) -> tuple[str, Decimal]:
    # Not by arithmetic: that would round to the 28 digits of the default context.
    text = f"{Decimal(f'{digits}E-{scale}'):f}"
    return text, Decimal(text)


def or_null(type_: SqlType) -> st.SearchStrategy[tuple[Any, Any]]:
    return st.one_of(st.just((None, None)), of_type(type_))


def dicts(pairs: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[tuple[Any, Any]]:
    return pairs.map(
        lambda each: (
            {key: a for key, (a, _) in each.items()},
            {key: b for key, (_, b) in each.items()},
        )
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["12.5", "1,200", "1e400", "2024-02-30", "24:00:00", "\ud800", "a\0b", "NaN"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@relaxed
@given(st.data())
def test_a_value_of_the_type_arrives_in_duckdb_as_that_value(
    con: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    type_ = data.draw(types)
    value, expected = data.draw(of_type(type_))
    assert value_of(con, type_, answered(type_, value)) == expected


@relaxed
@given(st.data())
def test_any_json_is_refused_or_casts(con: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    type_ = data.draw(types)
    # A valid value with one part replaced gets deeper than arbitrary JSON.
    value, _ = data.draw(of_type(type_))
    broken = data.draw(st.just(data.draw(json_values)) | replaced(value))
    try:
        text = answered(type_, broken)
    except InvalidAnswer:
        return
    value_of(con, type_, text, "({})::VARCHAR")


@st.composite
def replaced(draw: st.DrawFn, value: Any) -> Any:
    """The value with one member, at some depth, replaced by arbitrary JSON."""
    if isinstance(value, list) and value:
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(replaced(value[at])), *value[at + 1 :]]
    if isinstance(value, dict) and value:
        key = draw(st.sampled_from(list(value)))
        return {**value, key: draw(replaced(value[key]))}
    return draw(json_values)


@relaxed
@given(scalars, st.text(max_size=20))
def test_any_text_is_refused_or_casts(
    con: duckdb.DuckDBPyConnection, type_: SqlType, text: str
) -> None:
    try:
        read = read_typed(text, type_)
    except InvalidAnswer:
        return
    assert read is not None
    value_of(con, type_, read)


@relaxed
@given(json_values)
def test_a_json_answer_is_the_same_document_in_duckdb(
    con: duckdb.DuckDBPyConnection, value: Any
) -> None:
    try:
        text = answered(Json(), value)
    except InvalidAnswer as error:
        assert "lone surrogate" in str(error)
        return
    assert json.loads(value_of(con, Json(), text)) == value


@pytest.mark.parametrize("type_", INTEGERS, ids=lambda each: each.name)
@pytest.mark.parametrize("nest", [False, True], ids=["alone", "in a list"])
def test_integer_limits_are_those_of_duckdb(
    con: duckdb.DuckDBPyConnection, type_: Integer, nest: bool
) -> None:
    for value in (type_.low, type_.high):
        outer = ListType(type_) if nest else type_
        text = answered(outer, [value] if nest else value)
        assert value_of(con, outer, text) == ([value] if nest else value)
    for value in (type_.low - 1, type_.high + 1):
        with pytest.raises(InvalidAnswer, match=f"within {type_.name}"):
            type_.canonical(value)


@relaxed
@given(
    st.integers(1, 20).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))),
    st.decimals(-(10**12), 10**12, places=8),
)
def test_decimals_round_as_duckdb_rounds(
    con: duckdb.DuckDBPyConnection, size: tuple[int, int], value: Decimal
) -> None:
    type_ = DecimalType(*size)
    sql = f"SELECT TRY_CAST(? AS {type_.to_duckdb()})"
    [direct] = con.execute(sql, [f"{value:f}"]).fetchall()
    try:
        text = type_.canonical(value)
    except InvalidAnswer:
        assert direct[0] is None
    else:
        assert Decimal(text) == direct[0]
        assert value_of(con, type_, text) == direct[0]


def test_decimals_keep_all_38_digits_inside_a_struct(con: duckdb.DuckDBPyConnection) -> None:
    """DuckDB 1.5 reads a JSON number as DOUBLE: the digits must travel as text."""
    type_ = parse_type("STRUCT(a DECIMAL(38,6))")
    text = read_typed('{"a": 12345678901234567890.1234565}', type_)
    assert text is not None
    assert value_of(con, type_, text) == {"a": Decimal("12345678901234567890.123457")}


@relaxed
@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-14, 14)
)
def test_instants_keep_their_instant(
    con: duckdb.DuckDBPyConnection, moment: datetime, hours: int
) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    type_ = parse_type("TIMESTAMPTZ")
    micros = value_of(con, type_, answered(type_, zoned.isoformat()), "epoch_us({})")
    assert micros == (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"])
def test_instants_outside_the_calendar_are_refused(text: str) -> None:
    with pytest.raises(InvalidAnswer, match="TIMESTAMPTZ"):
        parse_type("TIMESTAMPTZ").canonical(text)


def test_nul_and_emoji_survive_the_way_through_arrow(con: duckdb.DuckDBPyConnection) -> None:
    """The engine hands canonical texts over as Arrow; NUL must not cut them."""
    type_ = parse_type("STRUCT(a VARCHAR, b VARCHAR[])")
    value = {"a": "x\0y", "b": ["\U0001f986", "שלום", '"}\\']}
    answers = pa.table({"t": [answered(type_, value)]})
    con.register("answers", answers)
    rows = con.execute(f"SELECT {type_.cast_sql('t')} FROM answers").fetchall()
    con.unregister("answers")
    assert rows == [(value,)]


ACCEPTED = [
    ("BOOLEAN", "Yes", True),
    ("BOOLEAN", "FALSE", False),
    ("INTEGER", "12", 12),
    ("INTEGER", " -12 ", -12),
    ("INTEGER", 5.0, 5),
    ("INTEGER", "1e3", 1000),
    ("DOUBLE", "12.50", 12.5),
    ("DOUBLE", 3, 3.0),
    ("FLOAT", 1e-50, 0.0),
    ("DECIMAL(4,2)", "0.125", Decimal("0.13")),
    ("DECIMAL(4,2)", -0.001, Decimal("0.00")),
    ("VARCHAR", 90210, "90210"),
    ("VARCHAR", "", ""),
    ("TIME", "09:30", time(9, 30)),
    ("TIMESTAMP", "2024-01-31", datetime(2024, 1, 31)),
    ("TIMESTAMP", "2024-01-31T09:30:00Z", datetime(2024, 1, 31, 9, 30)),
    ("DATE", "2024-01-31", date(2024, 1, 31)),
    ("UUID", "123E4567-E89B-12D3-A456-426614174000", UUID("123e4567-e89b-12d3-a456-426614174000")),
    ("ENUM('Low','High')", "low", "Low"),
    ("ENUM('a','A')", "A", "A"),
]

REFUSED = [
    ("BOOLEAN", 1, "$: 1 is not a BOOLEAN"),
    ("BOOLEAN", "maybe", "$: 'maybe' is not a BOOLEAN"),
    ("INTEGER", True, "$: True is not a whole number (INTEGER)"),
    ("INTEGER", 5.5, "$: 5.5 is not a whole number (INTEGER)"),
    ("INTEGER", "1,200", "$: '1,200' is not a whole number (INTEGER)"),
    ("INTEGER", "twelve", "$: 'twelve' is not a whole number (INTEGER)"),
    ("INTEGER", "\u0661\u0662", "$: '١٢' is not a whole number (INTEGER)"),
    ("INTEGER", Decimal("1E+999999999"), "is not within INTEGER (-2147483648 to 2147483647)"),
    ("UTINYINT", -1, "$: -1 is not within UTINYINT (0 to 255)"),
    ("DOUBLE", "$12", "$: '$12' is not a DOUBLE"),
    ("DOUBLE", math.inf, "is not a DOUBLE"),
    ("DOUBLE", math.nan, "is not a DOUBLE"),
    ("DOUBLE", "1e400", "is not within the range of DOUBLE"),
    ("FLOAT", 1e39, "is not within the range of FLOAT"),
    ("DECIMAL(4,2)", 99.995, "$: 99.995 is not within DECIMAL(4,2)"),
    ("DECIMAL(4,2)", 100, "$: 100 is not within DECIMAL(4,2)"),
    ("VARCHAR", True, "$: True is not a text"),
    ("VARCHAR", {"a": 1}, "$: {'a': 1} is not a text"),
    ("VARCHAR", "a\ud800", "$: lone surrogate at character 1"),
    ("DATE", "31/01/2024", "$: '31/01/2024' is not a DATE (YYYY-MM-DD)"),
    ("DATE", "2024-02-30", "$: '2024-02-30' is not a DATE (YYYY-MM-DD)"),
    ("DATE", "20240131", "$: '20240131' is not a DATE (YYYY-MM-DD)"),
    ("TIME", "24:00:00", "is not a TIME (HH:MM:SS)"),
    ("TIMESTAMP", "2024-01-31T09:30:00+02:00", "is not a TIMESTAMP"),
    ("TIMESTAMPTZ", "2024-01-31T09:30:00", "is not a TIMESTAMPTZ"),
    ("UUID", "123", "$: '123' is not a UUID"),
    ("ENUM('a','b')", "c", '$: \'c\' is not one of "a", "b"'),
    ("ENUM('ab','AB')", "Ab", '$: \'Ab\' is not one of "ab", "AB"'),
    ("INTEGER[]", [1, None], "$[1]: null is not a whole number (INTEGER)"),
    ("INTEGER[]", 1, "$: 1 is not a list"),
    ("STRUCT(items STRUCT(price DOUBLE)[])", {"items": [{"price": 1}, {"price": "abc"}]},
     "$.items[1].price: 'abc' is not a DOUBLE"),
    ("STRUCT(a INTEGER, b INTEGER)", {"a": 1}, "$: field 'b' is missing"),
    ("STRUCT(a INTEGER)", None, "$: null is not an object"),
    ("MAP(VARCHAR, INTEGER)", {"x": "y"}, "$.x: 'y' is not a whole number (INTEGER)"),
    ("MAP(VARCHAR, INTEGER)", {"\udfff": 1}, "$: lone surrogate at character 0"),
    ("JSON", ["\ud800"], "$[0]: lone surrogate at character 0"),
]  # fmt: skip


@pytest.mark.parametrize(("type_text", "value", "expected"), ACCEPTED)
def test_unambiguous_forms_are_accepted(
    con: duckdb.DuckDBPyConnection, type_text: str, value: Any, expected: Any
) -> None:
    type_ = parse_type(type_text)
    assert value_of(con, type_, answered(type_, value)) == expected


@pytest.mark.parametrize(("type_text", "value", "message"), REFUSED)
def test_everything_else_is_refused_with_its_path(type_text: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        parse_type(type_text).canonical(value)
    assert message in str(caught.value)


def test_json_deeper_than_100_levels_is_refused() -> None:
    value: Any = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(InvalidAnswer, match="100 levels"):
        Json().canonical(value)


@relaxed
@given(types)
def test_duckdb_reads_the_type_text_and_so_do_we(
    con: duckdb.DuckDBPyConnection, type_: SqlType
) -> None:
    written = type_.to_duckdb()
    [[shown]] = con.execute(f"SELECT typeof(CAST(NULL AS {written}))").fetchall()
    assert parse_type(shown) == parse_type(written) == type_


@relaxed
@given(types)
def test_schemas_are_closed_and_require_every_property(type_: SqlType) -> None:
    """OpenAI's strict mode asks for it; only MAP and JSON are open."""

    def check(schema: dict[str, Any]) -> None:
        if "properties" in schema:
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            for member in schema["properties"].values():
                assert "null" in member["type"]
                check(member)
        if "items" in schema:
            check(schema["items"])

    check(type_.json_schema())


def test_decimal_rounding_is_half_away_from_zero() -> None:
    assert DecimalType(4, 2).canonical("-0.125") == "-0.13"
    assert Decimal("-0.125").quantize(Decimal("0.01"), ROUND_HALF_UP) == Decimal("-0.13")
