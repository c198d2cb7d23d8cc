"""Run the sixteen queries of the LLM-SQL paper in four ways on one vLLM server.

    make vllm
    python -m benchmarks.llm_sql.report [--only WORD] [--share 0.5] [--ways original,ours] [--write]

The server's prefix cache is emptied before each run. `--share` takes that part of the rows,
`--ways` runs these of the four ways; ours is always one.
`--write` writes docs/benchmarks/llm_sql.md and its plots. Tables come from the folder that
QUACKLLM_BENCH_DATA names, ../shared/data when it is not set.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import httpx
import pyarrow as pa

from benchmarks.llm_sql.cost import fitted
from benchmarks.llm_sql.queries import QUERIES, Query
from benchmarks.llm_sql.variants import ORDERERS, VARIANTS, Measured, run
from benchmarks.reorder.tables import data_folder

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "llm_sql.md"
PRICES = (0.15, 0.075, 0.60)
"""Dollars per million tokens of a small hosted model: prompt, cached prompt, answer."""


@dataclass(frozen=True)
class Result:
    """A query and what each way of running it took."""

    query: Query
    rows: int
    runs: dict[str, Measured]
    right: dict[str, float | None]

    def ratio(self, variant: str) -> float | None:
        """How much longer a way took than ours, None when it was left out."""
        took = self.runs.get(variant)
        return None if took is None else took.seconds / self.runs["ours"].seconds


class ServerLacking(Exception):
    """The server cannot be measured; the message says what it lacks."""


def empty_cache(url: str) -> None:
    """Empty the server's prefix cache. Raises `ServerLacking` when it cannot be asked to."""
    reply = httpx.post(f"{url.removesuffix('/v1')}/reset_prefix_cache", timeout=60)
    if reply.status_code != httpx.codes.OK:
        raise ServerLacking(
            f"the server at {url} does not empty its cache on request: start it with "
            "VLLM_SERVER_DEV_MODE=1, as make vllm does"
        )


def served_model(url: str) -> str:
    """Return the name of the model that the server serves."""
    listing = httpx.get(f"{url}/models", timeout=60).raise_for_status().json()
    name: str = listing["data"][0]["id"]
    return name


def ready_server(url: str) -> str:
    """Return the model of a server that can be measured; end the program where there is none."""
    try:
        empty_cache(url)
        return served_model(url)
    except (httpx.HTTPError, ServerLacking) as problem:
        sys.exit(f"{problem}\nStart a server with: make vllm")


def table_of(query: Query, share: float) -> pa.Table:
    """Return the rows of a query, as a table that is the same in every run."""
    folder = data_folder()
    with duckdb.connect() as con:
        con.execute((folder / "views.sql").read_text().replace("'tables/", f"'{folder}/tables/"))
        return con.sql(query.table.format(rows=round(query.rows * share))).to_arrow_table()


def accuracy(query: Query, table: pa.Table, measured: Measured) -> float | None:
    """Return the share of rows that a filter decided rightly, None without a truth."""
    if query.right is None:
        return None
    passed = [row[0] for row in measured.rows]
    with duckdb.connect() as con:
        con.register("t", table)
        con.execute("CREATE TABLE passed AS SELECT unnest(?) AS id", [passed or [None]])
        [(share,)] = con.execute(
            f"SELECT avg((({query.right}) = (id::VARCHAR IN (SELECT id::VARCHAR FROM passed "
            "WHERE id IS NOT NULL)))::INTEGER) FROM t"
        ).fetchall()
    return None if share is None else float(share)


def measure(query: Query, url: str, model: str, share: float, ways: Sequence[str]) -> Result:
    """Run a query in the ways named."""
    table = table_of(query, share)
    runs: dict[str, Measured] = {}
    for variant in ways:
        empty_cache(url)
        runs[variant] = run(variant, query, table, url, model)
        took = runs[variant]
        print(
            f"{query.name:22} {variant:9} {took.seconds:7.1f} s {took.client:6.2f} s client "
            f"{took.calls:5} calls {took.output_tokens:6,} tokens out "
            f"{took.prompt_tokens:8,} in {took.cached_tokens:8,} cached"
            + (f" of {took.predicted:8,} predicted" if took.predicted else ""),
            flush=True,
        )
    right = {variant: accuracy(query, table, took) for variant, took in runs.items()}
    return Result(query, table.num_rows, runs, right)


def dollars(measured: Measured) -> float:
    """Return what a run would cost at `PRICES`."""
    prompt, cached, answer = PRICES
    fresh = measured.prompt_tokens - measured.cached_tokens
    parts = (fresh * prompt, measured.cached_tokens * cached, measured.output_tokens * answer)
    return sum(parts) / 1e6


def agreement(one: Measured, other: Measured) -> float:
    """Return the share of rows that two runs have in common (Jaccard)."""
    first, second = set(map(repr, one.rows)), set(map(repr, other.rows))
    return len(first & second) / len(first | second) if first | second else 1.0


def lines(results: Sequence[Result]) -> list[str]:
    """Write the tables in Markdown: job times and ratios, then tokens, money and answers."""
    text = [
        "| query | rows | per row s | original s | GGR s | ours s | per row / ours "
        "| original / ours | GGR / ours | client |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        runs, ours = result.runs, result.runs["ours"]
        times = [runs[each].seconds if each in runs else None for each in VARIANTS]
        cells = [_figure(seconds, 1) for seconds in times]
        cells += [_figure(result.ratio(variant), 2) for variant in VARIANTS[:3]]
        client = f"{ours.client / ours.seconds:.0%}"
        text.append(f"| {result.query.name} | {result.rows} | {' | '.join(cells)} | {client} |")
    text += [
        "",
        "| query | way | calls | prompt tokens | cached | of the predicted | computed per call "
        "| answer tokens | dollars | failed | right | as original |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        for variant, took in result.runs.items():
            right = result.right[variant]
            original = result.runs.get("original")
            same = None if original is None else agreement(took, original)
            text.append(
                f"| {result.query.name} | {variant} | {took.calls:,} | {took.prompt_tokens:,} "
                f"| {took.cached_tokens / max(1, took.prompt_tokens):.0%} "
                f"| {f'{took.cached_tokens / took.predicted:.0%}' if took.predicted else ''} "
                f"| {(took.prompt_tokens - took.cached_tokens) / max(1, took.calls):.0f} "
                f"| {took.output_tokens:,} | {dollars(took):.4f} | {took.failures} "
                f"| {_figure(right, 2)} | {_figure(same, 2)} |"
            )
    return text


def breakdown(results: Sequence[Result]) -> list[str]:
    """Write where our time goes, by rates that are fitted to all ways but the one per row."""
    runs = [took for each in results for way, took in each.runs.items() if way in ORDERERS]
    rates = fitted(runs)
    if rates is None:
        return []
    text = [
        f"A computed prompt token takes {1e3 * rates.prefill:.2f} ms, a token of an answer "
        f"{1e3 * rates.decode:.2f} ms, a call {1e3 * rates.call:.1f} ms besides: fitted to "
        f"{len(runs)} runs, with a median error of {rates.error:.0%}. Of our job times:",
        "",
        "| query | prompts s | answers s | calls s | measured s | client s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        ours = result.runs["ours"]
        parts = " | ".join(f"{seconds:.1f}" for seconds in rates.parts(ours))
        text.append(f"| {result.query.name} | {parts} | {ours.seconds:.1f} | {ours.client:.2f} |")
    return text


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def plot(results: Sequence[Result], path: Path) -> None:
    """Draw job times relative to ours, one group of bars per query."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 0.42 * len(results) + 1.5))
    height = 0.8 / (len(VARIANTS) - 1)
    for place, variant in enumerate(VARIANTS[:3]):
        at = [row + place * height for row in range(len(results))]
        ratios = [result.ratio(variant) or 0.0 for result in results]
        axes.barh(at, ratios, height, label=variant)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks(
        [row + height for row in range(len(results))], [result.query.name for result in results]
    )
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("job time, as a multiple of quackllm's (log scale)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, format="svg")
    plt.close(figure)


def summary(results: Sequence[Result]) -> list[str]:
    """Write the medians by kind of query."""
    text = ["| kind | per row / ours | original / ours | GGR / ours |", "|---|--:|--:|--:|"]
    for kind in dict.fromkeys(result.query.kind for result in results):
        of_kind = [result for result in results if result.query.kind == kind]
        medians = []
        for variant in VARIANTS[:3]:
            ratios = [ratio for result in of_kind if (ratio := result.ratio(variant)) is not None]
            medians.append(_figure(statistics.median(ratios) if ratios else None, 2))
        text.append(f"| {kind} | {' | '.join(medians)} |")
    return text


def page(results: Sequence[Result], model: str, command: str) -> str:
    """Return the page of the documentation."""
    prompt, cached, answer = PRICES
    return "\n".join(
        [
            "# The LLM-SQL queries on vLLM",
            "",
            f"Measured with `{command}`: vLLM on two CPU cores, {model}, its prefix cache emptied "
            "before each run.",
            "Job time is of the wall clock, in one process after the other; client: the "
            "processor time of quackllm's own process, as a share of it. Dollars are what "
            f"the tokens would cost at ${prompt}, ${cached} cached and ${answer} (answers) per "
            "million.",
            "",
            "Medians by kind of query:",
            "",
            *summary(results),
            "",
            "![job times](llm_sql.svg)",
            "",
            *lines(results),
            "",
            *breakdown(results),
            "",
        ]
    )


def main() -> None:
    """Run what is asked for and print or write the tables."""
    parser = argparse.ArgumentParser(description="The LLM-SQL queries in four ways on vLLM.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--only", default="", help="run the queries whose name has this in it")
    parser.add_argument("--share", type=float, default=1.0, help="part of the rows that is taken")
    parser.add_argument("--ways", default=",".join(VARIANTS), help="run these, and ours")
    parser.add_argument("--write", action="store_true", help="write the page and its plot")
    given = parser.parse_args()
    model = ready_server(given.url)
    chosen = [query for query in QUERIES if given.only in query.name]
    ways = [variant for variant in VARIANTS if variant in (*given.ways.split(","), "ours")]
    results = [measure(query, given.url, model, given.share, ways) for query in chosen]
    if given.write:
        plot(results, PAGE.with_suffix(".svg"))
        PAGE.write_text(page(results, model, "python -m benchmarks.llm_sql.report --write"))
    print("\n".join(["", *summary(results), "", *lines(results), "", *breakdown(results)]))


if __name__ == "__main__":
    main()
