"""Connections over the fake provider, and the naive plan to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.engine.engine import Engine
from quackllm.engine.scalar import register_scalar_function
from quackllm.engine.session import Session
from quackllm.engine.settings import Settings
from quackllm.engine.statement import split
from quackllm.testing import FakeProvider

TABLES = """
CREATE TABLE movies (id INTEGER, title VARCHAR, synopsis VARCHAR, year INTEGER, genre VARCHAR);
INSERT INTO movies SELECT i, 'Movie ' || i, CASE WHEN i % 7 = 0 THEN NULL
    ELSE 'A story about ' || ['ducks', 'trains', 'love', 'war', 'rain'][i % 5 + 1] END,
    1990 + i, ['drama', 'comedy', NULL][i % 3 + 1] FROM range(30) r(i);
CREATE TABLE reviews (id INTEGER, movie_id INTEGER, body VARCHAR, stars INTEGER, price DOUBLE);
INSERT INTO reviews SELECT i, i * 7 % 33, CASE WHEN i % 11 = 0 THEN NULL
    ELSE 'Review text ' || i % 23 END, i % 6, i / 4.0 FROM range(90) r(i);
CREATE TABLE empty_table (x VARCHAR);
CREATE TABLE "odd table" ("select" VARCHAR, "a b" INTEGER, "q""uote" VARCHAR);
INSERT INTO "odd table" VALUES ('x', 1, 'it''s'), (NULL, 2, '{"a": 1}'), ('😀', 3, 'مرحبا');
"""


@dataclass
class Pair:
    """The same data and the same fake twice: through the planner, and naively."""

    planned: Connection
    planned_fake: FakeProvider
    naive: duckdb.DuckDBPyConnection
    naive_fake: FakeProvider
    naive_engine: Engine

    def define(self, sql: str) -> None:
        """Run a statement that stores views, macros or rows on both sides."""
        self.planned.execute(sql)
        for statement in split(sql):
            Session(self.naive, self.naive_engine).other(statement.sql, {}, Settings(), "execute")

    def run_planned(self, sql: str, parameters: Any = None) -> tuple[list[Any], list[str]]:
        """Rows and types through the planner."""
        rows = self.planned.execute(sql, parameters).fetchall()
        return rows, [str(column[1]) for column in self.planned.description]

    def run_naive(self, sql: str) -> tuple[list[Any], list[str]]:
        """Rows and types with every call made by the registered function in plain DuckDB."""
        text = Session(self.naive, self.naive_engine).naive_query(sql)
        return self._run_in_duckdb(text)

    def run_other_naive(self, sql: str) -> tuple[list[Any], list[str]]:
        """The same for a statement that is not a query."""
        return self._run_in_duckdb(Session(self.naive, self.naive_engine).naive_expression(sql))

    def _run_in_duckdb(self, text: str) -> tuple[list[Any], list[str]]:
        rows = self.naive.execute(text).fetchall()
        assert self.naive.description is not None
        return rows, [str(column[1]) for column in self.naive.description]


def open_pair(tables: str = TABLES, seed: int = 0, **settings: Any) -> Pair:
    planned_fake, naive_fake = FakeProvider(seed=seed), FakeProvider(seed=seed)
    planned = quackllm.connect(provider=planned_fake, progress=False, cache=False, **settings)
    naive = duckdb.connect()
    engine = Engine(provider=naive_fake)
    register_scalar_function(naive, engine, lambda: Settings(cache=True))
    planned.execute(tables)
    naive.execute(tables)
    return Pair(planned, planned_fake, naive, naive_fake, engine)


def close_pair(pair: Pair) -> None:
    pair.planned.close()
    pair.naive_engine.close()
    pair.naive.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    opened = open_pair()
    yield opened
    close_pair(opened)


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(TABLES)
        yield connection
