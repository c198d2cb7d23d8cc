"""How many tuples the stages of a planned statement are about: DuckDB counts, no model is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from quackllm.engine.catalog import used_parameters
from quackllm.engine.engine import Engine
from quackllm.engine.experience import Experience
from quackllm.engine.history import StatementStats
from quackllm.engine.joint import asked_call, distinct_tuples
from quackllm.engine.reduction import (
    Chunk,
    Step,
    first_chunks,
    merges_expected,
    room,
    step_call,
    tokens_of,
)
from quackllm.engine.run import answer_keys
from quackllm.engine.sending_order import estimated_tokens, instruction_tokens
from quackllm.engine.settings import Settings
from quackllm.engine.stage_answers import string_columns
from quackllm.engine.transactions import in_transaction
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.optimizer.cost import Demand
from quackllm.optimizer.guards import uses
from quackllm.optimizer.program import Ceiling
from quackllm.udfs.base import Call, Reduction, Round, Wanted


class Demands:
    """Counts what the stages of one statement ask."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        engine: Engine,
        settings: Settings,
        parameters: Mapping[str, Any],
        experience: Callable[[Call], Experience],
        running: StatementStats | None,
    ) -> None:
        """Make one.

        experience: what the calls made so far tell of a call. running: the statement, when
        samples were asked for it.
        """
        self._connection = connection
        self._engine = engine
        self._settings = settings
        self._parameters = parameters
        self._experience = experience
        self._may_fail = True
        self._paid = Counter[str]()
        for spec, stage in running.stages.items() if running else ():
            self._paid[spec] = stage.calls

    def begin(self) -> None:
        """Begin a plan: a count may fail, but not in a transaction, which it would have ended."""
        self._may_fail = not in_transaction(self._connection)

    def of(self, ceiling: Ceiling, asked: set[str]) -> tuple[Demand | None, list[str]]:
        """Count a stage's tuples; also return their keys, where they are known.

        asked: keys of tuples that an earlier stage asks the same question for.
        """
        call = ceiling.site.call
        tuples = None if ceiling.sql is None else self.counted(ceiling.sql)
        if tuples is None:
            return None if ceiling.rows is None else Demand(ceiling.rows, ceiling.rows), []
        if not call.fields:
            return self._unfielded(call, tuples), []
        columns = string_columns(tuples, len(ceiling.columns))
        rows = pc.sum(tuples.column(len(ceiling.columns))).as_py() or 0
        known = [c for c, field in zip(columns, ceiling.columns, strict=True) if field is not None]
        if len(known) < len(call.fields):  # the others are answers, of which nothing is known
            tokens = estimated_tokens(call, known, tuples.num_rows)
            tokens += tuples.num_rows * self._answer_tokens(ceiling)
            return Demand(tuples.num_rows, rows, tokens=tokens), []
        return self._fielded(call, tuples, columns, rows, asked, ceiling.site.wanted)

    def counted(self, sql: str) -> pa.Table | None:
        """Run a query that counts tuples; None when it fails.

        It reads rows that a guard of the statement may leave out, and so can fail where
        the statement does not. In a transaction of the user's, which that has ended, the
        error is raised.
        """
        given = used_parameters(self._connection, sql, self._parameters)
        try:
            return self._connection.sql(sql, params=given).to_arrow_table()
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            if self._may_fail:
                return None
            raise

    def _unfielded(self, call: Call, tuples: pa.Table) -> Demand:
        rows = pc.sum(tuples.column(tuples.num_columns - 1)).as_py() or 0
        tokens = estimated_tokens(call, [], 1)
        calls = min(rows, 1)
        return Demand(calls, rows, tokens=tokens * calls, row_tokens=tokens * rows)

    def _fielded(
        self,
        call: Call,
        tuples: pa.Table,
        columns: list[pa.Array],
        rows: int,
        asked: set[str],
        wanted: Wanted,
    ) -> tuple[Demand, list[str]]:
        declaration = call.declaration
        if declaration.reduction is not None:
            lists = columns[0].to_pylist()
            return self._reducing(call, declaration.reduction, lists, rows), []
        if declaration.rounds is not None:
            members = distinct_tuples(zip(*(c.to_pylist() for c in columns), strict=True))
            shown = [(declaration.rounds.expected(each), _length(each)) for each in members]
            return self._in_rounds(call, shown, rows), []
        if declaration.joint is not None:
            lengths = sum(pc.sum(pc.utf8_length(column)).as_py() or 0 for column in columns)
            expected = declaration.joint.expected(tuples.num_rows, wanted)
            return self._in_rounds(call, [(expected, lengths / max(tuples.num_rows, 1))], rows), []
        columns = list(self._engine.shown(columns))
        keys = answer_keys(call, columns, tuples.num_rows)
        known = self._remembered(call, keys) | asked
        paid = self._paid[call.spec]
        fresh = [at for at, key in enumerate(keys) if key not in known or paid]
        remembered = max(sum(key in known for key in keys) - paid, 0)
        taken = [column.take(pa.array(fresh, pa.int64())) for column in columns]
        order = self._engine.expected_order(self._settings, call, taken)
        part = (len(keys) - remembered) / len(fresh) if fresh else 0.0
        longer = order.total / estimated_tokens(call, taken, len(fresh)) if order.total else 1.0
        demand = Demand(
            tuples=len(keys),
            rows=rows,
            remembered=remembered,
            tokens=round(order.total * part),
            reused=round(order.reused * part),
            reused_unordered=round(order.reused_unordered * part),
            row_tokens=round(longer * _row_tokens(call, columns, tuples.column(len(columns)))),
            tokenized=order.tokenized,
        )
        return demand, keys

    def _reducing(self, call: Call, reduction: Reduction, lists: list[str], rows: int) -> Demand:
        """Count the prompts for chunks of the lists, and about those that combine answers."""
        provider = self._engine.opened_provider(self._settings, call)
        window = provider.capabilities.context_window if provider else None
        limit = room(call, reduction, window)
        measured = self._experience(call).measured(call).output
        answer = call.max_tokens if measured is None else max(1, round(measured))
        cut = [first_chunks(text, limit) for text in lists]
        chunks = {chunk for some in cut for chunk in some}
        fresh = self._not_remembered(call, chunks)
        calls = len(chunks)
        tokens = sum(
            instruction_tokens(step_call(call, chunk.step)) + tokens_of(chunk.text)
            for chunk in fresh
        )
        for some in cut:
            # Nothing is new above a list whose parts are all known.
            if not fresh.isdisjoint(some):
                merges = merges_expected(len(some), limit, answer)
                calls += merges
                tokens += merges * instruction_tokens(step_call(call, Step.MERGE))
                tokens += (len(some) + merges - 1) * answer
        return Demand(calls, max(rows, calls), len(chunks) - len(fresh), tokens)

    def _in_rounds(
        self, call: Call, expected: Sequence[tuple[Sequence[Round], float]], rows: int
    ) -> Demand:
        """Estimate the calls that are made in rounds; none is known beforehand.

        expected: kinds of calls, with the characters of one tuple of arguments.
        """
        bind = self._engine.functions.bind
        instructions: dict[int, int] = {}
        calls, most, tokens = 0, 0, 0.0
        for rounds, length in expected:
            for one in rounds:
                kind = id(one.inquiry)  # the same object for every tuple, and it may hold a dict
                if kind not in instructions:
                    asked = asked_call(call, one.inquiry, bind)
                    instructions[kind] = instruction_tokens(asked)
                calls += one.calls
                most += one.most
                shown = one.shown * length / CHARS_PER_TOKEN
                tokens += one.most * (instructions[kind] + shown)
        usual = calls / most if most else 1.0
        return Demand(most, max(rows, most), tokens=round(tokens), usual=usual)

    def _not_remembered(self, call: Call, chunks: set[Chunk]) -> set[Chunk]:
        """Return the chunks that no answer is known of."""
        fresh: set[Chunk] = set()
        for step in Step:
            asked = step_call(call, step)
            some = [chunk for chunk in chunks if chunk.step is step]
            shown = self._engine.shown([pa.array([chunk.text for chunk in some], pa.string())])
            keys = answer_keys(asked, shown, len(some))
            known = self._remembered(asked, keys)
            fresh.update(c for c, key in zip(some, keys, strict=True) if key not in known)
        return fresh

    def _remembered(self, call: Call, keys: list[str]) -> set[str]:
        cache = self._engine.cache_for(call, self._settings)
        question = self._engine.likely_question(call, self._settings, cache)
        return set() if question is None else set(cache.get(question, keys))

    def _answer_tokens(self, ceiling: Ceiling) -> int:
        """Tokens of the answers of other calls that one prompt of this call shows."""
        tokens = 0.0
        for site in ceiling.block.sites:
            if any(uses(arg, {site.column}) for arg in ceiling.site.args):
                output = self._experience(site.call).measured(site.call).output
                tokens += site.call.max_tokens if output is None else output
        return round(tokens)


def _length(values: tuple[str, ...]) -> int:
    return sum(map(len, values))


def _row_tokens(call: Call, columns: list[pa.Array], counts: Any) -> int:
    lengths: Any = pa.nulls(len(counts), pa.int64()).fill_null(0)
    for column in columns:
        lengths = pc.add(lengths, pc.cast(pc.utf8_length(column), pa.int64()))
    rows = pc.sum(counts).as_py() or 0
    characters = pc.sum(pc.multiply(lengths, pc.cast(counts.combine_chunks(), pa.int64()))).as_py()
    return estimated_tokens(call, [], rows) + int((characters or 0) / CHARS_PER_TOKEN)
