"""What a query wants of a UNION ALL, it wants of each of its branches.

Conditions without calls, the columns that are read, and LIMIT go into the branches, where
`merge_derived` brings them to the calls. DuckDB does the same below our calls.

Before: SELECT id FROM (SELECT id, LLM('...', a) AS x FROM s UNION ALL SELECT id, b FROM t) AS u
        WHERE id < 10 LIMIT 5
After:  SELECT id FROM (SELECT id, NULL AS x FROM (SELECT id, LLM('...', a) AS x FROM s) AS d
        WHERE id < 10 LIMIT 5 UNION ALL ...) AS u WHERE id < 10 LIMIT 5
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.early_stop import REDUCING, row_limit
from quackllm.optimizer.scope import clause_parts, in_scope, selects
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import column, conjunction, conjuncts, has_calls, raw


@dataclass(frozen=True)
class _Wanted:
    """What a reader wants: names and types of the columns, those it reads, conditions, rows."""

    columns: tuple[tuple[str, str], ...]
    read: frozenset[str]
    conditions: tuple[exp.Expr, ...]
    limit: int | None


def push_into_union(plan: Plan, catalog: Catalog) -> Plan:
    """Push into the branches of derived tables with calls, outer queries first."""
    if not plan.holds(exp.Union):
        return plan
    root = plan.root.copy()
    changed = False
    for select in reversed(list(selects(root))):
        union = _union_of(select)
        wanted = _wanted(select, union, catalog) if union is not None else None
        if union is not None and wanted is not None:
            for branch in list(_branches(union)):
                branch.replace(_narrowed(branch, wanted))
            changed = True
    return replace(plan, root=root) if changed else plan


def _union_of(select: exp.Select) -> exp.Union | None:
    """The UNION ALL with calls that is all a query reads."""
    from_ = select.args.get("from_")
    source = from_.this if from_ is not None else None
    if not isinstance(source, exp.Subquery) or not isinstance(source.this, exp.Union):
        return None
    if any(select.args.get(name) for name in ("joins", "laterals", "sample")):
        return None
    if any(source.args.get(name) for name in ("joins", "sample", "pivots")):
        return None
    union = source.this
    plain = {"this", "expression", "distinct", "with_"}
    for node in [union, *(part for part in union.find_all(exp.Union) if part.parent is union)]:
        if node.args.get("distinct") or node.args.get("by_name"):
            return None
        if any(value for name, value in node.args.items() if name not in plain and value):
            return None
    return union if has_calls(union) and union.args.get("with_") is None else None


def _branches(union: exp.Union) -> Iterator[exp.Expr]:
    for side in (union.this, union.expression):
        if isinstance(side, exp.Union):
            yield from _branches(side)
        else:
            yield side


def _wanted(select: exp.Select, union: exp.Union, catalog: Catalog) -> _Wanted | None:
    columns = catalog.columns(in_scope(union, union.copy()))
    if columns is None or any(part.find(exp.Columns) for _, part in clause_parts(select)):
        return None
    source = select.args["from_"].this
    alias = source.args.get("alias")
    given = [identifier.name for identifier in alias.columns] if alias is not None else []
    names = [*given, *(name for name, _ in columns[len(given) :])]
    typed = tuple((name, type_) for name, (_, type_) in zip(names, columns, strict=True))
    known = {name.lower() for name in names}
    if len(known) < len(names):
        return None
    where = select.args.get("where")
    parts = conjuncts(where.this if where is not None else None)
    pushed = [part for part in parts if _can_be_pushed(part, source.alias_or_name, known, catalog)]
    reducing = any(select.args.get(name) for name in (*REDUCING, "order"))
    whole = len(pushed) == len(parts) and not reducing and not is_grouped(select, catalog)
    limit = row_limit(select, catalog) if whole else None
    read = _read(select, source.alias_or_name.lower(), known)
    if not pushed and limit is None and read == known:
        return None
    return _Wanted(typed, read, tuple(pushed), limit)


def _can_be_pushed(part: exp.Expr, name: str, known: set[str], catalog: Catalog) -> bool:
    if has_calls(part) or part.find(exp.Query, exp.Lambda, exp.Comprehension) is not None:
        return False
    if any(catalog.is_volatile(node.name) for node in part.find_all(exp.Anonymous)):
        return False
    named = list(part.find_all(exp.Column))
    return bool(named) and all(
        node.name.lower() in known and node.table.lower() in ("", name.lower()) for node in named
    )


def _read(select: exp.Select, name: str, known: set[str]) -> frozenset[str]:
    """Columns that a query reads; all where it may read whole rows."""
    read: set[str] = set()
    for _, part in clause_parts(select):
        if any(not isinstance(star.parent, exp.Anonymous) for star in part.find_all(exp.Star)):
            return frozenset(known)
        for node in part.find_all(exp.Column, exp.Identifier):
            if is_star(node) or node.name.lower() == name:
                return frozenset(known)
            read.add(node.name.lower())
    return frozenset(read & known)


def _narrowed(branch: exp.Expr, wanted: _Wanted) -> exp.Expr:
    """Select from a branch what is wanted of it."""
    items = [
        exp.Alias(
            this=column(name) if name.lower() in wanted.read else raw(f"CAST(NULL AS {type_})"),
            alias=exp.to_identifier(name, quoted=True),
        )
        for name, type_ in wanted.columns
    ]
    query = branch.this if isinstance(branch, exp.Subquery) else branch
    names = [exp.to_identifier(name, quoted=True) for name, _ in wanted.columns]
    alias = exp.TableAlias(this=exp.to_identifier("__llm_branch"), columns=names)
    narrowed = exp.Select(expressions=items).from_(exp.Subquery(this=query.copy(), alias=alias))
    conditions = [_unqualified(part) for part in wanted.conditions]
    if conditions:
        narrowed.set("where", exp.Where(this=conjunction(conditions)))
    if wanted.limit is None:
        return narrowed
    narrowed.set("limit", exp.Limit(expression=exp.Literal.number(wanted.limit)))
    return exp.Subquery(this=narrowed)


def _unqualified(part: exp.Expr) -> exp.Expr:
    part = part.copy()
    for node in part.find_all(exp.Column):
        node.set("table", None)
    return part
