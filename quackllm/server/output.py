"""Results as text: DuckDB's own table, CSV, JSON, Markdown and others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

FETCHED_ROWS = 10_000
"""Rows taken from DuckDB at a time, so that a large result does not stand in memory."""

TABLE_ROWS = 40
"""Rows that a table shows before it leaves out the middle, as in DuckDB's shell."""

Writer = Callable[[Any, TextIO], None]
"""Writes a relation (`duckdb.DuckDBPyRelation` or one of ours) to a stream."""


def write_table(relation: Any, out: TextIO) -> None:
    """Draw the relation as DuckDB does, on all of the terminal's width."""
    out.flush()
    width = shutil.get_terminal_size().columns if out.isatty() else None
    relation.show(max_rows=TABLE_ROWS, max_width=width)


def write_csv(relation: Any, out: TextIO) -> None:
    """Write RFC 4180 CSV with a header; NULL is an empty field, '' is a quoted one."""
    print(",".join(_csv_field(name) for name in relation.columns), file=out)
    for row in _rows_as_text(relation):
        print(",".join(_csv_field(value) for value in row), file=out)


def write_json(relation: Any, out: TextIO) -> None:
    """Write one list of objects; lists and structs stay lists and objects."""
    separator = "[\n"
    for text in _objects(relation):
        print(separator, end="  ", file=out)
        print(text, end="", file=out)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]", file=out)


def write_json_lines(relation: Any, out: TextIO) -> None:
    """Write one object per line."""
    for text in _objects(relation):
        print(text, file=out)


def write_lines(relation: Any, out: TextIO) -> None:
    """Write one value per line, `name = value`, rows apart; for wide rows and long texts."""
    width = max((len(name) for name in relation.columns), default=0)
    for number, row in enumerate(_rows_as_text(relation)):
        if number:
            print(file=out)
        for name, value in zip(relation.columns, row, strict=True):
            print(f"{name:>{width}} = {'' if value is None else value}", file=out)


def write_tabs(relation: Any, out: TextIO) -> None:
    """Write tab-separated values with a header; tabs, line ends and backslashes are escaped."""
    print("\t".join(map(_tab_field, relation.columns)), file=out)
    for row in _rows_as_text(relation):
        print("\t".join(map(_tab_field, row)), file=out)


def write_markdown(relation: Any, out: TextIO) -> None:
    """Write a Markdown table; NULL is an empty cell."""
    print(_markdown_row(relation.columns), file=out)
    print(_markdown_row(["---"] * len(relation.columns)), file=out)
    for row in _rows_as_text(relation):
        print(_markdown_row(row), file=out)


FORMATS: dict[str, Writer] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "jsonlines": write_json_lines,
    "markdown": write_markdown,
    "line": write_lines,
    "tabs": write_tabs,
}


def _objects(relation: Any) -> Iterator[str | None]:
    """Yield the rows as JSON objects."""
    rows = relation.set_alias("quackllm row").project('CAST(to_json("quackllm row") AS VARCHAR)')
    for (text,) in _fetched(rows):
        yield text


def _rows_as_text(relation: Any) -> Iterator[Sequence[str | None]]:
    """Yield the rows with each value as DuckDB writes it."""
    return _fetched(relation.project("CAST(COLUMNS(*) AS VARCHAR)"))


def _fetched(relation: Any) -> Iterator[Sequence[str | None]]:
    for batch in relation.to_arrow_reader(FETCHED_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _csv_field(value: str | None) -> str:
    if value is None:
        return ""
    if value == "" or any(character in value for character in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _tab_field(value: str | None) -> str:
    if value is None:
        return ""
    escapes = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
    return "".join(escapes.get(character, character) for character in value)


def _markdown_row(values: Sequence[str | None]) -> str:
    cells = ("" if value is None else _markdown_cell(value) for value in values)
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "<br>")
