"""VALUES with calls, written as SELECTs, which can be staged."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

MOST_ROWS = 100
"""Rows that are written as SELECTs; each nests one level deeper."""

CLAUSES = ("with_", "order", "limit", "offset")
"""What may stand around VALUES."""


def has_called_rows(root: exp.Expr, is_call: Callable[[str], bool]) -> bool:
    """Whether a statement has VALUES with calls; `is_call` tells names of functions."""
    return any(_is_called(values, is_call) for values in root.find_all(exp.Values))


def select_rows(root: exp.Expr, is_call: Callable[[str], bool]) -> exp.Expr:
    """Write VALUES with calls as SELECTs under UNION ALL, in place; return the root."""
    for values in list(root.find_all(exp.Values)):
        if not _is_called(values, is_call) or len(values.expressions) > MOST_ROWS:
            continue
        query = _union(values)
        for clause in CLAUSES:
            query.set(clause, values.args.get(clause))
        alias = values.args.get("alias")
        if values is root:
            return query
        if isinstance(values.parent, exp.From | exp.Join) and alias is not None:
            values.replace(exp.Subquery(this=query, alias=alias.copy()))
    return root


def _is_called(values: exp.Values, is_call: Callable[[str], bool]) -> bool:
    rows = values.expressions
    return all(isinstance(row, exp.Tuple) for row in rows) and any(
        is_call(node.name) for node in values.find_all(exp.Anonymous)
    )


def _union(values: exp.Values) -> exp.Query:
    query: exp.Query | None = None
    for row in values.expressions:
        named = [
            exp.Alias(this=cell.copy(), alias=exp.to_identifier(f"col{i}"))
            for i, cell in enumerate(row.expressions)
        ]
        select = exp.Select(expressions=named)
        query = (
            select if query is None else exp.Union(this=query, expression=select, distinct=False)
        )
    assert query is not None
    return query
