"""The rows of table functions, made before the statement around them is planned.

A use with constant arguments is one table. One whose argument is a column of what stands
before it in FROM is asked for all distinct values of that column at once, and joined to the
rows by them: the lateral join of the statement stays, over a temporary table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import duckdb
import pyarrow as pa
from sqlglot import exp

from quackllm.engine.catalog import DuckCatalog, Schema, used_parameters
from quackllm.engine.embedding import Embedded, dimensions, embed
from quackllm.engine.estimates import Estimates
from quackllm.engine.executor import drop_temporary
from quackllm.engine.places import relocated
from quackllm.engine.planner import PlannedQuery, Planner, wants_no_rows
from quackllm.engine.run import Run
from quackllm.engine.table_functions.base import ASKED, ROW_NUMBER, Request, Source
from quackllm.engine.table_functions.entries import (
    Entry,
    distinct_arguments,
    entries_of,
    key_columns,
    put_table,
    result_columns,
)
from quackllm.engine.table_functions.names import read_name
from quackllm.engine.table_functions.registry import TableFunctions
from quackllm.engine.transactions import finish
from quackllm.errors import BindError
from quackllm.optimizer.scope import in_recursive_cte, in_scope, is_cte, visible_ctes
from quackllm.optimizer.sql import held, join_at_select, join_behind_commas, quote, released, text
from quackllm.udfs.base import Kind
from quackllm.udfs.options import check_options


@dataclass(frozen=True)
class Host:
    """What the statement around table functions gives them.

    plan: plans a SELECT without table functions. execute: runs a plan into a temporary
    table with the columns c0, c1, ...; returns its name.
    run: the statement that runs, None when no model may be called. sql: its text.
    announce: told of each use before its rows are made; may raise to prevent that. None
        where nobody wants to know, which saves planning what is announced.
    """

    plan: Callable[[str], PlannedQuery]
    execute: Callable[[PlannedQuery], str]
    run: Run | None
    sql: str
    parameters: Mapping[str, Any]
    announce: Callable[[Use], None] | None = None


@dataclass(frozen=True)
class Use:
    """What is known of one use of a table function before it runs.

    function: its name in upper case. sql: the use as it is written.
    questions: the SELECTs that hold the calls it makes, planned, and whether these are
        exactly the calls.
    counted: whether the rows that these read are known without a model.
    """

    function: str
    sql: str
    questions: tuple[tuple[PlannedQuery, bool], ...]
    counted: bool


@dataclass(frozen=True)
class UseEstimate:
    """A use, and what its calls will cost: the estimates of each of its questions."""

    use: Use
    estimates: tuple[Estimates, ...]


@dataclass
class Made:
    """A statement whose table functions are tables.

    stages_before: how many stages its own are numbered behind.
    """

    sql: str
    uses: list[UseEstimate] = field(default_factory=list)
    stages_before: int = 0

    @property
    def questions(self) -> int:
        """How many stages the uses have."""
        return sum(len(each) for use in self.uses for each in use.estimates)


class Resolver:
    """Makes the tables of one statement; `close` drops them."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        functions: TableFunctions,
        planner: Planner,
        catalog: DuckCatalog,
        host: Host,
    ) -> None:
        self._connection = connection
        self._functions = functions
        self._planner = planner
        self._catalog = catalog
        self._host = host
        self._tables: list[str] = []
        self._registered: list[str] = []
        self._kept: dict[tuple[str, bool, tuple[int, ...]], tuple[list[str], str]] = {}
        self._numbers = count(1)
        self._prefix = "__llm_made" if host.run is None else f"__llm_made_{host.run.id}"

    def close(self) -> None:
        """Drop what was made."""
        for table in self._tables:
            drop_temporary(self._connection, table)
        for name in self._registered:
            with suppress(duckdb.Error):  # gone with a transaction that was rolled back
                self._connection.unregister(name)

    def resolved(self, sql: str) -> str:
        """Return a SELECT with a table in the place of every use of a table function.

        Raises `BindError`, DuckDB's errors, and what a statement raises that calls a model.
        """
        if not (self._functions.mentioned_in(sql) or self._planner.mentions_stored(sql)):
            return sql
        tree = self._planner.with_table_functions(sql)
        if tree is None:
            return sql
        holder = held(tree)
        join_at_select(holder)
        join_behind_commas(holder)
        dry = self._host.run is None or wants_no_rows(holder.this)
        while entries := entries_of(holder, self._functions):
            in_cte = (entry for entry in entries if entry.node.find_ancestor(exp.CTE))
            entry = next(in_cte, entries[0])
            self._resolve(entry, dry)
        return text(released(holder))

    def _resolve(self, entry: Entry, dry: bool) -> None:
        """Put the table of one use in its place, the same one where it is written twice.

        A subquery that is a key of GROUP BY and an item stays one expression so.
        """
        if self._is_one_everywhere(entry):
            # A part that wants no rows is made dry, without the rows that another part reads.
            # Where other CTEs are visible, its names may mean other tables.
            visible = (id(cte) for _, ctes in visible_ctes(entry.node) for cte in ctes)
            use = text(entry.node.this.copy()), dry, tuple(visible)
            names, table = self._kept.get(use) or self._made(entry, dry)
            self._kept[use] = names, table
        else:
            names, table = self._made(entry, dry)
        put_table(entry, table, names)

    def _is_one_everywhere(self, entry: Entry) -> bool:
        """Whether a use has the same rows wherever its names mean the same tables."""
        if entry.varying or in_recursive_cte(entry.node):
            return False
        functions = entry.node.find_all(exp.Anonymous)
        return not any(self._catalog.is_volatile(node.name) for node in functions)

    def _made(self, entry: Entry, dry: bool) -> tuple[list[str], str]:
        """Make the rows of one use; return the names of their columns, and their table."""
        function = entry.function
        desk = Desk(self, entry, dry)
        request = desk.request()
        if self._host.announce is not None:
            asked = [
                (self._host.plan(question.sql), question.certain)
                for question in function.questions(request, desk)
            ]
            written = text(entry.node.this.copy())
            use = Use(function.name.upper(), written, tuple(asked), desk.counted)
            self._host.announce(use)
        select = (function.likely if dry else function.rows)(request, desk)
        return self._keep(entry, request, select)

    def _keep(self, entry: Entry, request: Request, select: str) -> tuple[list[str], str]:
        """Keep the rows of a use, with the arguments that they belong to."""
        by_argument = bool(entry.function.varying)
        names = [name for name, _ in self._catalog.describe(select)][by_argument:]
        columns = result_columns(len(names))
        inner = ", ".join(map(quote, [ASKED, *columns] if by_argument else columns))
        rows = self.create(f"SELECT * FROM ({select}) AS r({inner})")
        if not entry.varying:
            return names, rows
        keys = zip(entry.varying, key_columns(len(entry.varying)), strict=True)
        shown = [f"r.{quote(name)}" for name in columns]
        shown += [f"a.{quote(name)} AS {quote(key)}" for name, key in keys]
        table = self.create(
            f"SELECT {', '.join(shown)} FROM {quote(rows)} AS r "
            f"JOIN {request.asked} AS a USING ({ASKED}) ORDER BY r.rowid"
        )
        return names, table

    def create(self, select: str, given: Mapping[str, Any] | None = None) -> str:
        """Keep the rows of a SELECT without calls in a temporary table; return its name."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._connection.execute(f"CREATE TEMP TABLE {quote(name)} AS {select}", given)
        self._tables.append(name)
        return name

    def rows_of(self, sql: str, dry: bool) -> str | None:
        """Run a SELECT as a part of the statement; return a relation of its rows.

        None where it calls a model and none may be called (`dry`).
        """
        sql = self.resolved(sql)
        if not self._planner.calls_model(sql):
            return f"temp.{quote(self.create(sql, self._used(sql)))}"
        if dry:
            return None
        planned = self._host.plan(sql)
        table = self._host.execute(planned)
        self._tables.append(table)
        named = (f"c{at} AS {quote(name)}" for at, (name, _) in enumerate(planned.schema))
        return f"(SELECT {', '.join(named)} FROM temp.{quote(table)})"

    def empty(self, sql: str) -> str:
        """Make a relation like that of `rows_of`, without rows."""
        columns = (f"{quote(name)} {type_}" for name, type_ in self.described(sql))
        name = f"{self._prefix}_{next(self._numbers)}"
        self._connection.execute(f"CREATE TEMP TABLE {quote(name)} ({', '.join(columns)})")
        self._tables.append(name)
        return f"temp.{quote(name)}"

    def described(self, sql: str) -> Schema:
        """Names and types of a SELECT that may call a model. Raises DuckDB's error."""
        try:
            return self._planner.described(sql, self._host.parameters)
        except duckdb.Error as error:
            raise relocated(error, self._host.sql) from None

    def plain_columns(self, query: exp.Query) -> Schema | None:
        """Names and types of a query without calls; None when it does not bind, or has some."""
        return self._catalog.schema(text(query))

    def bound_columns(self, query: exp.Query) -> Schema | None:
        """Names and types of a query that may call a model; None when it does not bind."""
        try:
            bound = self._planner.bound_text(text(query), self._host.parameters)
        except BindError:
            return None
        return self._catalog.schema(bound)

    def has_row_numbers(self, table: str, columns: Schema) -> bool:
        """Whether a table numbers its rows, as tables that DuckDB keeps do."""
        own = any(name.lower() == ROW_NUMBER for name, _ in columns)
        return not own and self._catalog.schema(f"SELECT {ROW_NUMBER} FROM {table}") is not None

    def folded(self, node: exp.Expr) -> Any:
        """Evaluate a constant."""
        return node.this if node.is_string else self._catalog.fold(node)

    def fetch(self, sql: str) -> pa.Table | None:
        """Fetch the rows of a SELECT; None where it calls a model."""
        sql = self.resolved(sql)
        if self._planner.calls_model(sql):
            return None
        finish(self._connection)
        return self._connection.sql(sql, params=self._used(sql)).to_arrow_table()

    def _used(self, sql: str) -> Mapping[str, Any] | None:
        return used_parameters(self._connection, sql, self._host.parameters)

    def embed(self, texts: pa.Array, model: str | None, field: str) -> Embedded:
        """Embed texts as a part of the statement."""
        assert self._host.run is not None
        return embed(self._host.run, texts, model=model, field=field)

    def dimensions(self, model: str | None) -> int:
        """Return how many numbers an embedding of the statement has."""
        assert self._host.run is not None
        return dimensions(self._host.run, model)

    def register(self, table: pa.Table) -> str:
        """Make an Arrow table a relation; return its name."""
        finish(self._connection)
        name = f"{self._prefix}_{next(self._numbers)}"
        self._connection.register(name, table)
        self._registered.append(name)
        return quote(name)


class Desk:
    """What one use of a table function works with: its `Workspace`.

    dry: whether no model may be called. counted: whether everything that its calls read is
    there without one.
    """

    def __init__(self, resolver: Resolver, entry: Entry, dry: bool) -> None:
        self.counted = True
        self._resolver = resolver
        self._entry = entry
        self._dry = dry

    def request(self) -> Request:
        """Evaluate the arguments. Raises `BindError` and DuckDB's errors."""
        entry, function = self._entry, self._entry.function
        name = function.name.upper()
        constants = {
            parameter.name: self._resolver.folded(entry.arguments[parameter.name])
            for parameter in function.parameters
            if parameter.kind is Kind.CONSTANT
        }
        given = {each: self._resolver.folded(node) for each, node in entry.options.items()}
        try:
            options = check_options(given, function.options)
        except BindError as error:
            raise BindError(f"Binder Error: {name}: {error}") from None
        return Request(name, constants, options, self._asked() if function.varying else "")

    def _asked(self) -> str:
        """Number the distinct values of the arguments that may vary."""
        entry, resolver = self._entry, self._resolver
        if entry.varying:
            sql = text(distinct_arguments(entry, resolver.plain_columns, resolver.bound_columns))
        else:
            shown = (
                f"{text(entry.arguments[name].copy())} AS {quote(name)}"
                for name in entry.function.varying
            )
            return self.keep(f"SELECT CAST(0 AS BIGINT) AS {ASKED}, {', '.join(shown)}")
        numbered = f"SELECT row_number() OVER () - 1 AS {ASKED}, * FROM {self.keep(sql)}"
        return f"temp.{quote(resolver.create(numbered))}"

    def source(self, name: str) -> Source:
        """Find the table, view or CTE that a text names, where the function stands."""
        table = read_name(name)
        if not table.args.get("db") and is_cte(table.name, self._entry.node):
            star = exp.Select(expressions=[exp.Star()]).from_(table)
            return self._copied(text(in_scope(self._entry.node, star)))
        written = text(table)
        columns = self._resolver.described(f"SELECT * FROM {written}")
        if self._resolver.has_row_numbers(written, columns):
            return Source(written, columns)
        return self._copied(f"SELECT * FROM {written}")

    def _copied(self, sql: str) -> Source:
        """Keep rows that have no numbers of their own in a table, which has."""
        table = self.keep(sql)
        columns = self._resolver.described(f"FROM {table}")
        if not self._resolver.has_row_numbers(table, columns):
            table = f"temp.{quote(self._resolver.create(f'FROM {table}'))}"
        return Source(table, columns)

    def query(self, sql: str) -> pa.Table:
        """Run a SELECT, which may call LLM functions, as a part of the statement."""
        rows = self._resolver.fetch(sql)
        if rows is None:
            rows = self._resolver.fetch(f"FROM {self.keep(sql)}")
            assert rows is not None
        return rows

    def keep(self, sql: str) -> str:
        """Run it likewise; return a relation of its rows, an empty one where none can be made."""
        relation = self._resolver.rows_of(sql, self._dry)
        if relation is None:
            self.counted = False
            relation = self._resolver.empty(sql)
        return relation

    def register(self, table: pa.Table) -> str:
        """Make an Arrow table a relation; return its name, quoted."""
        return self._resolver.register(table)

    def embed(self, texts: pa.Array, *, model: str | None = None, field: str = "text") -> Embedded:
        """Embed texts."""
        return self._resolver.embed(texts, model, field)

    def dimensions(self, model: str | None = None) -> int:
        """Return how many numbers an embedding has."""
        return self._resolver.dimensions(model)
