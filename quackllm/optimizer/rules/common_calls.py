"""The same call in two places is asked once.

Before: SELECT LLM_SCORE('...', t) AS s FROM x WHERE LLM_SCORE('...', t) > 0.5
After:  SELECT a AS s FROM x WHERE a > 0.5, where a is LLM_SCORE('...', t)
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Block, Plan, Site, find_block
from quackllm.optimizer.scope import clause_parts


def common_calls(plan: Plan, catalog: Catalog) -> Plan:
    """Merge the sites of a block that ask the same question of the same expressions."""
    root = plan.root.copy()
    blocks = tuple(_merge(block, find_block(root, block.number)) for block in plan.blocks)
    if blocks == plan.blocks:
        return plan
    return replace(plan, root=root, blocks=blocks)


def _merge(block: Block, select: exp.Select) -> Block:
    kept: list[Site] = []
    renamed: dict[str, str] = {}
    for site in block.sites:
        args = tuple(_rename(arg.copy(), renamed) for arg in site.args)
        same = next((old for old in kept if old.call == site.call and old.args == args), None)
        if same is None:
            kept.append(replace(site, args=args))
        else:
            renamed[site.column] = same.column
    if not renamed:
        return block
    for _, part in clause_parts(select):
        _rename(part, renamed)
    return replace(block, sites=tuple(kept))


def _rename(tree: exp.Expression, renamed: dict[str, str]) -> exp.Expression:
    for node in list(tree.find_all(exp.Column)):
        if not node.table and node.name in renamed:
            node.this.set("this", renamed[node.name])
    return tree
