"""What to ask of a sample, before the order of predicates is decided.

Each predicate that calls a model is asked for some rows of its own, drawn from those
that the free predicates accept. The answers are kept, so what a sample costs in vain is
at most its size times the predicates that end up behind another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import in_scope, rows_of, selects
from quackllm.optimizer.split import Split
from quackllm.optimizer.sql import (
    ModelCall,
    conjunction,
    conjuncts,
    has_calls,
    json_fragment,
    own_calls,
    raw,
    text,
)
from quackllm.udfs.base import Call

SAMPLE_ROWS = 16
SEED = 42
SMALLEST_TABLE = 20 * SAMPLE_ROWS
"""Rows below which a sample would cost more than a good order saves."""


@dataclass(frozen=True)
class Sample:
    """A predicate, and the query that samples it.

    count: SQL of the number of rows that there are to ask about.
    query: tree of a SELECT that gives one row: rows sampled, rows accepted, characters
        of the fields of its calls. Its calls are those of the plan.
    instructions: characters of the fixed text of the predicate's calls.
    """

    predicate: exp.Expr
    count: str
    query: exp.Query
    instructions: int


def samples(plan: Plan, catalog: Catalog) -> list[Sample]:
    """List the samples to take: of blocks with two or more predicates that call a model."""
    return [sample for select in selects(plan.root) for sample in _of_block(select, plan, catalog)]


def _of_block(select: exp.Select, plan: Plan, catalog: Catalog) -> Iterator[Sample]:
    where = select.args.get("where")
    parts = conjuncts(where.this) if where else []
    calling = [part for part in parts if own_calls(part)]
    if len(calling) < 2 or select.args.get("limit") or _nested(calling) or _calls_in_from(select):
        return
    free = conjunction([part for part in parts if not has_calls(part)])
    rows = rows_of(select, [raw("count(*)")])
    if free is not None:
        rows.set("where", exp.Where(this=free.copy()))
    counted = in_scope(select, rows)
    if has_calls(counted):  # the rows themselves depend on answers
        return
    for predicate in calling:
        query = in_scope(select, _sampled(select, predicate, free))
        if catalog.columns(query) is None:
            return
        yield Sample(predicate, text(counted), query, _instructions(predicate, plan.calls))


def _sampled(select: exp.Select, predicate: exp.Expr, free: exp.Expr | None) -> exp.Select:
    split = Split("__llm_sample")
    asked = split.rewrite(predicate, lambda node: isinstance(node, exp.Column))
    fields = [json_fragment(text(arg)) for call in own_calls(asked) for arg in call.expressions]
    inner = rows_of(select, [])
    inner = split.inner(inner)
    if free is not None:
        inner.set("where", exp.Where(this=free.copy()))
    rows = exp.Select(expressions=[exp.Star()]).from_(inner.subquery("r"))
    size, seed = exp.Literal.number(SAMPLE_ROWS), exp.Literal.number(SEED)
    rows.set("sample", exp.TableSample(size=size, seed=seed))
    accepted = exp.Filter(this=raw("count(*)"), expression=exp.Where(this=asked))
    length = " + ".join(f"length({part})" for part in fields) or "0"
    outer = exp.Select(expressions=[raw("count(*)"), accepted, raw(f"sum({length})")])
    return outer.from_(split.derived(rows))


def _nested(predicates: list[exp.Expr]) -> bool:
    return any(
        call.find_ancestor(ModelCall) is not None or predicate.find(exp.Query) is not None
        for predicate in predicates
        for call in own_calls(predicate)
    )


def _calls_in_from(select: exp.Select) -> bool:
    return has_calls(select.args.get("from_")) or any(
        has_calls(join) for join in select.args.get("joins", [])
    )


def _instructions(predicate: exp.Expr, calls: Mapping[str, Call]) -> int:
    return sum(len(calls[call.spec].declaration.instruction) for call in own_calls(predicate))
