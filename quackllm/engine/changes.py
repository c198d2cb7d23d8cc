"""UPDATE and DELETE, cut in two: the query of the rows that change, and the change itself.

The query is an ordinary SELECT over the target and the tables beside it, which finds the
rows by their `rowid` and computes what calls a model; it is planned like any other. The
change then reads its rows. Both see one snapshot: DuckDB's row numbers hold within it.

    UPDATE t SET a = LLM('...', b), n = n + 1 WHERE LLM_FILTER('...', c)

    SELECT t.rowid AS __llm_rid, LLM('...', b) AS __llm_value_0 FROM t WHERE LLM_FILTER('...', c)
    UPDATE t SET a = __llm_new.c1, n = n + 1 FROM <its rows> AS __llm_new
    WHERE t.rowid = __llm_new.c0

`merges` does so with MERGE, `inserts` with the VALUES of an INSERT, and `returning` with RETURNING.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quackllm.engine.clauses import Clauses
from quackllm.engine.returning import Returning
from quackllm.engine.statement import Statement, inner_query

NEW = "__llm_new"
"""Name under which the change reads the rows that the query found."""

NO_ROW_NUMBERS = "the table has no row numbers, or a column called rowid"
SEVERAL_COLUMNS = "one assignment sets several columns"

Calls = Callable[[str], bool]
"""Whether a part of a statement may call a model."""

Types = Callable[[str], dict[str, str] | None]
"""Types of a table's columns by their names in lower case, None when it cannot be read."""


@dataclass(frozen=True)
class Change:
    """A statement that changes a table, its calls made by a query beforehand.

    source: the query; None where nothing has to be asked before. binds: a form of it that DuckDB
        has to accept, '' for the query itself. before, after: the text of
        the change around what holds the query's rows.
    named: whether that is a query, which gives its columns their names, and not a table, whose
        columns are c0, c1, ...
    returning: its RETURNING, if it has one. asks_after: whether a query over the rows that
        were changed makes the calls of that.
    """

    source: str | None
    before: str
    after: str
    binds: str = ""
    named: bool = False
    returning: Returning | None = None
    asks_after: bool = False

    def applied(self, rows: str) -> str:
        """Write the change, given what holds the query's rows ('' without a source)."""
        if self.returning is None:
            return f"{self.before}{rows}{self.after}"
        listed = self.returning.columns if self.asks_after else self.returning.items
        return f"{self.before}{rows}{self.after} RETURNING {listed}"


@dataclass(frozen=True)
class Uncut:
    """A statement that calls a model and changes a table, and why it stays as it is."""

    reason: str


def read_change(clauses: Clauses, calls: Calls, types: Types) -> Change | Uncut | None:
    """Cut an UPDATE or DELETE without RETURNING in two; None for others."""
    parts = _Parts(clauses)
    if parts.kind is None or parts.target is None:
        return None
    values = parts.values
    if not calls(f"{parts.rows} {values}"):
        return None
    columns = types(parts.target.name)
    if columns is None or "rowid" in columns:
        return Uncut(NO_ROW_NUMBERS)
    return _delete(parts) if parts.kind == "DELETE" else _update(parts, calls, columns)


def whole_change(statement: Statement, calls: Calls) -> Change:
    """A change whose calls stand in a query that it holds, if at all, and in its RETURNING."""
    span = inner_query(statement)
    query = None if span is None else statement.between(*span)
    if span is None or query is None or not calls(query.sql):
        return Change(source=None, before=statement.sql, after="")
    before, after = statement.sql[: span[0]], statement.sql[span[1] :]
    return Change(source=query.sql, before=f"{before} ", after=f" {after}", named=True)


def _delete(parts: _Parts) -> Change:
    assert parts.target is not None
    reference = parts.target.reference
    return Change(
        source=parts.query([f"{reference}.rowid AS __llm_rid"]),
        before=f"DELETE FROM {parts.target.written} WHERE {reference}.rowid IN (SELECT c0 FROM ",
        after=")",
    )


def _update(parts: _Parts, calls: Calls, types: dict[str, str]) -> Change | Uncut | None:
    assert parts.target is not None
    assignments = parts.assignments
    if not assignments:
        return Uncut(SEVERAL_COLUMNS)
    alone = not parts.beside and not parts.with_
    computed: list[str] = []
    settings: list[str] = []
    for name, value in assignments:
        if is_default(value) or (alone and not calls(value)):
            settings.append(f"{name} = {value}")
            continue
        type_ = types.get(unquoted(name))
        if type_ is None:
            return None
        computed.append(f"{typed(value, type_, calls)} AS __llm_value_{len(computed)}")
        settings.append(f"{name} = {NEW}.c{len(computed)}")
    reference = parts.target.reference
    return Change(
        source=parts.query([f"{reference}.rowid AS __llm_rid", *computed]),
        before=f"UPDATE {parts.target.written} SET {', '.join(settings)} FROM ",
        after=f" AS {NEW} WHERE {reference}.rowid = {NEW}.c0",
    )


def typed(value: str, type_: str, calls: Calls) -> str:
    """Write a value for a column as DuckDB does, which casts a bare NULL or text as well."""
    return value if calls(value) else f"CAST(({value}) AS {type_})"


def is_default(value: str) -> bool:
    """Whether a value is the column's default."""
    return value.strip().upper() == "DEFAULT"


def unquoted(name: str) -> str:
    """Return a column's name as it is looked up: without its quotes, in lower case."""
    return name.strip('"').replace('""', '"').lower()


def assignments_of(clauses: Clauses, start: int, stop: int) -> list[tuple[str, str]]:
    """Columns and values of the items of SET; none when one of them sets several columns."""
    found = []
    starts = [start, *(at + 1 for at in clauses.commas(start, stop))]
    ends = [*(at - 1 for at in starts[1:]), stop]
    for at, end in zip(starts, ends, strict=True):
        if clauses.words[at + 1 : at + 2] != ["="] or end <= at + 2:
            return []
        found.append((clauses.text(at, at + 1), clauses.text(at + 2, end)))
    return found


class _Parts:
    """The clauses of an UPDATE or a DELETE, as they are written.

    kind: 'UPDATE', 'DELETE', or None for another statement.
    target: None where it is no table. with_: the text before UPDATE or DELETE. beside: the
        tables of FROM or USING.
    """

    def __init__(self, clauses: Clauses) -> None:
        self._clauses = clauses
        changes = clauses.words[:1] in (["UPDATE"], ["DELETE"], ["WITH"])
        begin = clauses.find(("UPDATE", "DELETE"), 0) if changes else None
        self.kind = None if begin is None else clauses.words[begin]
        self.target = None
        if begin is None:
            return
        names = begin + 1 if self.kind == "UPDATE" else begin + 2
        self._set = clauses.find(("SET",), names) if self.kind == "UPDATE" else None
        start = names if self._set is None else self._set
        self._from = clauses.find(("FROM",) if self._set else ("USING",), start)
        self._where = clauses.find(("WHERE",), self._from or start)
        self.with_ = clauses.text(0, begin)
        tables_end = self._where or clauses.end
        self.beside = clauses.text(self._from + 1, tables_end) if self._from else ""
        self._condition = clauses.text(self._where, clauses.end) if self._where else ""
        self.target = clauses.target(names, self._set or self._from or tables_end)

    @property
    def rows(self) -> str:
        """Everything that decides which rows change."""
        return f"{self.with_} {self.beside} {self._condition}"

    @property
    def _settings_end(self) -> int:
        return self._from or self._where or self._clauses.end

    @property
    def values(self) -> str:
        """What SET says, '' for a DELETE."""
        return self._clauses.text(self._set, self._settings_end) if self._set else ""

    @property
    def assignments(self) -> list[tuple[str, str]]:
        """Columns and values of SET; none when one of them sets several columns."""
        assert self._set is not None
        return assignments_of(self._clauses, self._set + 1, self._settings_end)

    def query(self, items: Sequence[str]) -> str:
        """Select items from the rows that change."""
        assert self.target is not None
        written = self.target.written
        tables = f"{written}, {self.beside}" if self.beside else written
        return f"{self.with_} SELECT {', '.join(items)} FROM {tables} {self._condition}".strip()
