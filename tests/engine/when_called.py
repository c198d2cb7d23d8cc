"""Something that happens to a server in the middle of a statement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class CountsCalls(Protocol):
    """A server that counts what it is asked."""

    calls: int


def when_called(server: CountsCalls, times: int, act: Callable[[], None]) -> threading.Thread:
    """Act, in a thread, once a server has been asked so many times."""

    def run() -> None:
        while server.calls < times:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
