"""The thread with the event loop: usable from anywhere, interruptible, gone when closed."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from quackllm.engine.loop import Interruption, LoopThread
from quackllm.errors import QuackLLMError, StatementCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    LoopThreads = Callable[[], int]


@pytest.fixture
def loop_threads() -> LoopThreads:
    """How many such threads there are, besides those that other tests have left to be collected."""
    others = set(threading.enumerate())

    def count() -> int:
        here = set(threading.enumerate()) - others
        return sum(thread.name == "quackllm-calls" for thread in here)

    return count


@pytest.fixture
def loop(loop_threads: LoopThreads) -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()
    assert loop_threads() == 0


async def double(number: int, seconds: float = 0.0) -> int:
    await asyncio.sleep(seconds)
    return 2 * number


def test_it_starts_with_the_first_call_and_leaves_no_thread(
    loop: LoopThread, loop_threads: LoopThreads
) -> None:
    assert loop_threads() == 0
    assert loop.run(double(21)) == 42
    assert loop.run(double(4)) == 8
    assert loop_threads() == 1


def test_errors_of_the_coroutine_reach_the_caller(loop: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        loop.run(fail())


def test_several_threads_may_wait_at_once(loop: LoopThread) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: loop.run(double(number, 0.1)), range(8)))
    assert results == [2 * number for number in range(8)]
    assert time.monotonic() - began < 0.6


def test_it_works_inside_a_running_event_loop_as_in_a_notebook(loop: LoopThread) -> None:
    async def cell() -> int:
        return loop.run(double(5))

    assert asyncio.run(cell()) == 10


def test_an_interrupt_waits_for_the_cancelled_coroutine(loop: LoopThread) -> None:
    steps: list[str] = []

    async def long() -> None:
        try:
            steps.append("started")
            # A signal of the system wakes the waiting thread, as Ctrl-C does.
            waiting = threading.main_thread().ident
            assert waiting is not None
            threading.Timer(0.05, signal.pthread_kill, (waiting, signal.SIGINT)).start()
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        loop.run(long())
    assert steps == ["started", "cleaned up"]
    assert loop.run(double(1)) == 2


@pytest.mark.parametrize("handed_over", [True, False])
def test_an_interrupt_while_the_coroutine_is_handed_over_leaves_nothing_running(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch, *, handed_over: bool
) -> None:
    """No call goes on, paid for and unseen, because Ctrl-C came a moment too early."""
    steps: list[str] = []

    async def begin() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def long() -> None:
        steps.append("started")
        try:
            await asyncio.sleep(30)
        finally:
            steps.append("cleaned up")

    event_loop = loop.run(begin())
    begun = event_loop.call_soon_threadsafe

    def interrupted(*arguments: Any) -> None:
        monkeypatch.undo()
        if handed_over:
            begun(*arguments)
            while not steps:
                time.sleep(0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(event_loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(long(), Interruption())
    assert steps == (["started", "cleaned up"] if handed_over else [])
    assert loop.run(double(1)) == 2


def test_closing_cancels_what_other_threads_wait_for(loop_threads: LoopThreads) -> None:
    loop = LoopThread()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: loop.run(double(1, 30)))
        time.sleep(0.05)
        loop.close()
        with pytest.raises(StatementCancelled, match="closed"):
            waiting.result(timeout=5)
    assert loop_threads() == 0
    loop.close()
    with pytest.raises(QuackLLMError, match="closed already"):
        loop.run(double(1))


def test_running_from_its_own_loop_is_an_error_and_no_deadlock(loop: LoopThread) -> None:
    async def inside() -> None:
        loop.run(double(1))

    with pytest.raises(RuntimeError, match="its own event loop"):
        loop.run(inside())


def test_a_collected_owner_takes_its_thread_along(loop_threads: LoopThreads) -> None:
    loop = LoopThread()
    loop.run(double(1))
    del loop
    gc.collect()
    for _ in range(100):
        if loop_threads() == 0:
            break
        time.sleep(0.01)
    assert loop_threads() == 0
