"""Statements typed at a terminal, with history, completion and highlighting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from pygments.lexers.sql import PostgresLexer
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import TokenType

from quackllm.engine.commands import without_keys
from quackllm.engine.statement import split
from quackllm.optimizer.sql import DIALECT
from quackllm.server.running import run_statement, say
from quackllm.server.shell.completion import NamesCompleter
from quackllm.server.shell.dot_commands import Leave, run_dot_command

PROMPT = "quackllm> "
CONTINUED = "      ... "
WELCOME = 'Enter ".help" for help; statements end with a semicolon.'


@dataclass
class Display:
    """How results are shown: a name of `output.FORMATS`, and whether times are printed."""

    mode: str = "table"
    timer: bool = False


class KeylessHistory(FileHistory):
    """History in a file, in which statements stand without the keys that they give."""

    def store_string(self, string: str) -> None:
        """Append an entry."""
        super().store_string(without_keys(string))


def is_complete(text: str) -> bool:
    """Whether a text can be run: empty, a dot command, or ended by a semicolon.

    A semicolon in a text, a name or a comment ends nothing.
    """
    stripped = text.strip()
    if not stripped or stripped.startswith("."):
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
        display: Display | None = None,
        history: History | None = None,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        """Make a shell over a connection.

        history: where lines are remembered, the person's own file when None.
        input, output: the terminal; the process's own when None.
        """
        self.connection = connection
        self.display = display or Display()
        self.names = NamesCompleter(connection)
        self._session: PromptSession[str] = PromptSession(
            message=PROMPT,
            history=history or own_history(),
            lexer=PygmentsLexer(PostgresLexer),
            completer=ThreadedCompleter(self.names),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=Condition(lambda: not is_complete(self._session.default_buffer.text)),
            prompt_continuation=CONTINUED,
            enable_open_in_editor=True,
            input=input,
            output=output,
        )

    def run(self) -> None:
        """Read and run until `.quit` or the end of the input."""
        say(WELCOME)
        while True:
            try:
                text = self._session.prompt()
            except KeyboardInterrupt:
                continue  # Ctrl-C drops what was typed
            except EOFError:
                return
            try:
                self.enter(text)
            except Leave:
                return

    def enter(self, text: str) -> None:
        """Run what was typed. Raises `Leave` when the person wants to leave."""
        try:
            if text.strip().startswith("."):
                run_dot_command(self, text.strip())
            else:
                self.run_script(text)
        except (KeyboardInterrupt, duckdb.InterruptException):
            say("Interrupted")
        except duckdb.Error as error:
            say(str(error))

    def run_script(self, text: str) -> None:
        """Run statements up to the first that fails. Raises its `duckdb.Error`."""
        for statement in split(text):
            started = time.perf_counter()
            try:
                run_statement(self.connection, statement, self.display.mode)
            finally:
                self.names.forget()
                if self.display.timer:
                    say(f"Run Time (s): real {time.perf_counter() - started:.3f}")


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
