"""EXPLAIN and EXPLAIN ANALYZE of statements that call a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quackllm.engine.history import StageStats, StatementStats
from quackllm.optimizer.program import BlockStage, MaterializeStage, ModelStage, Program

WIDTH = 100


@dataclass(frozen=True)
class Estimate:
    """What a stage costs at most: calls, prompt tokens (4 characters each), and reuse.

    reused, reused_unordered: tokens that the server's prefix cache is expected to serve
    in the sending order, and in the order of the rows as they are.
    """

    calls: int
    tokens: int
    reused: int
    reused_unordered: int


def explained(
    program: Program,
    estimates: Mapping[int, Estimate | None],
    actual: StatementStats | None = None,
) -> list[dict[str, Any]]:
    """Describe a program, one entry per stage, as data."""
    entries: list[dict[str, Any]] = []
    for stage in program.stages:
        if isinstance(stage, MaterializeStage):
            entries.append({"stage": "kept rows", "sql": stage.shown})
            continue
        entries.extend(_model_entry(part, stage, estimates, actual) for part in stage.stages)
    entries.append({"stage": "result", "sql": program.shown or program.final})
    staged = {stage.call.spec for stage in program.model_stages}
    entries.extend({"stage": "scalar function", "reason": reason} for reason in program.unstaged)
    for spec, stats in actual.stages.items() if actual else ():
        if spec not in staged:
            entries.append(
                {"stage": "scalar function", "function": stats.function.upper(), **_actual(stats)}
            )
    return entries


def _model_entry(
    stage: ModelStage,
    block: BlockStage,
    estimates: Mapping[int, Estimate | None],
    actual: StatementStats | None,
) -> dict[str, Any]:
    spec = json.loads(stage.call.spec)
    entry: dict[str, Any] = {
        "stage": f"model {stage.number}",
        "function": stage.call.function.upper(),
        "clause": stage.clause,
        "constants": spec["constants"],
        "fields": list(stage.call.fields),
        "model": stage.call.model,
        "for rows where": stage.guard or None,
        "stops after rows": block.stop_after,
    }
    estimate = estimates.get(stage.number)
    if estimate is not None:
        entry["calls at most"] = estimate.calls
        entry["tokens in at most"] = estimate.tokens
        if estimate.tokens:
            entry["prefix reuse"] = (
                f"{estimate.reused / estimate.tokens:.0%} of tokens in, "
                f"{estimate.reused_unordered / estimate.tokens:.0%} without reordering"
            )
    if actual is not None and stage.call.spec in actual.stages:
        entry.update(_actual(actual.stages[stage.call.spec]))
    return {name: value for name, value in entry.items() if value is not None}


def _actual(stats: StageStats) -> dict[str, Any]:
    return {
        "answered by": f"{stats.model} ({stats.endpoint})",
        "tuples": stats.tuples,
        "from cache": stats.cached,
        "calls": stats.calls,
        "tokens in": stats.prompt_tokens,
        "tokens cached": stats.cached_tokens,
        "tokens out": stats.completion_tokens,
        "failures": dict(stats.failures),
        "seconds": round(stats.seconds, 3),
    }


def as_text(
    entries: list[dict[str, Any]], program: Program, actual: StatementStats | None = None
) -> str:
    """Draw the entries for a person, first stage first."""
    lines = []
    for entry in entries:
        entry = dict(entry)
        lines.append(_headline(entry))
        for name, value in entry.items():
            lines.extend(_detail(name, value))
    if program.applied:
        lines.append("rules: " + ", ".join(program.applied))
    if actual is not None:
        lines.append("total: " + actual.summary())
    return "\n".join(lines)


def _headline(entry: dict[str, Any]) -> str:
    stage = entry.pop("stage")
    function = entry.pop("function", "")
    clause = entry.pop("clause", "")
    place = {"expressions": "SELECT", "group": "GROUP BY", "order": "ORDER BY"}.get(
        clause, clause.upper()
    )
    return f"● {stage}" + (f": {function}" if function else "") + (f" in {place}" if place else "")


def _detail(name: str, value: Any) -> list[str]:
    if value is None or value in ({}, [], ""):
        return []
    if isinstance(value, dict):
        value = ", ".join(
            f"{key}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()
        )
    elif isinstance(value, list):
        value = ", ".join(map(str, value))
    elif isinstance(value, int):
        value = f"{value:,}"
    shown = " ".join(str(value).split())
    if len(shown) > 3 * WIDTH:
        shown = shown[: 3 * WIDTH - 1] + "…"
    first, *rest = [shown[i : i + WIDTH] for i in range(0, len(shown), WIDTH)]
    indent = "│   " + " " * 20
    return [f"│   {name:<19} {first}", *(indent + part for part in rest)]
