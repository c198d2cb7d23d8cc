"""COPY ... TO STDOUT and COPY ... FROM STDIN, in the formats text, csv and binary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from quackllm.server.pgwire import backend, calls, statements, types
from quackllm.server.pgwire.copy_in import CopyIn
from quackllm.server.pgwire.copy_options import CopyOptions, copy_options
from quackllm.server.pgwire.encoding import (
    BINARY,
    COPY_DATA,
    TEXT,
    encode_rows,
    encode_values,
    join_lines,
)
from quackllm.server.pgwire.results import Rows, columns_of
from quackllm.server.pgwire.types import Column

if TYPE_CHECKING:
    from quackllm.server.pgwire.statements import Parsed
    from quackllm.server.pgwire.worker import Worker

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"


@dataclass
class CopyOut:
    """Rows on their way to the client, each a CopyData message; rows counts those taken."""

    form: int
    columns: int
    pieces: Iterator[tuple[list[bytes], int]]
    rows: int = 0

    def take(self) -> list[bytes] | None:
        """Return the next messages of the stream, None at its end."""
        found = next(self.pieces, None)
        if found is None:
            return None
        self.rows += found[1]
        return found[0]


def copy_statement(parsed: Parsed, worker: Worker) -> CopyOut | CopyIn:
    """Carry out a COPY from or to the client as far as it goes without the client."""
    options = copy_options(parsed)
    if options.is_input:
        relation = calls.relation(
            worker.connection, f"SELECT {options.items} FROM {options.source}"
        )
        columns = columns_of(relation)
        kinds = [str(kind) for kind in relation.types]
        return CopyIn(worker, options, columns, kinds)
    table = f"SELECT {options.items} FROM {options.source}"
    sql = options.source if options.is_query else table
    [query] = statements.parse(sql)
    form = BINARY if options.format == "binary" else TEXT
    outcome = worker.execute(query, (form,))
    rows = outcome.rows
    assert rows is not None
    pieces = _binary(rows) if form == BINARY else _lines(rows, options)
    return CopyOut(form, len(rows.columns), pieces)


def _binary(rows: Rows) -> Iterator[tuple[list[bytes], int]]:
    """The head of the stream is in the message of the first row, or else of the trailer."""
    head = _SIGNATURE
    for batch in rows.batches():
        encoded = encode_rows(batch, rows.columns, rows.formats, COPY_DATA)
        if head:
            first, encoded[0] = _split(encoded[0])
            encoded.insert(0, backend.copy_data(head + first))
            head = b""
        yield encoded, batch.num_rows
    yield [backend.copy_data(head + _TRAILER)], 0


def _split(messages: bytes) -> tuple[bytes, bytes]:
    """Return the inside of the first message, and the others."""
    end = 1 + int.from_bytes(messages[1:5], "big")
    return messages[5:end], messages[end:]


def _lines(rows: Rows, options: CopyOptions) -> Iterator[tuple[list[bytes], int]]:
    if options.header:
        names = pa.RecordBatch.from_arrays(
            [pa.array([column.name]) for column in rows.columns],
            names=[str(i) for i in range(len(rows.columns))],
        )
        header = [Column(c.name, types.TEXT) for c in rows.columns]
        yield [_batch_lines(names, header, options)], 0
    for batch in rows.batches():
        yield [_batch_lines(batch, rows.columns, options)], batch.num_rows


def _batch_lines(batch: pa.RecordBatch, columns: Sequence[Column], options: CopyOptions) -> bytes:
    escape = _csv if options.format == "csv" else _escaped
    fields = []
    for number, column in enumerate(columns):
        text = encode_values(batch.column(number), column.type, TEXT).cast(pa.string())
        written = escape(text, options).fill_null(options.null)
        fields.append(written.cast(pa.binary()))
    return join_lines(fields, options.delimiter.encode())


def _escaped(text: pa.Array, options: CopyOptions) -> pa.Array:
    for raw, written in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = pc.replace_substring(text, raw, written)
    if options.delimiter != "\t":
        text = pc.replace_substring(text, options.delimiter, "\\" + options.delimiter)
    return text


def _csv(text: pa.Array, options: CopyOptions) -> pa.Array:
    quote = options.quote
    special = pc.equal(text, options.null)
    for character in (options.delimiter, quote, "\n", "\r"):
        special = pc.or_(special, pc.match_substring(text, character))
    inside = pc.replace_substring(text, quote, options.escape + quote)
    quoted = pc.binary_join_element_wise(pa.scalar(quote), inside, pa.scalar(quote), "")
    return pc.if_else(special, quoted, text)
