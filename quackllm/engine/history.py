"""What happened: per stage, per statement, and every failed call."""

from __future__ import annotations

import hashlib
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from quackllm.engine.joins.position_bias import PositionBias
from quackllm.engine.joins.recall import Share
from quackllm.engine.providers.base import Usage
from quackllm.optimizer.cost import Price

PREVIEW = 120
"""Characters of a failed row's fields that llm_errors() shows."""


@dataclass(frozen=True, slots=True)  # 100,000 of them are kept
class Failure:
    """One call that failed or was left out, as llm_errors() shows it.

    fields_hash identifies the argument values; preview is their beginning. attempts is 0
    for a call that a budget left out; status is that of an HTTP response, None where there
    was none. at: Unix time in seconds.
    """

    statement: int
    stage: int
    function: str
    model: str
    cause: str
    message: str
    fields_hash: str
    preview: str
    attempts: int
    status: int | None
    at: float


def failure_of(
    statement: int,
    stage: StageStats,
    cause: str,
    message: str,
    fields: str,
    *,
    attempts: int,
    status: int | None = None,
) -> Failure:
    """Record a failure, now, for the row whose rendered fields are given."""
    return Failure(
        statement,
        stage.number,
        stage.function,
        stage.model,
        cause,
        sys.intern(message),  # most failures of a statement say the same
        fields_hash=hashlib.sha256(fields.encode("utf-8", "replace")).hexdigest()[:16],
        preview=fields if len(fields) <= PREVIEW else fields[: PREVIEW - 1] + "…",
        attempts=attempts,
        status=status,
        at=time.time(),
    )


def money(dollars: float) -> str:
    """Write dollars for people, a small sum with more digits."""
    if dollars == 0 or dollars >= 1:
        return f"${dollars:,.2f}"
    if dollars < 1e-6:
        return "<$0.000001"
    return f"${dollars:.4f}" if dollars >= 0.01 else f"${dollars:.6f}"


@dataclass(frozen=True)
class PromptReport:
    """How prompts for several pairs went.

    most: pairs in one prompt at most. shared: 'left' or 'right', the side of which a prompt
        shows one value; 'neither' where it shows any pairs.
    asked: prompts for two pairs or more. again: of them, those whose answer was of no use, so
        that their pairs were asked again, fewer at a time.
    bias: whether answers depend on the place in the prompt; None where nothing tells.
    """

    most: int
    shared: str
    asked: int
    again: int
    bias: PositionBias | None


@dataclass(frozen=True)
class StrategyReport:
    """How a strategy has decided the condition of a join for its pairs.

    name: 'block', 'classify', 'batch_prompt', or 'exact' where all pairs were asked after all.
    reason: then, why. approximate: whether pairs were left out or decided otherwise.
    pairs, left, right: distinct pairs that there were, and distinct values of either side.
    asked: pairs that the call itself was asked for. drawn: of them, those of the sample
        that the estimates come from. matches: pairs that are in the result.
    depth: neighbours of each text that were asked, of blocking.
    target: the recall wanted, None where it did not decide what was asked.
    recall, precision: as the sample says; None where nothing was left to chance. agreement: the
        share of the pairs of which another question than the call says what the call does.
    prompts: of several pairs each, how they went.
    """

    name: str
    pairs: int
    left: int
    right: int
    asked: int
    drawn: int = 0
    matches: int = 0
    depth: int | None = None
    reason: str | None = None
    approximate: bool = False
    target: float | None = None
    recall: Share | None = None
    precision: Share | None = None
    agreement: Share | None = None
    prompts: PromptReport | None = None


@dataclass
class StageStats:
    """Running totals of one model stage. Tokens are counts, seconds are of the wall clock.

    tuples: distinct argument tuples with at least one value.
    cached: of them, answered without a call.
    calls: replies asked of the model: two for a row whose first answer could not be read.
    retries: further tries because the server failed.
    expected_reuse, expected_reuse_unordered: of expected_tokens (estimates, fields and
        instruction), those that the sending order lets the server reuse, and those that
        the order of the rows as they came would.
    cached_tokens: prompt tokens that the server took from its prefix cache, None while
        no reply has said.
    undecided: tuples that were left out because a budget was reached.
    answers: how often each label was answered, of calls that answer with a label.
    price: of the model's tokens, None when nobody has said.
    strategy: of a call that decided a join for some of its pairs, how that went.
    helps: of a call made for another one to be answered, the number of that one's stage.
    """

    number: int
    function: str
    model: str
    endpoint: str
    tuples: int = 0
    cached: int = 0
    calls: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    seconds: float = 0.0
    expected_reuse: int = 0
    expected_reuse_unordered: int = 0
    expected_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    price: Price | None = None
    strategy: StrategyReport | None = None
    helps: int | None = None

    @property
    def cost(self) -> float | None:
        """Dollars paid for the answers, None when there is no price."""
        if self.price is None:
            return None
        cached = self.cached_tokens or 0
        return self.price.dollars(self.prompt_tokens, cached, self.completion_tokens)

    def expect(self, reused: int, reused_unordered: int, total: int) -> None:
        """Add what the sending order of a round of questions is expected to reuse."""
        self.expected_reuse += reused
        self.expected_reuse_unordered += reused_unordered
        self.expected_tokens += total

    def add(self, usage: Usage) -> None:
        """Count the tokens of one reply."""
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        if usage.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + usage.cached_tokens


@dataclass
class StatementStats:
    """One statement, as llm_queries() shows it.

    started is a Unix time in seconds; stages are by the spec of their call. budget: the
    budget that was reached, as a person would write it. doubts: what in it is legal and hardly
    meant, a line each.
    """

    number: int
    sql: str
    started: float
    seconds: float = 0.0
    error: str | None = None
    budget: str | None = None
    stages: dict[str, StageStats] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Calls made."""
        return sum(stage.calls for stage in self.stages.values())

    @property
    def retries(self) -> int:
        """Further tries of calls, because the server failed."""
        return sum(stage.retries for stage in self.stages.values())

    @property
    def tuples(self) -> int:
        """Distinct argument tuples asked for."""
        return sum(stage.tuples for stage in self.stages.values())

    @property
    def cached(self) -> int:
        """Tuples answered without a call."""
        return sum(stage.cached for stage in self.stages.values())

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent."""
        return sum(stage.prompt_tokens for stage in self.stages.values())

    @property
    def completion_tokens(self) -> int:
        """Tokens received."""
        return sum(stage.completion_tokens for stage in self.stages.values())

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens served from prefix caches, None when no server said."""
        known = [s.cached_tokens for s in self.stages.values() if s.cached_tokens is not None]
        return sum(known) if known else None

    @property
    def cost(self) -> float | None:
        """Dollars paid for the answers, None when a stage's price is not known."""
        costs = [stage.cost for stage in self.stages.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known and len(known) == len(costs) else None

    @property
    def failures(self) -> Counter[str]:
        """Failed calls by cause."""
        total: Counter[str] = Counter()
        for stage in self.stages.values():
            total.update(stage.failures)
        return total

    @property
    def undecided(self) -> int:
        """Tuples that were left out because a budget was reached."""
        return sum(stage.undecided for stage in self.stages.values())

    def summary(self) -> str:
        """One line for people: calls, tokens, seconds, failures, what a budget left out."""
        parts = [f"{self.calls:,} call{'' if self.calls == 1 else 's'}"]
        if self.cached:
            parts.append(f"{self.cached:,} answered from cache")
        if self.retries:
            parts.append(f"{self.retries:,} tried again")
        cached = f" ({self.cached_tokens:,} cached)" if self.cached_tokens is not None else ""
        parts.append(f"{self.prompt_tokens:,} tokens in{cached}")
        parts.append(f"{self.completion_tokens:,} out")
        if self.cost is not None:
            parts.append(money(self.cost))
        parts.append(f"{self.seconds:.1f} s")
        if self.failures:
            causes = ", ".join(f"{n:,} {cause}" for cause, n in self.failures.most_common())
            parts.append(
                f"{sum(self.failures.values()):,} failed ({causes}): NULL, see llm_errors()"
            )
        if self.undecided:
            parts.append(
                f"{self.undecided:,} undecided ({self.budget} is reached): NULL, and rows that "
                "a filter has not decided are left out"
            )
        return " · ".join(parts)
