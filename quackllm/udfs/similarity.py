"""LLM_SIMILARITY(a, b): how near two texts are in meaning."""

from __future__ import annotations

from quackllm.udfs.base import Function, Kind, Parameter, no_declaration

SIMILARITY = Function(
    name="llm_similarity",
    aliases=("ai_similarity",),
    summary="the cosine of the angle between the embeddings of two texts, from -1 to 1",
    parameters=(
        Parameter("a", Kind.VALUE, "a text"),
        Parameter("b", Kind.VALUE, "another one"),
    ),
    declare=no_declaration,
    formula="CAST(array_cosine_similarity(LLM_EMBED({a}), LLM_EMBED({b})) AS DOUBLE)",
    example="SELECT * FROM tickets ORDER BY LLM_SIMILARITY(body, 'I want a refund') DESC LIMIT 10",
)
