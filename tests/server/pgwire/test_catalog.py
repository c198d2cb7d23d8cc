"""pg_catalog and information_schema: what tools ask for when they start (nothing calls a model)."""

from __future__ import annotations

import re

import psycopg
import pytest

from quackllm.server.pgwire.catalog.definitions import OF_SESSION, definitions
from tests.server.pgwire.running import Running

DEFINITIONS = definitions(["shop"])
READABLE = sorted(
    name
    for name, statement in DEFINITIONS.statements.items()
    if not name.startswith("information_") and "MACRO" not in (statement or "")
)


def test_a_query_makes_only_what_it_names() -> None:
    assert DEFINITIONS.needed("SELECT 'x', version()") == []
    needed = DEFINITIONS.needed("SELECT nspname FROM pg_namespace")
    assert needed == ["raw_relations", "raw_schemas", "pg_namespace"]
    assert "pg_proc" not in DEFINITIONS.needed("SELECT * FROM pg_class JOIN pg_attribute ON true")


def test_what_is_made_comes_after_what_it_is_made_of() -> None:
    for name in DEFINITIONS.statements:
        order = DEFINITIONS.needed(name)
        assert order[-1] == name
        for position, one in enumerate(order):
            assert DEFINITIONS.uses[one] <= set(order[:position]) | {name}, one


@pytest.mark.parametrize("name", [name for name in READABLE if name.startswith("pg_")])
def test_every_table_can_be_read(pg: psycopg.Connection, name: str) -> None:
    pg.execute(f"SELECT * FROM pg_catalog.{name} AS t WHERE t IS NOT NULL LIMIT 3")


@pytest.mark.parametrize(
    "name",
    sorted(name.removeprefix("information_") for name in DEFINITIONS.statements
           if name.startswith("information_")),
)  # fmt: skip
def test_every_view_of_the_information_schema_can_be_read(
    pg: psycopg.Connection, name: str
) -> None:
    pg.execute(f"SELECT * FROM information_schema.{name} LIMIT 3")


def test_every_function_can_be_made(pg: psycopg.Connection) -> None:
    for name, statement in DEFINITIONS.statements.items():
        if "MACRO" not in (statement or "") or "_rows" in name or "AS TABLE" in (statement or ""):
            continue
        arguments = re.search(r"MACRO \w+\(([^)]*)\)", statement or "")
        assert arguments is not None
        count = len([a for a in arguments[1].split(",") if a.strip()])
        pg.execute(f"SELECT pg_catalog.{name}({', '.join(['NULL'] * count)})")


def test_the_session_fills_what_has_no_definition() -> None:
    assert {n for n, s in DEFINITIONS.statements.items() if s is None and n.startswith("pg_")} == (
        OF_SESSION
    )


def test_another_session_sees_a_new_table_at_once(served: Running, pg: psycopg.Connection) -> None:
    listed = "SELECT relname FROM pg_class WHERE relname = 'appears'"
    with psycopg.connect(served.dsn, autocommit=True) as other:
        assert other.execute(listed).fetchall() == []
        pg.execute("CREATE TABLE appears (a INTEGER)")
        assert other.execute(listed).fetchall() == [("appears",)]
        pg.execute("DROP TABLE appears")
        assert other.execute(listed).fetchall() == []


def test_temporary_tables_are_those_of_the_session(served: Running, pg: psycopg.Connection) -> None:
    pg.execute("CREATE TEMP TABLE mine (a INTEGER)")
    listed = "SELECT table_name FROM information_schema.tables WHERE table_name = 'mine'"
    assert pg.execute(listed).fetchall() == [("mine",)]
    with psycopg.connect(served.dsn, autocommit=True) as other:
        assert other.execute(listed).fetchall() == []


def test_a_setting_has_the_value_that_was_set(pg: psycopg.Connection) -> None:
    setting = "SELECT setting FROM pg_settings WHERE name = 'application_name'"
    pg.execute(setting)
    pg.execute("SET application_name = 'later'")
    assert pg.execute(setting).fetchall() == [("later",)]
