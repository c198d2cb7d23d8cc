"""A join whose condition is decided by a strategy, when the statement runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quackllm.engine.chunks import CHUNK
from quackllm.engine.embedding import EMBED, Embedded, dimensions, embed
from quackllm.engine.history import PromptReport, StageStats, StrategyReport
from quackllm.engine.joins.batch_prompts import (
    Composer,
    Layout,
    Values,
    ask_several,
    room_for_pairs,
)
from quackllm.engine.joins.blocking import (
    FEWEST_PAIRS,
    Blocked,
    Pairs,
    Texts,
    block,
    is_worth_it,
)
from quackllm.engine.joins.checked import OtherAnswers, sample_size
from quackllm.engine.joins.classification import classify, labels_of
from quackllm.engine.joins.position_bias import position_bias
from quackllm.engine.joins.sides import Fetch, JoinPairs, Side, read_pairs
from quackllm.engine.neighbours import unit
from quackllm.engine.reduction import tokens_of
from quackllm.engine.run import Run
from quackllm.engine.shared_words import word_vectors
from quackllm.engine.stage_answers import StageAnswers, string_columns
from quackllm.errors import ProviderError
from quackllm.optimizer.program import ModelStage, PairSearch
from quackllm.udfs.base import Inquiry
from quackllm.udfs.filter import of_several

MOST_PAIRS = 100_000_000
"""Pairs above which not even their numbers are kept in memory (some 4 GB): all are asked."""
TOO_FEW = "asking every pair costs about as much"
NO_LABELS = "the values of the right side are no labels"
TOO_MANY = f"more than {MOST_PAIRS:,} pairs"
REMEMBERED = "every answer is there already"
LOOKED_UP = 10_000
"""Pairs whose answers are looked up at a time: one that is not there ends it."""


class PairAsker:
    """Decides the condition of one join by its strategy.

    in_rounds: whether not every pair is asked even where the strategy is not taken, because
        rows stop at their first match.
    """

    def __init__(
        self,
        stage: ModelStage,
        answers: StageAnswers,
        run: Run,
        fetch: Fetch,
        *,
        in_rounds: bool = False,
    ) -> None:
        assert stage.search is not None
        self._in_rounds = in_rounds
        self._search: PairSearch = stage.search
        self._call = stage.call
        self._answers = answers
        self._run = run
        self._fetch = fetch

    def ask(self) -> bool:
        """Ask what the strategy asks; False where it is not taken, and the join is exact.

        Raises what `Run.answer` does, and, where blocking was asked for and no embeddings are
        to be had, the reason.
        """
        self._answers.register()
        pairs = read_pairs(self._search, self._fetch, MOST_PAIRS)
        if pairs is None:
            return self._exact(None, TOO_MANY)
        ways = {
            "block": self._blocked,
            "classify": self._classified,
            "batch_prompt": self._batched,
        }
        return ways[self._search.strategy.name](pairs)

    def _exact(self, pairs: JoinPairs | None, reason: str) -> bool:
        if not self._in_rounds:
            sides = (0, 0, 0) if pairs is None else (len(pairs), len(pairs.left), len(pairs.right))
            self._report(StrategyReport("exact", *sides, asked=sides[0], reason=reason))
        return False

    def _report(self, report: StrategyReport) -> None:
        self._stats.strategy = report

    @property
    def _stats(self) -> StageStats:
        return self._run.stage(self._call, self._run.provider(self._call))

    # Blocking

    def _blocked(self, pairs: JoinPairs) -> bool:
        strategy = self._search.strategy
        by_itself = strategy.by_itself
        pays = is_worth_it(len(pairs), len(pairs.left), len(pairs.right))
        few = len(pairs) < FEWEST_PAIRS and strategy.candidates is None
        if few or (by_itself and not pays):
            return self._exact(pairs, TOO_FEW)
        try:
            dimensions(self._run)
        except ProviderError as error:
            if not by_itself:
                raise
            self._run.notify(f"every pair of the join is asked: {error}")
            return self._exact(pairs, "no embeddings are to be had")
        left, right = self._embedded(pairs.left), self._embedded(pairs.right)
        always = left.failed[pairs.at_left] | right.failed[pairs.at_right]
        words = word_vectors(pa.concat_arrays([pairs.left.words, pairs.right.words]))
        cut = len(pairs.left)
        near = Pairs(
            pairs.at_left,
            pairs.at_right,
            Texts(unit(left.vectors), words.part(0, cut)),
            Texts(unit(right.vectors), words.part(cut, len(words))),
            always,
        )
        settings = self._run.settings

        def ask(some: NDArray[np.int64]) -> NDArray[np.bool_]:
            return self._asked(pairs, some)

        target = settings.target_recall
        done = block(near, ask, target, settings.recall_sample, strategy.candidates)
        self._report(_of_blocking(pairs, done, None if strategy.candidates else target))
        return True

    def _embedded(self, side: Side) -> Embedded:
        """Embed a side; where all fields are NULL there is no text, and it is far from others."""
        found = embed(self._run, pa.array(side.texts(), pa.string()))
        self._run.made_for(self._call, self._run.bound(EMBED, {}, {}, ("text",)))
        return found

    def _asked(self, pairs: JoinPairs, some: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Ask the call for pairs; say which of them match. A call that failed is no match."""
        parts = [self._answered(pairs, part) for part in _parts(some)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def _answered(self, pairs: JoinPairs, some: NDArray[np.int64]) -> NDArray[np.bool_]:
        given = self._answers.ask(pairs.tuples(self._search, some))
        return np.array([answer == "true" for answer in given.to_pylist()], bool)

    # Classification

    def _classified(self, pairs: JoinPairs) -> bool:
        labels = labels_of(self._call, self._run.shown(pairs.right.fields))
        if labels is None:
            return self._exact(pairs, NO_LABELS)
        done = classify(self._call, self._search, pairs, labels, self._run)
        for call in done.calls:
            self._run.made_for(self._call, call)
        self._report(self._checked(pairs, done.said, done.asked))
        return True

    def _checked(self, pairs: JoinPairs, said: OtherAnswers, prompts: int) -> StrategyReport:
        """Take what another question said of the pairs, but for a sample that the call decides."""
        size = self._run.settings.recall_sample
        sample = said.sample(sample_size(prompts) if size is None else size)
        exact = self._asked(pairs, np.concatenate([sample.accepted, sample.others, said.left_over]))
        kept = said.kept(sample)
        self._answers.settle(pairs.tuples(self._search, kept), said.texts(kept))
        estimates = said.estimates(sample, exact)
        return StrategyReport(
            self._search.strategy.name,
            len(pairs),
            len(pairs.left),
            len(pairs.right),
            asked=len(exact),
            drawn=len(sample),
            matches=estimates.matches,
            approximate=estimates.approximate,
            target=self._run.settings.target_recall,
            recall=estimates.recall,
            precision=estimates.precision,
            agreement=estimates.agreement,
        )

    # Several pairs in a prompt

    def _batched(self, pairs: JoinPairs) -> bool:
        most = self._run.settings.pairs_per_prompt
        composer = self._composer(pairs, most)
        expected, size = composer.expected_prompts, self._run.settings.recall_sample
        sample = sample_size(expected) if size is None else size
        if expected + min(sample, len(pairs)) >= len(pairs):
            return self._exact(pairs, TOO_FEW)
        if self._remembers(pairs, composer.shown):
            return self._exact(pairs, REMEMBERED)
        # An answer to several pairs takes more tokens than max_tokens gives one.
        call = replace(self._call, max_tokens=self._call.declaration.max_tokens)
        done = ask_several(
            len(pairs),
            composer,
            lambda count: self._question(count, composer.layout),
            self._run.asking(call, redacted=True),
            exhausted=lambda: self._run.budget.reached() is not None,
        )
        told = PromptReport(
            most, composer.layout.value, done.prompts, done.again, position_bias(done.flags)
        )
        self._report(replace(self._checked(pairs, done.said, done.prompts), prompts=told))
        return True

    def _remembers(self, pairs: JoinPairs, shown: NDArray[np.int64]) -> bool:
        """Whether the call's own answers are all there: better ones, and they cost nothing."""
        for some in _parts(shown, LOOKED_UP):
            fields = string_columns(pairs.tuples(self._search, some), len(self._call.fields))
            redacted = self._run.shown(fields)
            if not all(self._run.remembered(self._call, redacted, len(some))):
                return False
        return True

    def _composer(self, pairs: JoinPairs, most: int) -> Composer:
        sides = (pairs.left, self._search.strategy.left), (pairs.right, self._search.strategy.right)
        left, right = (
            Values.of([self._call.fields[at] for at in places], self._run.shown(side.fields))
            for side, places in sides
        )
        declaration = self._question(most, Layout.LEFT).declaration
        question = tokens_of(declaration.instruction)
        window = self._run.provider(self._call).capabilities.context_window
        room = room_for_pairs(window, question, declaration.max_tokens)
        return Composer(pairs, left, right, most, question, room)

    def _question(self, count: int, layout: Layout) -> Inquiry:
        prompt = json.loads(self._call.spec)["constants"].get("prompt")
        shared = layout is not Layout.NEITHER
        return of_several(prompt, self._call.fields, count, shared=shared)


def _of_blocking(pairs: JoinPairs, done: Blocked, target: float | None) -> StrategyReport:
    every = done.asked >= done.pairs
    return StrategyReport(
        "exact" if every else "block",
        done.pairs,
        len(pairs.left),
        len(pairs.right),
        asked=done.asked,
        drawn=done.drawn,
        matches=done.matches,
        depth=done.depth,
        reason=TOO_FEW if every else None,
        approximate=not every,
        target=target,
        recall=done.recall,
    )


def _parts(some: NDArray[np.int64], size: int = CHUNK) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(some), size):
        yield some[start : start + size]
