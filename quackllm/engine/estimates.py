"""What a planned statement will cost: DuckDB counts, the connection remembers, nobody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from quackllm.engine.catalog import used_parameters
from quackllm.engine.early_stop import FIRST_BATCH
from quackllm.engine.engine import Engine
from quackllm.engine.experience import Experience, experience
from quackllm.engine.history import StatementStats
from quackllm.engine.joins.blocking import FEWEST_PAIRS
from quackllm.engine.joins.expected import Counts, Lengths, Way, advice, taken, ways
from quackllm.engine.joint import asked_call, distinct_tuples
from quackllm.engine.planner import PlannedQuery
from quackllm.engine.providers.base import Capabilities, Provider
from quackllm.engine.reduction import (
    Chunk,
    Step,
    first_chunks,
    merges_expected,
    room,
    step_call,
    tokens_of,
)
from quackllm.engine.row_first import (
    Sending,
    is_wanted,
    question_tokens,
    saved_tokens,
    shown,
)
from quackllm.engine.run import answer_keys
from quackllm.engine.sending_order import estimated_tokens, instruction_tokens
from quackllm.engine.settings import Settings
from quackllm.engine.stage_answers import string_columns
from quackllm.engine.transactions import in_transaction
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.optimizer.cost import (
    Cost,
    Demand,
    Measured,
    Spread,
    cost_at_most,
    cost_expected,
    probability,
    share_until,
    share_until_match,
)
from quackllm.optimizer.guards import uses
from quackllm.optimizer.lower import ceilings
from quackllm.optimizer.plan import Plan, Site
from quackllm.optimizer.program import Ceiling, PairSearch
from quackllm.optimizer.rules.order_predicates import order_predicates
from quackllm.optimizer.sampling import SMALLEST_TABLE
from quackllm.optimizer.sql import conjuncts
from quackllm.udfs.base import Call, Reduction, Round, Wanted
from quackllm.udfs.filter import of_several


@dataclass(frozen=True)
class SearchEstimate:
    """What a join's strategy will work on; `name` is that of the strategy that will run.

    ways: all strategies, with what they are expected to ask.
    """

    name: str
    counts: Counts
    lengths: Lengths
    ways: Sequence[Way]

    @property
    def way(self) -> Way:
        """The strategy that will run."""
        return next(way for way in self.ways if way.name == self.name)


@dataclass(frozen=True)
class StageEstimate:
    """What a stage will cost. demand and costs are None when it cannot be told.

    share: part of the calls that is expected to be made; answers: how many answers that
        rests on, 0 when it is assumed, None when nothing had to be known.
    certain: whether the calls of `demand` are made whatever is answered.
    row_first: whether the row goes before the question, for several questions to share it.
    by_batch: whether the provider's batch API answers, batch_price: part of the price that it
        then costs, None where that is not known.
    search: of a join whose pairs need not all be asked, its pairs and its strategy.
    advice: what would ask less, at a price.
    unordered: `expected`, with the rows sent as they come. per_row: with a call for
        every row, equal ones too. None where that is not known.
    """

    demand: Demand | None = None
    at_most: Cost | None = None
    expected: Cost | None = None
    share: float = 1.0
    answers: int | None = None
    certain: bool = False
    measured: Measured = field(default_factory=Measured)
    row_first: bool = False
    by_batch: bool = False
    batch_price: float | None = None
    search: SearchEstimate | None = None
    advice: str | None = None
    unordered: Cost | None = None
    per_row: Cost | None = None


Estimates = Mapping[int, StageEstimate]
"""By the number of the stage."""


class Estimator:
    """Estimates the stages of planned queries of one statement."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        engine: Engine,
        settings: Settings,
        parameters: Mapping[str, Any],
        running: StatementStats | None = None,
    ) -> None:
        """Make an estimator; `running` is the statement, when samples were asked for it."""
        self._connection = connection
        self._engine = engine
        self._settings = settings
        self._parameters = parameters
        self._may_fail = True
        self._paid = Counter[str]()
        for spec, stage in running.stages.items() if running else ():
            self._paid[spec] = stage.calls

    def stages(self, planned: PlannedQuery) -> Estimates:
        """Estimate every stage of a plan. Calls no model and opens no provider."""
        plan = planned.plan
        if plan is None:
            return {}
        self._may_fail = not in_transaction(self._connection)
        asked: dict[tuple[str, str | None], set[str]] = {}
        estimates: dict[int, StageEstimate] = {}
        stops: dict[int, float] = {}
        all_of_them = ceilings(plan)
        in_front = _InFront(self._settings, [each.site for each in all_of_them])
        for ceiling in all_of_them:
            block, call = ceiling.block, ceiling.site.call
            question = call.identity, call.model
            share, answers = self._reach(ceiling)
            search = self._search(ceiling)
            exact = search is None or search.name == "exact"
            if search is None or exact:
                demand, keys = self._demand(ceiling, asked.get(question, set()))
            else:
                demand, keys = _of_pairs(search), []
                share *= min(1.0, search.way.calls / max(1, demand.tuples))
                answers = 0 if answers is None else answers
            if block.number not in stops:
                stops[block.number] = self._stop(plan, ceiling, demand)
            partner = self._first_partner(plan, ceiling, demand) if exact else 1.0
            stop = min(stops[block.number], partner)
            share *= stop
            if stop < 1:
                answers = min([self._seen(ceiling)] + ([] if answers is None else [answers]))
            if share == 1:
                asked.setdefault(question, set()).update(keys)
            counted = (
                demand is not None and demand.tokens is not None and None not in ceiling.columns
            )
            whole = call.declaration.is_one_call  # else a guess
            all_asked = block.stop_after is None and not block.partners
            certain = counted and whole and answers is None and all_asked
            provider = self._engine.opened_provider(self._settings, call)
            demand, row_first = in_front.demand(call, demand, provider)
            estimate = self._estimate(call, demand, share, answers)
            if search is not None and search.name == "batch_prompt":
                estimate = self._of_prompts(call, search, estimate)
            estimates[ceiling.number] = replace(
                estimate,
                certain=certain,
                row_first=row_first,
                by_batch=self._settings.sends_by_batch(call),
                batch_price=self._engine.batch_price(self._settings, call),
                search=search,
                advice=self._advice(plan, ceiling, demand),
            )
        return estimates

    def _experience(self, call: Call) -> Experience:
        provider = self._engine.opened_provider(self._settings, call)
        return experience(self._engine.history, provider)

    def _estimate(
        self, call: Call, demand: Demand | None, share: float, answers: int | None
    ) -> StageEstimate:
        if demand is None:
            return StageEstimate(share=share, answers=answers)
        measured = self._experience(call).measured(call)
        price = self._engine.price(self._settings, call)
        limit = call.max_tokens
        expected = cost_expected(demand, share, limit, measured, price)
        unordered = replace(demand, reused=demand.reused_unordered)
        per_row = None
        if demand.rows is not None and demand.row_tokens is not None and demand.tokens is not None:
            again = demand.row_tokens - demand.tokens  # a prompt sent again is reused whole
            rows = Demand(
                demand.rows, demand.rows, 0, demand.row_tokens, (demand.reused or 0) + max(again, 0)
            )
            per_row = cost_expected(rows, share, limit, measured, price)
        return StageEstimate(
            demand=demand,
            at_most=cost_at_most(demand, limit, measured, price),
            expected=expected,
            share=share,
            answers=answers,
            measured=measured,
            unordered=cost_expected(unordered, share, limit, measured, price),
            per_row=per_row,
        )

    def _of_prompts(
        self, call: Call, search: SearchEstimate, estimate: StageEstimate
    ) -> StageEstimate:
        """Tell what prompts for several pairs cost: not what a part of those for one would."""
        assert estimate.demand is not None
        way, measured = search.way, estimate.measured
        price = self._engine.price(self._settings, call)
        most = self._settings.pairs_per_prompt
        longest = of_several(None, call.fields, most, shared=True).declaration.max_tokens
        alone = way.calls - way.several
        answers = (way.several * longest + alone * call.max_tokens) // max(1, way.calls)
        reached = estimate.share * estimate.demand.tuples / max(1, way.calls)
        demand = Demand(way.calls, search.counts.pairs, tokens=way.tokens)
        return replace(
            estimate,
            at_most=cost_at_most(estimate.demand, longest, measured, price),
            expected=cost_expected(demand, min(1.0, reached), answers, measured, price),
        )

    # How many rows reach a call

    def _spreads(self, ceiling: Ceiling) -> dict[str, Spread]:
        return {
            site.column: self._experience(site.call).spread(site.call)
            for site in ceiling.block.sites
        }

    def _reach(self, ceiling: Ceiling) -> tuple[float, int | None]:
        """Share of the tuples that reach a call, and the answers that this rests on.

        A joint call is about all of them as soon as one row reaches it.
        """
        if ceiling.site.is_joint:
            return 1.0, None
        spreads = self._spreads(ceiling)
        share, answers = 1.0, None
        for guard in ceiling.site.guards:
            used = [spread for column, spread in spreads.items() if uses(guard, {column})]
            if used:
                share *= probability(guard, spreads)
                answers = min([s.seen for s in used] + ([] if answers is None else [answers]))
        return share, answers

    def _seen(self, ceiling: Ceiling) -> int:
        return min(spread.seen for spread in self._spreads(ceiling).values())

    def _stop(self, plan: Plan, ceiling: Ceiling, demand: Demand | None) -> float:
        """Share of a block's tuples that are asked before it stops."""
        block = ceiling.block
        if block.stop_after is None or demand is None or demand.rows is None:
            return 1.0
        if block.keys or block.counts or block.limited:  # how many rows count is not known here
            return 1.0
        where = plan.select_of(block).args.get("where")
        passing = self._passing(ceiling, where.this if where else None)
        return share_until(block.stop_after, passing, demand.tuples, demand.rows, FIRST_BATCH)

    def _passing(self, ceiling: Ceiling, condition: exp.Expr | None) -> float:
        """Share of the rows of a block whose answers fulfil a condition."""
        spreads = self._spreads(ceiling)
        passing = 1.0
        for part in conjuncts(condition):
            if uses(part, set(spreads)):
                passing *= probability(part, spreads)
        return passing

    def _first_partner(self, plan: Plan, ceiling: Ceiling, demand: Demand | None) -> float:
        """Share of the pairs of a join that are asked before each row has its first match."""
        block = ceiling.block
        partners = block.partners_by(ceiling.site)
        if partners is None or ceiling.partners is None or demand is None or not demand.rows:
            return 1.0
        counted = self._counted(f"SELECT count(*) FROM ({ceiling.partners})")
        if counted is None:
            return 1.0
        condition = partners.condition(plan.select_of(block))
        rows = max(1, counted.column(0)[0].as_py())
        passing, pairs_of_each = self._passing(ceiling, condition), demand.rows / rows
        share = share_until_match(passing, pairs_of_each)
        if partners.stop_after is None:
            return share
        matching = 1 - (1 - passing) ** pairs_of_each
        return share * share_until(partners.stop_after, matching, rows, rows, FIRST_BATCH)

    # How many tuples there are

    def _demand(self, ceiling: Ceiling, asked: set[str]) -> tuple[Demand | None, list[str]]:
        """Count a stage's tuples; also return their keys, where they are known.

        asked: keys of tuples that an earlier stage asks the same question for.
        """
        call = ceiling.site.call
        tuples = None if ceiling.sql is None else self._counted(ceiling.sql)
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

    def _search(self, ceiling: Ceiling) -> SearchEstimate | None:
        """Count the pairs of a join that a strategy decides; None where that fails."""
        search = ceiling.search
        if search is None:
            return None
        queries = (search.pairs, search.left, search.right)
        found = [self._counted(f"SELECT count(*) FROM ({sql})") for sql in queries]
        numbers = [table.column(0)[0].as_py() for table in found if table is not None]
        if len(numbers) < len(queries):
            return None
        pairs, left, right = numbers
        counts = Counts(pairs, left, right, search.strategy.candidates)
        lengths, settings = self._lengths(ceiling.site.call, search), self._settings
        known = ways(counts, lengths, settings.pairs_per_prompt, settings.recall_sample)
        return SearchEstimate(taken(search.strategy, counts, known), counts, lengths, known)

    def _lengths(self, call: Call, search: PairSearch) -> Lengths:
        """Say how long the question and the values of a join are."""
        lengths = []
        sides = (search.left, search.strategy.left), (search.right, search.strategy.right)
        for sql, fields in sides:
            sums = " + ".join(f"avg(length(c{at}))" for at in range(len(fields)))
            mean = self._counted(f"SELECT {sums} FROM ({sql})")
            lengths.append((mean.column(0)[0].as_py() or 0) if mean is not None else 0)
        left, right = (length / CHARS_PER_TOKEN for length in lengths)
        return Lengths(estimated_tokens(call, [], 1), left, right)

    def _advice(self, plan: Plan, ceiling: Ceiling, demand: Demand | None) -> str | None:
        """Say what would ask less than every pair of a join, where that is to be seen."""
        site, select = ceiling.site, plan.select_of(ceiling.block)
        of_join = bool(select.args.get("joins")) and site.clause in ("where", "on")
        if not of_join or site.call.function != "llm_filter" or len(site.args) != 2:
            return None
        if ceiling.search is not None or demand is None or ceiling.sql is None:
            return None
        if demand.tuples < FEWEST_PAIRS or None in ceiling.columns:
            return None
        facts = self._counted(
            "SELECT count(DISTINCT f0), count(DISTINCT f1), max(length(f1)) - 2 "
            f"FROM ({ceiling.sql})"
        )
        if facts is None:
            return None
        left, right, longest = (facts.column(at)[0].as_py() for at in range(3))
        return advice(Counts(demand.tuples, left, right), longest)

    def _counted(self, sql: str) -> pa.Table | None:
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


class _InFront:
    """Which questions of a statement show the row first, as `row_first.RowsInFront` decides it."""

    def __init__(self, settings: Settings, sites: Sequence[Site]) -> None:
        self._asked = [(site.call, bool(site.guards)) for site in sites]
        self._settings = settings
        self._shown: set[object] = set()

    def demand(
        self, call: Call, demand: Demand | None, provider: Provider | None
    ) -> tuple[Demand | None, bool]:
        """Return the demand of a call with what is then reused, and whether its row is first."""
        can = provider.capabilities if provider else Capabilities()
        if demand is None or demand.tokens is None or demand.reused is None:
            return demand, False
        if not is_wanted(self._settings, can):
            return demand, False
        calls, own = demand.tuples - demand.remembered, question_tokens(call)
        sending = Sending(calls, demand.tokens, demand.reused, can)
        if shown(call) in self._shown:
            return replace(demand, reused=max(demand.reused, sending.reused_by_later(own))), True
        if saved_tokens(call, self._asked, sending) <= 0:
            return demand, False
        self._shown.add(shown(call))
        return replace(demand, reused=sending.reused_by_first(own)), True


def undecided(planned: PlannedQuery, estimates: Estimates, settings: Settings) -> bool:
    """Whether a sample may still change the order of predicates when the statement runs."""
    if planned.plan is None or order_predicates.__name__ in settings.disabled_rules:
        return False
    stages = {ceiling.number: ceiling for ceiling in ceilings(planned.plan)}
    for block in planned.plan.blocks:
        asked = [
            estimate.demand.tuples
            for number, estimate in estimates.items()
            if stages[number].block.number == block.number
            and stages[number].site.clause == "where"
            and estimate.demand is not None
        ]
        if len(asked) > 1 and max(asked) >= SMALLEST_TABLE:
            return True
    return False


def _of_pairs(search: SearchEstimate) -> Demand:
    """Say what deciding the pairs of a join asks at most; no key is known beforehand.

    That is every pair, and where several pairs in a prompt are never answered, as many prompts
    again: those that are cut in halves until single pairs are left.
    """
    pairs, lengths = search.counts.pairs, search.lengths
    if search.name != "batch_prompt":
        return Demand(pairs, pairs, tokens=round(pairs * lengths.pair))
    return Demand(2 * pairs, 2 * pairs, tokens=round(2 * pairs * lengths.pair))


def _length(values: tuple[str, ...]) -> int:
    return sum(map(len, values))


def _row_tokens(call: Call, columns: list[pa.Array], counts: Any) -> int:
    lengths: Any = pa.nulls(len(counts), pa.int64()).fill_null(0)
    for column in columns:
        lengths = pc.add(lengths, pc.cast(pc.utf8_length(column), pa.int64()))
    rows = pc.sum(counts).as_py() or 0
    characters = pc.sum(pc.multiply(lengths, pc.cast(counts.combine_chunks(), pa.int64()))).as_py()
    return estimated_tokens(call, [], rows) + int((characters or 0) / CHARS_PER_TOKEN)
