"""Nothing lost: what has come outlives the process, whatever ends it, and is written once."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quackllm.engine.cache import PersistentCache, Question, Selection
from quackllm.engine.cache.journal import Found, Journal, left_behind
from quackllm.engine.cache.store import Store

QUESTION = Question("identity", "http://host/v1", "model", "r", function="llm", version=3)
OTHER = Question("other", "http://host/v1", "model", weights="w")
LIMIT = 10**9


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


def files(database: Path) -> list[Path]:
    return sorted(database.parent.glob(f"{database.name}.arrived-*"))


def die(journal: Journal) -> None:
    """Let go of the files as the end of a process does."""
    for segment in (*journal._before, *journal._empty, *filter(None, [journal._current])):
        os.close(segment._file)


def answers(found: list[Found]) -> dict[tuple[str, bytes], str | None]:
    return {
        (question.identity, key): answer
        for each in found
        for question, rows in each.items()
        for key, _, answer, _ in rows
    }


def opened(database: Path) -> PersistentCache:
    return PersistentCache(database, limit=LIMIT, notify=print)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from([QUESTION, OTHER]), st.binary(min_size=16, max_size=16),
                  st.none() | st.text(st.characters(codec="utf-8"))),
    ),
    st.integers(0, 5),
)  # fmt: skip
def test_whatever_came_is_found_by_the_next(
    database: Path, came: list[tuple[Question, bytes, str | None]], lots: int
) -> None:
    journal = Journal(database)
    for number, (question, key, answer) in enumerate(came):
        if lots and number % lots == 0:
            journal.begin_lot()
        journal.append(key, question, answer, 1)
    assert list(left_behind(database)) == [], "not while the process lives"
    die(journal)
    found = list(left_behind(database))
    wanted = {(question.identity, key): answer for question, key, answer in came}
    kept = {(i, key) for each in found for i, key in answers([each])}
    assert kept == set(wanted)
    assert [q for each in found for q in each if q not in (QUESTION, OTHER)] == []
    assert {q.function for each in found for q in each} <= {"llm", ""}
    assert files(database) == []


def test_what_the_database_has_is_forgotten_and_what_came_since_is_not(database: Path) -> None:
    journal = Journal(database)
    journal.append(b"a" * 16, QUESTION, "1", 1)
    journal.begin_lot()
    journal.append(b"b" * 16, QUESTION, "2", 1)
    journal.drop_lots_before()
    journal.begin_lot()
    journal.append(b"c" * 16, QUESTION, "3", 1)
    die(journal)
    assert set(answers(list(left_behind(database))).values()) == {"2", "3"}


def test_a_record_that_was_cut_off_harms_no_other(database: Path) -> None:
    journal = Journal(database)
    for letter in "abc":
        journal.append(letter.encode() * 16, QUESTION, letter, 1)
    die(journal)
    [path] = files(database)
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        [found] = left_behind(database)
        seen = "".join(str(a) for a in answers([found]).values())
        assert "abc".startswith(seen), "whole ones, from the first on"
        path.write_bytes(content)
    path.write_bytes(b'\xff[1]\n{}\n[2,"zz",null,1]\n[3,{"no":1}]\n' + content)
    [found] = left_behind(database)
    assert set(answers([found]).values()) == {"a", "b", "c"}


def test_what_could_not_be_written_stays_for_the_next(database: Path) -> None:
    journal = Journal(database)
    journal.append(b"a" * 16, QUESTION, "1", 1)
    die(journal)
    with pytest.raises(OSError, match="busy"):
        for _ in left_behind(database):
            raise OSError("busy")
    assert len(files(database)) == 1
    with closing(opened(database)) as cache:
        assert [entry.answer for entry in cache.entries()] == ["1"]
    assert files(database) == []


def test_the_file_is_its_owners_and_holds_no_values(database: Path) -> None:
    with closing(opened(database)) as cache:
        cache.put(QUESTION, "a value of a row", "an answer")
        [path] = files(database)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"a value" not in path.read_bytes()
        cache.flush()
        assert path.read_bytes() == b""
    assert files(database) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from quackllm.engine.cache import PersistentCache, Question
cache = PersistentCache(Path(sys.argv[1]), limit=10**9, notify=print)
question = Question("identity", "http://host/v1", "model", "r", function="llm", version=3)
keys = [f"k{i}" for i in range(5)]
assert cache.claim(question, keys, cache).ours == set(keys)
for key in keys[:4]:
    cache.put(question, key, f"of {key}")
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_with_answers(database: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(database)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert any(path.stat().st_size for path in files(database)), "the database had no time"


def test_the_next_process_has_the_answers_of_one_that_was_killed(database: Path) -> None:
    kill_with_answers(database)
    with closing(opened(database)) as cache:
        assert cache.get(QUESTION, [f"k{i}" for i in range(5)]) == {
            f"k{i}": f"of k{i}" for i in range(4)
        }


def test_a_process_that_waits_for_the_answers_of_one_that_is_killed_gets_them(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(opened(database)) as cache:
        assert cache._claims is not None
        kill_with_answers(database)
        keys = [f"k{i}" for i in range(5)]
        assert cache.claim(QUESTION, keys, cache).ours == set()
        monkeypatch.setattr("quackllm.engine.cache.claims.LEASE_SECONDS", -1.0)
        claimed = cache.claim(QUESTION, keys, cache)
        assert claimed.ours == {"k4"}, "the call that was in flight"
        assert claimed.answers == {f"k{i}": f"of k{i}" for i in range(4)}


def test_what_is_cleared_does_not_come_back(database: Path) -> None:
    with closing(opened(database)) as cache:
        kill_with_answers(database)
        assert cache.clear(Selection(function="llm")) == 4
    with closing(opened(database)) as cache:
        assert list(cache.entries()) == []


def test_a_journal_that_cannot_be_written_is_done_without(database: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    journal = Journal(database)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
        for i in range(20):
            journal.append(bytes([i]) * 16, QUESTION, "answer", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    die(journal)
    assert 0 < len(answers(list(left_behind(database)))) < 20
    journal = Journal(database.parent / "missing" / "answers.sqlite")
    journal.append(b"a" * 16, QUESTION, "1", 1)
    journal.close()


def test_a_locked_database_leaves_the_answers_in_the_journal(database: Path) -> None:
    """As when it stays locked until the process ends."""
    store = Store.open(database)
    journal = Journal(database)
    journal.append(b"a" * 16, QUESTION, "1", 1)
    journal.begin_lot()
    journal.close()
    assert len(files(database)) == 1
    store.close()
    with closing(opened(database)) as cache:
        assert [entry.answer for entry in cache.entries()] == ["1"]
