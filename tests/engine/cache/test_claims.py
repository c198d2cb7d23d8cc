"""Claims: one of several processes asks, a dead one holds nobody up, no clock is compared."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from quackllm.engine.cache.claims import LEASE_SECONDS, Claims


class Clock:
    """Seconds that a test decides on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


KEYS = [bytes([i]) * 16 for i in range(4)]


def test_a_key_belongs_to_the_first_who_claims_it(database: Path) -> None:
    first, second = Claims(database), Claims(database)
    assert first.claim(KEYS[:2]) == set()
    assert second.claim(KEYS) == set(KEYS[:2])
    assert first.claim(KEYS) == set(KEYS[2:])
    assert first.claim(KEYS[:2]) == set(), "what is ours stays ours"


def test_what_is_given_up_or_answered_is_free(database: Path) -> None:
    first, second = Claims(database), Claims(database)
    first.claim(KEYS)
    first.end(KEYS[:1])
    assert second.claim(KEYS[:2]) == {KEYS[1]}
    first.close()
    assert second.claim(KEYS) == set()


def test_nobody_ends_the_claims_of_another(database: Path) -> None:
    first, second = Claims(database), Claims(database)
    first.claim(KEYS)
    second.end(KEYS)
    second.close()
    assert Claims(database).claim(KEYS) == set(KEYS)


def test_the_claims_of_the_dead_are_free_after_the_lease(database: Path, clock: Clock) -> None:
    dead, living = Claims(database), Claims(database, clock=clock)
    dead.claim(KEYS)
    assert living.claim(KEYS) == set(KEYS)
    clock.seconds += LEASE_SECONDS * 0.9
    assert living.claim(KEYS) == set(KEYS), "it may only be slow"
    clock.seconds += LEASE_SECONDS * 0.2
    assert living.claim(KEYS) == set()
    assert dead.claim(KEYS) == set(KEYS), "it was not dead: the calls are the other's now"


def test_who_shows_that_he_lives_keeps_his_claims(database: Path, clock: Clock) -> None:
    owner, waiting = Claims(database), Claims(database, clock=clock)
    owner.claim(KEYS)
    for _ in range(10):
        assert waiting.claim(KEYS) == set(KEYS)
        clock.seconds += LEASE_SECONDS * 0.9
        owner.beat()


def test_a_locked_file_of_claims_holds_nothing_up_for_long(database: Path, clock: Clock) -> None:
    claims, second = Claims(database, clock=clock), Claims(database)
    with closing(sqlite3.connect(claims.path, isolation_level=None)) as stopped:
        stopped.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        for key in KEYS * 20:
            assert claims.claim([key]) == set()
        assert time.monotonic() - started < 5, "80 calls wait once"
        stopped.execute("ROLLBACK")
    assert second.claim(KEYS) == set(), "nothing was claimed meanwhile"
    clock.seconds += 2 * LEASE_SECONDS
    assert claims.claim(KEYS) == set(KEYS)


def test_a_damaged_file_of_claims_is_made_anew(database: Path) -> None:
    path = Claims(database).path
    path.write_bytes(b"this is no database" * 500)
    first, second = Claims(database), Claims(database)
    assert first.claim(KEYS) == set()
    assert second.claim(KEYS) == set(KEYS)


def test_without_a_file_everybody_may_ask(tmp_path: Path) -> None:
    claims = Claims(tmp_path / "missing" / "answers.sqlite")
    assert claims.claim(KEYS) == set()
    claims.beat()
    claims.end(KEYS)
    claims.close()
    assert claims.held == 0
