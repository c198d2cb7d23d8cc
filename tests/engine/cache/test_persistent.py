"""Answers that outlive the process: nothing paid twice, nothing lost, no wrong row."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quackllm.engine.cache import MemoryCache, PersistentCache, Question, Selection
from quackllm.engine.cache.base import Claimed
from quackllm.engine.cache.store import Store
from quackllm.engine.cache.write_behind import FLUSH_SECONDS
from quackllm.errors import QuackLLMError

QUESTION = Question("identity", "http://host/v1", "model", function="llm")
LIMIT = 10**9

Open = Callable[..., PersistentCache]


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "answers.sqlite"


@pytest.fixture
def open_cache(path: Path, notices: list[str]) -> Iterator[Open]:
    opened: list[PersistentCache] = []

    def open_(at: Path = path, **options: bool) -> PersistentCache:
        opened.append(PersistentCache(at, limit=LIMIT, notify=notices.append, **options))
        return opened[-1]

    yield open_
    for cache in opened:
        cache.close()


def fill(path: Path, rows: int = 3_000) -> None:
    """Write answers that take some pages, and close the file."""
    with closing(PersistentCache(path, limit=LIMIT, notify=print)) as cache:
        for i in range(rows):
            cache.put(QUESTION, f"k{i}", f"answer {i} " * 5)


def is_used(cache: PersistentCache) -> bool:
    """Whether a cache keeps what it is given, wherever that is."""
    cache.put(QUESTION, "new", "kept")
    cache.flush()
    return cache.get(QUESTION, ["new"]) == {"new": "kept"}


def test_answers_are_found_at_once_and_by_the_next_process(open_cache: Open) -> None:
    cache = open_cache()
    cache.put(QUESTION, "a", "1")
    cache.put(QUESTION, "b", None)
    assert cache.get(QUESTION, ["a", "b", "c"]) == {"a": "1", "b": None}
    cache.close()
    assert open_cache().get(QUESTION, ["a", "b", "c"]) == {"a": "1", "b": None}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.text(max_size=3), st.none() | st.text(max_size=5)),
        max_size=20,
    )
)
def test_it_knows_what_memory_would_know(
    tmp_path: Path, puts: list[tuple[str, str, str | None]]
) -> None:
    path = tmp_path / f"{time.monotonic_ns()}.sqlite"
    memory = MemoryCache()
    questions = {name: Question(name, "e", "m") for name in "pq"}
    with closing(PersistentCache(path, limit=LIMIT, notify=print)) as cache:
        for name, key, answer in puts:
            memory.put(questions[name], key, answer)
            cache.put(questions[name], key, answer)
    keys = sorted({key for _, key, _ in puts})
    with closing(PersistentCache(path, limit=LIMIT, notify=print)) as cache:
        for question in questions.values():
            assert cache.get(question, keys) == memory.get(question, keys)


def test_an_answer_is_on_the_disk_within_the_stated_time(open_cache: Open, path: Path) -> None:
    cache = open_cache()
    cache.put(QUESTION, "warm", "up")
    cache.flush()
    started = time.monotonic()
    cache.put(QUESTION, "a", "1")
    with closing(sqlite3.connect(path)) as reader:
        while not reader.execute("SELECT 1 FROM answers WHERE answer = '1'").fetchall():
            assert time.monotonic() - started < FLUSH_SECONDS + 5, "and some for a busy machine"
            time.sleep(0.005)
    assert time.monotonic() - started > FLUSH_SECONDS / 2, "batched, not one by one"


def test_half_of_a_character_stays_in_memory(open_cache: Open, notices: list[str]) -> None:
    cache = open_cache()
    cache.put(QUESTION, "a", "\ud800")
    assert cache.get(QUESTION, ["a"]) == {"a": "\ud800"}
    assert is_used(cache)
    assert notices == []


def test_no_thread_is_left_behind(open_cache: Open) -> None:
    def writers() -> int:
        return sum(thread.name == "quackllm-answers" for thread in threading.enumerate())

    before = writers()
    cache = open_cache()
    assert is_used(cache)
    assert writers() == before + 1
    ends = time.monotonic() + 30
    while writers() > before and time.monotonic() < ends:
        time.sleep(0.1)
    assert writers() == before, "the thread ends when there is nothing to write"
    assert is_used(cache), "and is started again"
    cache.close()
    assert writers() == before
    cache.close()


def test_the_time_of_use_is_written_after_the_answer_was_given(
    open_cache: Open, path: Path
) -> None:
    cache = open_cache()
    assert is_used(cache)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE answers SET used = 5")
        other.commit()
        cache.get(QUESTION, ["new"])
        ends = time.monotonic() + 30
        while other.execute("SELECT used FROM answers").fetchall() == [(5,)]:
            assert time.monotonic() < ends
            time.sleep(0.01)


def test_the_file_stays_within_its_limit(path: Path) -> None:
    limit = 2_000_000
    with closing(PersistentCache(path, limit=limit, notify=print)) as cache:
        cache._behind.flush(0)
        for part in range(120):
            for i in range(100):
                cache.put(QUESTION, f"{part} {i}", "long " * 50)
            cache.flush()
        deadline = time.monotonic() + 20
        while cache._batches >= 50 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert cache.get(QUESTION, ["119 99"]) == {"119 99": "long " * 50}
    store = Store.open(path)
    assert 0.3 * limit < store.size() < 2 * limit
    store.close()


# Sharing


def test_one_of_two_caches_on_one_file_asks(open_cache: Open) -> None:
    first, second = open_cache(), open_cache()
    assert first.claim(QUESTION, ["a", "b"], 1) == Claimed({}, frozenset("ab"))
    assert second.claim(QUESTION, ["a", "b", "c"], 2) == Claimed({}, frozenset("c"))
    first.put(QUESTION, "a", "1")
    first.release(QUESTION, ["b"], 1)
    first.flush()
    assert second.claim(QUESTION, ["a", "b"], 2) == Claimed({"a": "1"}, frozenset("b"))
    assert first.claim(QUESTION, ["a"], 1) == Claimed({"a": "1"}, frozenset()), "not held by 2"


def test_one_of_two_threads_asks(open_cache: Open) -> None:
    for cache in (open_cache(), MemoryCache()):
        assert cache.claim(QUESTION, ["a", "b"], 1).ours == {"a", "b"}
        assert cache.claim(QUESTION, ["a", "b", "c"], 2) == Claimed({}, frozenset("c"))
        cache.release(QUESTION, ["a"], 2)
        assert cache.claim(QUESTION, ["a"], 2).ours == frozenset(), "that was not 2's to give up"
        cache.put(QUESTION, "a", None)
        cache.release(QUESTION, ["b"], 1)
        assert cache.claim(QUESTION, ["a", "b"], 2) == Claimed({"a": None}, frozenset("b"))


# Trouble with the file


def damage(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(os.urandom(40_000))


@pytest.mark.parametrize("offset", [0, 4096])
@pytest.mark.parametrize("named_by_the_user", [False, True])
def test_a_damaged_file_is_moved_aside_and_work_goes_on(
    open_cache: Open, path: Path, notices: list[str], offset: int, named_by_the_user: bool
) -> None:
    fill(path)
    damage(path, offset)
    cache = open_cache(is_default=not named_by_the_user)
    assert set(cache.get(QUESTION, [f"k{i}" for i in range(3_000)]).values()) <= {
        f"answer {i} " * 5 for i in range(3_000)
    }
    assert is_used(cache)
    if offset == 0 and named_by_the_user:  # nothing says that the file is ours
        assert len(notices) == 1 and "answers are kept in memory" in notices[0]
        assert not list(path.parent.glob("*.damaged-*"))
        return
    [notice] = notices
    [aside] = path.parent.glob("*.damaged-*-1")
    assert aside.name in notice and "\n" not in notice
    cache.close()
    assert open_cache().get(QUESTION, ["new"]) == {"new": "kept"}


def test_damage_while_it_is_used_loses_nothing_that_comes(
    open_cache: Open, path: Path, notices: list[str]
) -> None:
    fill(path)
    cache = open_cache(is_default=True)
    assert len(cache.get(QUESTION, ["k1"])) == 1
    damage(path, 4096)
    cache._store._reader.execute("PRAGMA shrink_memory")  # type: ignore[union-attr]
    for i in range(2_000):
        cache.put(QUESTION, f"new {i}", str(i))
    cache.get(QUESTION, [f"k{i}" for i in range(3_000)])
    cache.flush()
    assert len(cache.get(QUESTION, [f"new {i}" for i in range(2_000)])) == 2_000
    assert len(notices) <= 1


def test_a_full_disk_leaves_what_there_is(open_cache: Open, path: Path, notices: list[str]) -> None:
    fill(path)
    cache = open_cache()
    assert cache._store is not None
    pages = cache._store._reader.execute("PRAGMA page_count").fetchone()[0]
    cache._store._writer.execute(f"PRAGMA max_page_count = {pages}")  # SQLITE_FULL from here
    for i in range(2_000):
        cache.put(QUESTION, f"new {i}", "long " * 100)
    cache.flush()
    assert len(cache.get(QUESTION, [f"new {i}" for i in range(2_000)])) == 2_000
    assert len(cache.get(QUESTION, [f"k{i}" for i in range(3_000)])) == 3_000
    [notice] = notices
    assert "full" in notice and "new answers are kept in memory" in notice


def test_a_newer_file_is_not_used_and_not_changed(
    open_cache: Open, path: Path, notices: list[str]
) -> None:
    fill(path, 5)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    cache = open_cache(is_default=True)
    assert is_used(cache)
    cache.close()
    assert path.read_bytes() == before
    [notice] = notices
    assert "newer version" in notice


def test_a_text_of_the_users_is_not_touched(
    open_cache: Open, path: Path, notices: list[str]
) -> None:
    path.parent.mkdir()
    path.write_text("my notes " * 100)
    assert is_used(open_cache())
    assert path.read_text() == "my notes " * 100
    assert len(notices) == 1


def test_a_directory_that_is_a_file(open_cache: Open, tmp_path: Path, notices: list[str]) -> None:
    (tmp_path / "file").write_text("")
    for at in (tmp_path / "file" / "answers.sqlite", tmp_path, Path("/proc/no/answers.sqlite")):
        cache = open_cache(at)
        assert is_used(cache)
        assert cache.clear(Selection()) == 1
    assert len(notices) == 3
    assert all("answers are kept in memory" in n and "\n" not in n for n in notices)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write")
def test_a_file_of_another_user(path: Path) -> None:
    """As a user who may neither read nor write it; root may do both."""
    fill(path, 5)
    if os.geteuid() != 0:
        path.chmod(0)
    script = (
        "import sys; from pathlib import Path; from quackllm.engine.cache import *;"
        "c = PersistentCache(Path(sys.argv[1]), limit=10**9, notify=print);"
        "q = Question('i', 'e', 'm'); c.put(q, 'k', 'v'); c.flush(); print(c.get(q, ['k']))"
    )
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    root = os.geteuid() == 0
    if root:
        for folder in (path.parent, *path.parent.parents[:3]):
            folder.chmod(0o755)
    done = _python(as_nobody if root else [], script, str(path))
    assert "cannot be used (Permission denied): answers are kept in memory" in done
    assert "{'k': 'v'}" in done


def _python(prefix: list[str], script: str, *arguments: str) -> str:
    import subprocess
    import sys

    command = [*prefix, sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_locked_file_holds_nothing_up_and_is_written_later(
    open_cache: Open, path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    monkeypatch.setattr("quackllm.engine.cache.store.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("quackllm.engine.cache.persistent.FLUSH_PATIENCE", 0.3)
    cache = open_cache()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        assert is_used(cache)
        assert time.monotonic() - started < 5
        assert "locked by another process" in notices[0]
        other.execute("ROLLBACK")
        cache.flush()
        assert other.execute("SELECT count(*) FROM answers").fetchone() == (1,)


def test_what_a_person_asked_for_and_cannot_be_done_is_an_error(
    open_cache: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quackllm.engine.cache.store.BUSY_SECONDS", 0.05)
    cache = open_cache()
    assert is_used(cache)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(QuackLLMError, match="cannot be cleared: database is locked"):
            cache.clear(Selection())


def test_a_file_of_the_first_version_is_answered_from(
    open_cache: Open, path: Path, notices: list[str]
) -> None:
    """Written here as it was then: who changes tables or keys has to carry old answers over."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA application_id = 1364544589; "
            "PRAGMA user_version = 1; "
            "CREATE TABLE questions (number INTEGER PRIMARY KEY, function TEXT NOT NULL, "
            "version INTEGER NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL, "
            "revision TEXT, weights TEXT, identity TEXT NOT NULL, used INTEGER NOT NULL, "
            "bytes INTEGER NOT NULL); "
            "CREATE TABLE answers (key BLOB PRIMARY KEY, question INTEGER NOT NULL, answer TEXT, "
            "created INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID; "
            "INSERT INTO questions VALUES (7174553404655105519, 'llm', 1, 'model', "
            "'http://host/v1', NULL, NULL, 'identity', 1760000000, 65); "
            "INSERT INTO answers VALUES (x'a0f7f676c0748e5b7d7994aea1f1321f', 7174553404655105519, "
            "'first', 1760000000, 1760000000), (x'3cae09e21bafdba4dd3a7b49a965dfab', "
            "7174553404655105519, NULL, 1760000000, 1760000000); PRAGMA journal_mode = WAL"
        )
    cache = open_cache(is_default=True)
    assert cache.get(QUESTION, ["k0", "k1", "k2"]) == {"k0": "first", "k1": None}
    assert is_used(cache)
    assert len(list(cache.entries())) == 3
    assert notices == []
