"""Count calls and prompt tokens of thirty statements, planned in three ways.

    python -m benchmarks.optimizer.plans [--write]

naive: DuckDB's own plan, one call for every row for which it evaluates the function.
ours: through quackllm. oracle: the fewest distinct argument tuples that decide the
result, counted with the answers known (see statements.py).
The oracle knows the answers: with LIMIT it asks only for rows that pass, where a plan
that does not know them asks about limit / selectivity rows at best.

The model is a fake whose answers depend on the question alone; a token is four
characters. Tokens of the oracle are its calls at the mean length of ours (of the naive
plan where ours has none). The tables are read from the folder that QUACKLLM_BENCH_DATA
names, ../shared/data when it is not set; without them there is nothing to measure.
`--write` also writes docs/benchmarks/optimizer.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa

import quackllm
from benchmarks.optimizer.statements import SHARES, STATEMENTS, TABLES, Statement
from quackllm.engine.engine import Engine
from quackllm.engine.providers.base import Request
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.session import Session
from quackllm.engine.settings import Settings
from quackllm.testing import FakeProvider
from quackllm.testing.fake_provider import deterministic_answer
from quackllm.testing.rules import question_hash
from quackllm.udfs.base import Choice
from quackllm.udfs.registry import Functions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks" / "optimizer.md"
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class Line:
    """One statement: calls and prompt tokens of each plan."""

    name: str
    naive: tuple[int, int]
    ours: tuple[int, int]
    oracle: tuple[int, int]


def data_folder() -> Path:
    """Find the tables, or leave with a word on what to do."""
    folder = Path(os.environ.get("QUACKLLM_BENCH_DATA", ROOT.parent / "shared" / "data"))
    missing = [
        name for name in TABLES.values() if not (folder / "tables" / f"{name}.parquet").is_file()
    ]
    if missing:
        sys.exit(
            f"{folder}/tables lacks {', '.join(name + '.parquet' for name in missing)}.\n"
            "Set QUACKLLM_BENCH_DATA to the folder that has tables/ with them."
        )
    return folder


def answer(request: Request) -> str:
    """Answer a filter with the share of 'yes' that its question is given."""
    for words, share in SHARES.items():
        if words in request.instruction and isinstance(request.answer, Choice):
            yes, no = request.answer.labels[:2]
            return yes if question_hash(request, "share") / 2**64 < share else no
    return deterministic_answer(request)


class Naive:
    """Plain DuckDB with the registered function, which counts the rows it is given."""

    def __init__(self, tables: str) -> None:
        self._connection = duckdb.connect()
        self._engine = Engine(provider=FakeProvider(answer=answer))
        self._functions = Functions.load()
        self.calls = self.tokens = 0
        register_scalar_function(
            cast(duckdb.DuckDBPyConnection, self),
            self._engine,
            lambda: Settings(cache=True, reorder=False),
        )
        self._connection.execute(tables)
        self._session = Session(self._connection, self._engine)

    def create_function(
        self, name: str, function: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """Register the function behind a counter."""

        def counted(*columns: pa.ChunkedArray) -> Any:
            self._count(columns)
            return function(*columns)

        self._connection.create_function(name, counted, *args, **kw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _count(self, columns: tuple[pa.ChunkedArray, ...]) -> None:
        _, specs, *fields = (column.to_pylist() for column in columns)
        call = self._functions.from_spec(specs[0])
        fixed = len(call.declaration.instruction) + sum(len(name) + 6 for name in call.fields)
        rows = max(map(len, fields), default=len(specs))
        spread = [field if len(field) == rows else field * rows for field in fields]
        for row in zip(*spread, strict=True):
            if any(value not in (None, "null") for value in row):
                self.calls += 1
                length = fixed + sum(len(value or "null") for value in row)
                self.tokens += length // CHARACTERS_PER_TOKEN + 1

    def count(self, sql: str) -> tuple[int, int]:
        """Run a statement; return calls and prompt tokens."""
        self.calls = self.tokens = 0
        self._connection.execute(self._session.naive_query(sql)).fetchall()
        return self.calls, self.tokens

    def number(self, sql: str) -> int:
        """Run a query of one number."""
        row = self._connection.execute(self._session.naive_query(sql)).fetchone()
        assert row is not None
        return int(row[0] or 0)

    def close(self) -> None:
        """Close connection and engine."""
        self._engine.close()
        self._connection.close()


def measure(statement: Statement, tables: str) -> Line:
    """Run one statement in all three ways, each with nothing remembered."""
    fake = FakeProvider(answer=answer, keep=0)
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(tables)
        connection.execute(statement.sql).fetchall()
        ours = (fake.calls, connection.llm_engine.history[-1].prompt_tokens)
    naive = Naive(tables)
    try:
        counted = naive.count(statement.sql)
        fewest = naive.number(statement.oracle)
    finally:
        naive.close()
    calls, tokens = ours if ours[0] else counted
    return Line(statement.name, counted, ours, (fewest, round(fewest * tokens / max(calls, 1))))


def table(lines: list[Line]) -> str:
    """Write the lines as a Markdown table, with their sums."""
    rows = [
        "| statement | naive calls | our calls | oracle calls | ours / oracle "
        "| naive tokens | our tokens | oracle tokens |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in [*lines, _total(lines)]:
        factor = f"{line.ours[0] / line.oracle[0]:.2f}" if line.oracle[0] else "-"
        rows.append(
            f"| {line.name} | {line.naive[0]:,} | {line.ours[0]:,} | {line.oracle[0]:,} | {factor} "
            f"| {line.naive[1]:,} | {line.ours[1]:,} | {line.oracle[1]:,} |"
        )
    return "\n".join(rows)


def _total(lines: list[Line]) -> Line:
    def both(pairs: list[tuple[int, int]]) -> tuple[int, int]:
        return sum(calls for calls, _ in pairs), sum(tokens for _, tokens in pairs)

    return Line(
        "**all**",
        both([line.naive for line in lines]),
        both([line.ours for line in lines]),
        both([line.oracle for line in lines]),
    )


def main(arguments: list[str]) -> int:
    """Measure all statements and print the table."""
    folder = data_folder()
    tables = "".join(
        f"CREATE TABLE {name} AS FROM read_parquet('{folder}/tables/{file}.parquet');"
        for name, file in TABLES.items()
    )
    lines = []
    for statement in STATEMENTS:
        lines.append(measure(statement, tables))
        print(f"{statement.name}: {lines[-1]}", file=sys.stderr, flush=True)
    text = table(lines)
    print(text)
    if "--write" in arguments:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        about = (__doc__ or "").split("\n\n", 2)[2].strip()
        PAGE.write_text(
            "# Calls and tokens of plans\n\nMeasured with `python -m benchmarks.optimizer.plans "
            f"--write`, DuckDB {duckdb.__version__}.\n\n{about}\n\n{text}\n",
            encoding="utf-8",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
