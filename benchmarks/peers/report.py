"""quackllm beside LOTUS, BlendSQL and Palimpzest: same tasks, rows, model and server.

    make vllm peers
    python -m benchmarks.peers.report [--systems quackllm lotus] [--only WORD] [--write]

Each system runs in the environment that `make peers` made for it. The server's prefix cache
is emptied before each run, and no system keeps answers from one run to the next. `--write`
writes docs/benchmarks/peers.md and its plot.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.llm_sql.report import empty_cache, ready_server, served_model
from benchmarks.peers import meter, page
from benchmarks.peers.exchange import Done
from benchmarks.peers.judge import Truth
from benchmarks.peers.page import Result
from benchmarks.peers.systems import (
    ROOT,
    SYSTEMS,
    Process,
    System,
    SystemFailed,
    TookTooLong,
    chosen,
)
from benchmarks.peers.tasks import Task, tasks

LOG = ROOT / ".peers" / "log"


def measure(
    system: System, wanted: Sequence[Task], environments: Path, url: str, most: float
) -> list[Result]:
    """Run the tasks with one system; a task that takes longer than `most` seconds is ended."""
    model, found = served_model(url), []
    log = LOG / f"{system.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    process: Process | None = None
    try:
        for task in wanted:
            process = process or Process(system, environments, url, model, log)
            result, alive = _run(process, system, task, url, most)
            found.append(result)
            print(page.line(result), flush=True)
            if not alive:
                process.close()
                process = None
    finally:
        if process is not None:
            process.close()
    return found


def _run(
    process: Process, system: System, task: Task, url: str, most: float
) -> tuple[Result, bool]:
    """Run one task; the second value tells whether the process is fit for another."""
    table = task.rows_of()
    job = task.job(table, url, served_model(url))
    meter.until_idle(url)
    empty_cache(url)
    before, alive = meter.read(url), True
    try:
        done = process.run(job, most)
    except (TookTooLong, SystemFailed) as error:
        done, alive = Done(most, error=str(error)), False
    meter.until_idle(url)
    counted = meter.read(url) - before
    quality = None if done.error else task.quality(Truth(table, done.value))
    return Result(task.name, system.name, len(job.rows), done, counted, quality), alive


def where(url: str) -> str:
    """Say on what the server runs, as far as it tells."""
    version = httpx.get(f"{url.removesuffix('/v1')}/version", timeout=60).json()["version"]
    return f"vLLM {version}, {os.cpu_count()} cores"


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description="quackllm beside other systems, on vLLM.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers")
    parser.add_argument("--systems", nargs="*", default=[], choices=[s.name for s in SYSTEMS])
    parser.add_argument("--only", default="", help="run the tasks whose name has this in it")
    parser.add_argument("--most", type=float, default=60.0, help="seconds that a task may take")
    parser.add_argument("--write", action="store_true", help="write the page and its plot")
    given = parser.parse_args()
    model = ready_server(given.url)
    wanted = [task for task in tasks() if given.only in task.name]
    systems, environments = chosen(given.systems), given.environments.absolute()
    try:
        results = [
            result
            for system in systems
            for result in measure(system, wanted, environments, given.url, given.most)
        ]
        versions = {system.name: system.version(environments) for system in systems}
    except (SystemFailed, FileNotFoundError) as problem:
        sys.exit(f"{problem}\nMake the environments with: make peers")
    if given.write:
        page.write(results, model, versions, where(given.url), given.most)
    print("\n".join(["", *page.summary(results), "", *page.tables(results)]))


if __name__ == "__main__":
    main()
