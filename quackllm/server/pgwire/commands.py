"""Statements of PostgreSQL's that are carried out here: transactions, SET, SHOW, DISCARD."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import duckdb

from quackllm.engine.settings import PREFIX
from quackllm.optimizer.sql import literal
from quackllm.server.pgwire import calls, variables
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.results import Rows, formats_for, text_rows
from quackllm.server.pgwire.statements import Kind, Parsed
from quackllm.server.pgwire.types import TEXT
from quackllm.server.pgwire.work import Outcome

if TYPE_CHECKING:
    from quackllm.server.pgwire.transactions import Transactions
    from quackllm.server.pgwire.variables import Variables
    from quackllm.server.pgwire.worker import Worker

_NO_SETTINGS = frozenset({"user", "database", "replication"})
_OPTION = re.compile(r"(?:-c\s*|--)([\w.]+)=(\S*)")


class Commands:
    """Carries out such statements for one session."""

    def __init__(
        self,
        worker: Worker,
        settings: Variables,
        transactions: Transactions,
        forget_all: Callable[[], None],
        forget: Callable[[str], bool],
    ) -> None:
        """Make the commands of a session.

        forget_all: drops prepared statements, portals and cursors.
        forget: drops the prepared statement of a name; False if there is none.
        """
        self._forget = forget
        self._worker = worker
        self._variables = settings
        self._transactions = transactions
        self._forget_all = forget_all
        self._warnings: list[tuple[str, str]] = []
        self._reported = settings.reported()

    def warnings(self) -> list[tuple[str, str]]:
        """Return and forget warnings for the client: (text, severity)."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def changed(self) -> list[tuple[str, str]]:
        """Return and forget reported settings that have changed."""
        now = self._variables.reported()
        found = [(name, value) for name, value in now.items() if value != self._reported[name]]
        self._reported = now
        return found

    def configure(self, parameters: Mapping[str, str], check: Callable[[str, str], None]) -> None:
        """Carry out the settings of a startup packet: by name, and as `-c name=value`.

        check: raises for a name and a value that the session may not set.
        """
        given = {k: v for k, v in parameters.items() if k not in _NO_SETTINGS}
        options = given.pop("options", "")
        given.update(_OPTION.findall(options.replace("\\ ", "\0")))
        for name, value in given.items():
            value = value.replace("\0", " ").strip("'")
            check(name, value)
            known = self._variables.name_of(name)
            if known == "TimeZone":
                self._time_zone(value)
            elif name.lower() == "search_path":
                self._search_path(value)
                continue
            if known is not None:
                self._variables.assign(known, value)
            elif not name.startswith("_pq_.") and "." not in name:
                self._worker.run_plain(f"SET {name} = {literal(value)}")
        self._variables.keep()

    def transaction(self, parsed: Parsed) -> Outcome:
        """Carry out BEGIN, COMMIT, ROLLBACK, SAVEPOINT, RELEASE or ROLLBACK TO."""
        kind, transactions = parsed.kind, self._transactions
        if kind is Kind.BEGIN:
            self._warn(transactions.begin())
            return Outcome(None, "BEGIN")
        if kind in (Kind.COMMIT, Kind.ROLLBACK):
            if transactions.state == "I":
                self._warn("there is no transaction in progress")
            return Outcome(
                None, transactions.commit() if kind is Kind.COMMIT else transactions.rollback()
            )
        name = parsed.statement.tokens[-1].text
        if kind is Kind.SAVEPOINT:
            transactions.savepoint(name)
            return Outcome(None, "SAVEPOINT")
        if kind is Kind.RELEASE:
            transactions.release(name)
            return Outcome(None, "RELEASE")
        transactions.rollback_to(name)
        return Outcome(None, "ROLLBACK")

    def run(self, parsed: Parsed, formats: Sequence[int]) -> Outcome | None:
        """Carry out what is PostgreSQL's only; None for any other."""
        if parsed.kind is Kind.SHOW:
            return self.show(parsed, formats)
        if parsed.kind in (Kind.SET, Kind.RESET):
            return self._set(parsed)
        if parsed.kind is Kind.DISCARD:
            return self._discard(parsed)
        if parsed.kind is Kind.IGNORED:
            return Outcome(None, parsed.words[0])
        if parsed.kind is Kind.DEALLOCATE:
            return self._deallocate(parsed)
        return None

    def _deallocate(self, parsed: Parsed) -> Outcome | None:
        """Forget a statement that Parse or, when this returns None, DuckDB's PREPARE made."""
        if parsed.words[-1] == "ALL":
            self._forget_all()
            return Outcome(None, "DEALLOCATE ALL")
        name = parsed.statement.tokens[-1].text
        return Outcome(None, "DEALLOCATE") if self._forget(name) else None

    def _warn(self, text: str | None) -> None:
        if text is not None:
            self._warnings.append((text, "WARNING"))

    def show(self, parsed: Parsed, formats: Sequence[int]) -> Outcome | None:
        """Carry out SHOW; None for one of a table, which is DuckDB's."""
        name = variables.shown(parsed.sql)
        if name is None or name == "tables":
            return None
        if name == "all":
            rows = [[key, value, ""] for key, value in self._variables.rows()]
            names = ("name", "setting", "description")
            return _text(names, rows, formats)
        known = self._variables.name_of(name)
        if known is not None:
            return _text((known,), [[self._variables.get(known)]], formats)
        if name.startswith(PREFIX):
            return _text((name,), [[self._worker.connection.llm_settings.shown(name)]], formats)
        try:
            value = calls.execute(
                self._worker.connection, f"SELECT CAST(current_setting({literal(name)}) AS VARCHAR)"
            ).fetchall()[0][0]
        except duckdb.Error:
            return None  # SHOW of a table
        return _text((name,), [[value]], formats)

    def _set(self, parsed: Parsed) -> Outcome | None:
        tag = parsed.words[0]
        if variables.has_no_effect(parsed.sql):
            return Outcome(None, tag)
        wanted = variables.assignment(parsed.sql)
        if wanted is None:
            return None
        if wanted.name is None:
            self._variables.reset()
            return Outcome(None, tag)
        if wanted.name.lower() in ("search_path", "schema"):
            self._search_path(wanted.value)
            return Outcome(None, tag)
        known = self._variables.name_of(wanted.name)
        if known is None:
            if "." in wanted.name:  # settings of extensions, such as pgaudit.log
                return Outcome(None, tag)
            return None
        if known == "TimeZone":
            self._time_zone(wanted.value)
        self._variables.assign(known, wanted.value)
        return Outcome(None, tag)

    def _time_zone(self, value: str | None) -> None:
        try:
            zone = value or self._variables.get("TimeZone")
            self._worker.run_plain(f"SET TimeZone = {literal(zone)}")
        except duckdb.Error as error:
            raise WireError(
                SqlState.INVALID_PARAMETER,
                f'invalid value for parameter "TimeZone": "{value}"',
                detail=str(error),
            ) from None

    def _search_path(self, value: str | None) -> None:
        names = [name.strip().strip('"').strip("'") for name in (value or "main").split(",")]
        present = [name for name in names if name and name not in ("$user", "public")]
        path = ",".join(present) or "main"
        self._worker.run_plain(f"SET search_path = {literal(path)}")
        self._variables.assign("search_path", ", ".join(present) or "main")

    def _discard(self, parsed: Parsed) -> Outcome:
        what = parsed.words[1] if len(parsed.words) > 1 else "ALL"
        if what == "ALL":
            if self._transactions.state != "I":
                raise WireError(
                    SqlState.ACTIVE_TRANSACTION, "DISCARD ALL cannot run inside a transaction block"
                )
            self._forget_all()
            self._variables.reset()
        return Outcome(None, f"DISCARD {what}")


def _text(names: Sequence[str], rows: Sequence[Sequence[str]], formats: Sequence[int]) -> Outcome:
    form = formats_for(formats, len(names))[0]
    result: Rows = text_rows([(name, TEXT) for name in names], rows, form)
    return Outcome(result, "SHOW")
