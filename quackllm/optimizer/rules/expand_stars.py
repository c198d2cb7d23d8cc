"""A star is written out where it hides a call, or a column that is sorted by its position.

REPLACE may hold a call that LIMIT should leave for few rows, and ORDER BY may mean a column of
a star by its number; the other rules look at select items, and at the expressions of keys.
So ORDER BY ALL before a LIMIT is written as the numbers of all columns.

Before: SELECT * REPLACE (LLM('...', body) AS body) FROM x ORDER BY 1 LIMIT 20
After:  SELECT id, title, LLM('...', body) AS body FROM x ORDER BY 1 LIMIT 20
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import in_scope, rows_of, selects
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import column, has_calls


def expand_stars(plan: Plan, catalog: Catalog) -> Plan:
    """Write out the stars of SELECTs with calls whose LIMIT they keep from the other rules."""
    if not any(map(_concerns, plan.selects)):
        return plan
    root = plan.root.copy()
    expanded = [_expand(select, catalog) for select in selects(root) if _concerns(select)]
    return replace(plan, root=root) if any(expanded) else plan


def _concerns(select: exp.Select) -> bool:
    items = select.expressions
    stars = [at for at, item in enumerate(items) if is_star(item)]
    if not has_calls(select):
        return False
    if select.args.get("limit") and _sorts_by_all(select):
        return True
    if not stars:
        return False
    if any(has_calls(items[at]) for at in stars):
        return True
    order = select.args.get("order")
    return order is not None and any(
        isinstance(key.this, exp.Literal) and key.this.is_int and int(key.this.this) > stars[0]
        for key in order.expressions
    )


def _sorts_by_all(select: exp.Select) -> bool:
    """Whether a block has ORDER BY ALL; ALL stands alone."""
    order = select.args.get("order")
    key = order.expressions[0].this if order is not None else None
    return isinstance(key, exp.Var) and key.name.lower() == "all"


def _expand(select: exp.Select, catalog: Catalog) -> bool:
    """Write out the stars of a block, and ORDER BY ALL; False where its columns would be others.

    So it is where two sources have a column of one name, which alone means neither.
    """
    before = catalog.columns(in_scope(select, select.copy()))
    items: list[exp.Expr] = []
    for item in select.expressions:
        if not is_star(item):
            items.append(item.copy())
            continue
        found = catalog.columns(in_scope(select, rows_of(select, [item.copy()])))
        star = item.this if isinstance(item, exp.Column) else item
        if found is None or star.args.get("rename"):
            return False
        items.extend(_columns(item, star, [name for name, _ in found]))
    written = select.copy()
    written.set("expressions", items)
    if before is None or catalog.columns(in_scope(select, written.copy())) != before:
        return False
    select.set("expressions", items)
    if _sorts_by_all(select):
        key = select.args["order"].expressions[0]
        numbers = [exp.Literal.number(at) for at in range(1, len(items) + 1)]
        keys = [exp.Ordered(**{**key.copy().args, "this": number}) for number in numbers]
        select.args["order"].set("expressions", keys)
    return True


def _columns(item: exp.Expr, star: exp.Expr, names: list[str]) -> Iterator[exp.Expr]:
    """The select items that a star stands for, what REPLACE says in the place of a column."""
    replaced = {part.alias.lower(): part for part in star.args.get("replace") or ()}
    for name in names:
        given = replaced.get(name.lower())
        if given is not None:
            alias = exp.to_identifier(name, quoted=True)
            yield exp.Alias(this=given.this.copy(), alias=alias)
        else:
            yield column(name, item.table if isinstance(item, exp.Column) else None)
