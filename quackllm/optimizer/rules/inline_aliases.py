"""A select alias used in the same SELECT stands for its expression.

DuckDB lets WHERE, HAVING, QUALIFY, expressions in ORDER BY and other select items name a
select alias. The planner needs to see the call behind the name, and conditions that guard
a call are evaluated where the alias is not known. In every block that has calls or reads a
block with calls: rules move expressions of both. DuckDB refuses to name what is volatile. A
subquery that grouping sets group by it knows by the alias only, which stays; so does an alias
that names a key once more, which to DuckDB is a key of its own there, a constant.

Before: SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c FROM x WHERE c = 'a'
After:  SELECT LLM_CLASSIFY(t, ['a', 'b']) AS c FROM x WHERE LLM_CLASSIFY(t, ['a', 'b']) = 'a'
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import has_grouping_sets, selects
from quackllm.optimizer.split import (
    alias_uses,
    aliased_items,
    is_columns,
    is_star,
    names_of,
    open_aliases,
)
from quackllm.optimizer.sql import bare, has_calls, own_nodes


def inline_aliases(plan: Plan, catalog: Catalog) -> Plan:
    """Replace aliases by what they name, unless a column of FROM has the name."""
    if not any(has_calls(select) and alias_uses(select) for select in plan.selects):
        return plan
    root = plan.root.copy()
    inlined = [_inline(select, catalog) for select in selects(root)]
    return replace(plan, root=root) if any(inlined) else plan


def _inline(select: exp.Select, catalog: Catalog) -> bool:
    if not has_calls(select) or not alias_uses(select):
        return False
    names = names_of(select, catalog)
    changed = False
    for _ in select.expressions:  # an alias may stand for others, those before it
        aliases = aliased_items(select)
        inlined = open_aliases(select, catalog)
        if has_grouping_sets(select):
            inlined = [use for use in inlined if not aliases[use.name.lower()].find(exp.Query)]
        again = _keys_named_again(select)
        inlined = [use for use in inlined if use.name.lower() not in again]
        if not inlined:
            break
        if not changed:
            _name_items(select, names or [])
        for use in inlined:
            use.replace(_operand(aliases[use.name.lower()], use, select))
        changed = True
    return changed


def _keys_named_again(select: exp.Select) -> set[str]:
    """Aliases, in lower case, of items that GROUP BY names more than once, by place or alias."""
    group = select.args.get("group")
    if group is None:
        return set()
    places = {
        item.alias.lower(): str(at) for at, item in enumerate(select.expressions, 1) if item.alias
    }
    named = Counter(
        places.get(key.name.lower(), "") if isinstance(key, exp.Column) else key.name
        for key in own_nodes(group)
        if isinstance(key, exp.Literal) or (isinstance(key, exp.Column) and not key.table)
    )
    return {alias for alias, place in places.items() if named[place] > 1}


def _operand(value: exp.Expr, place: exp.Expr, select: exp.Select) -> exp.Expr:
    """Copy a value so that DuckDB knows it for the group key that it may be.

    DuckDB's parser makes one list of the operands of nested ANDs, and of nested ORs, whatever
    parentheses there are, in which no key is found that is such an operand. WHERE knows no keys.
    """
    value = value.copy()
    above = place.parent
    while isinstance(above, exp.Paren):
        above = above.parent
    flattened = isinstance(above, exp.And | exp.Or) and isinstance(bare(value), type(above))
    if flattened and select.args.get("group") and place.find_ancestor(exp.Where) is None:
        return exp.cast(value, "BOOLEAN", copy=False)
    return exp.paren(value, copy=False)


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
