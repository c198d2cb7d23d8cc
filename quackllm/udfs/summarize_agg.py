"""LLM_SUMMARIZE_AGG(values): a summary of all values of a group."""

from __future__ import annotations

from quackllm.udfs.base import Function, Kind, OverSet, Parameter, no_declaration

SUMMARIZE_AGG = Function(
    name="llm_summarize_agg",
    aliases=("ai_summarize_agg",),
    summary="an aggregate: a summary of all values of a group, read in parts where it is long",
    parameters=(Parameter("values", Kind.VALUE, "an expression, aggregated over the group"),),
    declare=no_declaration,
    formula="LLM_REDUCE({values}, 'Summarize the values together.'{options})",
    over_set=OverSet.LIST,
    example="SELECT product, LLM_SUMMARIZE_AGG(review) FROM reviews GROUP BY product",
)
