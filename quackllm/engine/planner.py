"""From the text of a statement to a program: read, bind, optimize, write down."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from types import MappingProxyType
from typing import Any

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError

from quackllm.engine.binder import Binder, Dimensions, name_arguments, name_items, name_items_as
from quackllm.engine.catalog import DuckCatalog, DuckDBFacts, Schema
from quackllm.engine.definitions import defined_query
from quackllm.engine.doubts import doubts
from quackllm.engine.expansion import Expansion
from quackllm.engine.merge_actions import with_guarded_actions
from quackllm.engine.places import relocated
from quackllm.engine.reading import same_reading
from quackllm.engine.rows import has_called_rows, select_rows
from quackllm.engine.splice import splice
from quackllm.engine.statement import (
    Statement,
    bare_lambdas,
    explain_of,
    holds_calls,
    returning,
    split,
)
from quackllm.engine.stored import StoredNames
from quackllm.engine.table_functions.registry import TableFunctions
from quackllm.errors import BindError
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.optimizer.catalog import PredicateStatistics
from quackllm.optimizer.failing import fails_behind_a_call
from quackllm.optimizer.long_lists import Folded, fold_long_lists, parse_folded, unfold
from quackllm.optimizer.lower import bindable, lower
from quackllm.optimizer.naive import BINDING, FUNCTION, naive_text
from quackllm.optimizer.optimizer import RuleError, optimize
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.program import Program
from quackllm.optimizer.rules.order_predicates import cheapest_order
from quackllm.optimizer.sampling import SMALLEST_TABLE, UNKNOWN_SHARE, Rivals, rivals
from quackllm.optimizer.sql import (
    balance_chains,
    bare_keys,
    conjunction,
    conjuncts,
    join_at_select,
    nest_behind_commas,
    parse,
    require_extensible_sqlglot,
    sort_by_all,
    text,
)
from quackllm.udfs.base import Call
from quackllm.udfs.registry import Functions

LOGGER = logging.getLogger("quackllm")
NESTED_TOO_DEEPLY = "the statement is nested too deeply to be planned"
DIFFERENT_READING = "sqlglot and DuckDB's parser read the statement differently"
FAILS_BEHIND_A_CALL = "DuckDB fails for a row that a call may leave out, as it is written"
LAMBDA = re.compile(r"\(\s*lambda\b", re.IGNORECASE)
OTHER_COLUMNS = "written out, a view, a macro or VALUES gives other columns"
READING = frozenset(
    {"SELECT", "WITH", "FROM", "VALUES", "(", "TABLE", "PIVOT", "UNPIVOT", "SUMMARIZE", "EXPLAIN"}
    | {"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CREATE"}
)
"""First words of statements that may evaluate a view or a macro."""


@dataclass(frozen=True)
class PlannedQuery:
    """A query ready to run, and the names and types of its output.

    doubts: what in it is legal and hardly meant, a line for the person each.
    """

    program: Program
    schema: Schema
    doubts: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan | None:
        """The plan of the program; None where the statement is not planned."""
        return self.program.plan


Ask = Callable[[PlannedQuery], tuple[Any, ...]]


class Planner:
    """Plans the statements of one connection. Planning never calls a model.

    Raises `QuackLLMError` when it is made on a build of sqlglot that it cannot extend.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        functions: Functions,
        facts: DuckDBFacts,
        names: StoredNames,
        dimensions: Dimensions,
        table_functions: TableFunctions,
    ) -> None:
        require_extensible_sqlglot()
        self._connection = connection
        self._functions = functions
        self._facts = facts
        self._names = names
        self._dimensions = dimensions
        self._table_functions = table_functions
        any_name = "|".join(map(re.escape, functions.names))
        self._named = re.compile(rf'\b({any_name})"?\s*\(', re.IGNORECASE)

    def query(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        run: str,
        disabled: frozenset[str],
        ask: Ask | None = None,
        *,
        approximate: bool = False,
    ) -> PlannedQuery:
        """Plan a SELECT. Raises `BindError` and DuckDB's own errors, about the text given.

        ask: runs a planned query and returns its one row; with it, samples are taken
            where the order of predicates is worth knowing.
        approximate: whether rows of a join may be missed.
        """
        calls: dict[str, Call] = {}
        catalog = DuckCatalog(
            self._connection, self._facts, calls, parameters, approximate=approximate
        )
        if FUNCTION not in sql and not self.calls_model(sql):  # its table functions did
            return PlannedQuery(Program((), sql), _described(catalog, sql, sql, self._functions))
        binder = self._binder(catalog, sql)
        reason = DIFFERENT_READING
        try:
            root = self._read(sql)
            if root is not None:
                plan, schema = self._plan(root, sql, binder, calls, catalog)
                planned = self._optimized(plan, schema, catalog, run, disabled, ask)
                doubted = doubts(plan, self._functions, catalog.columns)
                return replace(planned, doubts=tuple(dict.fromkeys(doubted)))
        except RecursionError:
            reason = NESTED_TOO_DEEPLY
        naive = splice(sql, self._functions, binder, run)
        to_bind = splice(sql, self._functions, binder, BINDING)
        schema = _described(catalog, to_bind, sql, self._functions)
        return PlannedQuery(Program((), naive, unstaged=(reason,)), schema)

    def in_written_order(
        self, sql: str, parameters: Mapping[str, Any], run: str
    ) -> PlannedQuery | None:
        """Plan a SELECT whose plan has failed in DuckDB: its calls by the scalar function.

        None where nothing that may fail is written behind a call, which may leave the row out:
        the error is then that of the statement. None also of one that is not planned at all.
        """
        calls: dict[str, Call] = {}
        catalog = DuckCatalog(self._connection, self._facts, calls, parameters)
        root = self._read(sql)
        if root is None:
            return None
        plan, schema = self._plan(root, sql, self._binder(catalog, sql), calls, catalog)
        if not fails_behind_a_call(plan.root):
            return None
        plan = replace(plan, unstaged=(*plan.unstaged, FAILS_BEHIND_A_CALL))
        return PlannedQuery(lower(plan, run), schema)

    def _plan(
        self,
        root: exp.Expr,
        sql: str,
        binder: Binder,
        calls: dict[str, Call],
        catalog: DuckCatalog,
    ) -> tuple[Plan, Schema]:
        """Bind a tree, the views and macros written out; return the plan and its columns."""

        def is_call(name: str) -> bool:
            return self._functions.get(name) is not None or name in self._names

        with_rows = has_called_rows(root, is_call)
        written = root.copy() if with_rows or self._names.mentioned_in(sql) else None
        plan = Plan(self._bound_tree(root, binder, calls), calls)
        to_bind = naive_text(plan.root, calls, BINDING)
        schema = _described(catalog, to_bind, sql, self._functions)
        if written is None:
            return plan, schema
        expansion = Expansion(self._connection, self._names, self._read)
        name_items_as(written, [name for name, _ in schema])
        written = select_rows(written, is_call)
        expanded = expansion.expanded(written) or (written if with_rows else None)
        reasons = tuple(expansion.reasons)
        if expanded is None:
            return replace(plan, unstaged=reasons), schema
        whole = Plan(self._bound_tree(expanded, binder, calls), calls, unstaged=reasons)
        if catalog.schema(naive_text(whole.root, calls, BINDING)) == schema:
            return whole, schema
        return replace(plan, unstaged=(*reasons, OTHER_COLUMNS)), schema

    def described(self, sql: str, parameters: Mapping[str, Any]) -> Schema:
        """Names and types of a SELECT's output. Raises `BindError` and DuckDB's errors."""
        return self.catalog(parameters).describe(self.bound_text(sql, parameters))

    def bound_text(self, sql: str, parameters: Mapping[str, Any]) -> str:
        """Write a SELECT with calls in the form that DuckDB binds. Raises `BindError`."""
        return self.naive_query(sql, BINDING, parameters)

    def mentions_stored(self, sql: str) -> bool:
        """Whether a text may name a view or a macro that calls a model; quick."""
        return self._names.mentioned_in(sql)

    def catalog(self, parameters: Mapping[str, Any]) -> DuckCatalog:
        """Return what answers questions about the database, of a statement without calls."""
        return DuckCatalog(self._connection, self._facts, {}, parameters)

    def calls_model(self, sql: str) -> bool:
        """Whether a SELECT calls a model, itself or by a view or a macro."""
        named = self._named.search(sql) is not None  # quicker than reading all of it
        return (named and holds_calls(sql, self._functions)) or self.reads_stored(sql)

    def with_table_functions(self, sql: str) -> exp.Expr | None:
        """Read a SELECT, the views and macros written out that use table functions.

        What is named by its text keeps that name when tables take their place. None when it
        uses none. Raises `BindError` where it does and cannot be read.
        """
        names = self._table_functions.names
        [statement, *_] = split(sql)
        used = self._table_functions.used_in(statement)
        if not used and not self.reads_stored(sql):
            return None
        root = self._read(sql)
        if root is None:
            if used:
                raise BindError(f"Binder Error: a table function is used, and {DIFFERENT_READING}")
            return None
        tree = Expansion(self._connection, self._names, self._read, names).expanded(root)
        tree = tree if tree is not None else root if used else None
        if tree is not None:
            name_items(tree, lambda name: name.lower() in names)
            name_arguments(tree, self._functions, lambda name: name.lower() in names)
        return tree

    def reads_stored(self, sql: str) -> bool:
        """Whether a statement evaluates a view or a macro that may call a model."""
        if not self._names.mentioned_in(sql):
            return False
        [statement, *_] = split(sql)
        explain = explain_of(statement)
        if explain is not None:
            return self.reads_stored(sql[explain.length :])
        if statement.first_word not in READING:
            return False
        try:
            tree = parse(sql)
        except (SqlglotError, RecursionError):
            return any(token.text in self._names for token in statement.tokens)
        if isinstance(tree, exp.Create) and tree.kind != "TABLE":
            return False
        functions = self._table_functions.names | {FUNCTION}
        return Expansion(self._connection, self._names, self._read, functions).reads(tree)

    def _optimized(
        self,
        plan: Plan,
        schema: Schema,
        catalog: DuckCatalog,
        run: str,
        disabled: frozenset[str],
        ask: Ask | None,
    ) -> PlannedQuery:
        def learn(reshaped: Plan) -> None:
            self._learn(reshaped, catalog, run, ask)

        optimized = _ruled(plan, catalog, schema, disabled, learn)
        if wants_no_rows(plan.root):  # tools ask so for the names and types of a query
            return PlannedQuery(Program((), bindable(optimized), plan=optimized), schema)
        return PlannedQuery(lower(optimized, run), schema)

    def _learn(self, plan: Plan, catalog: DuckCatalog, run: str, ask: Ask | None) -> None:
        """Find out what decides the order of a plan's predicates; by samples with `ask`."""
        for found in rivals(plan, catalog):
            facts = catalog.one_row(found.facts)
            if facts is None:
                continue
            count = len(found.predicates)
            counted, together = facts[1 : 1 + 2 * count], facts[1 + 2 * count :]
            known = PredicateStatistics(
                tokens=tuple(
                    (fixed + (length or 0)) / CHARS_PER_TOKEN
                    for fixed, length in zip(found.instructions, counted[1::2], strict=True)
                ),
                tuples=tuple(map(float, counted[::2])),
                together=dict(zip(combinations(range(count), 2), together, strict=True)),
                selectivities=(UNKNOWN_SHARE,) * count,
            )
            many = max(known.tuples) >= SMALLEST_TABLE and not found.in_order
            if ask is not None and many:
                shares = self._sampled(found, cheapest_order(known), plan, catalog, run, ask)
                known = replace(known, selectivities=shares, sampled=True)
            catalog.learn(found.predicates, known)

    def _sampled(
        self,
        found: Rivals,
        order: Sequence[int],
        plan: Plan,
        catalog: DuckCatalog,
        run: str,
        ask: Ask,
    ) -> tuple[float, ...]:
        """Ask predicates, in an order, for a sample of rows; return the shares they accept."""
        shares = [UNKNOWN_SHARE] * len(order)
        query = found.sample(order)
        schema = catalog.columns(query)
        if schema is None:  # such as one that reads columns of a query around it
            return tuple(shares)
        sampling = _ruled(Plan(query, plan.calls), catalog, schema, frozenset())
        left = ask(PlannedQuery(lower(sampling, run), schema))
        for at, (asked, accepted) in zip(order, pairwise(left), strict=True):
            # Laplace's rule: neither "always" nor "never" follows from a few rows.
            shares[at] = (int(accepted) + 1) / (int(asked) + 2)
        return tuple(shares)

    def naive_query(
        self, sql: str, run: str, parameters: Mapping[str, Any] = MappingProxyType({})
    ) -> str:
        """Write a SELECT with its calls in naive form, its columns named as in the plan."""
        calls: dict[str, Call] = {}
        catalog = DuckCatalog(self._connection, self._facts, calls, parameters)
        binder = self._binder(catalog, sql)
        root = self._bound(sql, binder, calls)
        if root is None:
            return splice(sql, self._functions, binder, run)
        return naive_text(root, calls, run)

    def other(self, sql: str, parameters: Mapping[str, Any], run: str) -> str:
        """Write a statement that is not a query with its calls in naive form.

        What RETURNING gives is named as in a query.
        """
        at = returning(split(sql)[0]) if "RETURNING" in sql.upper() else None
        if at is not None and holds_calls(sql[at:], self._functions):
            items = self.naive_query(f"SELECT {sql[at:]}", run).removeprefix("SELECT ")
            return self.other(sql[:at], parameters, run) + items
        catalog = DuckCatalog(self._connection, self._facts, {}, parameters)
        binder = self._binder(catalog, sql)
        if sql.lstrip()[:5].upper() == "MERGE":
            [merge, *_] = split(sql)
            guarded = with_guarded_actions(merge, self._functions, partial(self._free, catalog))
            sql = sql[: merge.offset] + guarded + sql[merge.offset + len(merge.sql) :]
        return splice(sql, self._functions, binder, run)

    def _free(self, catalog: DuckCatalog, condition: str) -> str | None:
        """Write the conjuncts of a condition that are the same wherever they stand, if any."""
        root = self._read(f"SELECT {condition}")
        if not isinstance(root, exp.Select) or len(root.expressions) != 1:
            return None
        free = conjunction(
            [
                part
                for part in conjuncts(root.expressions[0])
                if part.find(exp.Query) is None
                and all(catalog.is_built_in(node.name) for node in part.find_all(exp.Anonymous))
            ]
        )
        return None if free is None else text(free)

    def names(self, sql: str, parameters: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Names of the columns of a SELECT; None when it or its calls do not bind."""
        catalog = DuckCatalog(self._connection, self._facts, {}, parameters)
        try:
            schema = catalog.schema(self.naive_query(sql, BINDING, parameters))
        except BindError:
            return None
        return None if schema is None else tuple(name for name, _ in schema)

    def is_list_of_rows(self, items: str) -> bool:
        """Whether a select list can stand in RETURNING, and is the same there: it computes
        each row by built-in functions and calls alone."""
        tree = self._read(f"SELECT {items}")
        if not isinstance(tree, exp.Select) or tree.find(exp.Window, exp.Subquery, exp.Lambda):
            return False
        catalog = self.catalog({})
        for node in tree.find_all(exp.Anonymous):
            function = self._functions.get(node.name)
            of_row = function is not None and not (function.over_set or function.joint)
            if not of_row and (function is not None or not catalog.is_built_in(node.name)):
                return False
        return True

    def column_types(self, table: str) -> dict[str, str] | None:
        """Types of a table's columns by name in lower case; None when it has no row numbers."""
        catalog = DuckCatalog(self._connection, self._facts, {}, {})
        if catalog.schema(f"SELECT rowid FROM {table}") is None:
            return None
        columns = catalog.schema(f"SELECT * FROM {table}") or ()
        return {name.lower(): type_ for name, type_ in columns}

    def definition(self, statement: Statement, parameters: Mapping[str, Any]) -> str:
        """Write a statement that stores its text with its calls in naive form.

        The columns of a view are named as those of its query are.
        """
        span = defined_query(statement)
        if span is not None:
            query = self.naive_query(statement.sql[span[0] : span[1]], "")
            return statement.sql[: span[0]] + query
        return self.other(statement.sql, parameters, "")

    def _binder(self, catalog: DuckCatalog, sql: str) -> Binder:
        return Binder(self._functions, catalog.fold, catalog.columns, self._dimensions, sql)

    def _bound(self, sql: str, binder: Binder, calls: dict[str, Call]) -> exp.Expr | None:
        """Read a SELECT and bind its calls; None when its reading cannot be trusted."""
        root = self._read(sql)
        return None if root is None else self._bound_tree(root, binder, calls)

    def _bound_tree(self, root: exp.Expr, binder: Binder, calls: dict[str, Call]) -> exp.Expr:
        """Bind the calls of a tree, which is changed."""
        join_at_select(root)
        nest_behind_commas(root)
        fold_long_lists(root)
        balance_chains(root)
        bare_keys(root)
        sort_by_all(root)
        name_items(root, lambda name: self._functions.get(name) is not None)
        return binder.bind_tree(binder.restore_tree(root, calls), calls)

    def _read(self, sql: str) -> exp.Expr | None:
        """Parse with sqlglot; None when it cannot, or reads something else than DuckDB."""
        try:
            if LAMBDA.search(sql):
                root, short = parse(bare_lambdas(sql)), Folded(sql, {}, ())
            else:
                root, short = parse_folded(sql)
        except (SqlglotError, RecursionError, BindError):
            return None
        if not isinstance(root, exp.Query | exp.Values):
            return None
        if not same_reading(self._connection, short.sql, text(root)):
            return None
        unfold(root, short)  # the same text on both sides
        return root


def _ruled(
    plan: Plan,
    catalog: DuckCatalog,
    schema: Schema,
    disabled: frozenset[str],
    learn: Callable[[Plan], None] | None = None,
) -> Plan:
    """Run the rules; leave one out, with a warning, that breaks its contract."""
    while True:
        try:
            return optimize(plan, catalog, schema, disabled=disabled, learn=learn)
        except RuleError as error:
            LOGGER.warning("%s The statement runs without the rule.", error)
            disabled |= {error.rule}


def wants_no_rows(root: exp.Expr) -> bool:
    """Whether a query has LIMIT 0."""
    limit = root.args.get("limit")
    rows = limit.expression if isinstance(limit, exp.Limit) else None
    return isinstance(rows, exp.Literal) and rows.this == "0"


def _described(catalog: DuckCatalog, naive: str, sql: str, functions: Functions) -> Schema:
    try:
        return catalog.describe(naive)
    except duckdb.Error as error:
        raise relocated(error, sql, functions) from None
