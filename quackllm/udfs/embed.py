"""LLM_EMBED(text): a vector that is near those of texts with a similar meaning."""

from __future__ import annotations

from functools import partial

from quackllm.udfs.base import Binding, Declaration, Embedding, Function, Kind, Option, Parameter
from quackllm.udfs.options import whole
from quackllm.udfs.vectors import Vector, read_vector

MOST_DIMENSIONS = 16_384


def declare(binding: Binding) -> Declaration:
    """Return the declaration."""
    dimensions = binding.options["dimensions"]
    return Declaration(
        instruction="",
        returns=Vector(dimensions or 1).to_duckdb(),
        answer=Embedding(dimensions),
        parse=partial(read_vector, dimensions=dimensions),
        max_tokens=0,
    )


EMBED = Function(
    name="llm_embed",
    aliases=("ai_embed",),
    summary="the embedding of a text: a vector of as many numbers as the model gives",
    parameters=(Parameter("text", Kind.VALUE, "the text; other values as to_json writes them"),),
    options=(
        Option(
            "dimensions",
            "numbers in the vector, for models that can give fewer; all of them when not set",
            whole(1, MOST_DIMENSIONS),
        ),
    ),
    declare=declare,
    example="CREATE TABLE indexed AS SELECT *, LLM_EMBED(body) AS vector FROM tickets",
)
