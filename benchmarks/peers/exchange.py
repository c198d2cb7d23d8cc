"""What the benchmark and a system under test say to each other: one JSON line per task.

A system runs in a process of its own virtual environment, started once for all tasks.
Nothing but the standard library is imported here, so that any environment can.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

Row = dict[str, Any]
Answers = list[tuple[str, Any]]
"""(id, answer) of every row that the model answered."""


@dataclass(frozen=True)
class Ask:
    """One question about every row. kind: 'filter', 'map' or 'score' (a number).

    Of sets: 'join', whether two rows belong together (a field of each), or 'rank', which of two
    rows fits more.
    """

    kind: str
    prompt: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One task as a system gets it.

    rows: values by column, with a unique text 'id', the same rows for every system.
    asks: a filter, or one question, or a filter and a question about what passed.
    then: what becomes of the answers: 'ids' of a filter's rows, the 'count', 'ratio' or
        'counts' of those that passed, 'answers', or 'means' per value of `group`.
    limit: how many rows are wanted, None for all.
    sql: the statement for the system that takes SQL with LLM functions.
    other: the rows of the other side of a join; on: a column that both sides must have equal.
    way: by what operator or method, where a system has several. embedder: folder of a model
        that makes embeddings, in the form of sentence-transformers.
    """

    name: str
    rows: list[Row]
    asks: tuple[Ask, ...]
    then: str
    limit: int | None
    group: str | None
    sql: str
    url: str
    model: str
    max_tokens: int
    other: list[Row] | None = None
    on: str | None = None
    way: str = ""
    embedder: str = ""


@dataclass(frozen=True)
class Done:
    """What came of a task. value: as `Job.then` says; seconds: of the wall clock.

    failures: rows that got no usable answer, as far as the system tells.
    error: why there is no value.
    """

    seconds: float
    value: Any = None
    failures: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Answered:
    """What a system makes of a job before `finish`.

    passed: ids of the rows that passed the filter; answers: to the other question.
    """

    passed: list[str] | None = None
    answers: Answers | None = None
    failures: int = 0


def job_of(line: str) -> Job:
    """Read a job."""
    said = json.loads(line)
    asks = tuple(Ask(a["kind"], a["prompt"], tuple(a["fields"])) for a in said.pop("asks"))
    return Job(asks=asks, **said)


def result_of(line: str) -> Done:
    """Read what came of a job."""
    return Done(**json.loads(line))


def line_of(told: Job | Done) -> str:
    """Write a job or what came of it."""
    return json.dumps(asdict(told), default=str)


def finish(job: Job, found: Answered) -> Any:
    """Do what SQL does after the model: limit, count, ratio, means."""
    if found.answers is None:
        passed = found.passed or []
        if job.then == "count":
            return len(passed)
        if job.then == "ratio":
            return len(passed) / len(job.rows)
        if job.then == "counts":
            return [("POSITIVE", len(passed)), ("NEGATIVE", len(job.rows) - len(passed))]
        return passed[: job.limit]
    if job.then != "means":
        return found.answers[: job.limit]
    groups = {row["id"]: row[job.group] for row in job.rows if job.group is not None}
    numbers: dict[str, list[float]] = {}
    for row, answer in found.answers:
        if (number := number_in(answer)) is not None:
            numbers.setdefault(groups[row], []).append(number)
    return [(group, fmean(values)) for group, values in numbers.items()]


def number_in(answer: Any) -> float | None:
    """Return the first number of an answer, None when there is none."""
    for word in str(answer).replace("/", " ").replace(",", " ").split():
        try:
            return float(word.strip(".:;()[]*\"'"))
        except ValueError:
            continue
    return None


def serve(open_system: Callable[[str, str], Callable[[Job], Answered | Done]]) -> None:
    """Run jobs from standard input until it ends; one line of result each.

    open_system: gets the server's address and model, and returns what runs a job. It is
    called outside the time that is measured. What libraries print goes to standard error.
    """
    results = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run = open_system(sys.argv[1], sys.argv[2])
    results.write("ready\n")
    for line in sys.stdin:
        job = job_of(line)
        began = time.monotonic()
        try:
            found = run(job)
            value = found.value if isinstance(found, Done) else finish(job, found)
            done = Done(time.monotonic() - began, value, found.failures)
        # Whatever a library raises is the result of this task, and the next one goes on.
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            done = Done(time.monotonic() - began, error=f"{type(error).__name__}: {error}")
        results.write(line_of(done) + "\n")
