"""The page of the joins and top-k: a table, and where LOTUS is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.exchange import Done
from benchmarks.peers.meter import Counted
from benchmarks.peers.set_tasks import Quality, Way
from benchmarks.peers.systems import ROOT

PAGE = ROOT / "docs" / "benchmarks" / "joins_and_topk.md"
OURS = "quackllm"
NAMED = {"quackllm": "quackllm", "lotus": "LOTUS"}
AS_GOOD = 0.02
"""Qualities that differ by less count as the same."""

OPENING = """# Joins and top-k beside LOTUS

[Joins](../joins.md) and [ranks](../ranking.md) of quackllm {quackllm}, and `sem_join` and
`sem_topk` of LOTUS {lotus}: the same rows and questions, the same model ({model}) on the same vLLM
server ({where}; a load of {load:.1f} by other work when the run began). Where a way needs
embeddings, both systems make them with all-MiniLM-L6-v2 in their process. Reproduce with

    make vllm peers
    python -m benchmarks.peers.sets --write

- **join products**: 20 products of one shop and the 20 of another that match them, of Abt-Buy:
  400 pairs.
- **join products of one brand**: the same with 60 and 60, pairs that have the brand in common.
- **join opposed reviews**: SemBench's query Q7, pairs of reviews of one film that disagree: 12
  reviews of each of two films, both orders of a pair.
- **first 5 of n reviews**: those that like a film most.

`sem_join` takes no condition besides its question, so that for one of the other tasks a person
with LOTUS joins in pandas first and filters the pairs, or filters the rows and joins then; so does
this benchmark. quackllm's statements are what a person would write, all settings as they are.

Seconds are of the wall clock, embeddings included, imports and start excluded. Calls and tokens
are the server's own counts; its prefix cache is emptied before each run, and no system keeps
answers. quackllm sends one call more for each question, about no row, to calibrate its labels.
LOTUS takes an answer that it cannot read as true. A run that takes longer than {most:.0f} s is
ended.

Quality of a join is precision and recall of its pairs. Of a top-k, `precision` is the share of the
five whose score is among the five highest, and `recall` the sum of their scores by the highest
possible one. A model of 135 million parameters answers such questions hardly better than by chance,
and often by what stands first: the quality says what each system makes of such answers, not how
well it would do with a good model. Calls and tokens of the exact joins do not depend on them; those
of cascades, blocking and top-k do.
"""

BETTER = """## Where LOTUS is better

{measured}

Not measured here, and true:

- The cascade of `sem_join` also accepts pairs without asking, above a threshold, and bounds the
  loss of precision as well as of recall; blocking here asks about every pair that it returns, and
  bounds recall alone. Where near texts mostly match, LOTUS asks less.
- The cascade can let the model write for each row what it looks for, and search for that
  (map-search-filter): it joins texts that have no words or meaning in common, which blocking does
  not find before it asks about most pairs.
- `sem_topk` with `cascade_threshold` asks a smaller model first; LLM_RANK asks one model.
- `sem_join` takes examples, and both let the model reason first (`strategy`); here that is for the
  prompt to say.
"""


@dataclass(frozen=True)
class SetResult:
    """What came of a task in one way."""

    task: str
    way: Way
    done: Done
    counted: Counted
    quality: Quality | None


def line(result: SetResult) -> str:
    """Return what is printed as a run ends."""
    done, counted, quality = result.done, result.counted, result.quality
    shown = "" if quality is None else f"{quality.precision:.2f} {quality.recall:.2f}"
    return (
        f"{result.task:28} {result.way.system:9} {result.way.name:36} {done.seconds:6.1f} s "
        f"{counted.calls:5} calls {counted.prompt_tokens:8,} tokens {shown} {done.error or ''}"
    )


def table(results: Sequence[SetResult]) -> list[str]:
    """Write one row per run."""
    text = [
        "| task | system | way | seconds | calls | prompt tokens | cached | answer tokens "
        "| precision | recall |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        counted, quality = result.counted, result.quality
        cached = counted.cached_tokens / max(1, counted.prompt_tokens)
        told = "" if quality is None else f"{quality.precision:.2f} | {quality.recall:.2f}"
        text.append(
            f"| {result.task} | {NAMED[result.way.system]} | `{result.way.name}` "
            f"| {_seconds(result)} | {counted.calls:,} | {counted.prompt_tokens:,} | {cached:.0%} "
            f"| {counted.output_tokens:,} | {told or ' | '} |"
        )
    return text


def _seconds(result: SetResult) -> str:
    error = result.done.error or ""
    if error.startswith("not done after"):
        return f"> {result.done.seconds:.0f}"
    return "failed" if error else f"{result.done.seconds:.1f}"


def better(results: Sequence[SetResult]) -> list[str]:
    """List in what a way of LOTUS surpassed every one of quackllm's for the same task."""
    text = []
    for result in results:
        if result.way.system == OURS or result.quality is None:
            continue
        ours = [r for r in results if r.task == result.task and r.way.system == OURS]
        said = list(_surpassed(result, [r for r in ours if r.quality is not None]))
        if said:
            text.append(f"- {result.task}, `{result.way.name}`: {'; '.join(said)}.")
    return text or ["In no task of this run did LOTUS do better in time, calls or quality."]


def _surpassed(theirs: SetResult, ours: Sequence[SetResult]) -> Iterator[str]:
    fastest = min((r.done.seconds for r in ours), default=0.0)
    if theirs.done.seconds < fastest:
        yield f"{theirs.done.seconds:.1f} s beside {fastest:.1f} s"
    fewest = min((r.counted.calls for r in ours), default=0)
    if theirs.counted.calls < fewest:
        yield f"{theirs.counted.calls:,} calls beside {fewest:,}"
    best = max((r.quality.f1 for r in ours if r.quality is not None), default=1.0)
    if theirs.quality is not None and theirs.quality.f1 > best + AS_GOOD:
        yield f"precision and recall together (F1) {theirs.quality.f1:.2f} beside {best:.2f}"


def write(
    results: Sequence[SetResult],
    model: str,
    versions: Mapping[str, str],
    where: str,
    most: float,
    load: float,
) -> None:
    """Write docs/benchmarks/joins_and_topk.md."""
    parts = [
        OPENING.format(model=model, where=where, most=most, load=load, **versions),
        *table(results),
        "",
        BETTER.format(measured="\n".join(better(results))),
    ]
    PAGE.write_text("\n".join(parts))
