"""Ways round the limits of a server's user, tried one by one at a real model server.

cleo may ask the model `fast` and no other, dana may make five calls per statement. What counts is
what the model server receives: the name of the model, and how many requests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from quackllm.testing import FakeServer
from tests.server.pgwire.running import TABLES, running
from tests.server.pgwire.test_access import STORED, USERS, connect


@dataclass
class Limited:
    """A server over a model server."""

    port: int
    models: FakeServer

    def asked(self) -> list[str]:
        """Return the models of the requests that came since the last look."""
        found = [str(one.body["model"]) for one in self.models.received if "model" in one.body]
        self.models.received.clear()
        return found


@pytest.fixture(scope="module")
def limited() -> Iterator[Limited]:
    with (
        FakeServer(flavor="vllm", models=("fast", "large")) as models,
        running(
            {"users": USERS}, tables=TABLES + STORED, base_url=models.base_url, model="fast",
            cache=False,
        ) as served,
    ):  # fmt: skip
        yield Limited(served.port, models)


def attempt(limited: Limited, user: str, statements: list[str]) -> list[str]:
    """Send statements in one session, whatever comes of each; return what failed and how."""
    limited.asked()
    failed = []
    with connect(limited.port, user, user[0]) as session:
        for sql in statements:
            try:
                if "TO STDOUT" in sql:
                    with session.cursor() as cursor, cursor.copy(sql) as rows:
                        for _ in rows:
                            pass
                else:
                    session.execute(sql)
            except psycopg.Error as error:
                failed.append(f"{type(error).__name__}: {error}")
                session.execute("ROLLBACK")
    return failed


LARGE = "LLM('q', title, model := 'large')"

OTHER_MODELS: dict[str, list[str]] = {
    "CTE": [f"WITH x AS (SELECT {LARGE} AS a FROM movies) FROM x"],
    "recursive CTE": [
        "WITH RECURSIVE r AS (SELECT 1 AS i, 'x' AS t UNION ALL "
        "SELECT i + 1, LLM('q', t, model := 'large') FROM r WHERE i < 3) FROM r"
    ],
    "view over a view": ["CREATE VIEW nested AS SELECT * FROM by_large", "FROM nested"],
    "temporary view": ["CREATE TEMP VIEW nested AS SELECT * FROM by_large", "FROM nested"],
    "view of one's own": [f"CREATE OR REPLACE VIEW own AS SELECT {LARGE} FROM movies", "FROM own"],
    "view replaced": [
        f"CREATE VIEW swapped AS SELECT {LARGE.replace('large', 'fast')} FROM movies",
        f"CREATE OR REPLACE VIEW swapped AS SELECT {LARGE} FROM movies",
        "FROM swapped",
    ],
    "macro replaced": [
        "CREATE OR REPLACE MACRO judge(x) AS LLM('q', x, model := 'large')",
        "SELECT judge(title) FROM movies",
    ],
    "macro with the model as its parameter": [
        "CREATE OR REPLACE MACRO chosen(x, m) AS LLM('q', x, model := m)",
        "SELECT chosen(title, 'large') FROM movies",
    ],
    "macro that is a table": [
        "CREATE TEMP MACRO listed() AS TABLE SELECT * FROM by_large",
        "FROM listed()",
    ],
    "view in another database": [
        "ATTACH ':memory:' AS elsewhere",
        "CREATE VIEW elsewhere.v AS SELECT LLM('q', 'x', model := 'large')",
        "FROM elsewhere.v",
    ],
    "cursor": ["BEGIN", "DECLARE c CURSOR FOR SELECT * FROM by_large", "FETCH ALL FROM c"],
    "COPY to the client": ["COPY (SELECT * FROM by_large) TO STDOUT"],
    "COPY to a file": ["COPY (SELECT * FROM by_large) TO '/dev/null' (FORMAT csv)"],
    "SET ROLE": ["SET ROLE anna", "FROM by_large"],
    "SET SESSION AUTHORIZATION": ["SET SESSION AUTHORIZATION anna", "FROM by_large"],
    "set_config of the role": ["SELECT set_config('role', 'anna', false)", "FROM by_large"],
    "set_config of the user": [
        "SELECT set_config('session_authorization', 'anna', false)",
        "FROM by_large",
    ],
    "set_config of the list": [
        "SELECT set_config('llm_allowed_models', 'large', false)",
        "FROM by_large",
    ],
    "set_config of the model": ["SELECT set_config('llm_model', 'large', false)", "FROM by_any"],
    "PRAGMA": ["PRAGMA llm_model='large'", "FROM by_any"],
    "SET GLOBAL": ["SET GLOBAL llm_model = 'large'", "FROM by_any"],
    "SET in a batch": ["BEGIN; SET LOCAL llm_model = 'large'; SELECT * FROM by_any; COMMIT"],
    "SET embedding model": [
        "SET llm_embedding_model = 'large'",
        "SELECT LLM_EMBED(title) FROM movies",
    ],
    "model called by another's name": [
        "CREATE MODEL fast (model 'large')",
        "SELECT LLM('q', title, model := 'fast') FROM movies",
    ],
    "RESET ALL": ["RESET ALL; SELECT * FROM by_large"],
    "variable": [
        "SET VARIABLE m = 'large'",
        "SELECT LLM('q', title, model := getvariable('m')) FROM movies",
    ],
    "subquery": ["SELECT LLM('q', title, model := (SELECT 'large')) FROM movies"],
    "expression": ["SELECT LLM('q', title, model := 'lar' || 'ge') FROM movies"],
    "capitals": ["SELECT LLM('q', title, model := 'LARGE') FROM movies"],
    "lambda": [
        "SELECT list_transform([title], lambda x: LLM('q', x, model := 'large')) FROM movies"
    ],
    "query_table": ["FROM query_table('by_large')"],
    "query_table in quotes": ["""FROM "Query_Table"('by_large')"""],
    "query_table of a list": ["FROM query_table(['by_' || 'large'])"],
    "query of its schema": ["FROM system.main.query('FROM by_large')"],
    "macro over query_table": [
        "CREATE TEMP MACRO hidden(t) AS TABLE FROM query_table(t)",
        "FROM hidden('by_large')",
    ],
    "SUMMARIZE of a query": ["SUMMARIZE SELECT * FROM by_large", "FROM (SUMMARIZE by_large)"],
    "query_table in a view": ["CREATE VIEW qt AS FROM query_table('by_large')", "FROM qt"],
    "EXPLAIN ANALYZE": ["EXPLAIN ANALYZE SELECT * FROM by_large"],
    "SUMMARIZE": ["SUMMARIZE by_large"],
    "PIVOT": ["PIVOT by_large ON f USING count(*)"],
    "INSERT": ["INSERT INTO reviews SELECT 5000 + id, id, f::VARCHAR, 1 FROM by_large"],
    "UPDATE": ["UPDATE movies SET synopsis = judged(title)"],
    "DELETE": [f"DELETE FROM movies WHERE {LARGE} = 'x'"],
    "MERGE": [
        "MERGE INTO movies USING by_large b ON (movies.id = b.id) "
        "WHEN MATCHED THEN UPDATE SET synopsis = b.f::VARCHAR"
    ],
    "RETURNING": [f"UPDATE movies SET price = 3 WHERE id = 1 RETURNING {LARGE}"],
    "VALUES": ["VALUES (LLM('q', 'x', model := 'large'))"],
    "CREATE TABLE AS": ["CREATE TEMP TABLE copied AS FROM by_large"],
    "similarity": ["SELECT LLM_SIMILARITY(title, 'x', model := 'large') FROM movies"],
    "prepared by SQL": [
        "PREPARE p AS SELECT LLM('q', title, model := $1) FROM movies",
        "EXECUTE p('large')",
    ],
    "another database of the server": ["USE other", f"SELECT {LARGE} FROM shop.main.movies"],
}  # fmt: skip


@pytest.mark.parametrize("way", OTHER_MODELS)
def test_no_way_leads_to_another_model(limited: Limited, way: str) -> None:
    attempt(limited, "cleo", OTHER_MODELS[way])
    assert set(limited.asked()) <= {"fast"}


WITHOUT_LIMITS = [
    "CTE",
    "view over a view",
    "cursor",
    "COPY to a file",
    "lambda",
    "query_table",
    "SUMMARIZE",
]


@pytest.mark.parametrize("way", WITHOUT_LIMITS)
def test_the_same_ways_lead_there_without_limits(limited: Limited, way: str) -> None:
    """Else the test above would pass of itself."""
    limited.asked()
    with connect(limited.port, "anna", "sécret") as anna:
        for sql in OTHER_MODELS[way]:
            anna.execute(sql.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
        anna.execute("ROLLBACK")
    assert set(limited.asked()) == {"large"}


@pytest.mark.parametrize("sql", ["SET ROLE dana", "SET SESSION AUTHORIZATION 'dana'"])
def test_nobody_becomes_another(limited: Limited, sql: str) -> None:
    for user, password in (("anna", "sécret"), ("cleo", "c")):
        with connect(limited.port, user, password) as session:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not become dana"):
                session.execute(sql)
            session.execute(f"SET ROLE {user}")
            session.execute("SET ROLE NONE")
            session.execute("SET SESSION AUTHORIZATION DEFAULT")
            assert session.execute("SELECT current_user").fetchone() == (user,)


ENDING = ["pg_cancel_backend(%s)", "pg_terminate_backend(%s)", "pg_terminate_backend(%s::int)"]


FORGED = [
    "SELECT pg_terminate_backend({}, 1) FROM pg_class",
    "SELECT * FROM pg_class, query('SELECT pg_terminate_backend({}, 1)')",
    "SELECT * FROM pg_class, query('SELECT pg_terminate_backend({})')",
]


@pytest.mark.parametrize("user", ["ben", "cleo", "dana"])
def test_a_user_sees_and_ends_no_statement_of_others(limited: Limited, user: str) -> None:
    with connect(limited.port, "anna", "sécret") as anna:
        anna.execute("SELECT 'private'")
        pid = anna.info.backend_pid
        with connect(limited.port, user, user[0]) as other:
            shown = "SELECT query FROM pg_stat_activity WHERE pid = %s"
            assert other.execute(shown, (pid,)).fetchone() == ("<insufficient privilege>",)
            for call in ENDING:
                assert other.execute(f"SELECT {call}", (pid,)).fetchone() == (False,)
            for forged in FORGED:
                with contextlib.suppress(psycopg.Error):
                    other.execute(forged.format(pid))
            own = other.execute(shown, (other.info.backend_pid,)).fetchone()
            assert own is not None
            assert "pg_stat_activity" in own[0]
        assert anna.execute("SELECT 1").fetchone() == (1,)


def test_a_user_ends_its_own_sessions_and_a_manager_all(limited: Limited) -> None:
    with connect(limited.port, "cleo", "c") as first, connect(limited.port, "cleo", "c") as second:
        ending = "SELECT pg_terminate_backend(%s)"
        assert first.execute(ending, (second.info.backend_pid,)).fetchone() == (True,)
        with connect(limited.port, "anna", "sécret") as anna:
            assert anna.execute(ending, (first.info.backend_pid,)).fetchone() == (True,)
        for ended in (first, second):
            with pytest.raises(psycopg.OperationalError):
                ended.execute("SELECT 1")


def test_a_parameter_names_no_other_model(limited: Limited) -> None:
    limited.asked()
    with connect(limited.port, "cleo", "c") as cleo:
        for binary in (False, True):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                cleo.execute(
                    "SELECT LLM('q', title, model := %s) FROM movies", ("large",), binary=binary
                )
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                cleo.execute("SELECT * FROM by_large WHERE id > %s", (1,), prepare=True)
    assert limited.asked() == []


MORE_CALLS: dict[str, list[str]] = {
    "CTE": ["WITH x AS (SELECT LLM('q1', title) AS a FROM movies) FROM x"],
    "view over a view": ["CREATE VIEW lots AS SELECT * FROM by_any", "FROM lots"],
    "macro replaced": [
        "CREATE OR REPLACE MACRO count_all(x) AS LLM('q2', x)",
        "SELECT count_all(title) FROM movies",
    ],
    "query_table": ["FROM query_table('by_any')"],
    "lambda": ["SELECT list_transform([title], lambda x: LLM('q3', x)) FROM movies"],
    "two calls per row": ["SELECT LLM('a', title), LLM('b', title) FROM movies WHERE id < 4"],
    "UNION": [
        "SELECT LLM('c', title) FROM movies WHERE id < 4 "
        "UNION ALL SELECT LLM('d', title) FROM movies WHERE id < 4"
    ],
    "cursor": ["BEGIN", "DECLARE c CURSOR FOR SELECT * FROM by_any", "FETCH ALL FROM c"],
    "COPY": ["COPY (SELECT * FROM by_any) TO STDOUT"],
    "SUMMARIZE": ["SUMMARIZE by_any"],
    "INSERT": ["INSERT INTO reviews SELECT 7000 + id, id, LLM('q4', title), 1 FROM movies"],
    "SET ROLE": ["SET ROLE anna", "FROM by_any"],
    "set_config": ["SELECT set_config('llm_max_calls', '99', false)", "FROM by_any"],
    "another setting": ["SET llm_connection_max_calls = 99", "FROM by_any"],
    "RESET ALL": ["RESET ALL", "DISCARD ALL", "FROM by_any"],
}


@pytest.mark.parametrize("way", MORE_CALLS)
def test_no_way_leads_past_the_budget(limited: Limited, way: str) -> None:
    assert attempt(limited, "dana", MORE_CALLS[way])
    assert len(limited.asked()) <= 5
