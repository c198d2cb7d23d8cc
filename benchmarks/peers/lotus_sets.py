"""LOTUS's operators over sets: sem_join, its cascade, and sem_topk, as its documentation has them.

sem_join compares all rows of one table with all of another. Where the rows have to agree in a
column too, pandas joins them by that column first and the pairs are filtered, which is
cheaper. The cascade accepts and rejects pairs by the similarity of their embeddings, with
thresholds from a sample that the model answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import lotus
import numpy as np
import pandas as pd
from lotus.models import SentenceTransformersRM
from lotus.types import CascadeArgs
from lotus.vector_store import FaissVS

from .exchange import Done, Job

TARGET = 0.9
"""Recall and precision that the cascade is to reach, as in LOTUS's examples."""


def run_sets(job: Job) -> Done:
    """Run a job in the way that it names. What is drawn at random is drawn from one seed."""
    np.random.seed(1)
    rows = pd.DataFrame(job.rows)
    if job.asks[0].kind == "rank":
        return Done(0.0, _topk(job, rows))
    joins: dict[str, Callable[[Job, Any, Any], Any]] = {
        "sem_join": _join,
        "sem_join, cascade": _cascade,
        "merge, then sem_filter": _merge_then_filter,
        "sem_filter of each row, then merge": _each_then_merge,
    }
    found = joins[job.way](job, rows, pd.DataFrame(job.other))
    return Done(0.0, [list(pair) for pair in zip(found["id"], found["id2"], strict=True)])


def _topk(job: Job, rows: Any) -> list[str]:
    [ask] = job.asks
    method = job.way.removeprefix("sem_topk ")
    if method == "quick-sem":
        _embed_by(job)
    first = rows.sem_topk(f"{ask.prompt} {{{ask.fields[0]}}}", K=job.limit, method=method)
    return [str(row) for row in first["id"]]


def _join(job: Job, rows: Any, other: Any, **more: Any) -> Any:
    other = other.rename(columns={"id": "id2"})
    return rows.sem_join(other, job.asks[0].prompt, **more)


def _cascade(job: Job, rows: Any, other: Any) -> Any:
    _embed_by(job)
    args = CascadeArgs(recall_target=TARGET, precision_target=TARGET, cascade_IS_random_seed=1)
    return _join(job, rows, other, cascade_args=args)


def _merge_then_filter(job: Job, rows: Any, other: Any) -> Any:
    return _merged(job, rows, other).sem_filter(job.asks[0].prompt)


def _each_then_merge(job: Job, rows: Any, other: Any) -> Any:
    """Ask the second question of each row; pairs whose rows differ in the answer belong together.

    Both sides hold the same rows.
    """
    each = job.asks[1]
    passed = set(rows.sem_filter(f"{each.prompt} {{{each.fields[0]}}}")["id"])
    pairs = _merged(job, rows, other)
    return pairs[pairs["id"].isin(passed) != pairs["id2"].isin(passed)]


def _merged(job: Job, rows: Any, other: Any) -> Any:
    """Return the pairs of different rows that have the same value in the column `on`."""
    pairs = rows.merge(other.rename(columns={"id": "id2"}), on=job.on)
    return pairs[pairs["id"] != pairs["id2"]].reset_index(drop=True)


def _embed_by(job: Job) -> None:
    """Let LOTUS embed anew: what it indexed before it would find again."""
    for column in (field for ask in job.asks for field in ask.fields):
        for name in (f"{column}_index", f"{column}_lotus_index"):
            shutil.rmtree(name, ignore_errors=True)
    lotus.settings.configure(rm=SentenceTransformersRM(job.embedder), vs=FaissVS())
