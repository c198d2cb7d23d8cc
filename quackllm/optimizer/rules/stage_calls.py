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
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.left_conditions import binds_over, decided_left
from quackllm.optimizer.naive import window_of
from quackllm.optimizer.obstacles import binds_alone, obstacles
from quackllm.optimizer.plan import BLOCK, Block, Plan, Site
from quackllm.optimizer.rules.short_circuit import decided_inside
from quackllm.optimizer.scope import (
    ANSWER,
    calls_of,
    clause_parts,
    enclosing,
    join_around,
    rows_of,
    selects,
)
from quackllm.optimizer.sql import ModelCall, conjuncts, has_calls, never_fails, own_calls


def stage_calls(plan: Plan, catalog: Catalog) -> Plan:
    """Stage every block that can be; say of the others why they cannot."""
    root = plan.root.copy()
    # All blocks are looked at before any is changed: a staged block binds no longer.
    with_calls = [(select, calls_of(select)) for select in selects(root)]
    looked_at = [
        (select, next(obstacles(select, calls, catalog), None))
        for select, calls in with_calls
        if calls
    ]
    unstaged = [*plan.unstaged, *(reason for _, reason in looked_at if reason is not None)]
    correlated = {
        id(select): _outer_guards(select, catalog)
        for select, reason in looked_at
        if not reason and _reads_outer(select, catalog)
    }
    asked_left = {
        id(select): _asked_left(select, catalog) for select, reason in looked_at if not reason
    }
    ungrouped = {
        id(select)
        for select, reason in looked_at
        if not reason and select.args.get("group") and not is_grouped(select, catalog)
    }
    blocks: list[Block] = []
    sites = 0
    for select, reason in looked_at:
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


def _reads_outer(select: exp.Select, catalog: Catalog) -> bool:
    in_clauses = [call for _, part in clause_parts(select) for call in own_calls(part)]
    return not binds_alone(select, in_clauses, catalog)


def _outer_guards(select: exp.Select, catalog: Catalog) -> list[exp.Expr]:
    """Conditions that rows left of a correlated query in FROM have to pass, to be joined."""
    outer = enclosing(select)
    join = join_around(select, outer) if outer is not None else None
    if outer is None or join is None:
        return []
    return decided_left(outer, join, catalog)
