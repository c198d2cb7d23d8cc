"""quackllm as a system under test: the task's statement, as a person writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

import quackllm

from .exchange import Done, Job, serve


def open_system(url: str, model: str) -> Callable[[Job], Done]:
    """Return what runs a job with quackllm. Its probes of the server are in the time."""

    def run(job: Job) -> Done:
        con = quackllm.connect(base_url=url, model=model, progress=False)
        con.register("t", pa.Table.from_pylist(job.rows))
        if job.other is not None:
            con.register("o", pa.Table.from_pylist(job.other))
        rows = con.execute(job.sql).fetchall()
        [[failures]] = con.execute("SELECT count(*) FROM llm_errors()").fetchall()
        con.close()
        return Done(0.0, _value(job, rows), failures)

    return run


def _value(job: Job, rows: list[tuple[Any, ...]]) -> Any:
    if job.then == "ids":
        return [row for (row,) in rows]
    if job.then in ("count", "ratio"):
        return rows[0][0]
    return rows


if __name__ == "__main__":
    serve(open_system)
