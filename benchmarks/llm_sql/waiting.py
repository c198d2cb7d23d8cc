"""Queries of the benchmark where waiting is all of the time: a hosted API, by a stand-in.

    python -m benchmarks.llm_sql.waiting [--seconds 0.5] [--share 1.0] [--only WORD]

A hosted API answers after some tenths of a second, however many calls are in flight up to its
limits; so does a GPU that few calls keep busy. The server here is `quackllm.testing.FakeServer`
over HTTP on this machine: it waits so long before each answer and computes nothing, so the
figures say what the two ways of asking make of a wait, and nothing of any model. *row by row*: a
function in plain DuckDB that asks in our form and waits (`benchmarks.llm_sql.variants`).
"""

from __future__ import annotations

import argparse

from benchmarks.llm_sql.queries import QUERIES
from benchmarks.llm_sql.report import table_of
from benchmarks.llm_sql.variants import run
from quackllm.testing import FakeServer

SHOWN = ("filter movies", "projection movies", "two calls movies", "control clothing")
MODEL = "fake-model"


def main() -> None:
    """Read the arguments; print the table in Markdown."""
    parser = argparse.ArgumentParser(description="Two ways of asking a server that makes wait.")
    parser.add_argument("--seconds", type=float, default=0.5, help="before each answer")
    parser.add_argument("--share", type=float, default=1.0, help="part of the rows that is taken")
    parser.add_argument("--only", default="", help="run the queries whose name has this in it")
    given = parser.parse_args()
    print("| query | rows | row by row s | ours s | ratio |\n|---|--:|--:|--:|--:|")
    for query in QUERIES:
        if query.name not in SHOWN or given.only not in query.name:
            continue
        table = table_of(query, given.share)
        with FakeServer(latency=given.seconds) as server:
            theirs = run("per row", query, table, server.base_url, MODEL).seconds
            ours = run("ours", query, table, server.base_url, MODEL).seconds
        cells = f"{table.num_rows} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.0f}"
        print(f"| {query.name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
