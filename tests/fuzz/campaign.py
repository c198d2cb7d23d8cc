"""Many cases, in batches that their seed repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.database import ExampleDatabase, choices_to_bytes

from tests.fuzz.cases import Case
from tests.fuzz.judge import Verdict, judge
from tests.fuzz.runner import Runner
from tests.fuzz.statements import cases, random_case

UNSTAGED_CALL = re.compile(r"\b(?:LLM|AI)\w*\(\.\.\.\)|\bllm_call\(")
"""A call in EXPLAIN's text that no stage answers."""


@dataclass(frozen=True)
class Found:
    """A difference: the smallest case so far, and the choices that it began with."""

    case: Case
    detail: str
    choices: Sequence[int]


@dataclass
class Tally:
    """What a campaign has counted. Batches are added up.

    staged_statements of explained: those whose calls are all made by stages.
    staged_calls, unstaged_calls: call sites in their plans.
    planned, naive, per_row: calls of statements that were compared.
    excess: calls that DuckDB's own plan with answers remembered would save, by cause.
    """

    statements: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    explained: int = 0
    staged_statements: int = 0
    staged_calls: int = 0
    unstaged_calls: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    planned: int = 0
    naive: int = 0
    per_row: int = 0
    failed: int = 0
    excess: Counter[str] = field(default_factory=Counter)
    found: dict[str, Found] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add another batch."""
        for name, value in vars(other).items():
            if name == "found":
                for signature, found in other.found.items():
                    self._keep(signature, found)
            elif isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def count(self, case: Case, verdict: Verdict, choices: Sequence[int]) -> None:
        """Count a case that has been judged."""
        self.statements += 1
        self.outcomes[verdict.outcome] += 1
        if verdict.outcome == "discarded":
            self.discarded[re.sub(r"\d+", "N", verdict.detail)[:70]] += 1
            return
        self.features.update(set(case.features))
        if verdict.worth_showing:
            self._keep(verdict.signature, Found(case, verdict.detail, choices))
        if verdict.failed:
            self.failed += 1
            return
        self.excess[verdict.outcome] += verdict.excess
        if verdict.planned is not None and verdict.naive is not None and not verdict.naive.error:
            self.planned += verdict.planned.calls
            self.naive += verdict.naive.calls
            self.per_row += verdict.naive.rows_evaluated

    def explain(self, entries: Sequence[dict[str, Any]]) -> None:
        """Count what EXPLAIN says of a statement."""
        self.explained += 1
        reasons = [entry["reason"] for entry in entries if entry["stage"] == "scalar function"]
        self.reasons.update(set(reasons))
        self.staged_statements += not reasons
        self.staged_calls += sum(entry["stage"] == "model" for entry in entries)
        shown = " ".join(entry.get("sql", "") for entry in entries)
        self.unstaged_calls += len(UNSTAGED_CALL.findall(shown))

    def _keep(self, signature: str, found: Found) -> None:
        known = self.found.get(signature)
        if known is None or len(str(found.case)) < len(str(known.case)):
            self.found[signature] = found


def run_batch(seed: int, size: int, using: str = "") -> Tally:
    """Judge a batch of cases, and explain them. Nothing stops it but a defect of the harness.

    using: judge only cases that use a feature whose name begins so.
    """
    tally, runner = Tally(), Runner()
    random = Random(seed)
    try:
        for _ in range(size):
            case, choices = random_case(random)
            while using and not any(feature.startswith(using) for feature in case.features):
                case, choices = random_case(random)
            verdict = judge(runner, case, explain=True)
            tally.count(case, verdict, choices)
            if verdict.explained:
                tally.explain(verdict.explained)
    finally:
        runner.close()
    return tally


def shrink(found: Found, signature: str) -> Found:
    """Let Hypothesis make a case as small as it gets while it fails in the same way."""
    runner = Runner()
    smallest = [found]

    @settings(
        database=_OneEntry(found.choices),
        phases=(Phase.reuse, Phase.shrink),
        max_examples=1000,
        deadline=None,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def each(case: Case) -> None:
        verdict = judge(runner, case, explain=signature.startswith("EXPLAIN"))
        if verdict.worth_showing and verdict.signature == signature:
            smallest[:] = [Found(case, verdict.detail, found.choices)]
            raise _SameFailureError

    try:
        each()
    except _SameFailureError:
        pass
    finally:
        runner.close()
    return smallest[0]


class _SameFailureError(Exception):
    """The case fails as the one that is being made small."""


class _OneEntry(ExampleDatabase):
    """Gives Hypothesis the choices of one case to start from."""

    def __init__(self, choices: Sequence[int]) -> None:
        super().__init__()
        self._entry = choices_to_bytes(choices)

    def fetch(self, key: bytes) -> Iterator[bytes]:
        """Return the entry as one that has not been made small yet.

        What Hypothesis finds under its own key it takes for small already.
        """
        if key.endswith(b".secondary"):
            yield self._entry

    def save(self, key: bytes, value: bytes) -> None:
        """Keep nothing."""

    def delete(self, key: bytes, value: bytes) -> None:
        """Keep the entry."""
