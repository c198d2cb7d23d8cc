"""A select alias used in the same SELECT stands for its expression.

DuckDB lets WHERE, HAVING, QUALIFY and other select items name a select alias. The
planner needs to see the call behind the name.

Before: SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c FROM x WHERE c = 'a'
After:  SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c FROM x WHERE LLM_CLASSIFY(t, ['a', 'b']) = 'a'
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import calls_of, in_scope, rows_of, selects
from quackllm.optimizer.sql import own_nodes

USES = ("where", "having", "qualify", "expressions")


def inline_aliases(plan: Plan, catalog: Catalog) -> Plan:
    """Replace aliases by what they name, unless a column of FROM has the name."""
    root = plan.root.copy()
    changed = False
    for select in selects(root):
        if calls_of(select):
            changed |= _inline(select, catalog)
    return replace(plan, root=root) if changed else plan


def _inline(select: exp.Select, catalog: Catalog) -> bool:
    aliases = {
        item.alias.lower(): item.this for item in select.expressions if isinstance(item, exp.Alias)
    }
    uses = [use for use in _uses(select) if use.name.lower() in aliases]
    if not uses:
        return False
    rows = in_scope(select, rows_of(select, [exp.Star()]))
    columns = {name.lower() for name, _ in catalog.columns(rows) or ()}
    changed = False
    for use in uses:
        if use.name.lower() not in columns:
            use.replace(exp.paren(aliases[use.name.lower()].copy(), copy=False))
            changed = True
    return changed


def _uses(select: exp.Select) -> list[exp.Column]:
    found: list[exp.Column] = []
    for clause in USES:
        value = select.args.get(clause)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                found.extend(
                    node
                    for node in own_nodes(part)
                    if isinstance(node, exp.Column) and _unqualified(node)
                )
    return found


def _unqualified(node: exp.Expr) -> bool:
    return isinstance(node, exp.Column) and not node.table and not isinstance(node.this, exp.Star)
