"""What the strategies of a join are expected to ask, before any of them has run."""

from __future__ import annotations

from dataclasses import dataclass

from quackllm.engine.joins.blocking import FEWEST_PAIRS, expected_asked, is_worth_it
from quackllm.engine.joins.classification import LEAST_SAMPLE, MOST_LABELS
from quackllm.optimizer.plan import Strategy

SHORT = 40
"""Characters of a value that looks like a label."""
FEW = 50
"""Different values that look like labels, at most."""
WORTH_SAYING = 4
"""How many times fewer calls another way needs for EXPLAIN to mention it unasked."""


@dataclass(frozen=True)
class Counts:
    """Distinct pairs of a join, and distinct values of its sides.

    candidates: as in `Strategy`.
    """

    pairs: int
    left: int
    right: int
    candidates: int | None = None


@dataclass(frozen=True)
class Way:
    """A strategy, the calls that it is expected to make, and the texts that it embeds."""

    name: str
    calls: int
    embeddings: int = 0


def ways(counts: Counts) -> list[Way]:
    """List the strategies with what they are expected to ask."""
    asked = counts.left * -(-counts.right // MOST_LABELS)
    near = expected_asked(counts.pairs, counts.left, counts.right, counts.candidates)
    return [
        Way("exact", counts.pairs),
        Way("block", near, counts.left + counts.right),
        Way("classify", min(counts.pairs, asked) + max(LEAST_SAMPLE, asked // 10)),
    ]


def taken(strategy: Strategy, counts: Counts) -> str:
    """The name of the strategy that will run: exact where the one chosen does not pay."""
    if strategy.name == "block":
        few = counts.pairs < FEWEST_PAIRS and strategy.candidates is None
        pays = is_worth_it(counts.pairs, counts.left, counts.right)
        return "exact" if few or (strategy.by_itself and not pays) else "block"
    return strategy.name


def advice(counts: Counts, longest_right: int) -> str | None:
    """Say which strategy would ask much less than every pair; None where none would.

    longest_right: characters of the longest value of the right side.
    """
    if counts.pairs < FEWEST_PAIRS:
        return None
    by_name = {way.name: way for way in ways(counts)}
    exact, classify, block = by_name["exact"], by_name["classify"], by_name["block"]
    if counts.right <= FEW and longest_right <= SHORT:
        if WORTH_SAYING * classify.calls <= exact.calls:
            return (
                f"the {counts.right:,} short values of the second argument look like labels: "
                f"strategy := 'classify' would make some {classify.calls:,} calls, and two "
                "LLM_CLASSIFY that are compared fewer still; either may give other rows"
            )
    elif WORTH_SAYING * block.calls <= exact.calls:
        return f"strategy := 'block' would make some {block.calls:,} calls, and may miss rows"
    return None
