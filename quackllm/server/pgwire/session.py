"""One client: its messages in order, each answered as the protocol says."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from quackllm.server.pgwire import backend, frontend
from quackllm.server.pgwire.conductor import Conductor
from quackllm.server.pgwire.copy_in import CopyIn
from quackllm.server.pgwire.copying import CopyOut
from quackllm.server.pgwire.errors import SqlState, WireError
from quackllm.server.pgwire.frontend import Message, ProtocolViolation
from quackllm.server.pgwire.portals import Portal

if TYPE_CHECKING:
    from quackllm.server.pgwire.activity import Activity
    from quackllm.server.pgwire.faults import Faults
    from quackllm.server.pgwire.results import Chunk, Rows

_T = TypeVar("_T")

_ENOUGH = 64 * 1024
"""Bytes of answers after which they are sent without waiting for a Sync."""


class Session:
    """The protocol after the start: simple and extended queries, COPY, errors, Sync.

    Messages are read and written in the event loop; statements run in a thread of the
    session's own, one at a time. `cancel` may be called while one runs.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        conductor: Conductor,
        activity: Activity,
        faults: Faults,
    ) -> None:
        self._faults = faults
        self._reader = reader
        self._writer = writer
        self._conductor = conductor
        self._activity = activity
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"pgwire-{activity.pid}")
        self._out: list[bytes] = []
        self._size = 0
        self._skipping = False

    async def run(self) -> None:
        """Serve the client until it leaves. Raises `ProtocolViolation`."""
        self._ready()
        await self._flush()
        while True:
            self._activity.waits()
            message = await frontend.read_message(self._reader)
            if message is None or isinstance(message, frontend.Terminate):
                return
            await self._answer(message)

    async def configure(self, parameters: Mapping[str, str]) -> None:
        """Carry out the settings of a startup packet. Raises `WireError`."""
        await self._in_thread(lambda: self._conductor.configure(parameters))

    def terminate(self) -> None:
        """End the session from the server's side; in the event loop."""
        self._writer.write(
            backend.error(
                WireError(SqlState.SHUTDOWN, "terminating connection due to administrator command"),
                "FATAL",
            )
        )
        self._writer.close()

    async def close(self) -> None:
        """Roll back what is open and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._conductor.close)
        self._thread.shutdown(wait=False)

    async def _answer(self, message: Message) -> None:
        if self._skipping and not isinstance(message, frontend.Sync):
            return
        try:
            if isinstance(message, frontend.Query):
                await self._query(message.sql)
            elif isinstance(message, frontend.Sync):
                await self._sync()
            elif isinstance(message, frontend.Flush):
                await self._flush()
            else:
                await self._extended(message)
        except (ProtocolViolation, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a statement raises goes to the client
            self._fail(error)
            self._skipping = not isinstance(message, (frontend.Query, frontend.Sync))
            if self._skipping:
                await self._flush()
            else:
                await self._end_of_group()

    # Simple queries

    async def _query(self, sql: str) -> None:
        statements = self._conductor.parse(sql)
        if not statements:
            self._send(backend.EMPTY_QUERY_RESPONSE)
        self._conductor.several = len(statements) > 1
        for parsed in statements:
            self._activity.runs(parsed.sql)
            portal = Portal(parsed, (), parsed.sql, parsed.statement.offset)
            await self._run(portal, 0, described=False)
        await self._end_of_group()

    async def _end_of_group(self) -> None:
        """Answer a simple query or a Sync to its end: implicit transactions end here."""
        self._skipping = False
        try:
            await self._in_thread(self._conductor.end_group)
        except Exception as error:  # noqa: BLE001 - a COMMIT may fail for the data's sake
            self._fail(error)
        self._ready()
        await self._flush()

    async def _sync(self) -> None:
        await self._end_of_group()

    # Extended queries

    async def _extended(self, message: Message) -> None:
        conductor = self._conductor
        if isinstance(message, frontend.Parse):
            await self._in_thread(lambda: conductor.prepare(message))
            self._send(backend.PARSE_COMPLETE)
        elif isinstance(message, frontend.Bind):
            await self._in_thread(lambda: conductor.bind(message))
            self._send(backend.BIND_COMPLETE)
        elif isinstance(message, frontend.Describe):
            await self._describe(message)
        elif isinstance(message, frontend.Execute):
            portal = conductor.portal(message.portal)
            self._activity.runs(portal.sent)
            await self._run(portal, message.limit, described=True)
        elif isinstance(message, frontend.Close):
            conductor.close_named(message.kind, message.name)
            self._send(backend.CLOSE_COMPLETE)
        elif isinstance(message, (frontend.CopyData, frontend.CopyDone, frontend.CopyFail)):
            pass  # what was on its way when the COPY failed
        elif isinstance(message, frontend.Malformed):
            raise WireError(SqlState.PROTOCOL_VIOLATION, message.reason)
        else:
            raise ProtocolViolation(f"unexpected message {type(message).__name__}")

    async def _describe(self, message: frontend.Describe) -> None:
        conductor = self._conductor
        if message.kind == "S":
            prepared = conductor.statement(message.name)
            columns = await self._in_thread(lambda: conductor.describe_statement(prepared))
            self._send(backend.parameter_description(prepared.oids))
            formats: tuple[int, ...] = (0,) * len(columns or ())
        else:
            portal = conductor.portal(message.name)
            columns, formats = await self._in_thread(lambda: conductor.describe_portal(portal))
        described = (
            backend.NO_DATA if columns is None else backend.row_description(columns, formats)
        )
        self._send(described)

    # Both

    async def _run(self, portal: Portal, limit: int, *, described: bool) -> None:
        """Run a portal, or go on with it, and send its rows."""
        conductor = self._conductor
        outcome = await self._in_thread(lambda: conductor.run(portal))
        for text in conductor.notices():
            self._send(backend.notice(*text))
        for name, value in conductor.changed_settings():
            self._send(backend.parameter_status(name, value))
        if isinstance(outcome, CopyIn):
            await self._copy_in(outcome)
            return
        if isinstance(outcome, CopyOut):
            await self._copy_out(outcome)
            return
        rows = outcome.rows
        if rows is None:
            self._send(
                backend.command_complete(outcome.tag)
                if outcome.tag
                else backend.EMPTY_QUERY_RESPONSE
            )
            return
        if not described:
            self._send(backend.row_description(rows.columns, rows.formats))
        send = self._send_part(portal, rows, limit) if limit else self._send_all(portal, rows)
        if not await send:
            return
        counted = f" {portal.sent_rows}" if outcome.counted else ""
        self._send(backend.command_complete(f"{outcome.tag}{counted}".strip()))

    async def _send_all(self, portal: Portal, rows: Rows) -> bool:
        """Send what is left of a result; the next rows are made while the last are sent."""
        upcoming = asyncio.ensure_future(self._in_thread(rows.take))
        try:
            while not (chunk := await upcoming).done:
                upcoming = asyncio.ensure_future(self._in_thread(rows.take))
                self._send_chunk(portal, chunk)
                await self._flush_if_much()
        finally:
            upcoming.cancel()
        return True

    async def _send_part(self, portal: Portal, rows: Rows, limit: int) -> bool:
        """Send at most so many rows; False if there may be more, for a later Execute."""
        while limit:
            chunk = await self._in_thread(functools.partial(rows.take, limit))
            if chunk.done:
                return True
            self._send_chunk(portal, chunk)
            limit -= chunk.rows
            await self._flush_if_much()
        self._send(backend.PORTAL_SUSPENDED)
        return False

    def _send_chunk(self, portal: Portal, chunk: Chunk) -> None:
        portal.sent_rows += chunk.rows
        for data in chunk.data:
            self._send(data)

    async def _copy_out(self, copy: CopyOut) -> None:
        self._send(backend.copy_response(b"H", copy.form, copy.columns))
        while (pieces := await self._in_thread(copy.take)) is not None:
            for piece in pieces:
                self._send(piece)
            await self._flush_if_much()
        self._send(backend.COPY_DONE)
        self._send(backend.command_complete(f"COPY {copy.rows}"))

    async def _copy_in(self, copy: CopyIn) -> None:
        self._send(backend.copy_response(b"G", copy.form, copy.columns))
        await self._flush()
        failure: Exception | None = None
        while True:
            message = await frontend.read_message(self._reader)
            if message is None or isinstance(message, frontend.Terminate):
                await self._in_thread(copy.give_up)
                raise ConnectionResetError
            if isinstance(message, frontend.CopyData):
                failure = failure or await self._took(copy, message.data)
            elif isinstance(message, frontend.CopyDone):
                break
            elif isinstance(message, frontend.CopyFail):
                failure = WireError(SqlState.CANCELED, f"COPY from stdin failed: {message.reason}")
                break
            elif not isinstance(message, (frontend.Flush, frontend.Sync)):
                failure = failure or WireError(
                    SqlState.PROTOCOL_VIOLATION,
                    f"unexpected message {type(message).__name__} during COPY from stdin",
                )
                break
        if failure is not None:
            await self._in_thread(copy.give_up)
            await self._in_thread(self._conductor.failed)
            raise failure
        count = await self._in_thread(lambda: self._conductor.finish_copy(copy))
        self._send(backend.command_complete(f"COPY {count}"))

    async def _took(self, copy: CopyIn, data: bytes) -> Exception | None:
        try:
            copy.put(data)
        except (WireError, OSError) as error:
            return error
        return None

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        """Run something in the session's thread; the client's leaving ends it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _fail(self, error: BaseException) -> None:
        for text in self._conductor.notices():
            self._send(backend.notice(*text))
        self._conductor.failed()
        failure = self._faults.told(error, self._conductor.translated(error))
        self._send(backend.error(failure))

    def _ready(self) -> None:
        self._send(backend.ready(self._conductor.state))

    def _send(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)

    async def _flush_if_much(self) -> None:
        if self._size >= _ENOUGH:
            await self._flush()

    async def _flush(self) -> None:
        out, self._out, self._size = self._out, [], 0
        self._writer.writelines(out)
        await self._writer.drain()
