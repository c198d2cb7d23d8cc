"""What keeps the calls of a block from being staged: they run by the scalar function then."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.cross_products import loses_rows
from quackllm.optimizer.grouping import group_keys, groups_by_having, is_grouped, is_row_call
from quackllm.optimizer.naive import window_of
from quackllm.optimizer.partners import partners_around, partners_of_join
from quackllm.optimizer.plan import MATERIALIZE
from quackllm.optimizer.scope import (
    after_grouping,
    beside,
    clause_parts,
    enclosing,
    has_grouping_sets,
    in_recursive_cte,
    in_scope,
    pairs_of,
    reads_only_its_from,
    rows_of,
    source_parts,
)
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.split import aliased_items, is_columns, nested_aliases, open_aliases
from quackllm.optimizer.sql import ModelCall, bare, find_all, own_calls, own_nodes

MOST_CALLS = 40
"""Calls of one SELECT that are staged: each probe joins the answers of those before it."""

SUBQUERY_IN_JOIN = (
    "SELECT 1 FROM (SELECT 1 AS i) a LEFT JOIN (SELECT 1 AS i) b "
    "ON (SELECT true FROM (SELECT 1 AS k) c WHERE k = a.i + b.i)"
)
CORRELATED_JOIN = (
    "SELECT (SELECT max(b.i) FROM (SELECT 1 AS i) b LEFT JOIN (SELECT 1 AS k) c "
    "ON c.k = a.i + b.i) FROM (SELECT 1 AS i) a"
)
"""Two forms that the rewriting needs and that DuckDB 1.x refuses to plan."""

CHANGING_ROWS = ("joins", "laterals", "where", "group", "having", "sample")
"""Clauses by which the rows that a window sees are not those of one source."""

SOURCES = ("with_", "from_", "joins", "laterals")
"""Parts of a block that are evaluated before its groups are formed."""


def obstacles(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> Iterator[str]:
    """Yield what keeps a block from being staged, the cheapest checks first."""
    if len(calls) > MOST_CALLS:
        yield f"one SELECT has {len(calls):,} calls, more than {MOST_CALLS}"
    joins = select.args.get("joins", [])
    in_joins = [call for join in joins for call in own_calls(join.args.get("on"))]
    yield from _by_place(select, calls, in_joins, catalog)
    yield from _by_arguments(select, calls, catalog)
    if is_grouped(select, catalog) and not all(
        is_row_call(call, select, catalog) for call in calls
    ):
        yield "the call is made after grouping"
    for position, join in enumerate(joins):
        asked: list[exp.Expr] = [call.copy() for call in own_calls(join.args.get("on"))]
        pairs = pairs_of(select, position, asked) if asked else None
        if pairs is not None and catalog.columns(in_scope(select, pairs)) is None:
            yield "the call is in the condition of a join in a correlated query"
    yield from _by_enclosing(select, [call for call in calls if call not in in_joins], catalog)
    looked_up = in_joins and not catalog.can_plan(SUBQUERY_IN_JOIN)
    if looked_up and not _decided_by_partners(select, catalog):
        yield "this version of DuckDB has no subqueries in the conditions of outer joins"


def _by_place(
    select: exp.Select, calls: list[ModelCall], in_joins: list[ModelCall], catalog: Catalog
) -> Iterator[str]:
    """Yield what is wrong with where the calls stand."""
    stageable = {id(n) for _, part in clause_parts(select) for n in own_calls(part)}
    if any(id(call) not in stageable for call in calls if call not in in_joins):
        yield "the call is in FROM or in LIMIT"
    if in_joins and any(join.method for join in select.args["joins"]):
        yield "the call is in the condition of a join beside an ASOF or positional join"
    if in_recursive_cte(select):
        yield "the call is inside a recursive CTE"
    if select.find_ancestor(exp.Describe) is not None:
        yield "the query is only described"
    if any(map(window_of, calls)) and not reads_kept_rows(select):
        yield "the call is about rows together that are not kept"
    if select.args.get("sample") or any(map(_is_sampled, source_parts(select))):
        yield "the rows are a sample"
    if any(_in_lambda(call) for call in calls):
        yield "the call is inside a lambda"
    if any(is_columns(node) for _, part in clause_parts(select) for node in own_nodes(part)):
        yield "COLUMNS(...) would see the added columns"
    if _in_repeated_key(select, catalog):
        yield "a key of GROUP BY holds the query and stands in another clause too"
    if _in_grouping_sets(select, calls, catalog):
        yield "the call is in a SELECT with ROLLUP, CUBE or GROUPING SETS"
    if groups_by_having(select, catalog):
        yield "GROUP BY ALL groups by columns of HAVING"


def _by_arguments(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> Iterator[str]:
    """Yield what is wrong with what the calls are about."""
    if any(query.find(ModelCall) for call in calls for query in find_all(call, exp.Query)):
        yield "an argument is a query that calls a model"
    if nested_aliases(select, catalog):
        yield "a nested query names a column of the select list"
    if _names_an_item(select, calls, catalog):
        yield "an argument names a column of the select list"
    volatile = _volatile(select, calls, catalog)
    if volatile:
        yield f"{volatile}() gives another value at each evaluation"
    if any(makes_rows(arg) for call in calls for arg in call.expressions):
        yield "an argument is unnest(...), which makes rows"
    if any(after_grouping(arg, catalog) for call in calls for arg in call.expressions):
        yield "an argument is an aggregate or a window function"
    if loses_rows(select, calls):
        yield "an argument is a call, beside others, and no condition joins the tables"


def _by_enclosing(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> Iterator[str]:
    """Yield what is wrong with the query around a block whose calls read its rows."""
    if binds_alone(select, calls, catalog):
        return
    around = _bound_beside(select, calls)
    if around is None or catalog.columns(around) is None:
        yield "the arguments depend on an enclosing query"
    elif _has_outer_sides(enclosing(select)):
        yield "the query around it has a RIGHT or FULL join"
    elif _calls_in_joins(enclosing(select)):
        yield "the query around it calls a model in the condition of a join"
    elif not catalog.can_plan(CORRELATED_JOIN) and not partners_around(select, catalog):
        yield "this version of DuckDB has no outer joins on columns of an enclosing query"


def _names_an_item(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> bool:
    """Whether an argument names a select item, where `inline_aliases` has not written it out."""
    aliases = aliased_items(select)
    named = [
        column
        for call in calls
        for column in find_all(call, exp.Column)
        if not column.table and column.name.lower() in aliases
    ]
    open_ = open_aliases(select, catalog) if named else []
    return any(use is column for use in open_ for column in named)


def _decided_by_partners(select: exp.Select, catalog: Catalog) -> bool:
    """Whether `first_partner` decides every join of a block whose condition calls a model."""
    joins = select.args.get("joins", [])
    positions = [at for at, join in enumerate(joins) if own_calls(join.args.get("on"))]
    sources = Sources(select, catalog)
    return all(partners_of_join(at, select, sources) for at in positions)


def reads_kept_rows(select: exp.Select) -> bool:
    """Whether all rows of a block are those of a query that are kept."""
    from_ = select.args.get("from_")
    source = from_.this if from_ is not None else None
    if not isinstance(source, exp.Subquery) or not source.this.meta_get(MATERIALIZE):
        return False
    return not any(select.args.get(name) for name in CHANGING_ROWS)


def makes_rows(arg: exp.Expr) -> bool:
    """Whether an expression gives several rows for one."""
    return any(node.name.lower() == "unnest" for node in find_all(arg, exp.Anonymous))


def _is_sampled(source: exp.Expr) -> bool:
    """Whether a source has a sample whose rows are not kept."""
    if source.meta.get(MATERIALIZE):
        return False
    return isinstance(source, exp.TableSample) or any(map(_is_sampled, source.iter_expressions()))


def _in_repeated_key(query: exp.Select, catalog: Catalog) -> bool:
    """Whether a nested query is a part of a key of GROUP BY that its SELECT writes twice.

    DuckDB knows the key by its text, and the answers of the two copies have names of their own.
    `group_answers` makes such a key a column where it can. A key by its alias or position is
    written once as an item.
    """
    outer = enclosing(query)
    group = outer.args.get("group") if outer is not None else None
    if outer is None or group is None:
        return False
    path: list[exp.Expr] = []
    node = query.parent
    while node is not None and node is not outer:
        path.append(node)
        node = node.parent
    whole = [bare(key) for key in group.expressions]
    keys = group_keys(outer, catalog)
    held_in = [key for key in keys if any(part == key for part in path)]
    others = (part for clause, part in clause_parts(outer) if clause != "group")
    written = [node for part in others for node in part.walk()] if held_in else []
    return any(sum(node == key for node in written) > (key not in whole) for key in held_in)


def _in_grouping_sets(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> bool:
    """Whether a call may see a key that grouping sets make NULL for some rows.

    Not so in WHERE, inside aggregates, and in the sources of the query that groups.
    """
    if has_grouping_sets(select):
        return not all(is_row_call(call, select, catalog) for call in calls)
    node: exp.Expr = select
    while node.parent is not None:
        above = node.parent
        if node.arg_key not in SOURCES and has_grouping_sets(above):
            return True
        node = above
    return False


def _has_outer_sides(select: exp.Select | None) -> bool:
    joins = select.args.get("joins", []) if select is not None else []
    return any((join.side or "").upper() in ("RIGHT", "FULL") for join in joins)


def _calls_in_joins(select: exp.Select | None) -> bool:
    joins = select.args.get("joins", []) if select is not None else []
    return any(own_calls(join.args.get("on")) for join in joins)


def _bound_alone(select: exp.Select, calls: list[ModelCall]) -> exp.Query:
    """Select the calls from the rows of a block; binds when it reads nothing outside."""
    return in_scope(select, _called(select, calls))


def _bound_beside(select: exp.Select, calls: list[ModelCall]) -> exp.Query | None:
    """The same for each row of the SELECT around it."""
    outer = enclosing(select)
    if outer is None:
        return None
    return in_scope(outer, beside(outer, select, _called(select, calls), [exp.Star()]))


def _called(select: exp.Select, calls: list[ModelCall]) -> exp.Select:
    rows = rows_of(select, [call.copy() for call in calls] or [exp.Literal.number(1)])
    where = select.args.get("where")
    if where is not None:
        rows.set("where", where.copy())
    return rows


def binds_alone(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> bool:
    """Whether calls bind over FROM alone; DuckDB is asked where the place does not tell."""
    aliases = {item.alias.lower() for item in select.expressions if item.alias}
    where = select.args.get("where")
    parts = [*calls, where] if where is not None else calls
    columns = (column for part in parts for column in find_all(part, exp.Column))
    named = any(not column.table and column.name.lower() in aliases for column in columns)
    alone = reads_only_its_from(select)
    if alone and not named:
        return True
    if not alone and catalog.columns(in_scope(select, select.copy())) is None:
        return False  # if only by a condition that guards a call
    return catalog.columns(_bound_alone(select, calls)) is not None


def _volatile(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> str | None:
    """A function whose value in the result is not the one by which was decided what is asked."""
    beside = [part for _, part in clause_parts(select) if own_calls(part)]
    where = select.args.get("where")
    parts = [*source_parts(select), *calls, *beside, *([where] if where is not None else [])]
    for part in parts:
        for node in find_all(part, exp.Anonymous):
            if catalog.is_volatile(node.name):
                return str(node.name).lower()
    return None


def _in_lambda(call: ModelCall) -> bool:
    """Whether a call is evaluated for each item of a list; the list itself is not."""
    part: exp.Expr = call
    node = call.parent
    while node is not None and not isinstance(node, exp.Query):
        if isinstance(node, exp.Lambda):
            return True
        if isinstance(node, exp.Comprehension) and part is not node.args.get("iterator"):
            return True
        part, node = node, node.parent
    return False
