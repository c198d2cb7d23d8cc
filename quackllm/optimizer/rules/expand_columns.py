"""COLUMNS(...) in a select list stands for the columns that it finds.

DuckDB looks for them in all columns of FROM, and so would find those that answers are joined
as. It is asked which ones they are before, and each gets an item of its own.

Before: SELECT COLUMNS('t.*'), LLM('...', body) AS why FROM x
After:  SELECT title AS title, tags AS tags, LLM('...', body) AS why FROM x
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.merge_derived import NAMED_LATER
from quackllm.optimizer.scope import clause_parts, in_scope, rows_of, selects
from quackllm.optimizer.split import is_columns, is_star
from quackllm.optimizer.sql import column, has_calls, held, own_nodes, released


def expand_columns(plan: Plan, catalog: Catalog) -> Plan:
    """Write out COLUMNS(...) in the select lists of blocks with calls."""
    if not any(map(_concerns, plan.selects)):
        return plan
    root = plan.root.copy()
    changed = [_expand(select, catalog) for select in selects(root) if _concerns(select)]
    return replace(plan, root=root) if any(changed) else plan


def _concerns(select: exp.Select) -> bool:
    return has_calls(select) and any(_columns_in(item) for item in select.expressions)


def _columns_in(item: exp.Expr) -> list[exp.Expr]:
    return [node for node in own_nodes(item) if is_columns(node)]


def _expand(select: exp.Select, catalog: Catalog) -> bool:
    """Expand all items, or none: a position may count them."""
    if any(clause != "expressions" and _columns_in(part) for clause, part in clause_parts(select)):
        return False  # there all columns share one condition
    rows = catalog.columns(in_scope(select, rows_of(select, [exp.Star()]))) or ()
    known = [name.lower() for name, _ in rows]
    if len(set(known)) < len(known):
        return False  # a name alone does not tell them apart
    items: list[exp.Expr] = []
    for item in select.expressions:
        written = _items(item, select, catalog) if _columns_in(item) else [item.copy()]
        if written is None:
            return False
        items.extend(written)
    if _shadows(items, select):
        return False
    select.set("expressions", items)
    return True


def _shadows(items: list[exp.Expr], select: exp.Select) -> bool:
    """Whether a later clause names a column that an item now has as the alias of something else."""
    computed = {
        item.alias.lower()
        for item in items
        if isinstance(item, exp.Alias) and item.this.name.lower() != item.alias.lower()
    }
    return any(
        not node.table and node.name.lower() in computed
        for clause, part in clause_parts(select)
        if clause in NAMED_LATER
        for node in part.find_all(exp.Column)
    )


def _items(item: exp.Expr, select: exp.Select, catalog: Catalog) -> list[exp.Expr] | None:
    """One item for each column that the item is about, under the names that DuckDB gives."""
    [first, *others] = _columns_in(item)
    if any(other != first for other in others) or is_star(item):
        return None
    found = catalog.columns(in_scope(select, rows_of(select, [first.copy()])))
    named = catalog.columns(in_scope(select, rows_of(select, [item.copy()])))
    if found is None or named is None or len(found) != len(named):
        return None
    items: list[exp.Expr] = []
    for (name, _), (output, _) in zip(found, named, strict=True):
        holder = held(item.unalias().copy())
        for node in _columns_in(holder):
            node.replace(column(name))
        alias = exp.to_identifier(output, quoted=True)
        items.append(exp.Alias(this=released(holder), alias=alias))
    return items
