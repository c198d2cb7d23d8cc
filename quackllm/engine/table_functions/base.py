"""What a table function is: a declaration, and SQL that it writes for each use.

A table function is a small program over SQL. It says which SELECTs hold the calls that it is
going to make (`questions`), so that EXPLAIN and budgets can count them by the planner's own
means, and it makes its rows (`rows`) by queries that may call LLM functions, by embeddings,
and by NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from quackllm.engine.catalog import Schema
from quackllm.engine.embedding import Embedded
from quackllm.udfs.base import Kind, Option, Parameter

ASKED = "asked"
"""The column that numbers the rows of `Request.asked`, from 0."""

ROW_NUMBER = "rowid"
"""What DuckDB calls the numbers of a table's rows."""


@dataclass(frozen=True)
class Source:
    """A table that an argument names.

    sql: its name as it is written in FROM; it has row numbers, in a column `rowid`.
    columns: their names and types, in order.
    """

    sql: str
    columns: Schema

    def type_of(self, column: str) -> str | None:
        """Return the type of a column, whatever its case; None where there is none."""
        types = {name.lower(): type_ for name, type_ in self.columns}
        return types.get(column.lower())


@dataclass(frozen=True)
class Request:
    """One use of a table function, its constant arguments evaluated.

    function: as it was written, in upper case, for errors.
    constants: values of the CONSTANT parameters by name.
    options: every option, checked, defaults filled in.
    asked: a relation, as it is written in FROM, with the distinct values of the VALUE
        arguments, which may differ from row to row of what stands before the function in
        FROM: one column per such parameter under its name, and the row's number from 0,
        `ASKED`. One row where they are constants.
    """

    function: str
    constants: Mapping[str, Any]
    options: Mapping[str, Any]
    asked: str


@dataclass(frozen=True)
class Question:
    """A SELECT that holds calls which a table function is going to make.

    certain: whether exactly those are made; else about as many.
    """

    sql: str
    certain: bool = True


class Workspace(Protocol):
    """What a table function may use. All of it sees one snapshot of the database."""

    def source(self, name: str) -> Source:
        """Find the table, view or CTE that a text names. Raises `BindError`."""
        ...

    def query(self, sql: str) -> pa.Table:
        """Run a SELECT, which may call LLM functions, as a part of the statement."""
        ...

    def keep(self, sql: str) -> str:
        """Run a SELECT as `query` does; return a relation of its rows, as it is written in FROM."""
        ...

    def register(self, table: pa.Table) -> str:
        """Make an Arrow table a relation; return its name, quoted."""
        ...

    def embed(self, texts: pa.Array, *, model: str | None = None, field: str = "text") -> Embedded:
        """Embed texts, see `embedding.embed`."""
        ...

    def dimensions(self, model: str | None = None) -> int:
        """Return how many numbers an embedding has."""
        ...


@dataclass(frozen=True)
class TableFunction:
    """One table function.

    parameters: a VALUE may be a column of what stands before the function; others are
        constants. Options are written `name := value`.
    form: SELECT with the columns of the result, in which `"name"` is a parameter or an
        option: what DuckDB binds a view or a relation with.
    questions: SELECTs that hold the calls which `rows` makes, at most. Run by nobody: they
        are planned and counted.
    rows: SELECT of the rows. Where there are VALUE parameters, its first column is
        `ASKED`, the number of the row that each row belongs to.
    likely: SELECT of the same columns with about as many rows, found without a model, for
        EXPLAIN to count with what else the statement asks.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    options: tuple[Option, ...]
    example: str
    form: str
    questions: Callable[[Request, Workspace], Sequence[Question]]
    rows: Callable[[Request, Workspace], str]
    likely: Callable[[Request, Workspace], str]

    def signature(self) -> str:
        """Return the call as a person would write it."""
        return f"{self.name.upper()}({', '.join(each.name for each in self.parameters)})"

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters that may differ from row to row."""
        return tuple(each.name for each in self.parameters if each.kind is Kind.VALUE)
