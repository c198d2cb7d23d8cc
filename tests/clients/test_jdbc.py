"""JDBC: one Java program that shows values and metadata, its lines checked here."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from quackllm.testing import FakeProvider
from tests.clients.values import SHOWN_DIFFERENTLY, TEXTS
from tests.server.pgwire.running import Running, running
from tests.server.pgwire.test_calls import wait_until

pytestmark = pytest.mark.clients

DRIVER = Path("/usr/share/java/postgresql.jar")
if shutil.which("java") is None or not DRIVER.exists():
    pytest.skip(
        "Java or its PostgreSQL driver is not installed (make clients as root)",
        allow_module_level=True,
    )

VALUES = (*TEXTS, *(pair for pair in SHOWN_DIFFERENTLY if "TIMESTAMPTZ" not in pair[0]))

EXPECTED = [
    ("tables", "movies,reviews"),
    ("views", "cheap"),
    ("columns", "id,title,synopsis,price,released,tags"),
    ("types", "int4,text,text,numeric,date,_text"),
    ("schemas", "information_schema,main,pg_catalog,public"),
    ("primary key", "id"),
    ("imported", "movies"),
    ("exported", "reviews"),
    ("indexes", "reviews_id_pkey,reviews_of_movie"),
    ("type info", "true"),
    ("nullable", "NO,NO,YES,YES,YES,YES"),
    ("default", "1.5"),
    ("sizes", "10"),
    ("remarks", "films"),
    ("product", "PostgreSQL 15"),
    ("best row", "id"),
    ("isolation", "true"),
    ("schema", "main"),
    *((f"prepared {i}", f"{i + 1}é1.50") for i in range(7)),
    ("described", "int4int4"),
    ("array", "2"),
    ("batch", "5"),
    ("copy", "7"),
    ("typed true", "Boolean true"),
    ("typed 1::SMALLINT", "Integer 1"),
    ("typed 5", "Integer 5"),
    ("typed 5::BIGINT", "Long 5"),
    ("typed 1.5::FLOAT", "Float 1.5"),
    ("typed 0.1::DOUBLE", "Double 0.1"),
    ("typed 1.50::DECIMAL(5, 2)", "BigDecimal 1.50"),
    ("typed 'é'", "String é"),
    ("typed DATE '2024-02-29'", "Date 2024-02-29"),
    ("typed TIMESTAMP '2024-01-02 03:04:05.678'", "Timestamp 2024-01-02 03:04:05.678"),
    ("typed TIME '01:02:03'", "Time 01:02:03"),
    ("typed '\\x00\\xFF'::BLOB", "String [0, -1]"),
    (
        "typed '12345678-1234-1234-1234-123456789012'::UUID",
        "UUID 12345678-1234-1234-1234-123456789012",
    ),
    ("typed [1, NULL, 3]", "String [1, null, 3]"),
    ("typed ['a', 'b c']", "String [a, b c]"),
    ("typed {'a': 1}", 'PGobject {"a":1}'),
    ("result described", "10,2,t,java.math.BigDecimal"),
    ("generated keys", "7"),
    ("several results", "1,1,x"),
    ("batch that fails", "23505 0"),
    ("parameter of wrong type", "22P02"),
    ("date that is none", "22008"),
    ("NUL", "22021"),
    ("after NUL", "42"),
    ("large statement", "3000000"),
    ("unknown database", "3D000"),
    ("position", "13"),
    ("time limit", "57014 42"),
    ("cancel", "57014 42"),
    ("state", "ERROR 42703 "),
    ("notice", "3 calls"),
    ("fetch size", "105"),
    ("savepoint", "kept"),
]


@dataclass(frozen=True)
class Said:
    """The lines of the program, and how long the slow server's model was kept busy by it."""

    lines: dict[str, str]
    busy_seconds: float


@pytest.fixture(scope="module")
def program(served: Running) -> Said:
    source = Path(__file__).with_name("Jdbc.java")
    with running(fake=FakeProvider(latency=60.0)) as slow, ThreadPoolExecutor(1) as pool:
        busy = pool.submit(busy_seconds, slow.fake)
        urls = [f"jdbc:postgresql://127.0.0.1:{s.port}/shop?user=tester" for s in (served, slow)]
        done = subprocess.run(
            ["java", "-Dfile.encoding=UTF-8", "-Duser.timezone=UTC", "-cp", DRIVER, source, *urls],
            input="".join(f"{sql}\n" for sql, _ in VALUES),
            capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = dict(line.split("\t", 1) for line in done.stdout.splitlines())
        return Said(lines, busy.result(60))


def busy_seconds(model: FakeProvider) -> float:
    """Wait for calls and for their end; return the seconds between."""
    wait_until(lambda: model.in_flight, 120)
    return wait_until(lambda: not model.in_flight, 60)


@pytest.fixture(scope="module")
def said(program: Said) -> dict[str, str]:
    return program.lines


@pytest.mark.parametrize(("sql", "text"), VALUES, ids=[sql[:40] for sql, _ in VALUES])
def test_a_value_is_shown(said: dict[str, str], sql: str, text: str) -> None:
    assert said[sql] == text


@pytest.mark.parametrize(("name", "found"), EXPECTED, ids=[name for name, _ in EXPECTED])
def test_the_driver_finds(said: dict[str, str], name: str, found: str) -> None:
    assert said[name].startswith(found), said[name]


def test_cancel_frees_the_model_within_a_second(program: Said) -> None:
    """The program cancels a second after it has sent the statement."""
    assert program.busy_seconds < 2
