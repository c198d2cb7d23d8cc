"""How much a stage can ask at most, as far as the plan tells before anything is answered."""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Site


def arguments_asked(
    block: Block, site: Site
) -> tuple[tuple[int | None, ...], tuple[exp.Expr, ...]] | None:
    """Expressions whose distinct tuples are at least as many as the call's.

    Returns for each expression the position of the field that it is, and the
    expressions. A field that is the answer of an earlier call is stood for by that
    call's arguments (with None for the position), which determine it. None when an
    answer is only a part of a field.
    """
    answers = {other.column: other for other in block.sites}
    columns: list[int | None] = []
    args: list[exp.Expr] = []
    for position, arg in enumerate(site.args):
        if not uses(arg, set(answers)):
            columns.append(position)
            args.append(arg)
            continue
        bare = arg.unnest()
        inner = answers.get(bare.name) if isinstance(bare, exp.Column) else None
        asked = None if inner is None else arguments_asked(block, inner)
        if asked is None:
            return None
        columns.extend([None] * len(asked[1]))
        args.extend(asked[1])
    return tuple(columns), tuple(args)


def row_ceiling(select: exp.Select) -> int | None:
    """Rows that a block reads at most, when it reads one query with a LIMIT."""
    query: exp.Expr | None = select
    while isinstance(query, exp.Select):
        source = query.args.get("from_")
        if source is None or query.args.get("joins") or query.args.get("laterals"):
            return None
        inner = source.this
        query = inner.this if isinstance(inner, exp.Subquery) else None
        limit = query.args.get("limit") if isinstance(query, exp.Query) else None
        if isinstance(limit, exp.Limit):
            return _rows(limit)
        if query is not None and _multiplies(query):
            return None
    return None


def _rows(limit: exp.Limit) -> int | None:
    number = limit.expression
    if limit.args.get("limit_options") or not isinstance(number, exp.Literal):
        return None  # LIMIT 10 PERCENT
    return int(number.this) if number.is_int else None


def _multiplies(query: exp.Expr) -> bool:
    """Whether a select list may make several rows of one."""
    return any(
        isinstance(node, exp.Unnest) or node.name.lower() == "unnest"
        for node in query.find_all(exp.Unnest, exp.Anonymous)
    )
