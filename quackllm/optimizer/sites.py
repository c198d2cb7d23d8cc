"""What the sites of a block need of each other, and the names of their answers' columns."""

from __future__ import annotations

from sqlglot import exp

from quackllm.optimizer.guards import uses
from quackllm.optimizer.plan import Block, Site
from quackllm.optimizer.split import is_star
from quackllm.optimizer.sql import find_all


def before(block: Block, site: Site) -> tuple[Site, ...]:
    """The sites that are answered before a site."""
    return block.sites[: block.sites.index(site)]


def columns_read(block: Block, site: Site) -> set[str]:
    """The columns of the earlier answers that a site's guards and arguments use."""
    wanted = [*site.guards, *site.args]
    found = set()
    for other in reversed(before(block, site)):
        if any(uses(part, {other.column}) for part in wanted):
            found.add(other.column)
            wanted.extend(other.args)
    return found


def read_by(join: exp.Join, sites: list[Site]) -> list[Site]:
    """Return the sites of a join whose answers its condition reads, also through later sites."""
    trees: list[exp.Expr] = [join]
    found: list[Site] = []
    for site in reversed(sites):
        if any(uses(tree, {site.column}) for tree in trees):
            found.append(site)
            trees += [*site.args, *site.guards]
    return found[::-1]


def columns_named(tree: exp.Expr, name: str) -> list[exp.Column]:
    """The places where a tree names an answer."""
    return [node for node in find_all(tree, exp.Column) if node.name == name and not node.table]


def key_name(site: Site) -> str:
    """The column that holds the key of an answer: not NULL where there is one."""
    return site.column + "_key"


def hide_from_stars(select: exp.Select, sites: list[Site]) -> None:
    """Take the columns that answers add out of the stars of a select list, in place."""
    hidden = [exp.to_identifier(name, quoted=True) for site in sites for name in names_added(site)]
    for item in select.expressions:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star) and is_star(item) and not getattr(item, "table", ""):
            star.set("except_", [*(star.args.get("except_") or []), *hidden])


def names_added(site: Site) -> tuple[str, str]:
    """The columns that an answer adds to the rows that it is joined to."""
    return key_name(site), site.column
