"""What the strategies of the joins of a planned statement will work on: DuckDB counts pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from quackllm.engine.joins.blocking import FEWEST_PAIRS
from quackllm.engine.joins.expected import Counts, Lengths, Way, taken, ways
from quackllm.engine.joins.expected import advice as advice_for
from quackllm.engine.sending_order import estimated_tokens
from quackllm.engine.settings import Settings
from quackllm.kvcache_reorder.encode import CHARS_PER_TOKEN
from quackllm.optimizer.cost import Demand
from quackllm.optimizer.plan import Plan
from quackllm.optimizer.program import Ceiling, PairSearch
from quackllm.udfs.base import Call


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

    @property
    def demand(self) -> Demand:
        """What deciding the pairs asks at most; no key is known beforehand.

        That is every pair, and where several pairs in a prompt are never answered, as many
        prompts again: those that are cut in halves until single pairs are left.
        """
        pairs, lengths = self.counts.pairs, self.lengths
        if self.name != "batch_prompt":
            return Demand(pairs, pairs, tokens=round(pairs * lengths.pair))
        return Demand(2 * pairs, 2 * pairs, tokens=round(2 * pairs * lengths.pair))


class JoinEstimates:
    """Counts the pairs of the joins of one statement."""

    def __init__(self, counted: Callable[[str], pa.Table | None], settings: Settings) -> None:
        """Make one; `counted` runs a query that counts and gives None when it fails."""
        self._counted = counted
        self._settings = settings

    def search(self, ceiling: Ceiling) -> SearchEstimate | None:
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

    def advice(self, plan: Plan, ceiling: Ceiling, demand: Demand | None) -> str | None:
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
        return advice_for(Counts(demand.tuples, left, right), longest)
