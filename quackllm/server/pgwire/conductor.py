"""The statements of one session: prepared, bound, and carried out, each by who can.

Nothing here knows of messages. All methods but the properties, `parse`, `portal`,
`statement`, `notices` and `changed_settings` run in the session's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from quackllm.engine.settings import PREFIX
from quackllm.optimizer.sql import literal
from quackllm.server.pgwire import frontend, inference, statements
from quackllm.server.pgwire.commands import Commands
from quackllm.server.pgwire.copy_in import CopyIn
from quackllm.server.pgwire.copying import copy_statement
from quackllm.server.pgwire.cursors import Cursors
from quackllm.server.pgwire.errors import SqlState, WireError, wire_error
from quackllm.server.pgwire.parameters import (
    Substituted,
    null_of,
    places,
    sql_literal,
    substitute,
)
from quackllm.server.pgwire.portals import Portal, Prepared
from quackllm.server.pgwire.results import formats_for
from quackllm.server.pgwire.statements import TRANSACTION_CONTROL, Kind, Parsed
from quackllm.server.pgwire.transactions import Transactions
from quackllm.server.pgwire.types import Column
from quackllm.server.pgwire.work import Outcome, Work
from quackllm.server.pgwire.worker import READING

if TYPE_CHECKING:
    from quackllm.server.pgwire.catalog import Catalog
    from quackllm.server.pgwire.roles import Role
    from quackllm.server.pgwire.variables import Variables
    from quackllm.server.pgwire.watch import Watch
    from quackllm.server.pgwire.worker import Worker

_OUTSIDE = frozenset(
    {"VACUUM", "CHECKPOINT", "FORCE", "ATTACH", "DETACH", "INSTALL", "LOAD", "USE"}
)
"""First words of statements that DuckDB runs outside of transactions, or better there."""


class Conductor:
    """Carries out one session's statements."""

    def __init__(
        self,
        worker: Worker,
        catalog: Catalog,
        variables: Variables,
        watch: Watch,
        role: Role,
    ) -> None:
        self._worker = worker
        self._catalog = catalog
        self._variables = variables
        self._watch = watch
        self._role = role
        self._transactions = Transactions(worker.run_plain)
        self._cursors = Cursors()
        self._commands = Commands(
            worker, variables, self._transactions, self._forget_all, self._forget
        )
        self._statements: dict[str, Prepared] = {}
        self._portals: dict[str, Portal] = {}
        self._current: Portal | Prepared | None = None
        self.several = False
        """Whether the simple query has more than one statement."""

    @property
    def state(self) -> str:
        """What ReadyForQuery says."""
        return self._transactions.state

    def parse(self, sql: str) -> list[Parsed]:
        """Take a simple query apart."""
        self._current = None
        self._drop_portal("")
        return statements.parse(sql)

    def configure(self, parameters: Mapping[str, str]) -> None:
        """Carry out the role's settings, and those that a client begins with."""
        for name, value in self._role.begins_with().items():
            self._worker.run_plain(f"SET {PREFIX}{name} = {literal(str(value))}")
        models = self._role.models
        if models and self._worker.connection.llm_settings.model not in models:
            self._worker.run_plain(f"SET {PREFIX}model = {literal(models[0])}")
        self._commands.configure(parameters, self._role.check_setting)
        self._commands.changed()

    # Extended protocol

    def prepare(self, message: frontend.Parse, unknown: int = inference.TEXT) -> None:
        """Carry out Parse; unknown is the type of parameters that nothing tells the type of."""
        if message.name and message.name in self._statements:
            raise WireError(
                SqlState.DUPLICATE_STATEMENT,
                f'prepared statement "{message.name}" already exists',
            )
        self._statements.pop(message.name, None)
        parsed = statements.parse(message.sql)
        if len(parsed) > 1:
            raise WireError(
                SqlState.SYNTAX, "cannot insert multiple commands into a prepared statement"
            )
        if not parsed:
            self._statements[message.name] = Prepared(None, (), ())
            return
        one = _without_offset(parsed[0])
        self._current = Prepared(one, tuple(places(one.sql, one.statement.tokens)), message.oids)
        if one.kind not in TRANSACTION_CONTROL:
            self._transactions.check()
        self._current.oids = self._types(self._current, message.oids, unknown)
        self._statements[message.name] = self._current

    def _types(self, prepared: Prepared, given: Sequence[int], unknown: int) -> tuple[int, ...]:
        """Complete the types of parameters with what the statement tells of them."""
        count = max([len(given), *(place.number for place in prepared.places)], default=0)
        oids = [*given, *[0] * (count - len(given))]
        if 0 in oids and prepared.parsed is not None:
            found = inference.parameter_oids(prepared.parsed, self._worker.connection)
            oids = [oid or found.get(i, unknown) for i, oid in enumerate(oids, 1)]
        return tuple(oids)

    def bind(self, message: frontend.Bind) -> None:
        """Carry out Bind."""
        prepared = self.statement(message.statement)
        self._current = prepared
        if message.portal and message.portal in self._portals:
            raise WireError(SqlState.DUPLICATE_CURSOR, f'portal "{message.portal}" already exists')
        self._drop_portal(message.portal)
        self._drop_portal(message.portal)
        self._portals[message.portal] = self._portal(
            message.statement,
            len(message.values),
            lambda: _literals(prepared, message),
            message.result_formats,
        )

    def bound(self, name: str, literals: Sequence[str], formats: tuple[int, ...]) -> Portal:
        """Return a portal of a prepared statement, with values written as SQL."""
        self._current = self.statement(name)
        return self._portal(name, len(literals), lambda: dict(enumerate(literals, 1)), formats)

    def _portal(
        self,
        name: str,
        count: int,
        values: Callable[[], Mapping[int, str]],
        formats: tuple[int, ...],
    ) -> Portal:
        prepared = self.statement(name)
        if prepared.parsed is None:
            return Portal(None, (), "")
        if prepared.parsed.kind not in TRANSACTION_CONTROL:
            self._transactions.check()
        if count != len(prepared.oids):
            raise WireError(
                SqlState.PROTOCOL_VIOLATION,
                f"bind message supplies {count} parameters, but prepared statement "
                f'"{name}" requires {len(prepared.oids)}',
            )
        return _bound(prepared, values(), formats)

    def statement(self, name: str) -> Prepared:
        """Return a prepared statement. Raises `WireError`."""
        found = self._statements.get(name)
        if found is None:
            shown = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise WireError(SqlState.INVALID_STATEMENT_NAME, f"{shown} does not exist")
        return found

    def portal(self, name: str) -> Portal:
        """Return a portal. Raises `WireError`."""
        found = self._portals.get(name)
        if found is None and self._cursors.has(name):
            # A cursor of SQL is a portal too; drivers describe it.
            [fetch] = statements.parse(f'FETCH 0 FROM "{name}"')
            return Portal(fetch, (), fetch.sql)
        if found is None:
            raise WireError(SqlState.INVALID_CURSOR, f'portal "{name}" does not exist')
        return found

    def close_named(self, kind: str, name: str) -> None:
        """Carry out Close; it is no error if there is nothing of that name."""
        if kind == "S":
            self._statements.pop(name, None)
        else:
            self._drop_portal(name)

    def describe_statement(self, prepared: Prepared) -> tuple[Column, ...] | None:
        """Return the columns that a statement will have; nothing is run."""
        self._current = prepared
        if prepared.parsed is None:
            return None
        self._transactions.check()
        if not prepared.described:
            sample = {number: null_of(oid) for number, oid in enumerate(prepared.oids, 1)}
            typical = inference.typical(prepared.parsed, prepared.places, sample, self._worker)
            prepared.columns = self._columns(typical)
            prepared.described = True
        return prepared.columns

    def describe_portal(self, portal: Portal) -> tuple[tuple[Column, ...] | None, tuple[int, ...]]:
        """Return the columns of a portal and their formats; nothing is run."""
        self._current = portal
        if portal.parsed is None:
            return None, ()
        if isinstance(portal.work, Outcome) and portal.work.rows is not None:
            return portal.work.rows.columns, portal.work.rows.formats
        self._transactions.check()
        columns = self._columns(portal.parsed)
        return columns, formats_for(portal.formats, len(columns or ()))

    def _columns(self, parsed: Parsed) -> tuple[Column, ...] | None:
        if self._catalog.is_about(parsed):
            return self._catalog.columns(parsed)
        if parsed.kind is Kind.FETCH:
            return self._cursors.columns(parsed)
        if parsed.kind is Kind.SHOW:
            shown = self._commands.show(parsed, ())
            if shown is not None and shown.rows is not None:
                return shown.rows.columns
        return self._worker.describe(parsed)

    # Running

    def run(self, portal: Portal) -> Work:
        """Run a portal, or return what running it gave."""
        self._current = portal
        if portal.work is not None:
            return portal.work
        if portal.parsed is None:
            portal.work = Outcome(None)
            return portal.work
        with self._watch.statement(portal.parsed.sql):
            portal.work = self._carried_out(portal.parsed, portal.formats)
        return portal.work

    def _carried_out(self, parsed: Parsed, formats: Sequence[int]) -> Work:
        if parsed.kind in TRANSACTION_CONTROL:
            self._drop_portals()
            if parsed.kind in (Kind.COMMIT, Kind.ROLLBACK):
                is_failed = self._transactions.state == "E"
                self._cursors.end(committed=parsed.kind is Kind.COMMIT and not is_failed)
            return self._commands.transaction(parsed)
        self._transactions.check()
        self._role.check(parsed)
        otherwise = self._carried_out_otherwise(parsed, formats)
        if otherwise is not None:
            return otherwise
        if parsed.is_copy_stream:
            if "STDIN" in parsed.words:
                self._before_writing(parsed)
            return copy_statement(parsed, self._worker)
        kind = "" if parsed.kind is Kind.OURS else self._worker.statement_type(parsed)
        writes = kind not in READING and parsed.kind not in (Kind.OURS, Kind.EXPLAIN)
        if writes:
            self._before_writing(parsed)
        outcome = self._worker.execute(parsed, formats)
        if writes or kind not in ("SELECT", "EXPLAIN"):
            self._catalog.forget()
        if writes:
            self._transactions.wrote()
        return outcome

    def _carried_out_otherwise(self, parsed: Parsed, formats: Sequence[int]) -> Outcome | None:
        """Carry out what is not DuckDB's; None for what is."""
        if parsed.kind in (Kind.FETCH, Kind.MOVE, Kind.CLOSE):
            return self._cursors.run(parsed, formats)
        if parsed.kind is Kind.DECLARE:
            return self._declare(parsed)
        ours = self._commands.run(parsed, formats)
        if ours is not None:
            return ours
        if self._catalog.is_about(parsed):
            rows = self._catalog.rows(parsed, formats)
            return Outcome(rows, "SELECT", counted=True)
        return None

    def _declare(self, parsed: Parsed) -> Outcome:
        cursor = self._cursors.declaration(parsed)
        if not cursor.hold and self._transactions.state == "I" and not self._transactions.is_open:
            raise WireError(
                SqlState.NO_TRANSACTION, "DECLARE CURSOR can only be used in transaction blocks"
            )
        [query] = statements.parse(cursor.sql)
        inner = _without_offset(query)

        def opened(formats: Sequence[int]) -> Outcome:
            if self._catalog.is_about(inner):
                return Outcome(self._catalog.rows(inner, formats), "SELECT", counted=True)
            return self._worker.execute(inner, formats)

        self._cursors.add(cursor, opened, lambda: self._columns(inner))
        return Outcome(None, "DECLARE CURSOR")

    def _before_writing(self, parsed: Parsed) -> None:
        if self._role.read_only:
            raise WireError(
                SqlState.READ_ONLY,
                f"cannot execute {parsed.words[0]} in a read-only session",
            )
        outside = parsed.words[0] in _OUTSIDE
        if (self.several or self._current_is_extended()) and not outside:
            self._transactions.begin_implicit()

    def _current_is_extended(self) -> bool:
        return isinstance(self._current, Portal) and self._current.substituted is not None

    def finish_copy(self, copy: CopyIn) -> int:
        """Store what a COPY FROM STDIN has brought."""
        count = copy.finish()
        self._transactions.wrote()
        return count

    # Ends

    def end_group(self) -> None:
        """Carry out Sync, or the end of a simple query."""
        self.several = False
        if self._transactions.state == "I":
            self._drop_portals()
        self._transactions.end_implicit()

    def failed(self) -> None:
        """Note that a statement failed."""
        self._transactions.fail()

    def translated(self, error: BaseException) -> WireError:
        """Translate an error of the current statement; its position is in what was sent."""
        if isinstance(error, WireError):
            return error
        current = self._current
        if not isinstance(current, Portal):
            return wire_error(error, current.sql if current is not None else "")
        found = wire_error(error, current.parsed.sql if current.parsed is not None else "")
        found.position = current.position_sent(found.position)
        return found

    def notices(self) -> list[tuple[str, str]]:
        """Return and forget what the client is to be told: (text, severity)."""
        return [*self._watch.notices(), *self._commands.warnings()]

    def changed_settings(self) -> list[tuple[str, str]]:
        """Return and forget reported settings that have changed."""
        return self._commands.changed()

    def close(self) -> None:
        """End the session: roll back, close the connection."""
        try:
            self._forget_all()
            self._worker.drop()
            self._transactions.rollback()
        finally:
            self._catalog.close()
            self._worker.connection.close()

    def _forget_all(self) -> None:
        self._statements.clear()
        self._drop_portals()
        self._cursors.close_all()

    def _forget(self, name: str) -> bool:
        return self._statements.pop(name, None) is not None

    def _drop_portals(self) -> None:
        for name in tuple(self._portals):
            self._drop_portal(name)

    def _drop_portal(self, name: str) -> None:
        """Forget a portal and its rows, which would else be read when something else is run."""
        portal = self._portals.pop(name, None)
        if portal is not None and isinstance(portal.work, Outcome) and portal.work.rows is not None:
            portal.work.rows.close()


def _without_offset(parsed: Parsed) -> Parsed:
    """Parse a statement again by itself, so that its tokens count from its beginning."""
    if parsed.statement.offset == 0:
        return parsed
    again = statements.parse(parsed.sql)
    return again[0] if again else parsed


def _literals(prepared: Prepared, message: frontend.Bind) -> dict[int, str]:
    forms = formats_for(message.parameter_formats, len(message.values))
    return {
        number: sql_literal(value, oid, form, number)
        for number, (value, oid, form) in enumerate(
            zip(message.values, prepared.oids, forms, strict=True), 1
        )
    }


def _bound(prepared: Prepared, values: Mapping[int, str], formats: tuple[int, ...]) -> Portal:
    assert prepared.parsed is not None
    sent = prepared.sql
    if not prepared.places:
        return Portal(prepared.parsed, formats, sent, substituted=Substituted(sent, ()))
    substituted = substitute(sent, prepared.places, values)
    [parsed] = statements.parse(substituted.sql)
    return Portal(parsed, formats, sent, substituted=substituted)
