"""Inference engines in this process, and the one thread that each of them runs in.

An inference engine batches the prompts that it was given itself: it is given some, and computes
a step for all of them at a time. Engines are not thread-safe, and a step takes as long as the
model does, so nothing but a thread of its own ever touches one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from quackllm.errors import CallError, ProviderError


@dataclass(frozen=True)
class Prompt:
    """What an engine is given.

    messages: of a chat, with `role` and `content`.
    held: what the answer is held to: one member of vLLM's structured outputs, none for a
        free text.
    opened: whether the last message is the beginning of the answer, to go on with.
    logprobs: of how many of the likeliest tokens log-probabilities are wanted.
    """

    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    held: Mapping[str, Any] = field(default_factory=dict)
    opened: bool = False
    logprobs: int = 0


@dataclass(frozen=True)
class Generation:
    """What an engine made of a prompt.

    finish: why it ended: 'stop', 'length', 'error' or 'abort'.
    cached_tokens: prompt tokens that were not computed again; None when it does not say.
    likeliest: tokens that could have been first, with natural log-probabilities.
    """

    text: str
    finish: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    likeliest: Sequence[tuple[str, float]] = ()


class InferenceEngine(Protocol):
    """A model in this process. Every member is used in one thread only, but for `close`.

    window: tokens that prompt and answer may take together.
    block_size: tokens per block of its prefix cache; cache_tokens: what that holds, None when
        unknown; caches_prefixes: whether it is on.
    revision: what changes with the weights behind the name, None when that is not known.
    """

    @property
    def window(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def cache_tokens(self) -> int | None: ...
    @property
    def caches_prefixes(self) -> bool: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def busy(self) -> bool:
        """Whether a prompt that was added has no answer yet."""

    def tokens(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt as the model is given it."""

    def add(self, name: str, prompt: Prompt) -> None:
        """Take a prompt. Raises a `CallError`, or `ValueError` for one that cannot be run."""

    def abort(self, names: Sequence[str]) -> None:
        """Forget prompts, whether they are known or not."""

    def step(self) -> Sequence[tuple[str, Generation]]:
        """Compute one step for all prompts; return those that are answered with it."""

    def close(self) -> None:
        """Free the model."""


class EngineWorker:
    """Runs an engine in a thread of its own, for the tasks of one event loop.

    An engine that fails is not used again: whatever waits for it, and whatever is asked later,
    raises `ProviderError`.
    """

    def __init__(self, engine: InferenceEngine, thread: ThreadPoolExecutor) -> None:
        """Made by `start`."""
        self.engine = engine
        self._thread = thread
        self._names = map(str, count(1))
        self._waiting: dict[str, asyncio.Future[Generation]] = {}
        self._new: deque[tuple[str, Prompt]] = deque()
        self._dropped: deque[str] = deque()
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: str | None = None

    @classmethod
    async def start(cls, build: Callable[[], InferenceEngine]) -> EngineWorker:
        """Build an engine in its thread. Raises what `build` does."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="quackllm-engine")
        building = asyncio.get_running_loop().run_in_executor(thread, build)
        try:
            return cls(await asyncio.shield(building), thread)
        except BaseException:
            building.add_done_callback(_close_unwanted)
            thread.shutdown(wait=False)
            raise

    async def generate(self, prompt: Prompt) -> Generation:
        """Answer a prompt; cancelled, it is forgotten by the engine.

        Raises what `InferenceEngine.add` does, and `ProviderError` once the engine has failed.
        """
        if self._failure is not None:
            raise ProviderError(self._failure)
        name = next(self._names)
        answer: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        self._new.append((name, prompt))
        if self._running is None or self._running.done():
            self._loop = asyncio.get_running_loop()
            self._running = asyncio.ensure_future(self._run())
            self._running.add_done_callback(self._has_ended)
        try:
            return await answer
        finally:
            if self._waiting.pop(name, None) is not None:
                self._dropped.append(name)

    async def tokens(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt, between two turns of the engine."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.engine.tokens, prompt)

    def close(self) -> None:
        """Drop what is not answered, wait for the step that runs, and free the model.

        May be called in any thread.
        """
        self._failure = "the model was closed"
        if self._running is not None and self._loop is not None and not self._running.done():
            self._loop.call_soon_threadsafe(self._running.cancel)
        self._dropped.extend(self._waiting)
        # Not in a thread of its own: while the interpreter ends, none can be started.
        self._thread.shutdown(cancel_futures=True)
        self.engine.close()

    async def _run(self) -> None:
        """Have the engine work until nothing is left to do."""
        loop = asyncio.get_running_loop()
        while self._waiting or self._dropped:
            for name, outcome in await loop.run_in_executor(self._thread, self._turn):
                answer = self._waiting.pop(name, None)
                if answer is None or answer.done():
                    continue
                if isinstance(outcome, Generation):
                    answer.set_result(outcome)
                else:
                    answer.set_exception(outcome)

    def _turn(self) -> list[tuple[str, Generation | CallError | ValueError]]:
        """Take what came in, and step until something is answered or more has come in.

        One turn is many steps: between two of them nothing waits for the event loop.
        """
        outcomes: list[tuple[str, Generation | CallError | ValueError]] = []
        while self._new:
            name, prompt = self._new.popleft()
            try:
                self.engine.add(name, prompt)
            except (CallError, ValueError) as error:
                outcomes.append((name, error))
        if self._dropped:
            self.engine.abort([self._dropped.popleft() for _ in range(len(self._dropped))])
        while self.engine.busy and not (outcomes or self._new or self._dropped):
            outcomes.extend(self.engine.step())
        return outcomes

    def _has_ended(self, running: asyncio.Task[None]) -> None:
        """Tell everybody who waits, when the engine has failed."""
        error = None if running.cancelled() else running.exception()
        if error is None:
            return
        said = str(error).strip().partition("\n")[0]
        self._failure = (
            f"the model in this process failed: {type(error).__name__}: {said}; connect again, "
            "in a new process where its device is out of order"
        )
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(ProviderError(self._failure))


def _close_unwanted(building: asyncio.Future[InferenceEngine]) -> None:
    """Free an engine that nobody waits for any more."""
    if not building.cancelled() and building.exception() is None:
        building.result().close()
