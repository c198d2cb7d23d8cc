"""Ctrl-C, wherever in DuckDB a statement waits for its calls."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def ended_by_keyboard(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` when Ctrl-C is pressed, and raise `KeyboardInterrupt` then, whatever is raised.

    DuckDB runs our scalar function in threads of its own, which no signal reaches, and
    waits for them; what is raised in it comes back as an error of DuckDB. Nothing changes
    outside the main thread, and where Ctrl-C does not do what Python has it do.
    """
    python_s = signal.default_int_handler
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not python_s:
        yield
        return
    pressed = False

    def on_signal(_: int, __: FrameType | None) -> NoReturn:
        nonlocal pressed
        pressed = True
        end()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    except Exception:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, python_s)
