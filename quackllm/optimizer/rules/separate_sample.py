"""A sample is taken of a derived table, whose rows can be kept.

TABLESAMPLE is taken of its table, USING SAMPLE of all of FROM, before WHERE. Where the
sample is the rows of a derived table, `materialize_unstable` fetches them once.

Before: SELECT title, LLM('...', body) FROM x USING SAMPLE 100
After:  SELECT title, LLM('...', body) FROM (SELECT * FROM x USING SAMPLE 100) AS x
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.scope import selects, source_parts
from quackllm.optimizer.sql import has_calls


def separate_sample(plan: Plan, catalog: Catalog) -> Plan:
    """Put sampled tables of SELECTs with calls into derived tables."""
    if not plan.holds(exp.TableSample):
        return plan
    root = plan.root.copy()
    changed = False
    for select in list(selects(root)):
        if has_calls(select):
            changed |= _sample_of_from(select)
            for part in source_parts(select):
                changed |= _sampled_table(part.this, select)
    return replace(plan, root=root) if changed else plan


def _sample_of_from(select: exp.Select) -> bool:
    """Make USING SAMPLE over one source its TABLESAMPLE."""
    from_, sample = select.args.get("from_"), select.args.get("sample")
    alone = not select.args.get("joins") and not select.args.get("laterals")
    source = from_.this if from_ is not None else None
    if sample is None or not alone or not isinstance(source, exp.Table | exp.Subquery):
        return False
    if source.args.get("sample") or not source.alias_or_name or is_qualified(select):
        return False
    select.set("sample", None)
    source.replace(sampled(source, sample))
    return True


def sampled(source: exp.Expr, sample: exp.Expr) -> exp.Subquery:
    """Return a derived table of the sample of a source, under its name."""
    inner = exp.Select(expressions=[exp.Star()]).from_(source.copy())
    inner.set("sample", sample.copy())
    return _derived(inner, source)


def _sampled_table(source: exp.Expr, select: exp.Select) -> bool:
    if not isinstance(source, exp.Table | exp.Subquery) or not source.args.get("sample"):
        return False
    if any(source.args.get(key) for key in ("joins", "pivots", "laterals")):
        return False
    if not source.alias_or_name or is_qualified(select):
        return False
    inner = exp.Select(expressions=[exp.Star()]).from_(source.copy())
    source.replace(_derived(inner, source))
    return True


def _derived(inner: exp.Select, source: exp.Expr) -> exp.Subquery:
    """The derived table under the name of what it reads; column names are given inside."""
    name = exp.to_identifier(source.alias_or_name, quoted=True)
    return exp.Subquery(this=inner, alias=exp.TableAlias(this=name))


def is_qualified(select: exp.Select) -> bool:
    """Whether a column is named by its schema, which a derived table has none of."""
    return any(column.args.get("db") for column in select.find_all(exp.Column))
