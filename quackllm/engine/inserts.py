"""INSERT ... VALUES with calls: the rows are a query, and the INSERT takes its rows.

Each value is cast to the type of its column, as DuckDB does it.

    INSERT INTO t (id, v) VALUES (1, LLM('...')), (2, 'x')

    VALUES (CAST((1) AS INTEGER), CAST((LLM('...')) AS VARCHAR)), (CAST((2) AS ...), ...)
    INSERT INTO t (id, v) SELECT ... FROM <its rows>
"""

from __future__ import annotations

from collections.abc import Iterator

from quackllm.engine.changes import Calls, Change, Types, Uncut, is_default, unquoted
from quackllm.engine.clauses import Clauses
from quackllm.optimizer.sql import quote

HOLDS_DEFAULT = "a column is DEFAULT in some rows of VALUES and not in others"


def read_insert(clauses: Clauses, calls: Calls, types: Types) -> Change | Uncut | None:
    """Cut an INSERT ... VALUES, or WITH ... INSERT, without RETURNING in two; None for others."""
    if clauses.words[:1] == ["WITH"]:
        return _behind_with(clauses, calls)
    start = clauses.find(("VALUES",), 0) if clauses.words[:1] == ["INSERT"] else None
    if start is None or clauses.words[start - 1] == "DEFAULT":
        return None
    stop = clauses.find(("ON",), start) or clauses.end
    if not calls(clauses.text(start, stop)):
        return None
    into = clauses.words.index("INTO")
    columns = types(clauses.text(into + 1, clauses.name_end(into + 1) + 1))
    rows = [clauses.items(at) for at in _rows(clauses, start, stop)]
    given = clauses.words[start - 1] == ")"
    listed = clauses.items(_opening(clauses, start)) if given else list(map(quote, columns or ()))
    found = [(columns or {}).get(unquoted(name)) for name in listed]
    if any(len(row) != len(listed) for row in rows) or None in found:
        return None  # DuckDB says what is wrong
    left = [at for at in range(len(listed)) if not all(is_default(row[at]) for row in rows)]
    if not left or any(is_default(row[at]) for row in rows for at in left):
        return Uncut(HOLDS_DEFAULT)
    written = (", ".join(f"CAST(({row[at]}) AS {found[at]})" for at in left) for row in rows)
    columns_end = _opening(clauses, start) if given else start
    return Change(
        source="VALUES " + ", ".join(f"({row})" for row in written),
        before=f"{clauses.text(0, columns_end)} ({', '.join(listed[at] for at in left)}) ",
        after=" " + clauses.text(stop, clauses.end),
        named=True,
    )


def _behind_with(clauses: Clauses, calls: Calls) -> Change | None:
    """Cut WITH ... INSERT INTO t SELECT ..., whose query reads the CTEs in front of it."""
    begin = clauses.find(("INSERT",), 0)
    start = None if begin is None else clauses.find(("SELECT", "FROM", "WITH"), begin)
    if begin is None or start is None:
        return None
    stop = next((at for at in _conflicts(clauses, start)), clauses.end)
    with_, query = clauses.text(0, begin), clauses.text(start, stop)
    if not calls(f"{with_} {query}"):
        return None
    if clauses.words[start] == "WITH":
        query = f"FROM ({query})"
    return Change(
        source=f"{with_} {query}",
        before=clauses.text(begin, start) + " ",
        after=" " + clauses.text(stop, clauses.end),
        named=True,
    )


def _conflicts(clauses: Clauses, start: int) -> Iterator[int]:
    """Where ON CONFLICT stands; ON alone belongs to a join."""
    for at in range(start, clauses.end - 1):
        if clauses.words[at : at + 2] == ["ON", "CONFLICT"] and clauses.levels[at] == 0:
            yield at


def _rows(clauses: Clauses, start: int, stop: int) -> Iterator[int]:
    """Where the parentheses of the rows behind VALUES are opened."""
    for at in (start, *clauses.commas(start, stop)):
        if clauses.words[at + 1 : at + 2] == ["("]:
            yield at + 1


def _opening(clauses: Clauses, start: int) -> int:
    """Where the list of columns in front of VALUES is opened."""
    return max(at for at in range(start) if clauses.words[at] == "(" and not clauses.levels[at])
