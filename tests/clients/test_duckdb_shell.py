"""DuckDB's own shell with postgres_scanner: tables and queries of the server in the shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.server.pgwire.running import Running

pytestmark = pytest.mark.clients

FOLDER = Path(
    os.environ.get("QUACKLLM_DUCKDB_SHELL", Path(__file__).parents[2] / ".venv-duckdb-shell")
)
SHELL = FOLDER / "bin" / "duckdb"
EXTENSION = next(FOLDER.rglob("postgres_scanner.duckdb_extension"), None)
if not SHELL.exists() or EXTENSION is None:
    pytest.skip("DuckDB's shell 1.5.5 is not installed (make clients)", allow_module_level=True)

STATEMENTS = [
    ("SELECT count(*) FROM x.main.movies", "20"),
    ("SELECT id, title FROM x.main.movies WHERE id = 3", "3,Movie 3"),
    ("SELECT price, released FROM x.main.movies WHERE id = 7", "1.75,2020-01-08"),
    ("SELECT tags FROM x.main.movies WHERE id = 1", '"[t1, NULL]"'),
    ("SELECT count(*) FROM x.main.movies WHERE synopsis IS NULL", "3"),
    ("SELECT count(*) FROM x.main.reviews r JOIN x.main.movies m ON m.id = r.movie_id", "60"),
    ("SELECT count(*) FROM x.main.cheap", "8"),
    ("SELECT sum(stars) FROM x.main.reviews", "150"),
    ("FROM postgres_query('x', 'SELECT 1 AS a, NULL::INTEGER AS b, ''é'' AS c')", '1,NULL,"é"'),
    ("FROM postgres_query('x', 'SELECT 1::SMALLINT AS a, 2::BIGINT AS b, 0.5::DOUBLE AS c, 0.25::FLOAT AS d')", "1,2,0.5,0.25"),
    ("FROM postgres_query('x', 'SELECT true AS a, false AS b')", "true,false"),
    ("FROM postgres_query('x', 'SELECT -12.340::DECIMAL(10, 3) AS a')", "-12.340"),
    ("FROM postgres_query('x', 'SELECT TIMESTAMP ''2024-01-02 03:04:05'' AS a')", "2024-01-02 03:04:05"),
    ("FROM postgres_query('x', 'SELECT TIME ''01:02:03'' AS a')", "01:02:03"),
    ("FROM postgres_query('x', 'SELECT ''12345678-1234-1234-1234-123456789012''::UUID AS a')", "12345678-1234-1234-1234-123456789012"),
    ("FROM postgres_query('x', 'SELECT [1, 2, NULL] AS a')", '"[1, 2, NULL]"'),
    ("FROM postgres_query('x', 'SELECT {''a'': 1} AS a')", '"{""a"":1}"'),
    ("SELECT count(f) FROM postgres_query('x', $$ SELECT LLM_FILTER('by the shell?', title) AS f FROM movies $$)", "20"),
    ("SELECT count(*) FROM postgres_query('x', 'SELECT i FROM range(200000) r(i)')", "200000"),
    ("CREATE TABLE x.main.made (a INTEGER, b VARCHAR); INSERT INTO x.main.made VALUES (1, 'a'), (2, NULL); FROM x.main.made ORDER BY a", "1,a"),
    ("CALL postgres_execute('x', 'DELETE FROM made WHERE a = 1'); SELECT count(*) FROM x.main.made", "1"),
    ("DROP TABLE x.main.made; SELECT 'gone'", "gone"),
    ("BEGIN; SELECT count(*) FROM x.main.movies; COMMIT", "20"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "shown"), STATEMENTS, ids=[sql[:60] for sql, _ in STATEMENTS])
def test_the_shell_shows(served: Running, sql: str, shown: str) -> None:
    script = (
        f".mode csv\n.nullvalue NULL\nLOAD '{EXTENSION}';\n"
        f"ATTACH 'host=127.0.0.1 port={served.port} user=tester dbname=shop' AS x (TYPE postgres);\n{sql};\n"
    )
    done = subprocess.run(
        [SHELL, "-unsigned"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert shown in done.stdout.splitlines(), done.stdout + done.stderr
