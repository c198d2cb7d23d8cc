"""Whoever waits for a provider to open may leave, and nobody else waits for it (promise 4)."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.opened import OpenedProviders
from quackllm.engine.providers.base import Provider
from quackllm.engine.providers.config import ProviderConfig
from quackllm.errors import BudgetExceeded, ModelNotFound, StatementCancelled
from quackllm.testing import FakeProvider, FakeServer

QUESTION = "SELECT LLM_FILTER('Is it odd?', 'x')"
SLOW = "SELECT list_transform(['x'], s -> LLM_FILTER('Is it odd?', s))"


class Silent:
    """A server that takes connections and says nothing."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        self.ended = 0.0

    def when_asked(self, end: Callable[[], None]) -> threading.Thread:
        """Call `end` in another thread when a client has connected; note when in `ended`."""

        def wait() -> None:
            with self._listening.accept()[0] as connection:
                connection.recv(1)
                self.ended = time.monotonic()
                end()
                connection.recv(1_000_000)  # stays open until the client hangs up

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


@pytest.fixture
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Silent(listening)


@pytest.fixture
def con(silent: Silent) -> Iterator[Connection]:
    with quackllm.connect(
        base_url=silent.base_url, progress=False, cache_path=":memory:"
    ) as connection:
        yield connection


def ends_interrupted(connection: Connection) -> None:
    with pytest.raises(StatementCancelled):
        connection.execute(QUESTION)


@pytest.mark.parametrize("sql", [QUESTION, SLOW], ids=["staged", "scalar"])
@pytest.mark.parametrize("budget", [None, 5], ids=["without", "with a budget"])
def test_an_interrupt_ends_the_opening_within_a_second(
    con: Connection, silent: Silent, sql: str, budget: int | None
) -> None:
    if budget is not None:
        con.execute(f"SET llm_max_calls = {budget}")
    thread = silent.when_asked(con.interrupt)
    with pytest.raises(duckdb.InterruptException):
        con.execute(sql)
    assert time.monotonic() - silent.ended < 1
    thread.join()
    with FakeServer() as server:
        con.execute(f"SET llm_base_url = '{server.base_url}'")
        assert con.execute(QUESTION).fetchall() != [(None,)]


def test_the_keyboard_ends_the_opening_within_a_second(con: Connection, silent: Silent) -> None:
    thread = silent.when_asked(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        con.execute(QUESTION)
    assert time.monotonic() - silent.ended < 1
    thread.join()
    assert con.execute("SELECT 42").fetchall() == [(42,)]


def test_closing_the_connection_ends_the_opening(con: Connection, silent: Silent) -> None:
    cursor = con.cursor()
    thread = silent.when_asked(con.close)
    with pytest.raises(StatementCancelled):
        cursor.execute(QUESTION)
    assert time.monotonic() - silent.ended < 1
    thread.join()


@pytest.mark.parametrize("on_budget", ["error", "partial"])
def test_a_time_limit_holds_while_a_model_is_opened(con: Connection, on_budget: str) -> None:
    con.execute(f"SET llm_timeout = 0.3; SET llm_on_budget = '{on_budget}'")
    began = time.monotonic()
    with pytest.raises(BudgetExceeded, match=r"llm_timeout = 0.3 .* LLM_FILTER could be opened"):
        con.execute(QUESTION)
    assert time.monotonic() - began < 5, "the server says nothing for 20 s"


def test_other_statements_do_not_wait_for_the_opening(con: Connection, silent: Silent) -> None:
    with FakeServer() as server:
        other = con.cursor()
        other.execute(f"SET llm_base_url = '{server.base_url}'")
        waiting = threading.Thread(target=ends_interrupted, args=(con,))
        asked = threading.Event()
        thread = silent.when_asked(asked.set)
        waiting.start()
        assert asked.wait(10)
        assert len(other.execute(QUESTION).fetchall()) == 1
        assert waiting.is_alive()
        con.interrupt()
        waiting.join()
        thread.join()


def test_statements_share_an_opening_that_goes_on_while_one_of_them_waits() -> None:
    begun: list[ProviderConfig] = []
    cancelled: list[ProviderConfig] = []

    async def run() -> None:
        ready = asyncio.Event()

        async def open_(config: ProviderConfig) -> Provider:
            begun.append(config)
            try:
                await ready.wait()
            except asyncio.CancelledError:
                cancelled.append(config)
                raise
            return FakeProvider()

        providers = OpenedProviders(open_)
        shared, alone = ProviderConfig(model="shared"), ProviderConfig(model="alone")
        tasks = [asyncio.create_task(providers.get(config)) for config in (shared, shared, alone)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.wait([tasks[0], tasks[2]])
        await asyncio.sleep(0)
        assert cancelled == [alone]
        ready.set()
        first = await tasks[1]
        assert begun == [shared, alone]
        assert await providers.get(shared) is first
        assert await providers.get(alone) is not first, "and it can be opened again"

    asyncio.run(run())


def test_an_opening_that_fails_is_tried_again() -> None:
    tries: list[int] = []

    async def open_(_: ProviderConfig) -> Provider:
        tries.append(1)
        if len(tries) == 1:
            raise ModelNotFound("not yet")
        return FakeProvider()

    async def run() -> None:
        providers = OpenedProviders(open_)
        both = [providers.get(ProviderConfig()) for _ in range(2)]
        failed = await asyncio.gather(*both, return_exceptions=True)
        assert [type(each) for each in failed] == [ModelNotFound, ModelNotFound]
        assert isinstance(await providers.get(ProviderConfig()), FakeProvider)
        assert len(tries) == 2
        assert len(list(providers)) == 1

    asyncio.run(run())
