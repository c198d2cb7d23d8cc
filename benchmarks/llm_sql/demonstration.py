"""Filters by a function as published demonstrations have it, beside ours, on one vLLM server.

    make vllm
    python -m benchmarks.llm_sql.demonstration [--only WORD] [--share 0.25] [--max-tokens 16]

`benchmarks.llm_sql.report` has a function that asks row by row in our own form: an answer of
one token, held to its labels. What a person registers in plain DuckDB first, and what the
demonstration of the LLM-SQL paper registers (github.com/lynnliu030/LLM-SQL-Demo), asks in
words: a chat request per row, the row as JSON and the question behind it, no form, and SQL
compares the text that comes. Its class for vLLM leaves the answer at vLLM's 16 tokens, the one
for servers sets no limit (`--max-tokens 0`). Both run on the same rows; the server's prefix
cache is emptied before each. Tables as in `benchmarks.llm_sql.report`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import duckdb
import openai
import pyarrow as pa

from benchmarks.llm_sql.queries import QUERIES, Query
from benchmarks.llm_sql.report import (
    accuracy,
    empty_cache,
    ready_server,
    table_of,
)
from benchmarks.llm_sql.variants import Measured, planned
from quackllm.engine.sending_order import by_prefix

SYSTEM = (
    "You analyse data. You are given a JSON object with the columns of one row of a table and "
    "their values. Answer the question about this row from the columns that it names. Give the "
    "answer alone, without explanations and without formatting."
)
WORDS = "Answer with true or false and nothing else."


@dataclass
class _Spent:
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


def demonstrated(
    query: Query, table: pa.Table, url: str, model: str, max_tokens: int | None
) -> Measured:
    """Run a filter in plain DuckDB with a function that asks each row in words.

    max_tokens: of an answer, None without limit.
    """
    [ask] = query.asks
    names = [name.strip('"') for name in ask.fields]
    spent = _Spent()

    def answer(row: str) -> str:
        fields = json.dumps(json.loads(row))
        # A client for each row, as the demonstration has it: what that costs is part of it.
        client = openai.OpenAI(base_url=url, api_key="none", timeout=600)
        reply = client.chat.completions.create(
            model=model,
            max_tokens=max_tokens,
            messages=[
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"The data:\n{fields}\n{ask.prompt} {WORDS}"},
            ],
        )
        assert reply.usage is not None, "vLLM reports usage"
        spent.calls += 1
        spent.prompt_tokens += reply.usage.prompt_tokens
        spent.output_tokens += reply.usage.completion_tokens
        return reply.choices[0].message.content or ""

    with duckdb.connect() as con:
        con.execute("SET enable_progress_bar = false")
        con.register("t", table)
        con.create_function("ask", answer, ["VARCHAR"], "VARCHAR", side_effects=True)
        document = ", ".join(
            f"'{name}': {column}" for name, column in zip(names, ask.fields, strict=True)
        )
        call = f"lower(ask(to_json({{{document}}})::VARCHAR)) LIKE 'true%'"
        started, processor = time.monotonic(), time.process_time()
        rows = con.execute(query.statement.format(call)).fetchall()
        seconds, client = time.monotonic() - started, time.process_time() - processor
    tokens = (spent.prompt_tokens, 0, spent.output_tokens)
    return Measured(seconds, client, spent.calls, *tokens, 0, rows)


def row(query: Query, url: str, model: str, share: float, max_tokens: int | None) -> str:
    """Run a filter in both ways; return its row of the table."""
    table = table_of(query, share)
    empty_cache(url)
    theirs = demonstrated(query, table, url, model, max_tokens)
    empty_cache(url)
    ours = planned(query, table, url, model, by_prefix)
    right = [accuracy(query, table, measured) for measured in (theirs, ours)]
    cells = [
        f"{table.num_rows}",
        f"{theirs.seconds:.1f}",
        f"{ours.seconds:.1f}",
        f"{theirs.seconds / ours.seconds:.1f}",
        f"{theirs.output_tokens / theirs.calls:.0f}",
        *("" if share is None else f"{share:.2f}" for share in right),
    ]
    return f"| {query.name} | {' | '.join(cells)} |"


def main() -> None:
    """Read the arguments; print the table in Markdown."""
    parser = argparse.ArgumentParser(description="Filters by a function that asks in words.")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--only", default="", help="run the filters whose name has this in it")
    parser.add_argument("--share", type=float, default=0.25, help="part of the rows that is taken")
    parser.add_argument("--max-tokens", type=int, default=16, help="of an answer; 0: no limit")
    given = parser.parse_args()
    model = ready_server(given.url)
    print(
        "| query | rows | row by row s | ours s | ratio | tokens per answer "
        "| right | ours right |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for query in QUERIES:
        if query.kind == "filter" and given.only in query.name:
            limit = given.max_tokens or None
            print(row(query, given.url, model, given.share, limit), flush=True)


if __name__ == "__main__":
    main()
