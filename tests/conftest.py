"""What every test may count on."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Take Ctrl-C, here and in the processes that tests start.

    A shell without job control starts what runs in the background with SIGINT ignored, and
    children inherit that; a signal that is handled goes back to its default in them.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
