"""One client of Flight SQL: its connection, its transaction, what it has prepared and run.

Everything of a session runs in its own thread, one thing after the other. Calls of gRPC wait
for it, and end it when their client has gone.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from quackllm.engine.settings import PREFIX
from quackllm.optimizer.sql import literal
from quackllm.server.flight import schemas
from quackllm.server.flight.ingest import Ingestion
from quackllm.server.flight.parameters import numbered
from quackllm.server.pgwire import calls, frontend, statements
from quackllm.server.pgwire.activity import Activity
from quackllm.server.pgwire.databases import Opened
from quackllm.server.pgwire.encoding import ARROW
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.faults import Faults
from quackllm.server.pgwire.parameters import UNKNOWN, duckdb_type
from quackllm.server.pgwire.portals import Portal
from quackllm.server.pgwire.results import Rows
from quackllm.server.pgwire.work import Outcome

_T = TypeVar("_T")

_GLANCE_SECONDS = 0.05
"""How often a call that waits looks whether its client is still there."""

_MOST_RESULTS = 64
"""Results that a session keeps for clients that have not fetched them."""

_LARGEST_MESSAGE = 4 * 1024 * 1024
"""Bytes of rows sent at once: clients refuse messages of more than 16 MiB."""

_AHEAD = 2
"""Batches that are made while the one before is sent."""

Gone = Callable[[], bool]
"""Whether the client that waits for something has gone."""


@dataclass
class Result:
    """A statement that has run: its rows, or how many it was about (-1: unknown)."""

    schema: pa.Schema
    rows: list[Rows] = field(default_factory=list)
    count: int = -1
    is_cancelled: bool = False


@dataclass
class Prepared:
    """A prepared statement.

    text: as the client wrote it; name: among the conductor's.
    schema: of its rows, None when it has none. values: rows of literals bound to it.
    """

    text: str
    name: str
    schema: pa.Schema | None
    parameters: pa.Schema
    values: list[list[str]] = field(default_factory=list)


class FlightSession:
    """What one client does with one database."""

    def __init__(self, opened: Opened, activity: Activity, faults: Faults) -> None:
        self._worker, self._conductor = opened.worker, opened.conductor
        self.activity = activity
        self._faults = faults
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"flight-{activity.pid}")
        self._lock = Lock()
        self._running: object = None
        self._calls = 0
        self._used = time.monotonic()
        self._prepared: dict[bytes, Prepared] = {}
        self._results: OrderedDict[bytes, Result] = OrderedDict()
        self._streams: dict[bytes, Result] = {}
        self._transaction = b""
        self._has_begun = False
        self.is_closed = False

    @property
    def idle_seconds(self) -> float:
        """How long nobody has asked for anything; 0 while somebody waits."""
        return 0.0 if self._calls else time.monotonic() - self._used

    # The thread

    def do(self, work: Callable[[], _T], gone: Gone) -> _T:
        """Run something in the session's thread and wait for it; end it when the client goes.

        Raises what it raises, errors of statements as `WireError`.
        """
        return self._awaited(self._submitted(work), gone)

    def _submitted(self, work: Callable[[], _T]) -> tuple[object, Future[_T]]:
        job = object()

        def run() -> _T:
            with self._lock:
                self._running = job
            try:
                return work()
            except BaseException as error:
                raise self._translated(error) from error
            finally:
                with self._lock:
                    self._running = None

        if self.is_closed:
            raise WireError(SqlState.SHUTDOWN, "the session has ended: connect again")
        return job, self._thread.submit(run)

    def _awaited(self, submitted: tuple[object, Future[_T]], gone: Gone) -> _T:
        job, future = submitted
        self._calls += 1
        try:
            while not wait((future,), _GLANCE_SECONDS).done:
                if gone():
                    self._end(job, future)
            return future.result()
        finally:
            self._calls -= 1
            self._used = time.monotonic()

    def _end(self, job: object, future: Future[Any]) -> None:
        """End one thing that waits or runs, and no other."""
        if future.cancel():
            raise WireError(SqlState.CANCELED, "canceling statement due to user request")
        with self._lock:
            if self._running is job:
                self.activity.is_cancelled = True
                self.activity.interrupt()

    def _translated(self, error: BaseException) -> WireError:
        return self._faults.told(error, self._conductor.translated(error))

    # Statements: these run in the session's thread

    def configure(self) -> None:
        """Carry out the settings of the role."""
        self._conductor.configure({})

    def run(self, sql: str, transaction: bytes = b"") -> Result:
        """Run one statement."""
        with self._group(transaction):
            return self._carried_out(self._portal(sql))

    def run_prepared(self, handle: bytes) -> Result:
        """Run a prepared statement, once for each row of values that is bound to it.

        It runs in the transaction that is open now, if there is one: drivers keep statements
        from one transaction to the next. All rows are kept or none.
        """
        prepared = self.prepared(handle)
        rows: Sequence[Sequence[str]] = prepared.values or [()]
        with self._group(several=len(rows) > 1):
            found = [self._carried_out(self._bound(prepared, row)) for row in rows]
        counts = [one.count for one in found]
        total = -1 if -1 in counts else sum(counts)
        return Result(found[0].schema, [rows for one in found for rows in one.rows], total)

    def describe(self, sql: str) -> pa.Schema:
        """Return the schema of a statement's rows; nothing is run."""
        handle = self.prepare(sql)
        try:
            return self.prepared(handle).schema or schemas.EMPTY
        finally:
            self.forget(handle)

    def prepare(self, sql: str) -> bytes:
        """Prepare a statement; return its handle. No model is called."""
        handle = secrets.token_bytes(12)
        name = handle.hex()
        self._conductor.prepare(frontend.Parse(name, numbered(sql), ()), UNKNOWN)
        oids = self._conductor.statement(name).oids
        asked = [(str(number), _written(oid)) for number, oid in enumerate(oids, 1)]
        parameters = schemas.schema_of(self._worker.connection, asked)
        self._prepared[handle] = Prepared(sql, name, self._described(name), parameters)
        return handle

    def _described(self, name: str) -> pa.Schema | None:
        """Return the schema of a statement's rows, None when it has none.

        None also for one that cannot be bound before the types of its parameters are known.
        """
        found = self._conductor.statement(name)
        try:
            columns = self._conductor.describe_statement(found)
        except duckdb.Error:
            if UNKNOWN in found.oids:
                return None
            raise
        if columns is None:
            return None
        named = [(column.name, column.sql_type) for column in columns]
        return schemas.schema_of(self._worker.connection, named)

    def prepared(self, handle: bytes) -> Prepared:
        """Return a prepared statement. Raises `WireError`."""
        found = self._prepared.get(handle)
        if found is None:
            raise WireError(
                SqlState.INVALID_STATEMENT_NAME, "the prepared statement does not exist"
            )
        return found

    def forget(self, handle: bytes) -> None:
        """Drop a prepared statement; it is no error if there is none."""
        found = self._prepared.pop(handle, None)
        if found is not None:
            self._conductor.close_named("S", found.name)

    def metadata(self, work: Callable[[Any], pa.Table]) -> pa.Table:
        """Ask the session's connection something of the catalog."""
        self._worker.free()
        return work(self._worker.connection)

    def ingest(self, ingestion: Ingestion, stream: pa.RecordBatchReader, transaction: bytes) -> int:
        """Store the rows of a stream; return their number."""
        connection = self._worker.connection
        with self._group(transaction, several=True):
            connection.register(ingestion.source, stream)
            connection.register(ingestion.shape, stream.schema.empty_table())
            try:
                counts = [
                    self._carried_out(self._portal(sql)).count for sql in ingestion.statements
                ]
            finally:
                self._worker.free()
                with contextlib.suppress(duckdb.Error):  # gone with a transaction that failed
                    connection.unregister(ingestion.source)
                    connection.unregister(ingestion.shape)
        return counts[-1]

    def begin(self) -> bytes:
        """Begin a transaction: with DuckDB at its first statement, so that it holds nothing yet."""
        if self._transaction:
            raise WireError(SqlState.ACTIVE_TRANSACTION, "the session has an open transaction")
        self._transaction, self._has_begun = secrets.token_bytes(12), False
        return self._transaction

    def end(self, transaction: bytes, *, commit: bool) -> None:
        """End a transaction. Raises `WireError` for a COMMIT that became a ROLLBACK."""
        if not transaction or transaction != self._transaction:
            raise WireError(SqlState.NO_TRANSACTION, "the transaction does not exist")
        begun, self._transaction, self._has_begun = self._has_begun, b"", False
        if not begun:
            return
        outcome = self._conductor.run(self._portal("COMMIT" if commit else "ROLLBACK"))
        if commit and isinstance(outcome, Outcome) and outcome.tag == "ROLLBACK":
            raise WireError(
                SqlState.FAILED_TRANSACTION,
                "the transaction was rolled back, because a statement of it had failed",
            )

    def option(self, name: str, value: str) -> None:
        """Carry out an option of the session: its schema, or a setting of quackllm's."""
        if name == "catalog" and value == self.options()["catalog"]:
            return
        if name != "schema" and not name.startswith(PREFIX):
            raise WireError(SqlState.INVALID_PARAMETER, f"there is no option {name}")
        setting = "search_path" if name == "schema" else name
        self.run(f"SET {setting} = {literal(value)}")

    def options(self) -> dict[str, str]:
        """Return the options that a client can ask for."""
        self._worker.free()
        found = calls.relation(
            self._worker.connection, "SELECT current_database(), current_schema()"
        ).fetchall()
        return dict(zip(("catalog", "schema"), found[0], strict=True))

    def _portal(self, sql: str) -> Portal:
        found = statements.parse(sql)
        if len(found) > 1:
            raise WireError(SqlState.SYNTAX, "one statement at a time can be run")
        return Portal(found[0] if found else None, (ARROW,), sql)

    def _bound(self, prepared: Prepared, values: Sequence[str]) -> Portal:
        return self._conductor.bound(prepared.name, values, (ARROW,))

    @contextlib.contextmanager
    def _group(self, transaction: bytes = b"", *, several: bool = False) -> Iterator[None]:
        """Statements that are kept or lost together; what fails undoes what it had begun."""
        self._enter(transaction)
        self._conductor.several = several
        try:
            yield
            self._conductor.end_group()
        except BaseException:
            self._conductor.failed()
            with contextlib.suppress(Exception):  # the statement's own error is the one to tell
                self._conductor.end_group()
            raise

    def _carried_out(self, portal: Portal) -> Result:
        parsed = portal.parsed
        if parsed is not None and parsed.is_copy_stream:
            raise WireError(
                SqlState.FEATURE_NOT_SUPPORTED,
                "COPY from and to the client is PostgreSQL's protocol",
                hint="Send rows with adbc_ingest.",
            )
        if parsed is not None and parsed.kind in statements.TRANSACTION_CONTROL:
            raise WireError(
                SqlState.FEATURE_NOT_SUPPORTED,
                "transactions are begun and ended by the driver",
                hint="Use commit() and rollback() of the connection, or its autocommit.",
            )
        self.activity.runs(portal.sent)
        try:
            outcome = self._conductor.run(portal)
            self._conductor.notices()  # there is no place for them here
        finally:
            self.activity.waits()
        assert isinstance(outcome, Outcome)
        if outcome.rows is None:
            return Result(schemas.EMPTY, count=_count(outcome.tag))
        return Result(outcome.rows.schema, [outcome.rows])

    def _enter(self, transaction: bytes) -> None:
        """Begin the open transaction with DuckDB, if that has not been done.

        A statement that names none runs in it too: drivers leave the name out of ingestion.
        """
        if transaction and transaction != self._transaction:
            raise WireError(SqlState.NO_TRANSACTION, "the transaction does not exist")
        if self._transaction and not self._has_begun:
            self._conductor.run(self._portal("BEGIN"))
            self._has_begun = True

    # Results

    def keep(self, result: Result) -> bytes:
        """Keep a result until it is fetched; return its handle. In the session's thread."""
        handle = secrets.token_bytes(12)
        self._results[handle] = result
        while len(self._results) > _MOST_RESULTS:
            _, oldest = self._results.popitem(last=False)
            _close(oldest)
        return handle

    def take(self, handle: bytes) -> Result:
        """Return a result that was kept, once. In the session's thread. Raises `WireError`."""
        found = self._results.pop(handle, None)
        if found is None:
            raise WireError(
                SqlState.INVALID_CURSOR, "the result does not exist any more: run it again"
            )
        return found

    def cancel(self, handle: bytes) -> bool:
        """End a result, whether it waits or is being read; False if there is none."""
        streaming = self._streams.get(handle)
        if streaming is not None:
            streaming.is_cancelled = True
            return True
        return self.do(lambda: self.drop(handle), lambda: False)

    def drop(self, handle: bytes) -> bool:
        """Drop a result that was kept; False if there is none. In the session's thread."""
        found = self._results.pop(handle, None)
        if found is not None:
            _close(found)
        return found is not None

    def stream(self, handle: bytes, result: Result, gone: Gone) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a result that was taken, some being made while others are sent."""
        batches = (batch for rows in result.rows for batch in rows.batches())
        waiting: list[tuple[object, Future[pa.RecordBatch | None]]] = []

        def following() -> pa.RecordBatch | None:
            if result.is_cancelled:
                raise WireError(SqlState.CANCELED, "canceling statement due to user request")
            return next(batches, None)

        def ended() -> bool:
            return result.is_cancelled or gone()

        self._streams[handle] = result
        try:
            waiting = [self._submitted(following) for _ in range(_AHEAD)]
            while (batch := self._awaited(waiting.pop(0), ended)) is not None:
                waiting.append(self._submitted(following))
                for piece in _pieces(batch):
                    yield pa.RecordBatch.from_arrays(piece.columns, schema=result.schema)
        finally:
            self._streams.pop(handle, None)
            with contextlib.suppress(WireError):  # closed: its rows are gone already
                self._submitted(lambda: _close(result))

    # The end

    def interrupt(self) -> None:
        """End what runs."""
        self.activity.interrupt()

    def close(self) -> None:
        """Roll back what is open and end the thread, from any other."""
        if self.is_closed:
            return
        self.is_closed = True
        self.interrupt()
        self._thread.submit(self._conductor.close)
        self._thread.shutdown(wait=False)


def _close(result: Result) -> None:
    for rows in result.rows:
        rows.close()


def _written(oid: int) -> str:
    return '"NULL"' if oid == UNKNOWN else duckdb_type(oid)


def _count(tag: str) -> int:
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdigit() else -1


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces that clients take."""
    pieces = max(1, -(-batch.nbytes // _LARGEST_MESSAGE))
    size = max(1, -(-batch.num_rows // pieces))
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)
