"""A call that ORDER BY sorts by behind other keys is asked only where those tie at the LIMIT.

The rows that LIMIT leaves are among those whose rank by the first keys is no higher than their
number; of the others no further key decides anything. ORDER BY ALL is the common form: the
columns of a table, and a score behind them.

Before: SELECT *, LLM_SCORE('...', body) AS s FROM x ORDER BY year, s LIMIT 3, all rows asked
After:  kept := SELECT * FROM x QUALIFY rank() OVER (ORDER BY year) <= 3;
        SELECT *, LLM_SCORE('...', body) AS s FROM kept ORDER BY year, s LIMIT 3
"""

from __future__ import annotations

from itertools import takewhile

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.grouping import is_grouped
from quackllm.optimizer.plan import MATERIALIZE, Plan
from quackllm.optimizer.rules.early_stop import row_limit
from quackllm.optimizer.rules.project_after_limit import BLOCKING
from quackllm.optimizer.scope import clause_parts
from quackllm.optimizer.split import Split, is_carried, names_where_cuttable, order_keys, split_each
from quackllm.optimizer.sql import has_calls, own_calls, raw


def sort_free_keys_first(plan: Plan, catalog: Catalog) -> Plan:
    """Split a SELECT that sorts by a call behind other keys, and has a LIMIT."""

    def is_joint(call: exp.Expr) -> bool:
        return plan.calls[call.args["this"]].declaration.joint is not None

    def concerns(select: exp.Select) -> bool:
        order = select.args.get("order")
        if order is None or len(order.expressions) < 2 or not select.args.get("limit"):
            return False
        calls = [call for _, part in clause_parts(select) for call in own_calls(part)]
        return bool(calls) and not any(map(is_joint, calls))

    return split_each(plan, concerns, lambda select, n: _split(select, f"first {n}", catalog))


def _split(select: exp.Select, kept: str, catalog: Catalog) -> exp.Select | None:
    if any(select.args.get(name) for name in (*BLOCKING, "sample")):
        return None
    if is_grouped(select, catalog):
        return None
    rows, keys = row_limit(select, catalog), order_keys(select, calls=True)
    if rows is None or keys is None:
        return None
    free = list(takewhile(lambda key: not has_calls(key), keys))
    later = keys[len(free) :]
    if not free or not later or any(_is_unfit(key, catalog) for key in keys):
        return None
    names = names_where_cuttable(select, catalog)
    if names is None or any(
        has_calls(query) for item in select.expressions for query in item.find_all(exp.Query)
    ):
        return None
    split = Split("__llm_first")
    items = split.items(select, names, catalog)
    if items is None:
        return None
    outer = exp.Select(expressions=items)
    sorted_by = [key.copy() for key in keys]
    for key in sorted_by:
        key.set("this", split.rewrite(key.this, is_carried))
    inner = split.inner(select)
    rank = exp.Window(this=raw("rank()"), order=exp.Order(expressions=[k.copy() for k in free]))
    ranked = exp.LTE(this=rank, expression=exp.Literal.number(rows))
    inner.set("qualify", exp.Qualify(this=ranked))
    outer.set("order", exp.Order(expressions=sorted_by))
    for name in ("order", "limit", "offset"):
        inner.set(name, None)
    for name in ("limit", "offset"):
        outer.set(name, select.args[name].copy() if select.args.get(name) else None)
    if inner.args.get("with_") is not None:
        outer.set("with_", inner.args["with_"].pop())
    inner.meta[MATERIALIZE] = kept
    return outer.from_(split.derived(inner))


def _is_unfit(key: exp.Ordered, catalog: Catalog) -> bool:
    """Whether a key may be another each time, reads a query, or is made by a window."""
    functions = [node.name for node in key.find_all(exp.Anonymous)]
    return key.find(exp.Query, exp.Window) is not None or any(map(catalog.is_volatile, functions))
