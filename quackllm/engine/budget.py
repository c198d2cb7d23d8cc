"""What a statement may spend, and what it and its connection have spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from quackllm.engine.history import money
from quackllm.engine.providers.base import Usage
from quackllm.engine.settings import PREFIX, Settings
from quackllm.errors import SettingError
from quackllm.optimizer.cost import Price


class Unit(Enum):
    """What a limit counts."""

    CALLS = "calls"
    TOKENS = "tokens"
    DOLLARS = "dollars"
    SECONDS = "seconds"


@dataclass(frozen=True)
class Limit:
    """One budget that is set.

    setting: its name. value: calls sent, tokens of prompts and answers, dollars or seconds.
    shared: whether all statements since connect count, or only the one.
    """

    setting: str
    value: float
    unit: Unit
    shared: bool

    def __str__(self) -> str:
        return f"{self.setting} = {self.value:.15g}"


def limits(settings: Settings) -> tuple[Limit, ...]:
    """List the budgets that are set: those of the statement, then those of the connection."""
    given = [
        ("max_calls", settings.max_calls, Unit.CALLS, False),
        ("max_tokens", settings.max_tokens, Unit.TOKENS, False),
        ("max_cost", settings.max_cost, Unit.DOLLARS, False),
        ("timeout", settings.timeout, Unit.SECONDS, False),
        ("connection_max_calls", settings.connection_max_calls, Unit.CALLS, True),
        ("connection_max_tokens", settings.connection_max_tokens, Unit.TOKENS, True),
        ("connection_max_cost", settings.connection_max_cost, Unit.DOLLARS, True),
        ("connection_max_seconds", settings.connection_max_seconds, Unit.SECONDS, True),
    ]
    return tuple(
        Limit(PREFIX + name, value, unit, shared)
        for name, value, unit, shared in given
        if value is not None
    )


@dataclass
class Spent:
    """Running totals. calls are those sent, whatever became of them; seconds those of
    statements that have ended.

    Calls, tokens and dollars change in the thread of the event loop alone.
    """

    calls: int = 0
    tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0

    def of(self, unit: Unit) -> float:
        """Return the total of a unit."""
        by_unit = {
            Unit.CALLS: self.calls,
            Unit.TOKENS: self.tokens,
            Unit.DOLLARS: self.dollars,
            Unit.SECONDS: self.seconds,
        }
        return by_unit[unit]

    def shown(self) -> str:
        """Write calls, tokens and, where there were any, dollars for people."""
        text = f"{self.calls:,} call{'' if self.calls == 1 else 's'}, {self.tokens:,} tokens"
        return f"{text}, {money(self.dollars)}" if self.dollars else text


class Budget:
    """What one statement may still spend. Its clock starts when it is made."""

    def __init__(
        self,
        settings: Settings,
        connection: Spent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a budget; `connection` holds the totals that all statements add to."""
        self.limits = limits(settings)
        self.spent = Spent()
        self._reserved = Spent()
        self._connection = connection
        self._clock = clock
        self._started = clock()

    def reached(self) -> Limit | None:
        """Return the first limit that leaves no room for another call."""
        return next((limit for limit, left in self._left() if left <= 0), None)

    def send(self) -> None:
        """Count a call that is sent now."""
        self.spent.calls += 1
        self._connection.calls += 1

    def pay(self, usage: Usage, price: Price | None) -> None:
        """Count what a call that came back has cost."""
        tokens = usage.prompt_tokens + usage.completion_tokens
        dollars = 0.0
        if price is not None:
            cached = usage.cached_tokens or 0
            dollars = price.dollars(usage.prompt_tokens, cached, usage.completion_tokens)
        for total in (self.spent, self._connection):
            total.tokens += tokens
            total.dollars += dollars

    def reserve(self, tokens: int, dollars: float) -> None:
        """Set aside what a call that is sent now may cost, where it is paid much later."""
        self._reserved.tokens += tokens
        self._reserved.dollars += dollars

    def release(self) -> None:
        """Set nothing aside any more: what the calls have cost is paid."""
        self._reserved = Spent()

    def seconds_left(self) -> float | None:
        """Return the seconds until a limit of time is reached, None without one."""
        return min((rest for _, rest in self._time_left()), default=None)

    def time_limit(self) -> Limit | None:
        """Return the limit of time that is reached first, None without one."""
        left = min(self._time_left(), key=lambda each: each[1], default=None)
        return None if left is None else left[0]

    def room(self, limit: Limit) -> float:
        """Return what the statement may take of a limit in all, from its beginning."""
        return limit.value - self._before(limit)

    def check_price(self, model: str, price: Price | None) -> None:
        """Raise `SettingError` when dollars are limited and the price of a model is not known."""
        limit = next((limit for limit in self.limits if limit.unit is Unit.DOLLARS), None)
        if limit is not None and price is None:
            raise SettingError(
                f"Invalid Input Error: {limit} cannot be kept: nobody has said what {model} "
                "costs. SET llm_input_price and llm_output_price, or give both prices in "
                "CREATE MODEL; 0 for a model that costs nothing"
            )

    def _left(self) -> Iterator[tuple[Limit, float]]:
        for limit in self.limits:
            used = self.spent.of(limit.unit) + self._reserved.of(limit.unit)
            if limit.unit is Unit.SECONDS:
                used = self._clock() - self._started
            yield limit, self.room(limit) - used

    def _time_left(self) -> Iterator[tuple[Limit, float]]:
        return (each for each in self._left() if each[0].unit is Unit.SECONDS)

    def _before(self, limit: Limit) -> float:
        """What other statements of the connection have spent of a limit."""
        if not limit.shared:
            return 0.0
        return self._connection.of(limit.unit) - self.spent.of(limit.unit)
