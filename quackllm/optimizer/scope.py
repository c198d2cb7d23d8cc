"""Finding SELECT blocks, and asking a question at the place where a block stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.sql import (
    ModelCall,
    children,
    conjunction,
    conjuncts,
    cross_commas,
    has_calls,
    own_nodes,
)

ANSWER = "__llm_"
"""Prefix of the names that the planner adds to a statement."""

EARLY = ("with_", "from_", "joins", "laterals")
"""Parts of a block that its other parts may read, in order of evaluation."""

CLAUSES = ("where", "group", "expressions", "having", "qualify", "distinct", "order", "windows")
"""Where a call may stand in a block that can be staged, in order of evaluation."""

CUTTING = ("limit", "offset", "qualify", "windows", "sample")
"""Clauses under which rows of one value depend on those of another."""


def selects(root: exp.Expr) -> list[exp.Select]:
    """List every SELECT of a tree, inner ones before the one that contains them.

    CTEs come before the body that uses them, in the order in which they are written, and
    those in FROM before those of other clauses, which may read its columns.
    """
    return [query for query in queries(root) if isinstance(query, exp.Select)]


def queries(root: exp.Expr) -> list[exp.Query]:
    """List every query of a tree, set operations too, in the order of `selects`."""
    outer_first: list[exp.Query] = []
    open_: list[exp.Expr] = [root]
    while open_:
        node = open_.pop()
        if isinstance(node, exp.Query):
            outer_first.append(node)
        parts = children(node)
        if not node.args.keys().isdisjoint(EARLY):
            parts.sort(key=_is_evaluated_late)
        open_.extend(parts)
    return outer_first[::-1]


def _is_evaluated_late(part: exp.Expr) -> int:
    """Sorts the parts of a query: the others may read what CTEs and FROM give."""
    return EARLY.index(part.arg_key) if part.arg_key in EARLY else len(EARLY)


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
    cross_commas(query)
    if query.args.get("from_") is None:
        query = query.from_("(SELECT 1 AS __llm_row)")
    return query


def enclosing(select: exp.Select) -> exp.Select | None:
    """The SELECT whose rows a nested query may read: the nearest one around it.

    What stands in a WITH does not read the rows of the query that the WITH belongs to.
    """
    node: exp.Expr | None = select.parent
    while node is not None and not isinstance(node, exp.Select):
        node = node.parent
        if isinstance(node, exp.With):
            node = node.parent.parent if node.parent else None
    return node


def reads_only_its_from(select: exp.Select) -> bool:
    """Whether nothing but its FROM can give a query columns, by the place where it stands.

    So it is for the whole statement, for CTEs, and for the first source of such a query:
    later ones may read those before them, and other subqueries the rows around them.
    """
    node: exp.Expr = select
    while node.parent is not None:
        parent = node.parent
        if isinstance(parent, exp.CTE):
            with_ = parent.parent
            node = with_.parent if with_ is not None and with_.parent is not None else parent
        elif isinstance(parent, exp.Subquery | exp.SetOperation | exp.From) or (
            isinstance(parent, exp.Select) and isinstance(node, exp.From)
        ):
            node = parent
        else:
            return False
    return True


def own_rows_of(
    select: exp.Select, expressions: list[exp.Expr], unread: Sequence[int]
) -> exp.Select:
    """Select expressions from the rows of a block; of some sources that they do not read.

    unread: positions of those, the first of FROM being 0; they are joined without a condition.
    """
    rows = rows_of(select, expressions)
    if not unread:
        return rows
    joins = rows.args["joins"]
    trees = [rows.args["from_"].this, *(join.this for join in joins)]
    kept = [None, *joins]
    read = [at for at in range(len(trees)) if at not in unread]
    if read:
        rows.set("from_", exp.From(this=trees[read[0]]))
        rows.set("joins", [kept[at] for at in read[1:]])
    else:
        rows.set("from_", exp.From(this=exp.Var(this="(SELECT 1 AS __llm_row)")))
        rows.set("joins", [])
    first = kept[read[0]] if read else None
    if first is not None and first.args.get("on"):
        rows.where(first.args["on"], copy=False)
    for at in unread:
        one = exp.Select(expressions=[exp.Literal.number(1)], from_=exp.From(this=trees[at]))
        rows.where(exp.Exists(this=one), copy=False)
    return rows


def pairs_of(select: exp.Select, join: int, expressions: list[exp.Expr]) -> exp.Select:
    """Select expressions from the pairs of rows that a join of a block may join."""
    rows = rows_of(select, expressions)
    joins = rows.args["joins"][: join + 1]
    joins[-1] = exp.Join(this=joins[-1].this.copy(), kind="CROSS")
    rows.set("joins", joins)
    return rows


INNER = "__llm_inner"
"""What a nested query is called where `beside` evaluates it for each row around it."""


def beside(
    outer: exp.Select,
    place: exp.Select,
    inner: exp.Select,
    columns: list[exp.Expr],
    guards: Sequence[exp.Expr] = (),
) -> exp.Select:
    """Select columns of `inner`, evaluated for each row of `outer` around it.

    `place` is where the nested query stands in `outer`: in FROM it reads what is left
    of it, elsewhere all of FROM, and then only rows count that pass the conditions of
    `outer` without calls and without nested queries.

    guards: with a place in FROM, conditions that rows left of it have to pass.
    """
    rows = rows_of(outer, columns)
    in_from = join_around(place, outer)
    if in_from is not None:
        rows.set("joins", rows.args["joins"][:in_from])
    lateral = exp.Lateral(
        this=exp.Subquery(this=inner), alias=exp.TableAlias(this=exp.to_identifier(INNER))
    )
    rows.append("joins", exp.Join(this=lateral, kind="CROSS"))
    where = outer.args.get("where") if in_from is None else None
    free = [
        part
        for part in conjuncts(where.this if where else None)
        if not has_calls(part) and part.find(exp.Query) is None and not _answered(part)
    ]
    if in_from is not None:
        free = list(guards)
    if free:
        rows.set("where", exp.Where(this=conjunction(free)))
    return rows


def join_around(place: exp.Select, outer: exp.Select) -> int | None:
    """The position of the join of `outer` in which a nested query stands, if it is one."""
    joins = outer.args.get("joins", [])
    return next((i for i, join in enumerate(joins) if _is_inside(place, join)), None)


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


def has_grouping_sets(node: exp.Expr) -> bool:
    """Whether a node is a block that groups by ROLLUP, CUBE or GROUPING SETS."""
    group = node.args.get("group")
    sets = exp.Rollup | exp.Cube | exp.GroupingSets
    return group is not None and any(isinstance(key, sets) for key in group.expressions)


def groups_by_items(select: exp.Expr) -> bool:
    """Whether a query has GROUP BY ALL, under which an item is no key when it is a constant."""
    group = select.args.get("group")
    return group is not None and bool(group.args.get("all"))


def after_grouping(tree: exp.Expr, catalog: Catalog) -> bool:
    """Whether a tree has a value only after grouping: it holds an aggregate or a window."""
    return any(
        isinstance(node, exp.Window) or is_aggregate(node, catalog) for node in own_nodes(tree)
    )


def in_scope(
    place: exp.Expr, query: exp.Query, taken: Callable[[exp.Expr], exp.Expr] | None = None
) -> exp.Query:
    """Put `query` under every WITH that is visible at `place`, nearest innermost.

    It becomes a part of what is returned, or is changed: pass a copy of one that is kept.
    taken: makes of a CTE what stands for it there; a copy is what does by itself.
    """
    for with_, visible in visible_ctes(place):
        ctes = [cte.copy() if taken is None else taken(cte) for cte in visible]
        query = _under(ctes, bool(with_.args.get("recursive")), query)
    return query


def visible_ctes(place: exp.Expr) -> Iterator[tuple[exp.With, list[exp.Expr]]]:
    """Yield every WITH around a place, nearest first, and those of its CTEs visible there.

    Inside a CTE these are the ones before it; its own name is not among them.
    """
    through: exp.Expr | None = None
    inside: exp.Expr | None = None
    node: exp.Expr | None = place
    while node is not None:
        if isinstance(node, exp.CTE):
            through = node
        with_ = node.args.get("with_")
        if isinstance(with_, exp.With):
            ctes = list(with_.expressions)
            yield with_, ctes[: _position(ctes, through)] if inside is with_ else ctes
        inside = node
        node = node.parent


def names_cte(table: exp.Table) -> bool:
    """Whether the name of a table is that of a CTE which is visible where it stands."""
    return not table.args.get("db") and is_cte(table.name, table)


def is_cte(name: str, place: exp.Expr) -> bool:
    """Whether a CTE of that name is visible at a place."""
    for with_, visible in visible_ctes(place):
        before = len(visible) + bool(with_.recursive)  # a recursive CTE sees itself
        if any(cte.alias.lower() == name.lower() for cte in with_.expressions[:before]):
            return True
    return False


def in_free_scope(place: exp.Expr, query: exp.Query) -> exp.Query:
    """Put `query` under the visible CTEs that call no model, so that it can be run."""
    scoped = in_scope(place, query)
    for with_ in list(scoped.find_all(exp.With)):
        for cte in list(with_.expressions):
            if has_calls(cte):
                cte.pop()
        if not with_.expressions:
            with_.pop()
    return scoped


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
    query.set("with_", exp.With(expressions=ctes, recursive=recursive))
    return query


def computes(select: exp.Select, catalog: Catalog) -> bool:
    """Whether a block has values that all its rows make together."""
    parts = [part for clause, part in clause_parts(select) if clause != "where"]
    return any(
        after_grouping(part, catalog) or _has_aggregate(part, catalog) or part.find(exp.Explode)
        for part in parts
    )


def _has_aggregate(tree: exp.Expr, catalog: Catalog) -> bool:
    return any(is_aggregate(node, catalog) for node in own_nodes(tree))


def ctes_around(query: exp.Query) -> Iterator[exp.Expr]:
    """Yield the CTEs that a query is a part of, the nearest first."""
    cte = query.find_ancestor(exp.CTE)
    while cte is not None:
        yield cte
        cte = cte.find_ancestor(exp.CTE)
