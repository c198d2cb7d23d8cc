"""LLM_FIRST(values, criterion): the value of a group that fits a criterion most."""

from __future__ import annotations

from quackllm.udfs.base import Function, Kind, OverSet, Parameter, no_declaration

FIRST = Function(
    name="llm_first",
    aliases=("ai_first",),
    summary="an aggregate: the value of a group that fits the criterion most, as LLM_RANK ranks",
    parameters=(
        Parameter("values", Kind.VALUE, "an expression, aggregated over the group"),
        Parameter("criterion", Kind.CONSTANT, "which of two values is to come first"),
    ),
    declare=no_declaration,
    formula="{entries}[LLM_POSITION({values}, {criterion}, 'first'{options})].value",
    over_set=OverSet.DISTINCT,
    example="SELECT product, LLM_FIRST(review, 'which is angrier') FROM reviews GROUP BY product",
)
