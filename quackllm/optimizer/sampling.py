"""What to find out before the order of predicates is decided.

Of predicates under one AND, DuckDB counts the rows and the distinct argument tuples, alone
and in pairs; that calls no model. Where there are many tuples, the predicates are also asked
for some rows, drawn from those that the free predicates accept: the one that costs the least
of all of them, the next one of those that are left, as the statement itself would go on. So
a sample costs nothing in vain where that order turns out to be the best, and otherwise at
most its size for each predicate that is put behind another. What it does not tell, because
few rows were left, is worth little: a predicate that leaves few rows may well be the first.
Answers are kept, and a LIMIT starts with the rows that have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.early_stop import row_limit
from quackllm.optimizer.scope import in_free_scope, in_scope, pairs_of, rows_of
from quackllm.optimizer.split import Split
from quackllm.optimizer.sql import (
    ModelCall,
    conjunction,
    conjuncts,
    has_calls,
    json_fragment,
    never_fails,
    own_calls,
    raw,
    text,
)
from quackllm.udfs.base import Call

SAMPLE_ROWS = 16
FEWEST_ROWS = 4
"""Rows sampled for a small LIMIT, which is itself satisfied by few."""
SEED = 42
SMALLEST_TABLE = 20 * SAMPLE_ROWS
"""Argument tuples below which a sample would cost more than a good order saves."""
UNKNOWN_SHARE = 0.5
"""Share of rows that a predicate is assumed to accept where no sample was taken."""
MOST_ORDERED = 6
"""Predicates under one AND of which every order is weighed."""


@dataclass(frozen=True)
class Rivals:
    """Predicates that call a model, under one AND, and how to find out about them.

    facts: SQL of one row: the number of rows that there are to ask about; of each
        predicate its distinct argument tuples and the mean length of their texts; of
        each two predicates, in the order of `combinations`, their tuples together.
    instructions: of each predicate the characters of the fixed text of its calls.
    in_order: whether a LIMIT wants the first rows of an order, which a sample would miss.
    sample_rows: rows that a sample takes.
    select: the query that the predicates stand in.
    rows: a query of the rows that they are asked about, to stand in its place.
    """

    predicates: tuple[exp.Expr, ...]
    facts: str
    instructions: tuple[int, ...]
    in_order: bool
    sample_rows: int
    select: exp.Select
    rows: exp.Select

    def sample(self, order: Sequence[int]) -> exp.Query:
        """Select how many rows of a sample are left: at first, and behind each predicate.

        order: positions of the predicates, in the order in which they are asked.
        The calls of the tree are those of the plan.
        """
        split = Split("__llm_sample")
        asked = [
            split.rewrite(self.predicates[at], lambda node: isinstance(node, exp.Column))
            for at in order
        ]
        drawn = exp.Select(expressions=[exp.Star()]).from_(split.inner(self.rows).subquery("r"))
        size, seed = exp.Literal.number(self.sample_rows), exp.Literal.number(SEED)
        drawn.set("sample", exp.TableSample(size=size, seed=seed))
        counted = [
            exp.Alias(this=_rows_left(asked[:place]), alias=exp.to_identifier(f"n{place}"))
            for place in range(len(asked) + 1)
        ]
        return in_scope(self.select, exp.Select(expressions=counted).from_(split.derived(drawn)))


def rivals(plan: Plan, catalog: Catalog) -> list[Rivals]:
    """List the ANDs whose order is open: in WHERE, and in ON of joins that are not inner."""
    return [found for select in plan.selects for found in _of_block(select, plan, catalog)]


def _of_block(select: exp.Select, plan: Plan, catalog: Catalog) -> Iterator[Rivals]:
    where = select.args.get("where")
    conditions: list[tuple[exp.Expr | None, int | None]] = [(where.this if where else None, None)]
    conditions += [
        (join.args.get("on"), position)
        for position, join in enumerate(select.args.get("joins", []))
        if not join.method
    ]
    for condition, position in conditions:
        parts = conjuncts(condition)
        if sum(bool(own_calls(part)) for part in parts) < 2:
            continue
        rows = rows_of(select, []) if position is None else pairs_of(select, position, [])
        found = _rivals(parts, rows, select, plan, _sample_rows(select, catalog))
        if found is not None:
            yield found


def _sample_rows(select: exp.Select, catalog: Catalog) -> int:
    """How many rows a sample takes: of a small LIMIT, half as many as it wants.

    Of fewer more would be learnt wrongly than is saved: benchmarks/optimizer/sample_size.py.
    """
    wanted = row_limit(select, catalog)
    return SAMPLE_ROWS if wanted is None else min(max(wanted // 2, FEWEST_ROWS), SAMPLE_ROWS)


def _rivals(
    parts: list[exp.Expr], rows: exp.Select, select: exp.Select, plan: Plan, sample_rows: int
) -> Rivals | None:
    calling = tuple(part for part in parts if has_calls(part))
    if len(calling) > MOST_ORDERED or _nested(calling):
        return None
    free = conjunction([part for part in parts if not has_calls(part)])
    if free is not None:
        rows.set("where", exp.Where(this=free.copy()))
    counted = rows.copy()
    counted.set("expressions", _facts(calling))
    facts = in_free_scope(select, counted)
    if has_calls(facts):  # the rows themselves depend on answers
        return None
    fixed = tuple(_instructions(part, plan.calls) for part in calling)
    in_order = bool(select.args.get("limit") and select.args.get("order"))
    return Rivals(calling, text(facts), fixed, in_order, sample_rows, select, rows)


def _facts(predicates: tuple[exp.Expr, ...]) -> list[exp.Expr]:
    """Select items that count rows and argument tuples.

    Arguments that may fail for a row that never reaches the call are left alone: their
    tuples are taken to be as many as there are rows.
    """
    arguments = [
        [text(arg) for call in own_calls(part) for arg in call.expressions]
        if all(never_fails(arg) for call in own_calls(part) for arg in call.expressions)
        else None
        for part in predicates
    ]
    items = ["count(*)"]
    for args in arguments:
        lengths = [f"length({json_fragment(arg)})" for arg in args or ()]
        items += [_distinct(args), f"avg({' + '.join(lengths)})" if lengths else "0"]
    for left, right in combinations(arguments, 2):
        items.append(_distinct(None if left is None or right is None else left + right))
    return [raw(f"{item} AS s{number}") for number, item in enumerate(items)]


def _distinct(arguments: list[str] | None) -> str:
    if arguments is None:
        return "count(*)"
    return f"approx_count_distinct(hash({', '.join(arguments)}))" if arguments else "1"


def _rows_left(accepting: list[exp.Expr]) -> exp.Expr:
    """Count the rows that all of some predicates accept."""
    count = exp.Anonymous(this="count", expressions=[exp.Star()])
    condition = conjunction(accepting)
    if condition is None:
        return count
    return exp.Filter(this=count, expression=exp.Where(this=condition))


def _nested(predicates: tuple[exp.Expr, ...]) -> bool:
    return any(
        call.find_ancestor(ModelCall) is not None or predicate.find(exp.Query) is not None
        for predicate in predicates
        for call in predicate.find_all(ModelCall)
    )


def _instructions(predicate: exp.Expr, calls: Mapping[str, Call]) -> int:
    return sum(len(calls[call.spec].declaration.instruction) for call in own_calls(predicate))
