"""The actions of a MERGE, their calls asked only where their condition may hold.

DuckDB computes the values of an action for all rows that are matched, or not, and looks at the
conditions afterwards: WHEN MATCHED AND s.i < 10 THEN UPDATE SET a = LLM('...', s.b) would ask
about every matched row. What of the condition is DuckDB's own is put around the value:

    SET a = CASE WHEN TRY(s.i < 10) THEN LLM('...', s.b) END

So it is where `merges` cannot cut the statement in two. A row for which the condition is not TRUE
does not take the action, so nobody reads its value. A part
that fails for a row that the naive plan never shows it is NULL here; conditions with calls stay
out of it, since a call that fails once may have an answer the next time it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from quackllm.engine.clauses import Clauses
from quackllm.engine.statement import Statement, arguments, calls_in, closing
from quackllm.udfs.registry import Functions

Free = Callable[[str], str | None]
"""The conjuncts of a condition that call no model and can be evaluated twice, if there are any."""


def with_guarded_actions(statement: Statement, functions: Functions, free: Free) -> str:
    """Write a MERGE with the conditions of its actions around the values that call a model."""
    parts: list[str] = []
    at = 0
    for action in _actions(statement):
        spans = [span for span in action.values if calls_in(statement.between(*span), functions)]
        guard = free(action.condition) if spans else None
        for start, end in spans if guard is not None else ():
            value = statement.sql[start:end]
            holds = f"TRY(CAST(({guard}) AS BOOLEAN))"
            parts.extend((statement.sql[at:start], f"CASE WHEN {holds} THEN {value} END"))
            at = end
    return "".join([*parts, statement.sql[at:]])


@dataclass(frozen=True)
class _Action:
    """The text of a condition, and where in the statement's text the values of its action are."""

    condition: str
    values: tuple[tuple[int, int], ...]


def _actions(statement: Statement) -> Iterator[_Action]:
    """Yield the actions that have a condition and set values."""
    clauses = Clauses(statement)
    for start, stop in clauses.whens():
        and_ = clauses.find(("AND",), start, stop)
        then = clauses.find(("THEN",), start, stop)
        if and_ is not None and then is not None and and_ < then:
            yield _Action(clauses.text(and_ + 1, then), tuple(_values(clauses, then + 1, stop)))


def _values(clauses: Clauses, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of what UPDATE SET assigns to single columns, and INSERT VALUES inserts."""
    words = clauses.words
    if words[start : start + 2] == ["UPDATE", "SET"]:
        for before, end in pairwise([start + 1, *clauses.commas(start, stop), stop]):
            if words[before + 2 : before + 3] == ["="] and end > before + 3:
                yield clauses.span(before + 3, end)
    elif words[start] == "INSERT":
        rows = clauses.find(("VALUES",), start, stop)
        if rows is not None and words[rows + 1 : rows + 2] == ["("]:
            tokens = clauses.tokens
            end = closing(tokens, rows + 1)
            yield from arguments(tokens, rows + 1, end, clauses.statement.offset)
