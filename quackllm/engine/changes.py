"""UPDATE and DELETE, cut in two: the query of the rows that change, and the change itself.

The query is an ordinary SELECT over the target and the tables beside it, which finds the
rows by their `rowid` and computes what calls a model; it is planned like any other. The
change then reads its rows. Both see one snapshot: DuckDB's row numbers hold within it.

    UPDATE t SET a = LLM('...', b), n = n + 1 WHERE LLM_FILTER('...', c)

    SELECT t.rowid AS __llm_rid, LLM('...', b) AS __llm_0 FROM t WHERE LLM_FILTER('...', c)
    UPDATE t SET a = __llm_new.c1, n = n + 1 FROM <its rows> AS __llm_new
    WHERE t.rowid = __llm_new.c0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot.tokenizer_core import TokenType

from quackllm.engine.statement import Statement, depths
from quackllm.optimizer.sql import quote

NEW = "__llm_new"
"""Name under which the change reads the rows that the query found."""

Calls = Callable[[str], bool]
"""Whether a part of a statement may call a model."""

Types = Callable[[str], dict[str, str] | None]
"""Types of a table's columns by their names in lower case, None when it cannot be read."""


@dataclass(frozen=True)
class Change:
    """An UPDATE or a DELETE whose calls a query can make.

    source: the query. before, after: the text of the change around the name of the
        table that holds the query's rows, whose columns are c0, c1, ...
    returns_rows: whether the change has a RETURNING.
    """

    source: str
    before: str
    after: str
    returns_rows: bool

    def applied(self, table: str) -> str:
        """Write the change, given the temporary table of the query's rows."""
        return f"{self.before}temp.{quote(table)}{self.after}"


def read_change(statement: Statement, calls: Calls, types: Types) -> Change | None:
    """Cut an UPDATE or DELETE in two; None for others and for what cannot be cut.

    It cannot where calls stand in RETURNING alone, where one assignment sets several
    columns, and where the target has no row numbers of its own.
    """
    parts = _Parts(statement)
    if parts.kind is None or not parts.target:
        return None
    columns = types(parts.target_name)
    if columns is None or "rowid" in columns:
        return None
    if parts.kind == "DELETE":
        return _delete(parts) if calls(parts.rows) else None
    return _update(parts, calls, columns)


def _delete(parts: _Parts) -> Change:
    return Change(
        source=parts.query([f"{parts.reference}.rowid AS __llm_rid"]),
        before=f"DELETE FROM {parts.target} WHERE {parts.reference}.rowid IN (SELECT c0 FROM ",
        after=f"){parts.returning}",
        returns_rows=bool(parts.returning),
    )


def _update(parts: _Parts, calls: Calls, types: dict[str, str]) -> Change | None:
    assignments = parts.assignments
    called = [value for _, value in assignments if calls(value)]
    if not assignments or not (called or calls(parts.rows)):
        return None
    alone = not parts.beside and not parts.with_
    computed: list[str] = []
    settings: list[str] = []
    for name, value in assignments:
        is_default = value.strip().upper() == "DEFAULT"
        if is_default or (alone and not calls(value)):
            settings.append(f"{name} = {value}")
            continue
        type_ = types.get(name.strip('"').replace('""', '"').lower())
        if type_ is None:
            return None
        # DuckDB casts a value to the type of its column, a bare NULL or text included.
        shown = value if calls(value) else f"CAST(({value}) AS {type_})"
        computed.append(f"{shown} AS __llm_{len(computed)}")
        settings.append(f"{name} = {NEW}.c{len(computed)}")
    return Change(
        source=parts.query([f"{parts.reference}.rowid AS __llm_rid", *computed]),
        before=f"UPDATE {parts.target} SET {', '.join(settings)} FROM ",
        after=f" AS {NEW} WHERE {parts.reference}.rowid = {NEW}.c0{parts.returning}",
        returns_rows=bool(parts.returning),
    )


class _Parts:
    """The clauses of an UPDATE or a DELETE, as they are written.

    kind: 'UPDATE', 'DELETE', or None for another statement.
    target, target_name, reference: the table with its alias, alone, and what its columns
        are qualified by. with_: the text before UPDATE or DELETE. beside: the tables of
        FROM or USING. returning: RETURNING with what follows, '' for none.
    """

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._tokens = statement.tokens
        self._words = [token.text.upper() for token in statement.tokens]
        self._depths = depths(statement.tokens)
        begin = self._find(("UPDATE", "DELETE"), 0) if self._is_change() else None
        self.kind = None if begin is None else self._words[begin]
        self.target = self.target_name = self.reference = ""
        if begin is None:
            return
        names = begin + 1 if self.kind == "UPDATE" else begin + 2
        self._set = self._find(("SET",), names) if self.kind == "UPDATE" else None
        start = names if self._set is None else self._set
        self._from = self._find(("FROM",) if self._set else ("USING",), start)
        self._where = self._find(("WHERE",), self._from or start)
        self._returning = self._find(("RETURNING",), self._where or self._from or start)
        self._end = len(self._tokens)
        self.with_ = self._text(0, begin)
        self.returning = " " + self._text(self._returning, self._end) if self._returning else ""
        tables_end = self._where or self._returning or self._end
        self.beside = self._text(self._from + 1, tables_end) if self._from else ""
        condition_end = self._returning or self._end
        self._condition = self._text(self._where, condition_end) if self._where else ""
        self._name_target(names, self._set or self._from or tables_end)

    def _is_change(self) -> bool:
        """Whether UPDATE or DELETE comes first, or behind WITH."""
        return self._words[:1] in (["UPDATE"], ["DELETE"], ["WITH"])

    def _name_target(self, start: int, end: int) -> None:
        """Read `schema.table AS alias`."""
        at = start
        while self._words[at + 1 : at + 2] == ["."]:
            at += 2
        rest = [i for i in range(at + 1, end) if self._words[i] != "AS"]
        if at >= end or len(rest) > 1:
            return
        self.target = self._text(start, end)
        self.target_name = self._text(start, at + 1)
        self.reference = self._text(rest[0], rest[0] + 1) if rest else self._text(at, at + 1)

    @property
    def rows(self) -> str:
        """Everything that decides which rows change."""
        return f"{self.with_} {self.beside} {self._condition}"

    @property
    def assignments(self) -> list[tuple[str, str]]:
        """Columns and values of SET; none when one of them sets several columns."""
        assert self._set is not None
        end = self._from or self._where or self._returning or self._end
        commas = [
            at
            for at in range(self._set + 1, end)
            if self._depths[at] == 0 and self._tokens[at].token_type == TokenType.COMMA
        ]
        found = []
        starts = [self._set, *commas]
        for start, stop in zip(starts, [*commas, end], strict=True):
            if self._words[start + 2 : start + 3] != ["="] or stop <= start + 3:
                return []
            found.append((self._text(start + 1, start + 2), self._text(start + 3, stop)))
        return found

    def query(self, items: Sequence[str]) -> str:
        """Select items from the rows that change."""
        tables = f"{self.target}, {self.beside}" if self.beside else self.target
        return f"{self.with_} SELECT {', '.join(items)} FROM {tables} {self._condition}".strip()

    def _find(self, wanted: tuple[str, ...], start: int) -> int | None:
        for at in range(start, len(self._words)):
            is_clause = self._words[at] in wanted and self._depths[at] == 0
            named = self._tokens[at].token_type == TokenType.IDENTIFIER
            if is_clause and not named and self._words[at - 1] != "DISTINCT":
                return at
        return None

    def _text(self, start: int, end: int) -> str:
        """The statement's text from one token up to another."""
        if start >= end:
            return ""
        offset = self._statement.offset
        first, last = self._tokens[start].start - offset, self._tokens[end - 1].end + 1 - offset
        return self._statement.sql[first:last]
