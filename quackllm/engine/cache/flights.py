"""Which answers the threads of this process are asking for."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock


class Flights:
    """Claims of one process: the digest of an answer → who asks for it."""

    def __init__(self) -> None:
        self._claimants: dict[bytes, object] = {}
        self._lock = Lock()

    def claim(self, digests: Iterable[bytes], claimant: object) -> set[bytes]:
        """Claim what nobody else has claimed; return what is the claimant's now."""
        with self._lock:
            holders = self._claimants
            return {d for d in digests if holders.setdefault(d, claimant) is claimant}

    def end(self, digests: Iterable[bytes], claimant: object = None) -> list[bytes]:
        """End claims, of the claimant only when one is given; return those that there were."""
        ended = []
        with self._lock:
            for digest in digests:
                holder = self._claimants.get(digest)
                if holder is not None and (claimant is None or holder is claimant):
                    del self._claimants[digest]
                    ended.append(digest)
        return ended
