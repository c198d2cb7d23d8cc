"""The rules, one file each, in the order in which they run.

A rule is a function `(Plan, Catalog) -> Plan` that returns the same object when it
has nothing to do. The order matters in one way: rules that reshape the tree come
before `stage_calls`, which takes the calls out of it; the others work on its sites.
"""

from __future__ import annotations

from collections.abc import Callable

from quackllm.optimizer.catalog import Catalog
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.rules.best_score import best_score
from quackllm.optimizer.rules.choose_strategy import choose_strategy
from quackllm.optimizer.rules.early_stop import early_stop
from quackllm.optimizer.rules.empty_queries import empty_queries
from quackllm.optimizer.rules.empty_sides import empty_sides
from quackllm.optimizer.rules.exists_for_in import exists_for_in
from quackllm.optimizer.rules.expand_columns import expand_columns
from quackllm.optimizer.rules.expand_stars import expand_stars
from quackllm.optimizer.rules.filter_before_grouping import filter_before_grouping
from quackllm.optimizer.rules.filter_below_join import filter_below_join
from quackllm.optimizer.rules.filter_join_in_where import filter_join_in_where
from quackllm.optimizer.rules.first_match import first_match
from quackllm.optimizer.rules.first_partner import first_partner
from quackllm.optimizer.rules.first_ranks import first_ranks
from quackllm.optimizer.rules.group_answers import group_answers
from quackllm.optimizer.rules.inline_aliases import inline_aliases
from quackllm.optimizer.rules.joint_calls import joint_calls
from quackllm.optimizer.rules.keep_order import keep_order
from quackllm.optimizer.rules.limit_in_union import limit_in_union
from quackllm.optimizer.rules.limit_through_join import limit_through_join
from quackllm.optimizer.rules.materialize_unstable import materialize_unstable
from quackllm.optimizer.rules.merge_derived import merge_derived
from quackllm.optimizer.rules.merge_lateral import merge_lateral
from quackllm.optimizer.rules.order_predicates import order_predicates
from quackllm.optimizer.rules.outer_to_inner import outer_to_inner
from quackllm.optimizer.rules.own_sources import own_sources
from quackllm.optimizer.rules.project_after_limit import project_after_limit
from quackllm.optimizer.rules.project_after_qualify import project_after_qualify
from quackllm.optimizer.rules.prune_columns import prune_columns
from quackllm.optimizer.rules.push_filters import push_filters
from quackllm.optimizer.rules.push_into_union import push_into_union
from quackllm.optimizer.rules.push_keys import push_keys
from quackllm.optimizer.rules.reaching_rows import reaching_rows
from quackllm.optimizer.rules.relational_first import relational_first
from quackllm.optimizer.rules.separate_sample import separate_sample
from quackllm.optimizer.rules.short_circuit import short_circuit
from quackllm.optimizer.rules.smaller_side_first import smaller_side_first
from quackllm.optimizer.rules.sort_free_keys_first import sort_free_keys_first
from quackllm.optimizer.rules.split_aggregate import split_aggregate
from quackllm.optimizer.rules.stage_calls import stage_calls
from quackllm.optimizer.rules.unnest_exists import unnest_exists

Rule = Callable[[Plan, Catalog], Plan]

RULES: tuple[Rule, ...] = (
    expand_columns,
    expand_stars,
    inline_aliases,
    separate_sample,
    empty_queries,
    push_into_union,
    merge_lateral,
    merge_derived,
    prune_columns,
    filter_before_grouping,
    outer_to_inner,
    push_filters,
    filter_join_in_where,
    filter_below_join,
    exists_for_in,
    unnest_exists,
    smaller_side_first,
    push_keys,
    empty_sides,
    group_answers,
    split_aggregate,
    limit_in_union,
    project_after_qualify,
    project_after_limit,
    sort_free_keys_first,
    joint_calls,
    materialize_unstable,
    relational_first,
    order_predicates,
    stage_calls,
    reaching_rows,
    short_circuit,
    early_stop,
    limit_through_join,
    best_score,
    first_match,
    first_partner,
    first_ranks,
    keep_order,
    choose_strategy,
    own_sources,
)
