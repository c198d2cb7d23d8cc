"""A real vLLM server, which `make test-vllm` starts and names in QUACKLLM_VLLM_URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import quackllm
from quackllm.engine.connection import Connection

FILMS = """
CREATE TABLE films AS
SELECT i AS id, 'Film number ' || i AS title,
    'A ' || ['warm', 'dark', 'slow', 'loud'][i % 4 + 1] || ' story. ' || repeat(
        ['The ducks cross the lake at night and nobody in the village hears them. ',
         'A train leaves for the north with a letter that must not arrive in time. '][i % 2 + 1],
        4) AS synopsis
FROM range(40) r(i)
"""


@pytest.fixture(scope="session")
def vllm_url() -> str:
    """The address of the server, with its '/v1'."""
    url = os.environ.get("QUACKLLM_VLLM_URL")
    if not url:
        pytest.skip("no vLLM server: make test-vllm starts one")
    return url


def last(con: Connection) -> dict[str, Any]:
    """Return what the last statement cost, as llm_queries() says it."""
    table = con.sql("FROM llm_queries() ORDER BY statement DESC LIMIT 1").to_arrow_table()
    row: dict[str, Any] = table.to_pylist()[0]
    return row


@pytest.fixture
def con(vllm_url: str) -> Iterator[Connection]:
    """A connection whose model is the server's, with forty films of two synopses."""
    connection = quackllm.connect(base_url=vllm_url, progress=False)
    connection.execute(FILMS)
    yield connection
    connection.close()
