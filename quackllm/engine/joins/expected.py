"""What the strategies of a join are expected to ask, before any of them has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quackllm.engine.joins.blocking import FEWEST_PAIRS, expected_asked, is_worth_it
from quackllm.engine.joins.checked import sample_size
from quackllm.engine.joins.classification import MOST_LABELS
from quackllm.optimizer.plan import Strategy

SHORT = 40
"""Characters of a value that looks like a label."""
FEW = 50
"""Different values that look like labels, at most."""
MORE_OF_SEVERAL = 30
"""Tokens that the question takes more where it is about several pairs."""
TOKENS_OF_ENTRY = 3
"""Tokens around the values of a pair in such a prompt: its number, names, braces."""
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
class Lengths:
    """Estimated tokens of what prompts show: the question, a value of either side on average."""

    question: int = 0
    left: float = 0.0
    right: float = 0.0

    @property
    def pair(self) -> float:
        """Tokens of a prompt for one pair."""
        return self.question + self.left + self.right


NOTHING_KNOWN = Lengths()


@dataclass(frozen=True)
class Way:
    """A strategy, what it is expected to ask, and the texts that it embeds.

    calls, tokens: of the model, and of their prompts by estimate. several: of the calls, those
        about several pairs.
    """

    name: str
    calls: int
    tokens: int
    embeddings: int = 0
    several: int = 0


def ways(
    counts: Counts, lengths: Lengths = NOTHING_KNOWN, most: int = 1, sample: int | None = None
) -> list[Way]:
    """List the strategies with what they are expected to ask.

    most: pairs in one prompt. sample: pairs drawn for the estimates, None for our choice.
    """
    near = expected_asked(counts.pairs, counts.left, counts.right, counts.candidates)
    return [
        Way("exact", counts.pairs, round(counts.pairs * lengths.pair)),
        Way("block", near, round(near * lengths.pair), counts.left + counts.right),
        _classify(counts, lengths, sample),
        _batch_prompt(counts, lengths, most, sample),
    ]


def _classify(counts: Counts, lengths: Lengths, sample: int | None) -> Way:
    asked = counts.left * -(-counts.right // MOST_LABELS)
    drawn = sample_size(asked) if sample is None else sample
    asked = min(counts.pairs, asked)
    shown = asked * (lengths.question + lengths.left) + counts.left * counts.right * lengths.right
    return Way("classify", asked + drawn, round(shown + drawn * lengths.pair))


def _batch_prompt(counts: Counts, lengths: Lengths, most: int, sample: int | None) -> Way:
    """Of the two sides, or neither, that one stands once in a prompt which saves most."""
    sides = (
        (counts.left, lengths.left, lengths.right),
        (counts.right, lengths.right, lengths.left),
    )
    question, any_pairs = lengths.question + MORE_OF_SEVERAL, -(-counts.pairs // most)
    entry = lengths.left + lengths.right + TOKENS_OF_ENTRY
    found = [(any_pairs * question + counts.pairs * entry, any_pairs)]
    for values, once, each in sides:
        prompts = values * -(-counts.pairs // (values * most)) if values else 0
        entry = each + TOKENS_OF_ENTRY
        found.append((prompts * (question + once) + counts.pairs * entry, prompts))
    tokens, prompts = min(found)
    drawn = min(sample_size(prompts) if sample is None else sample, counts.pairs)
    tokens += drawn * lengths.pair
    return Way("batch_prompt", prompts + drawn, round(tokens), several=prompts)


def taken(strategy: Strategy, counts: Counts, found: Sequence[Way]) -> str:
    """The name of the strategy that will run: exact where the one chosen does not pay.

    found: what each strategy is expected to ask.
    """
    if strategy.name == "block":
        few = counts.pairs < FEWEST_PAIRS and strategy.candidates is None
        pays = is_worth_it(counts.pairs, counts.left, counts.right)
        return "exact" if few or (strategy.by_itself and not pays) else "block"
    if strategy.name == "batch_prompt":
        calls = next(way.calls for way in found if way.name == strategy.name)
        return strategy.name if calls < counts.pairs else "exact"
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
