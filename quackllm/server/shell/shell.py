"""Statements typed at a terminal, with history, completion and highlighting."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import DynamicCompleter, ThreadedCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from pygments.lexers.sql import PostgresLexer
from pygments.token import Name
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import TokenType

import quackllm
from quackllm.engine.commands import without_keys
from quackllm.engine.connection import Connection
from quackllm.engine.statement import split
from quackllm.optimizer.sql import DIALECT
from quackllm.server.running import run_statement, say
from quackllm.server.shell.completion import NamesCompleter
from quackllm.server.shell.display import Display
from quackllm.server.shell.dot_commands import Leave, run_dot_command

Connect = Callable[[str, bool], Connection]

PROMPT = "quackllm> "
CONTINUED = "      ... "
WORDS = frozenset({"exit", "help", "quit"})
"""What people type who come from other shells; no statement is one word."""

WELCOME = 'Enter ".help" for help; statements end with a semicolon.'


class StatementLexer(PostgresLexer):  # type: ignore[misc]
    """Colours SQL, LLM functions as functions."""

    def get_tokens_unprocessed(self, text: str, *arguments: Any) -> Iterator[Any]:
        """Yield place, kind and text of each token."""
        for place, kind, value in super().get_tokens_unprocessed(text, *arguments):
            ours = kind in Name and value.upper().startswith(("LLM", "AI_"))
            yield place, Name.Function if ours else kind, value


class KeylessHistory(FileHistory):
    """History in a file, in which statements stand without the keys that they give."""

    def store_string(self, string: str) -> None:
        """Append an entry."""
        super().store_string(without_keys(string))


def is_complete(text: str) -> bool:
    """Whether a text can be run: empty, a dot command, or ended by a semicolon.

    A semicolon in a text, a name or a comment ends nothing.
    """
    if not text.strip() or is_command(text):
        return True
    try:
        tokens = DIALECT.tokenize(text)
    except TokenError:  # a text that is still open
        return False
    return not tokens or tokens[-1].token_type == TokenType.SEMICOLON


class Shell:
    """Reads statements from a terminal until it is left."""

    def __init__(
        self,
        connection: Any,
        *,
        connect: Connect | None = None,
        display: Display | None = None,
        history: History | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        """Make a shell over a connection, which it closes when it is left.

        connect: opens a database by path, read-only or not; `quackllm.connect` when None.
        history: where lines are remembered, the person's own file when None.
        input, output: the terminal; the process's own when None.
        """
        self.connection = connection
        self.display = display or Display()
        self.names = NamesCompleter(connection)
        self._connect = connect or _connect
        self._session: PromptSession[str] = PromptSession(
            message=PROMPT,
            history=history or own_history(),
            lexer=PygmentsLexer(StatementLexer),
            completer=DynamicCompleter(lambda: ThreadedCompleter(self.names)),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=Condition(lambda: not is_complete(self._session.default_buffer.text)),
            prompt_continuation=CONTINUED,
            enable_open_in_editor=True,
            input=input,
            output=output,
        )

    def run(self) -> int:
        """Read and run until `.quit` or the end of the input; return the exit status."""
        say(WELCOME)
        try:
            while True:
                try:
                    self.enter(self._session.prompt())
                except KeyboardInterrupt:
                    continue  # Ctrl-C drops what was typed
        except EOFError:
            return 0
        except Leave as leave:
            return leave.status
        finally:
            self.display.to_terminal()
            self.connection.close()

    def enter(self, text: str) -> None:
        """Run what was typed. Raises `Leave` when the person wants to leave."""
        try:
            self.run_lines(text)
        except (KeyboardInterrupt, duckdb.InterruptException):
            say("Interrupted")
        except duckdb.Error as error:
            say_error(str(error))

    def run_lines(self, text: str) -> None:
        """Run statements and, where one begins a line, dot commands.

        Raises the `duckdb.Error` of the first statement that fails, and `Leave`.
        """
        begun = ""
        for line in text.splitlines(keepends=True):
            if not begun.strip() and is_command(line):
                run_dot_command(self, as_command(line))
            else:
                begun += line
                if ";" in line and is_complete(begun):
                    self.run_script(begun)
                    begun = ""
        self.run_script(begun)

    def run_script(self, text: str) -> None:
        """Run statements up to the first that fails. Raises its `duckdb.Error`."""
        display = self.display
        for statement in split(text):
            started = time.perf_counter()
            try:
                run_statement(self.connection, statement, display.mode, display.look, display.out)
            except BrokenPipeError:
                display.to_terminal()  # a command that has read enough, such as head
            finally:
                if display.once:
                    display.to_terminal()
                self.names.forget()
                if display.timer:
                    say(f"Run Time (s): real {time.perf_counter() - started:.3f}")

    def open(self, path: str, read_only: bool) -> None:
        """Open another database in the place of this one. Raises `duckdb.Error`.

        The one that is open stays so when the other cannot be opened.
        """
        try:
            opened = self._connect(path, read_only)
        except duckdb.ConnectionException:
            # The file that is open already, which DuckDB does not open in another way as well.
            self.connection.close()
            opened = self._connect(path, read_only)
        self.connection.close()
        self.connection = opened
        self.names = NamesCompleter(opened)


def is_command(line: str) -> bool:
    """Whether a line is for the shell: a dot command, or a word that means one."""
    return line.lstrip().startswith(".") or line.strip().rstrip(";").lower() in WORDS


def as_command(line: str) -> str:
    """Return the dot command that a line means."""
    stripped = line.strip()
    return stripped if stripped.startswith(".") else "." + stripped.rstrip(";").lower()


def say_error(text: str) -> None:
    """Print an error; on a terminal its kind stands out."""
    kind, colon, rest = text.partition(": ")
    if sys.stderr.isatty() and colon and kind.endswith("Error"):
        text = f"\x1b[1;31m{kind}:\x1b[0m {rest}"
    say(text)


def _connect(path: str, read_only: bool) -> Connection:
    return quackllm.connect(path, read_only=read_only)


def own_history() -> History:
    """Return the person's history; one that is not kept where no file can be written."""
    folder = Path(platformdirs.user_state_path("quackllm"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "history"
        path.touch(mode=0o600)
    except OSError as error:
        say(f"history is not kept: {error}")
        return InMemoryHistory()
    return KeylessHistory(str(path))
