"""RETURNING with calls: the change gives the rows that it changed, and a query asks about those.

DuckDB allows no subquery, aggregate or window in RETURNING: what it lists is computed of one
changed row. So it is the select list of a query over them, which is planned like any other.

    UPDATE t SET n = n + 1 WHERE n < 3 RETURNING id, LLM('...', v)

    UPDATE t SET n = n + 1 WHERE n < 3 RETURNING *
    SELECT id, LLM('...', v) FROM <its rows> AS t

Both run in one transaction. When a call stops the statement, the change is undone with it: in a
transaction of the user's as DuckDB does it, which aborts that.
"""

from __future__ import annotations

from dataclasses import dataclass

from quackllm.engine.clauses import Clauses
from quackllm.engine.statement import CHANGING, Statement

MERGE_ACTION = "merge_action"
"""The column that RETURNING of a MERGE has beside those of the table."""

NAMES_BEFORE = frozenset({"INTO", "FROM", "UPDATE"})
"""Words after which the name of the table stands that is changed."""

CLAUSES = frozenset({"SET", "USING", "WHERE", "RETURNING"})
"""Words after the name of the table that are no alias of it."""


@dataclass(frozen=True)
class Returning:
    """RETURNING of a change.

    items: what it lists, as written. table: the table that is changed, as written.
    reference: what qualifies its columns. has_action: whether there is a `merge_action`.
    """

    items: str
    table: str
    reference: str
    has_action: bool

    @property
    def columns(self) -> str:
        """What the change has to return for `over`."""
        return f"{MERGE_ACTION}, *" if self.has_action else "*"

    @property
    def any_rows(self) -> str:
        """A query with the columns of the rows that the change returns."""
        action = f"CAST(NULL AS VARCHAR) AS {MERGE_ACTION}, " if self.has_action else ""
        return f"SELECT {action}* FROM {self.table}"

    def over(self, rows: str) -> str:
        """Write the query over the rows that the change returned, themselves a query."""
        return f"SELECT {self.items} FROM ({rows}) AS {self.reference}"


def cut_returning(statement: Statement) -> tuple[Statement, Returning | None]:
    """Split a change at its RETURNING; other statements have none."""
    clauses = Clauses(statement)
    if clauses.words[:1] not in [[word] for word in (*CHANGING, "WITH")]:
        return statement, None
    begin = clauses.find(tuple(CHANGING), 0)
    at = None if begin is None else clauses.find(("RETURNING",), begin)
    if begin is None or at is None or at + 1 >= clauses.end:
        return statement, None
    name = next((i + 1 for i in range(begin, at) if clauses.words[i] in NAMES_BEFORE), at)
    end = clauses.name_end(name)
    reference = clauses.text(end, end + 1)
    if clauses.words[begin] != "INSERT":  # whose RETURNING does not know the alias
        alias = end + 2 if _is_as(clauses, end + 1) else end + 1
        if clauses.words[alias] not in CLAUSES:
            reference = clauses.text(alias, alias + 1)
    items = clauses.text(at + 1, clauses.end)
    has_action = clauses.words[begin] == "MERGE" and MERGE_ACTION in items.lower()
    return clauses.before(at), Returning(items, clauses.text(name, end + 1), reference, has_action)


def _is_as(clauses: Clauses, at: int) -> bool:
    return clauses.words[at : at + 1] == ["AS"]
