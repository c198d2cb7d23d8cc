"""Guards: the conditions under which a row reaches a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Block, Partners, Plan, Site
from quackllm.optimizer.scope import after_grouping, clause_parts
from quackllm.optimizer.split import open_aliases
from quackllm.optimizer.sql import conjunction, conjuncts, find_all, own_nodes

Conditions = Callable[[exp.Select, str, list[exp.Expr]], list[exp.Expr]]
"""(block, clause, path from the clause down to the answer's column) -> conditions that
hold for every row that reaches this place."""


def add_guards(plan: Plan, catalog: Catalog, conditions: Conditions) -> Plan:
    """Add to each site what `conditions` finds at the places where its answer is used.

    A site used in several places is guarded by the OR of the places' conditions, and
    not at all when one of them has none. A condition on a column that is answered
    later than the site is left out, and so is one that only has a value after grouping, or
    names a select item: the guard then admits more rows, never fewer.
    """
    blocks = tuple(
        _guard_block(block, plan.select_of(block), catalog, conditions) for block in plan.blocks
    )
    return plan if blocks == plan.blocks else replace(plan, blocks=blocks)


def _guard_block(
    block: Block, select: exp.Select, catalog: Catalog, conditions: Conditions
) -> Block:
    sites: list[Site] = []
    aliases = {use.name for use in open_aliases(select, catalog)}
    for number, site in enumerate(block.sites):
        late = {later.column for later in block.sites[number:]} | aliases
        alternatives = []
        for clause, path in places(block, select, site):
            found = conditions(select, clause, path)
            alternatives.append(
                [c for c in found if not uses(c, late) and not after_grouping(c, catalog)]
            )
        guard = _any_of(alternatives)
        sites.append(replace(site, guards=(*site.guards, *guard)) if guard else site)
    return replace(block, sites=tuple(sites))


def _any_of(alternatives: list[list[exp.Expr]]) -> list[exp.Expr]:
    if not alternatives or not all(alternatives):
        return []
    if len(alternatives) == 1:
        return [part.copy() for part in alternatives[0]]
    branches = [conjunction(parts) for parts in alternatives]
    unique = list(dict.fromkeys(branch for branch in branches if branch is not None))
    return [exp.or_(*unique)] if len(unique) > 1 else unique


def places(block: Block, select: exp.Select, site: Site) -> list[tuple[str, list[exp.Expr]]]:
    """List where an answer is used: the clause and the path from it down to the column.

    An answer in an argument of another call is used where that call's is: the path to the
    other answer goes on from the argument.
    """
    found = [
        (clause, path_to(part, node))
        for clause, part in clause_parts(select)
        for node in _named(part, site.column)
    ]
    for other in block.sites:
        inner = [path_to(arg, node) for arg in other.args for node in _named(arg, site.column)]
        for clause, path in places(block, select, other) if inner else []:
            found.extend((clause, [*path, *further]) for further in inner)
    return found


def _named(tree: exp.Expr, column: str) -> Iterator[exp.Expr]:
    return (
        node
        for node in own_nodes(tree)
        if isinstance(node, exp.Column) and node.name == column and not node.table
    )


def uses(tree: exp.Expr, columns: set[str]) -> bool:
    """Whether a tree names one of the answer columns."""
    return any(not node.table and node.name in columns for node in find_all(tree, exp.Column))


def conditions_of_all(
    sites: Sequence[Site], select: exp.Select, partners: Partners
) -> list[exp.Expr]:
    """The conditions without which no pair counts: guards of all sites that need no answer.

    Not those by which an operand of OR decides: a pair of which it is TRUE is a match.
    """
    where = select.args.get("where")
    whole = [partners.condition(select), *([where.this] if where else [])]
    needed = [part for condition in whole for part in conjuncts(condition)]
    answers = {site.column for site in sites}
    shared = [guard for guard in needed if all(guard in site.guards for site in sites)]
    return [guard for guard in shared if not uses(guard, answers)]


def path_to(top: exp.Expr, node: exp.Expr) -> list[exp.Expr]:
    """The nodes from a tree down to one of its nodes, both among them."""
    path = [node]
    while path[-1] is not top:
        parent = path[-1].parent
        assert parent is not None
        path.append(parent)
    return path[::-1]
