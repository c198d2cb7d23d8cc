"""The database file: what is written is there, and nothing else is touched."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from quackllm.engine.cache import Question, Selection
from quackllm.engine.cache import store as store_module
from quackllm.engine.cache.store import NotOurs, Store, is_damage, looks_like_ours
from quackllm.udfs.vectors import packed

FILTER = Question("i1", "http://a/v1", "m1", function="llm_filter")
SCORE = Question("i2", "http://a/v1", "m2", function="llm_score")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "answers.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store.open(path)
    yield opened
    opened.close()


def put(store: Store, question: Question, answers: dict[str, str | None], when: float) -> None:
    rows = [
        (key, question.number, answer, int(when))
        for key, answer in zip(question.keys(list(answers)), answers.values(), strict=True)
    ]
    store.write([question], rows)


def found(store: Store, question: Question, keys: list[str]) -> dict[str, str | None]:
    by_digest, _ = store.find(question.keys(keys))
    digests = dict(zip(question.keys(keys), keys, strict=True))
    return {digests[digest]: answer for digest, answer in by_digest.items()}


def test_what_is_written_is_found_by_another_process_of_the_file(store: Store, path: Path) -> None:
    answers: dict[str, str | None] = {"a": "1", "b": None, "c": "", "d": "x\0y 😀"}
    put(store, FILTER, answers, time.time())
    other = Store.open(path)
    assert found(other, FILTER, ["a", "b", "c", "d", "e"]) == answers
    assert found(other, SCORE, ["a"]) == {}
    other.close()


def test_vectors_lie_in_the_file_as_their_numbers(store: Store, path: Path) -> None:
    embed = Question("i3", "http://a/v1", "m3", function="llm_embed", vectors=True)
    answers: dict[str, str | None] = {"a": packed([0.5, -1e-30, 3e38]), "b": None, "c": packed([])}
    put(store, embed, answers, time.time())
    assert found(store, embed, ["a", "b", "c"]) == answers
    assert {entry.answer: entry.size for entry in store.entries()} == {
        answers["a"]: 12,
        None: 0,
        answers["c"]: 0,
    }
    assert store.size() == 12 + 3 * store_module.ROW_BYTES
    with closing(sqlite3.connect(path)) as con:
        assert con.execute("SELECT max(answer) FROM answers").fetchone() == (
            np.array([0.5, -1e-30, 3e38], dtype="<f4").tobytes(),
        )


def test_a_look_up_of_many_finds_each(store: Store) -> None:
    answers: dict[str, str | None] = {f"k{i}": str(i) for i in range(3_000)}
    put(store, FILTER, answers, time.time())
    assert found(store, FILTER, [f"k{i}" for i in range(6_000)]) == answers


def test_the_file_is_for_its_owner_only(store: Store, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_answer_is_on_the_disk_when_write_returns(store: Store) -> None:
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_answers_are_cleared_by_function_model_and_age(store: Store) -> None:
    now = time.time()
    put(store, FILTER, {"old": "1"}, now - 1000)
    put(store, FILTER, {"new": "1"}, now)
    put(store, SCORE, {"old": "1"}, now - 1000)
    assert store.clear(Selection(function="llm_score", model="m1")) == 0
    assert store.clear(Selection(function="llm_filter", older_than=500)) == 1
    assert found(store, FILTER, ["old", "new"]) == {"new": "1"}
    assert store.clear(Selection(model="m2")) == 1
    assert [entry.function for entry in store.entries()] == ["llm_filter"]
    assert store.clear(Selection()) == 1
    assert list(store.entries()) == []
    assert store._reader.execute("SELECT count(*) FROM questions").fetchone() == (0,)


def test_clearing_gives_the_space_back(store: Store, path: Path) -> None:
    put(store, FILTER, {f"k{i}": "long " * 100 for i in range(12_000)}, time.time())
    full = store.size()
    assert full > 6_000_000
    store.close()
    assert 0.7 < full / path.stat().st_size < 1.3, "the size is that of the file, about"
    store = Store.open(path)
    assert store.clear(Selection()) == 12_000
    assert store.size() == 0
    assert path.stat().st_size < full / 100
    store.close()


def test_eviction_takes_the_answers_unused_for_longest(store: Store) -> None:
    now = time.time()
    for day in range(10):
        answers: dict[str, str | None] = {f"{day} {i}": "text " * 20 for i in range(500)}
        put(store, FILTER, answers, now - 86_400 * (20 - day))
    store.touch(FILTER.keys([f"0 {i}" for i in range(500)]))
    limit = store.size() // 2
    gone = store.evict(limit)
    assert store.size() <= limit
    assert 2_000 <= gone <= 3_500
    assert len(found(store, FILTER, [f"0 {i}" for i in range(500)])) == 500, "used again"
    assert found(store, FILTER, [f"1 {i}" for i in range(500)]) == {}
    assert len(found(store, FILTER, [f"9 {i}" for i in range(500)])) == 500
    assert store.evict(limit) == 0


def test_the_time_of_use_is_asked_for_once_a_day(store: Store) -> None:
    put(store, FILTER, {"old": "1"}, time.time() - 2 * store_module.TOUCH_SECONDS)
    put(store, FILTER, {"new": "1"}, time.time())
    digests = FILTER.keys(["old", "new"])
    _, stale = store.find(digests)
    assert stale == digests[:1]
    store.touch(stale)
    assert store.find(digests)[1] == []


def test_a_clock_that_jumps_changes_no_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for jump in (10 * 365 * 86_400, -20 * 365 * 86_400, 0):
        moved = time.time() + jump
        monkeypatch.setattr(time, "time", lambda moved=moved: moved)
        put(store, FILTER, {f"k{jump}": str(jump)}, moved)
        answers, stale = store.find(FILTER.keys([f"k{jump}"]))
        assert list(answers.values()) == [str(jump)]
        store.touch(stale)
        monkeypatch.undo()
    assert len(list(store.entries())) == 3


# Files that are not as they should be


def test_a_newer_version_is_left_alone(path: Path) -> None:
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotOurs, match="newer version of quackllm"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotOurs, match="something else"):
        Store.open(path)
    assert path.read_bytes() == before
    assert not looks_like_ours(path)


def test_the_header_tells_whose_it_is_from_the_first_moment(path: Path) -> None:
    store = Store.open(path)
    assert looks_like_ours(path)
    store.close()


@pytest.mark.parametrize("offset", [0, 4096])
def test_damage_is_told_from_other_errors(path: Path, offset: int) -> None:
    store = Store.open(path)
    put(store, FILTER, {f"k{i}": "x" * 50 for i in range(5_000)}, time.time())
    store.close()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(os.urandom(16_384))
    with pytest.raises(sqlite3.DatabaseError) as error:
        Store.open(path).find(FILTER.keys([f"k{i}" for i in range(5_000)]))
    assert is_damage(error.value)


def test_a_path_that_cannot_be_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    for path in (tmp_path / "file" / "answers.sqlite", tmp_path):
        with pytest.raises(OSError):
            Store.open(path)
