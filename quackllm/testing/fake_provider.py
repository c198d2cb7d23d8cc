"""A provider without a model: answers that depend on the question alone."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from quackllm.engine.providers.base import Capabilities, Reply, Request, Usage
from quackllm.engine.providers.text_batches import text_of
from quackllm.errors import CallError, InvalidAnswer, ProviderError
from quackllm.testing.documents import document
from quackllm.testing.rules import ArmedRule, Rule, question_hash
from quackllm.udfs.base import Choice, Embedding, FreeText, JsonAnswer, Number
from quackllm.udfs.vectors import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from quackllm.engine.providers.config import ProviderConfig

DIMENSIONS = 16
"""Numbers in the embeddings that the fakes make."""

NONSENSE = "%% not an answer %%"
"""What an injected `InvalidAnswer` makes the fake say: no label, and no JSON."""


@dataclass(frozen=True)
class Fault(Rule):
    """A rule that makes calls of a `FakeProvider` fail.

    error: the class to raise: a `CallError` for the row, a `ProviderError` for the
        statement. `InvalidAnswer` is not raised: the fake answers `NONSENSE`, which
        the function's parser has to refuse (free text, where nothing is invalid,
        excepted).
    """

    error: type[CallError] | type[ProviderError]


class FakeProvider:
    """A `Provider` for tests: no model, no network, the same answers every time.

    Without `answer`, the text is drawn from a hash of the seed, the instruction and
    the fields (whose order does not matter), in the form that the request asks for:
    one of the labels, a number of the range, a JSON document valid for the schema, a vector
    of length 1, or a few
    words.

    seed: another seed gives other answers.
    answer: a function of the request that gives the text instead, or a whole `Reply`;
        it may raise a `CallError` or a `ProviderError`.
    faults: rules, tried in order; the first that hits decides.
    latency: seconds that every call takes; 0 answers without suspending.
    keep: number of latest requests kept in `requests`.

    `calls` counts the requests received, `most_in_flight` the largest number of them
    that were being answered at once, `closed` tells whether `aclose` has run.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        answer: Callable[[Request], str | Reply] | None = None,
        faults: Sequence[Fault] = (),
        latency: float = 0.0,
        capabilities: Capabilities | None = None,
        model: str = "fake",
        keep: int = 1000,
    ) -> None:
        self._seed = seed
        self._answer = answer
        self._faults = tuple(
            ArmedRule(rule, f"fault {position} {seed}") for position, rule in enumerate(faults)
        )
        self._latency = latency
        self._capabilities = capabilities or Capabilities(
            constrained=frozenset({"choice", "json_schema"}), dimensions=DIMENSIONS
        )
        self._model = model
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False
        self.requests: deque[Request] = deque(maxlen=keep)

    @property
    def model(self) -> str:
        """Name of the model that is not there."""
        return self._model

    @property
    def endpoint(self) -> str:
        """'fake'."""
        return "fake"

    @property
    def capabilities(self) -> Capabilities:
        """What was given to the constructor; by default every constraint is kept."""
        return self._capabilities

    async def complete(self, request: Request) -> Reply:
        """Answer, or fail as the rules say."""
        self.calls += 1
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._latency:
                await asyncio.sleep(self._latency)
            text = self._say(request)
        finally:
            self.in_flight -= 1
        if isinstance(text, Reply):
            return text
        return Reply(text, estimated_usage(request, text))

    async def aclose(self) -> None:
        """Remember that it was called."""
        self.closed = True

    def _say(self, request: Request) -> str | Reply:
        for fault in self._faults:
            if fault.hits(request, self.calls):
                return _fail(fault.rule, request)
        if self._answer is not None:
            return self._answer(request)
        return deterministic_answer(request, self._seed)


def deterministic_answer(request: Request, seed: int = 0) -> str:
    """Return the text that `FakeProvider(seed=seed)` answers to a request."""
    form = request.answer
    if isinstance(form, Embedding):  # the text alone counts, not what it is called
        named = replace(request, fields=json.dumps({"text": text_of(request.fields)}))
        number = question_hash(named, f"answer {seed}")
        return packed(_direction(number, form.dimensions or DIMENSIONS))
    number = question_hash(request, f"answer {seed}")
    if isinstance(form, Choice):
        return form.labels[number % len(form.labels)]
    if isinstance(form, Number):
        scores = {"type": "number", "minimum": form.low, "maximum": form.high}
        return json.dumps(document(scores, random.Random(number)))
    if isinstance(form, JsonAnswer):
        return json.dumps(document(form.as_dict(), random.Random(number)), ensure_ascii=False)
    return f"answer {number:016x}"


def _direction(number: int, dimensions: int) -> NDArray[np.float32]:
    """Return a vector (dimensions,) of length 1, evenly spread over all directions."""
    vector = np.random.Generator(np.random.PCG64(number)).standard_normal(dimensions, np.float32)
    return vector / np.linalg.norm(vector)


def _fail(rule: Fault, request: Request) -> str:
    if rule.error is InvalidAnswer and not isinstance(request.answer, FreeText):
        return NONSENSE
    raise rule.error(f"injected by quackllm.testing: {rule.error.__name__}")


def estimated_usage(request: Request, text: str) -> Usage:
    """Estimate tokens at four characters each."""
    prompt = (len(request.instruction) + len(request.fields)) // 4 + 1
    if isinstance(request.answer, Embedding):
        return Usage(prompt_tokens=prompt)
    return Usage(prompt_tokens=prompt, completion_tokens=len(text) // 4 + 1)


async def open_fake(config: ProviderConfig) -> FakeProvider:
    """Open the provider 'fake' of the entry-point group."""
    return FakeProvider(model=config.model or "fake")
