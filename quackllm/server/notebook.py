"""`%load_ext quackllm`: SQL with LLM functions in the cells of a Jupyter notebook.

    %load_ext quackllm

    %%llmsql
    SELECT title FROM films WHERE LLM_FILTER('Is it suitable for children?', synopsis)

Statements run on the notebook's own connection, or on that in a variable (`--con NAME`); tables
may be the notebook's variables. `--out NAME` keeps the relation of the last statement.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

import duckdb
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.statement import Statement, explain_of, is_query, split
from quackllm.server.places import located

ROWS_SHOWN = 20
LONGEST_VALUE = 200
"""Characters of a value that a table shows."""

_OPTION = re.compile(r"\s*--(\w+)(?:\s+(\w+))?(?=\s|$)")
_SQL = "__quackllm_sql__"
_CON = "__quackllm_con__"
# Evaluated in the notebook's own space, for its variables may be tables.
_SELECT = compile(f"{_CON}.sql({_SQL})", "<llmsql>", "eval")
_EXPLAIN = compile(f"{_CON}.execute({_SQL}).fetchall()", "<llmsql>", "eval")


@dataclass(frozen=True)
class ResultTable:
    """What a cell shows: the first rows of a relation and what its calls cost."""

    relation: Any
    cost: str = ""

    def __repr__(self) -> str:
        return str(self.relation).rstrip("\n") + (f"\n{self.cost}" if self.cost else "")

    def _repr_html_(self) -> str:
        rows = self.relation.limit(ROWS_SHOWN).project("CAST(COLUMNS(*) AS VARCHAR)").fetchall()
        count = len(self.relation)
        header = "".join(
            f"<th style='text-align:left'>{html.escape(name)}<br>"
            f"<small>{html.escape(str(type_).lower())}</small></th>"
            for name, type_ in zip(self.relation.columns, self.relation.types, strict=True)
        )
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
        rows_of = f"{count:,} row{'' if count == 1 else 's'}"
        shown = f"first {ROWS_SHOWN} of {rows_of}" if count > ROWS_SHOWN else rows_of
        notes = " · ".join(filter(None, [shown, html.escape(self.cost)]))
        return (
            f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
            f"<small>{notes}</small>"
        )


@magics_class
class LLMSQLMagics(Magics):
    """`%llmsql` for a line, `%%llmsql` for a cell."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._shell = shell
        self._own: Connection | None = None

    @line_cell_magic
    def llmsql(self, line: str, cell: str | None = None) -> ResultTable | None:
        """Run SQL: %llmsql [--con NAME] [--out NAME] SQL, or the cell below %%llmsql."""
        options, rest = _options(line)
        connection = self._connection(options.get("con"))
        text = rest if cell is None else f"{rest}\n{cell}"
        last: ResultTable | None = None
        try:
            for statement in split(text):
                last = self._run(connection, statement)
        except duckdb.Error as error:
            # A notebook shows the frames of the library for any other exception.
            raise UsageError(str(error)) from None
        if "out" in options:
            self._shell.user_ns[options["out"]] = None if last is None else last.relation
        return last

    def _connection(self, name: str | None) -> Connection:
        if name is not None:
            found = self._shell.user_ns.get(name)
            if not isinstance(found, Connection):
                raise UsageError(f"--con {name}: there is no quackllm connection of this name")
            return found
        if self._own is None:
            self._own = quackllm.connect()
        return self._own

    def _run(self, connection: Connection, statement: Statement) -> ResultTable | None:
        history = connection.llm_engine.history
        before = history[-1].number if history else 0
        space, given = self._shell.user_ns, {_CON: connection, _SQL: statement.sql}
        if explain_of(statement) is not None:
            for *_, plan in eval(_EXPLAIN, space, given):
                print(plan.rstrip("\n"))
            return None
        try:
            relation = eval(_SELECT, space, given)
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise located(connection, error, statement.sql) from None
        if relation is None or not (is_query(statement) or relation.columns != ["Count"]):
            return None
        len(relation)  # runs it, so that what it cost is known
        made = [stats for stats in history if stats.number > before and stats.tuples]
        return ResultTable(relation, "; ".join(stats.summary() for stats in made))


def _options(line: str) -> tuple[dict[str, str], str]:
    """Read the options in front; return them and the rest of the line."""
    options: dict[str, str] = {}
    at = 0
    while found := _OPTION.match(line, at):
        if found[1] not in ("con", "out") or not found[2]:
            raise UsageError(f"--{found[1]}: the options are --con NAME and --out NAME")
        options[found[1]] = found[2]
        at = found.end()
    return options, line[at:].strip()


def _cell(value: str | None) -> str:
    if value is None:
        return "<td><small><i>NULL</i></small></td>"
    short = value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"
    return f"<td style='text-align:left;white-space:pre-wrap'>{html.escape(short)}</td>"
