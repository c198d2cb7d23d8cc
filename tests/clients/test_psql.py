"""psql: values, backslash commands, errors, COPY, cursors, notices."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.clients.values import SHOWN_DIFFERENTLY, TEXTS
from tests.server.pgwire.running import TABLES, Running, running

pytestmark = pytest.mark.clients

if shutil.which("psql") is None:
    pytest.skip("psql is not installed (make clients as root)", allow_module_level=True)


def psql(served: Running, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["psql", served.dsn, "-X", "-v", "VERBOSITY=verbose", *options, "-f", "-"]
    return subprocess.run(
        command, input=script, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def texts(served: Running) -> list[str]:
    """All values in one go: a process per value would take a minute."""
    script = "".join(f"SELECT {sql};\n" for sql, _ in (*TEXTS, *SHOWN_DIFFERENTLY))
    return psql(served, script, "-A", "-t").stdout.split("\n")


@pytest.mark.parametrize("number", range(len(TEXTS) + len(SHOWN_DIFFERENTLY)))
def test_a_value_is_shown(texts: list[str], number: int) -> None:
    sql, text = (*TEXTS, *SHOWN_DIFFERENTLY)[number]
    assert texts[number] == text, sql


COMMANDS = [
    ("\\d", "main   | movies  | table"),
    ("\\d movies", '"movies_id_pkey" PRIMARY KEY'),
    ("\\d movies", "price    | numeric(10,2) |           |          | 1.5"),
    ("\\d reviews", 'FOREIGN KEY (movie_id) REFERENCES movies(id)'),
    ("\\d reviews", "Check constraints:"),
    ("\\d reviews", '"reviews_of_movie"'),
    ("\\d movies", "Referenced by:"),
    ("\\d+ cheap", "View definition:"),
    ("\\dt", "reviews"),
    ("\\dt+", "films"),
    ("\\dv", "cheap"),
    ("\\di", "reviews_of_movie"),
    ("\\dn", "main"),
    ("\\du", "tester"),
    ("\\l", "shop"),
    ("\\l", "other"),
    ("\\df", "List of functions"),
    ("\\dT", "List of data types"),
    ("\\dd", "Object descriptions"),
    ("\\do", "List of operators"),
    ("\\dO", "List of collations"),
    ("\\dc", "List of conversions"),
    ("\\dL", "List of languages"),
    ("\\dFp", "List of text search parsers"),
    ("\\dFt", "List of text search templates"),
    ("\\dRs+", "List of subscriptions"),
    ("\\dRp", "List of publications"),
    ("\\dT+", "List of data types"),
    ("\\dn+", "main"),
    ("\\l+", "shop"),
    ("\\du+", "tester"),
    ("\\d+", "movies"),
    ("\\sv cheap", "CREATE OR REPLACE VIEW main.cheap AS"),
    ("\\dx", "List of installed extensions"),
    ("\\dp movies", "movies"),
    ("\\conninfo", 'as user "tester"'),
    ("\\encoding", "UTF8"),
    ("SELECT 1 AS a \\gdesc", "integer"),
    ("SELECT current_user, version()", "PostgreSQL 15.0 (quackllm"),
    ("\\set FETCH_COUNT 7\nSELECT i FROM range(50) r(i)", "(50 rows)"),
    ("EXPLAIN SELECT LLM_FILTER('x', title) FROM movies", "model 1: LLM_FILTER in SELECT"),
    ("COPY (SELECT 1, NULL, 'a,b') TO STDOUT WITH CSV HEADER", '1,,"a,b"'),
    ("CREATE TEMP TABLE c (a INT, b TEXT);\nCOPY c FROM STDIN;\n1\tx\\ty\n\\.\nSELECT * FROM c", "x       y"),
    ("SELECT LLM_FILTER('is it by psql?', title) FROM movies LIMIT 3", "t"),
    ("SHOW server_version", "15.0"),
    ("SELECT 1 \\; SELECT 2", "2"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[c[0][:40] for c in COMMANDS])
def test_a_command_shows(served: Running, command: str, shown: str) -> None:
    ends_itself = command.split()[-1].startswith("\\") or command.startswith(
        ("\\d", "\\l", "\\c", "\\sv")
    )
    done = psql(served, command + ("\n" if ends_itself else ";\n"))
    assert shown in done.stdout, done.stdout + done.stderr


DESCRIBING = [
    "\\d",
    "\\d+",
    "\\dt+",
    "\\dv+",
    "\\dm",
    "\\di+",
    "\\ds+",
    "\\dn+",
    "\\l+",
    "\\du+",
    "\\dg+",
    "\\df+",
    "\\da+",
    "\\dT+",
    "\\dd",
    "\\dx+",
    "\\dp",
    "\\z",
    "\\ddp",
    "\\db+",
    "\\dc+",
    "\\dC+",
    "\\dD+",
    "\\dE+",
    "\\dF+",
    "\\dFd+",
    "\\dFp+",
    "\\dFt+",
    "\\dL+",
    "\\do+",
    "\\dO+",
    "\\drds",
    "\\dRp+",
    "\\dRs+",
    "\\dy+",
    "\\dX",
    "\\des+",
    "\\det+",
    "\\deu+",
    "\\dew+",
    "\\dA+",
    "\\dAc+",
    "\\dAf+",
    "\\dP+",
    "\\dconfig+",
]


def test_describing_answers_all_and_asks_nothing() -> None:
    view = "CREATE VIEW judged AS SELECT id, LLM_FILTER('Is it?', title) AS f FROM movies"
    lines = [*DESCRIBING, "\\d judged", "\\d+ judged", "\\sv judged", "TABLE judged \\gdesc"]
    with running(tables=f"{TABLES};{view}") as own:
        done = psql(own, "\n".join(lines) + "\n")
        assert "ERROR" not in done.stderr
        assert own.fake.calls == 0


ERRORS = [
    ("SELECT nope FROM movies", "42703"),
    ("SELECT nope FROM movies", "LINE 1: SELECT nope FROM movies"),
    ("SELECT * FROM nowhere", "42P01"),
    ("INSERT INTO movies (id, title) VALUES (1, 'x')", "23505"),
    ("BEGIN; SELECT nope; SELECT 1", "25P02"),
    ("COPY movies FROM STDIN;\nx\ty\n\\.", "ERROR"),
    (
        "SELECT LLM_FILTER('is this noticed?', title) FROM movies WHERE id = 1",
        "NOTICE:  00000: 1 call",
    ),
]


@pytest.mark.parametrize(
    ("sql", "said"), ERRORS, ids=[f"{sql[:30]}-{said[:9]}" for sql, said in ERRORS]
)
def test_an_error_or_a_notice_says(served: Running, sql: str, said: str) -> None:
    assert said in psql(served, sql + ";\n").stderr
