"""COPY ... FROM STDIN: the stream is kept in a file and stored when it has ended."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quackllm.optimizer.sql import literal
from quackllm.server.pgwire import calls
from quackllm.server.pgwire.copy_options import CopyOptions
from quackllm.server.pgwire.encoding import BINARY, TEXT
from quackllm.server.pgwire.errors import SqlState, WireError, nul_in
from quackllm.server.pgwire.parameters import sql_literal
from quackllm.server.pgwire.types import Column, Form

if TYPE_CHECKING:
    from quackllm.server.pgwire.worker import Worker

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_ROWS_AT_ONCE = 2_000
"""Rows of a binary stream that are stored by one INSERT."""
_END_OF_DATA = b"\\.\n"


class CopyIn:
    """A stream that comes from the client.

    `put` takes its pieces, `finish` stores it and returns the number of rows, `give_up`
    forgets it. Nothing is stored before the end, so a stream that breaks leaves no rows.
    """

    def __init__(
        self, worker: Worker, options: CopyOptions, columns: Sequence[Column], kinds: Sequence[str]
    ) -> None:
        """columns: of the table, as the client sees them; kinds: DuckDB's types of them."""
        self.form = BINARY if options.format == "binary" else TEXT
        self.columns = len(columns)
        self._worker = worker
        self._options = options
        self._columns = columns
        self._kinds = kinds
        self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - lives as long as the stream
            prefix="quackllm-copy-", delete=False
        )

    def put(self, data: bytes) -> None:
        """Take a piece. Raises `WireError` for what cannot be in a stream, and `OSError`."""
        if self.form == TEXT and b"\0" in data:
            raise nul_in("the stream of COPY")
        self._file.write(data)

    def give_up(self) -> None:
        """Forget what has come."""
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)

    def finish(self) -> int:
        """Store the rows; return how many."""
        try:
            self._file.close()
            return self._from_binary() if self.form == BINARY else self._from_lines()
        finally:
            self.give_up()

    @property
    def _target(self) -> str:
        items = self._options.items
        return self._options.source + ("" if items == "*" else f" ({items})")

    def _insert(self, source: str) -> int:
        found = calls.execute(self._worker.connection, f"INSERT INTO {self._target} {source}")
        return int(found.fetchall()[0][0])

    def _from_lines(self) -> int:
        path = Path(self._file.name)
        size = path.stat().st_size
        if size == 0:
            return 0
        _drop_end_marker(path, size)
        options, csv = self._options, self._options.format == "csv"
        names = [f"c{i}" for i in range(len(self._columns))]
        described = ", ".join(f"{name}: 'VARCHAR'" for name in names)
        reader = (
            f"read_csv({literal(self._file.name)}, auto_detect = false, "
            f"header = {str(options.header).lower()}, delim = {literal(options.delimiter)}, "
            f"quote = {literal(options.quote if csv else '')}, "
            f"escape = {literal(options.escape if csv else '')}, "
            f"nullstr = {literal(options.null)}, allow_quoted_nulls = false, "
            f"columns = {{{described}}}, max_line_size = 268435456)"
        )
        values = [
            _value(name if csv else _unescaped(name, options.delimiter), column, kind)
            for name, column, kind in zip(names, self._columns, self._kinds, strict=True)
        ]
        return self._insert(f"SELECT {', '.join(values)} FROM {reader}")

    def _from_binary(self) -> int:
        data = Path(self._file.name).read_bytes()
        if data[: len(_SIGNATURE)] != _SIGNATURE:
            raise WireError(SqlState.BAD_COPY_FORMAT, "COPY file signature not recognized")
        count, rows = 0, []
        for row in _tuples(data, len(self._columns)):
            literals = (
                sql_literal(value, column.type.oid, 1, number)
                for number, (value, column) in enumerate(zip(row, self._columns, strict=True), 1)
            )
            rows.append(f"({', '.join(literals)})")
            if len(rows) == _ROWS_AT_ONCE:
                count += self._insert("VALUES " + ", ".join(rows))
                rows = []
        return count + (self._insert("VALUES " + ", ".join(rows)) if rows else 0)


def _drop_end_marker(path: Path, size: int) -> None:
    if size < len(_END_OF_DATA):
        return
    with path.open("r+b") as file:
        file.seek(size - len(_END_OF_DATA))
        if file.read() == _END_OF_DATA:
            file.truncate(size - len(_END_OF_DATA))


def _unescaped(name: str, delimiter: str) -> str:
    """Undo the backslashes of the text format; what is between double ones, piece by piece."""
    piece = "p"
    for written, raw in (("n", 10), ("r", 13), ("t", 9), ("b", 8), ("f", 12), ("v", 11)):
        piece = f"replace({piece}, '\\{written}', chr({raw}))"
    if delimiter != "\t":
        piece = f"replace({piece}, {literal(chr(92) + delimiter)}, {literal(delimiter)})"
    pieces = f"list_transform(string_split({name}, '\\\\'), lambda p: {piece})"
    return f"CASE WHEN contains({name}, '\\') THEN array_to_string({pieces}, '\\') ELSE {name} END"


def _value(name: str, column: Column, kind: str) -> str:
    """Write a text of PostgreSQL's as a value of DuckDB's type."""
    if column.type.form is Form.BYTEA:
        return f"unhex(substr({name}, 3))"
    if column.type.form is Form.ARRAY:
        return f"CAST('[' || substr({name}, 2, length({name}) - 2) || ']' AS {kind})"
    if kind == "VARCHAR":
        return name
    return f"CAST({name} AS {kind})"


def _tuples(data: bytes, width: int) -> Iterator[list[bytes | None]]:
    """Yield the fields of each row of a binary stream. Raises `WireError`."""
    try:
        (extension,) = struct.unpack_from("!I", data, 15)
        at = 19 + extension
        while True:
            if at == len(data):
                return  # some clients leave the trailer out
            (count,) = struct.unpack_from("!h", data, at)
            at += 2
            if count == -1:
                return
            if count != width:
                raise WireError(
                    SqlState.BAD_COPY_FORMAT, f"row field count is {count}, expected {width}"
                )
            row: list[bytes | None] = []
            for _ in range(count):
                (length,) = struct.unpack_from("!i", data, at)
                at += 4
                row.append(None if length < 0 else data[at : at + length])
                at += max(length, 0)
            if at > len(data):
                raise struct.error("cut off")
            yield row
    except struct.error:
        raise WireError(SqlState.BAD_COPY_FORMAT, "unexpected end of COPY data") from None
