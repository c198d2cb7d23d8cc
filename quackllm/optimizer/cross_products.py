"""What DuckDB 2.0.0 gets wrong about answers that are joined to a cross product."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from quackllm.optimizer.sql import ModelCall

LEAST_JOINS = 3
"""The joined answers from which on it happens."""


def loses_rows(select: exp.Select, calls: list[ModelCall]) -> bool:
    """Whether DuckDB may find too few rows in the staged form of a SELECT.

    Where the answers of two calls are joined to one side of a cross product, and those of a third
    by one of them and the other side, DuckDB 2.0.0 orders the joins wrongly:

        FROM s CROSS JOIN t LEFT JOIN a ON a.k = s.x LEFT JOIN b ON b.k = a.v
        LEFT JOIN c ON c.k = coalesce(b.v, '') || t.y WHERE c.v

    is (t CROSS JOIN b) RIGHT JOIN (s LEFT JOIN a) there, and every pair without a row in b is lost.
    """
    if len(calls) < LEAST_JOINS or not any(map(_is_about_a_call, calls)):
        return False
    return any(map(_is_product, _joins(select)))


def _is_about_a_call(call: ModelCall) -> bool:
    return any(node is not call for node in call.find_all(ModelCall))


def _joins(select: exp.Select) -> Iterable[exp.Expr]:
    joins: Iterable[exp.Expr] = select.args.get("joins", [])
    return joins


def _is_product(join: exp.Expr) -> bool:
    """Whether no condition on columns stands at a join."""
    if join.args.get("using") or join.args.get("method"):
        return False
    condition = join.args.get("on")
    return condition is None or condition.find(exp.Column) is None
