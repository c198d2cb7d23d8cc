"""asyncpg: everything in binary, types of parameters inferred."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import pytest

from tests.server.pgwire.running import Running
from tests.server.pgwire.test_types import CASES, VALUES

pytestmark = pytest.mark.clients

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed (make clients)")

Work = Callable[[Any], Coroutine[Any, Any, Any]]


def run(served: Running, work: Work) -> Any:
    async def connected() -> Any:
        connection = await asyncpg.connect(served.dsn, timeout=30)
        try:
            return await asyncio.wait_for(work(connection), 60)
        finally:
            await connection.close(timeout=10)

    return asyncio.run(connected())


@pytest.mark.parametrize(("sql", "value"), CASES, ids=[sql[:40] for sql, _ in CASES])
def test_a_value_arrives(served: Running, sql: str, value: Any) -> None:
    found = run(served, lambda c: c.fetchval(f"SELECT {sql}"))
    if isinstance(found, str) and not isinstance(value, (str, type(None))):
        found = json.loads(found)  # json is text to asyncpg
    assert found == value


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[f"{k}-{v!r}"[:40] for k, v in VALUES])
def test_a_parameter_arrives(served: Running, kind: str, value: Any) -> None:
    assert run(served, lambda c: c.fetchval(f"SELECT $1::{kind}", value)) == value


INFERRED = [
    ("SELECT title FROM movies WHERE id = $1", (3,), "Movie 3"),
    ("SELECT title FROM movies WHERE $1 = id", (4,), "Movie 4"),
    ("SELECT count(*) FROM movies WHERE id = ANY($1)", ([1, 2, 99],), 2),
    ("SELECT count(*) FROM movies WHERE id IN ($1, $2)", (1, 2), 2),
    ("SELECT count(*) FROM movies WHERE id BETWEEN $1 AND $2", (3, 5), 3),
    ("SELECT count(*) FROM movies WHERE released > $1", (dt.date(2020, 1, 10),), 10),
    ("SELECT count(*) FROM movies WHERE price >= $1", (Decimal("4.5"),), 2),
    ("SELECT count(*) FROM movies WHERE title LIKE $1", ("Movie 1%",), 11),
    ("SELECT id FROM movies ORDER BY id LIMIT $1 OFFSET $2", (1, 7), 7),
    ("SELECT $1 || '!'", ("x",), "x!"),
    ("SELECT m.id FROM movies m JOIN reviews r ON r.movie_id = m.id WHERE r.id = $1", (25,), 5),
    ("WITH x AS (SELECT id AS q FROM movies) SELECT q FROM x WHERE q = $1", (6,), 6),
]


@pytest.mark.parametrize(
    ("sql", "values", "found"), INFERRED, ids=[sql[:50] for sql, _, _ in INFERRED]
)
def test_the_type_follows_from_the_place(
    served: Running, sql: str, values: tuple[Any, ...], found: Any
) -> None:
    assert run(served, lambda c: c.fetchval(sql, *values)) == found


@pytest.mark.parametrize(("kind", "value"), [("text", "a\0b"), ("text[]", ["x", "a\0b"])])
def test_a_text_with_nul_is_refused(served: Running, kind: str, value: Any) -> None:
    """The driver sends it, in binary; any client that reads it back would lose what follows."""
    with pytest.raises(asyncpg.CharacterNotInRepertoireError, match=r"\$1 holds a NUL"):
        run(served, lambda c: c.fetchval(f"SELECT $1::{kind}", value))
    assert run(served, lambda c: c.fetchval("SELECT $1::bytea", b"a\0b")) == b"a\0b"


def test_rows_are_stored_and_changed(served: Running) -> None:
    async def work(c: Any) -> list[Any]:
        await c.execute("CREATE TEMP TABLE kept (id INTEGER, name VARCHAR, moment TIMESTAMP)")
        moment = dt.datetime(2024, 1, 2, 3, 4, 5)
        await c.execute("INSERT INTO kept VALUES ($1,$2,$3)", 1, "a", moment)
        await c.executemany(
            "INSERT INTO kept VALUES ($1,$2,$3)", [(i, "b", moment) for i in (2, 3)]
        )
        assert await c.execute("UPDATE kept SET name = $1 WHERE id = $2", "c", 3) == "UPDATE 1"
        records = [(i, "copied", None) for i in range(10, 15)]
        assert await c.copy_records_to_table("kept", records=records) == "COPY 5"
        return list(await c.fetchval("SELECT list(name ORDER BY id) FROM kept"))

    assert run(served, work) == ["a", "b", "c", *["copied"] * 5]


def test_a_cursor_and_a_nested_transaction(served: Running) -> None:
    async def work(c: Any) -> int:
        async with c.transaction():
            count = 0
            async for _ in c.cursor("SELECT i FROM range(1000) r(i)", prefetch=70):
                count += 1
            async with c.transaction():
                await c.execute("SELECT 1")
        return count

    assert run(served, work) == 1000


def test_copy_out_errors_and_prompts(served: Running) -> None:
    async def work(c: Any) -> None:
        out = io.BytesIO()
        assert (
            await c.copy_from_query("SELECT id FROM movies", output=out, format="csv") == "COPY 20"
        )
        with pytest.raises(asyncpg.UndefinedColumnError):
            await c.fetch("SELECT nope FROM movies")
        rows = await c.fetch("SELECT LLM_FILTER($1, title) AS f FROM movies", "Is it asked?")
        assert {type(row["f"]) for row in rows} == {bool}
        statement = await c.prepare("SELECT id, title FROM movies WHERE id = $1")
        assert [a.name for a in statement.get_attributes()] == ["id", "title"]

    run(served, work)


def test_a_timeout_cancels_and_the_connection_goes_on(served: Running) -> None:
    async def work(c: Any) -> int:
        slow = "SELECT sum(hash(a.i * b.i)) FROM range(1000000) a(i), range(1000000) b(i)"
        with pytest.raises(asyncio.TimeoutError):
            await c.fetch(slow, timeout=0.3)
        return int(await c.fetchval("SELECT 42"))

    assert run(served, work) == 42
