"""Of two queries with calls that are joined, the one with fewer questions is asked first.

Its rows then are the keys for which the other one is asked (`push_keys`). The smaller one
becomes a CTE of the query that joins them, the others derived tables, which see it. How
many argument tuples each has is counted by DuckDB, approximately; no model is asked. The
order of a join's sides by their size: Selinger et al., "Access Path Selection" (SIGMOD
1979).

Before: FROM (SELECT * FROM r WHERE LLM_FILTER('a', body)) d
        JOIN (SELECT * FROM m WHERE LLM_FILTER('b', plot)) e ON d.film = e.id
After:  WITH "__llm_side_1" AS (SELECT * FROM m WHERE LLM_FILTER('b', plot))
        FROM (SELECT * FROM r WHERE LLM_FILTER('a', body)) d JOIN "__llm_side_1" e ON ...
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.keys import DEPENDENT, restricts, same_names
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.push_filters import body_of, ctes_read_once
from quackllm.optimizer.scope import (
    calls_of,
    in_free_scope,
    in_recursive_cte,
    in_scope,
    rows_of,
    selects,
)
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls, never_fails, raw, text

SIDE = "__llm_side_"
"""Prefix of the names of CTEs that are made here."""


def smaller_side_first(plan: Plan, catalog: Catalog) -> Plan:
    """Arrange the sources with calls of each block so that the smallest is read first."""
    if not plan.has_nested_calls or not plan.holds(exp.Join):
        return plan
    root = plan.root.copy()
    made = 0
    for select in selects(root):
        sides = _sides(select, root)
        if len(sides) > 1 and not in_recursive_cte(select):
            made += _arrange(select, sides, f"{SIDE}{made + 1}", catalog)
    return replace(plan, root=root) if made else plan


Side = tuple[exp.Expr, exp.Select]
"""A source, and the query with calls that it reads."""


def _sides(select: exp.Select, root: exp.Expr) -> list[Side]:
    """The derived tables, and CTEs read once, that every joined row has a row of."""
    joins = select.args.get("joins", [])
    from_ = select.args.get("from_")
    if from_ is None or not joins or not all(map(restricts, joins)):
        return []
    read_once = ctes_read_once(root)
    sides: list[Side] = []
    for source in [from_.this, *(join.this for join in joins)]:
        inner = body_of(source, read_once)
        alias = source.args.get("alias")
        if isinstance(inner, exp.Select) and has_calls(inner) and not (alias and alias.columns):
            sides.append((source, inner))
    return sides


def _arrange(select: exp.Select, sides: list[Side], name: str, catalog: Catalog) -> int:
    """Make the smallest side a CTE and the others derived tables; 0 when that cannot be."""
    counted = [(_tuples(inner, catalog), source, inner) for source, inner in sides]
    known = [entry for entry in counted if entry[0] is not None]
    if len(known) != len(counted):
        return 0
    smallest = min(known, key=lambda entry: entry[0] or 0.0)
    others = [entry for entry in known if entry is not smallest]
    if not all(same_names(inner, inner, select) for _, _, inner in known):
        return 0
    if catalog.columns(in_scope(select, select.copy())) is None:
        return 0
    if all(_sees(inner, smallest[1]) for _, _, inner in others):
        return 0
    for _, source, inner in others:
        _inline(source, inner)
    _as_cte(select, smallest[1], smallest[2], name)
    return 1


def _sees(inner: exp.Select, source: exp.Expr) -> bool:
    """Whether a query stands where the CTE that a source names is seen already."""
    return (
        isinstance(source, exp.Table)
        and not same_names(exp.Select().from_(source.name), source, exp.Select())
        and same_names(exp.Select().from_(source.name), source, inner)
    )


def _inline(source: exp.Expr, inner: exp.Select) -> None:
    if isinstance(source, exp.Table):
        cte = inner.parent
        _replace(source, exp.Subquery(this=inner.copy()))
        _drop(cte)


def _as_cte(select: exp.Select, source: exp.Expr, inner: exp.Select, name: str) -> None:
    cte = inner.parent if isinstance(source, exp.Table) else None
    if cte is not None and cte.parent is select.args.get("with_"):
        return
    alias = exp.TableAlias(this=exp.to_identifier(name, quoted=True))
    with_ = select.args.get("with_") or exp.With(expressions=[])
    with_.append("expressions", exp.CTE(this=inner.copy(), alias=alias))
    select.set("with_", with_)
    _replace(source, exp.Table(this=exp.to_identifier(name, quoted=True)))
    _drop(cte)


def _replace(source: exp.Expr, by: exp.Expr) -> None:
    name = exp.to_identifier(source.alias_or_name, quoted=True)
    by.set("alias", exp.TableAlias(this=name))
    source.replace(by)


def _drop(cte: exp.Expr | None) -> None:
    """Take a CTE away that nobody reads any more."""
    with_ = cte.parent if cte is not None else None
    if cte is not None and with_ is not None:
        cte.pop()
        if not with_.expressions:
            with_.pop()


def _tuples(inner: exp.Select, catalog: Catalog) -> float | None:
    """Distinct argument tuples of a query's calls, of the rows that DuckDB leaves them."""
    calls = calls_of(inner)
    arguments = [argument for call in calls for argument in call.expressions]
    if any(inner.args.get(name) for name in DEPENDENT) or is_grouped(inner, catalog):
        return None
    if not calls or any(has_calls(a) or not never_fails(a) for a in arguments):
        return None
    counts = [
        f"approx_count_distinct(hash({', '.join(map(text, call.expressions))}))"
        for call in calls
        if call.expressions
    ]
    rows = rows_of(inner, [raw(" + ".join(counts) or "1")])
    where = inner.args.get("where")
    free = [part for part in conjuncts(where.this if where else None) if not has_calls(part)]
    condition = conjunction(free)
    if condition is not None:
        rows.set("where", exp.Where(this=condition))
    query = in_free_scope(inner, rows)
    return None if has_calls(query) else catalog.number(query)
