"""LLM_AGG(values, task): one answer about all values of a group."""

from __future__ import annotations

from quackllm.udfs.base import Function, Kind, OverSet, Parameter, no_declaration

AGG = Function(
    name="llm_agg",
    aliases=("ai_agg",),
    summary="an aggregate: an answer about all values of a group, read in parts where it is long",
    parameters=(
        Parameter("values", Kind.VALUE, "an expression, aggregated over the group"),
        Parameter("task", Kind.CONSTANT, "what to do with the values"),
    ),
    declare=no_declaration,
    formula="LLM_REDUCE({values}, {task}{options})",
    over_set=OverSet.LIST,
    example="SELECT product, LLM_AGG(review, 'What do buyers complain about?') FROM reviews "
    "GROUP BY product",
)
