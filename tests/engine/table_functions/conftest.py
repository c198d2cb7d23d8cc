"""A connection over the fake provider with texts to search."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import quackllm
from quackllm.engine.connection import Connection
from quackllm.testing import FakeProvider

TABLES = """
CREATE TABLE passages AS SELECT i AS id, CASE WHEN i % 13 = 0 THEN NULL ELSE
    'Passage ' || i || ' about ' || ['ducks', 'trains', 'love', 'war', 'rain'][i % 5 + 1] END
    AS body FROM range(1, 60) r(i);
CREATE TABLE questions AS SELECT i AS id, ['Are there ducks?', 'Where is love', NULL,
    'Trains, and RAIN', 'Are there ducks?'][i % 5 + 1] AS question FROM range(7) r(i);
"""


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def con(fake: FakeProvider) -> Iterator[Connection]:
    with quackllm.connect(provider=fake, progress=False) as connection:
        connection.execute(TABLES)
        yield connection
