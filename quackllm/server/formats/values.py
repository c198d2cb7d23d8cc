"""Values as JSON and as SQL, and not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from quackllm.optimizer.sql import literal, quote
from quackllm.server.formats.rows import FETCHED_ROWS, Look, fetched, numeric, texts

_NO_NUMBERS = frozenset({"nan", "inf", "-inf"})
"""What a number may be that SQL reads as a name unless it is quoted."""


def write_json(relation: Any, out: TextIO, look: Look) -> None:
    """Write one list of objects; lists and structs stay lists and objects."""
    separator = "[\n"
    for text in _objects(relation):
        print(separator, end="  ", file=out)
        print(text, end="", file=out)
        separator = ",\n"
    print("[]" if separator == "[\n" else "\n]", file=out)


def write_json_lines(relation: Any, out: TextIO, look: Look) -> None:
    """Write one object per line."""
    for text in _objects(relation):
        print(text, file=out)


def write_quoted(relation: Any, out: TextIO, look: Look) -> None:
    """Write the values as SQL's literals, with commas between them."""
    if look.headers:
        print(",".join(map(literal, relation.columns)), file=out)
    for row in _literals(relation):
        print(",".join(row), file=out)


def write_inserts(relation: Any, out: TextIO, look: Look) -> None:
    """Write an INSERT statement for each row."""
    columns = ", ".join(map(quote, relation.columns))
    for row in _literals(relation):
        print(f"INSERT INTO {quote(look.table)} ({columns}) VALUES ({', '.join(row)});", file=out)


def write_trash(relation: Any, out: TextIO, look: Look) -> None:
    """Make the rows and write nothing: for measuring."""
    for _ in relation.to_arrow_reader(FETCHED_ROWS):
        pass


def _objects(relation: Any) -> Iterator[str]:
    """Yield the rows as JSON objects."""
    rows = relation.set_alias("quackllm row").project('CAST(to_json("quackllm row") AS VARCHAR)')
    for (text,) in fetched(rows):
        yield text


def _literals(relation: Any) -> Iterator[Sequence[str]]:
    """Yield the rows as literals; DuckDB casts a text to the type of the column it goes to."""
    bare = [
        number or str(kind) == "BOOLEAN"
        for number, kind in zip(numeric(relation), relation.types, strict=True)
    ]
    for row in texts(relation):
        yield [_literal(value, as_is) for value, as_is in zip(row, bare, strict=True)]


def _literal(value: str | None, as_is: bool) -> str:
    if value is None:
        return "NULL"
    return value if as_is and value not in _NO_NUMBERS else literal(value)
