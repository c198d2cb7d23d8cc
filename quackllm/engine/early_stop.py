"""Asking a block in rounds, until no further answer can change the result.

The stages of a block are asked one inside the other: a batch of the first one's argument
tuples, then what that makes worth asking of the second, and so on, each in batches of its
own; DuckDB counts the rows that are certain after each batch of the last one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.stage_answers import StageAnswers
from quackllm.optimizer.program import BlockStage

FIRST_BATCH = 16
"""Argument tuples of a batch of the first stage at least: fewer would leave a server idle."""

Fetch = Callable[[str], pa.Table]
"""Runs a query of DuckDB's."""


class Batches:
    """Cuts tuples into batches that grow, and are no larger than the missing rows call for.

    The first batch takes tuples that stand in as many rows as are wanted. A later one
    takes those that are expected to give the missing rows, by the share of rows found
    so far, but at most twice the tuples of the batch before: a share that is seen too
    low costs at most as many tuples in vain as were asked before, plus the first batch.
    """

    def __init__(self, rows: Sequence[int], wanted: int, least: int = FIRST_BATCH) -> None:
        """Make the batches of tuples; rows[i] is the number of rows that tuple i stands in.

        least: tuples of a batch at least, as long as there are some.
        """
        self._rows = [0, *accumulate(rows)]
        self._wanted = wanted
        self._least = least
        self._done = 0
        self._last = 0

    @property
    def exhausted(self) -> bool:
        """Whether every tuple was given out."""
        return self._done >= len(self._rows) - 1

    def following(self, found: int) -> tuple[int, int]:
        """Return start and size of the next batch, `found` rows having been found so far."""
        asked = self._rows[self._done]
        share = found / asked if asked else 1.0
        size = 2 * self._last
        if share > 0:
            enough = asked + (self._wanted - found) / share
            needed = bisect_left(self._rows, enough) - self._done
            size = min(size, needed) if self._last else needed
        start, self._last = self._done, max(size, self._least)
        self._done += self._last
        return start, self._last


def ask_until_enough(block: BlockStage, stages: Sequence[StageAnswers], fetch: Fetch) -> None:
    """Ask the stages of a block, batch by batch, until it has the rows that it wants."""
    for stage in stages:
        stage.register()
    if block.keys:
        _ask_open_keys(stages, fetch)
    else:
        _Pursuit(block, stages, fetch).run()


def _ask_open_keys(stages: Sequence[StageAnswers], fetch: Fetch) -> None:
    """Ask tuples of the keys that have no certain row, a few of each, until all have one."""
    if not stages:
        return
    stage, *behind = stages
    of_each = 1
    while True:
        tuples = stage.unanswered(fetch(_first_tuples(stage.probe, of_each)))
        if tuples.num_rows:
            stage.ask(tuples)
            of_each *= 2
        _ask_open_keys(behind, fetch)
        if not tuples.num_rows:
            return


def _first_tuples(probe: str, of_each: int) -> str:
    """Write the query of the first tuples of each key, and of a batch of all keys at least."""
    wanted = f"place <= {of_each} OR row_number() OVER (ORDER BY place) <= {FIRST_BATCH}"
    return f"SELECT * FROM ({probe}) AS tuples QUALIFY {wanted}"


class _Pursuit:
    """The search for as many certain rows as a block wants, of all its rows together."""

    def __init__(self, block: BlockStage, stages: Sequence[StageAnswers], fetch: Fetch) -> None:
        assert block.count is not None and block.stop_after is not None
        self._count = block.count
        self._wanted = block.stop_after
        self._in_order = block.in_order
        self._stages = stages
        self._fetch = fetch
        self._certain = 0

    def run(self) -> None:
        if not self._enough():
            self._pursue(0, None)

    def _enough(self) -> bool:
        self._certain = self._fetch(self._count).column(0)[0].as_py()
        return self._certain >= self._wanted

    def _pursue(self, level: int, before: int | None) -> bool:
        """Ask a stage and those behind it; tell whether that was enough.

        before: with an order, the place of the first row that waits for an earlier
            stage: no row from there on can become certain now.
        """
        if level == len(self._stages):
            return self._enough()
        stage = self._stages[level]
        tuples = stage.unanswered(self._fetch(stage.probe))
        if self._in_order and before is not None:
            tuples = tuples.filter(pc.less(tuples["place"], before))
        elif not self._in_order:
            tuples = stage.remembered_first(tuples)
        if not tuples.num_rows:
            return self._pursue(level + 1, before)
        found = self._certain
        # What an earlier stage has accepted is seldom much more than what is still missing.
        least = 1 if level else FIRST_BATCH
        batches = Batches(tuples["n"].to_pylist(), self._wanted - found, least)
        while not batches.exhausted:
            start, size = batches.following(self._certain - found)
            stage.ask(tuples.slice(start, size))
            waiting = before
            if self._in_order and not batches.exhausted:
                waiting = tuples["place"][start + size].as_py()
            if self._pursue(level + 1, waiting):
                return True
        return False
