"""Several addresses before a real vLLM: prefix groups stay together, nothing is computed twice.

One server plays two: what stands before it adds a `cache_salt` of its own to each request, and
vLLM shares no computed prefix between salts.
"""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest

import quackllm
from tests.vllm.conftest import last
from tests.vllm.forwarding import COMPLETIONS, Body, Forwarding, forwarding

pytestmark = pytest.mark.vllm

# Groups of four are never split to balance the work.
FILMS, ROWS = 12, 48
TABLE = f"""
CREATE TABLE reviews AS
SELECT i, 'Film ' || (i * 7 % {FILMS}) || repeat(' is a long story of love and of ducks', 10)
    AS synopsis, 'review number ' || i AS review
FROM range({ROWS}) r(i)
"""
STATEMENT = "SELECT i, LLM_FILTER('good?', synopsis, review) FROM reviews ORDER BY i"


def salting(root: str, salt: str) -> AbstractContextManager[Forwarding]:
    """Stand before a server and give the prefixes that come this way a cache of their own."""

    def salted(path: str, body: Body) -> Body:
        return {**body, "cache_salt": salt} if path == COMPLETIONS else body

    return forwarding(root, asked=salted)


def run(url: str, count: int) -> tuple[list[Any], dict[str, Any], list[int]]:
    """Return rows, cost, and calls of each address, of so many servers whose caches are empty."""
    with ExitStack() as stack:
        root = url.removesuffix("/v1")
        fresh = uuid.uuid4().hex
        servers = [stack.enter_context(salting(root, f"{fresh}-{n}")) for n in range(count)]
        addresses = ", ".join(server.base_url for server in servers)
        con = stack.enter_context(
            quackllm.connect(
                base_url=addresses, concurrency=8, calibrate=False, progress=False, cache=False
            )
        )
        con.execute(TABLE)
        rows = con.execute(STATEMENT).fetchall()
        return rows, last(con), [server.calls for server in servers]


def test_two_servers_reuse_what_one_does(vllm_url: str) -> None:
    rows, one, _ = run(vllm_url, 1)
    shared, two, calls = run(vllm_url, 2)
    assert (one["calls"], two["calls"]) == (ROWS, ROWS)
    assert one["prompt_tokens"] == two["prompt_tokens"]
    assert min(calls) >= ROWS / 4, "both of them work"
    assert two["cached_tokens"] >= 0.95 * one["cached_tokens"] > 0.5 * one["prompt_tokens"]
    # Batches of another size round differently: near ties may turn.
    assert sum(a == b for a, b in zip(rows, shared, strict=True)) >= 0.9 * ROWS


def test_rows_sent_by_turns_would_be_computed_twice(vllm_url: str) -> None:
    """What the other test would see if groups did not stay together."""
    root, fresh = vllm_url.removesuffix("/v1"), uuid.uuid4().hex
    with salting(root, f"{fresh}-0") as a, salting(root, f"{fresh}-1") as b:
        cached = 0
        for part, server in enumerate((a, b)):
            with quackllm.connect(
                base_url=server.base_url, calibrate=False, progress=False, cache=False
            ) as con:
                con.execute(TABLE)
                con.execute(f"DELETE FROM reviews WHERE (i // {FILMS}) % 2 = {part}")
                con.execute(STATEMENT)
                cached += last(con)["cached_tokens"]
    _, together, _ = run(vllm_url, 2)
    assert cached < 0.95 * together["cached_tokens"]
