"""What to find out before the order of predicates is decided.

Of predicates under one AND, DuckDB counts the rows and the distinct argument tuples, alone
and in pairs; that calls no model. Where there are many tuples, each predicate is also asked
for some rows of its own, drawn from those that the free predicates accept. These answers
are kept, so what a sample costs in vain is at most its size times the predicates that end
up behind another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from sqlglot import exp

from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import in_free_scope, in_scope, pairs_of, rows_of, selects
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
    samples: of each predicate the tree of a SELECT of one row: rows sampled, and rows
        accepted. Its calls are those of the plan.
    instructions: of each predicate the characters of the fixed text of its calls.
    in_order: whether a LIMIT wants the first rows of an order, which a sample would miss.
    """

    predicates: tuple[exp.Expr, ...]
    facts: str
    samples: tuple[exp.Query, ...]
    instructions: tuple[int, ...]
    in_order: bool


def rivals(plan: Plan) -> list[Rivals]:
    """List the ANDs whose order is open: in WHERE, and in ON of joins that are not inner."""
    return [found for select in selects(plan.root) for found in _of_block(select, plan)]


def _of_block(select: exp.Select, plan: Plan) -> Iterator[Rivals]:
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
        found = _rivals(parts, rows, select, plan)
        if found is not None:
            yield found


def _rivals(
    parts: list[exp.Expr], rows: exp.Select, select: exp.Select, plan: Plan
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
    samples = tuple(in_scope(select, _sampled(rows, part)) for part in calling)
    fixed = tuple(_instructions(part, plan.calls) for part in calling)
    in_order = bool(select.args.get("limit") and select.args.get("order"))
    return Rivals(calling, text(facts), samples, fixed, in_order)


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


def _sampled(rows: exp.Select, predicate: exp.Expr) -> exp.Select:
    split = Split("__llm_sample")
    asked = split.rewrite(predicate, lambda node: isinstance(node, exp.Column))
    drawn = exp.Select(expressions=[exp.Star()]).from_(split.inner(rows).subquery("r"))
    size, seed = exp.Literal.number(SAMPLE_ROWS), exp.Literal.number(SEED)
    drawn.set("sample", exp.TableSample(size=size, seed=seed))
    counted = exp.Filter(this=raw("count(*)"), expression=exp.Where(this=asked))
    accepted = exp.Alias(this=counted, alias=exp.to_identifier("accepted"))
    return exp.Select(expressions=[raw("count(*) AS n"), accepted]).from_(split.derived(drawn))


def _nested(predicates: tuple[exp.Expr, ...]) -> bool:
    return any(
        call.find_ancestor(ModelCall) is not None or predicate.find(exp.Query) is not None
        for predicate in predicates
        for call in predicate.find_all(ModelCall)
    )


def _instructions(predicate: exp.Expr, calls: Mapping[str, Call]) -> int:
    return sum(len(calls[call.spec].declaration.instruction) for call in own_calls(predicate))
