"""A select alias used in the same SELECT stands for its expression.

DuckDB lets WHERE, HAVING, QUALIFY, expressions in ORDER BY and other select items name a
select alias. The planner needs to see the call behind the name, and conditions that guard
a call are evaluated where the alias is not known.

Before: SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c FROM x WHERE c = 'a'
After:  SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c FROM x WHERE LLM_CLASSIFY(t, ['a', 'b']) = 'a'
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import calls_of, in_scope, rows_of, selects
from quackllm.optimizer.split import is_columns, is_star, names_of
from quackllm.optimizer.sql import own_nodes

USES = ("where", "having", "qualify", "expressions", "order")


def inline_aliases(plan: Plan, catalog: Catalog) -> Plan:
    """Replace aliases by what they name, unless a column of FROM has the name."""
    if not any(_uses(select) for select in selects(plan.root)):
        return plan
    root = plan.root.copy()
    inlined = [_inline(select, catalog) for select in selects(root)]
    return replace(plan, root=root) if any(inlined) else plan


def _inline(select: exp.Select, catalog: Catalog) -> bool:
    if not _uses(select):
        return False
    rows = in_scope(select, rows_of(select, [exp.Star()]))
    columns = {name.lower() for name, _ in catalog.columns(rows) or ()}
    names = names_of(select, catalog)
    changed = False
    for _ in select.expressions:  # an alias may stand for others, those before it
        aliases = _aliases(select)
        inlined = [use for use in _uses(select) if use.name.lower() not in columns]
        if inlined and not changed:
            _name_items(select, names or [])
        for use in inlined:
            use.replace(exp.paren(aliases[use.name.lower()].copy(), copy=False))
        changed |= bool(inlined)
    return changed


def _name_items(select: exp.Select, names: list[str]) -> None:
    """Give items the names that they have by their text, which is about to change."""
    items = list(select.expressions)
    stars = [at for at, item in enumerate(items) if _spreads(item)]
    for at, item in enumerate(items):
        known = len(names) >= len(items) and (not stars or not stars[0] <= at <= stars[-1])
        if known and not isinstance(item, exp.Alias | exp.Column):
            name = names[at if not stars or at < stars[0] else at - len(items)]
            alias = exp.to_identifier(name, quoted=True)
            item.replace(exp.Alias(this=item.copy(), alias=alias))


def _spreads(item: exp.Expr) -> bool:
    return is_star(item.unalias()) or any(map(is_columns, item.walk()))


def _aliases(select: exp.Select) -> dict[str, exp.Expr]:
    items = (item for item in select.expressions if isinstance(item, exp.Alias))
    return {item.alias.lower(): item.this for item in items}


def _uses(select: exp.Select) -> list[exp.Column]:
    """Columns of a block with calls that have the name of an alias."""
    aliases = _aliases(select)
    if not aliases or not calls_of(select):
        return []
    found: list[exp.Column] = []
    for clause in USES:
        value = select.args.get(clause)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                found.extend(
                    node
                    for node in own_nodes(part)
                    if isinstance(node, exp.Column) and _names_any(node, aliases)
                )
    return found


def _names_any(node: exp.Column, aliases: Collection[str]) -> bool:
    """Whether a column has no table and the name of an alias; not a key of ORDER BY, where
    DuckDB means the select item itself."""
    if isinstance(node.this, exp.Star) or isinstance(node.parent, exp.Ordered):
        return False
    return not node.table and node.name.lower() in aliases
