"""A call that takes unusually long is sent twice: the tail is cut, and every call is counted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.traffic.hedge import FEWEST, SOONEST, Latencies, first_answer
from quackllm.errors import InvalidAnswer, ServerFailed, ServerUnreachable
from quackllm.testing import FakeServer, HttpFault

ROWS = 60
SLOW = 3.0
TABLE = f"CREATE TABLE t AS SELECT i, 'row ' || i AS v FROM range({ROWS}) r(i)"
QUESTION = "SELECT i, LLM_FILTER('Is it odd?', v) FROM t ORDER BY i"


def slow_server(seconds: float = 1.0) -> FakeServer:
    """The first request for each of two rows is answered after seconds, a second one is not."""
    rows = [f'"row {number}"' for number in (37, 51)]
    slow = [HttpFault.slow_drip(seconds, containing=row, times=1) for row in rows]
    return FakeServer(faults=slow, latency=0.02)


def connected(server: FakeServer, **settings: Any) -> Connection:
    con = quackllm.connect(
        base_url=server.base_url, progress=False, cache=False, concurrency=ROWS, **settings
    )
    con.execute(TABLE)
    con.execute(f"SELECT LLM_FILTER('warm', v) FROM t LIMIT {FEWEST}").fetchall()
    return con


def timed(con: Connection) -> tuple[float, list[Any], int, int]:
    """Run the question; return seconds, rows, calls and prompt tokens."""
    began = time.monotonic()
    rows = con.execute(QUESTION).fetchall()
    seconds = time.monotonic() - began
    [(calls, tokens)] = con.execute(
        "SELECT calls, prompt_tokens FROM llm_queries() ORDER BY statement DESC LIMIT 1"
    ).fetchall()
    return seconds, rows, calls, tokens


def test_the_tail_is_cut_and_every_request_is_a_call() -> None:
    with slow_server(SLOW) as server, connected(server) as con:
        without, rows, calls, tokens = timed(con)
        assert without > 0.9 * SLOW
        assert calls == ROWS
    with slow_server(SLOW) as server, connected(server, hedge=True) as con:
        before = server.calls
        seconds, again, more_calls, more_tokens = timed(con)
        assert again == rows, "whoever answers first"
        assert seconds < without - SLOW / 2
        assert ROWS + 2 <= more_calls == server.calls - before < 1.5 * ROWS
        assert more_tokens / more_calls == pytest.approx(tokens / calls, rel=0.02)


def test_it_is_off_unless_asked_for() -> None:
    with quackllm.connect() as con:
        assert con.llm_settings.limits.hedge is False


@pytest.mark.parametrize("room", [0, 1])
def test_a_budget_counts_the_second_request_and_holds(room: int) -> None:
    with slow_server(SLOW if room else 1.0) as server, connected(server, hedge=True) as con:
        con.execute(f"SET llm_max_calls = {ROWS + room}")
        before = server.calls
        _, rows, calls, _ = timed(con)
        assert all(answer is not None for _, answer in rows)
        assert calls == server.calls - before == ROWS + room


def test_places_that_calls_wait_for_are_not_taken() -> None:
    """While there is more to ask, a second request would only push another call back."""
    with slow_server() as server, connected(server, hedge=True) as con:
        con.execute("SET llm_concurrency = 4")
        before = server.calls
        timed(con)
        assert server.calls - before <= ROWS + 4


@pytest.mark.parametrize("setting", ["llm_requests_per_minute", "llm_tokens_per_minute"])
def test_nothing_is_sent_twice_where_a_minute_is_rationed(setting: str) -> None:
    with slow_server() as server, connected(server, hedge=True) as con:
        con.execute(f"SET {setting} = 1000000")
        before = server.calls
        timed(con)
        assert server.calls - before == ROWS


def test_an_interrupted_statement_leaves_neither_request_in_flight() -> None:
    with slow_server() as server, connected(server, hedge=True) as con:
        con.execute("SET llm_on_budget = 'partial'; SET llm_timeout = 0.5")
        timed(con)
        began = time.monotonic()
        while server.connections > ROWS and time.monotonic() - began < 1:
            time.sleep(0.01)
        assert con.llm_engine._endpoints[server.base_url].in_flight == 0


def test_what_is_unusual_is_learned() -> None:
    latencies = Latencies()
    for i in range(FEWEST - 1):
        latencies.add(float(i))
        assert latencies.unusual() is None
    latencies.add(100.0)
    assert latencies.unusual() == 100.0
    for _ in range(400):
        latencies.add(1.0)
    assert latencies.unusual() == 1.0, "of the latest"
    for _ in range(400):
        latencies.add(0.0)
    assert latencies.unusual() == SOONEST, "however fast the server is"


async def after(seconds: float, result: str | Exception, seen: list[str]) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise
    if isinstance(result, Exception):
        raise result
    return result


@pytest.mark.parametrize(
    ("first", "twin", "wanted"),
    [
        ((0.0, "first"), None, ("first", 0)),
        ((0.2, "first"), None, ("first", 0)),
        ((5.0, "first"), (0.05, "twin"), ("twin", 1)),
        ((0.2, "first"), (5.0, "twin"), ("first", 1)),
        ((0.05, ServerFailed("it")), None, ServerFailed),
        ((0.1, ServerFailed("it")), (0.2, "twin"), ("twin", 0)),
        ((0.2, "first"), (0.05, ServerFailed("it")), ("first", 0)),
        ((0.2, ServerFailed("it")), (0.05, InvalidAnswer("other")), ServerFailed),
        ((5.0, "first"), (0.05, ServerUnreachable("gone")), ServerUnreachable),
    ],
)
def test_the_first_answer_wins_and_what_was_for_nothing_is_told(
    first: tuple[float, Any], twin: tuple[float, Any] | None, wanted: Any
) -> None:
    seen: list[str] = []

    async def run() -> tuple[str, int]:
        def send() -> asyncio.Task[str] | None:
            return None if twin is None else asyncio.create_task(after(*twin, seen))

        try:
            return await first_answer(after(*first, seen), 0.03, send)
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    if isinstance(wanted, tuple):
        assert asyncio.run(run()) == wanted
    else:
        with pytest.raises(wanted):
            asyncio.run(run())
    assert len(seen) == (5.0 in (first[0], twin[0] if twin else 0))


def test_a_cancelled_call_cancels_both() -> None:
    seen: list[str] = []

    async def run() -> None:
        def send() -> asyncio.Task[str]:
            return asyncio.create_task(after(5.0, "twin", seen))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await first_answer(after(5.0, "first", seen), 0.02, send)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
    assert seen == ["cancelled", "cancelled"]
