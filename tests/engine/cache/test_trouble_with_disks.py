"""Disks that are full, directories that cannot be written, files of others: nothing is lost.

By real means: small file systems (mounted, so as root), file modes, processes of another user.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeServer

ROWS = 400
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, acts as another user")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(answer=lambda request: f"answer to {request.fields} " * 40) as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with pytest.raises(OSError), (disk / "rest").open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def connect(server: FakeServer, path: Path) -> Connection:
    return quackllm.connect(
        base_url=server.base_url, model="fake-model", progress=False, cache_path=str(path)
    )


def ask(con: Connection, server: FakeServer, rows: int = ROWS) -> int:
    """Ask, check the rows, and return how many calls that took."""
    before = server.calls
    answers = con.execute(f"SELECT i, LLM('x', i) FROM range({rows}) r(i)").fetchall()
    assert len(answers) == rows
    assert all(answer.startswith(f'answer to {{"i":{i}}} ') for i, answer in answers)
    return server.calls - before


@as_root
def test_a_disk_that_fills_up_loses_no_answer(
    server: FakeServer, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk / "answers.sqlite"
    with connect(server, path) as con:
        assert ask(con, server, 50) == 50
        assert ask(con, server) == ROWS - 50
        assert ask(con, server) == 0, "what did not fit is in memory"
        assert ask(con, server, ROWS + 5) == 5
    told = [record.getMessage() for record in caplog.records if "answer cache" in record.message]
    assert len(told) == 1
    assert "full" in told[0] and "new answers are kept in memory" in told[0]
    with connect(server, path) as con:
        assert 0 < ask(con, server) <= ROWS - 50, "what had fitted is there"


@as_root
def test_a_disk_without_any_room_is_read(
    server: FakeServer, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk / "answers.sqlite"
    with connect(server, path) as con:
        assert ask(con, server, 50) == 50
    fill(disk)
    with connect(server, path) as con:
        assert ask(con, server, 60) == 10
        assert ask(con, server, 60) == 0
        assert con.execute("SELECT count(*) FROM llm_cache()").fetchall() == [(60,)]
    assert "cannot be written" in caplog.text and "new answers are kept in memory" in caplog.text


@as_root
def test_a_full_disk_without_a_cache_is_done_without(
    server: FakeServer, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(disk)
    with connect(server, disk / "made" / "answers.sqlite") as con:
        assert (ask(con, server, 50), ask(con, server, 50)) == (50, 0)
    assert "answers are kept in memory" in caplog.text


@as_root
def test_a_read_only_file_system_is_read(
    server: FakeServer, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = disk / "answers.sqlite"
    with connect(server, path) as con:
        ask(con, server, 50)
    mount("-o", "remount,ro", str(disk))
    before = sorted(file.name for file in disk.iterdir())
    with connect(server, path) as con:
        assert ask(con, server, 60) == 10
        assert con.execute("SELECT count(*) FROM llm_cache()").fetchall() == [(60,)]
        with pytest.raises(duckdb.Error, match="cannot be cleared"):
            con.execute("CALL llm_clear_cache()")
    assert "cannot be written (Read-only file system)" in caplog.text
    assert sorted(file.name for file in disk.iterdir()) == before


@as_root
def test_rows_that_spill_to_a_full_disk_are_an_error_that_loses_no_answer(
    server: FakeServer, disk: Path, tmp_path: Path
) -> None:
    spilling = (
        "SELECT i, LLM('x', i % 20) AS a, repeat('-', 500) FROM range(300000) r(i) ORDER BY a, i"
    )
    with connect(server, tmp_path / "answers.sqlite") as con:
        con.execute("SET memory_limit = '60MB'; SET threads = 1")
        con.execute(f"SET temp_directory = '{disk}'")
        with pytest.raises(duckdb.Error, match=r"(?i)memory|disk|write|space"):
            con.execute(spilling).fetchall()
        assert server.calls == 20
    with connect(server, tmp_path / "answers.sqlite") as con:
        assert len(con.execute(spilling).fetchall()) == 300_000
    assert server.calls == 20, "answers are kept"


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own are not."""
    monkeypatch.delenv("QUACKLLM_CACHE", raising=False)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user: all threads of the process are."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@as_root
def test_a_home_that_cannot_be_written_is_done_without(
    server: FakeServer, public: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    home = public / "home"
    home.mkdir(mode=0o555)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    with (
        as_nobody(),
        quackllm.connect(base_url=server.base_url, model="fake-model", progress=False) as con,
    ):
        assert (ask(con, server, 30), ask(con, server, 30)) == (30, 0)
    assert "cannot be used (Permission denied): answers are kept in memory" in caplog.text
    assert list(home.iterdir()) == []


@as_root
def test_two_users_on_one_file(server: FakeServer, public: Path, caplog: Any) -> None:
    """The file is its owner's. Who may read it is answered from it, and changes nothing."""
    path = public / "answers.sqlite"
    with connect(server, path) as con:
        assert ask(con, server, 30) == 30
    assert caplog.text == ""
    with as_nobody(), connect(server, path) as con:
        assert ask(con, server, 30) == 30
    assert "cannot be used (Permission denied): answers are kept in memory" in caplog.text
    path.chmod(0o644)
    with as_nobody(), connect(server, path) as con:
        assert ask(con, server, 35) == 5, "what is readable is not paid for again"
        assert con.execute("SELECT count(*) FROM llm_cache()").fetchall() == [(35,)]
    assert "cannot be written (Permission denied): new answers are kept in memory" in caplog.text
    with connect(server, path) as con:
        assert ask(con, server, 30) == 0


@as_root
def test_what_the_owner_writes_meanwhile_is_no_wrong_answer(
    server: FakeServer, public: Path
) -> None:
    """Who reads a file without its locks takes nothing from it once it has changed."""
    path = public / "answers.sqlite"
    with connect(server, path) as con:
        ask(con, server, 30)
    path.chmod(0o644)
    with as_nobody(), connect(server, path) as reader:
        assert ask(reader, server, 10) == 0
        os.seteuid(0)
        with connect(server, path) as con:
            con.execute("CALL llm_clear_cache()")
            con.execute("SELECT LLM('y', i) FROM range(500) r(i)").fetchall()
        os.seteuid(NOBODY)
        assert ask(reader, server, 30) == 30
        assert ask(reader, server, 30) == 0, "from memory"


@as_root
def test_two_users_who_may_both_write(server: FakeServer, public: Path, caplog: Any) -> None:
    path = public / "answers.sqlite"
    public.chmod(0o777)
    with connect(server, path) as con:
        ask(con, server, 30)
    for file in public.iterdir():
        file.chmod(0o666)
    with as_nobody(), connect(server, path) as con:
        assert ask(con, server, 35) == 5
    for file in public.iterdir():
        file.chmod(0o666)
    with connect(server, path) as con:
        assert ask(con, server, 35) == 0
    assert caplog.text == ""
