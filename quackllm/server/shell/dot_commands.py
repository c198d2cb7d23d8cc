"""Commands of the shell that begin with a dot, as in DuckDB's shell."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from quackllm.optimizer.sql import literal
from quackllm.server.output import FORMATS
from quackllm.server.running import say

if TYPE_CHECKING:
    from quackllm.server.shell.shell import Shell


class Leave(Exception):
    """The person wants to leave the shell."""


class WrongUse(Exception):
    """A dot command was given what it does not take; the message says what it does."""


@dataclass(frozen=True)
class DotCommand:
    """One command: its name, what it takes, what it does."""

    name: str
    takes: str
    summary: str
    run: Callable[[Shell, list[str]], None]


def run_dot_command(shell: Shell, text: str) -> None:
    """Run a command, or say what is wrong with it. Raises `Leave`."""
    try:
        name, *arguments = shlex.split(text[1:]) or [""]
        command = next((one for one in COMMANDS if one.name == name), None)
        if command is None:
            close = get_close_matches(name, [one.name for one in COMMANDS], n=1)
            hint = f', did you mean ".{close[0]}"?' if close else ""
            raise WrongUse(f'there is no command ".{name}"{hint} Enter ".help" for all of them')
        command.run(shell, arguments)
    except (WrongUse, ValueError) as wrong:
        say(str(wrong))


def _help(shell: Shell, arguments: list[str]) -> None:
    for command in COMMANDS:
        print(f".{command.name + ' ' + command.takes:24} {command.summary}")


def _quit(shell: Shell, arguments: list[str]) -> None:
    raise Leave


def _mode(shell: Shell, arguments: list[str]) -> None:
    if not arguments:
        print(shell.display.mode)
    elif len(arguments) == 1 and arguments[0] in FORMATS:
        shell.display.mode = arguments[0]
    else:
        raise WrongUse(f".mode takes one of {', '.join(FORMATS)}")


def _timer(shell: Shell, arguments: list[str]) -> None:
    if arguments not in (["on"], ["off"]):
        raise WrongUse(".timer takes on or off")
    shell.display.timer = arguments == ["on"]


def _read(shell: Shell, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise WrongUse(".read takes the name of one file")
    try:
        text = Path(arguments[0]).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"cannot read {arguments[0]}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise WrongUse(f"{arguments[0]} is not UTF-8 text: {error}") from None
    shell.run_script(text)


def _tables(shell: Shell, arguments: list[str]) -> None:
    pattern = literal(arguments[0] if arguments else "%")
    shell.run_script(
        "SELECT database, schema, name FROM (SELECT database_name AS database, "
        "schema_name AS schema, table_name AS name FROM duckdb_tables() WHERE NOT internal "
        "UNION ALL SELECT database_name, schema_name, view_name FROM duckdb_views() "
        f"WHERE NOT internal) WHERE name LIKE {pattern} ORDER BY ALL"
    )


def _schema(shell: Shell, arguments: list[str]) -> None:
    pattern = literal(arguments[0] if arguments else "%")
    relation = shell.connection.sql(
        "SELECT sql FROM (SELECT table_name AS name, sql FROM duckdb_tables() WHERE NOT internal "
        "UNION ALL SELECT view_name, sql FROM duckdb_views() WHERE NOT internal) "
        f"WHERE name LIKE {pattern} ORDER BY name"
    )
    for (sql,) in relation.fetchall():
        print(sql.rstrip().rstrip(";") + ";")


COMMANDS = (
    DotCommand("help", "", "show this list", _help),
    DotCommand("mode", "[NAME]", f"how rows are written: {', '.join(FORMATS)}", _mode),
    DotCommand("read", "FILE", "run the statements of a file", _read),
    DotCommand("schema", "[PATTERN]", "the statements that made tables and views", _schema),
    DotCommand("tables", "[PATTERN]", "list tables and views", _tables),
    DotCommand("timer", "on|off", "print how long each statement takes", _timer),
    DotCommand("quit", "", "leave; so does Ctrl-D", _quit),
    DotCommand("exit", "", "leave", _quit),
)
