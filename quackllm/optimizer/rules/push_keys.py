"""A query that is joined by an equality is asked only for keys that the other side has.

A semijoin below the calls: Bernstein and Chiu, "Using Semi-Joins to Solve Relational
Queries" (JACM 1981). The keys are those of all sources that conditions tie to the other
side, under all their conditions without calls, so that a.x = b.x AND a.x = 5 reaches b as
well. Of derived tables, of CTEs that are read once, grouped ones by their group keys, and
of IN (SELECT ...) in WHERE. DuckDB does it while a hash join runs, for few keys.

Before: FROM (SELECT film, LLM('...', body) AS why FROM r) d JOIN m ON d.film = m.id
        WHERE m.year > 2015
After:  FROM (SELECT film, LLM('...', body) AS why FROM r
        WHERE film IN (SELECT m.id FROM m WHERE m.year > 2015)) d JOIN m ON ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import group_keys, is_grouped
from quackllm.optimizer.keys import Equalities, as_condition, comparable, restricts
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.push_filters import body_of, ctes_read_once, over_items, reads_calls
from quackllm.optimizer.scope import (
    clause_parts,
    has_grouping_sets,
    in_recursive_cte,
    in_scope,
    rows_of,
    selects,
)
from quackllm.optimizer.sql import conjunction, conjuncts, has_calls, own_nodes

CLOSED = ("qualify", "limit", "offset", "windows", "sample")
"""Clauses of a query under which its rows depend on those of other keys."""

TWO_VALUED = "quackllm_two_valued"
"""Key in the `meta` of an IN whose value is the same whatever other keys there are: it does
not become NULL by a NULL among them."""


def push_keys(plan: Plan, catalog: Catalog) -> Plan:
    """Restrict queries with calls to the keys that the rest of their SELECT has."""
    if not plan.has_nested_calls or not plan.holds(exp.Join, exp.In):
        return plan
    root = plan.root.copy()
    pushed = False
    for select in reversed(selects(root)):  # outer queries first: keys move on
        if filters_freely(select) and not in_recursive_cte(select):
            pushed |= _push(select, root, catalog)
    return replace(plan, root=root) if pushed else plan


def filters_freely(select: exp.Select) -> bool:
    """Whether a row of a source that finds no partner makes no difference to other rows.

    Positional joins count rows, and the right side of a RIGHT or FULL join is kept.
    """
    joins = select.args.get("joins", [])
    return not any(j.method or (j.side or "").upper() in ("RIGHT", "FULL") for j in joins)


def _name_unstable(select: exp.Select, root: exp.Expr, equalities: Equalities) -> bool:
    """Make CTEs of derived tables whose rows may differ from one reading to the next.

    By its name a condition reads the same rows, which `materialize_unstable` keeps.
    """
    sources = equalities.sources.trees
    if len(sources) < 2:
        return False
    read_once = ctes_read_once(root)
    bodies = [body_of(source, read_once) for source in sources]
    if not any(body and reads_calls(body, read_once) for body in bodies):
        return False
    named = False
    for position, source in enumerate(sources):
        alias = source.args.get("alias")
        if not isinstance(source, exp.Subquery) or has_calls(source) or not alias or alias.columns:
            continue
        if equalities.is_stable(source) or not equalities.sources.stands_alone(position):
            continue
        name = f"__llm_rows_of_{len(list(root.find_all(exp.CTE))) + 1}"
        cte = exp.CTE(this=source.this.copy(), alias=exp.TableAlias(this=exp.to_identifier(name)))
        with_ = select.args.get("with_") or exp.With(expressions=[])
        with_.append("expressions", cte)
        select.set("with_", with_)
        source.replace(exp.Table(this=exp.to_identifier(name), alias=alias.copy()))
        named = True
    return named


def _push(select: exp.Select, root: exp.Expr, catalog: Catalog) -> bool:
    equalities = Equalities(select, catalog)
    if _name_unstable(select, root, equalities):
        equalities = Equalities(select, catalog)
    found = [
        (key, values, inner)
        for inner, key, values in [
            *_of_sources(equalities, root),
            *_of_subqueries(equalities),
        ]
        if _is_open(inner, key, catalog)
    ]
    pushed = False
    for key, reached, inner in found:
        values = equalities.spelled_out(reached, inner)
        if values is None:
            continue
        own = in_scope(inner, rows_of(inner, [key.copy()]))
        there = in_scope(inner, values.copy())
        if comparable(own, there, catalog):
            restrict(inner, as_condition(key, values))
            pushed = True
    return pushed


Reduction = tuple[exp.Select, exp.Expr, exp.Select]
"""A query, a key over the rows that it selects from, and the values that the key has to have."""


def _of_sources(equalities: Equalities, root: exp.Expr) -> Iterator[Reduction]:
    sources = equalities.sources
    conditions = list(equalities.certain())
    tied = len(sources.trees) > 1 or any(isinstance(part, exp.In) for part in conditions)
    read_once = ctes_read_once(root) if tied else {}
    joins = equalities.select.args.get("joins", [])
    for position, source in enumerate(sources.trees):
        inner = body_of(source, read_once)
        alias = source.args.get("alias")
        if not isinstance(inner, exp.Select) or (alias and alias.columns):
            continue
        if not reads_calls(inner, read_once):
            continue
        join = joins[position - 1] if position else None
        if join is None or restricts(join):
            parts = conditions
        elif _drops_unmatched(join):
            parts = list(equalities.on(position - 1))
        else:
            continue
        for part in parts:
            found = equalities.key_of(part, position)
            own = sources.qualified(found[0], len(sources.trees)) if found else None
            if found is None or own is None:
                continue
            key = over_items(own, source.alias_or_name, inner, alone=False)
            if key is not None:
                yield inner, key, found[1]


def _drops_unmatched(join: exp.Join) -> bool:
    """Whether rows of the source that is joined count only with a partner."""
    left = (join.side or "").upper() == "LEFT" or (join.args.get("kind") or "").upper() == "ANTI"
    return left and not join.method


def _of_subqueries(equalities: Equalities) -> Iterator[Reduction]:
    for clause, part in clause_parts(equalities.select):
        certain = conjuncts(part.this) if clause == "where" else []
        for node in own_nodes(part):
            query = node.args.get("query") if isinstance(node, exp.In) else None
            inner = query.this if isinstance(query, exp.Subquery) else query
            if not isinstance(inner, exp.Select) or not has_calls(inner) or has_calls(node.this):
                continue
            if not node.meta.get(TWO_VALUED) and not any(node is one for one in certain):
                continue
            values = equalities.values(node.this, None)
            if len(inner.expressions) == 1 and values is not None:
                yield inner, inner.expressions[0].unalias(), values


def _is_open(inner: exp.Select, key: exp.Expr, catalog: Catalog) -> bool:
    """Whether rows of other keys can be left out before anything else is done to them."""
    distinct = inner.args.get("distinct")
    if any(inner.args.get(name) for name in CLOSED) or (distinct and distinct.args.get("on")):
        return False
    if has_calls(key) or inner.find(exp.Window) is not None or key.find(exp.Query, exp.Star):
        return False
    if not is_grouped(inner, catalog):
        return True
    if inner.args.get("group") is None or has_grouping_sets(inner):
        return False
    return key in group_keys(inner, catalog)


def restrict(inner: exp.Select, condition: exp.Expr) -> None:
    """Add a condition to the WHERE of a query, in place, before those that it has."""
    where = inner.args.get("where")
    known = conjuncts(where.this if where else None)
    if condition not in known:
        inner.set("where", exp.Where(this=conjunction([condition, *known])))
