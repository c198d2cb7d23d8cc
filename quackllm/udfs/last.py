"""LLM_LAST(values, criterion): the value of a group that fits a criterion least."""

from __future__ import annotations

from quackllm.udfs.base import Function, Kind, OverSet, Parameter, no_declaration

LAST = Function(
    name="llm_last",
    aliases=("ai_last",),
    summary="an aggregate: the value of a group that fits the criterion least, as LLM_RANK ranks",
    parameters=(
        Parameter("values", Kind.VALUE, "an expression, aggregated over the group"),
        Parameter("criterion", Kind.CONSTANT, "which of two values is to come first"),
    ),
    declare=no_declaration,
    formula="{entries}[LLM_POSITION({values}, {criterion}, 'last'{options})].value",
    over_set=OverSet.DISTINCT,
    example="SELECT product, LLM_LAST(review, 'which is angrier') FROM reviews GROUP BY product",
)
