"""JDBC: one Java program that shows values and metadata, its lines checked here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.values import SHOWN_DIFFERENTLY, TEXTS
from tests.server.pgwire.running import Running

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
    ("functions", "true"),
    ("keywords", "true"),
    ("isolation", "true"),
    ("schema", "main"),
    *((f"prepared {i}", f"{i + 1}é1.50") for i in range(7)),
    ("described", "int4int4"),
    ("array", "2"),
    ("batch", "5"),
    ("copy", "7"),
    ("state", "ERROR 42703 "),
    ("notice", "3 calls"),
    ("fetch size", "105"),
    ("savepoint", "kept"),
]


@pytest.fixture(scope="module")
def said(served: Running) -> dict[str, str]:
    program = Path(__file__).with_name("Jdbc.java")
    url = f"jdbc:postgresql://127.0.0.1:{served.port}/shop?user=tester"
    done = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", "-cp", DRIVER, program, url],
        input="".join(f"{sql}\n" for sql, _ in VALUES),
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(("sql", "text"), VALUES, ids=[sql[:40] for sql, _ in VALUES])
def test_a_value_is_shown(said: dict[str, str], sql: str, text: str) -> None:
    assert said[sql] == text


@pytest.mark.parametrize(("name", "found"), EXPECTED, ids=[name for name, _ in EXPECTED])
def test_the_driver_finds(said: dict[str, str], name: str, found: str) -> None:
    assert said[name].startswith(found), said[name]
