"""`quackllm serve`: databases for PostgreSQL clients, and for those of Arrow Flight SQL."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import ipaddress
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

import quackllm
from quackllm.server.command_line import (
    BAD_USAGE,
    FAILURE,
    SUCCESS,
    UsageError,
    add_settings,
    parser_of,
    set_all,
    settings_of,
)
from quackllm.server.pgwire.roles import UsersFileError, read_users
from quackllm.server.pgwire.scram import verifier_of
from quackllm.server.pgwire.server import Configuration, Server

if TYPE_CHECKING:
    from quackllm.server.flight.server import FlightServer
    from quackllm.server.pgwire.databases import Databases

EPILOG = """\
examples:
  quackllm serve shop.duckdb --port 5432
  psql -h 127.0.0.1 -U me shop

  quackllm serve shop.duckdb --host 0.0.0.0 --users users.toml --tls-cert c.pem --tls-key k.pem
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = parser_of(
        "quackllm serve",
        "Serve DuckDB databases with LLM functions to PostgreSQL clients.",
        EPILOG,
    )
    parser.add_argument(
        "databases",
        nargs="*",
        metavar="DATABASE",
        help="database file, known to clients by its name without the ending, or NAME=FILE "
        "(default: one in memory, called memory)",
    )
    _add_network(parser)
    parser.add_argument("--read-only", action="store_true", help="open the databases read-only")
    parser.add_argument(
        "--max-connections",
        type=int,
        default=100,
        metavar="N",
        help="sessions at once (default: %(default)s)",
    )
    add_settings(parser, " for all sessions")
    parser.add_argument(
        "--hash-password",
        action="store_true",
        help="make the entry of a password for --users, and exit",
    )
    return parser


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add what says where the server listens, and who may reach it."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=5432, help="port (default: %(default)s; 0: any)"
    )
    parser.add_argument(
        "--flight",
        type=int,
        metavar="PORT",
        help="also serve Arrow Flight SQL, for ADBC, on this port (0: any)",
    )
    parser.add_argument(
        "--users", metavar="FILE", help="who may log in (TOML); needed off this machine"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate for encrypted connections")
    parser.add_argument("--tls-key", metavar="FILE", help="its key")
    parser.add_argument("--require-tls", action="store_true", help="refuse unencrypted connections")


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    options = build_parser().parse_args(arguments)
    if options.hash_password:
        return _hash_password()
    try:
        configuration = _configuration(options)
        with ExitStack() as stack:
            start_flight = None if options.flight is None else _flight(options, configuration)
            databases = _databases(options, stack)
            asyncio.run(_serve(databases, configuration, start_flight))
    except UsageError as error:
        print(f"quackllm serve: {error}", file=sys.stderr)
        return BAD_USAGE
    except (duckdb.Error, OSError) as error:
        print(f"quackllm serve: {error}", file=sys.stderr)
        return FAILURE
    return SUCCESS


def _hash_password() -> int:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
    else:
        password = sys.stdin.readline().rstrip("\n")
    print(verifier_of(password))
    return SUCCESS


def _configuration(options: argparse.Namespace) -> Configuration:
    """Check the options that belong together. Raises `UsageError`."""
    users = None
    if options.users is not None:
        try:
            users = read_users(Path(options.users))
        except UsersFileError as error:
            raise UsageError(str(error)) from None
    elif not _is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} lets other machines in: say who may log in with --users FILE"
        )
    tls = None
    if options.tls_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(options.tls_cert, options.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"cannot use {options.tls_cert}: {error}") from None
    elif options.require_tls or options.tls_key is not None:
        raise UsageError("--tls-cert is missing")
    return Configuration(
        host=options.host,
        port=options.port,
        users=users,
        tls=tls,
        require_tls=options.require_tls,
        read_only=options.read_only,
        max_connections=options.max_connections,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _databases(options: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Open the databases. Raises `UsageError` and `duckdb.Error`."""
    databases: dict[str, Any] = {}
    for written in options.databases or ["memory=:memory:"]:
        name, equals, path = written.partition("=")
        if not equals:
            name, path = Path(written).stem, written
        if name in databases:
            raise UsageError(f"two databases are called {name}: name one with OTHER={path}")
        connection = quackllm.connect(
            path,
            read_only=options.read_only,
            config={"python_enable_replacements": "false"},
            progress=False,
        )
        databases[name] = stack.enter_context(connection)
        set_all(connection, settings_of(options))
    return databases


def _flight(
    options: argparse.Namespace, configuration: Configuration
) -> Callable[[Databases], FlightServer]:
    """Return what starts Flight SQL as the options say. Raises `UsageError`."""
    try:
        from quackllm.server.flight.server import FlightConfiguration, FlightServer
    except ImportError as error:
        raise UsageError(f"--flight needs {error.name}: pip install 'quackllm[flight]'") from None
    certificate = key = b""
    if options.tls_cert is not None:
        certificate = Path(options.tls_cert).read_bytes()
        key = Path(options.tls_key or options.tls_cert).read_bytes()
    elif not _is_loopback(options.host):
        raise UsageError("--flight sends passwords as they are: off this machine, add --tls-cert")
    wanted = FlightConfiguration(
        host=options.host,
        port=options.flight,
        users=configuration.users,
        read_only=options.read_only,
        certificate=certificate,
        key=key,
    )

    def start(databases: Databases) -> FlightServer:
        try:
            return FlightServer(databases, wanted)
        except pa.ArrowException as error:
            raise OSError(f"cannot serve Flight SQL on port {wanted.port}: {error}") from None

    return start


async def _serve(
    databases: dict[str, Any],
    configuration: Configuration,
    start_flight: Callable[[Databases], FlightServer] | None,
) -> None:
    server = Server(databases, configuration)
    await server.start()
    names, host = ", ".join(databases), configuration.host
    print(f"serving {names} on {host}:{server.port}", file=sys.stderr, flush=True)
    flight = None if start_flight is None else start_flight(server.databases)
    if flight is not None:
        print(f"serving Arrow Flight SQL on {host}:{flight.port}", file=sys.stderr, flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_, stop.set)
    await stop.wait()
    print("stopping", file=sys.stderr, flush=True)
    if flight is not None:
        await asyncio.to_thread(flight.stop)
    await server.close()
