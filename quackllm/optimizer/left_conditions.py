"""What WHERE decides of the rows that stand left of a join."""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.scope import in_scope, pairs_of, rows_of
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import conjuncts, has_calls


def binds_over(rows: exp.Select, value: exp.Expr, select: exp.Select, catalog: Catalog) -> bool:
    """Whether an expression of a block names columns of some of its rows."""
    query = rows.copy()
    query.set("expressions", [value.copy()])
    return catalog.columns(in_scope(select, query)) is not None


def decided_left(select: exp.Select, position: int, catalog: Catalog) -> list[exp.Expr]:
    """Conditions of WHERE that reject rows of a join's left side, whatever is joined to them.

    A RIGHT or FULL join, this one or a later one, keeps rows of the other side that
    found no partner, so that a rejected row on the left still counts.
    """
    where = select.args.get("where")
    joins = select.args["joins"]
    if where is None or any((j.side or "").upper() in ("RIGHT", "FULL") for j in joins[position:]):
        return []
    left = rows_of(select, [])
    left.set("joins", left.args["joins"][:position])
    pairs = pairs_of(select, position, [])
    found = []
    for part in conjuncts(where.this):
        if has_calls(part) or part.find(exp.Query) is not None:
            continue
        if not binds_over(left, part, select, catalog):
            continue
        guard: exp.Expr | None = part.copy()
        if not binds_over(pairs, part, select, catalog):
            # Of a SEMI or ANTI join WHERE sees one side, and the pairs have the names of both.
            guard = Sources(select, catalog).qualified(part, position + 1)
        if guard is not None:
            found.append(guard)
    return found
