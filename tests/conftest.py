"""What every test may count on: an interrupt arrives, the user's own answers stay alone."""

from __future__ import annotations

import os
import signal

from quackllm.engine.cache.places import IN_MEMORY, VARIABLE


def pytest_configure() -> None:
    """Prepare this process and, through it, those that tests start."""
    # Nothing is read from, and nothing written to, the user's own answers.
    os.environ[VARIABLE] = IN_MEMORY
    # A shell without job control starts what runs in the background with SIGINT ignored, and
    # children inherit that; a signal that is handled goes back to its default in them.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
