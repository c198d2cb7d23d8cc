"""A thread with an event loop, for calling async code from DuckDB's blocking world."""

from __future__ import annotations

import asyncio
import threading
import weakref
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from quackllm.errors import QuackLLMError, StatementCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")

# A wait without a timeout cannot be interrupted from the keyboard on Windows.
_WAKE_UP_SECONDS = 1.0


INTERRUPTED = "Interrupted: the statement was cancelled; answers that had arrived are kept"


class Interruption:
    """The end of one statement's waiting, asked for from another thread, once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may ask while its thread holds it
        self._asked = False
        self._cancel: Callable[[], None] | None = None

    @property
    def asked(self) -> bool:
        """Whether the statement is to end."""
        return self._asked

    def ask(self) -> None:
        """End what is waited for now; whatever would be waited for later ends at once."""
        with self._lock:
            self._asked = True
            cancel = self._cancel
        if cancel is not None:
            cancel()

    def watch(self, cancel: Callable[[], None]) -> None:
        """Have `cancel` called when the end is asked for, or has been."""
        with self._lock:
            self._cancel = cancel
            asked = self._asked
        if asked:
            cancel()

    def unwatch(self) -> None:
        """Forget what was watched: it has ended."""
        with self._lock:
            self._cancel = None


class LoopThread:
    """One background thread with an event loop, owned by one connection.

    The thread starts with the first `run` and ends with `close`, or when its owner
    is collected. The caller may itself be inside a running event loop (a notebook):
    the coroutine runs in the other thread, and the caller's loop waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: weakref.finalize[..., LoopThread] | None = None
        self._closed = False

    def run(
        self, coroutine: Coroutine[Any, Any, _T], interruption: Interruption | None = None
    ) -> _T:
        """Run the coroutine in the thread and return its result.

        May be called from several threads at once. When the waiting thread is
        interrupted (`KeyboardInterrupt`), the coroutine is cancelled and awaited, and
        then the interrupt goes on. Raises `StatementCancelled` when the thread is
        closed or the interruption asked for meanwhile, and what the coroutine raises.
        """
        call: _Call[_T] | None = None
        try:
            # An interrupt may come between any two steps: it finds the call below.
            call = _Call(self._running_loop(), coroutine)
            if interruption is not None:
                interruption.watch(call.cancel)
            call.start()
            call.wait()
        except BaseException:
            if call is None:
                coroutine.close()
            else:
                call.cancel()
                call.wait()
            raise
        finally:
            if interruption is not None:
                interruption.unwatch()
        return call.result(interrupted=interruption is not None and interruption.asked)

    def close(self) -> None:
        """Cancel what runs, await it, and end the thread. May be called twice.

        Called from the thread itself, it cannot wait for the end of the thread.
        """
        with self._lock:
            self._closed = True
            thread, stop = self._thread, self._stop
            self._thread = self._loop = self._stop = None
        if stop is not None:
            stop()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise QuackLLMError("Connection Error: the connection has been closed already")
            if self._thread is threading.current_thread():
                raise RuntimeError("LoopThread.run called from its own event loop: use await")
            if self._loop is None:
                started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
                # The thread holds no reference to self, so that self can be collected.
                self._thread = threading.Thread(
                    target=_serve, args=(started,), name="quackllm-calls", daemon=True
                )
                self._thread.start()
                self._loop, stop = started.result()
                self._stop = weakref.finalize(self, _request_stop, self._loop, stop)
            return self._loop


class _Call(Generic[_T]):
    """A coroutine on its way through a loop of another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[_T] | None = None
        self._ended = threading.Event()
        self._dropped = False

    def start(self) -> None:
        """Have the loop begin the coroutine, unless its end was asked for already."""
        try:
            self._loop.call_soon_threadsafe(self._start)
        except RuntimeError:  # the loop was closed between look-up and use
            self._drop()

    def wait(self) -> None:
        """Block until the coroutine has ended, however it ended."""
        while not self._ended.wait(_WAKE_UP_SECONDS):
            if self._loop.is_closed():
                self._drop()  # closed while our start was still in its queue

    def cancel(self) -> None:
        """Ask for the end of the coroutine; `wait` tells when it came."""
        with suppress(RuntimeError):  # a closed loop has cancelled its tasks already
            self._loop.call_soon_threadsafe(self._cancel)

    def result(self, *, interrupted: bool) -> _T:
        """Return the result or raise the error of an ended coroutine."""
        if self._dropped or self._task is None or self._task.cancelled():
            if interrupted:
                raise StatementCancelled(INTERRUPTED)
            raise StatementCancelled("Interrupted: the connection was closed while calls ran")
        return self._task.result()

    def _start(self) -> None:
        if self._dropped:
            return
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._ended.set())

    def _cancel(self) -> None:
        if self._task is None:
            self._drop()
        else:
            self._task.cancel()

    def _drop(self) -> None:
        if self._ended.is_set():
            return
        self._coroutine.close()
        self._dropped = True
        self._ended.set()


def _serve(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Thread body: an event loop until it is asked to stop; leaving cancels all tasks."""

    async def until_stopped() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    with asyncio.Runner() as runner:
        runner.run(until_stopped())


def _request_stop(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)
