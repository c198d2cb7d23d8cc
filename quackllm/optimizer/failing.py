"""Expressions that raise an error for some values, and rows that a call leaves out before.

DuckDB fixes no order for the conditions of a WHERE. The naive plan has one, in which they are
written: `LLM_FILTER('Is it a number?', x) AND x::INTEGER > 3` converts only what the model took
for a number. A plan evaluates `x::INTEGER` earlier, to ask less; so it must not fail there.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.scope import CLAUSES, EARLY, in_scope, rows_of, selects
from quackllm.optimizer.sql import ModelCall, find_all

FAILING_FUNCTIONS = frozenset(
    {"strptime", "make_date", "make_time", "make_timestamp", "error", "chr", "sqrt", "nullif"}
    | {"ln", "log", "log2", "log10", "acos", "asin", "from_hex", "unhex", "from_base64", "decode"}
    | {"json_extract", "json_extract_string", "json_extract_path", "json_extract_path_text"}
    | {"json_transform", "json_transform_strict", "json_array_length", "json_keys", "json_value"}
)
"""Functions of DuckDB that raise for values of the right type."""

CANDIDATES = (
    *(exp.Cast, exp.Anonymous, exp.JSONExtract, exp.JSONExtractScalar),
    *(exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.In, exp.Case),
)
"""Classes of nodes that may raise: operators of JSON for a text that is none, and those that
test for equality, since DuckDB converts a text that may equal a number."""


def may_fail(part: exp.Expr) -> bool:
    """Whether an expression may raise an error for the values of a row: conversions, mostly.

    Sums that overflow are not seen.
    """
    return any(map(_raises, find_all(part, *CANDIDATES)))


def _raises(node: exp.Expr) -> bool:
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in FAILING_FUNCTIONS
    if isinstance(node, exp.Case):
        return node.this is not None
    if not isinstance(node, exp.Cast):
        return True
    is_constant = isinstance(node.this.unnest(), exp.Literal | exp.Null | exp.Boolean)
    is_text = node.is_type(*exp.DataType.TEXT_TYPES)
    return not isinstance(node, exp.TryCast) and not is_constant and not is_text


def tried(part: exp.Expr, select: exp.Select, catalog: Catalog) -> exp.Expr:
    """Copy an expression over the rows of a block, NULL where it fails.

    A call may leave the row out. As it is where DuckDB has no TRY: of queries, aggregates and
    volatile functions.
    """
    written = part.copy()
    if not may_fail(part):
        return written
    wrapped = exp.Anonymous(this="TRY", expressions=[part.copy()])
    binds = catalog.columns(in_scope(select, rows_of(select, [wrapped.copy()]))) is not None
    return wrapped if binds else written


def fails_behind_a_call(root: exp.Expr) -> bool:
    """Whether something that may fail is written behind a call, outside of its arguments."""
    for select in selects(root):
        called = False
        for node in _in_order(select):
            if called and isinstance(node, CANDIDATES) and _raises(node):
                return True
            called = called or isinstance(node, ModelCall)
    return False


def _in_order(select: exp.Select) -> Iterator[exp.Expr]:
    """Yield the nodes of a SELECT, its clauses as they are evaluated, each as it is written."""
    for clause in (*EARLY, *CLAUSES):
        value = select.args.get(clause)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                yield from part.dfs(prune=lambda node: isinstance(node, ModelCall))
