"""A call over the rows of a block becomes a column that is answered beforehand.

The block's distinct argument tuples are asked first; their answers are joined to the
block's rows, and the call is a column of the join.

The same call in two places of a block is one column.

Before: SELECT title FROM x WHERE LLM_FILTER('...', body)
After:  SELECT title FROM x LEFT JOIN answers ON <fields of body> = answers.key
        WHERE answers.value
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.answers import read_value
from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.cross_products import loses_rows
from quackllm.optimizer.left_conditions import binds_over, decided_left
from quackllm.optimizer.naive import window_of
from quackllm.optimizer.partners import partners_around, partners_of_join
from quackllm.optimizer.plan import BLOCK, MATERIALIZE, Block, Plan, Site
from quackllm.optimizer.rules.short_circuit import decided_inside
from quackllm.optimizer.scope import (
    ANSWER,
    after_grouping,
    beside,
    calls_of,
    clause_parts,
    enclosing,
    has_grouping_sets,
    in_recursive_cte,
    in_scope,
    is_aggregate,
    join_around,
    pairs_of,
    reads_only_its_from,
    rows_of,
    selects,
    source_parts,
)
from quackllm.optimizer.sources import Sources
from quackllm.optimizer.split import (
    aliased_items,
    is_columns,
    is_star,
    nested_aliases,
    open_aliases,
)
from quackllm.optimizer.sql import (
    ModelCall,
    bare,
    conjuncts,
    find_all,
    has_calls,
    never_fails,
    own_calls,
    own_nodes,
)

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


def stage_calls(plan: Plan, catalog: Catalog) -> Plan:
    """Stage every block that can be; say of the others why they cannot."""
    root = plan.root.copy()
    # All blocks are looked at before any is changed: a staged block binds no longer.
    with_calls = [(select, calls_of(select)) for select in selects(root)]
    obstacles = [
        (select, next(_obstacles(select, calls, catalog), None))
        for select, calls in with_calls
        if calls
    ]
    unstaged = [*plan.unstaged, *(reason for _, reason in obstacles if reason is not None)]
    correlated = {
        id(select): _outer_guards(select, catalog)
        for select, reason in obstacles
        if not reason and _reads_outer(select, catalog)
    }
    asked_left = {
        id(select): _asked_left(select, catalog) for select, reason in obstacles if not reason
    }
    ungrouped = {
        id(select)
        for select, reason in obstacles
        if not reason and select.args.get("group") and not is_grouped(select, catalog)
    }
    blocks: list[Block] = []
    sites = 0
    for select, reason in obstacles:
        if reason is not None:
            continue
        if id(select) in ungrouped:  # GROUP BY ALL would group by the answers' columns
            select.set("group", None)
        number = len(blocks) + 1
        select.meta[BLOCK] = number
        found = tuple(_sites(select, plan, sites, catalog, asked_left[id(select)]))
        sites += len(found)
        if any(site.is_joint for site in found):
            _qualify_as_where(select)
        guards = correlated.get(id(select))
        blocks.append(
            Block(
                number=number,
                sites=found,
                correlated=guards is not None,
                outer_guards=tuple(guards or ()),
            )
        )
    if root.find(ModelCall) is not None and not unstaged:
        unstaged.append("the call is not in a SELECT")
    if not blocks and len(unstaged) == len(plan.unstaged):
        return plan
    return replace(plan, root=root, blocks=tuple(blocks), unstaged=tuple(unstaged))


def _asked_left(select: exp.Select, catalog: Catalog) -> set[tuple[int, exp.Expr]]:
    """Calls in conditions of joins, by the join's position, that are asked of what is left of it.

    They read nothing else, nor does a condition before them where an argument may fail
    without it.
    """
    found: set[tuple[int, exp.Expr]] = set()
    for position, join in enumerate(select.args.get("joins", [])):
        parts = _in_order(join.args.get("on"))
        if not any(map(own_calls, parts)):
            continue
        left = rows_of(select, [])
        left.set("joins", left.args["joins"][:position])
        for at, part in enumerate(parts):
            for call in own_calls(part):
                before = [] if all(map(never_fails, call.expressions)) else parts[:at]
                if all(binds_over(left, value, select, catalog) for value in (call, *before)):
                    found.add((position, call.copy()))
    return found


def _in_order(condition: exp.Expr | None) -> list[exp.Expr]:
    """The conjuncts of a join's condition in the order in which they are asked."""
    return sorted(conjuncts(condition), key=has_calls)


def _sites(
    select: exp.Select,
    plan: Plan,
    start: int,
    catalog: Catalog,
    asked_left: set[tuple[int, exp.Expr]],
) -> Iterator[Site]:
    """Take the calls out of a block; the same call in two places is one site.

    Except in two joins, and in a join and a clause: each asks about rows of its own.
    """
    for position, join in enumerate(select.args.get("joins", [])):
        if own_calls(join.args.get("on")):
            before = decided_left(select, position, catalog)
            left = {call for at, call in asked_left if at == position}
            sites = list(_join_sites(join, position, plan, start, before, left))
            start += len(sites)
            yield from sites
    names: dict[exp.Expr, str] = {}
    for clause, part in list(clause_parts(select)):
        for node in own_calls(part):
            known = names.get(node)
            name = names.setdefault(node.copy(), f"{ANSWER}{start + len(names) + 1}")
            if known is None:
                yield Site(
                    column=name,
                    call=plan.calls[node.spec],
                    args=tuple(arg.copy() for arg in node.expressions),
                    guards=(),
                    clause=clause,
                )
            (window_of(node) or node).replace(read_value(plan.calls[node.spec], name))


def _qualify_as_where(select: exp.Select) -> None:
    """Write QUALIFY over kept rows as WHERE, in place: the windows in it are columns now."""
    qualify = select.args.get("qualify")
    if qualify is not None:
        select.set("where", exp.Where(this=qualify.this))
        select.set("qualify", None)


def _join_sites(
    join: exp.Join,
    position: int,
    plan: Plan,
    start: int,
    before: list[exp.Expr],
    asked_left: set[exp.Expr],
) -> Iterator[Site]:
    """Take the calls out of a join's condition; they are asked of pairs that it may join.

    A call that stands in it twice is guarded by what decides before the first place.
    """
    names: dict[exp.Expr, str] = {}
    uses = Counter(node.copy() for node in own_calls(join.args.get("on")))
    for part in _in_order(join.args.get("on")):
        for node in own_calls(part):
            known = names.get(node)
            name = names.setdefault(node.copy(), f"{ANSWER}{start + len(names) + 1}")
            if known is None:
                yield Site(
                    column=name,
                    call=plan.calls[node.spec],
                    args=tuple(arg.copy() for arg in node.expressions),
                    guards=tuple(
                        guard.copy() for guard in [*before, *_inside(part, node, uses[node])]
                    ),
                    clause="on",
                    join=position,
                    left=node in asked_left,
                )
            replacement = read_value(plan.calls[node.spec], name)
            if node is part:
                part = replacement
            node.replace(replacement)
        before.append(part)


def _inside(part: exp.Expr, call: ModelCall, uses: int) -> list[exp.Expr]:
    """What a part of a join's condition decides before a call in it.

    Nothing of a call that stands there twice, or whose arguments may fail: those are guarded
    wherever its answer is looked up, perhaps before the join.
    """
    if uses > 1 or not all(map(never_fails, call.expressions)):
        return []
    return [guard for guard in decided_inside(part, call) if not has_calls(guard)]


def _obstacles(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> Iterator[str]:
    """Yield what keeps a block from being staged, the cheapest checks first."""
    if len(calls) > MOST_CALLS:
        yield f"one SELECT has {len(calls):,} calls, more than {MOST_CALLS}"
    stageable = {id(n) for _, part in clause_parts(select) for n in own_calls(part)}
    joins = select.args.get("joins", [])
    in_joins = [call for join in joins for call in own_calls(join.args.get("on"))]
    if any(id(call) not in stageable for call in calls if call not in in_joins):
        yield "the call is in FROM or in LIMIT"
    if in_joins and any(join.method for join in joins):
        yield "the call is in the condition of a join beside an ASOF or positional join"
    if in_recursive_cte(select):
        yield "the call is inside a recursive CTE"
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
    if is_grouped(select, catalog) and not all(
        is_row_call(call, select, catalog) for call in calls
    ):
        yield "the call is made after grouping"
    for position, join in enumerate(joins):
        asked: list[exp.Expr] = [call.copy() for call in own_calls(join.args.get("on"))]
        pairs = pairs_of(select, position, asked) if asked else None
        if pairs is not None and catalog.columns(in_scope(select, pairs)) is None:
            yield "the call is in the condition of a join in a correlated query"
    calls = [call for call in calls if call not in in_joins]
    if not _binds_alone(select, calls, catalog):
        beside = _bound_beside(select, calls)
        if beside is None or catalog.columns(beside) is None:
            yield "the arguments depend on an enclosing query"
        elif _has_outer_sides(enclosing(select)):
            yield "the query around it has a RIGHT or FULL join"
        elif _calls_in_joins(enclosing(select)):
            yield "the query around it calls a model in the condition of a join"
        elif not catalog.can_plan(CORRELATED_JOIN) and not partners_around(select, catalog):
            yield "this version of DuckDB has no outer joins on columns of an enclosing query"
    looked_up = in_joins and not catalog.can_plan(SUBQUERY_IN_JOIN)
    if looked_up and not _decided_by_partners(select, catalog):
        yield "this version of DuckDB has no subqueries in the conditions of outer joins"


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


def _reads_outer(select: exp.Select, catalog: Catalog) -> bool:
    in_clauses = [call for _, part in clause_parts(select) for call in own_calls(part)]
    return not _binds_alone(select, in_clauses, catalog)


def _outer_guards(select: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    """Conditions that rows left of a correlated query in FROM have to pass, to be joined."""
    outer = enclosing(select)
    join = join_around(select, outer) if outer is not None else None
    if outer is None or join is None:
        return []
    return decided_left(outer, join, catalog)


def _binds_alone(select: exp.Select, calls: list[ModelCall], catalog: Catalog) -> bool:
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


def is_grouped(select: exp.Select, catalog: Catalog) -> bool:
    """Whether a block forms groups, one group without keys included."""
    if select.args.get("having") or _groups_by_keys(select, catalog):
        return True
    return any(
        clause in ("expressions", "order", "qualify") and _aggregates(part, catalog)
        for clause, part in clause_parts(select)
    )


def _groups_by_keys(select: exp.Select, catalog: Catalog) -> bool:
    group = select.args.get("group")
    if group is None:
        return False
    return bool(group_keys(select, catalog)) if group.args.get("all") else True


def _aggregates(tree: exp.Expr, catalog: Catalog) -> bool:
    return any(
        is_aggregate(node, catalog)
        and not (isinstance(node.parent, exp.Filter) and isinstance(node.parent.parent, exp.Window))
        for node in own_nodes(tree)
    )


def is_row_call(call: ModelCall, select: exp.Select, catalog: Catalog) -> bool:
    """Whether a call is made per row: inside an aggregate, in WHERE or ON, or in a group key."""
    group = select.args.get("group")
    keys = group_keys(select, catalog) if group is not None else []
    node: exp.Expr | None = call
    while node is not None and node is not select:
        if isinstance(node, exp.Where | exp.Group | exp.Join) or node in keys:
            return True
        if isinstance(node, exp.Anonymous) and catalog.is_aggregate(node.name):
            return True
        node = node.parent
    return False


def group_keys(select: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    """List the expressions that a block groups by; positions and aliases resolved.

    GROUP BY ALL means the items that read columns. Without any it does not group at all.
    A key is the same with parentheses around it, and has none here.
    """
    group = select.args["group"]
    items = [bare(item.unalias()) for item in select.expressions]
    if group.args.get("all"):
        constants = _constants(select, catalog)
        return [
            item
            for item, constant in zip(items, constants, strict=True)
            if not constant and not _aggregates(item, catalog)
        ]
    aliases = {item.alias.lower(): bare(item.this) for item in select.expressions if item.alias}
    keys = []
    for key in map(bare, group.expressions):
        if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.this) <= len(items):
            key = items[int(key.this) - 1]
        elif isinstance(key, exp.Column) and not key.table:
            key = aliases.get(key.name.lower(), key)
        keys.append(key)
    return keys


def _constants(select: exp.Select, catalog: Catalog) -> list[bool]:
    """Say of each item of a block whether it reads no column of the block's FROM."""
    constants: list[exp.Expr] = []
    found = []
    for item in select.expressions:
        found.append(_is_constant([*constants, item], select, catalog))
        if found[-1]:
            constants.append(item)  # a later item may name its alias
    return found


def _is_constant(items: list[exp.Expr], select: exp.Select, catalog: Catalog) -> bool:
    """Whether items bind without the FROM of their block: alone, or over that around it."""
    outer = enclosing(select)
    if is_star(items[-1].unalias()):
        return False
    if outer is None and isinstance(items[-1].unalias(), exp.Column):
        return False

    def binds(query: exp.Select, place: exp.Select) -> bool:
        query.set("expressions", [item.copy() for item in items])
        return catalog.columns(in_scope(place, query)) is not None

    if binds(exp.Select(), select):
        return True
    return (
        outer is not None
        and not binds(rows_of(select, []), select)
        and binds(rows_of(outer, []), outer)
    )


def groups_by_having(select: exp.Select, catalog: Catalog) -> bool:
    """Whether HAVING decides the groups: under GROUP BY ALL DuckDB groups by its columns too."""
    group, having = select.args.get("group"), select.args.get("having")
    if group is None or having is None or not group.args.get("all"):
        return False
    keys = group_keys(select, catalog)
    return any(
        column not in keys and not _in_aggregate(column, having, catalog)
        for column in find_all(having, exp.Column)
    )


def _in_aggregate(node: exp.Expr, top: exp.Expr, catalog: Catalog) -> bool:
    at: exp.Expr | None = node
    while at is not None and at is not top:
        if is_aggregate(at, catalog):
            return True
        at = at.parent
    return False
