"""LLM_CLUSTER(text): the topic of each row's text among the topics of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quackllm.clustering.choice import MOST_GROUPS
from quackllm.clustering.directions import unit
from quackllm.errors import BindError
from quackllm.udfs.answers import read_text
from quackllm.udfs.base import (
    Answered,
    Ask,
    Binding,
    CallOf,
    Declaration,
    FreeText,
    Function,
    Joint,
    Kind,
    Option,
    Parameter,
    Round,
    Wanted,
)
from quackllm.udfs.options import one_of, text, whole
from quackllm.udfs.topics import EXAMPLES, NAME, find_topics, name_topics
from quackllm.udfs.vectors import unpacked

MOST_TOPICS = 200

Texts = tuple[str, ...]
"""The JSON text of the one field of a row."""

EXPECTED_TOPICS = 10
"""Topics that are expected where their number is not given."""

HANDED_ON = ("temperature", "seed", "on_error", "on_budget", "cache")
"""Options of the call that hold for every call it makes."""


@dataclass(frozen=True)
class _Plan:
    """How the topics of texts are found: the calls that are made for them.

    k: how many topics at most, None to choose. classifies: whether each text is classified
    among the names, or has that of the nearest centre. asked: options of the calls.
    """

    k: int | None
    classifies: bool
    embedding: CallOf
    asked: Mapping[str, Any]

    def solve(self, tuples: Sequence[Texts], ask: Ask, wanted: Wanted) -> list[Answered]:
        """Return the topic of each text, as `Joint.solve`."""
        ordered = sorted(tuples)
        topics = dict(zip(ordered, self._topics(ordered, ask), strict=True))
        return [topics[each] for each in tuples]

    def _topics(self, tuples: Sequence[Texts], ask: Ask) -> Sequence[Answered]:
        vectors = ask(self.embedding, tuples)
        there = [at for at, vector in enumerate(vectors) if isinstance(vector, str)]
        if not there:
            return vectors
        found = find_topics(unit(np.stack([unpacked(str(vectors[at])) for at in there])), self.k)
        examples = [[tuples[there[at]][0] for at in group] for group in found.examples]
        names = name_topics(examples, ask)
        if self.classifies:
            return self._classified(tuples, names, ask)
        nearest = dict(zip(there, found.labels.tolist(), strict=True))
        return [names[nearest[at]] if at in nearest else each for at, each in enumerate(vectors)]

    def _classified(
        self, tuples: Sequence[Texts], names: Sequence[Answered], ask: Ask
    ) -> Sequence[Answered]:
        """Classify texts. Where a topic has no name, no text can be said to belong to another."""
        missing = [name for name in names if not isinstance(name, str)]
        labels = list(dict.fromkeys(name for name in names if isinstance(name, str)))
        if missing or len(labels) == 1:
            return [missing[0] if missing else labels[0]] * len(tuples)
        return ask(self.classification(labels), tuples)

    def classification(self, labels: Sequence[str]) -> CallOf:
        """Return the calls that classify."""
        return CallOf("llm_classify", {"labels": list(labels)}, self.asked, self.embedding.fields)

    def expected(self, count: int, wanted: Wanted) -> list[Round]:
        """Estimate the calls for so many texts, as `Joint.expected`."""
        topics = min(count, self.k or EXPECTED_TOPICS)
        most = min(count, self.k or MOST_GROUPS)
        rounds = [Round(self.embedding, count, count), Round(NAME, topics, 2 * most, EXAMPLES)]
        if self.classifies and topics > 1:
            labels = [f"name of topic {number}" for number in range(1, topics + 1)]
            rounds.append(Round(self.classification(labels), count, count))
        return rounds


def declare(binding: Binding) -> Declaration:
    """Return the declaration. Raises `BindError` where there is not one argument."""
    if len(binding.fields) != 1:
        raise BindError("it takes one text; put several together: title || ' ' || body")
    options = binding.options
    shared = {name: options[name] for name in HANDED_ON if options[name] is not None}
    if options["default_value"] is not None:
        shared["on_error"] = "null"  # what a failure means is decided for the whole
    asked, embeds = (
        shared if options[name] is None else {**shared, "model": options[name]}
        for name in ("model", "embedding_model")
    )
    plan = _Plan(
        options["k"],
        options["assign"] == "classify",
        CallOf("llm_embed", {}, embeds, binding.fields),
        asked,
    )
    return Declaration(
        instruction=NAME.declaration.instruction,
        returns="VARCHAR",
        answer=FreeText(),
        parse=read_text,
        max_tokens=NAME.declaration.max_tokens,
        joint=Joint(plan.solve, plan.expected),
    )


CLUSTER = Function(
    name="llm_cluster",
    aliases=("ai_cluster",),
    summary="the topic of the text, one of those that the texts of all rows of the SELECT have",
    parameters=(Parameter("text", Kind.VALUE, "the text"),),
    options=(
        Option(
            "k",
            "how many topics there are at most; a number that suits the texts when not set",
            whole(1, MOST_TOPICS),
        ),
        Option(
            "assign",
            "'classify': each text is classified among the names of the topics; 'nearest': it "
            "has the topic of the nearest embeddings, without a call",
            one_of("classify", "nearest"),
            "classify",
        ),
        Option("embedding_model", "the model that embeds, as `model` in LLM_EMBED", text),
    ),
    declare=declare,
    joint=True,
    example="SELECT ticket_id, LLM_CLUSTER(body, k := 10) AS topic FROM tickets",
)
