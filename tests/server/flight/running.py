"""A Flight SQL server over the fake provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import quackllm
from quackllm.server.flight.server import FlightConfiguration, FlightServer
from quackllm.server.pgwire.databases import Databases
from quackllm.testing import FakeProvider
from tests.server.pgwire.running import TABLES


@dataclass
class Flying:
    """A server that runs: its address, its fake model, and who is connected."""

    server: FlightServer
    databases: Databases
    fake: FakeProvider
    scheme: str = "grpc+tcp"

    @property
    def address(self) -> str:
        """For clients of Flight."""
        return f"{self.scheme}://localhost:{self.server.port}"


@contextmanager
def flying(
    fake: FakeProvider | None = None, most_sessions: int = 100, **configuration: Any
) -> Iterator[Flying]:
    """Serve a database called shop, and an empty one called other."""
    provider = fake or FakeProvider()
    options = {"python_enable_replacements": "false"}
    with (
        quackllm.connect(config=options, provider=provider, progress=False) as shop,
        quackllm.connect(config=options, provider=provider, progress=False) as other,
    ):
        shop.execute(TABLES)
        databases = Databases({"shop": shop, "other": other}, most_sessions)
        server = FlightServer(databases, FlightConfiguration(**configuration))
        scheme = "grpc+tls" if configuration.get("certificate") else "grpc+tcp"
        try:
            yield Flying(server, databases, provider, scheme)
        finally:
            server.stop()
            databases.close()
