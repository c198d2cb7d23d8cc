"""Chooses labels from log-probabilities, for models that are too small to be asked plainly.

One forward pass over a prompt that is opened with `OPENING` gives the distribution of the
answer's first token; what the same prompt says of a row without content is taken off
(see `calibration`). Where that cannot decide, there is no answer here and the label has to be
generated.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quackllm.engine.providers.base import Reply, Usage
from quackllm.engine.providers.calibration import (
    Distribution,
    can_tell_apart,
    label_scores,
    likeliest,
    unseen,
    without_content,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from quackllm.engine.providers.base import Request
    from quackllm.udfs.base import Choice

    FirstTokens = Callable[[Request, Choice], Awaitable[tuple[Distribution, Usage]]]

OPENING = "Label:"
"""How the answer is opened: without it small models begin to chat."""

SMALL = 1e9
"""Parameters below which a model's labels are calibrated when nothing is set."""

OPENED_LOGPROBS = 20
"""Tokens of a distribution: as many as vLLM lists unless it was started to list more."""

_REMEMBERED_BASELINES = 1024
_SIZE = re.compile(r"(?<![\d.a-z])(?:\d+x)?(\d+(?:\.\d+)?)([mb])(?![a-z])")


def is_small(*names: str | None) -> bool:
    """Tell whether a name of the model says that it has fewer parameters than `SMALL`.

    Such as 'smollm2-135m-instruct' and 'Qwen/Qwen3-0.6B'; the first size named counts.
    """
    for name in names:
        found = _SIZE.search((name or "").casefold())
        if found is not None:
            return float(found[1]) * (1e6 if found[2] == "m" else 1e9) < SMALL
    return False


def opened_answer(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request to vLLM for the first token of an opened answer."""
    messages = [*body["messages"], {"role": "assistant", "content": OPENING}]
    return {
        **body,
        "messages": messages,
        "add_generation_prompt": False,
        "continue_final_message": True,
        "logprobs": True,
        "top_logprobs": OPENED_LOGPROBS,
    }


def labels_after_opening(form: Choice) -> tuple[str, ...]:
    """Return the labels as they go on behind `OPENING`."""
    return tuple(f" {label}" for label in form.labels)


class CalibratedLabels:
    """Answers a `Choice` by the label that the row made likelier than no row does.

    held: whether first tokens come from a distribution held to the labels, in which
        each label has its share. One that is missing then cannot be read: its token is
        a part of a character, or one of more than the server lists.
    """

    def __init__(self, first_tokens: FirstTokens, *, held: bool) -> None:
        self._first_tokens = first_tokens
        self._held = held
        self._baselines: dict[tuple[str, ...], Sequence[float] | None] = {}
        self._asking: defaultdict[tuple[str, ...], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def complete(self, request: Request, form: Choice) -> Reply | None:
        """Answer a request; None when its labels cannot be told apart in this way.

        The tokens of the question about no row count for the row that had it asked.
        """
        if request.neutral is None or request.rejected is not None or request.temperature != 0:
            return None
        if not can_tell_apart(form.labels):
            return None
        baseline, asked = await self._baseline(request, form, without_content(request.neutral))
        if baseline is None:
            return None
        tokens, usage = await self._first_tokens(request, form)
        scores = label_scores(tokens, form.labels)
        if scores is None:
            return None
        return Reply(likeliest(scores, baseline, form.labels), usage + asked)

    async def _baseline(
        self, request: Request, form: Choice, empty: str
    ) -> tuple[Sequence[float] | None, Usage]:
        """Return the scores of the labels for a row without content, asked for once."""
        key = (str(request.row_first), request.instruction, empty, *form.labels)
        usage = Usage()
        if key not in self._baselines:
            async with self._asking[key]:
                if key not in self._baselines:
                    tokens, usage = await self._first_tokens(replace(request, fields=empty), form)
                    self._remember(key, self._scores(tokens, form))
            self._asking.pop(key, None)
        return self._baselines.get(key), usage

    def _scores(self, tokens: Distribution, form: Choice) -> Sequence[float] | None:
        if self._held and unseen(tokens, form.labels):
            return None
        return label_scores(tokens, form.labels)

    def _remember(self, key: tuple[str, ...], scores: Sequence[float] | None) -> None:
        if len(self._baselines) >= _REMEMBERED_BASELINES:
            self._baselines.clear()
        self._baselines[key] = scores
