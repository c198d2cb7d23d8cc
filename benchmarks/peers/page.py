"""The page of the benchmark: tables, plot, and where other systems are better."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.exchange import Done
from benchmarks.peers.meter import Counted
from benchmarks.peers.systems import ROOT

PAGE = ROOT / "docs" / "benchmarks" / "peers.md"
OURS = "quackllm"
AS_GOOD = 0.02
"""Qualities that differ by less count as the same."""

OPENING = """# quackllm beside LOTUS, BlendSQL and Palimpzest

The tasks are the sixteen queries of the LLM-SQL paper on samples of the tables of
[llm_sql](../../benchmarks/llm_sql/queries.py), and SemBench's ten queries on movie reviews.
Every system gets the same rows and questions, answers with the same model ({model}) on the
same vLLM server ({where}), and uses the settings that its documentation recommends:

| system | version | how it is used |
|---|---|---|
| quackllm | {quackllm} | the statement, all settings as they are |
| LOTUS | {lotus} | `sem_filter`, `sem_map`; 64 calls in flight (`max_batch_size`), its default |
| BlendSQL | {blendsql} | `LLMMap` in SQL, answers constrained by a grammar; 32 calls in flight |
| Palimpzest | {palimpzest} | `sem_filter`, `sem_map`; plan chosen for the least time, in parallel |

Reproduce with

    make vllm peers VLLM_FLAGS="--structured-outputs-config.backend guidance"
    python -m benchmarks.peers.report --write

The flag is for BlendSQL, whose grammars only that backend of vLLM reads; without it most of its
tasks fail, and the others' do not change.

Job time is of the wall clock, without imports and start. Calls and tokens are the server's
own counts. Its prefix cache is emptied before each run, and no system keeps answers. A task
that takes longer than {most:.0f} s is ended and counts as that long. Quality is the share of
rows that a filter decided rightly; of a filter with LIMIT, the share of the returned rows
that belong there; of a count, 1 less its relative error; of scores, their rank correlation
with the true ones; of answers to questions, the share that holds a right one. It says as
much of a model of 135 million parameters as of the systems: differences under {as_good} count
as none, and answers without a truth have no quality.
"""

BETTER = """## Where the others are better

{measured}

Not measured here, and true:

- LOTUS can answer a filter with a cheap proxy (embeddings, a small model) and ask the large one
  about the undecided rows only, with a bound on the loss of accuracy; quackllm has that for
  joins (`llm_approximate`) and asks its one model about every distinct row of a filter.
- Palimpzest chooses among models and ways to answer (a mixture of models, a critic, reduced
  context) by samples that it validates; it reads images, audio and documents. It is made
  for large models behind hosted APIs, whose answers justify its long prompts.
- BlendSQL constrains answers by a regular expression or to the values of a column, answers
  questions about a whole table (`LLMQA`), adds context found by search to each row, and runs
  on SQLite and PostgreSQL too.
- On a server with one call at a time none of the ratios above holds: they come from calls in
  flight, prefixes and the length of prompts and answers.
"""


@dataclass(frozen=True)
class Result:
    """What one system made of one task. quality: from 0 to 1 (-1 to 1 of a ranking)."""

    task: str
    system: str
    rows: int
    done: Done
    counted: Counted
    quality: float | None


def line(result: Result) -> str:
    """Return what is printed as a task ends."""
    done, counted = result.done, result.counted
    shown = "" if result.quality is None else f"{result.quality:5.2f}"
    return (
        f"{result.system:10} {result.task:22} {done.seconds:7.1f} s {counted.calls:5} calls "
        f"{counted.prompt_tokens:8,} tokens {counted.cached_tokens:8,} cached "
        f"{counted.output_tokens:7,} out {shown:5} {done.error or ''}"
    )


def _by_task(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        found.setdefault(result.task, {})[result.system] = result
    return found


def _pairs(results: Sequence[Result], peer: str) -> list[tuple[Result, Result]]:
    """Return ours and the peer's of every task that both have done."""
    return [
        (of_task[OURS], of_task[peer])
        for of_task in _by_task(results).values()
        if OURS in of_task
        and peer in of_task
        and not of_task[OURS].done.error
        and not (of_task[peer].done.error and not _ended(of_task[peer]))
    ]


def _ended(result: Result) -> bool:
    """Whether the task was ended because it took too long."""
    return (result.done.error or "").startswith("not done after")


def _peers(results: Sequence[Result]) -> list[str]:
    return [name for name in dict.fromkeys(r.system for r in results) if name != OURS]


def _difference(ours: Result, peer: Result) -> float:
    """Return by how much our quality is higher, 0 where either has none."""
    if ours.quality is None or peer.quality is None:
        return 0.0
    return ours.quality - peer.quality


def summary(results: Sequence[Result]) -> list[str]:
    """Write one row per peer."""
    text = [
        "| beside | tasks that both run | median of job time / ours | at least 2x "
        "| ours slower | better quality: ours | same | theirs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for peer in _peers(results):
        pairs = _pairs(results, peer)
        if not pairs:
            continue
        ratios = [theirs.done.seconds / ours.done.seconds for ours, theirs in pairs]
        known = [
            _difference(*pair) for pair in pairs if None not in (pair[0].quality, pair[1].quality)
        ]
        ours_better = sum(difference > AS_GOOD for difference in known)
        theirs_better = sum(difference < -AS_GOOD for difference in known)
        text.append(
            f"| {peer} | {len(pairs)} | {statistics.median(ratios):.1f} "
            f"| {sum(ratio >= 2 for ratio in ratios)} | {sum(ratio < 1 for ratio in ratios)} "
            f"| {ours_better} | {len(known) - ours_better - theirs_better} | {theirs_better} |"
        )
    return text


def tables(results: Sequence[Result]) -> list[str]:
    """Write job times, then what each system sent and how right it was."""
    systems = list(dict.fromkeys(result.system for result in results))
    text = [
        "| task | rows | " + " | ".join(f"{name} s" for name in systems) + " |",
        "|---|--:|" + "--:|" * len(systems),
    ]
    for task, of_task in _by_task(results).items():
        rows = next(iter(of_task.values())).rows
        times = " | ".join(_seconds(of_task.get(name)) for name in systems)
        text.append(f"| {task} | {rows} | {times} |")
    text += [
        "",
        "| task | system | calls | prompt tokens | cached | answer tokens | failed | quality |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in sorted(results, key=lambda r: list(_by_task(results)).index(r.task)):
        counted = result.counted
        quality = "" if result.quality is None else f"{result.quality:.2f}"
        text.append(
            f"| {result.task} | {result.system} | {counted.calls:,} | {counted.prompt_tokens:,} "
            f"| {counted.cached_tokens / max(1, counted.prompt_tokens):.0%} "
            f"| {counted.output_tokens:,} | {result.done.failures} | {quality} |"
        )
    return text


def _seconds(result: Result | None) -> str:
    if result is None:
        return ""
    if _ended(result):
        return f"> {result.done.seconds:.0f}"
    return "failed" if result.done.error else f"{result.done.seconds:.1f}"


def better(results: Sequence[Result]) -> list[str]:
    """List the tasks in which a peer was faster or had the better answers."""
    text = []
    for peer in _peers(results):
        for ours, theirs in _pairs(results, peer):
            said = []
            if theirs.done.seconds < ours.done.seconds:
                said.append(f"{theirs.done.seconds:.1f} s beside {ours.done.seconds:.1f} s")
            if _difference(ours, theirs) < -AS_GOOD:
                quality = f"quality {theirs.quality:.2f} beside {ours.quality:.2f}"
                said.append(quality + _lost(theirs))
            if said:
                text.append(f"- {peer}, {ours.task}: {', '.join(said)}.")
    return text or ["In no task of this run was another system faster or more often right."]


def _lost(result: Result) -> str:
    """Say how many answers stand for others: what could not be read counts as a default."""
    lost, rows = result.done.failures, result.rows
    return f", {lost} of {rows} answers unreadable and taken as its default" if lost else ""


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw job times relative to ours, one group of bars per task."""
    import matplotlib.pyplot as plt

    by_task, peers = _by_task(results), _peers(results)
    figure, axes = plt.subplots(figsize=(10, 0.42 * len(by_task) + 1.5))
    height = 0.8 / len(peers)
    for place, peer in enumerate(peers):
        ratios = {
            ours.task: theirs.done.seconds / ours.done.seconds
            for ours, theirs in _pairs(results, peer)
        }
        at = [row + place * height for row, task in enumerate(by_task) if task in ratios]
        axes.barh(at, list(ratios.values()), height, label=peer)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(by_task))], list(by_task))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("job time, as a multiple of quackllm's (log scale)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg")
    plt.close(figure)


def write(
    results: Sequence[Result], model: str, versions: Mapping[str, str], where: str, most: float
) -> None:
    """Write docs/benchmarks/peers.md and its plot."""
    plot(results, PAGE.with_suffix(".svg"))
    known = {"lotus": "-", "blendsql": "-", "palimpzest": "-"} | dict(versions)
    parts = [
        OPENING.format(model=model, where=where, most=most, as_good=AS_GOOD, **known),
        *summary(results),
        "",
        "![job times](peers.svg)",
        "",
        *tables(results),
        "",
        BETTER.format(measured="\n".join(better(results))),
    ]
    PAGE.write_text("\n".join(parts))
