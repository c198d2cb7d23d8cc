"""The `quackllm` command: statements in, results on standard output.

Results go to standard output; the progress bar, notices, the cost of each statement
that called a model, and errors go to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

import quackllm
from quackllm.engine.commands import without_keys
from quackllm.engine.statement import Statement, split
from quackllm.server import serve
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
from quackllm.server.duckdb_shell.server import main as shell_engine
from quackllm.server.output import DEFAULT_FORMAT, FORMATS
from quackllm.server.running import run_statement, say

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
"""128 + SIGINT, what shells report for a program that Ctrl-C ended."""
BROKEN_PIPE = 141
"""128 + SIGPIPE, what shells report for a program whose reader went away."""

EPILOG = """\
examples:
  quackllm shop.duckdb
  quackllm -c "SELECT LLM('Say hello in Danish') AS hello"
  quackllm shop.duckdb -f report.sql --format csv > report.csv
  echo "FROM llm_functions()" | quackllm --format markdown

exit status: 0 done, 1 a statement failed, 2 wrong usage, 130 interrupted
"""


@dataclass(frozen=True)
class Script:
    """SQL to run, and the name to report its faults under, None for `-c`.

    folder: where its relative paths are looked up when they are not in the working
    directory.
    """

    sql: str
    name: str | None = None
    folder: Path | None = None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = parser_of("quackllm", "Run SQL with LLM functions in DuckDB.", EPILOG)
    parser.add_argument(
        "database", nargs="?", default=":memory:", help="database file (default: in memory)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("-c", "--command", metavar="SQL", help="statements to run")
    source.add_argument(
        "-f", "--file", metavar="FILE", help="file of statements to run ('-': standard input)"
    )
    parser.add_argument(
        "--format", choices=list(FORMATS), default=DEFAULT_FORMAT, help="how rows are written"
    )
    add_settings(parser)
    parser.add_argument("--echo", action="store_true", help="print statements before their results")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.add_argument("--read-only", action="store_true", help="open the database read-only")
    parser.add_argument(
        "--version",
        action="version",
        version=f"quackllm {version('quackllm')} (DuckDB {duckdb.__version__})",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status. Arguments are the process's own if None."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["serve"] or arguments[:1] == ("serve",):
        return serve.main(arguments[1:])
    if list(arguments[:1]) == ["shell-engine"]:
        return shell_engine(arguments[1:])
    options = build_parser().parse_args(arguments)
    try:
        return _run(options)
    except UsageError as error:
        say(f"quackllm: {error}")
        return BAD_USAGE
    except (KeyboardInterrupt, duckdb.InterruptException):
        say("Interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes standard output at exit, which would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except duckdb.Error as error:
        say(str(error))
        return FAILURE


def _run(options: argparse.Namespace) -> int:
    nothing_given = options.command is None and options.file is None
    if nothing_given and sys.stdin.isatty() and sys.stdout.isatty():
        return _shell(options)
    script = _script(options)
    statements = split(script.sql)
    with quackllm.connect(options.database, read_only=options.read_only) as connection:
        _configure(connection, options, script.folder)
        printed = 0
        for statement in statements:
            if options.echo:
                end = statement.offset + len(statement.sql)
                gap = "\n" if printed else ""
                shown = without_keys(script.sql[printed:end].lstrip("; \n"))
                print(f"{gap}{shown};", flush=True)
                printed = end
            try:
                run_statement(connection, statement, options.format)
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                say(f"{error}{_place(script, statements, statement)}")
                return FAILURE
    return SUCCESS


def _shell(options: argparse.Namespace) -> int:
    """Read statements from the terminal."""
    # What draws the prompt takes longer to import than a short statement to run.
    from quackllm.server.shell.display import Display
    from quackllm.server.shell.shell import Shell

    def connect(database: str, read_only: bool) -> quackllm.Connection:
        connection = quackllm.connect(database, read_only=read_only)
        try:
            _configure(connection, options, None)
        except UsageError:
            connection.close()
            raise
        return connection

    connection = connect(options.database, options.read_only)
    return Shell(connection, connect=connect, display=Display(options.format)).run()


def _script(options: argparse.Namespace) -> Script:
    """Find what to run. Raises `UsageError` when there is nothing."""
    if options.command is not None:
        return Script(options.command)
    if options.file is not None and options.file != "-":
        path = Path(options.file)
        try:
            return Script(path.read_text(encoding="utf-8"), options.file, path.resolve().parent)
        except OSError as error:
            raise UsageError(f"cannot read {options.file}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UsageError(f"{options.file} is not UTF-8 text: {error}") from None
    if options.file is None and sys.stdin.isatty():
        raise UsageError(
            "nothing to run: give -c SQL, -f FILE, or statements on standard input "
            "(quackllm --help shows how)"
        )
    try:
        return Script(sys.stdin.buffer.read().decode("utf-8"), "standard input")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text: {error}") from None


def _configure(connection: Any, options: argparse.Namespace, folder: Path | None) -> None:
    """Carry out the options that are settings. Raises `UsageError`."""
    if folder is not None:
        set_all(connection, [("file_search_path", str(folder))])
    if options.no_progress:
        set_all(connection, [("llm_progress", "false")])
    set_all(connection, settings_of(options))


def _place(script: Script, statements: Sequence[Statement], failed: Statement) -> str:
    """Say where a statement stands, for scripts that have more than one."""
    if script.name is None and len(statements) == 1:
        return ""
    number = statements.index(failed) + 1
    line = script.sql.count("\n", 0, failed.offset) + 1
    of = f" of {script.name}" if script.name is not None else ""
    return f"\nin statement {number}, line {line}{of}"
