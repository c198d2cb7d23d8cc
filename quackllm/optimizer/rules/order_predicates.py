"""Predicates that call a model are asked in the order that costs the least.

What a predicate costs is its distinct argument tuples that are left times the tokens of a
call; how many are left depends on what comes before it, and on how many different tuples
of that stand beside each of its own. So a question about a film is asked before one about
each of its reviews, even if it rejects less: the place of a call below or above a join.
Hellerstein and Stonebraker, "Predicate Migration" (SIGMOD 1993), order by cost / (1 -
selectivity), which is the same where every row has tuples of its own; the tuples that are
left among repeated ones are counted as by Cardenas (CACM 1975). Tuples are counted by
DuckDB; selectivities come from a sample of the statement's own rows, whose answers are
kept (see `quackllm.optimizer.sampling`), and are otherwise taken to be alike.

Before: WHERE LLM_FILTER('long, accepts 90 %', body) AND LLM_FILTER('short, accepts 10 %', title)
After:  WHERE LLM_FILTER('short, accepts 10 %', title) AND LLM_FILTER('long, accepts 90 %', body)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog, PredicateStatistics
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import selects
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls

WORTH_IT = 0.98
"""Share of the cost as written below which another order is taken: counts are estimates."""
WORTH_A_GUESS = 0.8
"""The same where no sample was taken, for predicates that accept `FEW`. An order that was guessed
wrong asks what it puts first for nothing; so that has to be clearly less than what the order
as written puts first, not a few tokens less."""
FEW = 0.1


def order_predicates(plan: Plan, catalog: Catalog) -> Plan:
    """Sort the conjuncts with calls of WHERE and of ON where something is known of them."""
    if not any(_reordered(plan.root, catalog)):
        return plan
    root = plan.root.copy()
    for clause, slot, ordered in list(_reordered(root, catalog)):
        clause.set(slot, conjunction(ordered))
    return replace(plan, root=root)


def _reordered(root: exp.Expr, catalog: Catalog) -> Iterator[tuple[exp.Expr, str, list[exp.Expr]]]:
    """Yield the clauses whose condition has a better order: clause, its slot, the order."""
    for select in selects(root):
        joins = [(join, "on") for join in select.args.get("joins", []) if join.args.get("on")]
        for clause, slot in [(select.args.get("where"), "this"), *joins]:
            parts = conjuncts(clause.args.get(slot)) if clause is not None else []
            ordered = _ordered(parts, catalog)
            if clause is not None and ordered != parts:
                yield clause, slot, ordered


def _ordered(parts: list[exp.Expr], catalog: Catalog) -> list[exp.Expr]:
    calling = tuple(part for part in parts if has_calls(part))
    known = catalog.statistics(calling) if len(calling) > 1 else None
    if known is None:
        return parts
    order = cheapest_order(known)
    free = [part for part in parts if not has_calls(part)]
    return [*free, *(calling[position] for position in order)]


def cheapest_order(known: PredicateStatistics) -> tuple[int, ...]:
    """Find the order of the predicates that is expected to cost the fewest tokens.

    The order as written is kept unless another is clearly cheaper.
    """
    written = tuple(range(len(known.tuples)))
    best = min(permutations(written), key=lambda order: expected_tokens(order, known))
    worth_it = expected_tokens(best, known) < WORTH_IT * expected_tokens(written, known)
    if not known.sampled:
        few = replace(known, selectivities=(FEW,) * len(written))
        saves = expected_tokens(best, few) < WORTH_A_GUESS * expected_tokens(written, few)
        worth_it = worth_it and saves
    return best if worth_it else written


def expected_tokens(order: Sequence[int], known: PredicateStatistics) -> float:
    """Tokens of asking predicates one after another, each of the tuples that are left.

    A tuple is left when one of the rows that it stands in is: with n different tuples
    of an earlier predicate beside it, of which a share s is accepted, with probability
    1 - (1 - s) ** n.
    """
    total = 0.0
    for place, at in enumerate(order):
        left = known.tuples[at]
        for before in order[:place]:
            together = known.together[min(at, before), max(at, before)]
            partners = max(together / known.tuples[at], 1.0) if known.tuples[at] else 1.0
            left *= 1 - (1 - known.selectivities[before]) ** partners
        total += left * known.tokens[at]
    return total
