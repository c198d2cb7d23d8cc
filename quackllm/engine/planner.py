"""From the text of a statement to a program: read, bind, optimize, write down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.engine.binder import Binder, name_items
from quackllm.engine.catalog import DuckCatalog, FunctionNames, Schema
from quackllm.engine.reading import same_reading
from quackllm.engine.splice import splice
from quackllm.errors import BindError
from quackllm.optimizer.lower import lower
from quackllm.optimizer.naive import BINDING, naive_text
from quackllm.optimizer.optimizer import optimize
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.program import Program
from quackllm.optimizer.sql import parse, text
from quackllm.udfs.base import Call
from quackllm.udfs.registry import Functions

DIFFERENT_READING = "sqlglot and DuckDB's parser read the statement differently"


@dataclass(frozen=True)
class PlannedQuery:
    """A query ready to run, and the names and types of its output."""

    program: Program
    schema: Schema
    plan: Plan | None = None


class Planner:
    """Plans the statements of one connection. Planning never calls a model."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, functions: Functions, names: FunctionNames
    ) -> None:
        self._connection = connection
        self._functions = functions
        self._names = names

    def query(
        self, sql: str, parameters: Mapping[str, Any], run: str, disabled: frozenset[str]
    ) -> PlannedQuery:
        """Plan a SELECT. Raises `BindError` and DuckDB's own errors, about the text given."""
        calls: dict[str, Call] = {}
        catalog = DuckCatalog(self._connection, self._names, calls, parameters)
        binder = Binder(self._functions, catalog.fold, catalog.columns)
        root = self._bound(sql, binder, calls)
        if root is None:
            naive = splice(sql, self._functions, binder, run)
            schema = _described(catalog, splice(sql, self._functions, binder, BINDING), sql)
            return PlannedQuery(Program((), naive, unstaged=(DIFFERENT_READING,)), schema)
        schema = _described(catalog, naive_text(root, calls, BINDING), sql)
        plan = optimize(Plan(root, calls), catalog, disabled=disabled)
        return PlannedQuery(lower(plan, run), schema, plan)

    def naive_query(self, sql: str, run: str) -> str:
        """Write a SELECT with its calls in naive form, its columns named as in the plan."""
        calls: dict[str, Call] = {}
        catalog = DuckCatalog(self._connection, self._names, calls, {})
        binder = Binder(self._functions, catalog.fold, catalog.columns)
        root = self._bound(sql, binder, calls)
        if root is None:
            return splice(sql, self._functions, binder, run)
        return naive_text(root, calls, run)

    def other(self, sql: str, parameters: Mapping[str, Any], run: str) -> str:
        """Write a statement that is not a query with its calls in naive form."""
        catalog = DuckCatalog(self._connection, self._names, {}, parameters)
        binder = Binder(self._functions, catalog.fold, catalog.columns)
        return splice(sql, self._functions, binder, run)

    def _bound(self, sql: str, binder: Binder, calls: dict[str, Call]) -> exp.Expression | None:
        """Read a SELECT and bind its calls; None when its reading cannot be trusted."""
        root = self._read(sql)
        if root is None:
            return None
        name_items(root, self._functions)
        return binder.bind_tree(binder.restore_tree(root, calls), calls)

    def _read(self, sql: str) -> exp.Expression | None:
        """Parse with sqlglot; None when it cannot, or reads something else than DuckDB."""
        try:
            root = parse(sql)
        except (SqlglotError, RecursionError):
            return None
        if not isinstance(root, exp.Query):
            return None
        return root if same_reading(self._connection, sql, text(root)) else None


def _described(catalog: DuckCatalog, naive: str, sql: str) -> Schema:
    try:
        return catalog.describe(naive)
    except duckdb.Error as error:
        raise relocated(error, sql) from None


def relocated(error: duckdb.Error, sql: str) -> duckdb.Error:
    """Return DuckDB's error with its position shown in the text that the person wrote."""
    message = str(error)
    head, line, excerpt = message.partition("\n\nLINE ")
    if not line:
        return error
    wrong = _pointed_at(excerpt.split("\n"))
    found = re.search(rf"(?<!\w){re.escape(wrong)}(?!\w)", sql, re.IGNORECASE) if wrong else None
    place = found.start() if found else -1
    if place >= 0:
        number = sql.count("\n", 0, place) + 1
        start = sql.rfind("\n", 0, place) + 1
        end = sql.find("\n", place)
        shown = f"LINE {number}: "
        source = sql[start : end if end >= 0 else len(sql)]
        pointer = " " * (len(shown) + place - start) + "^"
        head = f"{head}\n\n{shown}{source}\n{pointer}"
    kind = type(error) if type(error) is not duckdb.Error else BindError
    return kind(head)


def _pointed_at(lines: list[str]) -> str:
    """The word above the caret of DuckDB's excerpt."""
    if len(lines) < 2 or "^" not in lines[1]:
        return ""
    shown, start = "LINE " + lines[0], lines[1].index("^")
    found = re.match(r"[\w.\"]+", shown[start:])
    return found[0] if found else ""
