"""What is maximised: reuse in characters, tokens, whole blocks of a server, or money."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN, Measure, TokenCounter

ObjectiveName = Literal["characters", "squared_characters", "tokens", "blocks", "cost"]

NAMES: tuple[ObjectiveName, ...] = (
    "characters",
    "squared_characters",
    "tokens",
    "blocks",
    "cost",
)


@dataclass(frozen=True)
class Server:
    """What a server's prefix cache keeps, and what it asks for it.

    `block`: tokens per block; only whole blocks are reused (vLLM: 16 on a GPU, 128 on a
    CPU, up to about 2,100 for hybrid attention; 1 for radix caches; hosted APIs: 128).
    `minimum`: shortest prefix, in tokens, that is reused at all (hosted APIs: 1,024).
    `capacity`: tokens the cache holds before it drops the least recently used block;
    None for more than the table needs. `instruction`: tokens of the shared text in
    front of every row. `price` and `cached_price`: of a million input tokens.
    """

    block: int = 16
    minimum: int = 0
    capacity: int | None = None
    instruction: int = 0
    price: float = 1.0
    cached_price: float = 0.1

    def __post_init__(self) -> None:
        if self.block < 1 or self.minimum < 0 or self.instruction < 0:
            raise ValueError(
                "block must be at least 1, minimum and instruction at least 0, not "
                f"{self.block}, {self.minimum}, {self.instruction}"
            )
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity must be at least 1 token or None, not {self.capacity}")


@dataclass(frozen=True)
class Objective:
    """A measure of text, and how much of a common prefix counts.

    A prompt whose first `p` tokens were seen before, the instruction not counted,
    reuses the whole blocks in `server.instruction + p`, or nothing below the minimum.
    `previous_only` compares each row with the row just before it only, as the GGR
    paper's prefix hit count does. A score is the reuse of all rows times `scale`.
    """

    name: str
    measure: Measure = field(default_factory=Measure)
    server: Server = field(default_factory=lambda: Server(block=1))
    previous_only: bool = False
    scale: float = 1.0

    @property
    def units(self) -> int:
        """Integer units of encoded lengths per token (or character) of this objective."""
        return self.measure.units_per_token

    def reuse(self, prefix: NDArray[np.int64]) -> NDArray[np.int64]:
        """Units reused of prompts that share `prefix` units of their fields, same shape."""
        server, units = self.server, self.units
        seen = self.prompt_length(prefix)
        if server.block > 1:
            seen -= seen % (server.block * units)
        if server.minimum > 0:
            seen[seen < server.minimum * units] = 0
        return seen

    def prompt_length(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Units of whole prompts, instruction and fields, for rows of these units."""
        return rows + self.server.instruction * self.units

    def score(self, units: Any) -> float:
        """The score of reused units: in characters, tokens or money."""
        return float(units) / self.units * self.scale


def make_objective(
    name: ObjectiveName | Objective,
    server: Server | None = None,
    chars_per_token: float = CHARS_PER_TOKEN,
    counter: TokenCounter | None = None,
) -> Objective:
    """The objective of this name for this server.

    'characters': characters in common prefixes. 'squared_characters': the GGR paper's
    prefix hit count, whole values only, each as its length squared. 'tokens': tokens,
    whatever the block. 'blocks': tokens in whole blocks. 'cost': money saved on those,
    in the currency of the prices. Characters know no instruction and no blocks.
    Raises ValueError for another name.
    """
    if isinstance(name, Objective):
        return name
    server = server or Server()
    tokens = Measure(counter=counter) if counter else Measure(chars_per_token=chars_per_token)
    if name == "characters":
        return Objective(name, Measure())
    if name == "squared_characters":
        return Objective(name, Measure(squared=True), previous_only=True)
    if name == "tokens":
        return Objective(name, tokens, replace(server, block=1, minimum=0))
    if name == "blocks":
        return Objective(name, tokens, server)
    if name == "cost":
        return Objective(name, tokens, server, scale=(server.price - server.cached_price) / 1e6)
    raise ValueError(f"unknown objective {name!r}: one of {', '.join(NAMES)}, or an Objective")
