"""The server: listens, lets clients in, and gives each a session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quackllm.server.pgwire import backend, frontend
from quackllm.server.pgwire.activity import Activity, Registry
from quackllm.server.pgwire.databases import Client, Databases, Opened, Served
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.frontend import CancelRequest, EncryptionRequest, ProtocolViolation
from quackllm.server.pgwire.roles import Role
from quackllm.server.pgwire.scram import MECHANISM, Exchange, ScramError
from quackllm.server.pgwire.session import Session

if TYPE_CHECKING:
    from quackllm import Connection

LOGGER = logging.getLogger("quackllm.server")

_LOG_IN_SECONDS = 60.0
_SHUT_SECONDS = 10.0


@dataclass(frozen=True)
class Configuration:
    """How a server serves.

    users: by name; None lets anybody in under any name.
    tls: for clients that ask for encryption; with require_tls others are refused.
    """

    host: str = "127.0.0.1"
    port: int = 5432
    users: Mapping[str, Role] | None = None
    tls: ssl.SSLContext | None = None
    require_tls: bool = False
    read_only: bool = False
    max_connections: int = 100


class _Protocol(asyncio.StreamReaderProtocol):
    """Tells at once when the client is gone, also while nobody reads."""

    gone: Callable[[], None] | None = None

    def eof_received(self) -> bool | None:
        self._tell()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tell()
        super().connection_lost(exc)

    def _tell(self) -> None:
        if self.gone is not None:
            self.gone()


class Server:
    """Serves databases to PostgreSQL clients until it is closed.

    The databases stay their owner's: they are not closed here.
    """

    def __init__(self, databases: Mapping[str, Connection], configuration: Configuration) -> None:
        self.databases = Databases(databases, configuration.max_connections)
        self._configuration = configuration
        self._mock_secret = secrets.token_bytes(32)
        self._listening: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def registry(self) -> Registry:
        """Who is connected."""
        return self.databases.registry

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listening is not None
        port: int = self._listening.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Begin to listen. Raises `OSError`."""
        loop = asyncio.get_running_loop()

        def protocol() -> _Protocol:
            reader = asyncio.StreamReader(loop=loop)
            return _Protocol(reader, self._connected, loop=loop)

        self._listening = await loop.create_server(
            protocol, self._configuration.host, self._configuration.port, backlog=256
        )

    async def close(self) -> None:
        """Stop: statements end, clients are told, answers that have come are kept."""
        self.databases.closing = True
        assert self._listening is not None
        self._listening.close()
        for activity in self.registry.sessions():
            activity.cancel()
            activity.terminate()
        if self._clients:
            await asyncio.wait(self._clients, timeout=_SHUT_SECONDS)
        self.databases.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._client(reader, writer)
        except (ConnectionError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client went away
        except WireError as error:
            with contextlib.suppress(ConnectionError):
                writer.write(backend.error(error, "FATAL"))
                await writer.drain()
        except Exception as error:  # noqa: BLE001 - of this session alone; the others go on
            self.databases.faults.note(error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await asyncio.wait_for(writer.wait_closed(), _SHUT_SECONDS)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_LOG_IN_SECONDS):
            startup = await self._opened(reader, writer)
            if startup is None:
                return
            user = startup.parameters.get("user", "")
            if not user:
                raise WireError(
                    SqlState.INVALID_AUTHORIZATION,
                    "no PostgreSQL user name specified in startup packet",
                )
            if startup.minor or any(name.startswith("_pq_.") for name in startup.parameters):
                unknown = [name for name in startup.parameters if name.startswith("_pq_.")]
                writer.write(backend.negotiate_version(unknown))
            role = await self._authenticated(user, reader, writer)
        served = self.databases.find(startup.parameters.get("database", user), role)
        await self._session(startup, role, served, reader, writer)

    async def _opened(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> frontend.Startup | None:
        """Read up to the startup packet; None when the client wanted something else."""
        encrypted = False
        while True:
            opening = await frontend.read_opening(reader)
            if opening is None:
                return None
            if isinstance(opening, CancelRequest):
                self.registry.cancel(opening.pid, opening.secret)
                return None
            if isinstance(opening, EncryptionRequest):
                if opening.tls and self._configuration.tls is not None and not encrypted:
                    await self._encrypt(reader, writer, self._configuration.tls)
                    encrypted = True
                else:
                    writer.write(b"N")
                    await writer.drain()
                continue
            if self._configuration.require_tls and not encrypted:
                raise WireError(
                    SqlState.INVALID_AUTHORIZATION,
                    "this server takes encrypted connections only",
                    hint="Connect with sslmode=require.",
                )
            return opening

    async def _encrypt(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext
    ) -> None:
        # What came before the handshake could have been put there by somebody in between.
        if reader._buffer:  # type: ignore[attr-defined]
            raise ProtocolViolation("received unencrypted data after SSL request")
        writer.write(b"S")
        await writer.start_tls(tls)

    async def _authenticated(
        self, user: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Role:
        users = self._configuration.users
        if users is None:
            return Role(user, read_only=self._configuration.read_only)
        role = users.get(user)
        exchange = Exchange(role.verifier if role else None, self._mock_secret, user)
        try:
            writer.write(backend.sasl_mechanisms([MECHANISM]))
            first = await _password(reader)
            mechanism, _, rest = first.partition(b"\0")
            if mechanism != MECHANISM.encode() or len(rest) < 4:
                raise ScramError("client selected an invalid SASL authentication mechanism")
            writer.write(backend.sasl_continue(exchange.challenge(rest[4:])))
            final = exchange.prove(await _password(reader))
        except ScramError as error:
            LOGGER.info("log-in of %s failed: %s", user, error)
            raise WireError(
                SqlState.INVALID_PASSWORD, f'password authentication failed for user "{user}"'
            ) from None
        assert role is not None
        writer.write(backend.sasl_final(final))
        return role

    async def _session(
        self,
        startup: frontend.Startup,
        role: Role,
        served: Served,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        peer: Any = writer.get_extra_info("peername") or ("", 0)
        client = Client(
            role,
            startup.parameters.get("application_name", ""),
            (peer[0], peer[1]),
            writer.get_extra_info("ssl_object") is not None,
        )
        activity = self.databases.admit(client, served)
        try:
            opened = self.databases.open(client, served, activity)
            session = Session(reader, writer, opened.conductor, activity, self.databases.faults)
            try:
                await self._begin(session, startup, opened, activity, writer)
                await session.run()
            finally:
                _when_gone(writer, None)  # nothing is left to be ended
                await session.close()
        finally:
            self.registry.remove(activity)

    async def _begin(
        self,
        session: Session,
        startup: frontend.Startup,
        opened: Opened,
        activity: Activity,
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        activity.terminate = lambda: _soon(loop, session.terminate)
        _when_gone(writer, activity.abandon)
        writer.write(backend.AUTHENTICATION_OK)
        await session.configure(startup.parameters)
        for name, value in opened.variables.reported().items():
            writer.write(backend.parameter_status(name, value))
        writer.write(backend.backend_key(activity.pid, activity.secret))


def _when_gone(writer: asyncio.StreamWriter, work: Callable[[], None] | None) -> None:
    """Have something done when the client goes away."""
    protocol = writer.transport.get_protocol()
    if isinstance(protocol, _Protocol):
        protocol.gone = work


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(work)


async def _password(reader: asyncio.StreamReader) -> bytes:
    message = await frontend.read_message(reader)
    if message is None:
        raise ConnectionResetError
    if not isinstance(message, frontend.Password):
        raise ProtocolViolation(f"expected SASL response, got {type(message).__name__}")
    return message.data
