"""What a provider of model answers is, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quackllm.udfs.base import AnswerForm


@dataclass(frozen=True)
class Capabilities:
    """What the engine may count on.

    dimensions: numbers in an embedding of the model, None for a model that makes none.
    texts_per_request: how many texts to be embedded go into one request; calls that are in
        flight together are put together by the provider.
    constrained: answer forms that decoding is held to: 'choice', 'json_schema'.
    logprobs: answers can carry log-probabilities of the labels.
    calibrated: a choice is made from log-probabilities with the bias of the prompt
        taken off (needs `Request.neutral`).
    tokenizes: the tokens of a prompt can be told before it is sent (`Tokenizes`).
    reports_cached_tokens: `usage.cached_tokens` is the server's own count.
    prefix_granularity: tokens per block of the prefix KV cache (1: any prefix is
        reused), None when it is unknown.
    prefix_minimum: tokens of the shortest prefix that is reused at all.
    cache_tokens: tokens that the prefix KV cache holds, 0 when there is none, None when
        it is unknown.
    kept_prompts: prompts that it holds at most, of whatever length, such as one per slot of
        llama.cpp; None for as many as `cache_tokens` has room for.
    row_first: the model answers as well when the row stands before the question.
    context_window: tokens that prompt and answer may take together, None if unknown.
    concurrency: calls that the provider wants in flight.
    most_concurrency: up to how many it is worth trying when calls go well; None for no
        more than that.
    weights: names the weights of the model exactly, such as a digest of them: answers
        are shared by all places that have the same. None when they are not known; an
        answer is then one of this endpoint, model name and `revision`.
    takes_groups: requests should say which rows share a prefix (`Request.group`).
    revision: what the endpoint says of the model behind the name, and what changes when
        another model is put there; None when nothing.
    """

    dimensions: int | None = None
    texts_per_request: int = 1
    constrained: frozenset[str] = frozenset()
    logprobs: bool = False
    calibrated: bool = False
    tokenizes: bool = False
    reports_cached_tokens: bool = False
    prefix_granularity: int | None = None
    prefix_minimum: int = 0
    cache_tokens: int | None = None
    kept_prompts: int | None = None
    row_first: bool = False
    context_window: int | None = None
    concurrency: int = 16
    most_concurrency: int | None = None
    weights: str | None = None
    revision: str | None = None
    takes_groups: bool = False


@dataclass(frozen=True)
class Rejected:
    """An answer to the same request that could not be used, and what was wrong with it."""

    text: str
    cause: str


@dataclass(frozen=True)
class Request:
    """One call to a model.

    instruction: the fixed text that every row of the call shares; it goes first.
    fields: the row as one JSON object, keys in the order chosen for prefix reuse.
    neutral: the same JSON object without content, for calibration of labels.
    rejected: what the model answered before; it is told why that does not do.
    seed: what randomness starts from, None to leave that to the server.
    row_first: show the row before the instruction; which of the two comes first is no part of
        what is asked.
    group: names the rows that share a long prefix with this one, None where nobody asked.
    shared: characters of `fields` that the rows of the group begin with.
    """

    instruction: str
    fields: str
    answer: AnswerForm
    temperature: float
    max_tokens: int
    neutral: str | None = None
    rejected: Rejected | None = None
    seed: int | None = None
    row_first: bool = False
    group: str | None = None
    shared: int = 0


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply; cached_tokens is None where the provider does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None

    def __add__(self, other: Usage) -> Usage:
        """Return the tokens of both."""
        known = [u.cached_tokens for u in (self, other) if u.cached_tokens is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            sum(known) if known else None,
        )


@dataclass(frozen=True)
class Allowance:
    """What a server says is left of its rate limits; None where it says nothing.

    requests_left, tokens_left: until the reset; requests_reset, tokens_reset: in seconds.
    """

    requests_left: int | None = None
    requests_reset: float | None = None
    tokens_left: int | None = None
    tokens_reset: float | None = None


@dataclass(frozen=True)
class Reply:
    """What the model said, before it is parsed."""

    text: str
    usage: Usage = field(default_factory=Usage)
    truncated: bool = False
    """True when the answer stopped at max_tokens."""
    allowance: Allowance | None = None
    attempts: int = 1
    """How often the call was tried: counted by the engine, and by a provider with its own
    retries."""


@runtime_checkable
class Tokenizes(Protocol):
    """A provider that tells the tokens of a prompt without answering it."""

    async def tokenize(self, request: Request) -> Sequence[int] | None:
        """Return the tokens of the prompt as the model gets it, None where it cannot."""


@runtime_checkable
class Replaceable(Protocol):
    """A provider that notices when its model is no longer there."""

    @property
    def replaced(self) -> bool:
        """Whether the server serves another model now: it has to be opened anew."""


@runtime_checkable
class Provider(Protocol):
    """A source of answers. One instance serves every call to one model at one place.

    `complete` makes one try. It raises a `CallError` when this call failed, with its
    `trouble` set when another try can help, and a `ProviderError` when every call would.
    It is awaited by several tasks of one event loop at once.
    """

    @property
    def model(self) -> str:
        """Name of the model, as `llm_models()` and the answer cache know it."""

    @property
    def endpoint(self) -> str:
        """Where the model runs, without credentials: a URL, 'embedded', 'fake'."""

    @property
    def capabilities(self) -> Capabilities:
        """What this provider can do."""

    async def complete(self, request: Request) -> Reply:
        """Answer one request."""

    async def aclose(self) -> None:
        """Release connections, threads and memory. May be called twice."""
