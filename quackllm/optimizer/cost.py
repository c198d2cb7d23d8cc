"""The cost model: calls, tokens, money and time of a stage, before it runs.

Pure arithmetic. What goes in is counted by DuckDB (argument tuples), predicted by the
sending order (reuse of prefixes), or measured earlier on the same connection (tokens
per answer, throughput, how answers are spread). What nobody knows stays None: a price
that was not given is no price, and a speed that was not measured is no time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

MILLION = 1_000_000
UNKNOWN_CONDITION = 1 / 3
"""Share of rows assumed to pass a condition of which nothing is known: the figure of
Selinger et al., "Access Path Selection" (SIGMOD 1979), for a comparison."""
UNKNOWN_EQUALITY = 1 / 10
"""The same for an equality with one of an unknown number of values."""


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens.

    cached_input: of prompt tokens that the server took from its prefix cache; they cost
        as much as others where it is None.
    """

    input: float
    output: float
    cached_input: float | None = None

    def times(self, factor: float) -> Price:
        """Return a part or a multiple of the price."""
        cached = None if self.cached_input is None else self.cached_input * factor
        return Price(self.input * factor, self.output * factor, cached)

    def dollars(self, tokens_in: float, tokens_cached: float, tokens_out: float) -> float:
        """Price tokens; `tokens_cached` are among `tokens_in`."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = tokens_in - tokens_cached
        return (fresh * self.input + tokens_cached * cached + tokens_out * self.output) / MILLION


@dataclass(frozen=True)
class Timing:
    """What a finished stage took: prompt tokens that it computed, tokens written, seconds."""

    computed: int
    written: int
    seconds: float


@dataclass(frozen=True)
class Speed:
    """Seconds that a token takes of the stage's time, calls in flight together.

    with_cached: whether prompt tokens that came from the prefix cache are among those
        that `per_computed` was measured with, because the server does not tell them.
    """

    per_computed: float
    per_written: float
    with_cached: bool = False

    def seconds(self, tokens_in: float, tokens_cached: float, tokens_out: float) -> float:
        """Time for so many tokens; `tokens_cached` are among `tokens_in`."""
        computed = tokens_in if self.with_cached else tokens_in - tokens_cached
        return computed * self.per_computed + tokens_out * self.per_written


def fit_speed(timings: Sequence[Timing], *, with_cached: bool = False) -> Speed | None:
    """Find the speeds that explain the timings best (least squares, neither negative).

    Where the timings do not tell the two kinds of tokens apart, such as when there is
    only one timing, both take the same time. None without timings.
    """
    xx = sum(t.computed * t.computed for t in timings)
    yy = sum(t.written * t.written for t in timings)
    xy = sum(t.computed * t.written for t in timings)
    xs = sum(t.computed * t.seconds for t in timings)
    ys = sum(t.written * t.seconds for t in timings)
    determinant = xx * yy - xy * xy
    if determinant > 1e-6 * xx * yy:
        read, written = (xs * yy - ys * xy) / determinant, (ys * xx - xs * xy) / determinant
        if read >= 0 and written >= 0:
            return Speed(read, written, with_cached)
    tokens = sum(t.computed + t.written for t in timings)
    if not tokens:
        return None
    each = sum(t.seconds for t in timings) / tokens
    return Speed(each, each, with_cached)


@dataclass(frozen=True)
class Cost:
    """What calls cost. Tokens are of the model, dollars and seconds None when unknown.

    tokens_cached: of tokens_in, those that the prefix cache serves; None where nothing
        is said of them.
    """

    calls: int
    tokens_in: int | None = 0
    tokens_cached: int | None = None
    tokens_out: int | None = 0
    dollars: float | None = None
    seconds: float | None = None


def total(costs: Iterable[Cost]) -> Cost:
    """Add costs up; a part that is unknown of one is unknown of all.

    Cached tokens are the exception: those of stages that say are added.
    """
    costs = list(costs)
    cached = [cost.tokens_cached for cost in costs if cost.tokens_cached is not None]
    return Cost(
        calls=sum(cost.calls for cost in costs),
        tokens_in=_whole(_sum(cost.tokens_in for cost in costs)),
        tokens_cached=sum(cached) if cached else None,
        tokens_out=_whole(_sum(cost.tokens_out for cost in costs)),
        dollars=_sum(cost.dollars for cost in costs),
        seconds=_sum(cost.seconds for cost in costs),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    result = 0.0
    for value in values:
        if value is None:
            return None
        result += value
    return result


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


@dataclass(frozen=True)
class Demand:
    """The calls that a stage makes if all that is not known is TRUE, counted by DuckDB.

    tuples: distinct argument tuples with a value. rows: the rows that they stand in.
    remembered: of the tuples, those whose answer is there already.
    tokens: prompt tokens of the others by estimate, None when their texts are not
        known yet.
    reused, reused_unordered: of the tokens, those that the prefix cache is expected to
        serve in the sending order, and in the order of the rows as they are; None when
        that is not predicted.
    row_tokens: prompt tokens of a call for every row, remembered or not.
    tokenized: whether these tokens are the model's own, and not so many characters each.
    usual: part of the calls that is made whatever is TRUE, by estimate: of calls in rounds,
        the number of which depends on the answers.
    """

    tuples: int
    rows: int | None
    remembered: int = 0
    tokens: int | None = None
    reused: int | None = None
    reused_unordered: int | None = None
    row_tokens: int | None = None
    tokenized: bool = False
    usual: float = 1.0

    @property
    def calls(self) -> int:
        """Calls at most."""
        return self.tuples - self.remembered


@dataclass(frozen=True)
class Measured:
    """What earlier calls on this connection tell; None where there were none.

    prompt: prompt tokens of the model per token estimated. reuse: prompt tokens that
        came from the prefix cache per token of which that was expected.
    output: tokens of an answer. calls: how many calls `output` is the mean of.
    exact: whether these were calls with the same instruction, not only of the same
        function.
    """

    prompt: float | None = None
    reuse: float | None = None
    output: float | None = None
    calls: int = 0
    exact: bool = False
    speed: Speed | None = None


def cost_at_most(demand: Demand, max_tokens: int, measured: Measured, price: Price | None) -> Cost:
    """Bound what a stage costs: every call made, no prefix reused, answers of full length.

    Calls and tokens_out are bounds; tokens_in is an estimate for that many calls.
    """
    tokens_in = _scaled(demand.tokens, measured.prompt or 1.0)
    tokens_out = demand.calls * max_tokens
    return Cost(
        calls=demand.calls,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        dollars=_dollars(price, tokens_in, 0, tokens_out),
    )


def cost_expected(
    demand: Demand, share: float, max_tokens: int, measured: Measured, price: Price | None
) -> Cost:
    """Estimate what a stage costs when a share (0 to 1) of its calls is made."""
    calls = round(demand.calls * share * demand.usual)
    share = calls / demand.calls if demand.calls else 0.0
    tokens_in = _scaled(demand.tokens, share * (measured.prompt or 1.0))
    reuse = 1.0 if measured.reuse is None else measured.reuse
    cached = _scaled(demand.reused, share * (measured.prompt or 1.0) * reuse)
    if cached is not None and tokens_in is not None:
        cached = min(cached, tokens_in)
    tokens_out = round(calls * (max_tokens if measured.output is None else measured.output))
    cost = Cost(calls, tokens_in, cached, tokens_out)
    return priced(cost, measured.speed, price)


def priced(cost: Cost, speed: Speed | None, price: Price | None) -> Cost:
    """Return the cost with its dollars and seconds."""
    if cost.tokens_in is None or cost.tokens_out is None:
        return cost
    cached = cost.tokens_cached or 0
    seconds = None
    if speed is not None:
        seconds = round(speed.seconds(cost.tokens_in, cached, cost.tokens_out), 6)
    dollars = _dollars(price, cost.tokens_in, cached, cost.tokens_out)
    return replace(cost, dollars=dollars, seconds=seconds)


def _scaled(tokens: int | None, factor: float) -> int | None:
    return None if tokens is None else round(tokens * factor)


def _dollars(
    price: Price | None, tokens_in: int | None, cached: int, tokens_out: int
) -> float | None:
    if price is None or tokens_in is None:
        return None
    return price.dollars(tokens_in, cached, tokens_out)


@dataclass(frozen=True)
class Spread:
    """How the answers of a call are spread over its possible texts.

    shares: share of each text; empty when the texts are not known. seen: answers that
    the shares come from; 0 when each text is assumed to be as likely as the others.
    """

    shares: Mapping[str, float]
    seen: int = 0


def spread(labels: Sequence[str], seen: Mapping[str, int]) -> Spread:
    """Spread answers as they were seen, by Laplace's rule: none is impossible."""
    count = sum(seen.get(label, 0) for label in labels)
    shares = {label: (seen.get(label, 0) + 1) / (count + len(labels)) for label in labels}
    return Spread(shares, count)


def share_until_match(passing: float, pairs: float) -> float:
    """Share of its pairs that a row asks until one of them matches, or all are asked.

    passing: share of pairs that match, one as likely as another; pairs: those of the row.
    The mean of a geometric distribution that is cut off.
    """
    if passing <= 0 or pairs <= 1:
        return 1.0
    return min(1.0, (1 - math.pow(1 - passing, pairs)) / passing / pairs)


def probability(condition: exp.Expr, answers: Mapping[str, Spread]) -> float:
    """Share of rows for which a condition on answers holds.

    answers: by the name of the answer's column. Conditions are taken to be independent
    of each other, and answers not to be NULL; of what is no answer nothing is known.
    """
    node = condition.unnest()
    if isinstance(node, exp.And):
        return probability(node.left, answers) * probability(node.right, answers)
    if isinstance(node, exp.Or):
        return 1 - (1 - probability(node.left, answers)) * (1 - probability(node.right, answers))
    if isinstance(node, exp.Not):
        return 1 - probability(node.this, answers)
    if isinstance(node, exp.Boolean):
        return float(node.this)
    if isinstance(node, exp.Is):
        return _probability_of_is(node, answers)
    if isinstance(node, exp.EQ | exp.NEQ):
        equal = _equal(node.left, node.right, answers)
        return equal if isinstance(node, exp.EQ) else 1 - equal
    if isinstance(node, exp.In) and node.expressions:
        return min(1.0, sum(_equal(node.this, item, answers) for item in node.expressions))
    found = _spread_of(node, answers)
    return UNKNOWN_CONDITION if found is None else found.shares.get("true", UNKNOWN_CONDITION)


def _probability_of_is(node: exp.Is, answers: Mapping[str, Spread]) -> float:
    if isinstance(node.expression, exp.Boolean):
        holds = probability(node.this, answers)
        return holds if node.expression.this else 1 - holds
    return UNKNOWN_CONDITION if _spread_of(node.this, answers) is None else 0.0


def _equal(left: exp.Expr, right: exp.Expr, answers: Mapping[str, Spread]) -> float:
    if _spread_of(left, answers) is None:
        left, right = right, left
    found = _spread_of(left, answers)
    if found is None or not found.shares:
        return UNKNOWN_EQUALITY
    if isinstance(right.unnest(), exp.Literal):
        return found.shares.get(right.unnest().name, 0.0)
    return 1 / len(found.shares)


def _spread_of(node: exp.Expr, answers: Mapping[str, Spread]) -> Spread | None:
    bare = node.unnest()
    return answers.get(bare.name) if isinstance(bare, exp.Column) and not bare.table else None


def share_until(wanted: int, passing: float, tuples: int, rows: int, first: int) -> float:
    """Share of the tuples that are asked before so many rows are found.

    passing: share of rows that pass. At least `first` tuples are asked; after that
    batches are as large as the missing rows need.
    """
    if not tuples or not rows or passing <= 0:
        return 1.0
    needed = max(wanted / passing * tuples / rows, first)
    return min(1.0, needed / tuples)
