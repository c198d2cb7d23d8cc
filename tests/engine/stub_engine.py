"""An inference engine without a model: one token per character, one token per step."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quackllm.engine.providers.inference import Generation, Prompt
from quackllm.errors import ContextWindowExceeded


def first_label(prompt: Prompt) -> str:
    """Answer with the first label, a document, or what the row says."""
    if "choice" in prompt.held:
        return str(prompt.held["choice"][0])
    return '{"n":1}' if prompt.held else "said " + prompt.messages[-1]["content"]


@dataclass
class StubEngine:
    """Answers by a function. `threads` holds the threads that have used it, `close` aside.

    fails_at: the number of the step that raises.
    refuses: members of structured outputs that it cannot hold an answer to.
    seconds: of a step.
    """

    answer: Callable[[Prompt], str] = first_label
    window: int = 4096
    block_size: int = 16
    cache_tokens: int | None = 1600
    caches_prefixes: bool = True
    revision: str | None = None
    finish: str | None = None
    likeliest: Callable[[Prompt], list[tuple[str, float]]] | None = None
    fails_at: int | None = None
    refuses: frozenset[str] = frozenset()
    seconds: float = 0.0
    threads: set[int] = field(default_factory=set)
    prompts: list[Prompt] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    most_in_flight: int = 0
    steps: int = 0
    closed: int = 0
    _running: dict[str, tuple[Prompt, str, int]] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def tokens(self, prompt: Prompt) -> list[int]:
        self.threads.add(threading.get_ident())
        return [ord(character) for message in prompt.messages for character in message["content"]]

    def add(self, name: str, prompt: Prompt) -> None:
        length = len(self.tokens(prompt))
        if length + prompt.max_tokens > self.window:
            raise ContextWindowExceeded(f"{length} tokens, the window takes {self.window}")
        if self.refuses & set(prompt.held):
            raise ValueError("no grammar for this")
        self.prompts.append(prompt)
        self._running[name] = prompt, self.answer(prompt), 0
        self.most_in_flight = max(self.most_in_flight, len(self._running))

    def abort(self, names: Sequence[str]) -> None:
        self.aborted += [name for name in names if self._running.pop(name, None)]

    def step(self) -> list[tuple[str, Generation]]:
        self.threads.add(threading.get_ident())
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("CUDA error: an illegal memory access\nand a long explanation")
        time.sleep(self.seconds)
        done = []
        for name, (prompt, text, made) in list(self._running.items()):
            self._running[name] = prompt, text, made + 1
            if made + 1 >= min(len(text), prompt.max_tokens):
                del self._running[name]
                done.append((name, self._generation(prompt, text)))
        return done

    def close(self) -> None:
        self.closed += 1

    def _generation(self, prompt: Prompt, text: str) -> Generation:
        said = text[: prompt.max_tokens]
        listed = self.likeliest(prompt) if self.likeliest and prompt.logprobs else []
        finish = "length" if len(text) >= prompt.max_tokens else "stop"
        length = len(self.tokens(prompt))
        return Generation(said, self.finish or finish, length, len(said), length // 2, listed)


@dataclass
class StubLoader:
    """Makes stub engines as `load_vllm` makes real ones, and keeps what it was asked for."""

    make: Callable[[], StubEngine] = StubEngine
    asked: list[tuple[str, str]] = field(default_factory=list)
    engines: list[StubEngine] = field(default_factory=list)

    def __call__(self, model: str, options: Mapping[str, Any]) -> StubEngine:
        self.asked.append((model, json.dumps(options)))
        self.engines.append(self.make())
        return self.engines[-1]
