"""What all formats share: how they are asked to look, and rows as texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

FETCHED_ROWS = 10_000
"""Rows taken from DuckDB at a time, so that a large result does not stand in memory."""

TABLE_ROWS = 40
"""Rows that DuckDB's table shows before it leaves out the middle, as in DuckDB's shell."""


@dataclass(frozen=True)
class Look:
    """What a person may choose of how rows look; a format takes what concerns it.

    null: what stands for NULL; None for what the format has by itself. headers: whether the
    names of columns are written. max_rows, max_width: of DuckDB's table, in rows and in
    characters; width 0 is that of the terminal. widths: least widths of columns; below 0 the
    column is aligned to the right. separator, row_end: of `list` and `csv`, None for their
    own. table: the table that `insert` writes statements for.
    """

    null: str | None = None
    headers: bool = True
    max_rows: int = TABLE_ROWS
    max_width: int = 0
    widths: tuple[int, ...] = ()
    separator: str | None = None
    row_end: str | None = None
    table: str = "table"

    def null_or(self, usual: str) -> str:
        """Return the text for NULL of a format that usually writes this one."""
        return usual if self.null is None else self.null


Writer = Callable[[Any, TextIO, Look], None]
"""Writes a relation (`duckdb.DuckDBPyRelation` or one of ours) to a stream."""

NUMBERS = frozenset(
    {
        "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT",
        "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL",
    }
)  # fmt: skip
"""Types whose values are written as numbers."""


def numeric(relation: Any) -> list[bool]:
    """Return, for each column, whether it holds numbers."""
    return [str(kind).partition("(")[0] in NUMBERS for kind in relation.types]


def texts(relation: Any) -> Iterator[Sequence[str | None]]:
    """Yield the rows with each value as DuckDB writes it."""
    return fetched(relation.project("CAST(COLUMNS(*) AS VARCHAR)"))


def fetched(relation: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a relation, a batch of them in memory at a time."""
    for batch in relation.to_arrow_reader(FETCHED_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
