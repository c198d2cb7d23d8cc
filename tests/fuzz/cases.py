"""A case: tables, a statement over them, and what its answer is judged by."""

from __future__ import annotations

from dataclasses import dataclass, field

VARCHAR, INTEGER, DOUBLE, BOOLEAN, DATE, TEXTS = (
    "VARCHAR",
    "INTEGER",
    "DOUBLE",
    "BOOLEAN",
    "DATE",
    "VARCHAR[]",
)
TYPES = (VARCHAR, INTEGER, DOUBLE, BOOLEAN, DATE, TEXTS)
"""Types that generated expressions have. INTEGER stands for integers of any width."""

COMPUTED = {
    VARCHAR: "CASE WHEN i % 23 > 0 THEN 'v' || (i * {0} % 701) END",
    INTEGER: "CASE WHEN i % 19 > 0 THEN i * {0} % 11 END",
    DOUBLE: "CASE WHEN i % 17 > 0 THEN (i * {0} % 90) / 4 END",
    BOOLEAN: "CASE WHEN i % 13 > 0 THEN i * {0} % 3 = 0 END",
    DATE: "DATE '2020-01-01' + (i * {0} % 60)::INTEGER",
    TEXTS: "['v' || (i * {0} % 50)]",
}
"""Values of a table's computed rows by type, made of the row's number i."""

QUERY_WORDS = ("SELECT", "WITH", "FROM", "VALUES")


@dataclass(frozen=True)
class Column:
    """A column as it can be written at some place: its SQL text and its type."""

    sql: str
    type: str

    @property
    def name(self) -> str:
        """The column's own name, quoted where it has to be, without its table's."""
        return self.sql.rpartition(".")[2]

    def of(self, alias: str) -> Column:
        """Return the column, written as one of a table's alias."""
        return Column(f"{alias}.{self.name}", self.type)


@dataclass(frozen=True)
class Scope:
    """The columns that an expression may use.

    local: of the query that the expression stands in. outer: of those around it.
    """

    local: tuple[Column, ...]
    outer: tuple[Column, ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """All of them."""
        return self.local + self.outer

    def of_type(self, type_: str) -> list[Column]:
        """Those of a type."""
        return [column for column in self.columns if column.type == type_]


@dataclass(frozen=True)
class Table:
    """A table and its rows; values are SQL literals.

    more: rows that are computed in addition, many of them different.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    more: int = 0

    def ddl(self) -> str:
        """Statements that make the table anew."""
        columns = ", ".join(f"{column.sql} {column.type}" for column in self.columns)
        text = f"CREATE OR REPLACE TABLE {self.name} ({columns});"
        if self.rows:
            rows = ", ".join(f"({', '.join(row)})" for row in self.rows)
            text += f" INSERT INTO {self.name} VALUES {rows};"
        if self.more:
            values = ", ".join(
                COMPUTED[column.type].format(7 * at + 1) for at, column in enumerate(self.columns)
            )
            text += f" INSERT INTO {self.name} SELECT {values} FROM range({self.more}) r(i);"
        return text


@dataclass(frozen=True)
class TableUse:
    """A use of a table function that calls a model, which the naive side reads from a table.

    text: as it is written. question: of one that is asked by a column, that column.
    asked: a query of the values that the column may have.
    """

    text: str
    question: str = ""
    asked: str = ""


@dataclass(frozen=True)
class Case:
    """A statement and how its answer is judged.

    unlimited: the statement without its LIMIT, where LIMIT may choose among rows.
    ordered: positions of the output columns whose sequence ORDER BY fixes.
    sampled: a sample, of which only the shape can be compared.
    disabled: optimizer rules that are left out.
    fault_rate: share of the questions that fail.
    threads: of DuckDB, on both sides.
    prepared: the statement with parameters in the place of some constants, and their
        values; the planned side runs this one.
    setup: statements run before, such as one that makes a view.
    effect: a query that reads what a statement that is none has done.
    settings: of the planned side, by name, which may change its plan but not its answers.
    table_functions: those that the statement calls.
    features: what the statement makes use of, with how often.
    """

    tables: tuple[Table, ...]
    sql: str
    unlimited: str | None = None
    ordered: tuple[int, ...] = ()
    sampled: bool = False
    disabled: str = ""
    fault_rate: float = 0.0
    threads: int = 1
    prepared: tuple[str, tuple[str | int, ...]] | None = None
    setup: str = ""
    effect: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    table_functions: tuple[TableUse, ...] = ()
    features: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def is_query(self) -> bool:
        """Whether the statement is a query with calls in its own text."""
        return self.sql.startswith(QUERY_WORDS) and not self.setup

    @property
    def ddl(self) -> str:
        """Statements that make the tables."""
        return "\n".join(table.ddl() for table in self.tables)

    def __str__(self) -> str:
        parts = [self.ddl, self.setup, self.sql + ";"]
        if self.prepared is not None:
            parts.append(f"-- prepared: {self.prepared[0]}\n-- with: {self.prepared[1]}")
        if self.threads > 1:
            parts.append(f"-- threads: {self.threads}")
        if self.disabled:
            parts.append(f"-- disabled rules: {self.disabled}")
        parts += [f"-- setting: {name} = {value}" for name, value in self.settings]
        if self.fault_rate:
            parts.append(f"-- failing questions: {self.fault_rate:.0%}")
        return "\n".join(part for part in parts if part)
