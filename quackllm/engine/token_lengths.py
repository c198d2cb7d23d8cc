"""How long prompts are in the model's own tokens, from a sample of the rows.

An order is chosen, and its reuse predicted, by lengths in tokens. Where a server tokenizes for
us, a few prompts tell what stands in front of a row and behind it, and how many characters of
each field make a token: digits and names have far more tokens than prose of the same length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import pyarrow as pa

from quackllm.engine.providers.base import Provider, Request, Tokenizes
from quackllm.engine.providers.replicas import members_of
from quackllm.udfs.base import Call
from quackllm.udfs.prompt import FIELD_TAIL, field_head

FEWEST_ROWS = 32
"""Rows below which a sample costs more than a better order saves."""

LONGEST_WAIT = 2.0
"""Seconds after which lengths are estimated by characters."""

SAMPLED_VALUES = 64
SAMPLED_CHARACTERS = 4_000
"""Of each field, at most."""

_TWO_ROWS = '{"a":1}', '{"b":1}'
_BEHIND_NAME = 3
"""Tokens of those rows after the letter in which they differ."""
_FEWEST_CHARACTERS, _MOST_CHARACTERS = 0.25, 16.0
"""Per token, of any text."""


@dataclass(frozen=True)
class TokenLengths:
    """Tokens of one call's prompts.

    front, behind: of what stands before and after the row, template and instruction.
    characters: per token, for each field of the call.
    """

    front: int
    behind: int
    characters: tuple[float, ...]


async def token_lengths(
    provider: Provider, call: Call, columns: Sequence[pa.Array]
) -> TokenLengths | None:
    """Measure the lengths of a call's prompts; None where nobody tokenizes for us in time.

    columns: one string array (n,) of rendered values per field of the call.
    """
    asked = members_of(provider)[0]
    if not isinstance(asked, Tokenizes):
        return None
    samples = [_sample(name, values) for name, values in zip(call.fields, columns, strict=True)]
    texts = [*_TWO_ROWS, *samples]
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            found = await asyncio.gather(*(asked.tokenize(_shown(call, text)) for text in texts))
    except TimeoutError:
        return None
    prompts = [tokens for tokens in found if tokens]
    if len(prompts) < len(texts):
        return None
    one, other, *sampled = prompts
    front, end = _alike(one, other), _alike(one[::-1], other[::-1])
    fixed = front + end - _BEHIND_NAME
    return TokenLengths(
        front,
        max(0, end - _BEHIND_NAME),
        tuple(
            _within(len(text) / max(1, len(tokens) - fixed))
            for text, tokens in zip(samples, sampled, strict=True)
        ),
    )


def _sample(name: str, values: pa.Array) -> str:
    """Return some of a field's values, evenly spread, each as a row shows it."""
    step = max(1, len(values) // SAMPLED_VALUES)
    chosen = values.take(pa.array(range(0, len(values), step), pa.int64())).to_pylist()
    most = max(1, SAMPLED_CHARACTERS // len(chosen))
    shown = "".join(f"{field_head(name)}{value[:most]}{FIELD_TAIL}" for value in chosen)
    return shown[: 2 * SAMPLED_CHARACTERS]


def _shown(call: Call, fields: str) -> Request:
    declared = call.declaration
    return Request(declared.instruction, fields, declared.answer, call.temperature, 1)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that two prompts begin with alike."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _within(characters: float) -> float:
    return min(max(characters, _FEWEST_CHARACTERS), _MOST_CHARACTERS)
