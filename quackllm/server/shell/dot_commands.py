"""Commands of the shell that begin with a dot, as in DuckDB's shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from quackllm.optimizer.sql import literal, quote
from quackllm.server.output import FORMATS
from quackllm.server.running import say

if TYPE_CHECKING:
    from quackllm.server.shell.shell import Shell

Arguments = list[str]


class Leave(Exception):
    """The person wants to leave the shell.

    status: what the process shall exit with.
    """

    def __init__(self, status: int = 0) -> None:
        super().__init__()
        self.status = status


class WrongUse(Exception):
    """A dot command was given what it does not take; the message says what it does."""


@dataclass(frozen=True)
class DotCommand:
    """One command: its name, what it takes, what it does."""

    name: str
    takes: str
    summary: str
    run: Callable[[Shell, Arguments], None]


def run_dot_command(shell: Shell, text: str) -> None:
    """Run a command, or say what is wrong with it. Raises `Leave`."""
    try:
        name, *arguments = shlex.split(text[1:].rstrip(";")) or [""]
        command = next((one for one in COMMANDS if one.name == name), None)
        if command is None:
            raise WrongUse(_unknown(name))
        command.run(shell, arguments)
    except (WrongUse, ValueError) as wrong:
        say(str(wrong))
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _unknown(name: str) -> str:
    if name in ELSEWHERE:
        return f'".{name}" is not of this shell: {ELSEWHERE[name]}'
    close = get_close_matches(name, [one.name for one in COMMANDS], n=1)
    hint = f'did you mean ".{close[0]}"? ' if close else ""
    return f'there is no command ".{name}": {hint}".help" lists all of them'


def _help(shell: Shell, arguments: Arguments) -> None:
    found = [one for one in COMMANDS if not arguments or arguments[0].lstrip(".") in one.name]
    if not found:
        raise WrongUse(_unknown(arguments[0].lstrip(".")))
    for command in found:
        print(f".{command.name + ' ' + command.takes:24} {command.summary}")
    if any(one.run is _mode for one in found):
        print(textwrap.fill(f"Modes: {', '.join(FORMATS)}.", subsequent_indent="       "))
    if not arguments:
        print("Tab completes, Ctrl-R searches the history, Ctrl-X Ctrl-E opens an editor.")


def _quit(shell: Shell, arguments: Arguments) -> None:
    raise Leave(_number(".exit", arguments, least=0) if arguments else 0)


def _mode(shell: Shell, arguments: Arguments) -> None:
    if not arguments:
        print(shell.display.mode)
        return
    if arguments[0] not in FORMATS or len(arguments) > 1 + (arguments[0] == "insert"):
        raise WrongUse(f".mode takes one of {', '.join(FORMATS)}; insert also a table's name")
    shell.display.mode = arguments[0]
    _look(
        shell, table=arguments[1] if len(arguments) > 1 else "table", separator=None, row_end=None
    )


def _timer(shell: Shell, arguments: Arguments) -> None:
    shell.display.timer = _switch(".timer", arguments)


def _headers(shell: Shell, arguments: Arguments) -> None:
    _look(shell, headers=_switch(".headers", arguments))


def _max_rows(shell: Shell, arguments: Arguments) -> None:
    if arguments:
        _look(shell, max_rows=_number(".maxrows", arguments))
    else:
        print(shell.display.look.max_rows)


def _max_width(shell: Shell, arguments: Arguments) -> None:
    if arguments:
        _look(shell, max_width=_number(".maxwidth", arguments, least=0))
    else:
        print(shell.display.look.max_width)


def _null_value(shell: Shell, arguments: Arguments) -> None:
    _look(shell, null=_one(".nullvalue", "text", arguments))


def _separator(shell: Shell, arguments: Arguments) -> None:
    if len(arguments) not in (1, 2):
        raise WrongUse(".separator takes what stands between values, and what ends a row")
    column, row = [text.encode().decode("unicode_escape") for text in [*arguments, "\n"][:2]]
    _look(shell, separator=column, row_end=row)


def _width(shell: Shell, arguments: Arguments) -> None:
    try:
        widths = tuple(int(text) for text in arguments)
    except ValueError:
        raise WrongUse(".width takes whole numbers, below 0 to align to the right") from None
    _look(shell, widths=widths)


def _output(shell: Shell, arguments: Arguments) -> None:
    if arguments:
        shell.display.to_file(_target(".output", arguments))
    else:
        shell.display.to_terminal()


def _once(shell: Shell, arguments: Arguments) -> None:
    shell.display.to_file(_target(".once", arguments), once=True)


def _read(shell: Shell, arguments: Arguments) -> None:
    path = _one(".read", "file", arguments)
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WrongUse(f"{path} is not UTF-8 text: {error}") from None
    shell.run_lines(text)


def _open(shell: Shell, arguments: Arguments) -> None:
    read_only = arguments[:1] in (["--readonly"], ["-readonly"])
    files = arguments[read_only:]
    if len(files) > 1:
        raise WrongUse(".open takes [--readonly] and the name of one file, none for memory")
    shell.open(files[0] if files else ":memory:", read_only)


def _change_folder(shell: Shell, arguments: Arguments) -> None:
    os.chdir(Path(_one(".cd", "folder", arguments)).expanduser())


def _import(shell: Shell, arguments: Arguments) -> None:
    if len(arguments) != 2:
        raise WrongUse(".import takes the name of a file and of a table")
    file, table = literal(arguments[0]), quote(arguments[1])
    shell.run_script(
        f"CREATE TABLE IF NOT EXISTS {table} AS FROM {file} WITH NO DATA; "
        f"INSERT INTO {table} FROM {file}"
    )


def _print(shell: Shell, arguments: Arguments) -> None:
    print(*arguments, file=shell.display.out)


def _system(shell: Shell, arguments: Arguments) -> None:
    subprocess.run(" ".join(map(shlex.quote, arguments)), shell=True, check=False)


def _show(shell: Shell, arguments: Arguments) -> None:
    display, look = shell.display, shell.display.look
    shown = {
        "mode": display.mode,
        "headers": "on" if look.headers else "off",
        "nullvalue": "of the mode" if look.null is None else repr(look.null),
        "output": display.target or "terminal",
        "separator": "of the mode" if look.separator is None else repr(look.separator),
        "maxrows": look.max_rows,
        "maxwidth": look.max_width or "of the terminal",
        "width": " ".join(map(str, look.widths)),
        "timer": "on" if display.timer else "off",
    }
    for name, value in shown.items():
        print(f"{name:>10}: {value}")


def _version(shell: Shell, arguments: Arguments) -> None:
    print(f"quackllm {version('quackllm')} (DuckDB {duckdb.__version__})")


def _databases(shell: Shell, arguments: Arguments) -> None:
    shell.run_script(
        "SELECT database_name AS database, path, readonly FROM duckdb_databases() "
        "WHERE NOT internal ORDER BY ALL"
    )


def _tables(shell: Shell, arguments: Arguments) -> None:
    shell.run_script(
        "SELECT database, schema, name, type FROM (SELECT database_name AS database, "
        "schema_name AS schema, table_name AS name, 'table' AS type FROM duckdb_tables() "
        "WHERE NOT internal UNION ALL SELECT database_name, schema_name, view_name, 'view' "
        f"FROM duckdb_views() WHERE NOT internal) WHERE name LIKE {_pattern(arguments)} "
        "ORDER BY ALL"
    )


def _indexes(shell: Shell, arguments: Arguments) -> None:
    shell.run_script(
        'SELECT table_name AS "table", index_name AS index, is_unique, expressions '
        f"FROM duckdb_indexes() WHERE table_name LIKE {_pattern(arguments)} ORDER BY ALL"
    )


def _schema(shell: Shell, arguments: Arguments) -> None:
    relation = shell.connection.sql(
        "SELECT sql FROM (SELECT table_name AS name, sql FROM duckdb_tables() WHERE NOT internal "
        "UNION ALL SELECT view_name, sql FROM duckdb_views() WHERE NOT internal "
        "UNION ALL SELECT table_name, sql FROM duckdb_indexes()) "
        f"WHERE name LIKE {_pattern(arguments)} ORDER BY name"
    )
    for (sql,) in relation.fetchall():
        print(sql.rstrip().rstrip(";") + ";", file=shell.display.out)


def _look(shell: Shell, **changes: object) -> None:
    shell.display.look = replace(shell.display.look, **changes)  # type: ignore[arg-type]


def _pattern(arguments: Arguments) -> str:
    return literal(arguments[0] if arguments else "%")


def _one(command: str, what: str, arguments: Arguments) -> str:
    if len(arguments) != 1:
        raise WrongUse(f"{command} takes one {what}")
    return arguments[0]


def _switch(command: str, arguments: Arguments) -> bool:
    if arguments not in (["on"], ["off"]):
        raise WrongUse(f"{command} takes on or off")
    return arguments == ["on"]


def _number(command: str, arguments: Arguments, least: int = 1) -> int:
    if len(arguments) != 1 or not arguments[0].isdecimal() or int(arguments[0]) < least:
        raise WrongUse(f"{command} takes one whole number from {least} on")
    return int(arguments[0])


def _target(command: str, arguments: Arguments) -> str:
    """Return a file's name, or a command behind a bar with its own arguments."""
    if arguments and arguments[0].startswith("|"):
        return "|" + " ".join(map(shlex.quote, filter(None, [arguments[0][1:], *arguments[1:]])))
    return _one(command, "file, or |command", arguments)


COMMANDS = (
    DotCommand("cd", "FOLDER", "change the working directory", _change_folder),
    DotCommand("databases", "", "list the databases that are open", _databases),
    DotCommand("exit", "[CODE]", "leave", _quit),
    DotCommand("headers", "on|off", "write the names of columns", _headers),
    DotCommand("help", "[PATTERN]", "show this list, or commands of this name", _help),
    DotCommand("import", "FILE TABLE", "add the rows of a file to a table, made if new", _import),
    DotCommand("indexes", "[PATTERN]", "list the indexes of tables", _indexes),
    DotCommand("maxrows", "[N]", "rows that duckbox shows, the middle left out", _max_rows),
    DotCommand("maxwidth", "[N]", "width of duckbox, 0 for the terminal's", _max_width),
    DotCommand("mode", "[NAME [TABLE]]", "how rows are written", _mode),
    DotCommand("nullvalue", "TEXT", "what is written for NULL", _null_value),
    DotCommand("once", "FILE", "write the rows of the next statement to FILE or |command", _once),
    DotCommand("open", "[--readonly] [FILE]", "close the database, open another", _open),
    DotCommand("output", "[FILE]", "write rows to FILE or |command; to the terminal", _output),
    DotCommand("print", "TEXT...", "print a text", _print),
    DotCommand("quit", "", "leave; so does Ctrl-D", _quit),
    DotCommand("read", "FILE", "run the statements of a file", _read),
    DotCommand("schema", "[PATTERN]", "the statements that made tables, views, indexes", _schema),
    DotCommand("separator", "COLUMN [ROW]", "what list and csv write between values", _separator),
    DotCommand("shell", "COMMAND...", "run a command of the system", _system),
    DotCommand("show", "", "what these commands have set", _show),
    DotCommand("system", "COMMAND...", "run a command of the system", _system),
    DotCommand("tables", "[PATTERN]", "list tables and views", _tables),
    DotCommand("timer", "on|off", "print how long each statement takes", _timer),
    DotCommand("version", "", "versions of quackllm and DuckDB", _version),
    DotCommand("width", "N...", "least widths of columns, below 0 to the right", _width),
)

ELSEWHERE = {
    "columns": "the mode duckbox leaves out columns only where the terminal is too narrow",
    "dump": "EXPORT DATABASE 'folder' writes all tables; .mode insert writes rows as statements",
    "edit": "Ctrl-X Ctrl-E opens an editor",
    "excel": "COPY ... TO 'file.xlsx' or .mode csv with .once file.csv",
    "last": ".maxrows and .maxwidth take larger numbers",
    "log": ".output FILE writes rows to a file",
    "pager": ".once |less shows the rows of the next statement in a pager",
    "progress_bar": "SET llm_progress = false switches it off",
    "prompt": "the prompt is fixed",
    "rows": "rows are always drawn as rows",
}
"""Commands that a person may know from DuckDB's shell, and what to do instead."""
