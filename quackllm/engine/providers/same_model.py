"""Notices that a server answers with another model than the one that was opened.

Who restarts a server may put other weights behind the same name. Its replies look as before,
and a result of two models, or an answer kept as one of the model before, would be wrong.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from quackllm.errors import ModelReplaced

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LONGEST_PAUSE = 5.0
"""Seconds without a reply after which a server may have been started anew."""


class SameModel:
    """Looks at the replies of one server, and asks it what it serves where there is a doubt.

    There is one when no reply came for a while, and when a reply has a fingerprint that is
    new: vLLM writes one of its version and its configuration into each.
    """

    def __init__(
        self,
        name: str,
        revision: str,
        ask: Callable[[], Awaitable[str | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Expect what has just been opened.

        name: model and address, for the error. revision: what the server said of the model.
        ask: returns what it says now, None where that cannot be found out.
        """
        self._name = name
        self._revision = revision
        self._ask = ask
        self._clock = clock
        self._seen = clock()
        self._fingerprints: set[str] = set()
        self._asking = asyncio.Lock()
        self.replaced = False

    async def confirm(self, fingerprint: str | None) -> None:
        """Take note of a reply. Raises `ModelReplaced` when another model has given it."""
        if self._is_doubtful(fingerprint):
            async with self._asking:
                if self._is_doubtful(fingerprint):  # no other reply has asked meanwhile
                    await self._look()
                self._note(fingerprint)
        else:
            self._note(fingerprint)

    def _is_doubtful(self, fingerprint: str | None) -> bool:
        is_new = fingerprint is not None and fingerprint not in self._fingerprints
        was_away = self._clock() - self._seen > LONGEST_PAUSE
        return self.replaced or was_away or (is_new and bool(self._fingerprints))

    def _note(self, fingerprint: str | None) -> None:
        self._seen = self._clock()
        if fingerprint is not None:
            self._fingerprints.add(fingerprint)

    async def _look(self) -> None:
        said = None if self.replaced else await self._ask()
        self.replaced = self.replaced or said not in (None, self._revision)
        if self.replaced:
            raise ModelReplaced(
                f"{self._name} is another model than before: the server was started anew, and "
                "answers of both would be mixed. Run the statement again to ask the new one"
            )
