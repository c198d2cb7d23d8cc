"""Which rows look for a partner: those of semi and anti joins, and those around EXISTS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Partners
from quackllm.optimizer.scope import ANSWER, CUTTING, clause_parts, computes
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.sql import own_calls


def partners_of_join(
    position: int, select: exp.Select, sources: Sources, args: Sequence[exp.Expr] = ()
) -> Partners | None:
    """Return the left rows of a semi or anti join whose condition reads both sides.

    args: what staged calls in the condition are asked about. None where it is another join.
    """
    join = select.args["joins"][position]
    if (join.args.get("kind") or "").upper() not in ("SEMI", "ANTI") or join.args.get("using"):
        return None
    columns = _columns([join.args["on"], *args])
    if columns is None or select.args.get("laterals"):
        return None
    right = position + 1
    found = [sources.of(column, among=right + 1) for column in columns]
    if None in found or right not in found:
        return None
    return _partners(
        [column for column, source in zip(columns, found, strict=True) if source != right], position
    )


def partners_around(
    select: exp.Select, catalog: Catalog, args: Sequence[exp.Expr] = ()
) -> Partners | None:
    """Return the rows around a query that only asks for each of them whether it has a row.

    args: what staged calls in its WHERE are asked about. None where it is another query.
    """
    if not isinstance(select.parent, exp.Exists) or select.args.get("where") is None:
        return None
    clauses = ("group", "having", "laterals", *CUTTING)
    if any(select.args.get(name) for name in clauses) or computes(select, catalog):
        return None
    if any(own_calls(part) for clause, part in clause_parts(select) if clause != "where"):
        return None
    sources = Sources(select, catalog)
    if not all(map(sources.stands_alone, range(len(sources.trees)))):
        return None  # a source may read the row around it
    joins = [join.args["on"] for join in select.args.get("joins", []) if join.args.get("on")]
    columns = _columns([select.args["where"], *joins, *args])
    if columns is None:
        return None
    outside = [column for column in columns if sources.of(column) is None]
    return _partners(outside) if all(map(sources.lacks, outside)) else None


def _columns(trees: Iterable[exp.Expr]) -> list[exp.Column] | None:
    """The columns that trees read, answers left aside; None where that is not clear."""
    found: dict[exp.Column, None] = {}
    for tree in trees:
        if tree.find(exp.Query, exp.Star, exp.Lambda, exp.Comprehension) is not None:
            return None
        found.update(dict.fromkeys(tree.find_all(exp.Column)))
    return [each for each in found if each.table or not each.name.startswith(ANSWER)]


def _partners(keys: list[exp.Column], join: int | None = None) -> Partners | None:
    return Partners(tuple(key.copy() for key in keys), join) if keys else None
