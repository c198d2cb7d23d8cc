"""The tables and plots of docs/reordering.md, from one command.

python -m benchmarks.reorder.report            everything, about five minutes
python -m benchmarks.reorder.report tables     hit rates and times only
python -m benchmarks.reorder.report windows    against the exact optimum
python -m benchmarks.reorder.report scale      10,000 to 1,000,000 rows
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq

from benchmarks.reorder.rates import (
    block_rate,
    character_rate,
    keyed,
    layout_of,
    texts,
    values_only,
)
from benchmarks.reorder.tables import Table, beer_like, published
from quackllm.kvcache_reorder import Field, ObjectiveName, Ordering, make_objective, order_fields
from quackllm.kvcache_reorder.baselines import fixed, ggr, original
from quackllm.kvcache_reorder.dependencies import find_dependencies
from quackllm.kvcache_reorder.encode import Measure, encode
from quackllm.kvcache_reorder.ophr import ophr

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "reordering"
NAMES = (
    "beer",
    "contributions",
    "PDMX_sample",
    "beer_sample",
    "movies_sample",
    "products_sample",
    "BIRD_sample",
)
CONTENDERS = ("original", "fixed", "GGR", "ours", "ours, 5 s")
RUNS = 5
LONG = 5.0
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
BUDGETS = {"fast": "0", "default": "-"}


@dataclass(frozen=True)
class Rates:
    """Percentages by contender, and the median seconds of ours (by objective) and of GGR."""

    name: str
    shape: str
    characters: dict[str, float]
    blocks: dict[str, float]
    seconds: dict[str, float]
    cpu: dict[str, float]
    ggr_seconds: float


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, and the medians of wall and processor seconds over some runs."""
    wall, cpu, result = [], [], None
    for _ in range(RUNS):
        begin, busy = time.perf_counter(), time.process_time()
        result = run()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - busy)
    return result, statistics.median(wall), statistics.median(cpu)


def rates(name: str, table: Table) -> Rates:
    """All contenders on one table."""
    bare, shown = values_only(table), keyed(table)
    data = encode(bare, Measure())
    # GGR sees values without keys, as published; its order is then judged in both ways.
    plain, ggr_seconds, _ = timed(lambda: ggr(data, find_dependencies(data)))
    others = {"original": original(data), "fixed": fixed(data), "GGR": plain}
    layouts = {
        "characters": dict(others),
        "blocks": {**others, "fixed": fixed(encode(shown, Measure()))},
    }
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    measures: tuple[tuple[ObjectiveName, list[Field]], ...] = (
        ("characters", bare),
        ("blocks", shown),
    )
    for objective, fields in measures:
        run = partial(order_fields, fields, make_objective(objective))
        ours, seconds[objective], cpu[objective] = timed(run)
        long = order_fields(fields, make_objective(objective), seconds=LONG)
        layouts[objective] |= {"ours": layout_of(ours), "ours, 5 s": layout_of(long)}
    return Rates(
        name,
        f"{data.rows:,} x {data.columns}",
        {who: character_rate(texts(bare, lay)) for who, lay in layouts["characters"].items()},
        {who: block_rate(texts(shown, lay)) for who, lay in layouts["blocks"].items()},
        seconds,
        cpu,
        ggr_seconds,
    )


def print_tables(found: list[Rates]) -> None:
    """Two Markdown tables: characters without keys, blocks with keys."""
    for title, pick in (("ADRS hit rate", "characters"), ("16-token-block rate", "blocks")):
        print(f"\n| {title} | rows x columns | {' | '.join(CONTENDERS)} |")
        print("|---|---|" + "---|" * len(CONTENDERS))
        for item in found:
            values = getattr(item, pick)
            cells = " | ".join(f"{values[who]:.2f}" for who in CONTENDERS)
            print(f"| {item.name} | {item.shape} | {cells} |")
    print("\n| time of ours | characters: wall s | processor s | blocks: wall s | processor s |")
    print("|---|---|---|---|---|")
    for item in found:
        pairs = ((item.seconds[name], item.cpu[name]) for name in ("characters", "blocks"))
        cells = " | ".join(f"{wall:.2f} | {busy:.2f}" for wall, busy in pairs)
        print(f"| {item.name} | {cells} |")
    print(f"\nGGR (our NumPy version): {', '.join(f'{i.ggr_seconds:.3f}' for i in found)} s")


def plot_rates(found: list[Rates]) -> None:
    """Bars per table and contender, for both measures."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 6.5), sharex=True)
    width = 0.8 / len(CONTENDERS)
    colours = ("#b0b0b0", "#8fa8c8", "#e0a050", "#3c8c5c", "#1c5c3c")
    for axis, pick, title in zip(
        axes,
        ("characters", "blocks"),
        ("characters, values without keys (ADRS)", "whole 16-token blocks, with keys"),
        strict=True,
    ):
        for place, (who, colour) in enumerate(zip(CONTENDERS, colours, strict=True)):
            heights = [getattr(item, pick)[who] for item in found]
            at = np.arange(len(found)) + (place - 2) * width
            axis.bar(at, heights, width, label=who, color=colour)
        axis.set_ylabel("hit rate, %")
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_xticks(np.arange(len(found)), [item.name for item in found], fontsize=8)
    axes[0].legend(ncols=len(CONTENDERS), fontsize=8, loc="upper right")
    axes[0].set_ylim(0, 90)
    figure.tight_layout()
    figure.savefig(PICTURES / "rates.png", dpi=120)


def windows() -> None:
    """Ours against exact OPHR on windows of 8 to 14 rows, by the paper's measure."""
    print("\n| windows of 8 to 14 rows | windows | ours / optimum, mean | least |")
    print("|---|---|---|---|")
    objective = make_objective("squared_characters")
    for name in ("beer_sample", "movies_sample", "products_sample"):
        table = published(name)
        shares, start, size = [], 0, 8
        while start + size <= 300:
            part = {column: values[start : start + size] for column, values in table.items()}
            share = against_optimum(values_only(part), order_fields(values_only(part), objective))
            shares += [] if share is None else [share]
            start, size = start + size, 8 + (size - 7) % 7
        print(f"| {name} | {len(shares)} | {np.mean(shares):.4f} | {min(shares):.4f} |")


def against_optimum(fields: list[Field], ordering: Ordering) -> float | None:
    """Score over the exact optimum; None where nothing can be reused."""
    best, _ = ophr(encode(fields, Measure(squared=True)))
    return ordering.score / best if best else None


def scale() -> list[dict[str, Any]]:
    """Generated tables of growing size, each in a process of its own."""
    print("\n| rows x 8 | mode | wall s | processor s | peak MB | block rate | original |")
    print("|---|---|---|---|---|---|---|")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in SIZES:
            path = Path(folder) / "table.parquet"
            pq.write_table(beer_like(rows), path)
            for mode, budget in BUDGETS.items():
                command = [sys.executable, "-m", "benchmarks.reorder.scale"]
                result = subprocess.run(
                    [*command, str(path), budget], check=True, capture_output=True, text=True
                )
                one = {**json.loads(result.stdout), "mode": mode}
                found.append(one)
                print(
                    f"| {rows:,} | {mode} | {one['seconds']:.2f} | {one['cpu']:.2f} | "
                    f"{one['megabytes']:.0f} | {one['rate']:.2f} | {one['baseline']:.2f} |",
                    flush=True,
                )
    return found


def plot_scale(found: list[dict[str, Any]]) -> None:
    """Seconds and memory over rows, with a line of slope one to compare."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for mode, colour in zip(BUDGETS, ("#e0a050", "#1c5c3c"), strict=True):
        part = [one for one in found if one["mode"] == mode]
        rows = [one["rows"] for one in part]
        axes[0].loglog(rows, [one["cpu"] for one in part], "o-", color=colour, label=mode)
        axes[1].semilogx(rows, [one["megabytes"] for one in part], "o-", color=colour, label=mode)
    last = [one for one in found if one["mode"] == "default"][-1]
    line = [last["cpu"] * size / last["rows"] for size in SIZES]
    axes[0].loglog(SIZES, line, ":", color="#808080", label="linear")
    axes[0].set_ylabel("processor seconds")
    axes[1].set_ylabel("peak memory of the process, MB")
    axes[1].set_ylim(0)
    for axis in axes:
        axis.set_xlabel("rows (x 8 columns)")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(PICTURES / "scale.png", dpi=120)


def main() -> None:
    """Run the parts named on the command line, or all of them."""
    parts = sys.argv[1:] or ["tables", "windows", "scale"]
    PICTURES.mkdir(parents=True, exist_ok=True)
    if "tables" in parts:
        found = [rates(name, published(name)) for name in NAMES]
        print_tables(found)
        plot_rates(found)
    if "windows" in parts:
        windows()
    if "scale" in parts:
        plot_scale(scale())


if __name__ == "__main__":
    main()
