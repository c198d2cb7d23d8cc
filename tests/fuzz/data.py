"""Random tables: few columns, few rows, many NULLs and duplicates, some odd values.

One table may have hundreds of rows more: an early stop then takes several rounds, and
the order of predicates is learned from a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tests.fuzz.cases import BOOLEAN, DATE, DOUBLE, INTEGER, TEXTS, TYPES, VARCHAR, Column, Table
from tests.fuzz.source import Source

NAMES = ("a", "b", "c", "d", "Mixed", '"odd name"', '"select"', '"q""uote"')

VALUES: Mapping[str, tuple[str, ...]] = {
    VARCHAR: (
        "NULL",
        "'x'",
        "'y'",
        "'x'",
        "''",
        "'it''s'",
        '\'{"a": "\\"}\'',
        "'😀'",
        "'null'",
        "'two' || chr(10) || 'lines'",
        "chr(31)",
    ),
    INTEGER: ("NULL", "1", "2", "1", "0", "-1", "3", "1000000"),
    DOUBLE: ("NULL", "1.5", "0.25", "1.5", "-2.0", "1e10", "'inf'"),
    BOOLEAN: ("NULL", "true", "false"),
    DATE: ("NULL", "'2020-02-29'", "'1999-12-31'", "'2020-02-29'"),
    TEXTS: ("NULL", "['x']", "[]", "['x', NULL]", "['it''s', '😀']", "['x']"),
}


MORE = (330, 500, 800)
"""Rows of a large table: the least is above what sampling asks for."""


def tables(source: Source) -> tuple[Table, ...]:
    """Two or three tables; sometimes one of them is large."""
    zero = source.pick(("0.0", "'-0.0'"))  # never both: which one a group shows is not fixed
    made = [_table(source, f"t{number}", zero) for number in range(1, 3 + source.below(2))]
    if source.chance(5):
        source.use("large table")
        at = source.below(len(made))
        made[at] = replace(made[at], more=source.pick(MORE))
    return tuple(made)


def _table(source: Source, name: str, zero: str) -> Table:
    types = [VARCHAR, INTEGER, *source.some(TYPES, 0, 3)]
    first = source.below(3)  # tables share some names and not others
    columns = tuple(Column(NAMES[first + i], type_) for i, type_ in enumerate(types))
    count = source.below(2 if source.chance(8) else 9)
    kind = source.pick(("plain", "plain", "plain", "many NULLs", "many duplicates"))
    source.use(f"table: {kind}")
    rows = [
        tuple(_value(source, column.type, zero, kind) for column in columns) for _ in range(count)
    ]
    if rows and source.chance(3):
        rows.append(rows[0])
    return Table(name, columns, tuple(rows))


def _value(source: Source, type_: str, zero: str, kind: str) -> str:
    if kind == "many NULLs" and source.chance(2):
        return "NULL"
    values = VALUES[type_]
    if kind == "many duplicates":
        return source.pick(values[1:3])
    return source.pick((*values, zero) if type_ == DOUBLE else values)
