"""What EXPLAIN tells of the strategy of a join, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]
"""A part of the data that EXPLAIN describes a plan with."""

STRATEGIES = {
    "exact": "every pair is asked",
    "block": "only pairs of near texts are asked, and a sample of the others",
    "classify": "each value of the left side is asked which values of the right side fit",
    "batch_prompt": "several pairs are asked in each prompt, and a sample of them alone",
}


def strategy_in_words(entry: Entry) -> str | None:
    """Say how the pairs of a stage are chosen; None where every call has one way."""
    strategy = entry.get("strategy")
    if strategy is None:
        return None
    asked = STRATEGIES[strategy["name"]]
    if "first_partner" in entry:
        asked = "pairs are asked until each row has its match"
    words = f"{strategy['name']}: {asked}"
    if strategy.get("embeddings"):
        words += f"; {strategy['embeddings']:,} texts are embedded"
    return words + ("; approximate" if strategy.get("approximate") else "")


def rejected_in_words(strategy: Entry | None) -> str | None:
    """Say what the other strategies would ask."""
    if strategy is None or "rejected" not in strategy:
        return None
    tokens = strategy["tokens_in"]
    return " · ".join(
        f"{name}: {calls:,} calls, {tokens[name]:,} tokens in"
        for name, calls in strategy["rejected"].items()
    )


def measured_in_words(measured: Entry | None) -> dict[str, str]:
    """Say what a strategy has found: lines by their names."""
    if measured is None:
        return {}
    if not measured["approximate"]:
        why = f": {measured['reason']}" if measured["reason"] else ""
        return {"found": f"every pair was asked{why}"}
    lines = {"found": _found(measured)}
    prompts = measured["prompts"]
    if prompts is not None:
        lines["prompts"] = _prompts(prompts)
        if prompts["bias"] is not None:
            lines["position"] = _position(prompts["bias"])
    return lines


def _found(measured: Entry) -> str:
    parts = [f"{measured['matches']:,} matches"]
    if measured["drawn"] or measured["precision"] is None:
        target = measured["target"]
        wanted = "" if target is None else f", {target:.0%} wanted"
        parts.append(f"recall {_interval(measured['recall'])}{wanted}")
        shares = [(name, measured[name]) for name in ("precision", "agreement")]
        parts += [f"{name} {_interval(share)}" for name, share in shares if share is not None]
    else:
        parts.append("how right they are is not known: llm_recall_sample is 0")
    alone = "" if measured["prompts"] is None else " alone"
    parts.append(
        f"{measured['asked']:,} of {measured['pairs']:,} pairs asked{alone}, "
        f"{measured['drawn']:,} of them to estimate this"
    )
    return " · ".join(parts)


def _prompts(prompts: Entry) -> str:
    shared = f" that share the {prompts['shared']} value" * (prompts["shared"] != "neither")
    words = f"{prompts['asked']:,}, of up to {prompts['most']:,} pairs{shared}"
    if prompts["again"]:
        words += f"; {prompts['again']:,} could not be read and were asked again, in halves"
    return words


def _position(bias: Entry) -> str:
    chance = f"p = {bias['p_value']:.3f}"
    rate = f"true at position {bias['position']}: {_interval(bias['rate'])}"
    told = f"{rate}, {bias['usual']:.1%} if the position meant nothing"
    if bias["found"]:
        return f"BIAS: answers depend on the position in the prompt ({chance}) · {told}"
    return f"no bias to be seen ({chance}) · most different: {told}"


def _interval(share: Entry) -> str:
    low, high = f"{share['low']:.1%}", f"{share['high']:.1%}"
    return f"{share['value']:.1%} ({share['confidence']:.0%} interval {low} to {high})"
