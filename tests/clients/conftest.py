"""One server for all client tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.pgwire.running import Running, running


@pytest.fixture(scope="package")
def served() -> Iterator[Running]:
    with running() as server:
        yield server
