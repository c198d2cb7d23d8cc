"""Rows of a scan stay in the order of the scan.

DuckDB keeps the order of a table through filters and projections; a join, also the
join of answers to rows, does not. Where the naive plan is a scan of one source, the
order is asked for; so it is of what a positional join puts side by side.

Before: SELECT title, a FROM x LEFT JOIN answers ...
After:  SELECT title, a FROM x LEFT JOIN answers ... ORDER BY x.rowid
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import BLOCK, Block, Plan
from quackllm.optimizer.scope import after_grouping, in_scope, rows_of, visible_ctes
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import column, find_all

REORDERING = ("joins", "laterals", "group", "having", "qualify", "distinct", "order", "windows")
ROW = "__llm_row"

UNNAMED = "unnamed_subquery"
"""What DuckDB calls a derived table without a name."""


def keep_order(plan: Plan, catalog: Catalog) -> Plan:
    """Order the rows of staged blocks by their place in their one source."""
    if not _scans(plan.root):
        return plan
    root = plan.root.copy()
    changed = False
    for select in _scans(root):
        place = None
        if select.args.get("order") is None and _keeps_rows(select, catalog):
            place = _place(select, plan.blocks, catalog)
        if place is not None:
            select.set("order", exp.Order(expressions=[exp.Ordered(this=place)]))
            changed = True
    return replace(plan, root=root) if changed else plan


def _scans(root: exp.Expr) -> list[exp.Select]:
    """The staged blocks whose rows the statement, or a positional join in it, reads."""
    scans = [_staged_scan(root)]
    for join in find_all(root, exp.Join):
        reader = join.parent if join.method == "POSITIONAL" else None
        from_ = None if reader is None else reader.args.get("from_")
        if reader is not None and from_ is not None:
            sources = [from_.this, *(each.this for each in reader.args["joins"])]
            scans += [_staged_scan(_read_by(source)) for source in sources]
    return [scan for scan in scans if scan is not None]


def _read_by(source: exp.Expr) -> exp.Expr | None:
    """The query that a source of FROM reads: a derived table, or a CTE."""
    if isinstance(source, exp.Subquery):
        query: exp.Expr = source.this
        return query
    if not isinstance(source, exp.Table) or source.args.get("db"):
        return None
    for _, ctes in visible_ctes(source):
        for cte in ctes:
            if cte.alias.lower() == source.name.lower():
                body: exp.Expr = cte.this
                return body
    return None


def _staged_scan(root: exp.Expr | None) -> exp.Select | None:
    """The staged block that a query reads, through queries that pass rows on."""
    node = root
    while isinstance(node, exp.Select) and node.meta_get(BLOCK) is None:
        source = node.args["from_"].this if node.args.get("from_") else None
        if source is None or any(node.args.get(name) for name in REORDERING):
            return None
        node = _read_by(source)
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
    if not isinstance(source, exp.Table | exp.Subquery | exp.Values):
        return None
    if isinstance(source, exp.Subquery) and not _is_scan(source.this):
        return None
    name = source.alias_or_name or (UNNAMED if isinstance(source, exp.Subquery) else "")
    if not name:
        return None
    if source.args.get("pivots"):
        return None
    if isinstance(source, exp.Table) and source.name not in _ctes(select):
        rowid = column("rowid", source.alias_or_name)
        if catalog.columns(in_scope(select, rows_of(select, [rowid.copy()]))) is not None:
            return rowid
        if not isinstance(source.this, exp.Identifier):
            return None
    if _reads_rows(select, blocks, name):
        return None
    _number(select, source, name)
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
    """Whether a derived table has an order to keep: rows that ORDER BY ordered, or a scan."""
    if isinstance(query, exp.Query) and query.args.get("order"):
        return True
    if isinstance(query, exp.Union):
        return not query.args.get("distinct")
    return isinstance(query, exp.Select) and not any(query.args.get(name) for name in REORDERING)


def _number(select: exp.Select, source: exp.Table | exp.Subquery | exp.Values, name: str) -> None:
    alias = source.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name))
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
