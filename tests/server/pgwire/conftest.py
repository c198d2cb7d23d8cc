"""One server for the tests of a module, and connections of psycopg to it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.server.pgwire.running import Running, Wire, running


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running() as server:
        yield server


@pytest.fixture
def pg(served: Running) -> Iterator[psycopg.Connection]:
    with psycopg.connect(served.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def wire(served: Running) -> Iterator[Wire]:
    with Wire(served.port) as client:
        client.start()
        yield client
