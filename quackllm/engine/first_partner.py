"""Asking about rows until each has its first match.

The pairs of all rows are kept in a table, numbered for each row. In a round those that are next
of every row without a match are asked, by all conditions, and the rows that match leave. So a
pair is made once and read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from quackllm.engine.chunks import CHUNK
from quackllm.engine.early_stop import Batches
from quackllm.engine.stage_answers import StageAnswers
from quackllm.optimizer.program import PartnerRounds
from quackllm.optimizer.sql import quote

PATIENCE = 4
"""Of a row one pair is asked at once, and one more for every so many that did not match."""


@dataclass(frozen=True)
class Database:
    """What the search needs of DuckDB: make a temporary table, run a statement, read a query."""

    create: Callable[[str, str], None]
    execute: Callable[[str], object]
    fetch: Callable[[str], pa.Table]


def places() -> Iterator[tuple[int, int]]:
    """Yield the first and the last place of the pairs that are asked of a row in each round.

    A row whose last round holds its first match has asked at most 1 / PATIENCE of what was
    asked before in vain. DuckDB's semi and anti joins by hash ask pair by pair.
    """
    asked = 0
    while True:
        following = 1 + asked // PATIENCE
        yield asked + 1, asked + following
        asked += following


class PartnerSearch:
    """Finds the rows of one join, or around one query, that have a partner."""

    def __init__(
        self, rounds: PartnerRounds, stages: Sequence[StageAnswers], database: Database
    ) -> None:
        self._rounds = rounds
        self._stages = stages
        self._database = database

    def begin(self) -> None:
        """Make the tables; rows that match without an answer are known then."""
        for stage in self._stages:
            stage.register()
        for name, sql in self._rounds.tables:
            self._database.create(name, sql)

    def ask(self) -> None:
        """Ask pairs until every row has its match, or none left, or enough rows have one."""
        for first_row, last_row in self._batches():
            for first, last in places():
                pairs = f"p.place BETWEEN {first} AND {last}"
                if not self._open(f"{pairs} AND p.k BETWEEN {first_row} AND {last_row}"):
                    break
                self._decide(self._stages)
                if self._has_enough():
                    return

    def _batches(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last number of the rows that are asked about together."""
        rows = self._number(f"SELECT count(*) FROM {quote(self._rounds.rows)}")
        if self._rounds.stop_after is None:
            yield 1, rows
            return
        there = self._there()
        batches = Batches([1] * rows, self._rounds.stop_after - there)
        while not batches.exhausted and not self._has_enough():
            start, size = batches.following(self._there() - there)
            yield start + 1, start + size

    def _has_enough(self) -> bool:
        return self._rounds.stop_after is not None and self._there() >= self._rounds.stop_after

    def _there(self) -> int:
        """How many of the rows that are wanted are there."""
        assert self._rounds.count is not None
        return self._number(self._rounds.count)

    def _number(self, sql: str) -> int:
        return int(self._database.fetch(sql).column(0)[0].as_py())

    def settle(self) -> None:
        """Decide all pairs by the answers that the first stage has; ask the other ones."""
        if self._open("true"):
            self._decide(self._stages[1:])

    def _open(self, which: str) -> bool:
        """Open pairs of the rows without a match; False where there are none."""
        rows, pairs = quote(self._rounds.rows), self._rounds.pairs
        waiting = f"p.k IN (SELECT k FROM {rows} WHERE NOT matched)"
        name = quote(self._rounds.open)
        self._database.execute(f"DROP TABLE IF EXISTS temp.{name}")
        self._database.create(self._rounds.open, f"{pairs} WHERE {which} AND {waiting}")
        return self._number(f"SELECT count(*) FROM {name}") > 0

    def _decide(self, stages: Sequence[StageAnswers]) -> None:
        """Ask about the open pairs, and mark the rows that have a match among them."""
        for stage in stages:
            tuples = self._database.fetch(stage.probe)
            for start in range(0, tuples.num_rows, CHUNK):
                stage.ask(tuples.slice(start, CHUNK))
        rows, matched = quote(self._rounds.rows), self._rounds.matched
        self._database.execute(f"UPDATE {rows} SET matched = true WHERE k IN ({matched})")
