"""In which order the rows of a model stage go out, so that the server reuses its prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quackllm.engine.providers.base import Capabilities
from quackllm.engine.token_lengths import TokenLengths
from quackllm.kvcache_reorder import Field, Server, order_fields
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.udfs.base import Call
from quackllm.udfs.prompt import FIELD_TAIL, field_head

SHARE_OF_MODEL_TIME = 0.01
"""Of the time that the calls take, what finding their order may take."""

FASTEST_SERVER = 75.0
"""Calls per second above which no server is expected to be: short answers on vLLM."""

DEFAULT_BLOCK = 16
"""Tokens per cache block where a provider does not say: vLLM's on a GPU."""


@dataclass(frozen=True)
class SendingOrder:
    """The order of rows, and of the fields in each row sent.

    rows: (n,) row numbers in the order of sending.
    fields: (n, m) positions of fields for each row sent; None for the call's order.
    reused, reused_unordered: tokens that the server is expected to reuse in this order
        and in the order of the rows as they came; total: tokens of all prompts. Of the
        model's tokens where its tokenizer has told how long they are (`token_lengths`), else
        by estimate, at 4 characters per token; tokenized says which.
    """

    rows: NDArray[np.integer[Any]]
    fields: NDArray[np.integer[Any]] | None = None
    reused: int = 0
    reused_unordered: int = 0
    total: int = 0
    tokenized: bool = False


Orderer = Callable[[Call, Sequence[pa.Array], Capabilities, TokenLengths | None], SendingOrder]


def as_given(
    call: Call,
    columns: Sequence[pa.Array],
    capabilities: Capabilities,
    lengths: TokenLengths | None = None,
) -> SendingOrder:
    """Send the rows as they came. Says nothing of reuse."""
    rows = len(columns[0]) if columns else 1
    return SendingOrder(np.arange(rows), total=estimated_tokens(call, columns, rows))


def instruction_tokens(call: Call) -> int:
    """Estimate the tokens of a call's instruction, at 4 characters per token."""
    return int(len(call.declaration.instruction) / CHARS_PER_TOKEN)


def estimated_tokens(call: Call, columns: Sequence[pa.Array], rows: int) -> int:
    """Estimate the tokens of all prompts, at 4 characters per token.

    columns: the rendered values of some of the call's fields, the first ones.
    """
    heads = sum(len(field_head(name)) + len(FIELD_TAIL) for name in call.fields)
    values = sum(pc.sum(pc.utf8_length(column)).as_py() or 0 for column in columns)
    return rows * instruction_tokens(call) + int((rows * heads + values) / CHARS_PER_TOKEN)


def by_prefix(
    call: Call,
    columns: Sequence[pa.Array],
    capabilities: Capabilities,
    lengths: TokenLengths | None = None,
) -> SendingOrder:
    """Order rows and fields for the server's prefix cache (`quackllm.kvcache_reorder`).

    columns: one string array (n,) of rendered values per field of the call.
    lengths: in the model's tokens; estimated at 4 characters per token when None.
    """
    if not columns or len(columns[0]) < 2 or capabilities.cache_tokens == 0 or call.embeds:
        return as_given(call, columns, capabilities)
    tokenized = lengths is not None
    if lengths is None:
        lengths = TokenLengths(instruction_tokens(call), 0, (CHARS_PER_TOKEN,) * len(columns))
    fields = [
        Field(name, column, head=field_head(name), tail=FIELD_TAIL, chars_per_token=characters)
        for name, column, characters in zip(call.fields, columns, lengths.characters, strict=True)
    ]
    block = capabilities.prefix_granularity or DEFAULT_BLOCK
    found = order_fields(
        fields,
        "blocks",
        pin=call.pin,
        seconds=_budget(len(columns), len(columns[0])),
        server=Server(
            block=block,
            minimum=capabilities.prefix_minimum,
            capacity=capabilities.cache_tokens,
            instruction=lengths.front,
        ),
    )
    return SendingOrder(
        rows=found.rows,
        fields=found.fields,
        reused=int(found.score),
        reused_unordered=int(found.baseline_score),
        total=int(found.total) + len(found.rows) * lengths.behind,
        tokenized=tokenized,
    )


def _budget(fields: int, rows: int) -> float:
    """Seconds for the search: its default, but at most a share of what the calls will take."""
    default = 0.1 + 1e-6 * fields * rows
    return min(default, SHARE_OF_MODEL_TIME * rows / FASTEST_SERVER)
