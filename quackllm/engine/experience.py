"""What the calls made so far on a connection tell about the next ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quackllm.engine.history import StageStats, StatementStats
from quackllm.engine.providers.base import Provider
from quackllm.optimizer.cost import Measured, Speed, Spread, Timing, fit_speed, spread
from quackllm.udfs.base import Call, Choice


@dataclass(frozen=True)
class Experience:
    """Stages that one model at one place has answered, each with the spec of its call."""

    stages: tuple[tuple[str, StageStats], ...] = ()

    def measured(self, call: Call) -> Measured:
        """Sum up what was measured, of the same call where it was made, else of its kind.

        Stages with failed calls are left out: what those cost nobody reports.
        """
        clean = [(spec, stage) for spec, stage in self.stages if not stage.failures]
        same = [stage for spec, stage in clean if spec == call.spec]
        kin = [stage for _, stage in clean if stage.function == call.function]
        like = same or kin
        calls = sum(stage.calls for stage in like)
        prompt = _ratio((s.prompt_tokens, s.expected_tokens) for s in like or _all(clean))
        return Measured(
            prompt=prompt,
            reuse=_reuse(same or _all(clean), prompt),
            output=sum(s.completion_tokens for s in like) / calls if calls else None,
            calls=calls,
            exact=bool(same),
            speed=_speed([stage for _, stage in clean if stage.seconds > 0]),
        )

    def spread(self, call: Call) -> Spread:
        """Say how the answers to a call are spread, as far as they were seen."""
        if not isinstance(call.declaration.answer, Choice):
            return Spread({})
        seen: Counter[str] = Counter()
        for spec, stage in self.stages:
            if spec == call.spec:
                seen.update(stage.answers)
        return spread(call.declaration.answer.labels, seen)


def experience(history: Iterable[StatementStats], provider: Provider | None) -> Experience:
    """Collect what a provider has answered; nothing for one that was not used yet."""
    if provider is None:
        return Experience()
    return Experience(
        tuple(
            (spec, stage)
            for statement in history
            if statement.error is None
            for spec, stage in _calling(statement.stages)
            if stage.model == provider.model and stage.endpoint == provider.endpoint
        )
    )


def _calling(stages: Mapping[str, StageStats]) -> list[tuple[str, StageStats]]:
    return [(spec, stage) for spec, stage in list(stages.items()) if stage.tuples]


def _all(stages: list[tuple[str, StageStats]]) -> list[StageStats]:
    return [stage for _, stage in stages]


def _speed(stages: list[StageStats]) -> Speed | None:
    told = all(stage.cached_tokens is not None for stage in stages)
    timings = [
        Timing(
            stage.prompt_tokens - (stage.cached_tokens or 0 if told else 0),
            stage.completion_tokens,
            stage.seconds,
        )
        for stage in stages
    ]
    return fit_speed(timings, with_cached=not told)


def _ratio(pairs: Iterable[tuple[int, int]]) -> float | None:
    known = [(measured, estimated) for measured, estimated in pairs if measured and estimated]
    if not known:
        return None
    return sum(measured for measured, _ in known) / sum(estimated for _, estimated in known)


def _reuse(stages: list[StageStats], prompt: float | None) -> float | None:
    """Prompt tokens from the cache for each of which that was expected."""
    said = [s for s in stages if s.cached_tokens is not None and s.expected_reuse]
    if not said or prompt is None:
        return None
    cached = sum(stage.cached_tokens or 0 for stage in said)
    return cached / (prompt * sum(stage.expected_reuse for stage in said))
