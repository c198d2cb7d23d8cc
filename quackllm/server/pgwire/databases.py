"""What a server serves, to clients of any protocol, and who is connected."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quackllm.server.pgwire.activity import Activity, Registry
from quackllm.server.pgwire.catalog import Catalog, CatalogDatabase
from quackllm.server.pgwire.conductor import Conductor
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.faults import Faults
from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.variables import Variables
from quackllm.server.pgwire.watch import StatementNumbers, Watch
from quackllm.server.pgwire.worker import Worker

if TYPE_CHECKING:
    from quackllm import Connection


@dataclass
class Served:
    """A database that is served, and what its sessions share."""

    name: str
    connection: Connection
    numbers: StatementNumbers = field(default_factory=StatementNumbers)


@dataclass(frozen=True)
class Opened:
    """A session's own connection, and what carries its statements out."""

    worker: Worker
    variables: Variables
    conductor: Conductor


@dataclass(frozen=True)
class Client:
    """Who connects, and from where."""

    role: Role
    application: str
    address: tuple[str, int]
    encrypted: bool


class Databases:
    """Databases that are served; they stay their owner's and are not closed here."""

    def __init__(self, databases: Mapping[str, Connection], most_sessions: int) -> None:
        """most_sessions: of all protocols together."""
        self.registry = Registry()
        self.faults = Faults()
        self.closing = False
        self._most = most_sessions
        self._served = {name: Served(name, con) for name, con in databases.items()}
        for served in self._served.values():
            served.connection.llm_engine.events.listeners.append(served.numbers)
        self._catalogs = CatalogDatabase(self.registry, list(databases))

    def first_for(self, role: Role) -> str:
        """Return the first database that a role may connect to."""
        allowed = [
            name for name in self._served if role.databases is None or name in role.databases
        ]
        return allowed[0] if allowed else next(iter(self._served))

    def find(self, name: str, role: Role) -> Served:
        """Return the database of a name. Raises `WireError` if there is none for the role."""
        served = self._served.get(name)
        if served is None:
            names = ", ".join(sorted(self._served))
            raise WireError(
                SqlState.UNKNOWN_DATABASE,
                f'database "{name}" does not exist',
                hint=f"This server has {names}.",
            )
        if role.databases is not None and name not in role.databases:
            raise WireError(SqlState.PRIVILEGE, f'permission denied for database "{name}"')
        return served

    def admit(self, client: Client, served: Served) -> Activity:
        """Register a session. Raises `WireError` when there are too many."""
        if self.closing or len(self.registry) >= self._most:
            raise WireError(SqlState.TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        return self.registry.add(
            client.role.name,
            served.name,
            client.application,
            client.address,
            is_manager=client.role.is_manager,
        )

    def open(self, client: Client, served: Served, activity: Activity) -> Opened:
        """Make the connection of a session, and what carries its statements out."""
        connection = served.connection.cursor()
        variables = Variables(
            application_name=client.application,
            session_authorization=client.role.name,
            default_transaction_read_only="on" if client.role.read_only else "off",
            ssl="on" if client.encrypted else "off",
        )
        worker = Worker(connection)
        catalog = Catalog(worker, variables, self._catalogs, activity)
        watch = Watch(connection.llm_engine, served.numbers)
        activity.interrupt = connection.interrupt
        conductor = Conductor(worker, catalog, variables, watch, client.role)
        return Opened(worker, variables, conductor)

    def close(self) -> None:
        """Stop listening to the databases' engines, and forget what their catalogs hold."""
        self._catalogs.close()
        for served in self._served.values():
            with contextlib.suppress(ValueError):
                served.connection.llm_engine.events.listeners.remove(served.numbers)
