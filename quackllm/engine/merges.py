"""MERGE, cut in two: the query of the rows and what is done with each, and the MERGE itself.

The query joins the source to the target, finds the action that each row takes, the first whose
condition holds, and computes the values; those that call a model for the rows of their action
alone. The MERGE then does what it says.

    MERGE INTO t USING s ON s.id = t.id
    WHEN MATCHED AND LLM_FILTER('...', s.v) THEN UPDATE SET a = LLM('...', s.v)
    WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)

    SELECT t.rowid AS __llm_rid,
      CASE WHEN t.rowid IS NOT NULL AND (LLM_FILTER('...', s.v)) THEN 1
           WHEN t.rowid IS NULL THEN 2 END AS __llm_action,
      CASE WHEN <action> = 1 THEN LLM('...', s.v) END AS __llm_value_0,
      CASE WHEN t.rowid IS NULL THEN CAST((s.id) AS INTEGER) END AS __llm_value_1
    FROM s LEFT JOIN t ON (s.id = t.id)
    MERGE INTO t USING <its rows> AS __llm_new ON t.rowid = __llm_new.c0
    WHEN MATCHED AND __llm_new.c1 = 1 THEN UPDATE SET a = __llm_new.c2
    WHEN NOT MATCHED AND __llm_new.c1 = 2 THEN INSERT (id) VALUES (__llm_new.c3)

DuckDB itself computes the values of an action for all rows that are matched, or not, and looks
at the conditions afterwards. An action that a value depends on is written out there, so it has to
be the same at each evaluation: DuckDB refuses to name by its alias what is volatile or holds a
subquery, and such a MERGE is not cut. `merge_actions` guards its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from quackllm.engine.changes import (
    NEW,
    NO_ROW_NUMBERS,
    SEVERAL_COLUMNS,
    Calls,
    Change,
    Types,
    Uncut,
    assignments_of,
    is_default,
    typed,
    unquoted,
)
from quackllm.engine.clauses import Clauses
from quackllm.engine.statement import QUERY_WORDS, closing
from quackllm.optimizer.sql import quote

NO_SINGLE_SOURCE = "USING of the MERGE is no single table or query"
UNKNOWN_FORM = "an action of the MERGE has an unusual form"
THERE = "__llm_there"
"""Column of the source that tells its rows from those that a FULL JOIN makes of NULLs."""

ACTION = "__llm_action"
JOINS = ("JOIN", ",")
WHOLE_ROW = frozenset({"SET", "BY", "NAME", "POSITION", "*"})
"""Words behind the verb of an action that takes all columns of the source."""

MATCHED, BY_TARGET, BY_SOURCE = "MATCHED", "NOT MATCHED", "NOT MATCHED BY SOURCE"

Names = Callable[[str], tuple[str, ...] | None]
"""The names of a query's columns, None when it does not bind."""


@dataclass(frozen=True)
class Action:
    """One WHEN of a MERGE.

    rows: which rows it is about: MATCHED, BY_TARGET or BY_SOURCE. condition: '' for none.
    verb: 'UPDATE', 'INSERT', 'DELETE', 'DO NOTHING' or 'ERROR'.
    sets: columns and their values, as written; the text of an ERROR has no column.
    """

    rows: str
    condition: str
    verb: str
    sets: tuple[tuple[str, str], ...] = ()


def read_merge(clauses: Clauses, calls: Calls, types: Types, names: Names) -> Change | Uncut | None:
    """Cut a MERGE without RETURNING in two; None for others.

    names: asked of the source where an action takes all of its columns.
    """
    parts = _Parts(clauses)
    if parts.target is None or not calls(parts.text):
        return None
    if not parts.source_name:
        return Uncut(NO_SINGLE_SOURCE)
    columns = types(parts.target.name)
    if columns is None or "rowid" in columns:
        return Uncut(NO_ROW_NUMBERS)
    reader = _ActionReader(parts, list(columns), names)
    actions: list[Action] = []
    for start, stop in parts.whens:
        action = reader.read(start, stop)
        if isinstance(action, Uncut):
            return action
        actions.append(action)
    return _cut(parts, actions, columns, calls)


def _cut(
    parts: _Parts, actions: Sequence[Action], types: dict[str, str], calls: Calls
) -> Change | Uncut:
    """Write the query of the rows and the MERGE that reads them."""
    assert parts.target is not None
    row = f"{parts.target.reference}.rowid"
    side = _side(actions)
    decided: list[str] = []
    computed: list[tuple[str, int | None, str]] = []
    whens: list[str] = []
    for number, action in enumerate(actions, 1):
        holds = _is_row(action.rows, row, parts.source_name, full=side == "FULL")
        condition = f" AND ({action.condition})" if action.condition else ""
        decided.append(f"WHEN {holds}{condition} THEN {number}")
        new: list[str] = []
        for name, value in action.sets:
            type_ = types.get(unquoted(name)) if name else "VARCHAR"
            if type_ is None:
                return Uncut(UNKNOWN_FORM)
            if is_default(value):
                new.append("DEFAULT")
                continue
            asked_by = number if calls(value) else None
            computed.append((holds, asked_by, typed(value, type_, calls)))
            new.append(f"{NEW}.c{len(computed) + 1}")
        matched = "NOT MATCHED" if action.rows == BY_TARGET else "MATCHED"
        whens.append(f"WHEN {matched} AND {NEW}.c1 = {number} THEN {_done(action, new)}")
    action_of_row = f"CASE {' '.join(decided)} END"
    items = [f"{row} AS __llm_rid", f"{action_of_row} AS {ACTION}"]
    return Change(
        source=parts.query([*items, *_values(computed, f"({action_of_row})")], side),
        binds=parts.query([*items, *_values(computed, ACTION)], side),
        before=f"MERGE INTO {parts.target.written} USING ",
        after=f" AS {NEW} ON {row} = {NEW}.c0 {' '.join(whens)}",
    )


def _side(actions: Sequence[Action]) -> str:
    """Return the kind of join that has the rows which some actions are about."""
    kinds = {action.rows for action in actions}
    return "FULL" if BY_SOURCE in kinds else "LEFT" if BY_TARGET in kinds else "INNER"


def _values(computed: Sequence[tuple[str, int | None, str]], action: str) -> Iterator[str]:
    """Write the items that compute values, each for the rows of its action alone.

    computed: when a row is one that the action is about, the number of the action where that
        has to be decided first, since the value calls a model, and the value.
    action: the number of the action that a row takes.
    """
    for at, (holds, number, value) in enumerate(computed):
        taken = holds if number is None else f"{action} = {number}"
        yield f"CASE WHEN {taken} THEN {value} END AS __llm_value_{at}"


def _is_row(rows: str, row: str, source: str, *, full: bool) -> str:
    """Write that a row of the join is one of those that an action is about."""
    if rows == BY_SOURCE:
        return f"{source}.{THERE} IS NULL"
    if rows == BY_TARGET:
        return f"{row} IS NULL"
    return f"{row} IS NOT NULL AND {source}.{THERE}" if full else f"{row} IS NOT NULL"


def _done(action: Action, new: Sequence[str]) -> str:
    """Write what an action does, its values those of the query's rows."""
    columns = [name for name, _ in action.sets]
    if action.verb == "UPDATE":
        settings = (f"{name} = {value}" for name, value in zip(columns, new, strict=True))
        return f"UPDATE SET {', '.join(settings)}"
    if action.verb == "INSERT":
        if not new:
            return "INSERT DEFAULT VALUES"
        return f"INSERT ({', '.join(columns)}) VALUES ({', '.join(new)})"
    return " ".join([action.verb, *new])


class _ActionReader:
    """Reads what stands between WHEN and the next WHEN.

    columns: those of the target. names: of a query's columns.
    """

    def __init__(self, parts: _Parts, columns: list[str], names: Names) -> None:
        self._parts = parts
        self._clauses = parts.clauses
        self._columns = [quote(column) for column in columns]
        self._names = names

    def read(self, start: int, stop: int) -> Action | Uncut:
        """Read the tokens from WHEN up to another."""
        clauses, words = self._clauses, self._clauses.words
        then = clauses.find(("THEN",), start, stop)
        if then is None or then + 1 >= stop:
            return Uncut(UNKNOWN_FORM)
        and_ = clauses.find(("AND",), start, then) or then
        rows = " ".join(words[start + 1 : and_]).removesuffix(" BY TARGET")
        condition = clauses.text(and_ + 1, then)
        verb = " ".join(words[then + 1 : then + 3]) if words[then + 1] == "DO" else words[then + 1]
        if rows not in (MATCHED, BY_TARGET, BY_SOURCE):
            return Uncut(UNKNOWN_FORM)
        sets = self._sets(verb, then + 1 + len(verb.split()), stop)
        return sets if isinstance(sets, Uncut) else Action(rows, condition, verb, tuple(sets))

    def _sets(self, verb: str, at: int, stop: int) -> list[tuple[str, str]] | Uncut:
        """Read the columns and values behind the verb of an action."""
        clauses, words = self._clauses, self._clauses.words[at:stop]
        if verb == "ERROR":
            return [("", clauses.text(at, stop))] if words else []
        if verb in ("DELETE", "DO NOTHING"):
            return Uncut(UNKNOWN_FORM) if words else []
        if set(words) <= WHOLE_ROW:
            return self._whole_row(by_name="NAME" in words)
        if verb == "UPDATE" and words[0] == "SET":
            return assignments_of(clauses, at + 1, stop) or Uncut(SEVERAL_COLUMNS)
        if verb == "INSERT" and words == ["DEFAULT", "VALUES"]:
            return []
        return self._inserted(at, stop) if verb == "INSERT" else Uncut(UNKNOWN_FORM)

    def _whole_row(self, *, by_name: bool) -> list[tuple[str, str]] | Uncut:
        """Read an action that takes all columns of the source, by position or by name."""
        source = self._parts.source_name
        given = self._names(f"{self._parts.with_} SELECT {source}.* FROM {self._parts.source}")
        columns = [quote(name) for name in given or ()]
        if not columns or (not by_name and len(columns) != len(self._columns)):
            return Uncut(UNKNOWN_FORM)
        values = [f"{source}.{column}" for column in columns]
        return list(zip(columns if by_name else self._columns, values, strict=True))

    def _inserted(self, at: int, stop: int) -> list[tuple[str, str]] | Uncut:
        """Read `(a, b) VALUES (x, y)`, the columns all those of the target where none is named."""
        clauses = self._clauses
        rows = clauses.find(("VALUES",), at, stop)
        if rows is None or clauses.words[rows + 1 : rows + 2] != ["("]:
            return Uncut(UNKNOWN_FORM)
        values = clauses.items(rows + 1)
        columns = self._columns if rows == at else clauses.items(at)
        ends = closing(clauses.tokens, rows + 1) + 1 == stop
        if not ends or len(values) != len(columns):
            return Uncut(UNKNOWN_FORM)
        return list(zip(columns, values, strict=True))


class _Parts:
    """The clauses of a MERGE, as they are written.

    target: None where the statement is no MERGE, or the target no table. with_: the text before
        MERGE. source: what USING says; source_name: what its columns are qualified by, '' where
        it is several sources. joined: ON or USING (...) of the MERGE. whens: where its
        actions begin and end.
    """

    def __init__(self, clauses: Clauses) -> None:
        self.clauses = clauses
        merges = clauses.words[:1] in (["MERGE"], ["WITH"])
        begin = clauses.find(("MERGE",), 0) if merges else None
        using = clauses.find(("USING",), begin or 0)
        self.target = None
        if begin is None or using is None:
            return
        self.whens = clauses.whens()
        self.with_ = clauses.text(0, begin)
        on = clauses.find(("ON", "USING"), using + 1)
        if on is None or not self.whens or on > self.whens[0][0]:
            return
        self.target = clauses.target(begin + 2, using)
        self.source = clauses.text(using + 1, on)
        self.source_name = self._name_of(using + 1, on)
        is_query = clauses.words[using + 1] == "(" and clauses.words[using + 2] in QUERY_WORDS
        if is_query and not self.source_name:
            self.source_name = "__llm_source"
            self.source += f" AS {self.source_name}"
        condition = clauses.text(on + 1, self.whens[0][0])
        self.joined = f"{clauses.words[on]} ({condition})"
        if clauses.words[on] == "USING":
            self.joined = f"USING {condition}"
        self.text = clauses.statement.sql

    def _name_of(self, start: int, stop: int) -> str:
        """What the columns of one source are qualified by; '' for joined ones."""
        clauses = self.clauses
        if clauses.find(JOINS, start, stop) is not None:
            return ""
        if clauses.words[start] == "(":
            start = closing(clauses.tokens, start) + 1
        elif (table := clauses.target(start, stop)) is not None:
            return table.reference
        names = [at for at in range(start, stop) if clauses.levels[at] == 0]
        names = [at for at in names if clauses.tokens[at].text.upper() not in ("AS", "(", ")")]
        return clauses.text(names[-1], names[-1] + 1) if names else ""

    def query(self, items: Sequence[str], side: str) -> str:
        """Select items of the source's rows joined to the target's: INNER, LEFT or FULL."""
        assert self.target is not None
        source = self.source
        if side == "FULL":
            source = f"(SELECT *, true AS {THERE} FROM {source}) AS {self.source_name}"
        joined = f"{source} {side} JOIN {self.target.written} {self.joined}"
        return f"{self.with_} SELECT {', '.join(items)} FROM {joined}".strip()
