"""Rows of a scan stay in the order of the scan.

DuckDB keeps the order of a table through filters and projections; a join, also the
join of answers to rows, does not. Where the naive plan is a scan of one source, the
order is asked for.

Before: SELECT title, a FROM x LEFT JOIN answers ...
After:  SELECT title, a FROM x LEFT JOIN answers ... ORDER BY x.rowid
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import BLOCK, Block, Plan
from quackllm.optimizer.scope import after_grouping, in_scope, rows_of
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import column, find_all

REORDERING = ("joins", "laterals", "group", "having", "qualify", "distinct", "order", "windows")
ROW = "__llm_row"


def keep_order(plan: Plan, catalog: Catalog) -> Plan:
    """Order the rows of a staged block by their place in its one source."""
    scan = _staged_scan(plan.root)
    if scan is None or not _keeps_rows(scan, catalog):
        return plan
    root = plan.root.copy()
    select = _staged_scan(root)
    assert select is not None
    place = _place(select, plan.blocks, catalog)
    if place is None:
        return plan
    select.set("order", exp.Order(expressions=[exp.Ordered(this=place)]))
    return replace(plan, root=root)


def _staged_scan(root: exp.Expr) -> exp.Select | None:
    """The staged block that the statement reads, through queries that pass rows on."""
    node: exp.Expr | None = root
    ctes: dict[str, exp.Expr] = {}
    while isinstance(node, exp.Select) and node.meta_get(BLOCK) is None:
        with_ = node.args.get("with_")
        ctes.update({cte.alias: cte.this for cte in (with_.expressions if with_ else [])})
        source = node.args["from_"].this if node.args.get("from_") else None
        if any(node.args.get(name) for name in REORDERING):
            return None
        if isinstance(source, exp.Subquery):
            node = source.this
        else:
            node = ctes.pop(source.name, None) if isinstance(source, exp.Table) else None
    return node if isinstance(node, exp.Select) else None


def _keeps_rows(select: exp.Select, catalog: Catalog) -> bool:
    """Whether a block is a scan with filters and projections, nothing that reorders."""
    if any(select.args.get(name) for name in REORDERING):
        return False
    return not any(
        after_grouping(item, catalog) or item.find(exp.Explode) for item in select.expressions
    )


def _place(select: exp.Select, blocks: tuple[Block, ...], catalog: Catalog) -> exp.Expr | None:
    """An expression that numbers the rows; FROM changes where the source has none."""
    source = select.args["from_"].this if select.args.get("from_") else None
    if not isinstance(source, exp.Table | exp.Subquery | exp.Values) or not source.alias_or_name:
        return None
    if isinstance(source, exp.Subquery) and not _is_scan(source.this):
        return None
    if source.args.get("pivots"):
        return None
    if isinstance(source, exp.Table) and source.name not in _ctes(select):
        rowid = column("rowid", source.alias_or_name)
        if catalog.columns(in_scope(select, rows_of(select, [rowid.copy()]))) is not None:
            return rowid
        if not isinstance(source.this, exp.Identifier):
            return None
    if _reads_rows(select, blocks, source.alias_or_name):
        return None
    _number(select, source)
    return column(ROW)


def _ctes(select: exp.Select) -> set[str]:
    """Names of CTEs that are visible to a query, which have no row numbers."""
    named: set[str] = set()
    node: exp.Expr | None = select
    while node is not None:
        with_ = node.args.get("with_")
        named.update(cte.alias for cte in (with_.expressions if with_ else []))
        node = node.parent
    return named


def _reads_rows(select: exp.Select, blocks: tuple[Block, ...], name: str) -> bool:
    """Whether a block has its source's rows as values, which would hold the number too."""
    sites = [site for block in blocks if block.number == select.meta[BLOCK] for site in block.sites]
    read = [select, *(part for site in sites for part in (*site.args, *site.guards))]
    return any(
        not node.table and node.name.lower() == name.lower()
        for part in read
        for node in find_all(part, exp.Column)
    )


def _is_scan(query: exp.Expr) -> bool:
    """Whether a derived table has an order to keep: a scan, or rows that ORDER BY ordered."""
    if not isinstance(query, exp.Select):
        return False
    return not any(query.args.get(name) for name in REORDERING if name != "order")


def _number(select: exp.Select, source: exp.Table | exp.Subquery | exp.Values) -> None:
    alias = source.args.get("alias") or exp.TableAlias(this=exp.to_identifier(source.name))
    inner = source.copy()
    numbered = exp.Select(expressions=[exp.Star()]).from_(inner)
    number = exp.Window(this=exp.Anonymous(this="row_number"))
    numbered.select(exp.Alias(this=number, alias=exp.to_identifier(ROW, quoted=True)), copy=False)
    if inner.args.get("alias") is not None and inner.args["alias"].columns:
        alias = exp.TableAlias(this=alias.this.copy())  # the inner source names its columns
    source.replace(exp.Subquery(this=numbered, alias=alias.copy()))
    for item in select.expressions:
        star = item.this if isinstance(item, exp.Column) else item
        if is_star(item) and isinstance(star, exp.Star):
            hidden = exp.to_identifier(ROW, quoted=True)
            star.set("except_", [*(star.args.get("except_") or []), hidden])
