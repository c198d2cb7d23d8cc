"""Finding SELECT blocks, and asking a question at the place where a block stands."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.sql import ModelCall, conjunction, conjuncts, has_calls, own_nodes

ANSWER = "__llm_"
"""Prefix of the names that the planner adds to a statement."""

CLAUSES = ("where", "group", "expressions", "having", "qualify", "distinct", "order", "windows")
"""Where a call may stand in a block that can be staged, in order of evaluation."""


def selects(root: exp.Expr) -> Iterator[exp.Select]:
    """Yield every SELECT of a tree, inner ones before the one that contains them.

    CTEs come before the body that uses them, in the order in which they are written.
    """
    with_ = root.args.get("with_")
    if isinstance(with_, exp.Expr):
        yield from selects(with_)
    for name, value in root.args.items():
        if name == "with_":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.Expr):
                yield from selects(child)
    if isinstance(root, exp.Select):
        yield root


def clause_parts(select: exp.Select) -> Iterator[tuple[str, exp.Expr]]:
    """Yield the parts of a block that may hold its calls, with the clause's name."""
    for clause in CLAUSES:
        value = select.args.get(clause)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                yield clause, part


def source_parts(select: exp.Select) -> list[exp.Expr]:
    """List FROM, the joins and the laterals of a block."""
    parts = [select.args.get("from_"), *select.args.get("joins", ())]
    parts.extend(select.args.get("laterals", ()))
    return [part for part in parts if isinstance(part, exp.Expr)]


def calls_of(select: exp.Select) -> list[ModelCall]:
    """List the calls that belong to this block, in order of evaluation, outer first."""
    found: list[ModelCall] = []
    for part in [*source_parts(select), *(part for _, part in clause_parts(select))]:
        found.extend(node for node in own_nodes(part) if isinstance(node, ModelCall))
    limits = [select.args.get("limit"), select.args.get("offset")]
    for limit in limits:
        if isinstance(limit, exp.Expr):
            found.extend(limit.find_all(ModelCall))
    return found


def rows_of(select: exp.Select, expressions: list[exp.Expr]) -> exp.Select:
    """Select expressions from the rows of a block: its FROM, and nothing else of it."""
    query = exp.Select(expressions=expressions)
    for name in ("from_", "joins", "laterals"):
        value = select.args.get(name)
        if isinstance(value, list):
            query.set(name, [part.copy() for part in value])
        elif isinstance(value, exp.Expr):
            query.set(name, value.copy())
    if query.args.get("from_") is None:
        query = query.from_("(SELECT 1 AS __llm_row)")
    return query


def enclosing(select: exp.Select) -> exp.Select | None:
    """The SELECT whose rows a nested query may read: the nearest one around it."""
    return select.parent.find_ancestor(exp.Select) if select.parent else None


def pairs_of(select: exp.Select, join: int, expressions: list[exp.Expr]) -> exp.Select:
    """Select expressions from the pairs of rows that a join of a block may join."""
    rows = rows_of(select, expressions)
    joins = rows.args["joins"][: join + 1]
    joins[-1] = exp.Join(this=joins[-1].this.copy(), kind="CROSS")
    rows.set("joins", joins)
    return rows


def beside(
    outer: exp.Select, place: exp.Select, inner: exp.Select, columns: list[exp.Expr]
) -> exp.Select:
    """Select columns of `inner`, evaluated for each row of `outer` around it.

    `place` is where the nested query stands in `outer`: in FROM it reads what is left
    of it, elsewhere all of FROM, and then only rows count that pass the conditions of
    `outer` without calls and without nested queries.
    """
    rows = rows_of(outer, columns)
    in_from = next(
        (i for i, join in enumerate(outer.args.get("joins", [])) if _is_inside(place, join)), None
    )
    if in_from is not None:
        rows.set("joins", rows.args["joins"][:in_from])
    lateral = exp.Lateral(
        this=exp.Subquery(this=inner), alias=exp.TableAlias(this=exp.to_identifier("__llm_inner"))
    )
    rows.append("joins", exp.Join(this=lateral, kind="CROSS"))
    where = outer.args.get("where") if in_from is None else None
    free = [
        part
        for part in conjuncts(where.this if where else None)
        if not has_calls(part) and part.find(exp.Query) is None and not _answered(part)
    ]
    if free:
        rows.set("where", exp.Where(this=conjunction(free)))
    return rows


def _is_inside(node: exp.Expr | None, tree: exp.Expr) -> bool:
    while node is not None and node is not tree:
        node = node.parent
    return node is tree


def _answered(tree: exp.Expr) -> bool:
    return any(node.name.startswith(ANSWER) for node in tree.find_all(exp.Column))


def is_aggregate(node: exp.Expr, catalog: Catalog) -> bool:
    """Whether a node is a call of an aggregate function, a window function's left aside."""
    if isinstance(node, exp.Anonymous | exp.AggFunc):
        name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
        return catalog.is_aggregate(name) and not isinstance(node.parent, exp.Window)
    return False


def after_grouping(tree: exp.Expr, catalog: Catalog) -> bool:
    """Whether a tree has a value only after grouping: it holds an aggregate or a window."""
    return any(
        isinstance(node, exp.Window) or is_aggregate(node, catalog) for node in own_nodes(tree)
    )


def in_scope(place: exp.Expr, query: exp.Query) -> exp.Query:
    """Put `query` under every WITH that is visible at `place`, nearest innermost."""
    through: exp.Expr | None = None
    inside: exp.Expr | None = None
    node: exp.Expr | None = place
    while node is not None:
        if isinstance(node, exp.CTE):
            through = node
        with_ = node.args.get("with_")
        if isinstance(with_, exp.With):
            visible = list(with_.expressions)
            if inside is with_:
                visible = visible[: _position(visible, through)]
            query = _under(visible, bool(with_.args.get("recursive")), query)
        inside = node
        node = node.parent
    return query


def names_cte(table: exp.Table) -> bool:
    """Whether the name of a table is that of a CTE which is visible where it stands."""
    if table.args.get("db"):
        return False
    name = table.name.lower()
    through: exp.Expr | None = None
    inside: exp.Expr | None = None
    node: exp.Expr | None = table
    while node is not None:
        if isinstance(node, exp.CTE):
            through = node
        with_ = node.args.get("with_")
        if isinstance(with_, exp.With):
            visible = list(with_.expressions)
            if inside is with_ and through is not None:
                visible = visible[: _position(visible, through) + bool(with_.recursive)]
            if any(cte.alias.lower() == name for cte in visible):
                return True
        inside = node
        node = node.parent
    return False


def in_recursive_cte(place: exp.Expr) -> bool:
    """Whether a place is inside the definition of a CTE of a WITH RECURSIVE."""
    node = place.parent
    while node is not None:
        if isinstance(node, exp.With) and node.args.get("recursive"):
            return True
        node = node.parent
    return False


def _position(ctes: list[exp.Expr], cte: exp.Expr | None) -> int:
    return next(number for number, other in enumerate(ctes) if other is cte)


def _under(ctes: list[exp.Expr], recursive: bool, query: exp.Query) -> exp.Query:
    if not ctes:
        return query
    if query.args.get("with_") is not None:
        query = exp.Select(expressions=[exp.Star()]).from_(query.subquery("__llm_scope"))
    query.set("with_", exp.With(expressions=[cte.copy() for cte in ctes], recursive=recursive))
    return query
