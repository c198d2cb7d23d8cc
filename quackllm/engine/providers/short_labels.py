"""A label taken from the first token of an answer, where that can begin no other.

A server that holds its answer to a list of labels can only go on with a label that begins
as the answer has begun. Where that is one label, the rest of it and the end of the answer are
known and need not be generated: the answer is the one that the whole would have been.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from quackllm.engine.providers.base import Usage
from quackllm.errors import InvalidAnswer
from quackllm.udfs.base import Choice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from quackllm.engine.providers.base import Reply, Request


def begun(text: str, labels: Sequence[str]) -> str | None:
    """Return the only label that begins with the text; None for several and for none."""
    found = [label for label in labels if label.startswith(text)] if text else []
    return found[0] if len(found) == 1 else None


class ShortLabels:
    """Asks for the first token of a label, and for all of it where that does not decide."""

    def __init__(self, send: Callable[[Request], Awaitable[Reply]]) -> None:
        """Make one for a server that is certain to hold answers to a `Choice`."""
        self._send = send
        self._undecided: set[Choice] = set()

    async def complete(self, request: Request, form: Choice) -> Reply:
        """Answer a request for one of the labels; see `Provider.complete`.

        Labels of which one token has not decided are asked for as a whole from then on.
        """
        if form in self._undecided:
            return await self._send(request)
        usage = Usage()
        try:
            reply = await self._send(replace(request, max_tokens=1))
        except InvalidAnswer:  # a model that reasons has not come to its answer yet
            pass
        else:
            if not reply.truncated:
                return reply
            label = begun(reply.text, form.labels)
            if label is not None:
                return replace(reply, text=label, truncated=False)
            usage = reply.usage
        self._undecided.add(form)
        whole = await self._send(request)
        return replace(whole, usage=usage + whole.usage)
